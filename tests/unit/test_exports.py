from __future__ import annotations

import importlib
import pkgutil

import pytest

import raytrade

MODULES = [
    module.name
    for module in pkgutil.walk_packages(raytrade.__path__, "raytrade.")
    if module.name.split(".")[1]
    in {"core", "links", "transport", "venues", "arbitration", "strategy", "errors", "rules"}
]


def test_what_the_package_offers_exists_and_is_sorted() -> None:
    assert raytrade.__all__ == sorted(raytrade.__all__)
    assert len(set(raytrade.__all__)) == len(raytrade.__all__)
    for name in raytrade.__all__:
        assert getattr(raytrade, name) is not None


def test_every_public_name_of_the_package_is_offered() -> None:
    public = {
        name
        for name, value in vars(raytrade).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("raytrade.")
    }
    assert public <= set(raytrade.__all__) | {"annotations"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_offers_only_what_it_has(name: str) -> None:
    module = importlib.import_module(name)
    for offered in getattr(module, "__all__", []):
        assert hasattr(module, offered)
    assert module.__doc__, "a module says what it is"

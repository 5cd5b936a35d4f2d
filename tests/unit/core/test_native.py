"""Which code does the work: the accelerator where it is wanted and fits, Python else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raytrade.core.native import API_VERSION, choose, demand
from raytrade.errors import ConfigError


def here(name: str) -> object:
    assert name == "raytrade_native"
    return SimpleNamespace(API_VERSION=API_VERSION)


def absent(name: str) -> object:
    raise ModuleNotFoundError(name)


def older(name: str) -> object:
    return SimpleNamespace(API_VERSION=API_VERSION - 1)


def test_it_is_used_where_it_is_installed() -> None:
    for wish in ("", "1"):
        choice = choose(wish, here)
        assert choice.native is not None
        assert choice.reason == f"raytrade-native, version {API_VERSION}"
        demand(choice)


def test_zero_means_never() -> None:
    choice = choose("0", here)
    assert (choice.native, choice.reason) == (None, "RAYTRADE_NATIVE=0")
    demand(choice)


@pytest.mark.parametrize("find", [absent, older])
def test_without_a_wish_python_does_it(find: object) -> None:
    choice = choose("", find)  # type: ignore[arg-type]
    assert choice.native is None
    assert "pip install ./native" in choice.reason
    demand(choice)


@pytest.mark.parametrize(
    ("wish", "find", "problem"),
    [
        ("1", absent, "RAYTRADE_NATIVE: raytrade-native is not installed; install it with: pip install ./native"),
        ("1", older, f"RAYTRADE_NATIVE: raytrade-native speaks version {API_VERSION - 1}, this is version"),
        ("yes", here, "RAYTRADE_NATIVE: 'yes' is neither 0 (never) nor 1 (required)"),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_an_error(wish: str, find: object, problem: str) -> None:
    choice = choose(wish, find)  # type: ignore[arg-type]
    assert choice.native is None
    with pytest.raises(ConfigError) as error:
        demand(choice)
    assert str(error.value).startswith(problem)

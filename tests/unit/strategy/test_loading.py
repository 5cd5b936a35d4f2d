from __future__ import annotations

from pathlib import Path

import pytest

from raytrade.errors import ConfigError
from raytrade.strategy import BaseStrategy, Strategy, load_strategy

SOURCE = """
from __future__ import annotations

import msgspec

from raytrade.strategy import BaseStrategy


class Wish(msgspec.Struct):
    size: int


class Scalper(BaseStrategy):
    def __init__(self, size: int, *, bias: float = 0.0) -> None:
        if size < 0:
            raise ValueError("size is below zero")
        self.wish = Wish(size)
        self.bias = bias


class Open(BaseStrategy):
    def __init__(self, **rest: object) -> None:
        self.rest = rest


class Half:
    timer_interval_ns = 0

    def on_book(self, context, book) -> None:
        pass


CONSTANT = 3
"""


@pytest.fixture
def scalper(tmp_path: Path) -> str:
    path = tmp_path / "scalper.py"
    path.write_text(SOURCE)
    return str(path)


def problem(target: str, parameters: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_strategy(target, parameters)
    return str(caught.value)


def test_by_module() -> None:
    assert type(load_strategy("raytrade.strategy.base:BaseStrategy", {})) is BaseStrategy
    assert isinstance(load_strategy("raytrade.strategy.base:BaseStrategy"), Strategy)


def test_by_path(scalper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = load_strategy(f"{scalper}:Scalper", {"size": 3, "bias": 0.5})
    assert vars(strategy)["wish"].size == 3 and vars(strategy)["bias"] == 0.5
    monkeypatch.chdir(Path(scalper).parent)
    assert vars(load_strategy("scalper.py:Open", {"a": 1}))["rest"] == {"a": 1}


def test_a_file_is_read_anew(scalper: str) -> None:
    load_strategy(f"{scalper}:Scalper", {"size": 3})
    Path(scalper).write_text(SOURCE.replace("Scalper", "Renamed") + "\n# longer\n")
    assert type(load_strategy(f"{scalper}:Renamed", {"size": 3})).__name__ == "Renamed"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "module:Class"),
        ("raytrade.strategy.base", "module:Class"),
        ("raytrade.strategy.base:", "module:Class"),
        ("raytrade.strategy.base:Base Strategy", "module:Class"),
        ("no_such_module_here:Thing", "no_such_module_here is not installed"),
        ("raytrade.no_such.deeper:Thing", "raytrade.no_such is not installed"),
        (".relative:Thing", "cannot be imported"),
        ("raytrade.strategy.base:BaseStrateg", "did you mean BaseStrategy?"),
        ("raytrade.strategy.base:Plain", "Plain is not a class"),
        ("raytrade.strategy.loading:Nothing", "it has no class"),
        ("missing.py:Thing", "no such file"),
    ],
)
def test_what_cannot_be_found(target: str, words: str) -> None:
    assert words in problem(target)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("Scalper", {}, "parameter 'size' is missing"),
        ("Scalper", {"size": 1, "biass": 2}, "no parameter 'biass'; it takes size, bias"),
        ("Scalper", {"size": -1}, "ValueError: size is below zero"),
        ("Half", {}, "no on_start, on_trade"),
        ("CONSTANT", {}, "CONSTANT is not a class"),
        ("Scalpel", {}, "did you mean Scalper?"),
    ],
)
def test_what_is_wrong_in_a_file(scalper: str, name: str, parameters: dict[str, object], words: str) -> None:
    text = problem(f"{scalper}:{name}", parameters)
    assert words in text and text.startswith(scalper)


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_module_here\n")
    assert "No module named 'no_such_module_here'" in problem(f"{path}:Thing")
    path.write_text("class Thing(\n")
    assert "SyntaxError" in problem(f"{path}:Thing")

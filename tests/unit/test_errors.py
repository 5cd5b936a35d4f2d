from __future__ import annotations

import inspect
import pickle

import pytest

from raytrade import errors
from raytrade.core.prices import FinerScale
from raytrade.errors import RaytradeError

KINDS: list[type[Exception]] = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RaytradeError)
]


def example(kind: type[Exception]) -> Exception:
    """Make one with a distinct value per parameter, given by position."""
    parameters = [*inspect.signature(kind.__init__).parameters.values()][1:]
    values = [f"{p.name} 1" if p.annotation == "str" else 10 + at for at, p in enumerate(parameters)]
    return kind(*values) if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) else kind("what happened")


@pytest.mark.parametrize("kind", [*KINDS, FinerScale], ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[Exception]) -> None:
    error = example(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.args, vars(copy), str(copy)) == (error.args, vars(error), str(error))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_text_is_one_line_with_every_field(kind: type[Exception]) -> None:
    error = example(kind)
    assert len(str(error).splitlines()) == 1
    assert not str(error).startswith("(")
    for value in error.args:
        assert str(value) in str(error)


def test_all_errors_are_of_one_tree_and_documented() -> None:
    assert len(KINDS) >= 14
    assert errors.__doc__ is not None
    for kind in KINDS:
        assert kind.__doc__
        assert kind.__name__ in errors.__doc__


def test_empty_fields_leave_no_colons() -> None:
    assert str(errors.ConfigError("", "key", "is wrong")) == "key: is wrong"
    assert str(errors.DecodeError("is wrong")) == "is wrong"

"""Strategies by name: ``package.module:Class`` or ``path/file.py:Class``, with parameters checked by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import Parameter, isclass, signature
from pathlib import Path
from types import ModuleType
from zlib import crc32

from raytrade.errors import ConfigError
from raytrade.strategy.base import BaseStrategy, Strategy

CALLBACKS = tuple(name for name in vars(BaseStrategy) if name.startswith("on_"))


def load_strategy(target: str, parameters: Mapping[str, object] | None = None) -> Strategy:
    """Make the strategy that `target` names, ``module:Class`` or ``path/file.py:Class``.

    A file is read anew each time; its path is taken from the working directory where it is not absolute.

    Raises:
        ConfigError: there is no such module, file or class, it is no strategy, or a parameter is wrong.
    """
    place, colon, name = target.rpartition(":")
    if not (place and colon and name.isidentifier()):
        raise ConfigError("", target, "a strategy is written module:Class or path/file.py:Class")
    module = _load_file(place) if place.endswith(".py") else _import(place)
    made = _find_class(module, place, name)
    return _build(made, target, dict(parameters or {}))


def _import(place: str) -> ModuleType:
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise ConfigError("", place, f"no module of this name ({error.name} is not installed)") from None
        raise ConfigError("", place, f"cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigError("", place, f"cannot be imported: {type(error).__name__}: {error}") from error


def _load_file(place: str) -> ModuleType:
    path = Path(place).absolute()
    if not path.is_file():
        raise ConfigError("", place, "no such file")
    name = f"raytrade_strategy_{path.stem}_{crc32(bytes(path)):08x}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError("", place, "not a Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError("", place, f"cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _find_class(module: ModuleType, place: str, name: str) -> type:
    found = getattr(module, name, None)
    if isclass(found):
        return found
    if found is not None:
        raise ConfigError("", place, f"{name} is not a class")
    own = [value for value in vars(module).values() if isclass(value) and value.__module__ == module.__name__]
    classes = [value.__name__ for value in own]
    near = get_close_matches(name, classes, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(classes)) or 'no class'}"
    raise ConfigError("", place, f"no class {name}; {hint}")


def _build(made: type, target: str, parameters: dict[str, object]) -> Strategy:
    _check_parameters(made, target, parameters)
    try:
        strategy = made(**parameters)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError("", target, f"refused its parameters: {type(error).__name__}: {error}") from error
    if isinstance(strategy, Strategy):
        return strategy
    missing = [name for name in (*CALLBACKS, "timer_interval_ns") if not hasattr(strategy, name)]
    raise ConfigError("", target, f"is no strategy (no {', '.join(missing)}); derive it from BaseStrategy")


def _check_parameters(made: type, target: str, parameters: dict[str, object]) -> None:
    try:
        known = signature(made).parameters
    except (TypeError, ValueError):
        return
    named = {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values())
    for name in parameters:
        if name not in named and not takes_any:
            raise ConfigError("", target, f"no parameter {name!r}; it takes {', '.join(named) or 'none'}")
    for name, parameter in named.items():
        if parameter.default is Parameter.empty and name not in parameters:
            raise ConfigError("", target, f"parameter {name!r} is missing")

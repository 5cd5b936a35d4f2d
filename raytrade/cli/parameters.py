"""Parameters of a strategy as they are written on the command line."""

from __future__ import annotations

import msgspec

from raytrade.errors import ConfigError


def parameters_of(command: str, texts: list[str]) -> dict[str, object]:
    """Read ``KEY=VALUE`` texts.

    Raises:
        ConfigError: a text is written otherwise.
    """
    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(command, "--param", f"{text}: write KEY=VALUE")
        values[name] = value_of(value)
    return values


def value_of(text: str) -> object:
    """Give a number, a truth value or text in quotes as JSON has it; all else is text as it stands."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text

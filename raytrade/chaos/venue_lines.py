"""Cuts and damages single lines, where the exchange is one of our emulators: it alone can be told to."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from raytrade.chaos.targets import LineTarget
from raytrade.demo.exchange import ask_emulator
from raytrade.errors import ConfigError, PipelineError


def cut(line: LineTarget) -> int:
    """Have the emulator close the line's connection without a handshake; gives the connection's number."""
    number = _connection(line)
    _control(line, "cut", conn=number)
    return number


def damage(line: LineTarget, kind: str, share: float, seconds: float) -> int:
    """Have the emulator drop, duplicate, reorder or corrupt a share of the line's frames; gives the connection."""
    number = _connection(line)
    _control(line, "fault", spec=f"conn={number}:{kind}={share}@0s:{int(seconds * 1000)}ms")
    return number


def repair(line: LineTarget) -> None:
    """Have the emulator of the line lift all faults."""
    _control(line, "clear")


def _connection(line: LineTarget) -> int:
    peers = _control(line, "status").get("peers", {})
    for number, address in peers.items():
        if address == line.local_address:
            return int(number)
    raise PipelineError(f"line {line.name}: the emulator has no connection from {line.local_address or 'nowhere'}")


def _control(line: LineTarget, action: str, **parameters: Any) -> dict[str, Any]:
    place = urlsplit(line.url)
    if place.scheme != "wss":  # a real venue is not even asked
        with suppress(PipelineError):
            return ask_emulator(f"http://{place.netloc}", action, **parameters)
    problem = f"{place.netloc} is no emulator of ours: nobody else can be told to do it; pause or kill the collector"
    raise ConfigError("", line.name, problem)

"""From a depth frame to the event that goes on: JSON read, ids checked, every digit kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec
import pydantic

from benchmarks.micro.inputs import Feed, machine
from benchmarks.micro.rounds import Benchmark, Contender, Work


class Depth(msgspec.Struct):
    """A depthUpdate as msgspec reads it."""

    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class DepthFrame(msgspec.Struct):
    """A frame of a combined stream."""

    stream: str
    data: Depth


class DepthModel(pydantic.BaseModel):
    """A depthUpdate as pydantic reads it."""

    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class FrameModel(pydantic.BaseModel):
    """A frame of a combined stream."""

    stream: str
    data: DepthModel


def benchmark(feed: Feed) -> Benchmark:
    """Give the benchmark of decoding."""
    frames = feed.frames if '"data"' in feed.frames[0] else [f'{{"stream":"","data":{frame}}}' for frame in feed.frames]

    def ours() -> Work:
        line = machine()

        def work() -> None:
            for frame in frames:
                line.receive_frame(frame, 1)
                line.events()

        return work

    def each(read: Callable[[str], object]) -> Callable[[], Work]:
        def work() -> None:
            for frame in frames:
                read(frame)

        return lambda: work

    contenders = [
        Contender("raytrade, BinanceMachine", ours, "typed, checked, exact integers, an event"),
        Contender("msgspec, typed", each(msgspec.json.Decoder(DepthFrame).decode), "numbers stay text"),
        Contender("pydantic, typed", each(FrameModel.model_validate_json), "numbers stay text"),
        Contender("json + Decimal", each(lambda frame: _decimals(json.loads(frame))), "exact decimals, no checks"),
    ]
    missing: list[str] = []
    try:
        loads = import_module("orjson").loads
    except ImportError:
        missing.append("orjson")
    else:
        contenders.insert(2, Contender("orjson", each(loads), "untyped, numbers stay text"))
        contenders.insert(
            3, Contender("orjson + Decimal", each(lambda frame: _decimals(loads(frame))), "exact decimals, no checks")
        )
    return Benchmark("decode", "Decode", "depth frame", len(frames), feed.source, contenders, missing)


def _decimals(frame: dict[str, Any]) -> list[tuple[Decimal, Decimal]]:
    data = frame["data"]
    return [(Decimal(price), Decimal(size)) for side in (data["b"], data["a"]) for price, size in side]

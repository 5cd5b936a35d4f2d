"""The journal of a strategy's host: all that its engine was given, in order, and what the strategy made of it.

An engine is a machine: the same inputs (content, order, times, timers) give the same orders. So a journal of the inputs
is all it takes to live a live run again; the orders and fills stand in it too, to be compared. How entries become
files is another matter: `raytrade.storage.journals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from struct import Struct, error
from typing import Any, NamedTuple

import msgspec

from raytrade.arbitration.stream import RuleBook
from raytrade.core.clock import Nanos
from raytrade.core.instrument import Filter
from raytrade.core.message import parse
from raytrade.errors import ConfigError
from raytrade.strategy.commands import EngineCommand
from raytrade.strategy.engine import EngineSettings, StrategyEngine
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.orders import PaperSettings, Rejection, Wish

JOURNAL_VERSION = 1
_HEAD = Struct("<BqHI")
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode

Output = Wish | Fill | Rejection
"""What is compared: orders and cancels, and what came of them."""


class EntryKind(IntEnum):
    """Inputs of an engine, by the method that takes them; and outputs, behind the input that they followed."""

    MESSAGE = 0
    LINE_UP = 1
    LINE_DOWN = 2
    TIMEOUT = 3
    STOP = 4
    WISH = 5
    RESULT = 6


class Entry(NamedTuple):
    """One entry; `data`: a message, or an output."""

    kind: EntryKind
    now_ns: Nanos
    line: str = ""
    data: bytes = b""


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine was started with."""

    version: int = JOURNAL_VERSION
    name: str
    strategy: str
    params: dict[str, Any] = {}
    filters: tuple[str, ...] = ("*",)
    paper: PaperSettings = PaperSettings()
    ts_start_ns: Nanos = 0


def pack(entry: Entry) -> bytes:
    """Write an entry."""
    line = entry.line.encode()
    return b"".join((_HEAD.pack(entry.kind, entry.now_ns, len(line), len(entry.data)), line, entry.data))


def unpack(data: bytes) -> Iterator[Entry]:
    """Read the entries of a block.

    Raises:
        ValueError: these are not whole entries.
    """
    at = 0
    while at < len(data):
        try:
            kind, now_ns, line_bytes, data_bytes = _HEAD.unpack_from(data, at)
        except error:
            raise ValueError("a journal's block ends in the middle of an entry") from None
        at += _HEAD.size
        end = at + line_bytes + data_bytes
        if end > len(data):
            raise ValueError("a journal's block ends in the middle of an entry")
        yield Entry(EntryKind(kind), now_ns, data[at : at + line_bytes].decode(), data[at + line_bytes : end])
        at = end


def of_output(output: Output, now_ns: Nanos) -> Entry:
    """Give the entry of an output."""
    kind = EntryKind.WISH if isinstance(output, Wish) else EntryKind.RESULT
    return Entry(kind, now_ns, type(output).__name__, _encode(output))


def engine_of(opening: Opening, rules: RuleBook, strategy: str = "") -> StrategyEngine:
    """Make the engine anew, with another place of the strategy if one is given.

    Raises:
        ConfigError: the strategy cannot be loaded, or the journal is of another version.
    """
    if opening.version != JOURNAL_VERSION:
        problem = f"is of version {opening.version}, this program reads {JOURNAL_VERSION}"
        raise ConfigError("", f"journal of {opening.name}", problem)
    made = load_strategy(strategy or opening.strategy, opening.params)
    settings = EngineSettings(paper=opening.paper)
    return StrategyEngine(opening.name, made, Filter(*opening.filters), rules, settings)


class Reenactment:
    """Feeds an engine from a journal and compares what it does with what it did."""

    def __init__(self, engine: StrategyEngine) -> None:
        self.engine = engine
        self.wishes: list[Wish] = []
        self.results: list[Fill | Rejection] = []
        self.inputs = 0
        self.commands: list[EngineCommand] = []
        self.is_whole = False
        """Whether the journal goes on to the strategy's end."""
        self._journalled: dict[EntryKind, list[bytes]] = {EntryKind.WISH: [], EntryKind.RESULT: []}
        engine.broker.on_wish = self.wishes.append

    def play(self, entries: Iterable[Entry]) -> None:
        """Feed all of it."""
        for entry in entries:
            if entry.kind in self._journalled:
                self._journalled[entry.kind].append(entry.data)
            else:
                self.inputs += 1
                self._feed(entry)
                self._drain()

    def _feed(self, entry: Entry) -> None:
        engine, now_ns = self.engine, entry.now_ns
        match entry.kind:
            case EntryKind.MESSAGE:
                engine.receive(entry.line, parse(entry.data), now_ns)
            case EntryKind.LINE_UP:
                engine.receive_line_up(entry.line, now_ns)
            case EntryKind.LINE_DOWN:
                engine.receive_line_down(entry.line, now_ns)
            case EntryKind.TIMEOUT:
                engine.receive_timeout(now_ns)
            case _:
                engine.stop(now_ns)
                self.is_whole = True

    def _drain(self) -> None:
        for command in self.engine.commands():
            self.commands.append(command)
            if isinstance(command, Fill | Rejection):
                self.results.append(command)

    def difference(self) -> str:
        """Say where the run and its repetition part; empty if they are the same.

        A journal that was broken off may lack the last outputs, never have others.
        """
        for kind, found in ((EntryKind.WISH, self.wishes), (EntryKind.RESULT, self.results)):
            told = self._journalled[kind]
            name = "order" if kind is EntryKind.WISH else "fill or refusal"
            for number, (then, output) in enumerate(zip(told, found, strict=False), start=1):
                if then != _encode(output):
                    return (
                        f"{name} {number} was {msgspec.msgpack.decode(then)}, and is {msgspec.to_builtins(output)} now"
                    )
            if len(told) > len(found) or (self.is_whole and len(told) != len(found)):
                return f"there were {len(told)} of kind {name}, and are {len(found)} now"
        return ""

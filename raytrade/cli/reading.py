"""``raytrade sql`` and ``raytrade replay``: what is done with a recording."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from threading import Event as Waiter
from time import monotonic_ns
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytrade.cli.parameters import parameters_of
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import Flag
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message
from raytrade.errors import ConfigError
from raytrade.replay import Player, StreamHash
from raytrade.rules import rule_of
from raytrade.storage.queries import Database
from raytrade.storage.recording import Recording, open_recording
from raytrade.storage.times import instant_text
from raytrade.strategy.commands import EngineCommand, StrategyFailed
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy

JsonObject = dict[str, Any]
ROWS_AT_ONCE = 10_000
_SPEED = re.compile(r"x(\d+(?:\.\d+)?)")

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out segments that cannot be read, and name them.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sql")(run_sql)
    app.command("replay")(run_replay)


# SQL.


def run_sql(
    query: Annotated[str, typer.Argument(metavar="SELECT...", help="One statement of SQL (DuckDB).")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Directory of the recording.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Ask a recording in SQL: views book, trades, gaps, coverage, bbo (best bid and ask after every message).

    Prices and sizes are exact decimals (text in JSON), times are nanoseconds since 1970. The order of a stream is
    ORDER BY run, index.

    Example: raytrade sql "SELECT instrument, count(*) FROM trades GROUP BY ALL" --data data
    """
    if as_json and as_csv:
        raise ConfigError("sql", "--csv", "not together with --json")
    recording = open_recording(data, skip_bad=skip_bad)
    table = Database(recording).query(query)
    if as_json:
        for row in _rows(table):
            print(_json(dict(zip(table.column_names, row, strict=True))))
    elif as_csv:
        _print_csv(table)
    elif sys.stdout.isatty():
        _print_table(table)
    else:
        _print_plain(table)
    _name_skipped(recording)


def _rows(table: pa.Table) -> Iterator[list[object]]:
    for batch in table.to_batches(ROWS_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield [_plain(value) for value in row]


def _plain(value: object) -> object:
    """Give a decimal as canonical text, all else as it is."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def _text(value: object) -> str:
    if value is None:
        return ""
    return _json(value) if isinstance(value, list | dict) else str(value)


def _print_csv(table: pa.Table) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_text(value) for value in row] for row in _rows(table))


def _print_plain(table: pa.Table) -> None:
    """Print columns of equal width: for people, and for programs that split at blanks."""
    rows = [table.column_names, *([_text(value) for value in row] for row in _rows(table))]
    widths = [max(len(row[at]) for row in rows) for at in range(table.num_columns)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_table(table: pa.Table) -> None:
    shown = Table()
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        shown.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in _rows(table):
        shown.add_row(*(Text(_text(value)) for value in row))
    Console().print(shown)


def _name_skipped(recording: Recording) -> None:
    for problem in recording.skipped:
        print(f"raytrade: skipped: {problem}", file=sys.stderr)


# Replay.


def run_replay(  # noqa: PLR0913 - a command has its options
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the recording.")],
    speed: Annotated[str, typer.Option(metavar="max|real|xN", help="As fast as it goes, or by its own time.")] = "max",
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on; books open with an image.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to before this time.")] = None,
    instruments: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="<venue>:<symbol>; repeatable.")] = None,
    strategy: Annotated[str | None, typer.Option(metavar="FILE.py:Class", help="Feed this strategy, on paper.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A parameter of the strategy.")] = None,
    with_hash: Annotated[bool, typer.Option("--hash", help="Print a hash of the stream's content.")] = False,
    as_json: AsJson = False,
    skip_bad: SkipBad = False,
) -> None:
    """Play a recording again, all streams merged in the order of time; the same recording gives the same results.

    Times are ISO 8601 (UTC where no zone is given) or nanoseconds since 1970.

    Example: raytrade replay data --speed x10 --strategy my.py:Mine --param instrument=binance-spot:BTCUSDT
    """
    pace = Pace(speed)
    globs = instruments or ["*"]
    recording = open_recording(directory, skip_bad=skip_bad)
    messages = recording.messages(start, end, globs, images=True)
    player = None if strategy is None else _player(strategy, param or [], globs)
    if player is None and param:
        raise ConfigError("replay", "--param", "is of a strategy: name one with --strategy")
    session = Session(player, with_hash=with_hash)
    session.run(pace.paced(messages))
    print(_json(session.summary())) if as_json else session.show()
    _name_skipped(recording)
    if session.failure:
        print(f"raytrade: the strategy failed: {session.failure}", file=sys.stderr)
        raise typer.Exit(1)


class Pace:
    """How fast a recording is played: the only place that looks at a clock, and nothing but waiting depends on it.

    Raises:
        ConfigError: `speed` is neither max, real nor xN.
    """

    def __init__(self, speed: str) -> None:
        factor = _SPEED.fullmatch(speed)
        if speed not in ("max", "real") and (factor is None or float(factor[1]) == 0):
            raise ConfigError("replay", "--speed", f"{speed}: write max, real or xN, as in x10")
        self._factor = None if speed == "max" else 1.0 if factor is None else float(factor[1])
        self._waiter = Waiter()

    def paced(self, messages: Iterable[tuple[Nanos, Message]]) -> Iterator[tuple[Nanos, Message]]:
        """Give each message when its time has come."""
        factor = self._factor
        if factor is None:
            yield from messages
            return
        origin: tuple[Nanos, Nanos] | None = None
        for now_ns, message in messages:
            if origin is None:
                origin = now_ns, monotonic_ns()
            wait_ns = (now_ns - origin[0]) / factor - (monotonic_ns() - origin[1])
            if wait_ns > 0:
                self._waiter.wait(wait_ns / SECOND)
            yield now_ns, message


class Session:
    """One replay: counts what comes, hands it to the strategy, names it by a hash."""

    def __init__(self, player: Player | None, *, with_hash: bool) -> None:
        self.failure = ""
        self._player = player
        self._hash = StreamHash() if with_hash else None
        self._counts: dict[str, dict[str, int]] = {}
        self._times: tuple[Nanos, Nanos] | None = None
        self._fills: list[Fill] = []

    def run(self, messages: Iterable[tuple[Nanos, Message]]) -> None:
        """Play all of it."""
        player, digest = self._player, self._hash
        for now_ns, message in messages:
            self._count(now_ns, message)
            if digest is not None:
                digest.update(now_ns, message)
            if player is not None:
                self._take(player.play(now_ns, message))
        if player is not None:
            self._take(player.finish())

    def _count(self, now_ns: Nanos, message: Message) -> None:
        self._times = (now_ns if self._times is None else self._times[0], now_ns)
        counts = self._counts.get(message.instrument)
        if counts is None:
            counts = self._counts[message.instrument] = dict.fromkeys(_COUNTED, 0)
        name = "images" if message.flags & Flag.IMAGE else _NAMES.get(message.kind)
        if name is None:
            return
        counts[name] += 1
        if message.kind is not Kind.TRADE:
            counts["levels"] += message.bid_count + message.ask_count

    def _take(self, commands: list[EngineCommand]) -> None:
        for command in commands:
            if isinstance(command, Fill):
                self._fills.append(command)
            elif isinstance(command, StrategyFailed):
                self.failure = f"{command.callback}: {command.error}"

    def summary(self) -> JsonObject:
        """Give counts, hash, and what the strategy did."""
        first, last = self._times or (None, None)
        summary: JsonObject = {
            "messages": sum(sum(c.values()) - c["levels"] for c in self._counts.values()),
            "levels": sum(counts["levels"] for counts in self._counts.values()),
            "first_ns": first,
            "last_ns": last,
            "instruments": dict(sorted(self._counts.items())),
        }
        if self._hash is not None:
            summary["hash"] = self._hash.text()
        if self._player is not None:
            summary["strategy"] = msgspec.to_builtins(self._player.engine.statistics(), str_keys=True)
            summary["fills"] = msgspec.to_builtins(self._fills)
        return summary

    def show(self) -> None:
        """Print the summary for people."""
        summary = self.summary()
        console = Console()
        times = [instant_text(at) for at in self._times] if self._times else ["nothing"]
        print(f"{summary['messages']} messages, {summary['levels']} levels: {' to '.join(times)}", flush=True)
        console.print(_counts_table(summary["instruments"]))
        if self._player is not None:
            self._show_strategy(console, summary["strategy"])
        if "hash" in summary:
            print(f"hash {summary['hash']}")

    def _show_strategy(self, console: Console, statistics: JsonObject) -> None:
        title = f"{statistics['name']}: {len(self._fills)} fills"
        fills = Table("time", "instrument", "side", "price", "quantity", title=title)
        for fill in self._fills:
            amounts = str(fill.price), str(fill.quantity)
            cells = (instant_text(fill.ts_fill_ns), fill.instrument, fill.side.name, *amounts)
            fills.add_row(*(Text(cell) for cell in cells))
        console.print(fills)
        names = ("running", "fills", "rejections", "orders", "strategy_errors", "gauges")
        console.print(Text(", ".join(f"{name} {statistics[name]}" for name in names)))


_NAMES = {Kind.SNAPSHOT: "snapshots", Kind.DELTA: "updates", Kind.TRADE: "trades", Kind.GAP: "gaps"}
_COUNTED = (*_NAMES.values(), "images", "levels")


def _counts_table(instruments: dict[str, dict[str, int]]) -> Table:
    table = Table("instrument")
    for name in _COUNTED:
        table.add_column(name, justify="right")
    for instrument, counts in instruments.items():
        table.add_row(Text(instrument), *(str(counts[name]) for name in _COUNTED))
    return table


def _player(target: str, parameters: list[str], globs: list[str]) -> Player:
    values = parameters_of("replay", parameters)
    name = target.rpartition(":")[2]
    return Player(StrategyEngine(name, load_strategy(target, values), Filter(*globs), rule_of))

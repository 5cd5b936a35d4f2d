"""``raytrade replay``: a recording again, as it was merged, as one line saw it, or as a strategy was given it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event as Waiter
from time import monotonic_ns
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raytrade.cli.parameters import parameters_of
from raytrade.cli.progress import through_time
from raytrade.cli.reading import AsJson, SkipBad, json_text, name_skipped
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.delta_run import DeltaRun, Part
from raytrade.core.events import BookDelta, BookSnapshot, Flag, Gap, Trade
from raytrade.core.instrument import Filter
from raytrade.core.message import encode, parse
from raytrade.errors import ConfigError
from raytrade.replay import EventPlayer, StreamHash
from raytrade.rules import rule_of
from raytrade.storage.decoding import LINE
from raytrade.storage.faults import Faults, StreamFault, Views
from raytrade.storage.memory import keep_memory
from raytrade.storage.recording import Recording, open_recording
from raytrade.storage.site import Site, View
from raytrade.storage.source import RecordedEvent, TimedItem
from raytrade.storage.times import instant_ns, instant_text
from raytrade.strategy.commands import EngineCommand, StrategyFailed
from raytrade.strategy.ledger import Fill
from raytrade.strategy.loading import load_strategy
from raytrade.strategy.replay_engine import ReplayEngine

JsonObject = dict[str, Any]
ARBITRATED = "arbitrated"
OF_STRATEGY = "strategy:"
_SPEED = re.compile(r"x(\d+(?:\.\d+)?)")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(run_replay)


def run_replay(  # noqa: PLR0913 - a command has its options
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the recording.")],
    speed: Annotated[str, typer.Option(metavar="max|real|xN", help="As fast as it goes, or by its own time.")] = "max",
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on; books open with an image.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to before this time.")] = None,
    instruments: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="<venue>:<symbol>; repeatable.")] = None,
    seen_as: Annotated[
        str,
        typer.Option(
            "--as", metavar="LINE|arbitrated|first|strategy:NAME", help="Whose view; see 'lines' in the arrivals."
        ),
    ] = ARBITRATED,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="KIND@AT:DURATION", help="drop, silent, stall, delay=50ms; by time.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(metavar="FILE.py:Class", help="Feed this strategy, on paper.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A parameter of the strategy.")] = None,
    with_hash: Annotated[bool, typer.Option("--hash", help="Print a hash of the stream's content.")] = False,
    as_json: AsJson = False,
    skip_bad: SkipBad = False,
    serve: Annotated[bool, typer.Option("--serve", help="As the venue's own websocket and REST, till Ctrl-C.")] = False,
    host: Annotated[str, typer.Option(help="With --serve: address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --serve: port; 0 takes a free one.")] = 0,
    clients: Annotated[int, typer.Option(help="With --serve: begin when so many have subscribed.")] = 1,
) -> None:
    """Play a recording again, all streams merged in the order of time; the same recording gives the same results.

    Times are ISO 8601 (UTC where no zone is given) or nanoseconds since 1970. --as LINE shows each event when that
    line had brought it, --as first when the first of all had (from the recorded arrivals); --as strategy:NAME lives a
    strategy's journal again and fails if it orders anything else than it did. --serve speaks the venue's own protocol,
    with every fault of `raytrade emulate`.

    Example: raytrade replay data --speed x10 --strategy my.py:Mine --param instrument=binance-spot:BTCUSDT
    """
    if seen_as.startswith(OF_STRATEGY):
        from raytrade.cli.reenacting import Wanted, reenact

        given: dict[str, object] = {
            "--start": start,
            "--end": end,
            "--instruments": instruments,
            "--fault": fault,
            "--param": param,
        }
        _refuse(given | {"--speed": speed != "max"}, f"not together with --as {seen_as}: a journal is played whole")
        reenact(Wanted(directory, seen_as.removeprefix(OF_STRATEGY), strategy or "", with_hash), as_json=as_json)
        return
    pace = Pace(speed)
    globs = instruments or ["*"]
    recording = open_recording(directory, skip_bad=skip_bad)
    if serve:
        from raytrade.cli.replay_server import Served, serve_recording

        given = {"--strategy": strategy, "--hash": with_hash, "--json": as_json, "--as": seen_as != ARBITRATED}
        _refuse(given | {"--param": param}, "not together with --serve")
        how = Served(pace.factor, host, port, clients, tuple(fault or ()))
        raise typer.Exit(serve_recording(recording, (start, end), globs, how))
    player = None if strategy is None else _player(strategy, param or [], globs)
    if player is None and param:
        raise ConfigError("replay", "--param", "is of a strategy: name one with --strategy")
    keep_memory()
    session = Session(player, with_hash=with_hash)
    is_plain = seen_as == ARBITRATED and not fault
    if is_plain and not with_hash and not pace.is_paced:
        session.run(through_time("replay", recording.timed_runs(start, end, globs, images=True)))
    else:
        view = None if is_plain else _view(recording, seen_as, fault or [], start)
        events = pace.paced(recording.timed_events(start, end, globs, images=True, site=view))
        session.run(through_time("replay", events))
    print(json_text(session.summary())) if as_json else session.show()
    name_skipped(recording)
    if session.failure:
        print(f"{session.traceback}raytrade: the strategy failed: {session.failure}", file=sys.stderr)
        raise typer.Exit(1)


def _refuse(given: dict[str, object], problem: str) -> None:
    for option, value in given.items():
        if value:
            raise ConfigError("replay", option, problem)


def _view(recording: Recording, seen_as: str, faults: list[str], start: str | None) -> View:
    """Give how streams are changed: first as a line brought them, then by faults."""
    parts: list[View] = [] if seen_as == ARBITRATED else [Site(recording.directory, seen_as)]
    if faults:
        origin_ns = instant_ns(start) if start is not None else recording.start_ns()
        parts.append(Faults([_fault(text, origin_ns) for text in faults]))
    return Views(*parts)


def _fault(text: str, origin_ns: Nanos) -> StreamFault:
    """Read a fault as `raytrade emulate` has it; its time counts from the beginning of what is played."""
    from raytrade.emulator.faults import parse_fault

    rule = parse_fault(text)
    if rule.at_message is not None or rule.connection is not None or rule.probability is not None:
        raise ConfigError("replay", "--fault", f"{text}: no connections or chance here: write KIND@AT:DURATION")
    return StreamFault(
        kind=rule.kind,
        start_ns=origin_ns + round((rule.at_s or 0.0) * SECOND),
        duration_ns=round((rule.duration_s or 0.0) * SECOND),
        delay_ns=round(rule.delay_s * SECOND),
        symbol=rule.symbol or "",
    )


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

    @property
    def factor(self) -> float:
        """How many times as fast as it was recorded; 0: as fast as it goes."""
        return self._factor or 0.0

    @property
    def is_paced(self) -> bool:
        """Whether events have to be waited for."""
        return self._factor is not None

    def paced(self, events: Iterable[TimedItem]) -> Iterator[TimedItem]:
        """Give each event when its time has come."""
        factor = self._factor
        if factor is None:
            yield from events
            return
        origin: tuple[Nanos, Nanos] | None = None
        for now_ns, event in events:
            if origin is None:
                origin = now_ns, monotonic_ns()
            wait_ns = (now_ns - origin[0]) / factor - (monotonic_ns() - origin[1])
            if wait_ns > 0:
                self._waiter.wait(wait_ns / SECOND)
            yield now_ns, event


class Session:
    """One replay: counts what comes, hands it to the strategy, names it by a hash."""

    def __init__(self, player: EventPlayer | None, *, with_hash: bool) -> None:
        self.failure = self.traceback = ""
        self._player = player
        self._hash = StreamHash() if with_hash else None
        self._counts: dict[str, dict[str, int]] = {}
        self._times: tuple[Nanos, Nanos] | None = None
        self._fills: list[Fill] = []

    def run(self, items: Iterable[TimedItem]) -> None:
        """Play all of it."""
        for now_ns, item in items:
            if isinstance(item, Part):
                self._play_run(*item)
            else:
                self._play_event(now_ns, item)
        if self._player is not None:
            self._take(self._player.finish())

    def _play_run(self, run: DeltaRun, first: int, last: int) -> None:
        counts = self._counts_at(run.times[first], run.times[last - 1], run.instrument)
        counts["updates"] += last - first
        counts["levels"] += run.level_count(first, last)
        while self._player is not None and first < last:
            first, commands = self._player.play_run(run, first, last)
            self._take(commands)

    def _play_event(self, now_ns: Nanos, event: RecordedEvent) -> None:
        counts = self._counts_at(now_ns, now_ns, event.instrument)
        name = "images" if getattr(event, "flags", 0) & Flag.IMAGE else _NAMES.get(type(event))
        if name is not None:
            counts[name] += 1
        if name is not None and isinstance(event, BookSnapshot | BookDelta):
            counts["levels"] += (len(event.bids) + len(event.asks)) // 2
        if self._hash is not None:
            self._hash.update(now_ns, parse(encode(event, LINE)))
        if self._player is not None:
            self._take(self._player.play_event(now_ns, event))

    def _counts_at(self, first_ns: Nanos, last_ns: Nanos, instrument: str) -> dict[str, int]:
        self._times = (first_ns if self._times is None else self._times[0], last_ns)
        counts = self._counts.get(instrument)
        if counts is None:
            counts = self._counts[instrument] = dict.fromkeys(_COUNTED, 0)
        return counts

    def _take(self, commands: list[EngineCommand]) -> None:
        for command in commands:
            if isinstance(command, Fill):
                self._fills.append(command)
            elif isinstance(command, StrategyFailed):
                self.traceback = command.traceback
                where = f"{command.callback} {command.subject}".strip()
                self.failure = f"{where} at {instant_text(command.ts_fail_ns)}{command.event}: {command.error}"

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


_NAMES = {BookSnapshot: "snapshots", BookDelta: "updates", Trade: "trades", Gap: "gaps"}
_COUNTED = (*_NAMES.values(), "images", "levels")


def _counts_table(instruments: dict[str, dict[str, int]]) -> Table:
    table = Table("instrument")
    for name in _COUNTED:
        table.add_column(name, justify="right")
    for instrument, counts in instruments.items():
        table.add_row(Text(instrument), *(str(counts[name]) for name in _COUNTED))
    return table


def _player(target: str, parameters: list[str], globs: list[str]) -> EventPlayer:
    values = parameters_of("replay", parameters)
    name = target.rpartition(":")[2]
    return EventPlayer(ReplayEngine(name, load_strategy(target, values), Filter(*globs), rule_of))

"""Runs the self-test of a venue over real sockets, and keeps its verdicts with their date."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from raytrade.arbitration.selftest import SelfTest, Verdict
from raytrade.config import Config
from raytrade.core.events import Channel, Event
from raytrade.core.instrument import instrument_name, split_instrument
from raytrade.errors import ConfigError, StorageError
from raytrade.rules import rule_of
from raytrade.transport.clock import SystemClock
from raytrade.transport.line import Line
from raytrade.transport.rest import SHARE, WeightBudget
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription

POLL_S = 0.1


class SelfTestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to test: `sockets` connections to the venue for `seconds`; the addresses only to override its own."""

    venue: str
    symbols: tuple[str, ...]
    sockets: int = 2
    seconds: float = 60.0
    ws_url: str = ""
    rest_url: str = ""


class Kept(msgspec.Struct):
    """A venue's verdicts and when they were found (UTC)."""

    date: str
    verdicts: list[Verdict]


def default_store() -> Path:
    """Give the file of verdicts in the user's own directory of states."""
    states = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return states / "raytrade" / "selftest.json"


def load(path: Path) -> dict[str, Kept]:
    """Read the verdicts by venue; none where there is no file.

    Raises:
        StorageError: the file cannot be read or is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Kept])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageError(str(path), getattr(error, "strerror", None) or f"no file of verdicts: {error}") from None


def keep(path: Path, venue: str, verdicts: list[Verdict]) -> None:
    """Add a venue's verdicts of today, in place of earlier ones.

    Raises:
        StorageError: the file cannot be read or written.
    """
    kept = load(path)
    kept[venue] = Kept(datetime.now(UTC).isoformat(timespec="seconds"), verdicts)
    fresh = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
        fresh.replace(path)
    except OSError as error:
        raise StorageError(str(path), error.strerror or str(error)) from None


def refuse_bold(config: Config, store: Path) -> None:
    """Refuse to merge copies of a book in a way that a kept verdict has shown to be wrong; one copy needs no merging.

    Raises:
        ConfigError: names the venue, the instrument and the verdict.
        StorageError: the file of verdicts cannot be read.
    """
    kept = load(store)
    for venue, part in config.venues.items():
        wanted = {instrument_name(venue, symbol) for symbol in part.symbols}
        for verdict in kept[venue].verdicts if venue in kept and part.redundancy != 1 else ():
            if verdict.is_bold and verdict.instrument in wanted:
                problem = (
                    f"the self-test of {kept[venue].date} found {verdict.found!r} for {verdict.instrument}, and copies "
                    f"would be merged as {verdict.declared!r}: run `raytrade selftest` again, or set redundancy: 1"
                )
                raise ConfigError("", f"venues.{venue}", problem)


async def run_selftest(settings: SelfTestSettings, note: Callable[[str], None]) -> list[Verdict]:
    """Open the sockets, listen, and judge; `note` is told when a socket goes up or down."""
    spec, clock, test = find_venue(settings.venue), SystemClock(), SelfTest(rule_of)
    subscriptions = tuple(Subscription(symbol, (Channel.BOOK,)) for symbol in settings.symbols)
    endpoints = spec.machine.endpoints(
        settings.ws_url or spec.ws_url, settings.rest_url or spec.rest_url, subscriptions
    )
    budget = WeightBudget(int(spec.limits.weight_per_minute_max * SHARE))
    lines: dict[str, Line] = {}
    for number in range(settings.sockets):
        for at, endpoint in enumerate(endpoints):
            name = f"socket {number + 1}" + (f".{at + 1}" if at else "")
            lines[name] = Line(name, spec.machine(settings.venue, endpoint), clock, budget)

    def deliver(name: str, events: list[Event]) -> None:
        for event in events:
            test.receive(name.partition(".")[0], event, clock.now_ns())

    tasks = [asyncio.create_task(line.run(deliver)) for line in lines.values()]
    try:
        await _listen(settings, lines, test, deliver, note)
    finally:
        for task in tasks:
            task.cancel()
        for line in lines.values():
            line.close()
    return test.verdicts()


async def _listen(
    settings: SelfTestSettings,
    lines: dict[str, Line],
    test: SelfTest,
    deliver: Callable[[str, list[Event]], None],
    note: Callable[[str], None],
) -> None:
    clock, told = SystemClock(), dict.fromkeys(lines, False)
    end_s = asyncio.get_running_loop().time() + settings.seconds
    while asyncio.get_running_loop().time() < end_s:
        await asyncio.sleep(POLL_S)
        test.receive_timeout(clock.now_ns())
        for socket, wanted in test.wanted():
            _, symbol = split_instrument(wanted.instrument)
            for name, line in lines.items():
                if name.partition(".")[0] == socket:
                    line.request_snapshot(symbol, deliver)
        for name, line in lines.items():
            if told[name] != line.status.is_up:
                told[name] = line.status.is_up
                note(f"{name}: {'up' if told[name] else line.status.last_reason}")

"""Lies: a line on which a frame of the venue says something that the venue never said; and what may come of it.

Or the venue itself says to everybody what is not so: that its book is crossed.

Only books whose ids are the venue's own are lied about: there, what two lines say can be held against each other.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import msgspec

from raytrade.arbitration.crossing import CROSSED_NS
from raytrade.arbitration.guard import DISPUTE_NS
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta
from raytrade.simulation.market import (
    MID_TICKS,
    PRICE_SCALE,
    REACH_TICKS,
    SIZE_SCALE,
    Market,
    Row,
    price_text,
    size_text,
)

LYING_VENUES = ("binance-spot", "hitbtc-v2")
WRONG_NS_MAX = DISPUTE_NS + SECOND
"""How long a book may be wrong and not know it, from when an honest copy of the lie came in, with the ways to it."""

CROSSING = MID_TICKS + REACH_TICKS + 1, 1_000
"""A bid above all asks there can be."""

IsCalm = Callable[[tuple[str, ...], Nanos, Nanos], bool]


def falsified(text: str, rng: random.Random) -> str | None:
    """Give the frame with one size changed or one level left out; None if it is no update of a book."""
    frame = json.loads(text)
    sides: list[list[object]] = []
    if frame.get("data", {}).get("e") == "depthUpdate":
        sides = [frame["data"]["b"], frame["data"]["a"]]
    elif frame.get("method") == "updateOrderbook":
        sides = [frame["params"]["bid"], frame["params"]["ask"]]
    levels = rng.choice([side for side in sides if side] or [[]])
    if not levels:
        return None
    at = rng.randrange(len(levels))
    if rng.random() < 0.5:
        del levels[at]
    elif isinstance(level := levels[at], list):
        level[1] = f"{rng.randint(1, 9_999) / 1000:.3f}"
    else:
        assert isinstance(level, dict)
        level["size"] = f"{rng.randint(1, 9_999) / 1000:.3f}"
    return json.dumps(frame)


def crossed(text: str) -> str | None:
    """Give the frame with a bid that crosses the book; None if it is no update of a book."""
    frame = json.loads(text)
    price, size = price_text(CROSSING[0]), size_text(CROSSING[1])
    if frame.get("data", {}).get("e") == "depthUpdate":
        frame["data"]["b"].append([price, size])
    elif frame.get("method") == "updateOrderbook":
        frame["params"]["bid"].append({"price": price, "size": size})
    else:
        return None
    return json.dumps(frame)


class Lie(msgspec.Struct, frozen=True):
    """What a line's machine was made to say under an id, and when; `is_crossing`: the venue told it to everybody."""

    line: str
    id_last: int
    ts_ns: Nanos
    is_crossing: bool


class Lies:
    """Knows which lines lie at some time of a run, what they said, and whether it can be known for a lie."""

    def __init__(self, dedups: list[str], is_calm: IsCalm) -> None:
        self.liars: set[str] = set()
        self.told: dict[str, list[Lie]] = {}
        self.honest: dict[tuple[str, int], list[tuple[Nanos, str]]] = {}
        self.accused: set[tuple[str, str]] = set()
        """Instruments and the lines that a dedup said contradict others."""
        self.is_believed: Callable[[str, str], bool] = lambda _instrument, _line: True
        """Whether any dedup takes what the line says of the instrument; a lie that none takes can do no harm."""
        self.started_ns: dict[str, Nanos] = {}
        """When each dedup and consumer began its life."""
        self._dedups = dedups
        self._is_calm = is_calm

    def concerns(self, instrument: str) -> bool:
        """Tell whether a line lies about the instrument at some time."""
        venue = instrument.partition(":")[0]
        return any(line.endswith(f"/{venue}") for line in self.liars)

    def witness(self, line: str, delta: BookDelta, market: Market, now_ns: Nanos) -> None:
        """A line's machine gave a delta."""
        if not self.concerns(delta.instrument):
            return
        if line in self.liars and not _is_true(delta, market):
            if not self.is_believed(delta.instrument, line):
                return
            lie = Lie(line, delta.id_last, now_ns, CROSSING in _rows(delta, delta.bids))
            self.told.setdefault(delta.instrument, []).append(lie)
        elif line not in self.liars:
            self.honest.setdefault((delta.instrument, delta.id_last), []).append((now_ns, line))

    def explain(self, who: str, instrument: str, now_ns: Nanos) -> bool:
        """Tell whether a lie may be why the book of `who` is wrong now: nobody could know it, or not for long yet."""
        for lie in self.told.get(instrument, []):
            exposed_ns = self.exposed_ns(who, instrument, lie)
            if lie.ts_ns <= now_ns and (exposed_ns is None or now_ns <= exposed_ns + WRONG_NS_MAX):
                return True
        return False

    def exposed_ns(self, who: str, instrument: str, lie: Lie) -> Nanos | None:
        """Give when the lie and an honest copy were on ways to all dedups, and on to `who`, that no fault touched.

        A crossed book needs no other copy, only its time; who begins anew hears it all again.
        """
        ways = [self._way(lie.line, dedup, who) for dedup in self._dedups]
        seen_ns = max([lie.ts_ns, *(self.started_ns.get(name, 0) for name in (*self._dedups, who))])
        if lie.is_crossing:
            exposed_ns = seen_ns + CROSSED_NS
            span = (seen_ns - SECOND, exposed_ns + WRONG_NS_MAX)
            return exposed_ns if all(self._is_calm(way, *span) for way in ways) else None
        for at_ns, line in self.honest.get((instrument, lie.id_last), ()):
            exposed_ns = max(at_ns, seen_ns)
            span = (min(at_ns, lie.ts_ns) - SECOND, exposed_ns + WRONG_NS_MAX)
            other = [self._way(line, dedup, who) for dedup in self._dedups]
            if all(self._is_calm(way, *span) for way in ways + other):
                return exposed_ns
        return None

    @staticmethod
    def _way(line: str, dedup: str, who: str) -> tuple[str, ...]:
        collector = line.partition("/")[0]
        return collector, f"{collector}>{dedup}", dedup, f"{dedup}>{who}", who

    def unreported(self) -> list[tuple[str, Lie]]:
        """Give the lies that every dedup could see, of lines that none accused."""
        return [
            (instrument, lie)
            for instrument, lies in self.told.items()
            for lie in lies
            if not lie.is_crossing and (instrument, lie.line) not in self.accused
            if self.exposed_ns("", instrument, lie) is not None
        ]


def _is_true(delta: BookDelta, market: Market) -> bool:
    sides = zip((delta.bids, delta.asks), market.window(delta.id_prev, delta.id_last), strict=True)
    return all(sorted(_rows(delta, levels)) == sorted(rows) for levels, rows in sides)


def _rows(delta: BookDelta, levels: tuple[int, ...]) -> list[Row]:
    price_factor, size_factor = 10 ** (PRICE_SCALE - delta.price_scale), 10 ** (SIZE_SCALE - delta.size_scale)
    return [(p * price_factor, s * size_factor) for p, s in zip(levels[::2], levels[1::2], strict=True)]

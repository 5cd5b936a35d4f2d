"""Faults on order: the text that asks for them, and the plan of one connection.

Grammar: `[conn=N:][symbol=S:]kind[=value][@at[:duration]]`. `at` is a time since the start of the
stream (`5s`, `200ms`) or a plain number, the index of a book or trade message of the connection,
from 0. Without duration a fault with neither probability nor value happens once at `at`.

    drop, duplicate, reorder, corrupt, cut   value = probability per message (1 if absent)
    delay                                    value = time by which the line lags (needed)
    silent                                   what is due is never sent; the socket stays open
    stall                                    what is due is held, then sent at once
    skew_windows                             value = steps joined at most to one message (needed)
    refuse, ack_only                         value = symbol (all if absent)

Invariant: the same seed, connection number and messages give the same faults. Pure: time is an
argument. Called by the link (messages) and by the synthetic feed (subscriptions, windows).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import msgspec

from raytrade.errors import ConfigError

from .message import Content, Message

LOSSY = ("drop", "duplicate", "reorder", "corrupt", "cut")
LASTING = ("delay", "silent", "stall")
STANDING = ("skew_windows", "refuse", "ack_only")
KINDS = (*LOSSY, *LASTING, *STANDING)
GRAMMAR = "[conn=N:][symbol=S:]kind[=value][@at[:duration]]"
_SPEC = re.compile(
    r"(?:conn=(?P<conn>\d+):)?(?:symbol=(?P<symbol>[^:=@]+):)?(?P<kind>[a-z_]+)"
    r"(?:=(?P<value>[^@]+))?(?:@(?P<at>[^:@]+)(?::(?P<duration>[^:@]+))?)?"
)
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class FaultRule(msgspec.Struct, frozen=True, kw_only=True):
    """One parsed fault; times in seconds, `None` where the text does not say."""

    text: str
    kind: str
    connection: int | None = None
    symbol: str | None = None
    probability: float | None = None
    delay_s: float = 0.0
    steps_max: int = 1
    at_s: float | None = None
    at_message: int | None = None
    duration_s: float | None = None

    def covers(self, connection: int, symbol: str) -> bool:
        """Tell whether the rule is for this connection and this symbol."""
        if self.connection is not None and self.connection != connection:
            return False
        return self.symbol is None or not symbol or self.symbol == symbol

    @property
    def happens_once(self) -> bool:
        """Tell whether the rule is used up by its first effect."""
        has_start = self.at_s is not None or self.at_message is not None
        is_bare = self.probability is None and self.duration_s is None
        return self.kind in LOSSY and has_start and is_bare


def parse_fault(text: str) -> FaultRule:
    """Parse one fault.

    Raises:
        ConfigError: the text is not of the grammar above.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise ConfigError("", "faults", f"{text!r} is not of the form {GRAMMAR}")
    kind = match["kind"]
    if kind not in KINDS:
        raise ConfigError("", "faults", f"{text!r}: unknown kind {kind!r}, allowed: {_listed()}")
    value = match["value"]
    at_s, at_message = _parse_start(text, match["at"])
    if kind in STANDING and match["at"] is not None:
        raise ConfigError("", "faults", f"{text!r}: {kind} takes no @time")
    if kind == "delay" and value is None:
        raise ConfigError("", "faults", f"{text!r}: delay needs a time, as in delay=50ms")
    symbol = match["symbol"]
    if kind in ("refuse", "ack_only") and value is not None:
        symbol = value
    elif kind in ("silent", "stall") and value is not None:
        raise ConfigError("", "faults", f"{text!r}: {kind} takes no value, as in {kind}@3s:2s")
    return FaultRule(
        text=text.strip(),
        kind=kind,
        connection=int(match["conn"]) if match["conn"] else None,
        symbol=symbol,
        probability=_parse_probability(text, value) if kind in LOSSY and value else None,
        delay_s=_parse_time(text, value) if kind == "delay" and value else 0.0,
        steps_max=_parse_steps(text, value) if kind == "skew_windows" else 1,
        at_s=at_s,
        at_message=at_message,
        duration_s=_parse_time(text, match["duration"]) if match["duration"] else None,
    )


def _listed() -> str:
    return ", ".join(KINDS)


def _parse_start(text: str, start: str | None) -> tuple[float | None, int | None]:
    if start is None:
        return None, None
    if start.isdigit():
        return None, int(start)
    return _parse_time(text, start), None


def _parse_time(text: str, value: str) -> float:
    match = _TIME.fullmatch(value)
    if match is None:
        raise ConfigError("", "faults", f"{text!r}: {value!r} is no time, allowed: 5s, 1.5s, 200ms")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _parse_probability(text: str, value: str) -> float:
    try:
        probability = float(value)
    except ValueError:
        probability = -1.0
    if not 0 < probability <= 1:
        problem = f"{text!r}: {value!r} is no probability, allowed: above 0, up to 1"
        raise ConfigError("", "faults", problem)
    return probability


def _parse_steps(text: str, value: str | None) -> int:
    if value is None or not value.isdigit() or int(value) < 2:
        problem = f"{text!r}: skew_windows needs a number of steps from 2 on, as in skew_windows=4"
        raise ConfigError("", "faults", problem)
    return int(value)


class Verdict(msgspec.Struct):
    """What is left to do with a message: what to send, after how long, and whether to cut."""

    messages: list[Message]
    delay_s: float = 0.0
    is_cut: bool = False
    kinds: list[str] = []


class ActiveRule:
    """A rule in force on one connection, with its own random source and its progress."""

    def __init__(self, rule: FaultRule, origin_s: float, rng: random.Random) -> None:
        self.rule = rule
        self.rng = rng
        self.is_spent = False
        self.is_reported = False
        self._origin_s = origin_s
        self._start_s: float | None = None
        if rule.at_message is None:
            self._start_s = origin_s + (rule.at_s or 0.0)

    @property
    def end_s(self) -> float | None:
        """When the rule ends, in stream time; None if it does not or has not begun."""
        if self._start_s is None or self.rule.duration_s is None:
            return None
        return self._start_s + self.rule.duration_s

    def missed(self, now_s: float) -> None:
        """Spend a rule whose single moment lies before the connection was opened."""
        if self.rule.happens_once and self._start_s is not None and self._start_s < now_s:
            self.is_spent = True

    def is_due(self, now_s: float, message_index: int) -> bool:
        """Tell whether the rule takes effect now; draws from the random source if it may."""
        if self.is_spent or not self._has_begun(now_s, message_index):
            return False
        end_s = self.end_s
        if end_s is not None and now_s >= end_s:
            return False
        if self.rule.probability is not None and self.rng.random() >= self.rule.probability:
            return False
        self.is_spent = self.rule.happens_once
        return True

    def _has_begun(self, now_s: float, message_index: int) -> bool:
        if self._start_s is None:
            at_message = self.rule.at_message
            if at_message is None or message_index < at_message:
                return False
            self._start_s = now_s
        return now_s >= self._start_s


class FaultPlan:
    """All faults of one connection; times are seconds since the start of the stream."""

    def __init__(self, connection: int, seed: int, now_s: float = 0.0) -> None:
        self._connection = connection
        self._seed = seed
        self._opened_s = now_s
        self._rules: list[ActiveRule] = []
        self._held: dict[str, Message] = {}
        self._messages_seen = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether messages may go out untouched."""
        return not self._rules and not self._held

    def add(self, rule: FaultRule, origin_s: float) -> None:
        """Put a rule in force; its times count from `origin_s`."""
        if rule.connection is not None and rule.connection != self._connection:
            return
        rng = random.Random(f"{self._seed}:{self._connection}:{rule.text}:{len(self._rules)}")
        active = ActiveRule(rule, origin_s, rng)
        active.missed(self._opened_s)
        self._rules.append(active)

    def clear(self) -> None:
        """Lift every rule; a message held for reordering stays until its symbol's next one."""
        self._rules = []

    def standing(self, kind: str, symbol: str) -> FaultRule | None:
        """Find the standing rule of a kind (refuse, ack_only, skew_windows) for a symbol."""
        for active in self._rules:
            if active.rule.kind == kind and active.rule.covers(self._connection, symbol):
                return active.rule
        return None

    def is_cut_due(self, now_s: float) -> bool:
        """Tell whether a cut at a time has come; cuts by message are in `judge`."""
        for active in self._rules:
            rule = active.rule
            is_timed = rule.kind == "cut" and rule.at_s is not None and rule.happens_once
            if is_timed and active.is_due(now_s, self._messages_seen):
                return True
        return False

    def judge(self, message: Message, now_s: float) -> Verdict:
        """Decide what happens to one message."""
        verdict = Verdict([message])
        is_data = message.content is not Content.CONTROL
        for active in self._rules:
            kind = active.rule.kind
            if kind in STANDING or (kind in LOSSY and not is_data):
                continue
            if not active.rule.covers(self._connection, message.symbol):
                continue
            if active.is_due(now_s, self._messages_seen):
                self._apply(active, verdict, now_s)
        if is_data:
            self._messages_seen += 1
            self._release_held(message, verdict)
        return verdict

    def release(self) -> list[Message]:
        """Give back what is held for reordering, as the stream ends."""
        held = list(self._held.values())
        self._held = {}
        return held

    def _apply(self, active: ActiveRule, verdict: Verdict, now_s: float) -> None:
        kind = active.rule.kind
        if kind in LASTING and kind != "silent":
            end_s = active.end_s
            until_s = end_s - now_s if end_s is not None else 3600.0
            lag_s = active.rule.delay_s if kind == "delay" else until_s
            verdict.delay_s = max(verdict.delay_s, lag_s)
            if active.is_reported:
                return
            active.is_reported = True
        elif kind in ("drop", "silent"):
            verdict.messages = []
        elif kind == "duplicate":
            verdict.messages = verdict.messages * 2
        elif kind == "corrupt":
            verdict.messages = [corrupt(each, active.rng) for each in verdict.messages]
        elif kind == "cut":
            verdict.is_cut = True
        verdict.kinds.append(kind)

    def _release_held(self, message: Message, verdict: Verdict) -> None:
        wants_hold = "reorder" in verdict.kinds and verdict.messages
        held = self._held.pop(message.symbol, None)
        if held is not None:
            verdict.messages.append(held)
            if wants_hold:
                verdict.kinds.remove("reorder")
        elif wants_hold:
            self._held[message.symbol] = verdict.messages.pop(0)


def corrupt(message: Message, rng: random.Random) -> Message:
    """Damage a payload so that it cannot be parsed: cut it short, or flip one of its quotes."""
    payload = message.payload
    quotes = [index for index, byte in enumerate(payload) if byte == 0x22]
    if quotes and rng.random() < 0.5:
        flipped = bytearray(payload)
        flipped[quotes[int(rng.random() * len(quotes))]] ^= 0x01
        return message.replace_payload(bytes(flipped))
    return message.replace_payload(payload[: int(rng.random() * len(payload))])


def parse_faults(texts: Iterable[str]) -> tuple[FaultRule, ...]:
    """Parse faults; a text may hold several, divided by commas.

    Raises:
        ConfigError: one of them is malformed.
    """
    return tuple(parse_fault(part) for text in texts for part in text.split(","))

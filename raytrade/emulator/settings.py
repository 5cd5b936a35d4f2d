"""The options of an emulator, checked when they are made."""

from __future__ import annotations

import re

import msgspec

from raytrade.errors import ConfigError

from .dialect import Traits
from .faults import FaultRule, parse_faults
from .venues import DIALECTS

_BURST = re.compile(r"(\d+)@(\d+(?:\.\d+)?)s")


class Burst(msgspec.Struct, frozen=True):
    """`updates` sent as fast as the clients take them, `at_s` seconds into the stream."""

    updates: int
    at_s: float


class EmulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to serve and how.

    Either `capture` (a recording to serve) or `venue` with `symbols` (a synthetic market).
    """

    venue: str = ""
    """Name of the wire format, e.g. `binance-spot`; taken from the capture if there is one."""
    symbols: tuple[str, ...] = ()
    """Symbols as the venue writes them."""
    capture: str = ""
    """Path of a recorded `.jsonl.gz` file; empty for a synthetic market."""
    rate: float = 100.0
    """Book updates per second and symbol; 0 = as fast as the slowest client takes them."""
    updates: int = 0
    """Book updates in all, over all symbols, bursts included; 0 = without end."""
    levels: int = 8
    """Levels per update at most; most updates have as many."""
    depth: int = 100
    """Price levels per side of the book at the start."""
    burst: str = ""
    """`N@Ts`: N updates, rendered beforehand, sent at once at T seconds. Empty = none."""
    trades_share: float = 0.1
    """Share of updates that a trade goes with, 0 to 1."""
    skew_windows: int = 1
    """Steps joined at most to one message, with boundaries per connection; 1 = none."""
    seed: int = 1
    """Seed of the market and of all faults."""
    speed: float = 1.0
    """Pace of a capture: 1 as recorded, N times as fast, 0 = as fast as the clients take it."""
    clients: int = 1
    """The stream starts when this many clients are subscribed; 0 = at once."""
    faults: tuple[str, ...] = ()
    """Faults from the start, see `raytrade.emulator.faults`."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 0
    """Port to listen on; 0 = any free one."""
    seconds: float = 0.0
    """`serve` ends after this time; 0 = it does not."""
    exit_when_finished: bool = False
    """`serve` ends when everything has been sent; else it keeps its connections open, quiet."""
    journal: str = ""
    """File for the truth as JSON lines; empty = memory only."""
    buffer_bytes_max: int = 32 << 20
    """Bytes that may wait for one client; beyond it the client is disconnected."""
    slow_client_s_max: float = 5.0
    """Time for which one client may hold up a stream that waits for its clients."""

    def __post_init__(self) -> None:
        self._check_source()
        self._check_numbers()
        parse_burst(self.burst)
        self._check_faults(self.fault_rules())

    def fault_rules(self) -> tuple[FaultRule, ...]:
        """Parse the faults."""
        return parse_faults(self.faults)

    def check_fault(self, rule: FaultRule) -> None:
        """Refuse a fault that this source cannot have.

        Raises:
            ConfigError: `skew_windows` on a venue whose messages cover no id range, or a fault
                of subscriptions on a capture.
        """
        if self.capture and rule.kind in ("skew_windows", "refuse", "ack_only"):
            raise ConfigError("", "faults", f"{rule.kind} works on a synthetic market only")
        if rule.kind == "skew_windows":
            self._check_windows("faults")

    def traits(self) -> Traits:
        """Look up the facts about the venue of a synthetic market."""
        return DIALECTS[self.venue](self.symbols).traits

    def _check_source(self) -> None:
        if self.capture:
            if self.skew_windows > 1 or self.burst:
                raise ConfigError("", "capture", "a capture takes neither skew_windows nor burst")
            return
        if self.venue not in DIALECTS:
            allowed = ", ".join(sorted(DIALECTS))
            raise ConfigError("", "venue", f"unknown venue {self.venue!r}, allowed: {allowed}")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ConfigError("", "symbols", "needs at least one symbol, each once")
        if self.skew_windows > 1:
            self._check_windows("skew_windows")

    def _check_numbers(self) -> None:
        lows = {"rate": 0, "updates": 0, "levels": 1, "depth": 10, "skew_windows": 1, "speed": 0}
        lows |= {"clients": 0, "port": 0, "seconds": 0, "buffer_bytes_max": 65_536}
        lows |= {"trades_share": 0, "slow_client_s_max": 0}
        for key, low in lows.items():
            if not getattr(self, key) >= low:
                raise ConfigError("", key, f"must be at least {low}, not {getattr(self, key)}")
        highs = {"trades_share": 1, "port": 65_535, "depth": 5_000, "levels": 5_000}
        for key, high in highs.items():
            if not getattr(self, key) <= high:
                raise ConfigError("", key, f"must be at most {high}, not {getattr(self, key)}")

    def _check_faults(self, rules: tuple[FaultRule, ...]) -> None:
        for rule in rules:
            self.check_fault(rule)

    def _check_windows(self, key: str) -> None:
        if not self.traits().has_windows:
            problem = f"messages of {self.venue} cover no id range, so windows cannot be skewed"
            raise ConfigError("", key, problem)


def parse_burst(text: str) -> Burst | None:
    """Parse the `burst` option; None if empty.

    Raises:
        ConfigError: not of the form `N@Ts`.
    """
    if not text:
        return None
    match = _BURST.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError("", "burst", f"{text!r} is not of the form N@Ts, as in 50000@2s")
    return Burst(int(match[1]), float(match[2]))

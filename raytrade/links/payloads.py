"""`Payloads`: of which writers a reader takes the messages, and of which only digests. Pure.

Writers stand in regions. Those of the reader's own region cost nothing and always send; else one writer of another
region does, and stays chosen as long as its link is up. The others hold their messages back and tell what they have.
One of them is asked to send, for a while, when somebody has told a gap or when a digest has been ahead of what the
reader has for `patience_ns`: it sends what follows on the reader's ids, so a hole costs one round trip and not one byte
in calm times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.rendezvous import ranked
from raytrade.links.resume import StreamKey


class PayloadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in nanoseconds. `grace_ns`: how long the chosen writer's link may be down before another is chosen."""

    patience_ns: Nanos = 500 * MILLISECOND
    grace_ns: Nanos = 300 * MILLISECOND
    help_ns: Nanos = 10 * SECOND
    """How long a writer that was asked to help goes on sending."""


class _Ahead(msgspec.Struct):
    """A stream of which a digest tells more than the reader has: since when, and how far it was then."""

    since_ns: Nanos
    id_last: int


class Payloads:
    """See the module."""

    def __init__(
        self,
        reader: str,
        regions: Mapping[str, str],
        home: str = "",
        primary: str = "",
        settings: PayloadSettings | None = None,
    ) -> None:
        """`regions` by writer; `home` is the reader's own, `primary` the one to choose first of the others."""
        self.settings = settings or PayloadSettings()
        self.helped = 0
        """How often a writer was asked to send what others lacked."""
        self._regions = dict(regions)
        self._home = {name for name, region in regions.items() if region == home}
        away = [region for region in ranked("primary", {*regions.values()} - {home}) if region != primary]
        order = ([primary] if primary in regions.values() and primary != home else []) + away
        self._far = [name for region in order for name in ranked(reader, self._of(region))]
        self._chosen = "" if self._home or not self._far else self._far[0]
        self._down_ns: Nanos | None = None
        self._helpers: dict[str, Nanos] = {}
        self._told: dict[StreamKey, dict[str, int]] = {}
        self._ahead: dict[StreamKey, _Ahead] = {}

    def _of(self, region: str) -> list[str]:
        return [name for name, mine in self._regions.items() if mine == region]

    def hear(self, writer: str, stream: StreamKey, id_last: int) -> None:
        """A digest of `writer` says that it has the stream up to `id_last`."""
        told = self._told.setdefault(stream, {})
        told[writer] = max(told.get(writer, 0), id_last)

    def miss(self, teller: str, stream: StreamKey, id_last: int, up: Collection[str], now_ns: Nanos) -> None:
        """`teller` has told a gap up to `id_last` (0: not known how far): a writer of another region may fill it."""
        region = self._regions.get(teller, "")
        self._ask([name for name in up if self._regions.get(name, "") != region], stream, id_last, now_ns)

    def review(self, positions: Mapping[StreamKey, int], up: Collection[str], now_ns: Nanos) -> frozenset[str]:
        """Give the writers that are to send digests only; `up` are the writers whose links are, of either kind."""
        self._choose(up, now_ns)
        self._watch(positions, up, now_ns)
        self._helpers = {name: until_ns for name, until_ns in self._helpers.items() if now_ns < until_ns}
        sending = self._home | {self._chosen} | self._helpers.keys()
        return frozenset(self._regions.keys() - sending)

    def _choose(self, up: Collection[str], now_ns: Nanos) -> None:
        """Stay with the chosen writer while it is up; without any at home and with it down, take the next one up."""
        needed = not any(name in up for name in self._home)
        if not needed or self._chosen in up:
            self._down_ns = None
            if not needed:
                self._chosen = ""
            return
        if self._down_ns is None:
            self._down_ns = now_ns
        others = [name for name in self._far if name in up]
        if others and now_ns - self._down_ns >= self.settings.grace_ns:
            self._chosen = others[0]

    def _watch(self, positions: Mapping[StreamKey, int], up: Collection[str], now_ns: Nanos) -> None:
        """Ask for help with a stream that has stood behind what a digest told for too long."""
        for stream, told in self._told.items():
            most = max((id_last for name, id_last in told.items() if name in up), default=0)
            ahead = self._ahead.get(stream)
            if most <= positions.get(stream, 0):
                self._ahead.pop(stream, None)
            elif ahead is None or positions.get(stream, 0) >= ahead.id_last:
                self._ahead[stream] = _Ahead(now_ns, most)
            elif now_ns - ahead.since_ns >= self.settings.patience_ns:
                self._ask(up, stream, ahead.id_last, now_ns)

    def _ask(self, names: Collection[str], stream: StreamKey, id_last: int, now_ns: Nanos) -> None:
        """Have one writer send: of those that are not sending, one that has told of so much, if there is one."""
        told = self._told.get(stream, {})
        idle = [name for name in self._far if name in names and name != self._chosen and name not in self._helpers]
        having = [name for name in idle if told.get(name, 0) >= id_last]
        if (having or idle) and not any(name in self._helpers for name in names):
            self._helpers[(having or idle)[0]] = now_ns + self.settings.help_ns
            self.helped += 1

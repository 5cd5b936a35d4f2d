"""`History`: what a recorder that starts again has in its files already, and how it goes on from there.

Where ids are the venue's own, the arbiter is put at the last id and the ring of a dedup leads on from it. Where
they are counted per connection nothing can be proved: the files get a gap and go on with an image. So do books whose
files end inside a gap, but without losing their place.
"""

from __future__ import annotations

from pathlib import Path

from raytrade.arbitration import Rule
from raytrade.core.clock import Nanos
from raytrade.core.events import BookSnapshot, Channel, Event, Flag, Gap, GapKind, Side, Trade
from raytrade.core.members import TRADE
from raytrade.core.message import Message, encode, parse
from raytrade.errors import ConfigError
from raytrade.rules import rule_of
from raytrade.storage.durable import last_ids, open_gaps, trade_ids

CHAINED = (Rule.LOOSE, Rule.STRICT, Rule.DENSE)


class History:
    """Read once from the directory; `positions` then follows what is taken."""

    def __init__(self, directory: Path) -> None:
        self.positions: dict[str, int] = {}
        self._openings: list[Event] = []
        self._breaks: list[tuple[str, Channel, int]] = []
        self._in_gap = open_gaps(directory)
        self._trades: dict[str, set[bytes]] = {}
        self._keys: dict[tuple[str, Channel], str] = {}
        """Of each stream its name in `positions`; empty where links do not go on by ids."""
        for name, id_last in last_ids(directory).items():
            instrument, _, channel_name = name.rpartition("/")
            channel = Channel[channel_name.upper()]
            try:
                rule = rule_of(instrument, channel).rule
            except ConfigError:
                continue
            if rule in CHAINED and id_last > 0:
                self.positions[name] = id_last
                self._openings.append(_opening(instrument, channel, id_last))
            elif rule is Rule.TRADE:
                self._trades[instrument] = trade_ids(directory, instrument)
            else:
                self._breaks.append((instrument, channel, id_last))

    def openings(self) -> list[Message]:
        """Give messages that put an arbiter where the files end; they are not to be recorded."""
        return [parse(encode(event, "")) for event in self._openings]

    def breaks(self, now_ns: Nanos) -> list[Message]:
        """Give a gap for each stream of which nobody can tell whether the files go on without a hole."""
        gaps = [
            Gap(
                instrument=instrument,
                channel=channel,
                kind=GapKind.RESET,
                id_prev=id_last,
                id_last=0,
                cause="the recorder was started anew",
                ts_recv_ns=now_ns,
            )
            for instrument, channel, id_last in self._breaks
        ]
        return [parse(encode(gap, "")) for gap in gaps]

    def doubts(self, now_ns: Nanos) -> list[Message]:
        """Give what makes an arbiter wait for a book where the files end inside a gap."""
        gaps = [
            Gap(
                instrument=name.rpartition("/")[0],
                channel=Channel.BOOK,
                kind=GapKind.DOUBT,
                id_prev=self.positions[name],
                id_last=0,
                cause="the recorder was started anew inside a gap",
                ts_recv_ns=now_ns,
            )
            for name in sorted(self._in_gap & self.positions.keys())
        ]
        return [parse(encode(gap, "")) for gap in gaps]

    def has(self, message: Message) -> bool:
        """Tell whether the files hold this trade, where no id would show it."""
        if message.kind is not TRADE or not self._trades:
            return False
        return message.tail() in self._trades.get(message.instrument, ())

    def follow(self, message: Message) -> None:
        """Note a message that was taken: a link to a new writer goes on from it."""
        stream = (message.instrument, message.channel)
        key = self._keys.get(stream)
        if key is None:
            is_chained = rule_of(*stream).rule in CHAINED
            key = self._keys[stream] = f"{message.instrument}/{message.channel.name.lower()}" if is_chained else ""
        if key:
            self.positions[key] = message.id_last


def _opening(instrument: str, channel: Channel, id_last: int) -> Event:
    if channel is Channel.BOOK:
        return BookSnapshot(
            instrument=instrument,
            id_last=id_last,
            bids=(),
            asks=(),
            price_scale=0,
            size_scale=0,
            flags=Flag.IMAGE,
        )
    return Trade(
        instrument=instrument,
        trade_id=str(id_last),
        price=0,
        size=0,
        price_scale=0,
        size_scale=0,
        aggressor=Side.NONE,
        sequence=id_last,
    )

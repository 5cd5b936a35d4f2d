"""`SimUpstreams`: the reading side of a simulated actor, with the logic of `raytrade.actors.upstreams` and no Ray."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.message import Message
from raytrade.errors import MalformedBatch, VersionSkew
from raytrade.links.opening import OpenLink
from raytrade.links.reader import LinkReader
from raytrade.simulation.actor import Actor

FRESH_EVERY_NS = SECOND
AWAY_NS = 300 * MILLISECOND
LINK_BITS = 62
LOOK_NS = 20 * MILLISECOND


class SimUpstreams:
    """Keeps one link from each writer open; `on_change(writer, is_up, now_ns)` is told when one comes up or is lost."""

    def __init__(
        self, owner: Actor, template: OpenLink, writers: list[str], on_change: Callable[[str, bool, Nanos], None]
    ) -> None:
        self.positions: dict[str, int] = {}
        self._owner = owner
        self._template = template
        self._on_change = on_change
        bits = owner.world.random.getrandbits
        self._readers = {name: LinkReader(name, bits(LINK_BITS)) for name in writers}
        self._told: dict[str, bool] = {}
        self._opening: set[str] = set()
        self._fresh_ns: dict[str, Nanos] = {}
        self._ticked_ns: Nanos = 0
        self._is_eager = True
        self.is_paused = False

    def tick(self, now_ns: Nanos) -> None:
        """Open what is not open; tell what was lost; looks at most every `LOOK_NS`, however often it is called."""
        if 0 <= now_ns - self._ticked_ns < LOOK_NS and not self._is_eager:
            return
        self._is_eager = False
        away_ns, self._ticked_ns = now_ns - self._ticked_ns, now_ns
        for name, reader in self._readers.items():
            if away_ns > AWAY_NS or self.is_paused:
                reader.excuse(away_ns, now_ns)
            if not self.is_paused and reader.must_open(now_ns) and name not in self._opening:
                self._open(name, reader, now_ns)
            self._tell(name, reader, now_ns)

    def _open(self, name: str, reader: LinkReader, now_ns: Nanos) -> None:
        self._opening.add(name)
        template = msgspec.structs.replace(self._template, positions=dict(self.positions))
        wish = reader.wish(self._owner.name, template, now_ns)
        self._owner.world.note(self._owner.name, f"opens {name}")
        self._owner.network.open_link(self._owner, name, wish, lambda writer_id: self._opened(name, writer_id))

    def _opened(self, name: str, writer_id: int) -> None:
        self._opening.discard(name)
        self._is_eager = True
        if writer_id:
            self._readers[name].opened(writer_id, self._owner.now_ns)

    def _tell(self, name: str, reader: LinkReader, now_ns: Nanos) -> None:
        if self._told.get(name, False) != reader.is_up:
            self._told[name] = reader.is_up
            self._owner.world.note(self._owner.name, f"link of {name} is {'up' if reader.is_up else 'lost'}")
            self._on_change(name, reader.is_up, now_ns)

    def receive(self, name: str, data: bytes, now_ns: Nanos) -> list[Message]:
        """Take a batch; what does not belong is counted and the link opened anew."""
        reader = self._readers[name]
        try:
            messages = reader.receive(data, now_ns)
        except (MalformedBatch, VersionSkew):
            reader.refuse(now_ns)
            messages = None
        self._tell(name, reader, now_ns)
        return messages or []

    def request_images(self, instruments: set[str], now_ns: Nanos) -> None:
        """Have every writer put images of these instruments into its link, at most once in a while each."""
        wanted = {name for name in instruments if not 0 <= now_ns - self._fresh_ns.get(name, 0) < FRESH_EVERY_NS}
        if wanted:
            self._fresh_ns.update(dict.fromkeys(sorted(wanted), now_ns))
            for reader in self._readers.values():
                reader.refresh(wanted)
            self._is_eager = True

    def resumed(self) -> list[str]:
        """Give the writers whose links are up and went on exactly where they were."""
        return [name for name, reader in self._readers.items() if reader.is_up and reader.is_resumed]

    def closed(self) -> list[str]:
        """Give the writers that have ended their links for good."""
        return [name for name, reader in self._readers.items() if reader.closed]

    def up(self) -> list[str]:
        """Give the writers whose links are up."""
        return [name for name, reader in self._readers.items() if reader.is_up]

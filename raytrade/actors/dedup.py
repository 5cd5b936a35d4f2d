"""`Dedup`: hosts the arbiter of one shard. Lines of all collectors in, one stream out, over a link per consumer."""

from __future__ import annotations

import logging
import os
import secrets
from concurrent.futures import Future
from typing import Any

import msgspec
import ray

from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.arbitration import HELD_NS, Arbiter, ArbiterSettings, SnapshotWanted, line_totals
from raytrade.arbitration.crossing import CROSSED_NS
from raytrade.arbitration.stream import LineCounts, StreamCounts, StreamKey
from raytrade.core.arrivals import ArrivalLog
from raytrade.core.clock import Nanos
from raytrade.core.events import Channel
from raytrade.core.incidents import Incident
from raytrade.core.instrument import Filter
from raytrade.core.message import join
from raytrade.core.metrics import Histogram
from raytrade.errors import PipelineError
from raytrade.links.lanes import open_lane
from raytrade.links.opening import OpenLink, read_wish, reader_of
from raytrade.links.publisher import Publisher
from raytrade.links.shard import Shard
from raytrade.links.writer import LinkSettings
from raytrade.rules import rule_of

LINE_NUMBERS = tuple(name for name in LineCounts.__struct_fields__ if name != "lead")
STREAM_NUMBERS = tuple(name for name in StreamCounts.__struct_fields__ if name != "lines")
STREAMS_AT_ONCE = 20
"""Streams that are counted in one go: about half a millisecond, then the data has its turn."""
_log = logging.getLogger("raytrade.links")


class DedupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a dedup is to do; `shard` is (number, of how many). `arrivals`: keep a log of every copy.
    `crossed_ns`: how long a book may be crossed (0: any time).

    `region`: that of the collectors it follows, where there is a tier in each region; empty elsewhere. `region_label`:
    the label of nodes that names their region.
    """

    name: str
    collectors: list[str]
    shard: tuple[int, int] = (0, 1)
    same_node: str = "shm"
    busy_poll: bool = False
    links: LinkSettings = LinkSettings()
    arbiter: ArbiterSettings = ArbiterSettings(held_ns=HELD_NS)
    arrivals: bool = False
    crossed_ns: Nanos = CROSSED_NS
    region: str = ""
    region_label: str = ""


class Dedup:
    """One replica of one shard."""

    follows_lines = True
    """Whether its arbiter's lines are those of the collectors; else they are the dedups that it follows."""

    def __init__(self, plan: DedupPlan) -> None:
        self.plan = plan
        settings = msgspec.structs.replace(plan.arbiter, guard=self.follows_lines)
        crossed_ns = plan.crossed_ns if self.follows_lines else 0
        self._shard = Shard(plan.name, Arbiter(plan.name, rule_of, settings), rule_of, crossed_ns)
        self._publisher = Publisher(secrets.randbits(62) | 1, plan.links, self._shard.images, self._wake)
        self._arrivals = ArrivalLog(plan.name, secrets.randbits(62) | 1) if plan.arrivals else None
        self._refused: dict[str, str] = {}
        self._thread = MachineThread(plan.name, self._tick, busy_poll=plan.busy_poll)
        template = OpenLink(
            link=0, reader=plan.name, shard=plan.shard, replay=self.follows_lines, same_node=plan.same_node
        )
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.set_writers(plan.collectors)
        self._thread.start()

    # On the machine thread.

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        shard = self._shard
        self._upstreams.tick(now_ns)
        shard.resume(self._upstreams.resumed, now_ns)
        shard.advance(now_ns)
        self._give_out(now_ns)
        self._publisher.pump(now_ns)
        for note in self._publisher.notes():
            _log.warning("%s: %s", self.plan.name, note)
        shard.settle(now_ns)
        for incident, ts_ns, fields in shard.notes():
            self._upstreams.incidents.note(incident, ts_ns, **fields)
        if self._arrivals is not None:
            self._arrivals.cut(now_ns)
        due = [at for at in (shard.arbiter.deadline_ns(), self._publisher.due_ns()) if at is not None]
        return min(due) if due else None

    def _take(self, collector: str, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        messages = self._upstreams.receive(collector, data, now_ns)
        if self._arrivals is not None and messages:
            self._arrivals.note(messages, now_ns)
        self._shard.receive(collector, messages, now_ns)

    def _change(self, collector: str, is_up: bool, now_ns: Nanos) -> None:
        if not is_up:
            words = self._shard.lose(collector, now_ns)
            if self._arrivals is not None:
                self._arrivals.note(words, now_ns)

    def _give_out(self, now_ns: Nanos) -> None:
        messages = self._shard.output()
        if messages:
            self._publisher.append(messages)
            if self._arrivals is not None:
                self._arrivals.give(messages)
        for wanted in self._shard.arbiter.commands():
            self._request_snapshot(wanted, now_ns)

    def _request_snapshot(self, wanted: SnapshotWanted, now_ns: Nanos) -> None:
        """Ask one collector: the same one on every replica, another at the next attempt.

        Where books come in band the collectors may have one, which costs the venue nothing: links bring it.
        """
        if rule_of(wanted.instrument, Channel.BOOK).in_band and not wanted.line:
            self._upstreams.request_images({wanted.instrument}, now_ns)
        collectors = self._shard.whom_to_ask(wanted, self._upstreams.up())
        if collectors:
            self._ask(wanted, collectors)

    def _ask(self, wanted: SnapshotWanted, collectors: list[str]) -> None:
        """Ask the first; one without a line for it, or with its budget spent, says no, and the next is asked."""
        handle = self._upstreams.handle(collectors[0])
        if handle is None:
            self._answered(wanted, collectors, False)
            return
        answer = handle.request_snapshot.remote(wanted.instrument, wanted.line).future()

        def hand_on(done: Future[bool]) -> None:
            has_agreed = not done.cancelled() and done.exception() is None and done.result()
            self._thread.post(self._answered, wanted, collectors, has_agreed)

        answer.add_done_callback(hand_on)

    def _answered(self, wanted: SnapshotWanted, collectors: list[str], has_agreed: bool) -> None:
        instrument = wanted.instrument
        if has_agreed:
            self._refused.pop(instrument, None)
            now_ns, asked = self._thread.clock.now_ns(), {"instrument": instrument, "collector": collectors[0]}
            self._upstreams.incidents.note(Incident.SNAPSHOT_ASKED, now_ns, **asked, reason=wanted.reason)
        elif len(collectors) > 1:
            self._ask(wanted, collectors[1:])
        elif not wanted.line:
            self._refused[instrument] = "no collector can ask for a book now: no line, or the request budget is spent"

    def _arrivals_since(self, incarnation: int, number: int) -> list[bytes]:
        if self._arrivals is None:
            return []
        self._arrivals.cut(self._thread.clock.now_ns(), is_due=True)
        return self._arrivals.since(incarnation, number)

    def _wake(self, link: int, problem: str | None) -> None:
        self._thread.post(self._publisher.sent, link, problem)

    def _open(self, wish: OpenLink, reader: Any) -> int:
        self._publisher.open(wish, open_lane(wish, reader, self.plan.name), self._thread.clock.now_ns())
        return self._publisher.writer_id

    def _status(self) -> dict[str, Any]:
        streams = self._shard.arbiter.statistics()
        return {
            **self._head(),
            "streams": {_text_of(key): msgspec.to_builtins(counts) for key, counts in streams.items()},
            "lines": msgspec.to_builtins(line_totals(streams)),
        }

    def _add_counters(self, keys: list[StreamKey], found: dict[str, Any], leads: dict[str, Histogram]) -> None:
        """Add the plain numbers of some streams, and the leads of their lines."""
        streams = self._shard.arbiter.statistics()
        for key in keys:
            counts = streams[key]
            found["streams"][_text_of(key)] = {field: getattr(counts, field) for field in STREAM_NUMBERS}
            for line, part in counts.lines.items():
                total = found["lines"].setdefault(line, dict.fromkeys(LINE_NUMBERS, 0))
                for field in LINE_NUMBERS:
                    total[field] += getattr(part, field)
                leads.setdefault(line, Histogram()).merge(part.lead)

    def _head(self) -> dict[str, Any]:
        now_ns = self._thread.clock.now_ns()
        return {
            "name": self.plan.name,
            "role": "regional" if self.plan.region else "dedup",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "up": sorted(self._upstreams.up()),
            "problems": self._upstreams.problems()
            | self._refused
            | self._shard.alarms(now_ns)
            | self._publisher.problems(),
            "silent": self._shard.silent(),
            "upstreams": msgspec.to_builtins(self._upstreams.statistics()),
            "links": msgspec.to_builtins(self._publisher.statistics()),
            "lanes": self._publisher.lanes(),
            "slow": dict(self._publisher.episodes),
            "ring_bytes": self._publisher.ring.bytes_held,
            **self._upstreams.incidents.status(),
        }

    def _readiness(self) -> dict[str, list[str]]:
        live = self._shard.live()
        lines = self._shard.lines() if self.follows_lines else [*self._shard.up]
        return {"up": self._upstreams.up(), "lines": lines, "live": live}

    # Called by Ray.

    def receive_batch(self, collector: str, data: bytes) -> None:
        """Take a batch of a collector's link."""
        self._thread.post(self._take, collector, data)

    def open_link(self, wish: bytes, reader: Any) -> int:
        """Open a link to `reader`; gives this writer's id."""
        try:
            opening = read_wish(wish)
        except PipelineError as error:
            self._thread.post(self._publisher.refuse, reader_of(wish), str(error))
            raise
        return int(self._thread.call(self._open, opening, reader))

    def arrivals(self, incarnation: int, number: int) -> list[bytes]:
        """Give the blocks of the log of copies from `number` on; see `ArrivalLog.since`."""
        return list(self._thread.call(self._arrivals_since, incarnation, number))

    def set_collectors(self, names: list[str]) -> None:
        """Follow these collectors and no others."""
        self._thread.post(self._upstreams.set_writers, names)

    def readiness(self) -> dict[str, list[str]]:
        """Give the collectors whose links are up, the lines that are, and the books that can be used."""
        return dict(self._thread.call(self._readiness))

    def images(self, filters: list[str]) -> bytes:
        """Give the state of the wanted streams as messages."""
        return bytes(self._thread.call(lambda: join(self._shard.images(Filter(*filters)))))

    def status(self) -> dict[str, Any]:
        """Give the state of streams, lines and links."""
        return dict(self._thread.call(self._status))

    def counters(self) -> dict[str, Any]:
        """Give the status without what each line gave to each stream, in slices: cheap enough for once a second."""
        found = {**self._thread.call(self._head), "streams": {}, "lines": {}}
        keys = self._thread.call(lambda: list(self._shard.arbiter.statistics()))
        leads: dict[str, Histogram] = {}
        for start in range(0, len(keys), STREAMS_AT_ONCE):
            self._thread.call(self._add_counters, keys[start : start + STREAMS_AT_ONCE], found, leads)
        for line, lead in leads.items():
            found["lines"][line]["lead"] = msgspec.to_builtins(lead)
        return found

    def is_drained(self) -> bool:
        """Tell whether every reader has everything."""
        return bool(self._thread.call(self._is_drained))

    def _is_drained(self) -> bool:
        self._give_out(self._thread.clock.now_ns())
        return self._publisher.is_drained() and not self._shard.arbiter.is_holding()


def _text_of(key: StreamKey) -> str:
    return f"{key[0]}/{key[1].name.lower()}"

"""`GlobalDedup`: merges what the dedups of several regions give out; the output of an arbiter is a line again.

Of most of them it takes digests alone (`raytrade.links.payloads`): it knows what it would lack, and asks for that.
"""

from __future__ import annotations

from typing import Any

import ray

from raytrade.actors.dedup import Dedup, DedupPlan
from raytrade.actors.history import CHAINED
from raytrade.arbitration import HELD_NS, ArbiterSettings, Rule, SnapshotWanted
from raytrade.arbitration.stream import StreamKey
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.message import Kind
from raytrade.links.payloads import Payloads
from raytrade.rules import rule_of

GLOBAL_ARBITER = ArbiterSettings(held_ns=HELD_NS, passed_ns=SECOND, hold_back_ns_min=SECOND)
"""A hole is held open for as long as it takes to have it filled from across an ocean."""
LOOK_NS = 50 * MILLISECOND


class GlobalDedupPlan(DedupPlan, frozen=True, kw_only=True):
    """What a global dedup is to do. `regions`: whom it follows, each with its region; `primary`: see `Payloads`."""

    regions: dict[str, str]
    primary: str = ""


class GlobalDedup(Dedup):
    """One replica of one shard, behind the dedups of the regions."""

    follows_lines = False

    def __init__(self, plan: GlobalDedupPlan) -> None:
        self._home = str(ray.get_runtime_context().get_node_labels().get(plan.region_label, ""))
        self._primary = plan.primary
        self._looked_ns: Nanos = 0
        self._digests: frozenset[str] = frozenset()
        self._payloads = Payloads(plan.name, plan.regions, self._home, plan.primary)
        super().__init__(plan)

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        if not 0 <= now_ns - self._looked_ns < LOOK_NS:
            self._look(now_ns)
        due_ns = super()._tick(now_ns)
        return self._looked_ns + LOOK_NS if due_ns is None else min(due_ns, self._looked_ns + LOOK_NS)

    def _look(self, now_ns: Nanos) -> None:
        """Decide who sends and who tells."""
        self._looked_ns = now_ns
        streams = self._shard.arbiter.statistics()
        positions = {key: counts.last_id or 0 for key, counts in streams.items()}
        digests = self._payloads.review(positions, self._upstreams.up(), now_ns)
        if digests != self._digests:
            self._digests = digests
            self._upstreams.set_digests(digests, {_text_of(key): at for key, at in positions.items() if _counts(key)})

    def _take(self, collector: str, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        messages = self._upstreams.receive(collector, data, now_ns)
        if self._arrivals is not None and messages:
            self._arrivals.note([one for one in messages if one.kind is not Kind.DIGEST], now_ns)
        for message in messages:
            if message.kind is Kind.DIGEST:
                self._payloads.hear(collector, message.stream, message.id_last)
                continue
            if message.kind is Kind.GAP:
                self._payloads.miss(collector, message.stream, message.id_last, self._upstreams.up(), now_ns)
                self._looked_ns = 0
            self._shard.arbiter.receive(collector, message, now_ns)

    def _change(self, collector: str, is_up: bool, now_ns: Nanos) -> None:
        """Who only tells what there is, is none of the arbiter's lines."""
        if not is_up:
            self._shard.arbiter.receive_line_down(collector, now_ns)
        elif collector not in self._digests:
            self._shard.arbiter.receive_line_up(collector, now_ns)

    def _request_snapshot(self, wanted: SnapshotWanted, now_ns: Nanos) -> None:
        self._upstreams.request_images({wanted.instrument}, now_ns)

    def _follow(self, regions: dict[str, str]) -> None:
        self._payloads = Payloads(self.plan.name, regions, self._home, self._primary)
        self._upstreams.set_writers(list(regions))
        self._look(self._thread.clock.now_ns())

    def _head(self) -> dict[str, Any]:
        return {**super()._head(), "digests": sorted(self._digests), "helped": self._payloads.helped}

    # Called by Ray.

    def set_regions(self, regions: dict[str, str]) -> None:
        """Follow these dedups, each with its region, and no others."""
        self._thread.post(self._follow, regions)


def _counts(stream: StreamKey) -> bool:
    """Tell whether the ids of a stream are the venue's own, so that another writer can go on behind one."""
    return rule_of(*stream).rule in (*CHAINED, Rule.TRADE)


def _text_of(stream: StreamKey) -> str:
    return f"{stream[0]}/{stream[1].name.lower()}"

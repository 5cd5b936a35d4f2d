"""`Recorder`: arbitrates between the dedup replicas and appends what is left to Parquet segments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import ray

from raytrade.actors.arrivals import ArrivalsFeed
from raytrade.actors.history import History
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.coverage import Coverage
from raytrade.core.events import Channel, Flag
from raytrade.core.message import Kind, Message
from raytrade.errors import StorageError
from raytrade.links.writer import OpenLink
from raytrade.rules import rule_of
from raytrade.storage.durable import next_indexes
from raytrade.storage.sink import ParquetSink, SinkSettings

FLUSH_EVERY_NS = SECOND
PATIENCE_NS = 20 * MILLISECOND
"""A recorder is in no hurry: larger batches leave the processor to those who are."""


class RecorderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a recorder is to do; `directory` is on its own host."""

    name: str
    dedups: list[str]
    directory: str
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"
    sink: SinkSettings = SinkSettings()
    arbiter: ArbiterSettings = ArbiterSettings()
    arrivals: bool = False


class Recorder:
    """Records from its construction on, going on after the last ids it finds in the directory."""

    def __init__(self, plan: RecorderPlan) -> None:
        self.plan = plan
        directory = Path(plan.directory)
        self._sink = ParquetSink(directory, plan.sink, next_indexes(directory), certify=True)
        self._arbiter = Arbiter(plan.name, rule_of, plan.arbiter)
        self._history = History(directory)
        self._coverage: dict[str, Coverage] = {}
        self._streams: dict[tuple[str, Channel], Coverage] = {}
        self._problem = ""
        self._flushed_ns: Nanos = 0
        self._thread = MachineThread(plan.name, self._tick)
        template = OpenLink(
            link=0, reader=plan.name, filters=plan.filters, same_node=plan.same_node, spacing_ns=PATIENCE_NS
        )
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.positions = self._history.positions
        self._upstreams.set_writers(plan.dedups)
        self._go_on(plan.dedups)
        self._arrivals = self._sink.arrivals() if plan.arrivals else None
        self._thread.start()
        self._feed = (
            ArrivalsFeed(plan.dedups, self._arrivals.cursors, self._fetched) if self._arrivals is not None else None
        )

    def _fetched(self, blocks: list[bytes]) -> None:
        """Hand the blocks over and wait until they are taken (on the feed's thread)."""
        self._thread.call(self._take_arrivals, blocks, timeout_s=60)

    def _take_arrivals(self, blocks: list[bytes]) -> None:
        assert self._arrivals is not None
        try:
            self._arrivals.write(blocks, self._thread.clock.now_ns())
        except StorageError as error:
            self._problem = str(error)

    def _go_on(self, dedups: list[str]) -> None:
        """Put the arbiter where the files end: what they hold is a copy, and what follows on needs no image."""
        now_ns = self._thread.clock.now_ns()
        for opening in self._history.openings():
            for dedup in dedups:
                self._arbiter.receive(dedup, opening, now_ns)
        self._arbiter.output()
        self._sink.write(self._history.breaks(now_ns), now_ns)

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self._upstreams.tick(now_ns)
        due_ns = self._arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._arbiter.receive_timeout(now_ns)
        self._write(now_ns)
        return self._arbiter.deadline_ns()

    def _take(self, dedup: str, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        for message in self._upstreams.receive(dedup, data, now_ns):
            if not self._history.has(message):
                self._arbiter.receive(dedup, message, now_ns)

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self._arbiter.receive_line_up if is_up else self._arbiter.receive_line_down)(dedup, now_ns)

    def _write(self, now_ns: Nanos) -> None:
        messages = self._arbiter.output()
        wanted = {command.instrument for command in self._arbiter.commands()}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        for message in messages:
            self._cover(message)
        try:
            self._sink.write(messages, now_ns)
            if now_ns - self._flushed_ns >= FLUSH_EVERY_NS:
                self._flushed_ns = now_ns
                self._sink.flush_due(now_ns)
                if self._arrivals is not None:
                    self._arrivals.flush_due(now_ns)
                self._problem = ""
        except StorageError as error:
            self._problem = str(error)

    def _cover(self, message: Message) -> None:
        is_data = message.kind in (Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE)
        if not is_data or message.flags & (Flag.UNAPPLIED | Flag.HISTORY):
            return
        self._history.follow(message)
        if message.kind is Kind.DELTA or message.kind is Kind.TRADE:
            self._stream(message).observe(message.id_prev, message.id_last)
        elif message.kind is Kind.SNAPSHOT:
            self._stream(message).start(message.id_last)

    def _stream(self, message: Message) -> Coverage:
        coverage = self._streams.get(message.stream)
        if coverage is None:
            coverage = self._streams[message.stream] = Coverage()
            self._coverage[f"{message.instrument}/{message.channel.name.lower()}"] = coverage
        return coverage

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "role": "recorder",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "directory": self.plan.directory,
            "problem": self._problem,
            "sink": msgspec.to_builtins(self._sink.counts),
            "arrivals": self._arrivals_status(),
            "coverage": msgspec.to_builtins(self._coverage),
            "up": sorted(self._upstreams.up()),
            "problems": self._upstreams.problems(),
            "upstreams": msgspec.to_builtins(self._upstreams.statistics()),
        }

    def _arrivals_status(self) -> dict[str, int]:
        sink = self._arrivals
        if sink is None:
            return {}
        return {"rows": sink.rows_written, "bytes": sink.bytes_written, "blocks_missing": sink.blocks_missing}

    def _release(self) -> None:
        self._arbiter.release()
        self._write(self._thread.clock.now_ns())

    def _flush(self) -> str:
        self._write(self._thread.clock.now_ns())
        try:
            self._sink.flush()
            if self._arrivals is not None:
                self._arrivals.flush()
        except StorageError as error:
            return str(error)
        return ""

    def _close(self) -> str:
        try:
            self._sink.close()
        except StorageError as error:
            return str(error)
        return ""

    # Called by Ray.

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link."""
        self._thread.post(self._take, dedup, data)

    def set_dedups(self, names: list[str]) -> None:
        """Follow these replicas and no others."""
        self._thread.post(self._upstreams.set_writers, names)
        if self._feed is not None:
            self._feed.set_dedups(names)

    def flush(self) -> str:
        """Write everything taken so far; gives the problem, or an empty text."""
        return str(self._thread.call(self._flush, timeout_s=120))

    def status(self) -> dict[str, Any]:
        """Give the state of files, streams and links."""
        return dict(self._thread.call(self._status))

    def stop(self) -> str:
        """Write everything and end; gives the problem, or an empty text."""
        if self._feed is not None:
            self._feed.stop()
        self._thread.call(self._release)
        problem = self.flush() or str(self._thread.call(self._close, timeout_s=120))
        self._thread.stop()
        return problem

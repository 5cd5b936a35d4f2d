"""`Recorder`: arbitrates between the dedup replicas and appends what is left to Parquet segments.

Two threads: one reads the links at once, whatever the disk does; the other arbitrates and writes. Between them lies
the `Intake`, which spills to disk when files are written more slowly than updates come.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import ray

from raytrade.actors.arrivals import ArrivalsFeed
from raytrade.actors.carrier import Carried, Carrier
from raytrade.actors.history import History
from raytrade.actors.intake import Intake
from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MachineThread
from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.coverage import Coverage
from raytrade.core.events import Channel
from raytrade.core.incidents import Incident
from raytrade.core.members import SNAPSHOT, TRADE, WITHHELD
from raytrade.core.message import Message
from raytrade.errors import PipelineError, StorageError
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.links.spill import Arrived, SpillQueue
from raytrade.links.spill_files import SpillFiles
from raytrade.rules import rule_of
from raytrade.storage.durable import next_indexes
from raytrade.storage.postgres import PostgresSink, address_of
from raytrade.storage.recovery import recover
from raytrade.storage.remote import Place, Uploader
from raytrade.storage.retention import prune
from raytrade.storage.sink import ParquetSink, SinkSettings

FLUSH_EVERY_NS = SECOND
PRUNE_EVERY_NS = 3600 * SECOND
PATIENCE_NS = 20 * MILLISECOND
"""A recorder is in no hurry: larger batches leave the processor to those who are."""
FULL_RETRY_NS = 5 * MILLISECOND
FILES_TIMEOUT_S = 3.0
MAILBOX_ITEMS_MAX = 64
"""Batches of a call lane that may wait for the links' thread; it takes each at once."""
_log = logging.getLogger("raytrade.storage")


class RecorderPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a recorder is to do; `directory` is on its own host."""

    name: str
    dedups: list[str]
    directory: str
    filters: tuple[str, ...] = ("*",)
    same_node: str = "shm"
    policy: Policy = Policy.SPILL
    spill_bytes_max: int = 1024 * 1024 * 1024
    spill_directory: str = ""
    memory_bytes_max: int = 32 * 1024 * 1024
    busy_poll: bool = False
    sink: SinkSettings = SinkSettings()
    arbiter: ArbiterSettings = ArbiterSettings()
    arrivals: bool = False
    retention_days: int = 0
    """Older days are removed; 0 keeps all."""
    target: str = ""
    """Where what is closed is carried: a URI."""
    database: str = ""
    """Where it is copied to as well: see `raytrade.storage.postgres.address_of`."""


class Recorder:
    """Records from its construction on, going on after the last ids it finds in the directory."""

    def __init__(self, plan: RecorderPlan) -> None:
        self.plan = plan
        directory = Path(plan.directory)
        self._problem = _recover(plan)
        self._sink = ParquetSink(directory, plan.sink, next_indexes(directory), certify=True)
        self._arbiter = Arbiter(plan.name, rule_of, plan.arbiter)
        self._history = History(directory)
        self._coverage: dict[str, Coverage] = {}
        self._streams: dict[tuple[str, Channel], Coverage] = {}
        self._flushed_ns: Nanos = 0
        self._pruned_ns: Nanos = 0
        self._time_ns: Nanos = 0
        self._thread = MachineThread(
            plan.name, self._tick, busy_poll=plan.busy_poll, mailbox_items_max=MAILBOX_ITEMS_MAX
        )
        self._writer = MachineThread(f"{plan.name}-files", self._work)
        spilled = SpillFiles(Path(plan.spill_directory) if plan.spill_directory else directory)
        queue = SpillQueue(spilled, plan.memory_bytes_max, plan.spill_bytes_max)
        self._intake = Intake(plan.name, queue, self._writer.wake)
        template = OpenLink(
            link=0,
            reader=plan.name,
            filters=plan.filters,
            same_node=plan.same_node,
            policy=plan.policy,
            spacing_ns=PATIENCE_NS,
        )
        self._upstreams = Upstreams(plan.name, template, self._thread, self._take, self._change)
        self._upstreams.positions = self._history.positions
        self._upstreams.set_writers(plan.dedups)
        self._go_on(plan.dedups)
        self._arrivals = self._sink.arrivals() if plan.arrivals else None
        self._carriers = {name: Carrier(carried, self._note_carrier) for name, carried in _carried(plan).items()}
        self._writer.start()
        self._thread.start()
        self._feed = (
            ArrivalsFeed(plan.dedups, self._arrivals.cursors, self._fetched) if self._arrivals is not None else None
        )

    def _note_carrier(self, problem: str) -> None:
        """Say that the target does not take what is recorded, or does again (on the carrier's thread)."""
        self._writer.post(self._tell_carrier, problem)

    def _tell_carrier(self, problem: str) -> None:
        incidents, now_ns = self._upstreams.incidents, self._writer.clock.now_ns()
        if problem:
            incidents.note(Incident.CARRYING_FAILED, now_ns, problem=problem)
        else:
            incidents.note(Incident.CARRYING_RESUMED, now_ns, target=self.plan.target or "the database")

    def _fetched(self, blocks: list[bytes]) -> None:
        """Hand the blocks over and wait until they are taken (on the feed's thread)."""
        self._writer.call(self._take_arrivals, blocks, timeout_s=60)

    def _take_arrivals(self, blocks: list[bytes]) -> None:
        assert self._arrivals is not None
        try:
            self._arrivals.write(blocks, self._writer.clock.now_ns())
        except StorageError as error:
            self._problem = str(error)

    def _go_on(self, dedups: list[str]) -> None:
        """Put the arbiter where the files end: what they hold is a copy, and what follows on needs no image.

        Unless they end inside a gap: that stands there already, and a book has to come.
        """
        now_ns = self._thread.clock.now_ns()
        for opening in self._history.openings():
            for dedup in dedups:
                self._arbiter.receive(dedup, opening, now_ns)
        for doubt in self._history.doubts(now_ns):
            for dedup in dedups[:1]:
                self._arbiter.receive(dedup, doubt, now_ns)
        self._arbiter.output()
        self._sink.write(self._history.breaks(now_ns), now_ns)

    # On the links' thread.

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        if self._intake.is_full:
            self._intake.push()
        if self._intake.is_full and not self._upstreams.is_paused:
            self._upstreams.pause()
        elif self._upstreams.is_paused and not self._intake.is_full:
            self._upstreams.resume()
        self._upstreams.tick(now_ns)
        return now_ns + FULL_RETRY_NS if self._upstreams.is_paused else None

    def _take(self, dedup: str, data: bytes) -> None:
        now_ns = self._thread.clock.now_ns()
        messages = self._upstreams.receive(dedup, data, now_ns)
        if messages:
            self._intake.put(Arrived(dedup, now_ns, messages))

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        self._intake.put(Arrived(dedup, now_ns, [], is_up))

    # On the files' thread.

    def _work(self, now_ns: Nanos) -> Nanos | None:
        if not self._is_stuck():
            for arrived in self._intake.take():
                self._arbitrate(arrived)
        if self._intake.is_empty():
            self._advance(now_ns)
        self._write(now_ns)
        if not self._intake.is_empty() and not self._is_stuck():
            return now_ns
        due = [at for at in (self._arbiter.deadline_ns(), self._sink.due_ns()) if at is not None]
        return min(due, default=None)

    def _is_stuck(self) -> bool:
        """Tell whether so much could not be written that more must wait outside of memory."""
        return self._sink.counts.bytes_pending >= self.plan.sink.pending_bytes_max

    def _advance(self, now_ns: Nanos) -> None:
        """Let the arbiter's time pass: it is that of arrivals, so that what still waits cannot be given up for lost."""
        self._time_ns = max(self._time_ns, now_ns)
        due_ns = self._arbiter.deadline_ns()
        if due_ns is not None and self._time_ns >= due_ns:
            self._arbiter.receive_timeout(self._time_ns)

    def _arbitrate(self, arrived: Arrived) -> None:
        arbiter, dedup = self._arbiter, arrived.writer
        self._advance(arrived.ts_ns)
        now_ns = self._time_ns
        if arrived.is_up is not None:
            (arbiter.receive_line_up if arrived.is_up else arbiter.receive_line_down)(dedup, now_ns)
        for message in arrived.messages:
            if not self._history.has(message):
                arbiter.receive(dedup, message, now_ns)

    def _write(self, now_ns: Nanos) -> None:
        messages = self._arbiter.output()
        wanted = {command.instrument for command in self._arbiter.commands()}
        if wanted:
            self._thread.post(self._upstreams.request_images, wanted, now_ns)
        for message in messages:
            self._cover(message)
        try:
            self._sink.write(messages, now_ns)
            if not 0 <= now_ns - self._flushed_ns < FLUSH_EVERY_NS:
                self._flushed_ns = now_ns
                self._sink.flush_due(now_ns)
                if self._arrivals is not None:
                    self._arrivals.flush_due(now_ns)
                self._prune(now_ns)
                self._tell("", now_ns)
        except StorageError as error:
            self._tell(str(error), now_ns)

    def _prune(self, now_ns: Nanos) -> None:
        if any(carrier.is_behind() for carrier in self._carriers.values()):
            return
        if self.plan.retention_days and now_ns - self._pruned_ns >= PRUNE_EVERY_NS:
            self._pruned_ns = now_ns
            prune(Path(self.plan.directory), self.plan.retention_days, now_ns)

    def _tell(self, problem: str, now_ns: Nanos) -> None:
        before, self._problem = self._problem, problem
        if problem and not before:
            self._upstreams.incidents.note(Incident.RECORDING_FAILED, now_ns, problem=problem)
        elif before and not problem:
            self._upstreams.incidents.note(Incident.RECORDING_RESUMED, now_ns, directory=self.plan.directory)

    def _cover(self, message: Message) -> None:
        kind = message.kind
        if kind > TRADE or message.flags & WITHHELD:
            return
        self._history.follow(message)
        if kind is SNAPSHOT:
            self._stream(message).start(message.id_last)
        else:
            self._stream(message).observe(message.id_prev, message.id_last)

    def _stream(self, message: Message) -> Coverage:
        stream = (message.instrument, message.channel)
        coverage = self._streams.get(stream)
        if coverage is None:
            coverage = self._streams[stream] = Coverage()
            self._coverage[f"{message.instrument}/{message.channel.name.lower()}"] = coverage
        return coverage

    def _files_status(self) -> dict[str, Any]:
        return {
            "problem": self._problem,
            "disk_free_bytes": _free_bytes(self.plan.directory),
            "sink": msgspec.to_builtins(self._sink.counts),
            "arrivals": self._arrivals_status(),
            "carried": {name: msgspec.to_builtins(carrier.counts) for name, carrier in self._carriers.items()},
            "coverage": msgspec.to_builtins(self._coverage),
        }

    def _status(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "role": "recorder",
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "directory": self.plan.directory,
            "policy": self.plan.policy.value,
            "spill": self._intake.status(),
            "up": sorted(self._upstreams.up()),
            "problems": self._upstreams.problems(),
            "upstreams": msgspec.to_builtins(self._upstreams.statistics()),
            **self._upstreams.incidents.status(),
        }

    def _arrivals_status(self) -> dict[str, int]:
        sink = self._arrivals
        if sink is None:
            return {}
        return {"rows": sink.rows_written, "bytes": sink.bytes_written, "blocks_missing": sink.blocks_missing}

    def _release(self) -> None:
        self._take_all()
        self._arbiter.release()
        self._write(self._writer.clock.now_ns())

    def _take_all(self) -> None:
        while taken := self._intake.take():
            for arrived in taken:
                self._arbitrate(arrived)

    def _flush(self) -> str:
        self._take_all()
        self._write(self._writer.clock.now_ns())
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
        self._intake.wait_for_room()
        self._thread.post(self._take, dedup, data)

    def set_dedups(self, names: list[str]) -> None:
        """Follow these replicas and no others."""
        self._thread.post(self._upstreams.set_writers, names)
        if self._feed is not None:
            self._feed.set_dedups(names)

    def readiness(self) -> dict[str, list[str]]:
        """Give the dedups whose links are up, and the streams of which something has come."""
        return dict(self._thread.call(lambda: {"up": self._upstreams.up(), "live": list(self._coverage)}))

    def flush(self) -> str:
        """Write everything taken so far; gives the problem, or an empty text."""
        self._thread.call(self._intake.push)
        return str(self._writer.call(self._flush, timeout_s=120))

    def status(self) -> dict[str, Any]:
        """Give the state of files, streams and links; where the disk does not answer, that is said instead."""
        status = dict(self._thread.call(self._status))
        try:
            return status | dict(self._writer.call(self._files_status, timeout_s=FILES_TIMEOUT_S))
        except PipelineError:
            nothing: dict[str, Any] = {"sink": {}, "arrivals": {}, "carried": {}, "coverage": {}}
            return status | {"problem": "the disk does not answer"} | nothing

    def stop(self) -> str:
        """Write everything and end; gives the problem, or an empty text."""
        if self._feed is not None:
            self._feed.stop()
        self._thread.call(self._intake.push)
        self._writer.call(self._release, timeout_s=120)
        problem = self.flush() or str(self._writer.call(self._close, timeout_s=120))
        for carrier in self._carriers.values():
            problem = carrier.stop() or problem
        self._thread.stop()
        self._writer.stop()
        self._intake.close()
        return problem


def _carried(plan: RecorderPlan) -> dict[str, Carried]:
    carried: dict[str, Carried] = {}
    if plan.target:
        carried["target"] = Uploader(Path(plan.directory), Place(plan.target))
    if plan.database:
        carried["database"] = PostgresSink(Path(plan.directory), address_of(plan.database))
    return carried


def _recover(plan: RecorderPlan) -> str:
    """Make segments of what the recorder before us left in its log; gives the problem, for which it waits on."""
    try:
        done = recover(Path(plan.directory), plan.sink)
    except StorageError as error:
        return str(error)
    for line in done.damaged:
        _log.warning("%s: %s", plan.name, line)
    if done.starts:
        _log.info("%s: %d messages recovered from the log of %s", plan.name, done.messages, ", ".join(done.starts))
    return ""


def _free_bytes(directory: str) -> int:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0

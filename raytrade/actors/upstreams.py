"""`Upstreams`: the reading side of an actor: one link from each writer, opened anew whenever it is lost."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from raytrade.actors.incidents import Incidents
from raytrade.actors.worker import MachineThread
from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.core.events import Channel
from raytrade.core.incidents import Incident
from raytrade.core.message import Kind, Message
from raytrade.errors import ConfigError, MalformedBatch, RaytradeError, VersionSkew
from raytrade.links.local import LocalListener, LocalReceiver, host_id
from raytrade.links.opening import OpenLink
from raytrade.links.reader import LinkReader, ReaderCounts
from raytrade.rules import rule_of

NAMESPACE = "raytrade"
OPEN_TIMEOUT_S = 10.0
FRESH_EVERY_NS = SECOND
SLICE_NS = 10 * MILLISECOND
SMALL_BYTES = 4096
LOOK_NS = 20 * MILLISECOND
DIGEST_SPACING_NS = 50 * MILLISECOND
_log = logging.getLogger("raytrade.links")
AWAY_NS = 300 * MILLISECOND
"""A thread that was away for longer did not listen: writers were not silent because of it."""


class Upstreams:
    """Keeps links open; all methods but the opening itself run on the owner's machine thread."""

    def __init__(
        self,
        name: str,
        template: OpenLink,
        thread: MachineThread,
        on_batch: Callable[[str, bytes], None],
        on_change: Callable[[str, bool, Nanos], None],
    ) -> None:
        """`on_batch(writer, data)` is given what comes over local lanes; it must end in `receive`, as actor calls do.

        `on_change(writer, is_up, now_ns)` is told when a link comes up or is lost.
        """
        self.incidents = Incidents(name)
        self._name = name
        self._template = template
        self._thread = thread
        self._on_batch = on_batch
        self._on_change = on_change
        self._me = ray.get_runtime_context().current_actor
        self._readers: dict[str, LinkReader] = {}
        self._told: dict[str, bool] = {}
        self._handles: dict[str, Any] = {}
        self.positions: dict[str, int] = {}
        """The last ids that the owner has safe, from where a link goes on when a writer does not know it."""
        self._opening: set[str] = set()
        self._problems: dict[str, str] = {}
        self._fresh_ns: dict[str, Nanos] = {}
        self._ticked_ns: Nanos = 0
        self._digests: frozenset[str] = frozenset()
        self._is_eager = False
        self._results: deque[tuple[str, int, str]] = deque()
        self._opener = ThreadPoolExecutor(max_workers=4, thread_name_prefix="opener")
        self._listener: LocalListener | None = None
        self._receivers: list[LocalReceiver] = []
        self._known: set[tuple[str, Channel]] = set()
        self.is_paused = False
        """Whether links are left unread, because their owner has no room for what they bring."""
        if template.same_node == "shm":
            self._listen()

    def _listen(self) -> None:
        """Offer a local lane; where the system has none, links take the other one."""
        try:
            self._listener = LocalListener()
        except (OSError, AttributeError):
            return
        self._template = msgspec.structs.replace(
            self._template,
            host=host_id(),
            local_address=self._listener.address,
            local_token=self._listener.token,
        )
        self._thread.watch(self._listener, self._accept)

    def _accept(self) -> None:
        receiver = self._listener.accept() if self._listener is not None else None
        if receiver is not None:
            self._receivers.append(receiver)
            if not self.is_paused:
                self._watch(receiver)

    def _watch(self, receiver: LocalReceiver) -> None:
        self._thread.watch(receiver, lambda: self._read(receiver))

    def pause(self) -> None:
        """Read no further: what comes waits with the writers."""
        self.is_paused = True
        for receiver in self._receivers:
            self._thread.unwatch(receiver)

    def resume(self) -> None:
        """Read on."""
        self.is_paused = False
        for receiver in self._receivers:
            self._watch(receiver)

    def _read(self, receiver: LocalReceiver) -> None:
        """Take batches one by one, but not for long: calls and deadlines must have their turn.

        A small batch is most often the only one; if it is not, the thread is woken again at once.
        """
        clock = self._thread.clock
        until_ns = clock.now_ns() + SLICE_NS
        while batches := receiver.read(1):
            self._on_batch(receiver.writer, batches[0])
            if len(batches[0]) < SMALL_BYTES or clock.now_ns() >= until_ns or self.is_paused:
                return
        if receiver.problem:
            self._refuse(receiver.writer, receiver.problem)
        if batches is None or receiver.problem:
            self._thread.unwatch(receiver)
            self._receivers.remove(receiver)
            receiver.close()

    def set_writers(self, names: list[str]) -> None:
        """Follow these writers and no others."""
        for name in [name for name in self._readers if name not in names]:
            del self._readers[name]
            self._problems.pop(name, None)
            if self._told.pop(name, False):
                self._on_change(name, False, self._thread.clock.now_ns())
        for name in names:
            if name not in self._readers:
                self._readers[name] = LinkReader(name, secrets.randbits(62), check=self._check)
        self._is_eager = True

    def set_filters(self, filters: tuple[str, ...]) -> None:
        """Wish for these streams in every link that is opened from now on."""
        self._template = msgspec.structs.replace(self._template, filters=filters)

    def tick(self, now_ns: Nanos) -> None:
        """Open what is not open; tell what was lost; looks at most every `LOOK_NS`, however often it is called."""
        if 0 <= now_ns - self._ticked_ns < LOOK_NS and not self._results and not self._is_eager:
            return
        self._is_eager = False
        while self._results:
            self._opened(*self._results.popleft(), now_ns)
        away_ns, self._ticked_ns = now_ns - self._ticked_ns, now_ns
        for name, reader in self._readers.items():
            if away_ns > AWAY_NS or self.is_paused:
                reader.excuse(away_ns, now_ns)
            if not self.is_paused and reader.must_open(now_ns) and name not in self._opening:
                self._opening.add(name)
                template = self._template_for(name)
                self._opener.submit(self._open, name, reader.wish(self._name, template, now_ns))
            self._tell(name, reader, now_ns)

    def _template_for(self, name: str) -> OpenLink:
        if name in self._digests:
            return msgspec.structs.replace(self._template, digest=True, spacing_ns=DIGEST_SPACING_NS)
        return msgspec.structs.replace(self._template, positions=dict(self.positions))

    def set_digests(self, names: frozenset[str], positions: dict[str, int]) -> None:
        """Have these writers send digests only; one that no longer does sends what follows on `positions`."""
        changed, self._digests = self._digests ^ names, names
        if changed:
            self.positions = positions
        for name in changed & self._readers.keys():
            self._readers[name].start_over()
            self._tell(name, self._readers[name], self._thread.clock.now_ns())
        self._is_eager = True

    def _tell(self, name: str, reader: LinkReader, now_ns: Nanos) -> None:
        if self._told.get(name, False) != reader.is_up:
            self._told[name] = reader.is_up
            if reader.is_up:
                self.incidents.note(Incident.LINK_UP, now_ns, writer=name, openings=reader.counts.openings)
            else:
                self.incidents.note(Incident.LINK_DOWN, now_ns, writer=name, cause=self._problems.get(name, "silent"))
            self._on_change(name, reader.is_up, now_ns)

    def receive(self, name: str, data: bytes, now_ns: Nanos) -> list[Message]:
        """Take a batch; what does not belong is counted and the link opened anew."""
        reader = self._readers.get(name)
        if reader is None:
            return []
        try:
            messages = reader.receive(data, now_ns)
        except (MalformedBatch, VersionSkew) as error:
            self._refuse(name, str(error))
            messages = None
        if reader.closed and name not in self._problems:
            self._problems[name] = reader.closed
            _log.error("%s: %s closed the link: %s", self._name, name, reader.closed)
        self._tell(name, reader, now_ns)
        return messages or []

    def _check(self, messages: list[Message]) -> None:
        for message in messages:
            if (message.instrument, message.channel) not in self._known:
                self._learn(message)

    def _learn(self, message: Message) -> None:
        """A stream that no rule is known for would end its reader."""
        try:
            if ":" in message.instrument or message.kind not in (Kind.LINE_UP, Kind.LINE_DOWN):
                rule_of(message.instrument, message.channel)
        except (ConfigError, KeyError):
            raise MalformedBatch(f"no venue is known for {message.instrument}") from None
        self._known.add((message.instrument, message.channel))

    def _refuse(self, name: str, problem: str) -> None:
        """What came over the link is none of ours: count it, say so once, and open the link anew."""
        reader = self._readers.get(name)
        if reader is None:
            return
        reader.refuse(self._thread.clock.now_ns())
        if reader.counts.refused != problem:
            _log.error("%s: refused a batch of %s: %s", self._name, name, problem)
        reader.counts.refused = self._problems[name] = problem

    def request_images(self, instruments: set[str], now_ns: Nanos) -> None:
        """Have every writer put images of these instruments into its link, at most once in `FRESH_EVERY_NS` each."""
        wanted = {name for name in instruments if not 0 <= now_ns - self._fresh_ns.get(name, 0) < FRESH_EVERY_NS}
        if not wanted:
            return
        self._fresh_ns.update(dict.fromkeys(wanted, now_ns))
        for reader in self._readers.values():
            reader.refresh(wanted)
        self._is_eager = True

    def _open(self, name: str, wish: OpenLink) -> None:
        """Ask the writer's actor (on an opener thread)."""
        writer_id, problem = 0, ""
        try:
            handle = self._handles.get(name)
            if handle is None:
                handle = self._handles[name] = ray.get_actor(name, namespace=NAMESPACE)
            writer_id = ray.get(handle.open_link.remote(msgspec.msgpack.encode(wish), self._me), timeout=OPEN_TIMEOUT_S)
        except (RayError, ValueError, TimeoutError) as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, RaytradeError):
                problem = f"{name} refuses: {cause}"
            else:
                self._handles.pop(name, None)
                problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        finally:
            self._results.append((name, writer_id, problem or ("" if writer_id else "not opened")))
            self._thread.wake()

    def _opened(self, name: str, writer_id: int, problem: str, now_ns: Nanos) -> None:
        self._opening.discard(name)
        reader = self._readers.get(name)
        if reader is None:
            return
        if problem:
            if self._problems.get(name) != problem:
                _log.warning("%s: no link to %s: %s", self._name, name, problem)
            self._problems[name] = problem
        else:
            reader.opened(writer_id, now_ns)
            self._problems.pop(name, None)

    def handle(self, name: str) -> Any | None:
        """Give the actor of a writer whose link was opened."""
        return self._handles.get(name)

    def resumed(self) -> list[str]:
        """Give the writers whose links are up and went on exactly where they were."""
        return [name for name, reader in self._readers.items() if reader.is_up and reader.is_resumed]

    def close(self) -> None:
        """Let go of sockets and threads: the owner ends."""
        self._opener.shutdown(wait=False, cancel_futures=True)
        while self._receivers:
            receiver = self._receivers.pop()
            self._thread.unwatch(receiver)
            receiver.close()
        if self._listener is not None:
            self._thread.unwatch(self._listener)
            self._listener.close()
            self._listener = None

    def up(self) -> list[str]:
        """Give the writers whose links are up."""
        return [name for name, reader in self._readers.items() if reader.is_up]

    def statistics(self) -> dict[str, ReaderCounts]:
        """Give the counts per writer."""
        return {name: reader.counts for name, reader in self._readers.items()}

    def problems(self) -> dict[str, str]:
        """Give the last problem of each writer that could not be reached."""
        return dict(self._problems)

"""`Following`: an arbiter over the links from the dedups, on a thread of its own: what a driver's own actors share."""

from __future__ import annotations

from collections.abc import Callable

from raytrade.actors.upstreams import Upstreams
from raytrade.actors.worker import MAILBOX_ITEMS_MAX, MachineThread
from raytrade.arbitration import Arbiter, ArbiterSettings
from raytrade.core.clock import Nanos
from raytrade.core.message import Message
from raytrade.links.opening import OpenLink
from raytrade.rules import rule_of


class Following:
    """Hands on every merged message; all methods but the construction and `receive_batch` run on its thread."""

    def __init__(
        self,
        template: OpenLink,
        on_message: Callable[[Message], None],
        settings: ArbiterSettings,
        mailbox_items_max: int = MAILBOX_ITEMS_MAX,
    ) -> None:
        self._on_message = on_message
        self._name = template.reader
        self._settings = settings
        self._dedups: list[str] = []
        self._is_resting = False
        self._arbiter = Arbiter(self._name, rule_of, settings)
        self.thread = MachineThread(self._name, self._tick, mailbox_items_max=mailbox_items_max)
        self._upstreams = Upstreams(self._name, template, self.thread, self._take, self._change)

    def start(self, dedups: list[str]) -> None:
        """Begin to follow these dedups."""
        self.follow(dedups)
        self.thread.start()

    def follow(self, dedups: list[str]) -> None:
        """Follow these dedups and no others; while `rest` holds, only remember them."""
        self._dedups = dedups
        if not self._is_resting:
            self._upstreams.set_writers(dedups)

    def rest(self) -> None:
        """Follow nobody, and forget what was before."""
        self._is_resting = True
        self._upstreams.set_writers([])
        self._arbiter = Arbiter(self._name, rule_of, self._settings)

    def begin_anew(self, filters: tuple[str, ...] = ()) -> None:
        """Follow the dedups again, each stream from an image on; with `filters` other streams than before."""
        if not self._is_resting:
            self.rest()
        if filters:
            self._upstreams.set_filters(filters)
        self._is_resting = False
        self._upstreams.set_writers(self._dedups)

    def up(self) -> list[str]:
        """Give the dedups whose links are up."""
        return sorted(self._upstreams.up())

    def problems(self) -> dict[str, str]:
        """Give the last problem of each dedup that could not be reached."""
        return self._upstreams.problems()

    def receive_batch(self, dedup: str, data: bytes) -> None:
        """Take a batch of a dedup's link, from any thread."""
        self.thread.post(self._take, dedup, data)

    def _tick(self, now_ns: Nanos) -> Nanos | None:
        self._upstreams.tick(now_ns)
        due_ns = self._arbiter.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._arbiter.receive_timeout(now_ns)
        wanted = {command.instrument for command in self._arbiter.commands()}
        if wanted:
            self._upstreams.request_images(wanted, now_ns)
        for message in self._arbiter.output():
            self._on_message(message)
        return self._arbiter.deadline_ns()

    def _take(self, dedup: str, data: bytes) -> None:
        now_ns = self.thread.clock.now_ns()
        for message in self._upstreams.receive(dedup, data, now_ns):
            self._arbiter.receive(dedup, message, now_ns)

    def _change(self, dedup: str, is_up: bool, now_ns: Nanos) -> None:
        (self._arbiter.receive_line_up if is_up else self._arbiter.receive_line_down)(dedup, now_ns)

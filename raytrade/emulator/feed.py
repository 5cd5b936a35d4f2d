"""What the server asks of a source of messages, synthetic or recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .dialect import RestReply, Session
from .journal import TrueBook
from .link import Link


class Feed(Protocol):
    """A source of messages; its calls never wait. Times are seconds since the stream began."""

    ping_every_s: float

    @property
    def is_finished(self) -> bool:
        """Tell whether everything has been posted."""

    @property
    def is_greedy(self) -> bool:
        """Tell whether the pace is set by the clients, so that congestion holds it up."""

    def accepts(self, session: Session) -> bool:
        """Tell whether the venue has this address."""

    def connect(self, link: Link) -> None:
        """Take a new client."""

    def receive(self, link: Link, text: str | bytes) -> None:
        """Take a request of a client."""

    def disconnect(self, link: Link) -> None:
        """Forget a client."""

    def publish(self, now_s: float) -> float:
        """Post what is due; return the seconds until more is due."""

    def finish(self) -> None:
        """Post nothing more."""

    def beat(self, now_s: float) -> None:
        """Post periodic signs of life."""

    def rest(self, path: str, query: Mapping[str, str], target: str) -> RestReply | None:
        """Answer a REST request; None = no such path."""

    def books(self) -> dict[str, TrueBook]:
        """Print the true books as they are now."""

"""How much stands behind a stream: the lines of its venue that are up, the replicas that call it stalled."""

from __future__ import annotations

from enum import IntEnum

from raytrade.core.clock import Nanos
from raytrade.core.message import Message


class VenueLines:
    """The lines to one venue, as far as they were heard of: by word of them, or by what they delivered."""

    __slots__ = ("heard", "most")

    def __init__(self) -> None:
        self.heard: dict[str, bool] = {}
        self.most = 0
        """The most lines that were up at the same time."""

    @property
    def left(self) -> int:
        """Lines that are up."""
        return sum(self.heard.values())

    def hear(self, line: str, is_up: bool) -> bool:
        """Take word of a line; tells whether it is news. A line that is lost was up before."""
        if self.heard.get(line) is is_up:
            return False
        if line not in self.heard:
            self.heard[line] = True
        self.most = max(self.most, self.left + (is_up and not self.heard[line]))
        self.heard[line] = is_up
        return True

    def share(self) -> float:
        """Give the lines that are up over the most that were; 1 where no line was heard of."""
        return self.left / self.most if self.most else 1.0


class Doubt(IntEnum):
    """Why a stream is not relied upon; what is proved later has to answer the strongest."""

    NONE = 0
    LINES = 1
    """Every replica says that the lines behind it are silent or lost."""
    LINKS = 2
    """Every replica is lost."""
    GAP = 3


class Witnesses:
    """The replicas that deliver one stream, those of them that call it stalled, and the doubt that stands.

    One replica's word is not enough: another may still have a line.
    """

    __slots__ = ("carriers", "doubt", "silent", "stalled")

    def __init__(self) -> None:
        self.carriers: set[str] = set()
        self.silent: dict[str, Message] = {}
        self.doubt = Doubt.NONE
        self.stalled = False

    def hear(self, line: str) -> None:
        """`line` delivered something: it does not call the stream stalled any more."""
        self.carriers.add(line)
        if self.silent:
            self.silent.pop(line, None)

    def hear_stalled(self, line: str, message: Message) -> None:
        """`line` says that the stream is stalled."""
        self.carriers.add(line)
        self.silent[line] = message

    def lose(self, line: str) -> None:
        """`line` is down: it says nothing any more."""
        self.carriers.discard(line)
        self.silent.pop(line, None)

    def verdict(self) -> Message | None:
        """Give a replica's word for it if all that are left call the stream stalled."""
        if not self.silent or len(self.silent) < len(self.carriers):
            return None
        return next(iter(self.silent.values()))

    def settle(self) -> None:
        """The stream is whole and current."""
        self.doubt = Doubt.NONE
        self.stalled = False


def due_after(due_ns: Nanos, interval_ns: Nanos, now_ns: Nanos) -> Nanos:
    """Give the first multiple of the interval after `due_ns` that lies in the future."""
    return due_ns + ((now_ns - due_ns) // interval_ns + 1) * interval_ns

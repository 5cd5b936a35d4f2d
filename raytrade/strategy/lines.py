"""How much stands behind a venue's streams: which of the lines to it are up."""

from __future__ import annotations


class VenueLines:
    """The lines to one venue, as far as they were heard of: by word of them, or by what they delivered."""

    __slots__ = ("heard", "most", "retired")

    def __init__(self) -> None:
        self.heard: dict[str, bool] = {}
        self.retired: set[str] = set()
        """Lines that were given up: what they still deliver late does not bring them back."""
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
        self.retired.discard(line)
        self.heard[line] = True
        self.most = max(self.most, self.left)
        self.heard[line] = is_up
        return True

    def is_new(self, line: str) -> bool:
        """Tell whether a line that delivers was not heard of before."""
        return line not in self.heard and line not in self.retired

    def retire(self, line: str) -> bool:
        """A line is not wanted any more: it does not count as lost. Tells whether it is news."""
        was_up = self.heard.pop(line, None)
        if was_up is None:
            return False
        self.retired.add(line)
        self.most = max(self.left, self.most - 1)
        return True

    def share(self) -> float:
        """Give the lines that are up over the most that were; 1 where no line was heard of."""
        return self.left / self.most if self.most else 1.0

"""`Coverage`: which ids of a stream were delivered, as a few ranges instead of a list."""

from __future__ import annotations

import msgspec


class Coverage(msgspec.Struct):
    """Follows one stream; its ids begin with 1.

    `holes` are ranges ``(after, up to]`` inside ``(first, last]`` that no message covered.
    `conflated` counts how often the consumer left out on purpose what it was behind by: coverage begins anew there.
    `repeats` counts messages that brought nothing new: after an arbiter there are none.
    """

    first: int = 0
    last: int = 0
    count: int = 0
    repeats: int = 0
    holes: list[tuple[int, int]] = []
    conflated: int = 0

    def start(self, id_last: int) -> None:
        """A snapshot: everything up to `id_last` is contained in it; what was skipped before is a hole."""
        if self.last == 0:
            self.first = self.last = id_last
        elif id_last > self.last:
            self.holes.append((self.last, id_last))
            self.last = id_last

    def skip(self, id_last: int) -> None:
        """The latest state, whatever lies between: nothing is claimed of what came before it."""
        self.conflated += 1
        self.first = self.last = id_last

    def observe(self, id_prev: int, id_last: int) -> None:
        """A message that covers ``(id_prev, id_last]``."""
        self.count += 1
        if self.last == 0:
            self.first, self.last = id_prev, id_last
        elif id_last <= self.last:
            self.repeats += 1
        else:
            if id_prev > self.last:
                self.holes.append((self.last, id_prev))
            self.last = id_last

    def covers(self, id_last: int) -> bool:
        """Tell whether the state `id_last` was reached or passed without a hole over it."""
        return self.first < id_last <= self.last and not any(a < id_last <= b for a, b in self.holes)

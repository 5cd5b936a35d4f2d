"""`Lateness`: by how much later copies come after the first one: the skew between lines, and the lead of the first."""

from __future__ import annotations

from raytrade.arbitration.stream import StreamCounts
from raytrade.core.clock import Nanos
from raytrade.core.metrics import Histogram
from raytrade.core.recent import Recent

ACCEPTED_REMEMBERED_MAX = 4096
"""How many accepted ids are remembered to measure by how much a copy was late."""


class Lateness:
    """Of one stream with global ids; the lead over the runner-up counts once per id."""

    def __init__(self, counts: StreamCounts) -> None:
        self.skew = Histogram()
        self._counts = counts
        self._accepted: Recent[int, tuple[Nanos, str]] = Recent(ACCEPTED_REMEMBERED_MAX)

    def accept(self, line: str, id_last: int, now_ns: Nanos) -> None:
        """The first copy came on `line`."""
        self._accepted.add(id_last, (now_ns, line))

    def copy(self, line: str, id_last: int, now_ns: Nanos) -> None:
        """A later copy came on `line`."""
        first = self._accepted.get(id_last)
        if first is None or first[1] == line:
            return
        late_ns = now_ns - first[0]
        self.skew.record(late_ns)
        if first[1]:
            self._counts.line(first[1]).lead.record(late_ns)
            self._accepted[id_last] = (first[0], "")

    def forget(self) -> None:
        """The venue's ids run anew."""
        self._accepted.clear()

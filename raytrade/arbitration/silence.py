"""`SilenceWatch`: notices that one line says nothing while others deliver what it should carry too.

A quiet market is no silence: a line is behind only from the moment at which another line was the first to deliver
something of a stream that this line carries, and it has said nothing since, on any stream. It counts as silent when
that has lasted `SILENCE_NS`, or five times the line's usual time between two messages if that is longer; it is back
with its next message. One that comes and goes is waited for twice as long each time, so that it does not flap.

Pure, and beside the path of the messages: the owner calls `review` with the arbiter's counts about every `REVIEW_NS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec

from raytrade.arbitration.stream import StreamCounts, StreamKey
from raytrade.core.clock import MILLISECOND, SECOND, Nanos

REVIEW_NS = 25 * MILLISECOND
SILENCE_NS = 250 * MILLISECOND
USUAL_TIMES = 5
AFTER_USUAL = 3.8
"""`USUAL_TIMES` without the usual time before a line is behind, and a little for what the estimate is off."""
MEMORY_NS = 30 * SECOND
"""How far back the usual time between two messages reaches."""
KNOWN_MIN = 3.0
"""Messages that must have been seen of a line before it is judged."""
PATIENCE_MAX = 16
FORGIVEN_NS = 60 * SECOND
"""Without a silence for so long, a line is waited for no longer than others."""


class Word(msgspec.Struct, frozen=True):
    """A line has become silent (for `silent_ns` when it was noticed), or is back."""

    line: str
    is_silent: bool
    silent_ns: Nanos


class _Track:
    """What is known of one line."""

    __slots__ = ("behind_ns", "heard_ns", "is_silent", "messages", "patience", "returned_ns", "time_ns")

    def __init__(self, now_ns: Nanos) -> None:
        self.heard_ns = now_ns
        self.behind_ns: Nanos | None = None
        self.is_silent = False
        self.messages, self.time_ns = 0.0, 0.0
        self.patience = 1
        self.returned_ns: Nanos = 0

    def count(self, messages: int, elapsed_ns: Nanos) -> None:
        """Take what came since the last review; a time without the line's word, while it is behind, is no measure."""
        decay = max(0.0, 1.0 - elapsed_ns / MEMORY_NS)
        self.messages = self.messages * decay + messages
        self.time_ns = self.time_ns * decay + elapsed_ns

    def limit_ns(self) -> float:
        """Give how long the line may be behind.

        It was last heard about one usual time before, and the next review comes only after `REVIEW_NS`: both are
        taken off, so that the whole silence stays within its bound.
        """
        usual_ns = self.time_ns / self.messages
        before_ns = min(usual_ns, SILENCE_NS / USUAL_TIMES)
        return self.patience * max(SILENCE_NS - before_ns, AFTER_USUAL * usual_ns) - REVIEW_NS


class SilenceWatch:
    """Follows any number of lines."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}
        self._seen: dict[StreamKey, dict[str, tuple[int, int]]] = {}
        self._reviewed_ns: Nanos | None = None

    @property
    def silent(self) -> list[str]:
        """Give the lines that are silent now."""
        return sorted(line for line, track in self._tracks.items() if track.is_silent)

    def review(self, streams: Mapping[StreamKey, StreamCounts], up: Set[str], now_ns: Nanos) -> list[Word]:
        """Take the counts of all streams and the lines that are connected; gives what is news."""
        reviewed_ns = now_ns if self._reviewed_ns is None else self._reviewed_ns
        if 0 <= now_ns - reviewed_ns < REVIEW_NS and self._reviewed_ns is not None:
            return []
        self._reviewed_ns = now_ns
        spoke, behind = self._compare(streams)
        for line in [line for line in self._tracks if line not in up]:
            del self._tracks[line]
        words = []
        for line in up:
            track = self._tracks.get(line)
            if track is None:
                track = self._tracks[line] = _Track(now_ns)
            word = self._judge(line, track, spoke.get(line, 0), line in behind, reviewed_ns)
            if word is not None:
                words.append(word)
        return words

    def _compare(self, streams: Mapping[StreamKey, StreamCounts]) -> tuple[dict[str, int], set[str]]:
        """Give how much each line has delivered since the last review, and the lines that others went ahead of."""
        spoke: dict[str, int] = {}
        behind: set[str] = set()
        for key, counts in streams.items():
            seen = self._seen.get(key)
            if seen is None:
                self._seen[key] = {line: (part.updates, part.wins) for line, part in counts.lines.items()}
                continue
            quiet = []
            has_moved = False
            for line, part in counts.lines.items():
                updates, wins = seen.get(line, (0, 0))
                if part.updates == updates:
                    quiet.append(line)
                    continue
                has_moved = has_moved or part.wins != wins
                seen[line] = part.updates, part.wins
                spoke[line] = spoke.get(line, 0) + part.updates - updates
            if has_moved:
                behind.update(quiet)
        return spoke, behind

    def _judge(self, line: str, track: _Track, messages: int, is_behind: bool, reviewed_ns: Nanos) -> Word | None:
        now_ns = self._reviewed_ns or 0
        if messages:
            return self._hear(line, track, messages, now_ns - reviewed_ns)
        if is_behind and track.behind_ns is None:
            track.behind_ns = reviewed_ns
        if track.behind_ns is None:
            track.count(0, now_ns - reviewed_ns)
            if track.patience > 1 and now_ns - track.returned_ns > FORGIVEN_NS:
                track.patience = 1
            return None
        if track.is_silent or track.messages < KNOWN_MIN or now_ns - track.behind_ns < track.limit_ns():
            return None
        track.is_silent = True
        return Word(line, True, now_ns - track.heard_ns)

    def _hear(self, line: str, track: _Track, messages: int, elapsed_ns: Nanos) -> Word | None:
        now_ns = self._reviewed_ns or 0
        track.count(messages, elapsed_ns)
        silent_ns, track.heard_ns = now_ns - track.heard_ns, now_ns
        track.behind_ns = None
        if track.patience > 1 and now_ns - track.returned_ns > FORGIVEN_NS:
            track.patience = 1
        if not track.is_silent:
            return None
        track.is_silent, track.returned_ns = False, now_ns
        track.patience = min(2 * track.patience, PATIENCE_MAX)
        return Word(line, False, silent_ns)

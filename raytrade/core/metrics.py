"""Histograms of durations: logarithmic, bounded in size, mergeable by addition."""

from __future__ import annotations

import msgspec

from raytrade.core.clock import Nanos

SUB_BUCKETS = 8
"""Buckets per power of two; a quantile is at most 1/8 too high."""
_SUB_BITS = 3
BUCKETS = 64 * SUB_BUCKETS


def _bucket(duration_ns: Nanos) -> int:
    if duration_ns < SUB_BUCKETS:
        return max(duration_ns, 0)
    shift = duration_ns.bit_length() - 1 - _SUB_BITS
    return min(BUCKETS - 1, (shift + 1) * SUB_BUCKETS + (duration_ns >> shift) - SUB_BUCKETS)


def _upper_bound(bucket: int) -> Nanos:
    if bucket < SUB_BUCKETS:
        return bucket
    shift, within = divmod(bucket, SUB_BUCKETS)
    return ((within + SUB_BUCKETS + 1) << (shift - 1)) - 1


class Histogram(msgspec.Struct):
    """Counts of durations in nanoseconds by size."""

    counts: dict[int, int] = {}
    total: int = 0
    max_ns: Nanos = 0

    def record(self, duration_ns: Nanos) -> None:
        """Count one duration; a negative one counts as zero."""
        bucket = _bucket(duration_ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def quantile_ns(self, share: float) -> Nanos:
        """Give the duration that `share` (0..1) of the records do not exceed; 0 without records."""
        left = share * self.total
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(_upper_bound(bucket), self.max_ns)
        return self.max_ns

    def merge(self, other: Histogram) -> None:
        """Add another histogram's records."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total
        self.max_ns = max(self.max_ns, other.max_ns)

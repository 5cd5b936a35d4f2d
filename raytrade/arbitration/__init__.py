"""Arbitration: N copies of a stream in, one out."""

from raytrade.arbitration.arbiter import Arbiter, line_totals
from raytrade.arbitration.stream import HELD_NS, ArbiterSettings, Rule, SnapshotWanted, StreamRule

__all__ = ["HELD_NS", "Arbiter", "ArbiterSettings", "Rule", "SnapshotWanted", "StreamRule", "line_totals"]

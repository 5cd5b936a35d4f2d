"""The rule of each simulated stream: those of the real venues, and one more venue for the class newest."""

from __future__ import annotations

from functools import lru_cache

from raytrade.arbitration import Rule, StreamRule
from raytrade.core.events import Channel
from raytrade.core.instrument import split_instrument
from raytrade.rules import rule_of
from raytrade.simulation.newest import NEWEST_VENUE

CHAINED = (Rule.LOOSE, Rule.STRICT, Rule.DENSE)
_NEWEST = StreamRule(rule=Rule.NEWEST, in_band=True)
_TRADES = StreamRule(rule=Rule.TRADE)


@lru_cache(maxsize=64)
def simulated_rule(instrument: str, channel: Channel) -> StreamRule:
    """Give the rule by which copies of the instrument's channel are merged."""
    if split_instrument(instrument)[0] == NEWEST_VENUE:
        return _NEWEST if channel is Channel.BOOK else _TRADES
    return rule_of(instrument, channel)

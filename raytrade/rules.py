"""The rule of each stream, from the table of venues: where arbitration and venues meet."""

from __future__ import annotations

from raytrade.arbitration import Rule, StreamRule
from raytrade.core.events import Channel
from raytrade.core.instrument import split_instrument
from raytrade.venues import find_venue


def rule_of(instrument: str, channel: Channel) -> StreamRule:
    """Give the rule by which copies of the instrument's channel are merged.

    Raises:
        ConfigError: the instrument's venue is unknown.
    """
    venue, _ = split_instrument(instrument)
    spec = find_venue(venue).channels[channel]
    return StreamRule(
        rule=Rule(spec.merge.value),
        contiguous=spec.contiguous,
        in_band=spec.snapshot == "in band",
        checksum=spec.checksum,
    )

"""Lead arbitration, first form: placeholder being replaced within the hour."""

from __future__ import annotations

from raytrade.arbitration.newest import NewestStream
from raytrade.arbitration.stream import ArbiterSettings, Outlet, StreamKey, StreamRule


class LeadStream(NewestStream):
    """Arbiter of one stream whose ids are per connection."""

    def __init__(self, stream: StreamKey, rule: StreamRule, outlet: Outlet, settings: ArbiterSettings) -> None:
        super().__init__(stream, outlet)

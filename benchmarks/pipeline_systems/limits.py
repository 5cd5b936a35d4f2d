"""Lifts a venue's request budget in Ray's workers: it is the venue's, and the exchange of the benchmark has none.

With a thousand instruments the books alone would take the better part of an hour otherwise.
"""

from __future__ import annotations

import msgspec

HOOK = f"{__name__}.lift"


def lift() -> None:
    """Let collectors fetch books as fast as they come (called by Ray in each worker before anything else)."""
    from raytrade.venues import VENUES

    from .probe import VENUE

    spec = VENUES[VENUE]
    limits = msgspec.structs.replace(spec.limits, weight_per_minute_max=0)
    VENUES[VENUE] = msgspec.structs.replace(spec, limits=limits)

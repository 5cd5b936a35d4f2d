"""When a line is opened anew before the venue cuts it, so that the copies of a line never go together.

A connection's life less one hour is divided into slots of more than an hour. Every copy of a line has a slot of its
own and is opened anew at that slot's instants, counted from the Unix epoch: so any two copies are more than an hour
apart, without a word between them. A connection younger than half an hour waits for the slot of the next round, and
is then still younger than its life.
"""

from __future__ import annotations

from raytrade.core.clock import SECOND, Nanos

SLOTS = 22
MARGIN_S = 3600
YOUNG_S = MARGIN_S // 2


def rotation_due_ns(slot: int, opened_ns: Nanos, life_s: int) -> Nanos | None:
    """Give when a connection opened at `opened_ns` is opened anew; None where the venue cuts none.

    `life_s` is after how long the venue cuts every connection, in seconds; one of two hours or less has no slots
    and is given half its life.
    """
    if not life_s:
        return None
    if life_s <= 2 * MARGIN_S:
        return opened_ns + life_s * SECOND // 2
    round_ns = (life_s - MARGIN_S) * SECOND
    first_ns = round_ns * (slot % SLOTS) // SLOTS
    earliest_ns = opened_ns + YOUNG_S * SECOND
    return first_ns + -((first_ns - earliest_ns) // round_ns) * round_ns

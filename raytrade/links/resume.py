"""Where a link begins for a reader that has ids from before: what the ring still holds, and what is lacking."""

from __future__ import annotations

import msgspec

from raytrade.core.events import Channel
from raytrade.core.message import Kind
from raytrade.core.ring import MessageRing

StreamKey = tuple[str, Channel]

_CHANNELS = {channel.name.lower(): channel for channel in Channel}


class Resume(msgspec.Struct, frozen=True):
    """`from_index`: streams that go on out of the ring, and from where. `missed`: id ranges that nobody has any more.

    A stream that has an image and no index begins with the image.
    """

    from_index: dict[StreamKey, int]
    missed: dict[StreamKey, tuple[int, int]]


def positions_of(texts: dict[str, int]) -> dict[StreamKey, int]:
    """Read positions by ``instrument/channel``; a stream without ids has none."""
    positions: dict[StreamKey, int] = {}
    for text, position in texts.items():
        instrument, _, channel = text.rpartition("/")
        if channel in _CHANNELS and position > 0:
            positions[instrument, _CHANNELS[channel]] = position
    return positions


def resume(ring: MessageRing, positions: dict[StreamKey, int], images: dict[StreamKey, int]) -> Resume:
    """Find the place behind each position, from the newest message back; `images` are the ids of the images at hand.

    A position beyond the newest message is of a reader that is ahead, or of ids that have run anew since: the image, if
    there is one, is right for both.
    """
    plan = Resume({stream: ring.end for stream, at in positions.items() if images.get(stream) == at}, {})
    searched = {stream: at for stream, at in positions.items() if stream not in plan.from_index}
    newer: dict[StreamKey, int] = {}
    index = ring.end
    for message in ring.read_back():
        if not searched:
            return plan
        index -= 1
        stream = message.stream
        position = searched.get(stream)
        if position is None or not (message.kind is Kind.DELTA or message.kind is Kind.TRADE):
            continue
        if message.id_last > position:
            newer[stream] = message.id_prev
            continue
        del searched[stream]
        if message.id_last == position or stream in newer or stream not in images:
            plan.from_index[stream] = index + 1
    for stream, position in searched.items():
        _begin_with_oldest(plan, ring.start, stream, position, newer.get(stream), images.get(stream))
    return plan


def _begin_with_oldest(
    plan: Resume, start: int, stream: StreamKey, position: int, oldest: int | None, image: int | None
) -> None:
    """The ring does not reach back to the position, unless its oldest message follows on."""
    if oldest is not None and oldest <= position:
        plan.from_index[stream] = start
        return
    if image is None:
        plan.from_index[stream] = start
        plan.missed[stream] = (position, oldest or 0)
    elif image > position:
        plan.missed[stream] = (position, image)

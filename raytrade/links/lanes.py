"""Which lane a link takes: `shm` where reader and writer share a host, else `call`."""

from __future__ import annotations

from typing import Any

from raytrade.links.call import CallLane
from raytrade.links.local import SOCKET_BUFFER_BYTES, LocalLane, host_id
from raytrade.links.opening import OpenLink
from raytrade.links.policy import Policy
from raytrade.links.publisher import Lane

LATEST_BUFFER_BYTES = 8 * 1024
"""Of a link whose reader wants the latest only: what lies in the lane is old, so little lies there."""


def open_lane(wish: OpenLink, reader: Any, writer: str) -> Lane:
    """Give the fastest lane to the reader's actor; a call lane says why it is not the other one."""
    if not wish.local_address:
        return CallLane(reader, writer, "call (configured)")
    if not wish.host or wish.host != host_id():
        return CallLane(reader, writer, "call (other host)")
    try:
        buffer_bytes = LATEST_BUFFER_BYTES if wish.policy is Policy.CONFLATE else SOCKET_BUFFER_BYTES
        return LocalLane(wish.local_address, wish.local_token, writer, buffer_bytes)
    except OSError as error:
        return CallLane(reader, writer, f"call (shm: {error.strerror or error})")

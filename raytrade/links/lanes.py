"""Which lane a link takes: `shm` where reader and writer share a host, else `call`."""

from __future__ import annotations

from typing import Any

from raytrade.links.call import CallLane
from raytrade.links.local import LocalLane, host_id
from raytrade.links.publisher import Lane
from raytrade.links.writer import OpenLink


def open_lane(wish: OpenLink, reader: Any, writer: str) -> Lane:
    """Give the fastest lane to the reader's actor; a call lane says why it is not the other one."""
    if not wish.local_address:
        return CallLane(reader, writer, "call (configured)")
    if not wish.host or wish.host != host_id():
        return CallLane(reader, writer, "call (other host)")
    try:
        return LocalLane(wish.local_address, wish.local_token, writer)
    except OSError as error:
        return CallLane(reader, writer, f"call (shm: {error.strerror or error})")

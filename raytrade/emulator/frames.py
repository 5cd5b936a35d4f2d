"""Websocket frames from server to client, as bytes.

A frame of a server is not masked, so its bytes are the same for every client: it is built once
and written to all. Source: RFC 6455 section 5.2. Pure. Called by the feeds and the link.
"""

from __future__ import annotations

import struct

TEXT = 0x81
BINARY = 0x82


def encode_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Build one final, unmasked frame around a payload."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload

"""Where websocket frames begin and end (RFC 6455, section 5.2), so that plain messages need no more than a slice.

All that is not a plain message (control frames, fragments, whatever the RFC forbids) is for `websockets`' protocol.
"""

from __future__ import annotations

FIRST_BYTES = (0x81, 0x82)
"""Of a whole text or binary message: final, no extension, opcode 1 or 2."""
HANDSHAKE_END = b"\r\n\r\n"


def frame_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Give where the payload of the frame at `at` begins and ends, be it all there or not.

    None where the header is not all there. A masked frame, which no server may send, gives ``(0, 0)``.
    """
    if len(data) - at < 2:
        return None
    length, start = data[at + 1], at + 2
    if length > 125:
        if length > 127:
            return 0, 0
        width = 2 if length == 126 else 8
        if len(data) - start < width:
            return None
        length = int.from_bytes(data[start : start + width], "big")
        start += width
    return start, start + length


def handshake_end(before: bytes | bytearray, data: bytes) -> int:
    """Give where in `data` the handshake ends, 0 if it does not; `before` are the last three bytes before it."""
    found = (before + data).find(HANDSHAKE_END)
    return found + len(HANDSHAKE_END) - len(before) if found >= 0 else 0

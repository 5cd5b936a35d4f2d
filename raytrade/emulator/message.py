"""One message on its way to a client, with the ids it stands for.

Called by everything between a dialect (which renders) and a link (which writes).
"""

from __future__ import annotations

import enum

import msgspec

from .frames import TEXT, encode_frame


class Content(enum.Enum):
    """What a message carries; faults of order and loss touch `BOOK` and `TRADE` only."""

    BOOK = "book"
    TRADE = "trade"
    CONTROL = "control"


class Message(msgspec.Struct, gc=False):
    """A payload, whole or in two parts between which a connection writes its own counter.

    `id_first` .. `id_last` are the ids of the updates (or trades, or captured frames) inside;
    both are 0 for control messages.
    """

    payload: bytes
    symbol: str = ""
    content: Content = Content.CONTROL
    id_first: int = 0
    id_last: int = 0
    tail: bytes | None = None
    opcode: int = TEXT
    frame: bytes = b""

    def encode(self) -> bytes:
        """Build the frame once; later calls return the same bytes."""
        if not self.frame:
            self.frame = encode_frame(self.payload, self.opcode)
        return self.frame

    def number(self, counter: int) -> Message:
        """Return the message of one connection: the parts joined around its counter."""
        if self.tail is None:
            return self
        payload = b"%b%d%b" % (self.payload, counter, self.tail)
        return self.replace_payload(payload)

    def replace_payload(self, payload: bytes) -> Message:
        """Return a message with other bytes and the same meaning for the journal."""
        return Message(payload, self.symbol, self.content, self.id_first, self.id_last, None, self.opcode)

"""`OpenLink`: a reader's wish, and reading it at the writer: who speaks another schema is told so at once."""

from __future__ import annotations

import msgspec

from raytrade.core.clock import Nanos
from raytrade.core.message import SCHEMA_VERSION
from raytrade.errors import MalformedBatch, VersionSkew
from raytrade.links.policy import Policy

NOWHERE = 2**63 - 1
"""An index that no ring reaches."""


class OpenLink(msgspec.Struct, frozen=True, kw_only=True):
    """A reader's wish: which streams, and from where on.

    `schema` is the reader's version of batches. `link` is new for every opening. `writer` and `next_index` are what
    the reader last had of this very writer; `positions` the last ids it has durably per ``instrument/channel`` stream,
    for a writer it has not met. `fresh` names instruments of which an image is wanted although the reader goes on
    where it was. `replay` asks a writer without books for its last seconds. `policy` says what is to happen when the
    reader falls behind. `spacing_ns`: a reader in no hurry is not woken more often (and a writer has less to send).
    `digest`: only `Digest`s of what there is, and word of lines; the messages stay in the ring until another opening
    asks for them by `positions`.
    `same_node` is the lane wanted inside a host; `local_address` and `local_token` open one
    inside `host`.
    """

    schema: int = 0
    link: int
    reader: str
    filters: tuple[str, ...] = ("*",)
    shard: tuple[int, int] = (0, 1)
    writer: int = 0
    next_index: int = NOWHERE
    positions: dict[str, int] = {}
    fresh: tuple[str, ...] = ()
    replay: bool = False
    policy: Policy = Policy.SKIP
    spacing_ns: Nanos = 0
    digest: bool = False
    same_node: str = "shm"
    host: str = ""
    local_address: str = ""
    local_token: str = ""


class _Header(msgspec.Struct):
    """The part of a wish that every version has."""

    schema: int = 0
    reader: str = "a reader"


def read_wish(data: bytes) -> OpenLink:
    """Read a wish that came over a call.

    Raises:
        VersionSkew: the reader speaks another schema.
        MalformedBatch: the bytes are no wish.
    """
    try:
        header = msgspec.msgpack.decode(data, type=_Header)
        if header.schema != SCHEMA_VERSION:
            raise VersionSkew(header.schema, SCHEMA_VERSION)
        return msgspec.msgpack.decode(data, type=OpenLink)
    except msgspec.MsgspecError as error:
        raise MalformedBatch(f"not a wish for a link: {error}") from None


def reader_of(data: bytes) -> str:
    """Name the reader of a wish that may be of any version, for a message about it."""
    try:
        return msgspec.msgpack.decode(data, type=_Header).reader
    except msgspec.MsgspecError:
        return "a reader"

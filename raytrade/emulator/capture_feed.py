"""Serves a recording: one timeline for all clients, each of which plays a recorded connection.

Invariant: a client that is connected when the timeline starts gets every frame of its recorded
connection, in order. The client's requests are not answered by the emulator: the recorded
acknowledgements are among the frames. Called by the server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from .capture import Capture, CapturedFrame, CapturedRest, load_capture
from .dialect import RestReply, Session
from .journal import Journal, TrueBook
from .link import Link
from .message import Content, Message
from .settings import EmulatorSettings

FRAMES_PER_TURN = 256
"""Frames posted before the event loop gets its turn."""
BYTES_PER_TURN = 1 << 20
"""Bytes posted before the event loop gets its turn."""
UNASKED_S = 1.0
"""A client that sends no request for this long is taken to be waiting for data."""


class CaptureFeed:
    """A recording and who plays which of its connections."""

    def __init__(self, settings: EmulatorSettings, journal: Journal) -> None:
        self._capture: Capture = load_capture(settings.capture)
        self._speed = settings.speed
        self._journal = journal
        self._players: dict[str, list[Link]] = {c: [] for c in self._capture.connections}
        self._unasked: dict[Link, float] = {}
        self._position = 0
        self._turn = 0
        self._is_closed_out = False
        self.ping_every_s = 20.0
        self.venue = self._capture.venue
        for connection in self._capture.connections:
            journal.add_symbol(symbol_of(connection))

    @property
    def is_finished(self) -> bool:
        """Tell whether the last frame has been posted."""
        return self._is_closed_out

    @property
    def is_greedy(self) -> bool:
        """Tell whether the clients set the pace."""
        return self._speed == 0

    def accepts(self, session: Session) -> bool:
        """Take any address, as long as a wanted connection is in the recording."""
        wanted = session.query.get("conn")
        return wanted is None or wanted in self._players

    def connect(self, link: Link) -> None:
        """Give a client its recorded connection: as it asked by `?conn=ID`, else in turn."""
        connection = link.session.query.get("conn")
        if connection is None:
            connections = self._capture.connections
            connection = connections[self._turn % len(connections)]
            self._turn += 1
        self._players.setdefault(connection, []).append(link)
        if connection in self._capture.senders:
            self._unasked[link] = time.monotonic()
        else:
            link.is_ready = True

    def receive(self, link: Link, text: str | bytes) -> None:
        """Take note that a client has asked for something; the answer is in the recording."""
        link.is_ready = True
        self._unasked.pop(link, None)

    def disconnect(self, link: Link) -> None:
        """Forget a client; its recorded connection plays on unheard."""
        self._unasked.pop(link, None)
        for players in self._players.values():
            if link in players:
                players.remove(link)

    def publish(self, now_s: float) -> float:
        """Post the frames whose time has come."""
        frames = self._capture.frames
        bytes_left = BYTES_PER_TURN
        for _ in range(FRAMES_PER_TURN):
            if self._position >= len(frames):
                self._close_out()
                return 1.0
            frame = frames[self._position]
            wait_s = self._due_s(frame) - now_s
            if wait_s > 0:
                return wait_s
            self._post(frame)
            bytes_left -= len(frame.payload)
            if bytes_left < 0:
                break
        return 0.0

    def finish(self) -> None:
        """Post no more frames."""
        self._position = len(self._capture.frames)

    def beat(self, now_s: float) -> None:
        """Stop waiting for the requests of clients that have none to make."""
        now = time.monotonic()
        for link, since in list(self._unasked.items()):
            if now - since > UNASKED_S:
                link.is_ready = True
                del self._unasked[link]

    def rest(self, path: str, query: Mapping[str, str], target: str) -> RestReply | None:
        """Serve a recorded body: the latest not after the replay position, else the first.

        The same path and query are looked for first, then the same endpoint name and symbol
        (so that `/api/v3/depth?symbol=X&limit=5000` finds `/api/v1/depth?symbol=X&limit=1000`).
        """
        exact = [rest for rest in self._capture.rests if _same_address(rest, path, query)]
        found = exact or [rest for rest in self._capture.rests if _same_book(rest, path, query)]
        if not found:
            return None
        position_ns = self._position_ns
        passed = [rest for rest in found if rest.offset_ns <= position_ns]
        return RestReply(200, (passed[-1] if passed else found[0]).body)

    def books(self) -> dict[str, TrueBook]:
        """A recording knows no true books."""
        return {}

    @property
    def _position_ns(self) -> int:
        if not self._position:
            return 0
        return self._capture.frames[self._position - 1].offset_ns

    def _due_s(self, frame: CapturedFrame) -> float:
        return frame.offset_ns / 1e9 / self._speed if self._speed else 0.0

    def _post(self, frame: CapturedFrame) -> None:
        symbol = symbol_of(frame.connection)
        ids = frame.index, frame.index
        message = Message(frame.payload, symbol, Content.BOOK, *ids, None, frame.opcode)
        for link in self._players.get(frame.connection, ()):
            link.post(message)
        self._journal.add_frame(symbol, frame.index, time.time_ns())
        self._position += 1

    def _close_out(self) -> None:
        for players in self._players.values():
            for link in players:
                link.release()
        self._is_closed_out = True


def symbol_of(connection: str) -> str:
    """Name a recorded connection in the journal."""
    return f"conn={connection}"


def _same_address(rest: CapturedRest, path: str, query: Mapping[str, str]) -> bool:
    parts = urlsplit(rest.url)
    return parts.path == path and dict(parse_qsl(parts.query)) == dict(query)


def _same_book(rest: CapturedRest, path: str, query: Mapping[str, str]) -> bool:
    parts = urlsplit(rest.url)
    recorded = dict(parse_qsl(parts.query))
    same_name = parts.path.rpartition("/")[2] == path.rpartition("/")[2]
    return same_name and "symbol" in query and recorded.get("symbol") == query["symbol"]

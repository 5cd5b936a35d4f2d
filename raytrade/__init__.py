"""raytrade: redundant, broker-free order-book pipelines on Ray.

Importing this package loads machines and events only: no Ray, no sockets, no Arrow. ``raytrade.open(directory)`` reads
a recording (`raytrade.storage.recording`) and loads Arrow when it is first asked for; ``raytrade.stream(...)`` and
``raytrade.subscribe(...)`` (`raytrade.streaming`) give the merged live stream in this process, without Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from raytrade.core.book import BookState, L2Book, Top
from raytrade.core.events import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    Flag,
    Gap,
    GapKind,
    LineDown,
    LineUp,
    Resynced,
    Side,
    Stalled,
    Trade,
)
from raytrade.errors import RaytradeError

if TYPE_CHECKING:
    from raytrade.storage.recording import open_recording
    from raytrade.streaming.live import stream
    from raytrade.streaming.subscribing import subscribe

    open = open_recording  # noqa: A001 - read as raytrade.open

__all__ = [
    "BookDelta",
    "BookSnapshot",
    "BookState",
    "Channel",
    "Event",
    "Flag",
    "Gap",
    "GapKind",
    "L2Book",
    "LineDown",
    "LineUp",
    "RaytradeError",
    "Resynced",
    "Side",
    "Stalled",
    "Top",
    "Trade",
    "__version__",
    "stream",
    "subscribe",
]

__version__ = "0.1.0"

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load what reads recordings when it is asked for, not before."""
        if name == "open":
            return import_module("raytrade.storage.recording").open_recording
        if name in ("stream", "subscribe"):
            return getattr(import_module("raytrade.streaming"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

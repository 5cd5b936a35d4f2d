"""raytrade: redundant, broker-free order-book pipelines on Ray.

Importing this package loads machines and events only: no Ray, no sockets, no Arrow.
"""

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
]

__version__ = "0.1.0"

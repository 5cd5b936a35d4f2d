"""The merged stream in one process, without Ray: several connections to each venue, one stream out of them."""

from raytrade.streaming.live import Stream, stream
from raytrade.streaming.subscribing import StreamThread, subscribe

__all__ = ["Stream", "StreamThread", "stream", "subscribe"]

"""A page over a made-up pipeline, in a process of its own: ``python -m tests.web.fake PORT [TOKEN]``."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from nicegui import app

from raytrade.transport.clock import SystemClock
from raytrade.web.feed import Feed
from raytrade.web.page import Site, serve
from tests.unit.observation.statuses import collector, dedup, recorder, status, strategy


class MadeUp:
    """Two instruments; the second one's updates come faster."""

    def __init__(self) -> None:
        self._looks = 0

    def status(self) -> dict[str, Any]:
        self._looks += 1
        merged = dedup()
        counts = merged["streams"].pop("kraken-v2:BTC/USD/book")
        for name, rate in (("BTC/USD", 50), ("ETH/USD", 500)):
            merged["streams"][f"kraken-v2:{name}/book"] = {**counts, "updates": rate * self._looks}
        trader = {**strategy(), "accounts": {}, "fills": []}
        actors = status(c=collector(), d=merged, r=recorder(), s=trader)
        return {**actors, "alerts": {"firing": []}}

    def incidents(self, since: int) -> list[dict[str, Any]]:
        now_ns = SystemClock().now_ns()
        fields = {"instrument": "kraken-v2:BTC/USD", "channel": "book"}
        return (
            [{"number": since, "ts_ns": now_ns, "incident": "gap", "actor": "d", "fields": fields}] if since < 9 else []
        )

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        trade = {
            "trade_id": "1",
            "price": "100.5",
            "size": "2",
            "aggressor": "buy",
            "ts_recv_ns": SystemClock().now_ns(),
        }
        return {
            "instrument": instrument,
            "state": "live",
            "is_live": True,
            "id_last": self._looks,
            "bids": [(f"{100.4 - at / 10:.1f}", str(1 + at)) for at in range(depth)],
            "asks": [(f"{100.6 + at / 10:.1f}", str(1 + at)) for at in range(depth)],
            "trades": [trade],
        }

    def close(self) -> None:
        pass


def main(port: int, token: str) -> None:
    feed = Feed(MadeUp(), SystemClock())
    feed.start()
    site = Site(host="127.0.0.1", port=port, token=token)

    @app.get("/counts")
    def counts() -> dict[str, int]:
        return msgspec.structs.asdict(site.counts)

    serve(feed, site, lambda: print("ready", flush=True))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")

"""The page of a demo, the only one with buttons that hit actors. The demo starts it in a process of its own.

python -m raytrade.cli.demo_page ADDRESS PORT SPARED
"""

from __future__ import annotations

import sys

from raytrade.chaos.hand import Hand
from raytrade.cli.pipelines import load_driver
from raytrade.cli.serving import serve_page
from raytrade.web.controls import Controls
from raytrade.web.feed import Feed

DEMO = "demo"


def main(address: str, port: str, spared: str) -> None:
    """Serve the page until SIGINT."""
    driver = load_driver()
    driver.join(address)

    def controls_of(feed: Feed) -> Controls:
        return Hand(DEMO, lambda: feed.status, frozenset({spared}))

    serve_page(driver, DEMO, "127.0.0.1", int(port), controls_of=controls_of)


if __name__ == "__main__":
    main(*sys.argv[1:])

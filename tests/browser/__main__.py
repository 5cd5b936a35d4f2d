"""``raytrade ui`` in headless Chromium, with real clicks, over a running pipeline; rubbish and crowds beside it.

    python -m tests.browser [--quick] [--out DIR]

Needs Debian's packages `chromium` and `chromium-driver`. Screenshots of every tab are written to DIR. `--quick` opens
100 connections where the whole check opens 1,000.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from benchmarks.processor import Usage
from raytrade.demo.nodes import Nodes, free_port
from tests.browser.crowd import Crowd, rubbish
from tests.browser.driving import Browser
from tests.ray.running import MARKETS, Running, running, until

TABS = ("PIPELINE", "BOOK", "LINES", "LATENCY", "GAPS", "STRATEGIES", "EVENTS")
QUICK, WHOLE = 100, 1000
ROOT = Path(__file__).resolve().parents[2]


def change(data: dict[str, Any]) -> None:
    """Let the strategy trade, so that there are fills to show."""
    params = {"instrument": "binance-spot:BTCUSDT", "quantity": "0.01", "threshold": 0.1}
    data["strategies"] = [
        {
            "name": "imbalance",
            "strategy": f"{ROOT}/examples/strategies/imbalance.py:Imbalance",
            "params": params,
            "labels": {"strategy": "yes"},
        }
    ]


@contextmanager
def served(address: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run ``raytrade ui``."""
    command = [sys.executable, "-m", "raytrade", "ui", "--address", address, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"http://127.0.0.1:{port}/\n"
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, 130), "Ctrl-C ends it"
        finally:
            process.kill()


def check_tabs(browser: Browser, pipeline: Running) -> None:
    """Click through every tab and see what the pipeline says of itself."""
    until(lambda: browser.number_in("pipeline ") > 0, "updates flow on the page")
    assert browser.tabs() == list(TABS)
    until(lambda: len(browser.rows()) == 7, "six streams and a recorder")
    browser.picture("pipeline")
    browser.click_tab("BOOK")
    until(lambda: browser.drawn() >= 2, "ladder and heat map are drawn")
    browser.choose("binance-spot:ETHUSDT")
    until(lambda: browser.chart_title(0) == "binance-spot:ETHUSDT", "the chosen book is shown")
    until(lambda: browser.points(1) > 300, "the heat map fills")
    browser.picture("book")
    browser.click_tab("LINES")
    until(lambda: len(browser.rows()) == 6, "three collectors, two venues")
    assert {row[1] for row in browser.rows()} == {"up"}
    browser.picture("lines")
    browser.click_tab("LATENCY")
    until(lambda: browser.drawn() >= 1, "latencies are drawn")
    browser.picture("latency")
    browser.click_tab("STRATEGIES")
    until(lambda: re.search(r"(buy|sell) +\S+ binance-spot:BTCUSDT at \d", browser.text()), "fills are shown")
    browser.picture("strategies")


def check_kill(browser: Browser, pipeline: Running) -> None:
    """Kill a collector: the page tells of it, the pipeline goes on."""
    name, collector = next(iter(pipeline.actors("collector").items()))
    os.kill(collector["pid"], signal.SIGKILL)
    browser.click_tab("EVENTS")
    until(lambda: f"{name} pid=" in browser.text() and "actor_restarted" in browser.text(), "the restart is shown")
    browser.picture("events")
    browser.click_tab("GAPS")
    until(lambda: browser.points(0) > 0, "it stands in the timeline")
    browser.picture("gaps")


def check_crowd(browser: Browser, port: int, connections: int) -> str:
    """Rubbish, a crowd, and clients that never read: refused or dropped; the page goes on, and others get in later."""
    browser.click_tab("PIPELINE")
    refused = rubbish(port)
    crowd = Crowd(port, connections)
    try:
        assert crowd.refused > 0
        assert crowd.open <= 32, crowd.open
        before = browser.first_rates()
        until(lambda: browser.first_rates() not in ([], before), "the page goes on beside the crowd")
    finally:
        crowd.close()
    later = Crowd(port, 1)
    assert later.open == 1, "a place has come free"
    later.close()
    return f"{refused} kinds of rubbish refused; of {connections} websockets {crowd.refused} refused, {crowd.open} open"


def main() -> int:
    """Run it all."""
    arguments = argparse.ArgumentParser(description="The page in a real browser over a real pipeline.")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--out", type=Path, default=None)
    given = arguments.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True)))
        out = given.out or directory / "screenshots"
        out.mkdir(parents=True, exist_ok=True)
        nodes = Nodes(directory)
        stack.callback(nodes.stop)
        pipeline = stack.enter_context(running("seen", directory / "recording", MARKETS, change, rate=100.0))
        pipeline.begin()
        port = free_port()
        process = stack.enter_context(served(nodes.address, port))
        browser = stack.enter_context(Browser(f"http://127.0.0.1:{port}/", out))
        check_tabs(browser, pipeline)
        check_kill(browser, pipeline)
        print(check_crowd(browser, port, QUICK if given.quick else WHOLE), flush=True)
        usage = Usage(process.pid)
        updates = pipeline.updates()
        seconds, share = usage.over(5.0)
        rate = (pipeline.updates() - updates) / seconds
        print(f"page server: {100 * share:.1f} % of a core with one browser at {rate:.0f} updates/s", flush=True)
        assert browser.foreign_addresses() == []
        assert browser.problems() == []
    print("the page holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""``raytrade demo --ui`` in headless Chromium, with real clicks; rubbish and crowds beside it.

    python -m tests.browser [--quick] [--out DIR]

Needs Debian's packages `chromium` and `chromium-driver`. Screenshots of every tab are written to DIR. `--quick` opens
100 connections where the whole check opens 1,000. At the end the demo itself says whether anything was missed.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from raytrade.demo.nodes import free_port
from tests.browser.crowd import Crowd, rubbish
from tests.browser.driving import Browser
from tests.ray.running import until

TABS = ("PIPELINE", "BOOK", "LINES", "LATENCY", "GAPS", "STRATEGIES", "EVENTS", "FAULTS")
QUICK, WHOLE = 100, 1000
START_S_MAX = 180.0
VICTIM = "demo-dedup-0-a"


class Demo:
    """``raytrade demo --ui`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.said: list[str] = []

    def page(self) -> str:
        """Wait for the page; gives its address."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            if line.startswith("page at "):
                return line.split()[2]
        raise AssertionError("".join(self.said))

    def end(self) -> str:
        """Press Ctrl-C; gives what it says of the result."""
        self._process.send_signal(signal.SIGINT)
        out, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, "".join(self.said) + out
        return out


@contextmanager
def shown(port: int, directory: Path) -> Iterator[Demo]:
    """Run the demo."""
    command = [sys.executable, "-m", "raytrade", "demo", "--ui", "--port", str(port), "--out", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Demo(process)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def check_tabs(browser: Browser) -> None:
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
    until(lambda: [row[1] for row in browser.rows()] == 6 * ["up"], "three collectors, two venues, all up")
    browser.picture("lines")
    browser.click_tab("LATENCY")
    until(lambda: browser.drawn() >= 1, "latencies are drawn")
    browser.picture("latency")
    browser.click_tab("STRATEGIES")
    until(lambda: re.search(r"(buy|sell) +\S+ binance-spot:BTCUSDT at \d", browser.text()), "fills are shown")
    browser.picture("strategies")


def check_buttons(browser: Browser) -> None:
    """Kill a dedup and pause a collector by their buttons: the page tells of it, the pipeline goes on."""
    browser.click_tab("FAULTS")
    browser.choose(VICTIM)
    browser.click("KILL")
    until(lambda: re.search(rf"killed {VICTIM} \(pid \d+\)", browser.text()), "the dedup was killed")
    browser.choose(until(lambda: next((one for one in browser.options() if "-collector-" in one), ""), "a collector"))
    browser.click("PAUSE 3 S")
    until(lambda: re.search(r"paused demo-collector-\S+ \(pid \d+\) for 3 s", browser.text()), "a collector was paused")
    assert "demo-strategy-watch" not in browser.options(), "what the demo is judged by is spared"
    browser.picture("faults")
    browser.click_tab("EVENTS")
    until(lambda: re.search(rf"actor_restarted +{VICTIM} pid=", browser.text()), "the restart is shown")
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
    until(lambda: is_let_in(port), "a place has come free")
    return f"{refused} kinds of rubbish refused; of {connections} websockets {crowd.refused} refused, {crowd.open} open"


def is_let_in(port: int) -> bool:
    """Tell whether one more is let in."""
    one = Crowd(port, 1)
    one.close()
    return one.open == 1


def main() -> int:
    """Run it all."""
    arguments = argparse.ArgumentParser(description="The page in a real browser over a real pipeline.")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--out", type=Path, default=None)
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True)))
        out = given.out or directory / "screenshots"
        out.mkdir(parents=True, exist_ok=True)
        began, port = time.monotonic(), free_port()
        demo = stack.enter_context(shown(port, directory / "recording"))
        address = demo.page()
        took = time.monotonic() - began
        print(f"from the command to the page: {took:.0f} s", flush=True)
        assert took < START_S_MAX
        browser = stack.enter_context(Browser(address, out))
        check_tabs(browser)
        check_buttons(browser)
        print(check_crowd(browser, port, QUICK if given.quick else WHOLE), flush=True)
        assert browser.foreign_addresses() == []
        assert browser.problems() == []
        assert "Nothing was missed." in demo.end()
    print("the page holds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

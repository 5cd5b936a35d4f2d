"""The page's server against rubbish: refused or dropped, counted, and a browser that behaves is served beside it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from benchmarks.page_client import PageClient, query_of
from raytrade.demo.nodes import free_port
from raytrade.web.hasty import CONNECTIONS_MAX
from tests.browser.crowd import Crowd, ask, rubbish, stalled

CROWD = 1000


class Server:
    """`tests.web.fake` in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.address}/counts", timeout=10) as reply:
            return dict(json.load(reply))

    def is_open(self) -> bool:
        """Tell whether there is a place for one more."""
        try:
            self.counts()
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "tests.web.fake", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Server(port)
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[PageClient]:
    """One that behaves, all along."""
    with PageClient(server.address) as client:
        until(lambda: client.updates > 1)
        yield client


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def still_pushed(browser: PageClient) -> None:
    before = browser.updates
    until(lambda: browser.updates > before + 1)


def test_what_is_no_demo_has_no_buttons_that_hit(server: Server) -> None:
    with urllib.request.urlopen(server.address, timeout=10) as reply:
        page = reply.read()
    assert b"Strategies" in page
    assert b"Faults" not in page and b"kill" not in page.lower()


def test_rubbish_is_refused_and_counted(server: Server, browser: PageClient) -> None:
    before = server.counts()
    rubbish(server.port)
    after = server.counts()
    assert after["refused_path"] >= before["refused_path"] + 4, "paths that lead out, or nowhere"
    assert after["refused_bytes"] >= before["refused_bytes"] + 3, "no HTTP"
    polling = ask(
        server.port, b"GET /_nicegui_ws/socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )
    assert polling[9:12] == b"404", "nothing is pushed but over the websockets that are counted"
    still_pushed(browser)


def test_a_head_without_end_is_dropped(server: Server, browser: PageClient) -> None:
    before = server.counts()["refused_size"]
    with socket.create_connection(("127.0.0.1", server.port), 10) as one, pytest.raises(OSError):
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        for _ in range(10_000):
            one.sendall(b"A" * 4096)
    assert server.counts()["refused_size"] == before + 1
    still_pushed(browser)


def test_a_thousand_connections(server: Server, browser: PageClient) -> None:
    before = server.counts()["refused_full"]
    crowd = Crowd(server.port, CROWD)
    try:
        assert crowd.open <= 31
        assert crowd.open + crowd.refused == CROWD
        assert server.counts()["refused_full"] >= before + crowd.refused
        still_pushed(browser)
        until(lambda: server.counts()["dropped_stalled"] >= crowd.open > 0)
        assert server.counts()["clients"] == 1, "who does not answer holds no place"
    finally:
        crowd.close()


def test_a_browser_that_reads_nothing_is_dropped(server: Server, browser: PageClient) -> None:
    before = server.counts()
    with stalled(server.port, urlencode(query_of(server.address))):
        until(lambda: server.counts()["clients"] == before["clients"] + 1)
        until(lambda: server.counts()["dropped_stalled"] == before["dropped_stalled"] + 1)
        assert server.counts()["clients"] == before["clients"]
    still_pushed(browser)


def test_connections_that_say_nothing(server: Server, browser: PageClient) -> None:
    """Beyond a bound they are refused at once; those within it hold their place for ten seconds."""
    before = server.counts()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX + 50):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
        still_pushed(browser)
        until(lambda: server.is_open())
        after = server.counts()
    assert after["dropped_silent"] > before["dropped_silent"]
    assert after["refused_full"] >= before["refused_full"] + 50
    assert browser.is_open

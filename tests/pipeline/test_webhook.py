"""Notices to a local receiver: in order, tried again, given up, never waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from raytrade.observation.alerts import Notice
from raytrade.pipeline import webhook
from raytrade.pipeline.webhook import PENDING_MAX, Webhook


def notice(subject: str) -> Notice:
    return Notice(pipeline="p", alert="disk_low", subject=subject, state="firing", summary="s", ts_ns=1)


class Receiver(HTTPServer):
    """Answers as many requests as told with 500, then takes everything."""

    def __init__(self) -> None:
        self.failures = 0
        self.taken: list[dict[str, Any]] = []
        self.go = threading.Event()
        self.go.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.go.wait(10)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.failures -= 1
                if server.failures < 0:
                    server.taken.append(body)
                self.send_response(204 if server.failures < 0 else 500)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(webhook, "RETRY_S", 0.01)
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.go.set()
        server.shutdown()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_notices_arrive_in_order(receiver: Receiver) -> None:
    hook = Webhook(receiver.url)
    for subject in "abc":
        hook.post(notice(subject))
    until(lambda: hook.sent == 3)
    hook.stop()
    assert [body["subject"] for body in receiver.taken] == ["a", "b", "c"]
    assert receiver.taken[0]["alert"] == "disk_low"


def test_a_failing_receiver_is_tried_again_and_then_given_up(receiver: Receiver) -> None:
    receiver.failures = 4
    hook = Webhook(receiver.url)
    hook.post(notice("lost"))
    hook.post(notice("late"))
    until(lambda: (hook.sent, hook.lost) == (1, 1))
    hook.stop()
    assert [body["subject"] for body in receiver.taken] == ["late"]
    assert hook.problem == ""


def test_a_hanging_receiver_holds_nobody_up(receiver: Receiver) -> None:
    receiver.go.clear()
    hook = Webhook(receiver.url)
    began = time.monotonic()
    for number in range(PENDING_MAX + 10):
        hook.post(notice(str(number)))
    assert time.monotonic() - began < 1
    assert hook.lost >= 9
    hook.stop()


def test_without_an_address_nothing_is_kept() -> None:
    hook = Webhook("")
    hook.post(notice("a"))
    assert (hook.sent, hook.lost) == (0, 0)

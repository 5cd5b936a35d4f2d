from __future__ import annotations

import asyncio
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrade.core.clock import SECOND
from raytrade.errors import LineLost
from raytrade.transport import rest
from raytrade.transport.egress import Egress
from raytrade.transport.rest import WINDOW_NS, WeightBudget, fetch


def test_what_is_spent_comes_back_after_a_minute() -> None:
    budget = WeightBudget(50)
    assert [budget.spend(20, 0) for _ in range(2)] == [0, 0]
    assert budget.spend(20, SECOND) == WINDOW_NS - SECOND
    assert budget.spend(10, SECOND) == 0
    assert budget.spend(20, WINDOW_NS) == 0
    assert (budget.counts.requests, budget.counts.spent) == (4, 30)


def test_without_a_stated_limit_nothing_waits() -> None:
    budget = WeightBudget(0)
    assert [budget.spend(1000, 0) for _ in range(50)] == [0] * 50


def test_what_never_fits_is_never_spent() -> None:
    budget = WeightBudget(1)
    assert [budget.spend(250, at * WINDOW_NS) > 0 for at in range(3)] == [True] * 3


def test_more_may_be_spent_only_when_others_have_had_a_minute_to_spend_less() -> None:
    budget = WeightBudget(100)
    budget.limit(200, 0, 1, 0)
    assert [budget.spend(100, 0), budget.spend(100, 1)] == [0, WINDOW_NS - 1]
    budget.limit(200, 0, 1, SECOND)
    assert [budget.spend(100, WINDOW_NS) for _ in range(3)] == [0, 0, WINDOW_NS]
    budget.limit(100, 0, 1, WINDOW_NS)
    assert budget.spend(100, WINDOW_NS + 1) > 0


def test_one_that_was_restarted_has_one_request_in_its_first_minute() -> None:
    budget = WeightBudget(1000)
    budget.begin_late(250, 0)
    assert [budget.spend(250, 0) > 0 for _ in range(2)] == [False, True]
    assert budget.spend(750, WINDOW_NS) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(1, 40)), max_size=40))
def test_no_minute_spends_more_than_the_budget(requests: list[tuple[int, int]]) -> None:
    budget = WeightBudget(100)
    spent: list[tuple[int, int]] = []
    now_ns = 0
    for pause_ns, weight in requests:
        now_ns += pause_ns
        while (wait_ns := budget.spend(weight, now_ns)) > 0:
            now_ns += wait_ns
        spent.append((now_ns, weight))
        window = sum(part for at, part in spent if at > now_ns - WINDOW_NS)
        assert window <= 100


def answer(monkeypatch: pytest.MonkeyPatch, reply: Callable[[], io.BytesIO]) -> list[urllib.request.Request]:
    asked: list[urllib.request.Request] = []

    def open_(_: object, request: urllib.request.Request, timeout: float) -> Any:
        assert timeout > 0
        asked.append(request)
        return reply()

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", open_)
    return asked


def fetched(url: str = "https://api.example/depth") -> bytes:
    """Fetch with the thread taken out: its loop would need a socket pair."""
    work = fetch(url, Egress())
    try:
        work.send(None)
    except StopIteration as done:
        return bytes(done.value)
    raise AssertionError("still waiting")


@pytest.fixture(autouse=True)
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(function: Callable[..., bytes], *arguments: object) -> bytes:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", run)


def test_a_body_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, lambda: io.BytesIO(b"{}"))
    assert fetched() == b"{}"
    assert (asked[0].full_url, asked[0].get_header("Accept")) == ("https://api.example/depth", "application/json")


def refused() -> io.BytesIO:
    raise urllib.error.HTTPError("https://api.example", 429, "Too Many Requests", {}, None)  # type: ignore[arg-type]


def unreachable() -> io.BytesIO:
    raise urllib.error.URLError("no route")


def late() -> io.BytesIO:
    raise TimeoutError("timed out")


@pytest.mark.parametrize(("reply", "reason"), [(refused, "429"), (unreachable, "no route"), (late, "timed out")])
def test_no_answer_is_a_lost_line(
    monkeypatch: pytest.MonkeyPatch, reply: Callable[[], io.BytesIO], reason: str
) -> None:
    answer(monkeypatch, reply)
    with pytest.raises(LineLost, match=reason):
        fetched()


def test_a_body_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BODY_BYTES_MAX", 10)
    answer(monkeypatch, lambda: io.BytesIO(b"x" * 11))
    with pytest.raises(LineLost, match="more than 10 bytes"):
        fetched()


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://a", "", "api.example/depth"])
def test_only_http_is_fetched(url: str) -> None:
    with pytest.raises(LineLost, match="not an http address"):
        fetched(url)

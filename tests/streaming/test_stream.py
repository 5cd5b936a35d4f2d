"""`raytrade.stream` and `raytrade.subscribe` against exchanges that know the truth: cuts, losses, slow consumers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import raytrade
from raytrade import BookDelta, BookSnapshot, BookState, Event, Gap, GapKind, L2Book, LineDown, LineUp, Side, Trade
from raytrade.emulator import EmulatorSettings, EmulatorThread, run_in_thread
from raytrade.errors import ConfigError
from raytrade.streaming import Stream

NAME = "binance-spot:BTCUSDT"
UPDATES = 600
DEADLINE_S = 30.0


@pytest.fixture
def exchange() -> Iterator[EmulatorThread]:
    settings = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=400, updates=UPDATES, clients=1000)
    with run_in_thread(settings) as emulator:
        yield emulator


def urls(exchange: EmulatorThread) -> dict[str, tuple[str, str]]:
    return {"binance-spot": (exchange.url, exchange.url.replace("ws://", "http://"))}


def test_the_stream_is_whole_over_a_cut_and_losses(exchange: EmulatorThread) -> None:
    exchange.set_fault("conn=1:drop=0.05")
    events: list[Event] = []
    book = L2Book(NAME)

    async def course() -> Stream:
        async with asyncio.timeout(DEADLINE_S), raytrade.stream(NAME, connections=3, urls=urls(exchange)) as stream:
            async for event in stream:
                events.append(event)
                if isinstance(event, BookSnapshot | BookDelta):
                    book.apply(event)
                if sum(isinstance(one, LineUp) for one in events) == 3 and len(events) == 3:
                    exchange.begin()
                if len(events) == 200:
                    exchange.cut(2)
                ids = exchange.truth().ids["BTCUSDT"]
                is_cut = any(isinstance(one, LineDown) for one in events)
                if is_cut and len(ids) == UPDATES and book.id_last == ids[-1]:
                    break
        return stream

    stream = asyncio.run(course())
    truth = exchange.truth()
    assert not [event for event in events if isinstance(event, Gap)]
    assert any(isinstance(event, LineDown) for event in events)
    applied = [event.id_last for event in events if isinstance(event, BookDelta) and not event.flags]
    assert applied == sorted(set(applied))
    assert set(truth.ids["BTCUSDT"][-300:]) <= set(applied)
    assert (book.texts(Side.BUY), book.texts(Side.SELL)) == (truth.books["BTCUSDT"].bids, truth.books["BTCUSDT"].asks)
    wins = {line: counts.wins for line, counts in stream.statistics().items()}
    assert len(wins) == 3
    assert stream.books[NAME].id_last == book.id_last


def test_a_slow_consumer_is_told_and_goes_on_from_the_book(exchange: EmulatorThread) -> None:
    events: list[Event] = []

    async def course() -> Stream:
        stream = raytrade.stream(NAME, urls=urls(exchange), channels=["book"], queue_events_max=50)
        async with asyncio.timeout(DEADLINE_S), stream:
            exchange.begin()
            async for event in stream:
                events.append(event)
                if isinstance(event, BookDelta):
                    break
            while not stream.overruns:
                await asyncio.sleep(0.01)
            async for event in stream:
                events.append(event)
                if isinstance(event, BookSnapshot) and any(isinstance(one, Gap) for one in events):
                    break
        return stream

    asyncio.run(course())
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [gap.kind for gap in gaps] == [GapKind.SLOW_CONSUMER]
    image = events[-1]
    assert isinstance(image, BookSnapshot)
    assert gaps[0].id_prev < gaps[0].id_last == image.id_last


def test_a_callback_is_called_for_everything_in_order(exchange: EmulatorThread) -> None:
    trades: list[str] = []
    enough = threading.Event()
    exchange.begin()

    def on_event(event: Event) -> None:
        if isinstance(event, Trade):
            trades.append(event.trade_id)
        if len(trades) >= 20:
            enough.set()

    with raytrade.subscribe(on_event, NAME, urls=urls(exchange)) as subscription:
        assert enough.wait(DEADLINE_S)
        assert subscription.is_running()
    assert not subscription.is_running()
    assert [int(text) for text in trades] == sorted({int(text) for text in trades})


def test_an_exception_of_the_callback_comes_back(exchange: EmulatorThread) -> None:
    def refuse(event: Event) -> None:
        raise ValueError("not this one")

    subscription = raytrade.subscribe(refuse, NAME, urls=urls(exchange))
    with pytest.raises(ValueError, match="not this one"):
        while subscription.is_running():
            threading.Event().wait(0.01)
        subscription.stop()
    assert not subscription.is_running()


def test_closing_ends_the_loop(exchange: EmulatorThread) -> None:
    async def course() -> int:
        stream = raytrade.stream(NAME, urls=urls(exchange))
        asyncio.get_running_loop().call_later(0.3, lambda: closings.append(asyncio.ensure_future(stream.close())))
        closings: list[asyncio.Future[None]] = []
        return len([event async for event in stream])

    assert asyncio.run(course()) == 2  # both lines came up, the exchange was silent


def test_all_lines_down_makes_the_book_useless() -> None:
    settings = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=400, clients=1000)

    async def course() -> BookState:
        with run_in_thread(settings) as exchange:
            stream = raytrade.stream(NAME, urls=urls(exchange), connections=1)
            async with asyncio.timeout(DEADLINE_S), stream:
                exchange.begin()
                async for event in stream:
                    if NAME in stream.books and stream.books[NAME].state is BookState.LIVE:
                        exchange.cut()
                    if isinstance(event, LineDown):
                        break
                return stream.books[NAME].state

    assert asyncio.run(course()) is BookState.STALE


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        ((), {}, "at least one instrument"),
        (("BTCUSDT",), {}, "an instrument is written <venue>:<symbol>"),
        (("binance-spt:BTCUSDT",), {}, "did you mean binance-spot?"),
        ((NAME,), {"connections": 0}, "0 is not within 1 and 16"),
        ((NAME,), {"channels": ["bok"]}, "known are book, trades"),
        ((NAME,), {"channels": []}, "at least one instrument"),
    ],
)
def test_bad_input_is_refused_at_once(arguments: tuple[str, ...], options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        raytrade.stream(*arguments, **options)  # type: ignore[arg-type]


def test_no_ray_is_loaded() -> None:
    code = "import sys, raytrade; raytrade.stream('kraken-v2:BTC/USD'); print({'ray', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"

"""How fast history plays into a strategy that does nothing: level updates a second, beside NautilusTrader's engine.

    python -m benchmarks.replay [--events N] [--rounds N] [--json FILE]

The same deltas, 8 levels each (4 a side), of one instrument. raytrade reads them from its Parquet files, decoding
included; Nautilus has them as objects in memory, and only `BacktestEngine.run` is timed. Both keep the exact book, call
a callback per delta, and end with the same touch, which is checked. A second contender of ours reads the touch at every
delta. Contenders take turns in each round; every run is a process of its own, so that none pays for another's garbage.
`nautilus_trader` is of the extra ``bench``; where it is not installed it is left out by name.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from raytrade.core.book import L2Book
from raytrade.core.clock import MILLISECOND, SECOND
from raytrade.core.events import BookDelta, BookSnapshot
from raytrade.core.message import encode, parse

INSTRUMENT = "binance-spot:BTCUSDT"
LEVELS = 8
START_NS = 1_700_000_000 * SECOND
CONTENDERS = ("raytrade", "raytrade, reading the touch", "nautilus_trader")
Sides = tuple[tuple[int, ...], tuple[int, ...]]


def changes(count: int, seed: int = 1) -> Iterator[Sides]:
    """Give 200 levels a side, then deltas around a touch that walks; prices and sizes in hundredths."""
    rng = random.Random(seed)
    mid = 6_000_000
    yield tuple(
        tuple(value for at in range(200) for value in (mid + sign * (1 + at), rng.randrange(1, 10_000)))
        for sign in (-1, 1)
    )  # type: ignore[misc]
    for _ in range(count):
        step = rng.choice((-1, 0, 0, 0, 0, 0, 0, 1))
        mid += step
        sides = []
        for sign in (-1, 1):
            prices = [mid + sign * (1 + min(int(rng.expovariate(0.1)), 150)) for _ in range(LEVELS // 2)]
            levels = [(price, 0 if rng.random() < 0.1 else rng.randrange(1, 10_000)) for price in prices]
            if step == sign:
                levels[0] = (mid, 0)
            sides.append(tuple(value for level in levels for value in level))
        yield sides[0], sides[1]


def record(directory: Path, count: int) -> None:
    """Write the market as a recorder does."""
    from raytrade.storage.sink import ParquetSink, SinkSettings

    sink = ParquetSink(directory, SinkSettings(segment_messages_max=100_000))
    common: dict[str, Any] = {"instrument": INSTRUMENT, "price_scale": 2, "size_scale": 2}
    for number, (bids, asks) in enumerate(changes(count)):
        at_ns = START_NS + number * MILLISECOND
        fields = common | {"ts_recv_ns": at_ns, "ts_venue_ns": at_ns, "id_last": number + 1, "bids": bids, "asks": asks}
        if number == 0:
            event: BookSnapshot | BookDelta = BookSnapshot(**fields)
        else:
            event = BookDelta(id_prev=number, **fields)
        sink.write([parse(encode(event, "1"))], START_NS)
    sink.close()


def play_raytrade(directory: Path, *, reads_touch: bool) -> dict[str, Any]:
    """Play the files into an engine."""
    from raytrade.core.delta_run import Part
    from raytrade.core.instrument import Filter
    from raytrade.replay import EventPlayer
    from raytrade.rules import rule_of
    from raytrade.storage.memory import keep_memory
    from raytrade.storage.recording import open_recording
    from raytrade.strategy import BaseStrategy, Context
    from raytrade.strategy.replay_engine import ReplayEngine

    class Empty(BaseStrategy):
        calls = 0

        def on_book(self, context: Context, book: L2Book) -> None:
            self.calls += 1

    class Reading(Empty):
        def on_book(self, context: Context, book: L2Book) -> None:
            self.calls += 1
            book.top()

    keep_memory()
    strategy = Reading() if reads_touch else Empty()
    engine = ReplayEngine("empty", strategy, Filter("*"), rule_of)
    player = EventPlayer(engine)
    began, began_cpu = perf_counter(), process_time()
    for now_ns, item in open_recording(directory).timed_runs():
        if isinstance(item, Part):
            run, at, last = item
            while at < last:
                at, _ = player.play_run(run, at, last)
        else:
            player.play_event(now_ns, item)
    player.finish()
    taken = perf_counter() - began, process_time() - began_cpu
    top = engine.books[INSTRUMENT].top()
    assert top is not None
    return {"calls": strategy.calls, "seconds": taken[0], "cpu": taken[1], "touch": [top.bid, top.ask]}


def play_nautilus(count: int) -> dict[str, Any]:
    """Run the same deltas through Nautilus's engine."""
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.model.currencies import USDT
    from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas
    from nautilus_trader.model.enums import AccountType, BookAction, BookType, OmsType, OrderSide, RecordFlag
    from nautilus_trader.model.identifiers import Venue
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.test_kit.providers import TestInstrumentProvider
    from nautilus_trader.trading.strategy import Strategy

    instrument = TestInstrumentProvider.btcusdt_binance()

    class Empty(Strategy):  # type: ignore[misc]
        calls = 0

        def on_start(self) -> None:
            self.subscribe_order_book_deltas(instrument.id, book_type=BookType.L2_MBP)

        def on_order_book_deltas(self, deltas: Any) -> None:
            self.calls += 1

    def deltas(number: int, sides: Sides) -> Any:
        ts_ns, found = START_NS + number * MILLISECOND, []
        for side, flat in ((OrderSide.BUY, sides[0]), (OrderSide.SELL, sides[1])):
            for price, size in zip(flat[::2], flat[1::2], strict=True):
                order = BookOrder(side, Price(price / 100, 2), Quantity(size / 100, 6), 0)
                action = BookAction.UPDATE if size else BookAction.DELETE
                found.append((action, order))
        last = len(found) - 1
        parts = [
            OrderBookDelta(instrument.id, action, order, RecordFlag.F_LAST if at == last else 0, number, ts_ns, ts_ns)
            for at, (action, order) in enumerate(found)
        ]
        return OrderBookDeltas(instrument.id, parts)

    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        venue=Venue("BINANCE"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        base_currency=None,
        starting_balances=[Money(1_000_000, USDT)],
        book_type=BookType.L2_MBP,
    )
    engine.add_instrument(instrument)
    engine.add_data([deltas(number, sides) for number, sides in enumerate(changes(count))])
    strategy = Empty()
    engine.add_strategy(strategy)
    began, began_cpu = perf_counter(), process_time()
    engine.run()
    taken = perf_counter() - began, process_time() - began_cpu
    book = engine.cache.order_book(instrument.id)
    touch = [round(float(price), 2) for price in (book.best_bid_price(), book.best_ask_price())]
    return {"calls": strategy.calls, "seconds": taken[0], "cpu": taken[1], "touch": touch}


def play(contender: str, directory: Path, count: int) -> dict[str, Any]:
    """Run one contender once, in this process."""
    if contender == "nautilus_trader":
        return play_nautilus(count)
    return play_raytrade(directory, reads_touch=contender != "raytrade")


def measure(count: int, rounds: int) -> dict[str, Any]:
    """Run all contenders in turn, each in its own process."""
    names = [name for name in CONTENDERS if name != "nautilus_trader" or importlib.util.find_spec(name) is not None]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as directory:
        record(Path(directory), count)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                command = [sys.executable, "-m", "benchmarks.replay", "--play", name, directory, str(count)]
                ended = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append(json.loads(ended.stdout.splitlines()[-1]))
    assert len({(run["calls"], *run["touch"]) for runs in found.values() for run in runs}) == 1, found
    rates = {name: median(count * LEVELS / run["cpu"] for run in runs) for name, runs in found.items()}
    missing = [name for name in CONTENDERS if name not in names]
    return {"events": count, "rounds": rounds, "levels_a_second": rates, "left_out": missing}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        name, directory, count = options.play
        print(json.dumps(play(name, Path(directory), int(count))))
        return
    result = measure(options.events, options.rounds)
    ours = result["levels_a_second"]["raytrade"]
    for name, rate in result["levels_a_second"].items():
        print(f"{name:30s} {rate / 1e6:6.2f} M levels/s of processor time, ours is {ours / rate:4.2f} times as fast")
    for name in result["left_out"]:
        print(f"{name}: not installed, left out")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

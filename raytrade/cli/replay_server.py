"""``raytrade replay DIR --serve``: a recording as the venue's own websocket and REST, through the emulator.

Of the venues whose ids and windows go into the wire format as they were recorded: Binance's. What was lost when it was
recorded is lost again: the true book moves on, nobody is told, and a client finds the hole by the ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from raytrade.core.book import BookState, L2Book
from raytrade.core.clock import SECOND, Nanos
from raytrade.core.events import BookDelta, BookSnapshot, Channel, Flag, Gap, Levels, Side, Trade
from raytrade.core.instrument import split_instrument
from raytrade.core.prices import rescale
from raytrade.emulator import EmulatorSettings, Script, ScriptStep, serve
from raytrade.emulator.market import Level, Step
from raytrade.emulator.market import Trade as Print
from raytrade.errors import ConfigError
from raytrade.storage.recording import Recording
from raytrade.storage.source import TimedEvent

DIGITS = {"binance-spot": (8, 8), "binance-us": (8, 8), "binance-usdm": (2, 8)}
"""Digits behind the point of prices and sizes, as each venue that can be served prints them."""
_UNTOLD = Flag.UNAPPLIED | Flag.HISTORY


Interval = tuple[str | None, str | None]


class Served(NamedTuple):
    """What is served and where; `speed` 0 is as fast as the clients take it."""

    speed: float
    host: str
    port: int
    clients: int
    faults: tuple[str, ...]


def serve_recording(recording: Recording, interval: Interval, globs: list[str], how: Served) -> int:
    """Serve until Ctrl-C; gives the exit status.

    Raises:
        ConfigError: the instruments are of several venues or of one that cannot be served, or an option is wrong.
    """
    settings, script = prepared(recording, interval, globs, how)
    return serve(settings, script)


def prepared(
    recording: Recording, interval: Interval, globs: list[str], how: Served
) -> tuple[EmulatorSettings, Script]:
    """Give what the emulator needs.

    Raises:
        ConfigError: as `serve_recording`.
    """
    names = sorted({name for name, _ in recording.streams(globs)})
    venues = sorted({split_instrument(name)[0] for name in names})
    if len(venues) != 1 or venues[0] not in DIGITS:
        problem = f"one venue at a time, of {', '.join(DIGITS)}; these are of {', '.join(venues)}"
        raise ConfigError("replay", "--serve", problem)
    events = recording.timed_events(*interval, names, images=True)
    symbols = [split_instrument(name)[1] for name in names]
    settings = EmulatorSettings(
        venue=venues[0],
        symbols=tuple(symbols),
        speed=how.speed,
        host=how.host,
        port=how.port,
        clients=how.clients,
        faults=how.faults,
    )
    return settings, _Scripting(DIGITS[venues[0]], symbols).script(events)


class _Scripting:
    """Turns events into steps; begins where every book is whole."""

    def __init__(self, scales: tuple[int, int], symbols: list[str]) -> None:
        self._scales = scales
        self._books = {symbol: L2Book(symbol) for symbol in symbols}
        self._origin_ns: Nanos = 0

    def script(self, events: Iterator[TimedEvent]) -> Script:
        """Give the script; what comes before the first whole book of each symbol only makes that book."""
        wanted = set(self._books)
        for now_ns, event in events:
            if isinstance(event, BookSnapshot) and not event.flags & Flag.UNAPPLIED:
                wanted.discard(split_instrument(event.instrument)[1])
            self._follow(event)
            self._origin_ns = now_ns
            if not wanted:
                break
        opening = {
            symbol: (book.id_last, tuple(_levels(_sides(book), _factors(book, self._scales))))
            for symbol, book in self._books.items()
        }
        return Script(
            books=opening,
            steps=self._steps(events),
            price_scale=self._scales[0],
            size_scale=self._scales[1],
        )

    def _follow(self, event: object) -> None:
        if isinstance(event, BookSnapshot | BookDelta):
            self._books[split_instrument(event.instrument)[1]].apply(event)

    def _steps(self, events: Iterable[TimedEvent]) -> Iterator[ScriptStep]:
        for now_ns, event in events:
            at_s = (now_ns - self._origin_ns) / SECOND
            symbol = split_instrument(event.instrument)[1]
            book = self._books[symbol]
            if isinstance(event, Trade):
                if not event.flags & Flag.HISTORY:
                    yield ScriptStep(at_s, Step(symbol, 0, 0, 0, (), self._print(symbol, event)))
            elif isinstance(event, Gap):
                if event.channel is Channel.BOOK:
                    book.invalidate()
            elif isinstance(event, BookDelta) and not event.flags & _UNTOLD and book.state is BookState.LIVE:
                book.apply(event)
                levels = tuple(_levels((event.bids, event.asks), _factors(event, self._scales)))
                yield ScriptStep(at_s, Step(symbol, event.id_prev, event.id_prev + 1, event.id_last, levels))
            elif isinstance(event, BookSnapshot) and not event.flags & _UNTOLD:
                yield self._resync(at_s, symbol, event)

    def _resync(self, at_s: float, symbol: str, event: BookSnapshot) -> ScriptStep:
        """Move the true book to a whole one, untold: the ids that follow show the hole, where there is one."""
        book, whole = self._books[symbol], L2Book(symbol)
        whole.apply(event)
        gone = [
            tuple(value for price, _ in book.levels(side) for value in (price, 0)) for side in (Side.BUY, Side.SELL)
        ]
        levels = chain(
            _levels((gone[0], gone[1]), _factors(book, self._scales)),
            _levels(_sides(whole), _factors(whole, self._scales)),
        )
        book.apply(event)
        return ScriptStep(at_s, Step(symbol, 0, 0, event.id_last, tuple(levels)), is_silent=True)

    def _print(self, symbol: str, trade: Trade) -> Print:
        price_factor, size_factor = _factors(trade, self._scales)
        number = trade.sequence or int(trade.trade_id)
        return Print(symbol, number, trade.price * price_factor, trade.size * size_factor, trade.aggressor is Side.BUY)


def _factors(scaled: L2Book | BookDelta | BookSnapshot | Trade, scales: tuple[int, int]) -> tuple[int, int]:
    """Give what prices and sizes are multiplied by."""
    if scaled.price_scale > scales[0] or scaled.size_scale > scales[1]:
        problem = f"has prices or sizes finer than the venue prints: {scales[0]} and {scales[1]} digits"
        raise ConfigError("replay", scaled.instrument, problem)
    return 10 ** (scales[0] - scaled.price_scale), 10 ** (scales[1] - scaled.size_scale)


def _sides(book: L2Book) -> tuple[Levels, Levels]:
    bids, asks = (tuple(value for level in book.levels(side) for value in level) for side in (Side.BUY, Side.SELL))
    return bids, asks


def _levels(sides: tuple[Levels, Levels], factors: tuple[int, int]) -> Iterator[Level]:
    for is_bid, flat in zip((True, False), sides, strict=True):
        scaled = rescale(flat, *factors)
        for price, size in zip(scaled[::2], scaled[1::2], strict=True):
            yield Level(is_bid, price, size)

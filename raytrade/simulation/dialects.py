"""The venue's side of one connection, in the venue's own frames; one class per dialect."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import lru_cache
from zlib import crc32

from raytrade.core.clock import MILLISECOND, SECOND, Nanos
from raytrade.simulation.market import TRADES_RESENT, Market, Print, Row, price_text, size_text

FLUSH_SHARE = 0.45
"""How likely a window that is not full ends with a change."""
CHECKSUM_LEVELS = 10


@lru_cache(maxsize=4096)
def _instant(ts_ns: Nanos) -> str:
    moment = datetime.fromtimestamp(ts_ns // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts_ns % SECOND // 1000:06d}Z"


class Dialect:
    """What one connection was told and what it is to be told; `window_max` is for dialects with windows."""

    def __init__(self, market: Market, symbol: str, rng: random.Random, window_max: int, depth: int) -> None:
        self.market = market
        self.symbol = symbol
        self.random = rng
        self.window_max = window_max
        self.depth = depth
        self.has_book = False
        self.has_trades = False

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Take a frame of the client; give the answers."""
        raise NotImplementedError

    def changed(self, now_ns: Nanos) -> list[str]:
        """The book has changed."""
        raise NotImplementedError

    def traded(self, print_: Print, now_ns: Nanos) -> list[str]:
        """There was a trade."""
        return []

    def beat(self, now_ns: Nanos) -> list[str]:
        """A second has passed."""
        return []

    def flush(self, now_ns: Nanos) -> list[str]:
        """End the window that is open."""
        return []

    def rest_book(self) -> bytes:
        """Give the REST book, where there is one."""
        return b""


class BinanceDialect(Dialect):
    """Diff depth with windows that differ between connections, trades with dense ids, REST books."""

    is_trimmed = True

    def __init__(self, market: Market, symbol: str, rng: random.Random, window_max: int, depth: int) -> None:
        super().__init__(market, symbol, rng, window_max, depth)
        self._sent = market.id_last

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Any request is the subscription."""
        if "SUBSCRIBE" not in text:
            return []
        self.has_book = self.has_trades = True
        self._sent = self.market.id_last
        return ['{"result":null,"id":1}']

    def changed(self, now_ns: Nanos) -> list[str]:
        """Send the window, or let it grow."""
        is_full = self.market.id_last - self._sent >= self.window_max
        return self.flush(now_ns) if is_full or self.random.random() < FLUSH_SHARE else []

    def flush(self, now_ns: Nanos) -> list[str]:
        """Send the window."""
        first, last = self._sent, self.market.id_last
        if not self.has_book or first == last:
            return []
        self._sent = last
        bids, asks = self.market.window(first, last)
        sides = f'"b":{self._pairs(bids)},"a":{self._pairs(asks)}'
        event = f'"e":"depthUpdate","E":{now_ns // MILLISECOND},"s":"{self.symbol}","U":{first + 1},"u":{last},{sides}'
        return [f'{{"stream":"{self.symbol.lower()}@depth@100ms","data":{{{event}}}}}']

    def _pairs(self, rows: list[Row]) -> str:
        trimmed = self.is_trimmed
        texts = [f'["{price_text(p, trimmed=trimmed)}","{size_text(s, trimmed=trimmed)}"]' for p, s in rows]
        return f"[{','.join(texts)}]"

    def traded(self, print_: Print, now_ns: Nanos) -> list[str]:
        """Send the trade."""
        if not self.has_trades:
            return []
        names = f'"e":"trade","E":{now_ns // MILLISECOND},"T":{print_.ts_venue_ns // MILLISECOND},"s":"{self.symbol}"'
        price, size = price_text(print_.price, trimmed=True), size_text(print_.size, trimmed=True)
        values = f'"t":{print_.number},"p":"{price}","q":"{size}","m":{"false" if print_.is_buy else "true"}'
        return [f'{{"stream":"{self.symbol.lower()}@trade","data":{{{names},{values}}}}}']

    def rest_book(self) -> bytes:
        """Give the book as it is now."""
        bids, asks = self.market.state(self.market.id_last)
        text = f'{{"lastUpdateId":{self.market.id_last},"bids":{self._pairs(bids)},"asks":{self._pairs(asks)}}}'
        return text.encode()


class HitbtcDialect(Dialect):
    """Snapshots in band and one message per change, the same on every connection."""

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Subscriptions answer with what was before."""
        if "unsubscribeOrderbook" in text:
            self.has_book = False
        elif "subscribeOrderbook" in text:
            self.has_book = True
            return [self._book("snapshotOrderbook", *self.market.state(self.market.id_last))]
        elif "subscribeTrades" in text:
            self.has_trades = True
            return [self._prints("snapshotTrades", self.market.prints[-TRADES_RESENT:])]
        return []

    def _book(self, method: str, bids: list[Row], asks: list[Row]) -> str:
        number = self.market.id_last
        sides = f'"ask":{self._levels(asks)},"bid":{self._levels(bids)}'
        names = f'"symbol":"{self.symbol}","sequence":{number},"timestamp":"{_instant(self.market.at_ns(number))}"'
        return f'{{"jsonrpc":"2.0","method":"{method}","params":{{{sides},{names}}}}}'

    @staticmethod
    def _levels(rows: list[Row]) -> str:
        texts = [f'{{"price":"{price_text(price)}","size":"{size_text(size)}"}}' for price, size in rows]
        return f"[{','.join(texts)}]"

    def changed(self, now_ns: Nanos) -> list[str]:
        """Send the change."""
        if not self.has_book:
            return []
        return [self._book("updateOrderbook", *self.market.window(self.market.id_last - 1, self.market.id_last))]

    def _prints(self, method: str, prints: list[Print]) -> str:
        rows = [
            f'{{"id":{each.number},"price":"{price_text(each.price)}","quantity":"{size_text(each.size)}",'
            f'"side":"{"buy" if each.is_buy else "sell"}","timestamp":"{_instant(each.ts_venue_ns)}"}}'
            for each in prints
        ]
        params = f'{{"data":[{",".join(rows)}],"symbol":"{self.symbol}"}}'
        return f'{{"jsonrpc":"2.0","method":"{method}","params":{params}}}'

    def traded(self, print_: Print, now_ns: Nanos) -> list[str]:
        """Send the trade."""
        return [self._prints("updateTrades", [print_])] if self.has_trades else []


class KrakenDialect(Dialect):
    """Books of a limited depth without ids, each message with the checksum of the best levels."""

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Acknowledge and send the book, or the last trades."""
        is_book = '"book"' in text
        if "unsubscribe" in text:
            self.has_book = self.has_book and not is_book
        elif '"trade"' in text:
            self.has_trades = True
            return [self._prints("snapshot", self.market.prints[-TRADES_RESENT:])]
        elif is_book:
            self.has_book = True
            result = f'{{"channel":"book","symbol":"{self.symbol}","depth":{self.depth}}}'
            bids, asks = self.market.state(self.market.id_last)
            book = self._book("snapshot", bids[: self.depth], asks[: self.depth])
            return [f'{{"method":"subscribe","success":true,"result":{result}}}', book]
        return []

    def _book(self, kind: str, bids: list[Row], asks: list[Row]) -> str:
        number = self.market.id_last
        now_bids, now_asks = self.market.state(number)
        best = now_asks[:CHECKSUM_LEVELS] + now_bids[:CHECKSUM_LEVELS]
        checksum = crc32("".join([f"{price}{size}" for price, size in best]).encode())
        sides = f'"bids":{self._levels(bids)},"asks":{self._levels(asks)}'
        names = f'"symbol":"{self.symbol}",{sides},"checksum":{checksum}'
        row = f'{names},"timestamp":"{_instant(self.market.at_ns(number))}"'
        return f'{{"channel":"book","type":"{kind}","data":[{{{row}}}]}}'

    @staticmethod
    def _levels(rows: list[Row]) -> str:
        texts = [f'{{"price":{price_text(price)},"qty":{size_text(size)}}}' for price, size in rows]
        return f"[{','.join(texts)}]"

    def changed(self, now_ns: Nanos) -> list[str]:
        """Send the change, if it shows within the depth."""
        if not self.has_book:
            return []
        bids, asks = self.market.cut_window(self.market.id_last, self.depth)
        return [self._book("update", bids, asks)] if bids or asks else []

    def _prints(self, kind: str, prints: list[Print]) -> str:
        rows = [
            f'{{"symbol":"{self.symbol}","side":"{"buy" if each.is_buy else "sell"}","price":{price_text(each.price)},'
            f'"qty":{size_text(each.size)},"trade_id":{each.number},"timestamp":"{_instant(each.ts_venue_ns)}"}}'
            for each in prints
        ]
        return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'

    def traded(self, print_: Print, now_ns: Nanos) -> list[str]:
        """Send the trade."""
        return [self._prints("update", [print_])] if self.has_trades else []

    def beat(self, now_ns: Nanos) -> list[str]:
        """The venue's heartbeat."""
        return ['{"channel":"heartbeat"}']


class CoinbaseDialect(Dialect):
    """One counter for all frames of the connection, books in band, no checksum."""

    def __init__(self, market: Market, symbol: str, rng: random.Random, window_max: int, depth: int) -> None:
        super().__init__(market, symbol, rng, window_max, depth)
        self._sequence = -1
        self._has_beats = False

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Subscriptions answer with what was before."""
        if "heartbeats" in text:
            self._has_beats = True
        elif "level2" in text:
            self.has_book = '"subscribe"' in text
            if self.has_book:
                return [self._book("snapshot", *self.market.state(self.market.id_last))]
        elif "market_trades" in text:
            self.has_trades = True
            return [self._prints("snapshot", self.market.prints[-TRADES_RESENT:], now_ns)]
        return []

    def _frame(self, channel: str, now_ns: Nanos, events: str) -> str:
        self._sequence += 1
        times = f'"timestamp":"{_instant(now_ns)}","sequence_num":{self._sequence}'
        return f'{{"channel":"{channel}",{times},"events":[{events}]}}'

    def _book(self, kind: str, bids: list[Row], asks: list[Row]) -> str:
        at_ns = self.market.at_ns(self.market.id_last)
        event_time = f'"event_time":"{_instant(at_ns)}"'
        rows = [
            f'{{"side":"{side}",{event_time},"price_level":"{price_text(price)}","new_quantity":"{size_text(size)}"}}'
            for side, part in (("bid", bids), ("offer", asks))
            for price, size in part
        ]
        return self._frame(
            "l2_data", at_ns, f'{{"type":"{kind}","product_id":"{self.symbol}","updates":[{",".join(rows)}]}}'
        )

    def changed(self, now_ns: Nanos) -> list[str]:
        """Send the change."""
        if not self.has_book:
            return []
        return [self._book("update", *self.market.window(self.market.id_last - 1, self.market.id_last))]

    def _prints(self, kind: str, prints: list[Print], now_ns: Nanos) -> str:
        rows = [
            f'{{"product_id":"{self.symbol}","trade_id":"{each.number}","price":"{price_text(each.price)}",'
            f'"size":"{size_text(each.size)}","time":"{_instant(each.ts_venue_ns)}",'
            f'"side":"{"SELL" if each.is_buy else "BUY"}"}}'
            for each in reversed(prints)
        ]
        return self._frame("market_trades", now_ns, f'{{"type":"{kind}","trades":[{",".join(rows)}]}}')

    def traded(self, print_: Print, now_ns: Nanos) -> list[str]:
        """Send the trade."""
        return [self._prints("update", [print_], now_ns)] if self.has_trades else []

    def beat(self, now_ns: Nanos) -> list[str]:
        """The heartbeat counts as well."""
        return [self._frame("heartbeats", now_ns, "")] if self._has_beats else []


class NewestDialect(Dialect):
    """Every message is the whole book."""

    def receive(self, text: str, now_ns: Nanos) -> list[str]:
        """Any request is the subscription."""
        self.has_book = True
        return self.changed(now_ns)

    def changed(self, now_ns: Nanos) -> list[str]:
        """Send the book."""
        if not self.has_book:
            return []
        number = self.market.id_last
        bids, asks = self.market.state(number)
        sides = f'"bids":{self._pairs(bids)},"asks":{self._pairs(asks)}'
        return [f'{{"symbol":"{self.symbol}","id":{number},"ts":{self.market.at_ns(number)},{sides}}}']

    @staticmethod
    def _pairs(rows: list[Row]) -> str:
        texts = [f'["{price_text(price)}","{size_text(size)}"]' for price, size in rows]
        return f"[{','.join(texts)}]"

    def beat(self, now_ns: Nanos) -> list[str]:
        """Whoever sends whole books sends them again."""
        return self.changed(now_ns)

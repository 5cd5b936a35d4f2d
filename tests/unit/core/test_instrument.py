from __future__ import annotations

import pytest

from raytrade.core.events import Channel
from raytrade.core.instrument import SYMBOL_CHARS_MAX, Filter, check_symbol, instrument_name, split_instrument
from raytrade.errors import ConfigError


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC/USD", "BTC:USD", "tBTCUSD", "XBT-1231", "币安人生USDT"])
def test_names_come_apart_as_they_were_put_together(symbol: str) -> None:
    assert split_instrument(instrument_name("binance-spot", symbol)) == ("binance-spot", symbol)
    check_symbol(symbol)


@pytest.mark.parametrize("name", ["", "BTCUSDT", ":BTCUSDT", "binance-spot:"])
def test_a_name_without_venue_or_symbol_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        split_instrument(name)


@pytest.mark.parametrize("symbol", ["", "A B", "A\n", "A\x00", "A\t", "A" * (SYMBOL_CHARS_MAX + 1)])
def test_what_no_symbol_can_be_is_refused(symbol: str) -> None:
    with pytest.raises(ConfigError):
        check_symbol(symbol)


@pytest.mark.parametrize(
    ("globs", "instrument", "book", "trades"),
    [
        ((), "kraken:BTC/USD", True, True),
        (("*",), "kraken:BTC/USD", True, True),
        (("kraken:*",), "kraken:BTC/USD", True, True),
        (("kraken:BTC/USD",), "kraken:BTC/USD", True, True),
        (("kraken:BTC/*",), "kraken:BTC/USD", True, True),
        (("kraken:BTC/USD/book",), "kraken:BTC/USD", True, False),
        (("kraken:*/trades",), "kraken:BTC/USD", False, True),
        (("*/book",), "kraken:BTC/USD", True, False),
        (("*/book", "*/trades"), "kraken:BTC/USD", True, True),
        (("*/book", "kraken:ETH*"), "kraken:BTC/USD", True, False),
        (("*/USD/trades",), "kraken:BTC/USD", False, True),
        (("kraken:btc*",), "kraken:BTC/USD", False, False),
        (("binance-*:BTC*",), "kraken:BTC/USD", False, False),
        (("kraken:BTC",), "kraken:BTC/USD", False, False),
    ],
)
def test_filter(globs: tuple[str, ...], instrument: str, book: bool, trades: bool) -> None:
    chosen = Filter(*globs)
    for _ in range(2):
        assert chosen.accepts(instrument, Channel.BOOK) is book
        assert chosen.accepts(instrument, Channel.TRADES) is trades

"""The wire formats the emulator can speak, by venue name."""

from __future__ import annotations

from collections.abc import Callable

from ..dialect import Dialect
from .binance import BinanceDialect
from .bybit import BybitDialect
from .coinbase import CoinbaseDialect
from .gemini import GeminiDialect, GeminiV2Dialect
from .hitbtc import HitbtcDialect
from .kraken import KrakenDialect

DIALECTS: dict[str, Callable[[tuple[str, ...]], Dialect]] = {
    "binance-spot": lambda symbols: BinanceDialect(symbols, "spot", "/api/v3/depth"),
    "binance-us": lambda symbols: BinanceDialect(symbols, "spot", "/api/v3/depth"),
    "binance-usdm": lambda symbols: BinanceDialect(symbols, "futures", "/fapi/v1/depth"),
    "binance-coinm": lambda symbols: BinanceDialect(symbols, "futures", "/dapi/v1/depth"),
    "bitcoincom": HitbtcDialect,
    "bybit-v5": BybitDialect,
    "coinbase-advanced": CoinbaseDialect,
    "gemini-v2": GeminiV2Dialect,
    "gemini": GeminiDialect,
    "hitbtc-v2": HitbtcDialect,
    "kraken-v2": KrakenDialect,
}
"""Makes the dialect of a venue for its symbols."""

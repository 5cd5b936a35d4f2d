"""The venues: one table from name to specification."""

from __future__ import annotations

from difflib import get_close_matches

from raytrade.errors import ConfigError
from raytrade.venues.binance import BINANCE_SPOT, BINANCE_US
from raytrade.venues.binance_futures import BINANCE_COINM, BINANCE_USDM
from raytrade.venues.bybit import BYBIT
from raytrade.venues.coinbase import COINBASE
from raytrade.venues.gemini import GEMINI, GEMINI_V2
from raytrade.venues.hitbtc import BEQUANT, BITCOINCOM, HITBTC
from raytrade.venues.kraken import KRAKEN
from raytrade.venues.okx import OKCOIN, OKCOIN_V3, OKX
from raytrade.venues.protocol import VenueSpec

VENUES: dict[str, VenueSpec] = {
    spec.name: spec
    for spec in (
        BINANCE_SPOT,
        BINANCE_US,
        BINANCE_USDM,
        BINANCE_COINM,
        HITBTC,
        BITCOINCOM,
        BEQUANT,
        KRAKEN,
        COINBASE,
        BYBIT,
        GEMINI,
        GEMINI_V2,
        OKX,
        OKCOIN,
        OKCOIN_V3,
    )
}


def find_venue(name: str) -> VenueSpec:
    """Give the venue of that name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    spec = VENUES.get(name)
    if spec is None:
        near = get_close_matches(name, VENUES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(VENUES))}"
        raise ConfigError("", f"venue {name!r}", f"unknown; {hint}")
    return spec

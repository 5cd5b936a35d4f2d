"""Names of instruments: ``<venue>:<symbol as the venue writes it>``."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from raytrade.core.events import Channel
from raytrade.errors import ConfigError

SYMBOL_CHARS_MAX = 64


def instrument_name(venue: str, symbol: str) -> str:
    """Give our name of the venue's `symbol`."""
    return f"{venue}:{symbol}"


def split_instrument(instrument: str) -> tuple[str, str]:
    """Give (venue, symbol).

    Raises:
        ConfigError: the name has no venue.
    """
    venue, colon, symbol = instrument.partition(":")
    if not (venue and colon and symbol):
        raise ConfigError("", instrument, "an instrument is written <venue>:<symbol>")
    return venue, symbol


def check_symbol(symbol: str) -> None:
    """Refuse what no venue's symbol can be.

    Raises:
        ConfigError: the symbol is empty, too long, or has blanks or control characters.
    """
    if not symbol or len(symbol) > SYMBOL_CHARS_MAX or not symbol.isprintable() or " " in symbol:
        raise ConfigError("", repr(symbol), "not a symbol")


class Filter:
    """A consumer's choice of streams: globs over ``<venue>:<symbol>`` and over the channel name.

    ``binance-*:BTC*`` takes book and trades, ``binance-*:BTC*/book`` only the book.
    """

    def __init__(self, *globs: str) -> None:
        self.globs = globs or ("*",)
        self._known: dict[tuple[str, Channel], bool] = {}

    def accepts(self, instrument: str, channel: Channel) -> bool:
        """Tell whether the stream is wanted."""
        key = (instrument, channel)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = any(self._match(glob, instrument, channel) for glob in self.globs)
        return known

    @staticmethod
    def _match(glob: str, instrument: str, channel: Channel) -> bool:
        for suffix in Channel:
            ending = f"/{suffix.name.lower()}"
            if glob.endswith(ending):
                return channel is suffix and fnmatchcase(instrument, glob.removesuffix(ending))
        return fnmatchcase(instrument, glob)


class Named(Filter):
    """All streams of some instruments, which are looked up and not matched: cheap over a thousand of them."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = frozenset(names)

    def accepts(self, instrument: str, channel: Channel) -> bool:
        """Tell whether the instrument is one of them."""
        return instrument in self._names

"""What an engine says to its owner."""

from __future__ import annotations

from traceback import format_exception

import msgspec

from raytrade.arbitration import SnapshotWanted
from raytrade.core.clock import Nanos
from raytrade.strategy.base import Note
from raytrade.strategy.ledger import Fill
from raytrade.strategy.orders import Rejection

TRACEBACK_CHARS_MAX = 16_384


class StrategyFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy raised in `callback` over `subject` (an instrument, where there is one) and was stopped."""

    strategy: str
    callback: str
    subject: str
    error: str
    traceback: str
    ts_fail_ns: Nanos


class StrategyHalted(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of risk was passed: the strategy was told to stop, and gets no more orders through."""

    strategy: str
    reason: str
    ts_halt_ns: Nanos


EngineCommand = SnapshotWanted | Fill | Rejection | Note | StrategyFailed | StrategyHalted


def failure_of(
    strategy: str, callback: str, arguments: tuple[object, ...], error: Exception, now_ns: Nanos
) -> StrategyFailed:
    """Say that a strategy raised."""
    return StrategyFailed(
        strategy=strategy,
        callback=callback,
        subject=str(getattr(arguments[0], "instrument", "")) if arguments else "",
        error=f"{type(error).__name__}: {error}",
        traceback="".join(format_exception(error))[-TRACEBACK_CHARS_MAX:],
        ts_fail_ns=now_ns,
    )

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
    """A strategy raised in `callback` over `subject` (an instrument, where there is one) and was stopped.

    `event_id`: the id of the event that it was shown, or of the book's state; 0 where there is none.
    """

    strategy: str
    callback: str
    subject: str
    error: str
    traceback: str
    ts_fail_ns: Nanos
    event_id: int = 0

    @property
    def event(self) -> str:
        """Name the event, for a message."""
        return f" (id {self.event_id})" if self.event_id else ""


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
    shown = arguments[0] if arguments else None
    return StrategyFailed(
        strategy=strategy,
        callback=callback,
        subject=str(getattr(shown, "instrument", "")),
        error=f"{type(error).__name__}: {error}",
        traceback="".join(format_exception(error))[-TRACEBACK_CHARS_MAX:],
        ts_fail_ns=now_ns,
        event_id=int(getattr(shown, "id_last", 0) or getattr(shown, "sequence", 0)),
    )

"""`Replica`: one of the two copies of a strategy that has a standby: an engine, and the desk it trades through. Pure.

Both follow the stream. The strategy itself runs in the active one only: it is made when the gateway grants an epoch, is
started, given the state that was kept last, and told the fills since then. One that is fenced is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raytrade.core.clock import MILLISECOND, Nanos
from raytrade.errors import ConfigError
from raytrade.strategy.base import BaseStrategy, Context, Stateful, Strategy
from raytrade.strategy.desk import Desk, Turn
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.gateway import STATE_BYTES_MAX, Call, Checkpoint, Word

CHECKPOINT_NS = 250 * MILLISECOND


class Replica:
    """Drives `engine`, whose broker `desk` is; `make` gives a new strategy."""

    def __init__(self, engine: StrategyEngine, desk: Desk, make: Callable[[], Strategy]) -> None:
        self.engine = engine
        self.desk = desk
        self.strategy: Strategy | None = None
        """The strategy while it runs here."""
        self._make = make
        self._next = make()
        self._saved = Checkpoint(number=-1, state=b"")
        self._saved_ns: Nanos = 0
        self._is_stateless = False
        self._has_ordered = False

    def receive(self, word: Word, now_ns: Nanos) -> Turn:
        """Take what the gateway says; tells what that has changed."""
        turn = self.desk.receive(word, now_ns)
        if turn is Turn.ACTIVE:
            self._begin(now_ns)
        else:
            self.engine.act(listen, now_ns)
        if turn is Turn.FENCED:
            self.strategy = None
            self.engine.host(BaseStrategy(), now_ns)
            self._next = self._make()
        return turn

    def _begin(self, now_ns: Nanos) -> None:
        desk, engine, opening = self.desk, self.engine, self.desk.opening
        missed, desk.news = desk.news, []
        self.strategy, self._is_stateless, self._has_ordered = self._next, False, False
        strategy = self._next
        self._saved = Checkpoint(number=-1, state=b"")
        engine.host(strategy, now_ns)
        if opening is not None and opening.checkpoint is not None:
            engine.act(restore, now_ns, strategy, opening.checkpoint.state)
        desk.news = missed + desk.news
        engine.act(listen, now_ns)

    def call(self, now_ns: Nanos, *, is_warm: bool, is_leaving: bool = False) -> Call | None:
        """Give what to say to the gateway now, None if it is too early."""
        checkpoint = self._checkpoint(now_ns, is_leaving) if self.strategy is not None else None
        safe = self.desk.number if self._is_stateless else max(self.desk.checkpointed, 0)
        return self.desk.call(now_ns, checkpoint, safe, is_warm=is_warm, is_leaving=is_leaving)

    def _checkpoint(self, now_ns: Nanos, is_leaving: bool) -> Checkpoint | None:
        """Give the strategy's state if it is another than what is kept; not too often, as it costs time.

        The first orders of an epoch do not leave without the state in which they were decided.
        """
        is_first_order = self.desk.has_requests and not self._has_ordered
        if now_ns - self._saved_ns < CHECKPOINT_NS and not (is_leaving or is_first_order):
            return None
        self._has_ordered = self._has_ordered or is_first_order
        self._saved_ns = now_ns
        states: list[bytes] = []
        self.engine.act(_save, now_ns, self.strategy, states)
        self._is_stateless = states == [b""]
        if not states or self._is_stateless:
            return None
        checkpoint = Checkpoint(number=self.desk.number, state=states[0])
        is_kept = self.desk.checkpointed == checkpoint.number and checkpoint == self._saved
        self._saved = checkpoint
        return None if is_kept else checkpoint


def state_of(context: Context, strategy: object) -> bytes:
    """Give what `save` gives, as MessagePack; nothing where there is no state.

    Raises:
        ConfigError: the state is too large, or no plain data.
    """
    state = strategy.save(context) if isinstance(strategy, Stateful) else None
    if state is None:
        return b""
    try:
        data = msgspec.msgpack.encode(state)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError("", "save", f"the state is no plain data: {error}") from None
    if len(data) > STATE_BYTES_MAX:
        raise ConfigError("", "save", f"a state of {len(data)} bytes; at most {STATE_BYTES_MAX} are kept")
    return data


def restore(context: Context, strategy: Strategy, state: bytes) -> None:
    """Give a strategy the state that another process has saved."""
    if state and isinstance(strategy, Stateful):
        strategy.restore(context, msgspec.msgpack.decode(state))


def _save(context: Context, strategy: Strategy | None, states: list[bytes]) -> None:
    states.append(state_of(context, strategy))


def listen(context: Context) -> None:
    """Nothing but a moment for the broker's news to be told."""

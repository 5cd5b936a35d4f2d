"""`WarmUp`: the last minutes of a recording, given to a fresh strategy before its links open.

The recording is one more replica, named `HISTORY`: the engine's arbiter takes its messages as any other's, so where
ids are the venue's own the links go on behind the last recorded id out of the dedups' rings, with no gap and no repeat.
Other streams begin with an image, as they do for every late joiner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from raytrade.actors.history import CHAINED
from raytrade.actors.inputs import EngineInputs
from raytrade.core.clock import Nanos
from raytrade.core.events import Flag
from raytrade.core.instrument import Filter
from raytrade.core.message import Kind, Message
from raytrade.errors import ConfigError, StorageError
from raytrade.rules import rule_of
from raytrade.storage.recording import open_recording
from raytrade.strategy.engine import HISTORY

_MOVING = (Kind.SNAPSHOT, Kind.DELTA, Kind.TRADE)
_NOT_TAKEN = Flag.UNAPPLIED | Flag.HISTORY
MESSAGES_AT_ONCE = 64


class WarmUpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is played: the last `span_ns` of the recording in `directory`, on the strategy's own host."""

    directory: str
    span_ns: Nanos


class WarmUp:
    """Plays history in slices, so that its host can answer meanwhile."""

    def __init__(self, inputs: EngineInputs, settings: WarmUpSettings, filters: tuple[str, ...], now_ns: Nanos) -> None:
        self.positions: dict[str, int] = {}
        """The last id of each stream whose ids are the venue's own."""
        self.messages = 0
        self.problem = ""
        self._inputs = inputs
        self._now_ns = now_ns
        self._wanted = Filter(*filters)
        self._is_linked: dict[tuple[str, int], bool] = {}
        self.is_up = False
        """Whether the strategy is shown history, or nothing yet behind it."""
        self._history: Iterator[tuple[Nanos, Message]] = iter(())
        try:
            recording = open_recording(Path(settings.directory))
            names = sorted({name for name, channel in recording.streams() if self._wanted.accepts(name, channel)})
            if names:
                self._history = recording.messages(now_ns - settings.span_ns, now_ns, names, images=True)
            else:
                self.problem = f"{settings.directory}: no stream of this strategy is recorded"
        except (ConfigError, StorageError) as error:
            self.problem = str(error)

    def step(self, is_over: Callable[[], bool]) -> bool:
        """Play until `is_over` says so; tells whether all is played."""
        while not is_over():
            for _ in range(MESSAGES_AT_ONCE):
                try:
                    timed = next(self._history, None)
                except StorageError as error:
                    self.problem, timed = str(error), None
                if timed is None:
                    return True
                self._play(*timed)
        return False

    def _play(self, now_ns: Nanos, message: Message) -> None:
        if not self._wanted.accepts(message.instrument, message.channel):
            return
        now_ns = min(now_ns, self._now_ns)
        if not self.is_up:
            self.is_up = True
            self._inputs.change(HISTORY, True, now_ns)
        self._inputs.run_due(now_ns)
        self._inputs.receive(HISTORY, message, now_ns)
        self.messages += 1
        if message.kind in _MOVING and not message.flags & _NOT_TAKEN:
            self._follow(message)

    def _follow(self, message: Message) -> None:
        is_chained = self._is_linked.get(message.stream)
        if is_chained is None:
            is_chained = self._is_linked[message.stream] = rule_of(*message.stream).rule in CHAINED
        if is_chained:
            self.positions[f"{message.instrument}/{message.channel.name.lower()}"] = message.id_last

    def end(self, now_ns: Nanos) -> None:
        """The first live messages are there: history is over."""
        if self.is_up:
            self.is_up = False
            self._inputs.change(HISTORY, False, now_ns)

    def status(self) -> dict[str, Any]:
        """Say what was played."""
        return {"messages": self.messages, "problem": self.problem, "goes_on_behind": dict(self.positions)}

"""`EngineInputs`: the only way into a strategy's engine, so that its journal has all that the engine was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytrade.core.clock import Nanos
from raytrade.core.message import Message
from raytrade.replay import TIMER_STEPS_MAX
from raytrade.storage.journals import JournalWriter
from raytrade.strategy.commands import EngineCommand
from raytrade.strategy.engine import StrategyEngine
from raytrade.strategy.journal import Entry, EntryKind, Opening, Output, of_output
from raytrade.strategy.ledger import Fill
from raytrade.strategy.orders import Rejection


class EngineInputs:
    """Hands inputs on; with a journal each is written down before."""

    def __init__(self, engine: StrategyEngine) -> None:
        self._engine = engine
        self._journal: JournalWriter | None = None

    def keep(self, directory: Path, opening: Opening, bytes_max: int) -> None:
        """Keep a journal from now on, the start of the engine.

        Raises:
            ConfigError: the directory cannot be written.
        """
        self._journal = JournalWriter(directory, opening, bytes_max)
        self._engine.broker.on_wish = lambda wish: self._note(wish, wish.ts_wish_ns)

    def _note(self, output: Output, now_ns: Nanos) -> None:
        if self._journal is not None:
            self._journal.add(of_output(output, now_ns))

    def _add(self, kind: EntryKind, now_ns: Nanos, line: str = "", data: bytes = b"") -> None:
        if self._journal is not None:
            self._journal.add(Entry(kind, now_ns, line, data))

    def receive(self, line: str, message: Message, now_ns: Nanos) -> None:
        """Give the engine a message of a replica."""
        if self._journal is not None:
            self._journal.add(Entry(EntryKind.MESSAGE, now_ns, line, message.raw))
        self._engine.receive(line, message, now_ns)

    def change(self, line: str, is_up: bool, now_ns: Nanos) -> None:
        """Tell the engine that a replica's link is up, or lost."""
        self._add(EntryKind.LINE_UP if is_up else EntryKind.LINE_DOWN, now_ns, line)
        (self._engine.receive_line_up if is_up else self._engine.receive_line_down)(line, now_ns)

    def run_timers(self, now_ns: Nanos) -> None:
        """Run what is due."""
        due_ns = self._engine.deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._add(EntryKind.TIMEOUT, now_ns)
            self._engine.receive_timeout(now_ns)

    def run_due(self, now_ns: Nanos) -> None:
        """Run all that is due up to a time, each at its own time: for history, which leaps."""
        for _ in range(TIMER_STEPS_MAX):
            due_ns = self._engine.deadline_ns()
            if due_ns is None or due_ns > now_ns:
                return
            self._add(EntryKind.TIMEOUT, due_ns)
            self._engine.receive_timeout(due_ns)
        self.run_timers(now_ns)

    def stop(self, now_ns: Nanos) -> None:
        """Tell the strategy that it is over, and close the journal."""
        self._add(EntryKind.STOP, now_ns)
        self._engine.stop(now_ns)
        self.results(self._engine.commands(), now_ns)
        if self._journal is not None:
            self._journal.close()

    def results(self, commands: list[EngineCommand], now_ns: Nanos) -> list[EngineCommand]:
        """Write down what came of orders; gives the commands on."""
        if self._journal is not None:
            for command in commands:
                if isinstance(command, Fill | Rejection):
                    self._note(command, now_ns)
        return commands

    def tick(self, now_ns: Nanos) -> None:
        """Let the journal write what has waited long enough."""
        if self._journal is not None:
            self._journal.tick(now_ns)

    def status(self) -> dict[str, Any]:
        """Say how the journal is doing; {} where none is kept."""
        journal = self._journal
        if journal is None:
            return {}
        return {
            "path": str(journal.path),
            "entries": journal.entries,
            "bytes": journal.bytes_written,
            "problem": journal.problem,
        }

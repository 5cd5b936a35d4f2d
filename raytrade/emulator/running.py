"""Ways to run an emulator: in a thread beside the caller, or as a program.

Called by tests of other packages (`run_in_thread`) and by the command line (`serve`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Self, TypeVar

from .journal import Truth
from .scripted_feed import Script
from .server import Emulator
from .settings import EmulatorSettings

T = TypeVar("T")
CALL_S_MAX = 30.0
"""Longest wait for an answer of the emulator's thread."""


class EmulatorThread:
    """An emulator with an event loop of its own; its methods may be called from any thread."""

    def __init__(self, settings: EmulatorSettings, script: Script | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)
        self._thread.start()
        try:
            self._emulator = asyncio.run_coroutine_threadsafe(self._open(settings, script), self._loop).result(
                CALL_S_MAX
            )
        except BaseException:
            self._close_loop()
            raise

    @property
    def port(self) -> int:
        """Port the emulator listens on."""
        return self._emulator.port

    @property
    def url(self) -> str:
        """Websocket address."""
        return self._emulator.url

    @property
    def is_finished(self) -> bool:
        """Tell whether all updates or frames have been handed to the sockets."""
        return self._call(lambda: self._emulator.is_finished)

    @property
    def connections(self) -> list[int]:
        """List the numbers of the open connections."""
        return self._call(lambda: self._emulator.connections)

    def truth(self) -> Truth:
        """Copy what was truly done and sent so far."""
        return self._call(self._emulator.truth)

    def begin(self) -> None:
        """Start the stream now."""
        self._call(self._emulator.begin)

    def finish(self) -> None:
        """End the stream with the update or frame that went out last."""
        self._call(self._emulator.finish)

    def cut(self, connection: int | None = None) -> int:
        """Close one connection, or all, at once; return how many."""
        return self._call(lambda: self._emulator.cut(connection))

    def set_fault(self, text: str) -> None:
        """Put faults in force; their times count from now."""
        self._call(lambda: self._emulator.set_fault(text))

    def clear_faults(self) -> None:
        """Lift every fault."""
        self._call(self._emulator.clear_faults)

    def wait_finished(self, timeout_s: float) -> bool:
        """Wait for the end of the stream; False if it did not come in time."""
        future = asyncio.run_coroutine_threadsafe(self._emulator.run_until_finished(), self._loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            return False
        return True

    def stop(self) -> None:
        """Close every connection and end the thread; further calls do nothing."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._emulator.stop(), self._loop).result(CALL_S_MAX)
            self._close_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @staticmethod
    async def _open(settings: EmulatorSettings, script: Script | None) -> Emulator:
        emulator = Emulator(settings, script)
        await emulator.start()
        return emulator

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(CALL_S_MAX)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _close_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S_MAX)
        self._loop.close()


def run_in_thread(settings: EmulatorSettings, script: Script | None = None) -> EmulatorThread:
    """Start an emulator in a thread; it listens when this returns.

    Raises:
        ConfigError: the port is taken, or the capture or journal cannot be opened.
    """
    return EmulatorThread(settings, script)


def serve(settings: EmulatorSettings, script: Script | None = None) -> int:
    """Run an emulator until Ctrl-C, SIGTERM or `settings.seconds`; return the exit status.

    Raises:
        ConfigError: the port is taken, or the capture or journal cannot be opened.
    """
    return asyncio.run(_serve(settings, script))


async def _serve(settings: EmulatorSettings, script: Script | None) -> int:
    emulator = Emulator(settings, script)
    await emulator.start()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        _print(f"emulating {settings.capture or settings.venue} at {emulator.url}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_wait(emulator, stopped), settings.seconds or None)
        _print(_summary(emulator.truth()))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await emulator.stop()
    return 0


async def _wait(emulator: Emulator, stopped: asyncio.Event) -> None:
    """Wait for a signal or, if so set, for the end of the stream; its failure ends it too."""
    ends = asyncio.create_task(stopped.wait())
    finish = asyncio.create_task(emulator.run_until_finished())
    await asyncio.wait({ends, finish}, return_when=asyncio.FIRST_COMPLETED)
    if finish.done():
        finish.result()
        _print("finished")
    if not emulator.settings.exit_when_finished:
        await ends
    ends.cancel()


def _summary(truth: Truth) -> str:
    updates = sum(len(ids) for ids in truth.ids.values())
    delivered = sum(len(ids) for sent in truth.delivered.values() for ids in sent.values())
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(truth.fault_counts.items()))
    return (
        f"updates {updates}, delivered {delivered}, "
        f"connections {truth.counts.get('connections', 0)}, faults: {faults or 'none'}"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

"""Servers that a bus needs: started for one run, on loopback, and ended by their process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable

from .plain import MakeBus, PlainSystem
from .system import Failed, Task, Unavailable

START_TIMEOUT_S = 10.0


class ServerSystem(PlainSystem):
    """A plain pipeline over a bus with a server process."""

    def __init__(self, task: Task, make_bus: MakeBus, program: str, command: list[str], address: str) -> None:
        super().__init__(task, make_bus)
        self._program, self._command, self._address = program, command, address
        self._server: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        path = shutil.which(self._program) or shutil.which(self._program, path="/usr/sbin:/usr/bin")
        if path is None:
            raise Unavailable(f"{self._program} is not installed")
        with (self.task.directory / "server.log").open("wb") as log:
            self._server = subprocess.Popen([path, *self._command], stdout=log, stderr=log)
        self._until(self._answers)
        return self._address

    def _answers(self) -> bool:
        family = socket.AF_UNIX if self._address.startswith("/") else socket.AF_INET
        host, _, port = self._address.rpartition(":")
        with socket.socket(family) as probe:
            return probe.connect_ex(self._address if family == socket.AF_UNIX else (host, int(port))) == 0

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not holds():
            if time.monotonic() > deadline_s or (self._server is not None and self._server.poll() is not None):
                raise Failed(f"{self._program} did not start")
            time.sleep(0.02)

    def servers(self) -> dict[int, str]:
        return {self._server.pid: self._program} if self._server is not None else {}

    def stop(self) -> None:
        super().stop()
        if self._server is None:
            return
        self._server.terminate()
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(5)


def free_port() -> int:
    """Give a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

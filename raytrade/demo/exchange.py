"""The demo's exchanges: emulators in processes of their own, driven and asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import quote

from raytrade.errors import PipelineError

START_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 60.0


class Exchange:
    """One emulator process."""

    def __init__(self, venue: str, arguments: list[str]) -> None:
        self.venue = venue
        command = [sys.executable, "-m", "raytrade", "emulate", "--clients", "1000", *arguments]
        self._process = subprocess.Popen(  # out of reach of the terminal's Ctrl-C: the demo ends it
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.address = self._read_address()

    def _read_address(self) -> str:
        """Give host and port from the line that the emulator begins with."""
        assert self._process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=_read_line, args=(self._process.stdout, lines), daemon=True)
        reader.start()
        reader.join(START_TIMEOUT_S)
        if not lines or " at ws://" not in lines[0]:
            self.stop()
            raise PipelineError(f"the emulator of {self.venue} did not start: {''.join(lines).strip() or 'no answer'}")
        return lines[0].rpartition(" at ws://")[2].strip()

    @property
    def ws_url(self) -> str:
        """Address for collectors."""
        return f"ws://{self.address}"

    @property
    def rest_url(self) -> str:
        """Address for REST books."""
        return f"http://{self.address}"

    def control(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Drive the emulator."""
        return ask_emulator(self.rest_url, action, **parameters)

    def truth(self) -> dict[str, Any]:
        """Give what was truly sent."""
        return _get(self.rest_url, "/_truth")

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        if self._process.stdout is not None:
            self._process.stdout.close()


def ask_emulator(rest_url: str, action: str, **parameters: Any) -> dict[str, Any]:
    """Have an emulator do something; gives its state.

    Raises:
        PipelineError: nobody answers there, or no emulator.
    """
    query = "".join(f"&{key}={quote(str(value))}" for key, value in parameters.items())
    return _get(rest_url, f"/_control?action={action}{query}")


def _get(rest_url: str, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(rest_url + path, timeout=ANSWER_TIMEOUT_S) as reply:
            return dict(json.load(reply))
    except (OSError, urllib.error.URLError, ValueError, HTTPException) as error:
        raise PipelineError(f"the emulator at {rest_url} does not answer: {error}") from None


def _read_line(stream: IO[str], lines: list[str]) -> None:
    lines.append(stream.readline())

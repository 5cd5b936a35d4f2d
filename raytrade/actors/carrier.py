"""`Carrier`: carries what a recorder has closed to its target, at its own pace and past the recorder's threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from raytrade.storage.remote import Place, Uploaded, Uploader

EVERY_S = 5.0
STOP_S = 60.0
LONGEST_S = 60.0
"""Between two attempts when the target does not take anything."""


class Carrier:
    """Runs on a thread of its own; `on_problem` is told of a problem when it begins, and an empty text after it."""

    def __init__(
        self, directory: Path, uri: str, on_problem: Callable[[str], None], *, every_s: float = EVERY_S
    ) -> None:
        """`uri`: of the target.

        Raises:
            ConfigError: nothing is known of such a URI.
        """
        self._uploader = Uploader(directory, Place(uri))
        self._on_problem = on_problem
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Uploaded:
        """What has been carried."""
        return self._uploader.counts

    def is_behind(self) -> bool:
        """Tell whether something is here that is not there."""
        return bool(self.counts.waiting or self.counts.problem)

    def stop(self) -> str:
        """Carry once more and end; gives the problem, or an empty text."""
        self._stopping.set()
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            return f"{self._uploader.place.uri}: does not answer"
        return self._uploader.run().problem

    def _run(self) -> None:
        wait_s, before = self._every_s, ""
        while not self._stopping.wait(wait_s):
            problem = self._uploader.run().problem
            wait_s = min(2 * wait_s, LONGEST_S) if problem else self._every_s
            if bool(problem) != bool(before):
                self._on_problem(problem)
            before = problem

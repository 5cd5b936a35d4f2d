"""`RunningPipeline`: the source of the screens, over the driver of a joined cluster."""

from __future__ import annotations

from typing import Any


class RunningPipeline:
    """A running pipeline as the screen sees it; the viewer is started when a ladder is first opened."""

    def __init__(self, driver: Any, pipeline: str) -> None:
        self._driver = driver
        self._pipeline = pipeline
        self._view: Any = None

    def status(self) -> dict[str, Any]:
        """Give the pipeline's status."""
        return dict(self._driver.counters(self._pipeline))

    def incidents(self, since: int) -> list[dict[str, Any]]:
        """Give the incidents from number `since` on."""
        return list(self._driver.incidents(self._pipeline, since))

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        """Give the best levels of an instrument and its last trades."""
        from raytrade.pipeline.subscription import View

        if self._view is None:
            self._view = View(self._pipeline)
        return dict(self._view.ladder(instrument, depth))

    def close(self) -> None:
        """End the viewer."""
        if self._view is not None:
            self._view.close()

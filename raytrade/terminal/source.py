"""Where the screen looks: a protocol, so that it can be shown without a cluster."""

from __future__ import annotations

from typing import Any, Protocol


class Source(Protocol):
    """A running pipeline as the screen sees it. Every method may wait and is called from a thread of the screen's."""

    def status(self) -> dict[str, Any]:
        """Give the pipeline's status."""
        ...

    def incidents(self, since: int) -> list[dict[str, Any]]:
        """Give the incidents from number `since` on."""
        ...

    def ladder(self, instrument: str, depth: int) -> dict[str, Any]:
        """Give the best levels of an instrument."""
        ...

    def close(self) -> None:
        """Let go of what the source holds."""
        ...

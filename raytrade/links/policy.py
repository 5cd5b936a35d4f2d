"""`Policy`: what becomes of a link whose reader does not keep up with its writer."""

from __future__ import annotations

from enum import StrEnum


class Policy(StrEnum):
    """Declared by each consumer; a writer's other readers never notice any of it."""

    SKIP = "skip"
    """What the ring has let go is left out, told as a `Gap`, and an image follows."""
    CONFLATE = "conflate"
    """Whatever has piled up is left out for the latest book of each instrument; nothing of it counts as missing."""
    SPILL = "spill"
    """The reader takes everything at once and keeps what it cannot use yet on disk; beyond its bound as `SKIP`."""
    FAIL = "fail"
    """The link ends for good and says why."""

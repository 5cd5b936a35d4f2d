"""The exception tree of raytrade.

    RaytradeError
    ├── ConfigError           a setting, option or key is wrong (exit status 2)
    ├── CaptureError          a recording cannot be read any further
    ├── VenueError            the venue's or the network's doing
    │   ├── DecodeError           bytes the venue's documents do not allow
    │   ├── SubscriptionRejected  the venue refused a subscription
    │   └── LineLost              a connection ended
    ├── StorageError          a segment or a directory cannot be written or read
    ├── PipelineError         the running system
    │   ├── ActorLost             an actor did not answer
    │   ├── MalformedBatch        a batch from a link is not one of ours
    │   ├── VersionSkew           two actors speak different batch schemas
    │   └── SlowConsumer          a consumer did not keep up with its link
    └── InvariantError        our own fault: the program stops and says where

Exceptions carry fields; ``str()`` gives one line. All of them survive pickling, since they cross processes.
A missing id range is not an exception but an event (`raytrade.core.events.Gap`).
"""

from __future__ import annotations


class RaytradeError(Exception):
    """Anything raytrade raises on purpose."""


class ConfigError(RaytradeError):
    """A setting is wrong: the file (or command), the key, and what is the matter with it."""

    def __init__(self, path: str, key: str, problem: str) -> None:
        super().__init__(path, key, problem)
        self.path, self.key, self.problem = path, key, problem

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, self.key, self.problem) if part)


class CaptureError(RaytradeError):
    """A recording is damaged: the file, the line number (from 1) and what is the matter."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(path, line, problem)
        self.path, self.line, self.problem = path, line, problem

    def __str__(self) -> str:
        return f"{self.path}: line {self.line}: {self.problem}"


class VenueError(RaytradeError):
    """The venue or the network did something it should not."""


class DecodeError(VenueError):
    """A frame is not what the venue's documents allow; `frame_head` is its beginning."""

    def __init__(self, problem: str, frame_head: str = "") -> None:
        super().__init__(problem, frame_head)
        self.problem, self.frame_head = problem, frame_head

    def __str__(self) -> str:
        return f"{self.problem}: {self.frame_head}" if self.frame_head else self.problem


class SubscriptionRejected(VenueError):
    """The venue refused a subscription, or acknowledged it and never served it."""

    def __init__(self, symbol: str, reply: str) -> None:
        super().__init__(symbol, reply)
        self.symbol, self.reply = symbol, reply

    def __str__(self) -> str:
        return f"{self.symbol}: {self.reply}"


class LineLost(VenueError):
    """A connection ended."""

    def __init__(self, line: str, reason: str) -> None:
        super().__init__(line, reason)
        self.line, self.reason = line, reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class StorageError(RaytradeError):
    """A file or directory cannot be written or read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class PipelineError(RaytradeError):
    """The running system cannot do what was asked."""


class ActorLost(PipelineError):
    """An actor did not answer in time or is dead."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"actor {self.name}: {self.reason}"


class MalformedBatch(PipelineError):
    """Bytes that arrived on a link are not a whole, well-formed batch."""


class VersionSkew(PipelineError):
    """Two actors speak different batch schemas."""

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(found, expected)
        self.found, self.expected = found, expected

    def __str__(self) -> str:
        return f"the other side speaks batch schema {self.found}, this side {self.expected}: run one version"


class SlowConsumer(PipelineError):
    """A consumer with the policy `fail` did not keep up."""

    def __init__(self, consumer: str, items_pending: int, bytes_pending: int) -> None:
        super().__init__(consumer, items_pending, bytes_pending)
        self.consumer, self.items_pending, self.bytes_pending = consumer, items_pending, bytes_pending

    def __str__(self) -> str:
        return f"{self.consumer}: {self.items_pending} messages, {self.bytes_pending} bytes behind"


class InvariantError(RaytradeError):
    """A condition that the program itself must keep does not hold."""

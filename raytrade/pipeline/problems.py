"""What went wrong in an actor, in one line."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayError

from raytrade.errors import ActorLost, ConfigError, RaytradeError

_OWN = "raytrade.errors."


def reason_of(error: RayError) -> str:
    """Give the line that says it: our own error if there is one, else the last line of a traceback, or the first."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RaytradeError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith(_OWN)]
    if own:
        return own[-1].partition(": ")[2]
    if not lines:
        return type(error).__name__
    return lines[-1] if "creation task" in lines[0] else lines[0]


def error_of(actor: str, error: RayError) -> RaytradeError:
    """Give the error to raise for an actor that could not be reached or has refused."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RaytradeError):
        return cause
    if f"{_OWN}{ConfigError.__name__}: " in str(error):
        return ConfigError("", actor, reason_of(error))
    return ActorLost(actor, reason_of(error))


def state_of(error: RayError) -> str:
    """Name the state of an actor whose call failed."""
    match error:
        case ActorUnavailableError():
            return "restarting"
        case ActorDiedError():
            return f"dead: {reason_of(error)}"
        case GetTimeoutError():
            return "no answer"
        case _:
            return reason_of(error)


def result_of(reference: Any, timeout_s: float, actor: str = "supervisor") -> Any:
    """Give the result of a call: our own errors come back as they are, others in one line."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayError as error:
        raise error_of(actor, error) from None

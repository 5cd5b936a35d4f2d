"""The endpoints by which another process asks for the truth and drives the emulator.

`GET /_truth` gives the truth as JSON; `GET /_control?action=...` takes the actions below. Called
by the server for every REST request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raytrade.errors import ConfigError

from .dialect import RestReply, Session, json_text

if TYPE_CHECKING:
    from .server import Emulator

ACTIONS = ("start", "status", "cut", "fault", "clear", "finish")


def answer_control(emulator: Emulator, session: Session) -> RestReply | None:
    """Answer a control request; None if the path is none of ours.

    `action=cut[&conn=N]`, `action=fault&spec=TEXT`, `action=clear`, `action=start`,
    `action=finish`, `action=status`.
    """
    if session.path == "/_truth":
        return RestReply(200, json_text(emulator.truth()))
    if session.path != "/_control":
        return None
    try:
        return RestReply(200, json_text(_act(emulator, session.query)))
    except ConfigError as error:
        return RestReply(400, json_text({"error": str(error)}))


def _act(emulator: Emulator, query: dict[str, str]) -> dict[str, object]:
    action = query.get("action", "")
    if action == "cut":
        return {"cut": emulator.cut(_connection(query))}
    if action == "fault":
        emulator.set_fault(query.get("spec", ""))
    elif action == "clear":
        emulator.clear_faults()
    elif action == "start":
        emulator.begin()
    elif action == "finish":
        emulator.finish()
    elif action != "status":
        raise ConfigError("", "action", f"{action!r} is none of {', '.join(ACTIONS)}")
    return emulator.status()


def _connection(query: dict[str, str]) -> int | None:
    text = query.get("conn")
    if text is None:
        return None
    if not text.isdigit():
        raise ConfigError("", "conn", f"{text!r} is no connection number")
    return int(text)

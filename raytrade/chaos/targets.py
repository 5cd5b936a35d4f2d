"""Whom a command means: names of actors, nodes and lines, looked up in the status of a running pipeline. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from raytrade.errors import ConfigError

Status = Mapping[str, Any]


class Target(msgspec.Struct, frozen=True):
    """A running actor."""

    name: str
    role: str
    pid: int
    node: str


class LineTarget(msgspec.Struct, frozen=True):
    """A line that is up: the socket's own address, and where it is connected to."""

    name: str
    url: str
    local_address: str


def find_actor(status: Status, wanted: str, role: str = "") -> Target:
    """Find an actor by its name, or by the end of it; `role` empty: any.

    Raises:
        ConfigError: no actor, or several, or one that does not run now.
    """
    actors = {**status["actors"], _supervisor_name(status): _supervisor(status)}
    names = [name for name, actor in actors.items() if not role or actor.get("role", role) == role]
    name = _one(names, wanted, role or "actor")
    actor: Mapping[str, Any] = actors[name]
    if actor["state"] != "alive":
        raise ConfigError("", name, f"is {actor['state']}: there is no process to hit")
    return Target(name, actor["role"], actor["pid"], actor["node"])


def _supervisor_name(status: Status) -> str:
    return f"{status['name']}-supervisor"


def _supervisor(status: Status) -> dict[str, Any]:
    return {"role": "supervisor", "state": "alive", "pid": status["pid"], "node": status["node"]}


def running(status: Status, role: str) -> list[Target]:
    """Give all actors of a role that run, by name."""
    actors = status["actors"] if role != "supervisor" else {_supervisor_name(status): _supervisor(status)}
    return [
        Target(name, role, actor["pid"], actor["node"])
        for name, actor in sorted(actors.items())
        if actor["state"] == "alive" and actor.get("role") == role
    ]


def find_node(status: Status, wanted: str) -> str:
    """Find a node of the pipeline by its id, the beginning of it, or an actor that runs there.

    Raises:
        ConfigError: there is none.
    """
    nodes = {actor["node"] for actor in status["actors"].values()}
    fitting = sorted(node for node in nodes if wanted and node.startswith(wanted))
    if len(fitting) == 1:
        return str(fitting[0])
    if wanted and any(name.endswith(wanted) for name in status["actors"]):
        return find_actor(status, wanted).node
    known = ", ".join(sorted(node[:12] for node in nodes)) or "none"
    raise ConfigError("", wanted, f"no node of the pipeline begins so (nodes: {known})")


def lines_up(status: Status) -> list[LineTarget]:
    """Give all lines that are up, by name."""
    lines = {name: line for actor in status["actors"].values() for name, line in actor.get("lines", {}).items()}
    return [
        LineTarget(name, line["url"], line["status"]["local_address"])
        for name, line in sorted(lines.items())
        if isinstance(line.get("status"), dict) and line["status"]["is_up"]
    ]


def find_line(status: Status, wanted: str) -> LineTarget:
    """Find a line that is up by its name, or by the end of it.

    Raises:
        ConfigError: there is none, or several.
    """
    lines = {line.name: line for line in lines_up(status)}
    return lines[_one(lines, wanted, "line that is up")]


def _one(names: Iterable[str], wanted: str, kind: str) -> str:
    known = sorted(names)
    fitting = [name for name in known if name == wanted] or [name for name in known if name.endswith(wanted)]
    if wanted and len(fitting) == 1:
        return fitting[0]
    problem = "several end so" if wanted and fitting else f"no {kind} of that name"
    raise ConfigError("", wanted, f"{problem} (known: {', '.join(known) or 'none'})")

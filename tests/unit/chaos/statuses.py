"""A pipeline's status as its supervisor gives it, with everything in order."""

from __future__ import annotations

from typing import Any

WANTED = {"collector": 2, "dedup": 2, "strategy": 1, "recorder": 1}
URL = "ws://127.0.0.1:9000/ws"


def status() -> dict[str, Any]:
    """Give it afresh, to be changed by a test."""
    collectors = ["p-collector-aa-0", "p-collector-bb-0"]
    dedups = ["p-dedup-0-a", "p-dedup-0-b"]
    actors = {name: _collector(name, 10 + at) for at, name in enumerate(collectors)}
    actors |= {name: _actor("dedup", 20 + at, collectors) for at, name in enumerate(dedups)}
    actors["p-strategy-watch"] = _actor("strategy", 30, dedups)
    actors["p-recorder-disk"] = _actor("recorder", 40, dedups)
    for name in dedups:
        actors[name]["streams"] = {"v:A/book": {"last_id": 500, "snapshots": 1}, "v:A/trades": {"last_id": None}}
    return {"name": "p", "pid": 1, "node": "aa11", "actors": actors}


def _actor(role: str, pid: int, up: list[str]) -> dict[str, Any]:
    return {"state": "alive", "role": role, "pid": pid, "node": "aa11" if pid % 2 else "bb22", "up": up}


def _collector(name: str, pid: int) -> dict[str, Any]:
    line = {"url": URL, "status": {"is_up": True, "local_address": f"127.0.0.1:{pid}"}}
    return {**_actor("collector", pid, []), "lines": {f"{name}/v": line}}

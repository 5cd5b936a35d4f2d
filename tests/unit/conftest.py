"""Unit tests test machines: no cluster, no socket to any host, no sleeping."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any, NoReturn

import pytest

HOSTS = (socket.AF_INET, socket.AF_INET6)


def _refuse(*_: object, **__: object) -> NoReturn:
    pytest.fail("a unit test must not sleep, and not start Ray")


def _unless_to_a_host(name: str) -> Any:
    original = getattr(socket.socket, name)

    def checked(self: socket.socket, *arguments: Any) -> Any:
        if self.family in HOSTS:
            pytest.fail(f"a unit test must not {name} a socket")
        return original(self, *arguments)

    return checked


@pytest.fixture(autouse=True)
def forbid_io(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse sockets to hosts (Ray cannot start without them either), and sleeping."""
    for name in ("connect", "bind"):
        monkeypatch.setattr(socket.socket, name, _unless_to_a_host(name))
    monkeypatch.setattr(time, "sleep", _refuse)
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse)

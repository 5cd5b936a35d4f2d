"""Unit tests test machines: no cluster, no socket to anywhere, no sleeping."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NoReturn

import pytest


def _forbidden(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail(f"a unit test must not use {what}", pytrace=True)

    return refuse


@pytest.fixture(autouse=True)
def forbid_io(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections, sleeping and Ray (which cannot start without them; its module need not be loaded)."""
    monkeypatch.setattr(socket.socket, "connect", _forbidden("sockets"))
    monkeypatch.setattr(socket.socket, "bind", _forbidden("sockets"))
    monkeypatch.setattr(socket, "create_connection", _forbidden("sockets"))
    monkeypatch.setattr(time, "sleep", _forbidden("time.sleep"))
    monkeypatch.setattr("ray.init", _forbidden("ray.init"))

"""Ports: who listens is reached, who does not is named, and what is taken is told."""

from __future__ import annotations

import socket

from raytrade.demo.nodes import free_port
from raytrade.transport.reach import closed, taken


def test_ports_are_reached_or_named() -> None:
    nobody = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        problems = closed([("127.0.0.1", port), ("127.0.0.1", nobody), ("127.0.0.1", port)])
        assert problems == {f"127.0.0.1:{port}": "", f"127.0.0.1:{nobody}": problems[f"127.0.0.1:{nobody}"]}
        assert "refused" in problems[f"127.0.0.1:{nobody}"]
        assert taken(port, "127.0.0.1") == "Address already in use"
    assert taken(nobody, "127.0.0.1") == ""

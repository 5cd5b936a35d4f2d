"""The clients that the burst benchmark compares with, over real sockets."""

from __future__ import annotations

from benchmarks import burst


def test_bare_clients_read_a_whole_burst() -> None:
    assert 0 < burst.bare_seconds(500) < burst.TIMEOUT_S

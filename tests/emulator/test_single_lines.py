"""One line among several is found by its own address, cut and damaged; the others are left alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from raytrade.chaos import venue_lines
from raytrade.chaos.targets import LineTarget
from raytrade.emulator import EmulatorSettings, EmulatorThread, run_in_thread
from raytrade.errors import ConfigError, PipelineError

SETTINGS = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=1000.0, clients=0, trades_share=0.0)
STREAM = "/stream?streams=btcusdt@depth@100ms"


@pytest.fixture
def emulator() -> Iterator[EmulatorThread]:
    with run_in_thread(SETTINGS) as running:
        yield running


def open_line(emulator: EmulatorThread) -> ClientConnection:
    return connect(emulator.url + STREAM, max_queue=None, close_timeout=0.2)


def target(emulator: EmulatorThread, client: ClientConnection) -> LineTarget:
    host, port = client.socket.getsockname()[:2]
    return LineTarget("c/binance-spot", emulator.url + STREAM, f"{host}:{port}")


def test_only_the_line_that_is_meant_is_cut(emulator: EmulatorThread) -> None:
    with open_line(emulator) as first, open_line(emulator) as second:
        assert venue_lines.cut(target(emulator, second)) == 2
        with pytest.raises(ConnectionClosed):
            while True:
                second.recv(timeout=5)
        assert emulator.connections == [1]
        assert first.recv(timeout=5)


def test_only_the_line_that_is_meant_is_damaged(emulator: EmulatorThread) -> None:
    with open_line(emulator) as first, open_line(emulator) as second:
        assert venue_lines.damage(target(emulator, first), "drop", 1.0, 60.0) == 1
        while not emulator.truth().fault_counts.get("drop", 0):
            assert second.recv(timeout=5)
        assert {fault.connection for fault in emulator.truth().faults} == {1}
        venue_lines.repair(target(emulator, first))
        assert not emulator.truth().is_finished


def test_a_line_that_is_gone_is_told(emulator: EmulatorThread) -> None:
    gone = LineTarget("c/binance-spot", emulator.url, "127.0.0.1:1")
    with pytest.raises(PipelineError, match=r"has no connection from 127\.0\.0\.1:1"):
        venue_lines.cut(gone)


def test_a_real_exchange_cannot_be_told_to_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    for scheme in ("ws", "wss"):
        with pytest.raises(ConfigError, match="is no emulator of ours"):
            venue_lines.cut(LineTarget("c/binance-spot", f"{scheme}://127.0.0.1:{port}/stream", "127.0.0.1:1"))

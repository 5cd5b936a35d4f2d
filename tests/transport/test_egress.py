"""Ways out of a host, over real sockets: a source address, an interface, a proxy with and without a password."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from raytrade.core.events import BookDelta, Event, LineDown
from raytrade.emulator import EmulatorSettings, EmulatorThread, run_in_thread
from raytrade.errors import LineLost
from raytrade.transport.clock import SystemClock
from raytrade.transport.egress import Egress, Secret, address_of
from raytrade.transport.line import Line
from raytrade.transport.rest import WeightBudget, fetch
from raytrade.venues import find_venue
from raytrade.venues.protocol import Subscription

DEADLINE_S = 15.0
PASSWORD = "p%40ss-planted-7f3a"
BASIC = base64.b64encode(b"u:p@ss-planted-7f3a").decode()


class Gate:
    """A server that notes who comes and what is said first, and as a proxy passes everything on."""

    def __init__(self, forward: bool, code: int = 200) -> None:
        self.peers: list[str] = []
        self.heads: list[str] = []
        self.port = 0
        self._forward, self._code = forward, code
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.peers.append(writer.get_extra_info("peername")[0])
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if not self._forward or self._code != 200:
            body = b"{}" if not self._forward else b""
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (self._code, len(body), body))
            writer.close()
            return
        host, _, port = head.split()[1].rpartition(":")
        upstream = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer), return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    finally:
        writer.close()


@pytest.fixture
def market() -> Iterator[EmulatorThread]:
    settings = EmulatorSettings(venue="binance-spot", symbols=("BTCUSDT",), rate=500, updates=100)
    with run_in_thread(settings) as emulator:
        yield emulator


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def run_line(emulator: EmulatorThread, egress: Egress, ends: Callable[[Line, list[Event]], bool]) -> Line:
    """Run a line until `ends`; gives it."""
    machine = find_venue("binance-spot").machine
    endpoint = machine.endpoints(emulator.url, emulator.url.replace("ws", "http", 1), (Subscription("BTCUSDT"),))[0]
    line = Line("a", machine("binance-spot", endpoint), SystemClock(), WeightBudget(0), 0, egress)
    events: list[Event] = []
    task = asyncio.create_task(line.run(lambda _, more: events.extend(more)))
    try:
        await until(lambda: ends(line, events))
    finally:
        task.cancel()
        line.close()
    return line


def has_all(_: Line, events: list[Event]) -> bool:
    return sum(isinstance(event, BookDelta) for event in events) == 100


def has_a_reason(line: Line, _: list[Event]) -> bool:
    return bool(line.status.last_reason)


def test_a_line_leaves_by_its_source_address(market: EmulatorThread) -> None:
    asyncio.run(run_line(market, Egress(source_address="127.0.0.3"), has_all))


@pytest.mark.parametrize(
    ("egress", "peer"), [(Egress(source_address="127.0.0.3"), "127.0.0.3"), (Egress(interface="lo"), "127.0.0.1")]
)
def test_rest_leaves_the_same_way(egress: Egress, peer: str) -> None:
    async def course() -> list[str]:
        async with Gate(forward=False) as gate:
            assert await fetch(f"http://127.0.0.1:{gate.port}/depth", egress) == b"{}"
            return gate.peers

    assert asyncio.run(course()) == [peer]


@pytest.mark.parametrize("where", ["file", "env"])
def test_a_proxy_with_a_password_that_nobody_sees(
    market: EmulatorThread, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def course() -> tuple[list[str], list[str], Line]:
        async with Gate(forward=True) as gate:
            url = f"http://u:{PASSWORD}@127.0.0.1:{gate.port}"
            path = tmp_path / "proxy"
            path.write_text(f"{url}\n")
            path.chmod(0o600)
            monkeypatch.setenv("A_PROXY", url)
            egress = Egress(proxy=f"file:{path}" if where == "file" else "env:A_PROXY", source_address="127.0.0.4")
            line = await run_line(market, egress, has_all)
            return gate.heads, gate.peers, line

    heads, peers, line = asyncio.run(course())
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{market.port} HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {BASIC}" in heads[0]
    assert peers[0] == "127.0.0.4"
    shown = f"{line.status} {line.machine.endpoint} {msgspec.json.encode(line.status)!r} {vars(line)}"
    assert "planted" not in shown and BASIC not in shown


@pytest.mark.parametrize(("code", "told"), [(407, "the proxy answered 407"), (503, "the proxy answered 503")])
def test_a_proxy_that_refuses_is_told_without_its_password(
    market: EmulatorThread, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def course() -> str:
        async with Gate(forward=True, code=code) as gate:
            monkeypatch.setenv("A_PROXY", f"http://u:{PASSWORD}@127.0.0.1:{gate.port}")
            return (await run_line(market, Egress(proxy="env:A_PROXY"), has_a_reason)).status.last_reason

    reason = asyncio.run(course())
    assert told in reason
    assert "planted" not in reason


def test_what_is_wrong_with_a_way_out_is_the_lines_reason(market: EmulatorThread, tmp_path: Path) -> None:
    path = tmp_path / "proxy"
    path.write_text("http://u:secret@127.0.0.1:1")
    path.chmod(0o644)
    wrong = {
        Egress(proxy="env:NO_SUCH_PROXY"): "the environment has no NO_SUCH_PROXY",
        Egress(proxy=f"file:{path}"): f"others can read it (mode 644): chmod 600 {path}",
        Egress(proxy=f"file:{tmp_path}/none"): f"{tmp_path}/none: No such file or directory",
        Egress(interface="nosuch0"): "interface nosuch0 has no address",
        Egress(source_address="192.0.2.77"): "Cannot assign requested address",
    }
    for egress, told in wrong.items():
        line = asyncio.run(run_line(market, egress, has_a_reason))
        assert told in line.status.last_reason
        assert "secret" not in line.status.last_reason


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://127.0.0.1", "http://h:planted", "planted"])
def test_a_proxys_address_that_is_none_is_not_shown(
    market: EmulatorThread, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_PROXY", url)
    line = asyncio.run(run_line(market, Egress(proxy="env:A_PROXY"), has_a_reason))
    assert line.status.last_reason == "the proxy's address is not of the form http://[user:password@]host:port"


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(PASSWORD)
    assert f"{secret} {secret!r} {[secret]}" == "Secret(***) Secret(***) [Secret(***)]"
    assert secret.reveal() == PASSWORD
    assert secret and not Secret("")
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="does not leave"):
        copy.deepcopy(secret)


def test_an_interface_without_an_address() -> None:
    assert address_of("lo") == "127.0.0.1"
    with pytest.raises(LineLost, match="nosuch0"):
        address_of("nosuch0")


def test_a_way_out_that_is_gone_downs_no_other_line(market: EmulatorThread) -> None:
    """The line stays down with its reason and never says that it was up."""

    async def course() -> list[Event]:
        seen: list[Event] = []

        def ends(line: Line, events: list[Event]) -> bool:
            seen[:] = events
            return bool(line.status.last_reason)

        await run_line(market, Egress(source_address="192.0.2.77"), ends)
        return seen

    assert not [event for event in asyncio.run(course()) if isinstance(event, LineDown)]

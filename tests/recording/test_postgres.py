"""A recording copied into a real PostgreSQL server: exact, once, whatever breaks off."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from raytrade.storage import postgres
from raytrade.storage.compaction import compact
from raytrade.storage.postgres import PostgresSink
from raytrade.storage.recording import open_recording
from tests.unit.storage.test_remote import make

pytestmark = pytest.mark.long
BTC = "binance-spot:BTCUSDT"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


class Server:
    """A private server: its own data, its own port, ended by its process id."""

    def __init__(self, folder: Path) -> None:
        self._bin, self._data = BINARIES[-1].parent, folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self._call("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-D", str(self._data))

    def _call(self, name: str, *arguments: str) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        command = [str(self._bin / name), *arguments]
        subprocess.run(command, user=user, cwd=self._data.parent, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        options = f"-p {self._port} -h 127.0.0.1 -k {self._data.parent} -F"
        self._call("pg_ctl", "-D", str(self._data), "-l", str(self._data.parent / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not BINARIES:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    folder = Path("/tmp") / f"raytrade-postgres-{os.getpid()}"
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    running = Server(folder)
    running.start()
    yield running
    running.stop()
    shutil.rmtree(folder)


def ask(server: Server, text: str) -> list[Any]:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(server.address) as connection, connection.cursor() as cursor:
        cursor.execute(text)
        return list(cursor.fetchall())


def test_rows_are_there_once_and_exact(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "ROWS_AT_ONCE", 7)
    make(tmp_path)
    sink = PostgresSink(tmp_path, server.address)
    done = sink.run()
    assert (done.problem, done.waiting, done.files > 5) == ("", 0, True)
    rows = open_recording(tmp_path).book(BTC)
    expected = list(
        zip(*(rows.column(name).to_pylist() for name in ("index", "id_last", "price", "size")), strict=True)
    )
    text = 'SELECT "index", id_last, price, size FROM raytrade_book ORDER BY instrument, start, "index", "row"'
    told = ask(server, text)
    assert [(at, id_last, Decimal(price), Decimal(size)) for at, id_last, price, size in told] == expected
    assert ask(server, "SELECT count(*), min(instrument) FROM raytrade_gaps") == [(1, BTC)]
    assert sink.run().files == done.files, "what is done is not done again"
    compact(tmp_path)
    assert PostgresSink(tmp_path, server.address).run().problem == ""
    assert len(ask(server, text)) == len(expected), "the same rows from another file are the same rows"


def test_a_server_that_goes_is_told_and_gone_on_with(tmp_path: Path, server: Server) -> None:
    make(tmp_path)
    sink = PostgresSink(tmp_path, server.address)
    assert sink.run().problem == ""
    server.stop()
    make(tmp_path, 60, 80)
    problem = sink.run().problem
    assert problem.startswith("the database: ")
    assert "\n" not in problem
    server.start()
    assert (sink.run().problem, sink.counts.waiting) == ("", 0)
    assert ask(server, "SELECT count(DISTINCT id_last) FROM raytrade_book") == [(51,)]
    sink.close()

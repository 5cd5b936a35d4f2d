"""Recordings are served frame for frame."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytrade.emulator import Emulator, EmulatorSettings
from raytrade.errors import CaptureError, ConfigError
from tests.emulator.clients import Reader, fetch, open_reader, until

HEADER = {"kind": "header", "version": 1, "venue": "hitbtc-v2", "connections": ["1", "2"]}
DEPTH = "https://example.com/api/v1/depth?symbol=X&limit=1000"


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """Write a recording of our own."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return str(path)


def made_records() -> list[dict[str, Any]]:
    """Two connections in turn, 10 ms apart, one binary frame, two REST bodies."""
    records: list[dict[str, Any]] = [HEADER, {"kind": "send", "conn": "1", "ts_ns": 0, "data": ""}]
    for index in range(40):
        stamp = 1_000_000_000 + index * 10_000_000
        records.append({"kind": "recv", "conn": "12"[index % 2], "ts_ns": stamp, "data": f'"f{index}"'})
        if index in (10, 30):
            body = json.dumps({"lastUpdateId": index})
            records.append({"kind": "rest", "ts_ns": stamp, "url": DEPTH, "data": body})
    binary = base64.b64encode(b"\x00\xff").decode()
    records.append({"kind": "recv", "conn": "1", "ts_ns": 1_400_000_000, "b64": binary})
    return records


@pytest.fixture
def made(tmp_path: Path) -> str:
    return write(tmp_path / "made.jsonl.gz", made_records())


def test_clients_get_their_connection_whole_and_in_order(made: str) -> None:
    async def check() -> None:
        emulator = Emulator(EmulatorSettings(capture=made, speed=0.0, clients=2))
        await emulator.start()
        second = await open_reader(emulator, "/any?conn=2")
        first = await open_reader(emulator, "/any", {"op": "subscribe"})
        await until(lambda: len(first.raw) == 21 and len(second.raw) == 20)
        assert first.raw == [f'"f{n}"' for n in range(0, 40, 2)] + [b"\x00\xff"]
        assert second.raw == [f'"f{n}"' for n in range(1, 40, 2)]
        truth = emulator.truth()
        assert truth.ids == {"conn=1": list(range(21)), "conn=2": list(range(20))}
        assert truth.delivered == {
            1: {"conn=2": truth.ids["conn=2"]},
            2: {"conn=1": list(range(21))},
        }
        assert emulator.is_finished and not first.is_closed
        await emulator.stop()

    asyncio.run(check())


def test_recorded_pace_is_kept_and_can_be_raised(made: str) -> None:
    async def run(speed: float) -> float:
        emulator = Emulator(EmulatorSettings(capture=made, speed=speed))
        await emulator.start()
        reader = await open_reader(emulator, "/?conn=1", "subscribe")
        await until(lambda: len(reader.raw) >= 1)
        start = time.monotonic()
        await until(lambda: len(reader.raw) == 21)
        await emulator.stop()
        return time.monotonic() - start

    recorded_s = asyncio.run(run(1.0))
    assert recorded_s > 0.35
    assert asyncio.run(run(10.0)) < recorded_s


def test_rest_bodies_follow_the_replay(made: str) -> None:
    async def check() -> None:
        emulator = Emulator(EmulatorSettings(capture=made))
        await emulator.start()
        target = "/api/v1/depth?limit=1000&symbol=X"
        assert (await fetch(emulator, target))[1] == {"lastUpdateId": 10}
        reader = await open_reader(emulator, "/?conn=2")
        await until(lambda: '"f21"' in reader.raw)
        assert (await fetch(emulator, "/api/v3/depth?symbol=X&limit=5"))[1]["lastUpdateId"] == 10
        await until(lambda: '"f31"' in reader.raw)
        assert (await fetch(emulator, target))[1] == {"lastUpdateId": 30}
        assert (await fetch(emulator, "/api/v1/depth?symbol=Y"))[0] == 404
        await emulator.stop()

    asyncio.run(check())


def test_faults_work_on_recordings(made: str) -> None:
    async def check() -> None:
        emulator = Emulator(EmulatorSettings(capture=made, speed=0.0, faults=("drop@5",)))
        await emulator.start()
        reader = await open_reader(emulator, "/?conn=2")
        await until(lambda: len(reader.raw) == 19)
        assert '"f11"' not in reader.raw
        assert [fault.id_last for fault in emulator.truth().faults] == [5]
        await emulator.stop()

    asyncio.run(check())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: gzip.compress(b"no json\n"),
        lambda data: gzip.compress(json.dumps(HEADER).encode() + b"\n{broken\n"),
        lambda data: gzip.compress(b'{"kind":"header","version":9,"venue":"x"}\n'),
        lambda data: gzip.compress(b""),
        lambda data: b"not gzip at all",
    ],
)
def test_damaged_recordings_are_named(made: str, spoil: Any) -> None:
    path = Path(made)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CaptureError) as caught:
        Emulator(EmulatorSettings(capture=made))
    assert made in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_recording_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Emulator(EmulatorSettings(capture="/nowhere.jsonl.gz"))


def captures_folder() -> Path:
    """Find the recordings: RAYTRADE_CAPTURES, else beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "captures"
    return Path(os.environ.get("RAYTRADE_CAPTURES", str(beside)))


NAMES = (
    "hitbtc-v2/20210715-dntbtc-10sym-x4.jsonl.gz",
    "binance-spot/20210417-swrvbusd-10sym.jsonl.gz",
    "kraken-v2/20260802-btc-usd.jsonl.gz",
    "bybit-v5/20260809-btcusdt-4sym.jsonl.gz",
    "huobi/20210417-trioeth-10sym.jsonl.gz",
)


def recorded(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Read (connection, frame) with nothing but the standard library."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record["kind"] == "recv":
                is_text = "data" in record
                frame = record["data"] if is_text else base64.b64decode(record["b64"])
                yield record["conn"], frame


@pytest.mark.captures
@pytest.mark.parametrize("name", NAMES)
def test_real_recordings_are_served_complete(name: str) -> None:
    path = captures_folder() / name
    if not path.exists():
        pytest.skip(f"no recording {name}; RAYTRADE_CAPTURES tells where they are")
    wanted: dict[str, list[str | bytes]] = {}
    for connection, frame in recorded(path):
        wanted.setdefault(connection, []).append(frame)
    asyncio.run(check_complete(path, wanted))


async def check_complete(path: Path, wanted: dict[str, list[str | bytes]]) -> None:
    emulator = Emulator(EmulatorSettings(capture=str(path), speed=0.0, clients=len(wanted)))
    await emulator.start()
    readers: dict[str, Reader] = {}
    for connection in wanted:
        readers[connection] = await open_reader(emulator, f"/?conn={connection}", "subscribe")
    for connection, reader in readers.items():
        count = len(wanted[connection])
        await until(lambda reader=reader, count=count: len(reader.raw) >= count)  # type: ignore[misc]
        assert reader.raw == wanted[connection]
    await emulator.stop()

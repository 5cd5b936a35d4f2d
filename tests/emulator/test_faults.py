"""Every kind of fault on a real socket, and in the journal."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from raytrade.emulator import Emulator, EmulatorSettings, parse_fault
from raytrade.emulator.faults import FaultPlan
from raytrade.emulator.message import Content, Message
from raytrade.errors import ConfigError
from tests.emulator.clients import Reader, fetch, open_reader, until

SUBSCRIBE = {"method": "subscribeOrderbook", "params": {"symbol": "ETHBTC"}, "id": 1}


def settings(*faults: str, **changes: Any) -> EmulatorSettings:
    options: dict[str, Any] = {"symbols": ("ETHBTC",), "rate": 2000.0, "updates": 1000}
    return EmulatorSettings(venue="hitbtc-v2", faults=faults, **{**options, **changes})


async def run_line(*faults: str, **changes: Any) -> tuple[Emulator, Reader]:
    """Serve one client to the end of the stream, or of its connection."""
    emulator = Emulator(settings(*faults, **changes))
    await emulator.start()
    reader = await open_reader(emulator, "/", SUBSCRIBE)
    await until(lambda: emulator.is_finished or reader.is_closed)
    if not reader.is_closed:
        sent = len(emulator.truth().delivered[1]["ETHBTC"])
        await until(lambda: len(reader.raw) == sent + 2)
    return emulator, reader


def sequences(reader: Reader) -> list[int]:
    return [frame["params"]["sequence"] for frame in reader.frames if frame.get("method") == "updateOrderbook"]


def test_drop_loses_what_the_journal_says() -> None:
    async def check() -> None:
        emulator, reader = await run_line("drop=0.05")
        truth = emulator.truth()
        dropped = {fault.id_last for fault in truth.faults if fault.kind == "drop"}
        assert 20 < len(dropped) < 90
        assert set(truth.ids["ETHBTC"]) - set(sequences(reader)) == dropped
        assert truth.delivered[1]["ETHBTC"] == sequences(reader)
        await emulator.stop()

    asyncio.run(check())


def test_duplicates_and_reordering_lose_nothing() -> None:
    async def check() -> None:
        emulator, reader = await run_line("duplicate=0.05", "reorder=0.05")
        truth = emulator.truth()
        seen = sequences(reader)
        assert sorted(set(seen)) == truth.ids["ETHBTC"]
        assert len(seen) == len(set(seen)) + truth.fault_counts["duplicate"]
        assert seen != sorted(seen)
        assert truth.fault_counts["reorder"] > 20
        await emulator.stop()

    asyncio.run(check())


def test_corrupt_frames_are_no_json() -> None:
    async def check() -> None:
        emulator, reader = await run_line("corrupt=0.05")
        broken = 0
        for text in reader.raw:
            try:
                json.loads(text)
            except json.JSONDecodeError:
                broken += 1
        assert broken == emulator.truth().fault_counts["corrupt"] > 20
        await emulator.stop()

    asyncio.run(check())


def test_cut_ends_the_connection_and_the_next_one_is_left_alone() -> None:
    async def check() -> None:
        emulator, reader = await run_line("cut@100ms")
        await until(lambda: reader.is_closed)
        assert [fault.kind for fault in emulator.truth().faults] == ["cut"]
        again = await open_reader(emulator, "/", SUBSCRIBE)
        await until(lambda: emulator.is_finished)
        assert not again.is_closed
        assert sequences(again) == sorted(set(sequences(again)))
        await emulator.stop()

    asyncio.run(check())


def test_cut_at_a_message_sends_exactly_those_before_it() -> None:
    async def check() -> None:
        emulator, reader = await run_line("cut@50")
        await until(lambda: reader.is_closed)
        assert len(emulator.truth().delivered[1]["ETHBTC"]) == 50
        await emulator.stop()

    asyncio.run(check())


def test_delay_makes_the_line_lag_in_order() -> None:
    async def check() -> None:
        emulator = Emulator(settings("conn=2:delay=100ms", clients=2, updates=400))
        await emulator.start()
        prompt = await open_reader(emulator, "/", SUBSCRIBE)
        late = await open_reader(emulator, "/", SUBSCRIBE)
        await until(lambda: len(prompt.raw) > 50)
        assert len(late.raw) == 0
        await until(lambda: len(late.raw) == 402)
        assert sequences(late) == sequences(prompt) == emulator.truth().ids["ETHBTC"]
        await emulator.stop()

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["silent", "stall"])
def test_a_quiet_line_stays_open(kind: str) -> None:
    async def check() -> None:
        emulator, reader = await run_line(f"{kind}@100ms:200ms")
        truth = emulator.truth()
        missing = set(truth.ids["ETHBTC"]) - set(sequences(reader))
        assert not reader.is_closed
        assert sequences(reader) == sorted(set(sequences(reader)))
        assert (len(missing) > 100) == (kind == "silent")
        assert truth.fault_counts[kind] > 0
        await emulator.stop()

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["refuse", "ack_only"])
def test_subscriptions_that_come_to_nothing(kind: str) -> None:
    async def check() -> None:
        emulator = Emulator(settings(f"{kind}=ETHBTC", symbols=("ETHBTC", "XRPBTC"), clients=0))
        await emulator.start()
        other = {"method": "subscribeOrderbook", "params": {"symbol": "XRPBTC"}, "id": 2}
        reader = await open_reader(emulator, "/", SUBSCRIBE, other)
        await until(lambda: len(reader.raw) > 50)
        assert ("error" in reader.frames[0]) == (kind == "refuse")
        assert set(emulator.truth().delivered[1]) == {"XRPBTC"}
        assert emulator.truth().fault_counts == {kind: 1}
        await emulator.stop()

    asyncio.run(check())


def test_faults_may_be_set_and_lifted_at_run_time() -> None:
    async def check() -> None:
        emulator = Emulator(settings(updates=0, rate=500.0))
        await emulator.start()
        reader = await open_reader(emulator, "/", SUBSCRIBE)
        await until(lambda: len(reader.raw) > 20)
        emulator.set_fault("drop=1")
        await until(lambda: emulator.truth().fault_counts.get("drop", 0) > 20)
        emulator.clear_faults()
        seen = len(reader.raw)
        await until(lambda: len(reader.raw) > seen + 20)
        with pytest.raises(ConfigError):
            emulator.set_fault("skew_windows=3")
        assert emulator.cut(1) == 1
        await until(lambda: reader.is_closed)
        await emulator.stop()

    asyncio.run(check())


def test_skewed_windows_may_be_set_on_one_connection() -> None:
    async def check() -> None:
        options = EmulatorSettings(
            venue="binance-usdm",
            symbols=("BTCUSDT",),
            rate=2000.0,
            updates=800,
            clients=2,
            faults=("conn=2:skew_windows=5",),
        )
        emulator = Emulator(options)
        await emulator.start()
        readers = [await open_reader(emulator, "/ws/btcusdt@depth") for _ in range(2)]
        await until(lambda: emulator.is_finished)
        ids = emulator.truth().ids["BTCUSDT"]
        await until(lambda: all(str(ids[-1]) in str(reader.raw[-1:]) for reader in readers))
        assert [frame["u"] for frame in readers[0].frames] == ids
        merged = readers[1].frames
        assert 100 < len(merged) < 500
        assert all(one["u"] == two["pu"] for one, two in pairwise(merged))
        await emulator.stop()

    asyncio.run(check())


def test_a_client_that_does_not_read_is_disconnected() -> None:
    async def check() -> None:
        emulator = Emulator(settings(rate=0.0, updates=0, slow_client_s_max=0.2))
        await emulator.start()
        socket = (await open_reader(emulator, "/", SUBSCRIBE)).socket
        await until(lambda: len(emulator.connections) == 1)
        socket.transport.pause_reading()
        await until(lambda: emulator.truth().fault_counts.get("slow_client") == 1)
        assert emulator.connections == []
        await emulator.stop()

    asyncio.run(check())


def test_the_control_address_drives_faults() -> None:
    async def check() -> None:
        emulator = Emulator(settings(updates=0))
        await emulator.start()
        reader = await open_reader(emulator, "/", SUBSCRIBE)
        await until(lambda: len(reader.raw) > 10)
        status, body = await fetch(emulator, "/_control?action=fault&spec=drop%3D0.5")
        assert status == 200 and body["rules"] == ["drop=0.5"]
        assert (await fetch(emulator, "/_control?action=nonsense"))[0] == 400
        assert (await fetch(emulator, "/_control?action=fault&spec=nonsense"))[0] == 400
        assert (await fetch(emulator, "/_control?action=cut&conn=1"))[1] == {"cut": 1}
        await until(lambda: reader.is_closed)
        truth = (await fetch(emulator, "/_truth"))[1]
        assert truth["delivered"]["1"]["ETHBTC"][0] == truth["ids"]["ETHBTC"][0]
        await emulator.stop()

    asyncio.run(check())


def test_the_same_seed_hits_the_same_messages() -> None:
    def hits(seed: int) -> list[int]:
        plan = FaultPlan(1, seed)
        plan.add(parse_fault("drop=0.1"), 0.0)
        messages = [Message(b"{}", "A", Content.BOOK, n, n) for n in range(500)]
        return [m.id_last for m in messages if not plan.judge(m, 0.0).messages]

    assert hits(1) == hits(1) != hits(2)


def test_lifting_a_stall_releases_what_it_held() -> None:
    async def check() -> None:
        emulator = Emulator(settings("stall", updates=300))
        await emulator.start()
        reader = await open_reader(emulator, "/", SUBSCRIBE)
        await until(lambda: len(emulator.truth().ids["ETHBTC"]) == 300)
        assert not emulator.is_finished and not emulator.truth().delivered[1]
        emulator.clear_faults()
        await until(lambda: len(reader.raw) == 302)
        assert sequences(reader) == emulator.truth().ids["ETHBTC"]
        await emulator.stop()

    asyncio.run(check())

"""One hop between two processes of a host, by raytrade's local lane, iceoryx2, ZeroMQ ipc and a Ray actor call.

    python -m benchmarks.hop --json hop.json

The clock starts before the sender's call and stops when the reader has the bytes as a `bytes` object. Readers sleep in
the kernel; nobody spins. The lanes are interleaved; figures are medians over the repeats.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.pipeline_systems.hop_lanes import RECEIVERS, SENDERS
from benchmarks.pipeline_systems.hop_tally import STAMP, WARM, RayReader, Tally
from benchmarks.pipeline_systems.ray_environment import OBJECT_STORE_BYTES, set_environment
from benchmarks.pipeline_systems.results import aligned, latency_figures

LANES = (*RECEIVERS, "ray call")
NEEDS = {"iceoryx2": "iceoryx2", "zeromq ipc": "zmq", "ray call": "ray"}
TIMEOUT_S = 60.0
WARM_RATE = 200
SETTLE_S = 0.5


class Hop(msgspec.Struct, frozen=True):
    """What is sent: messages of `size` bytes, `rate` a second, `count` in all."""

    lane: str
    size: int
    rate: int
    count: int


class HopResult(msgspec.Struct, kw_only=True):
    """One run; CPU in microseconds a message."""

    hop: Hop
    latency_ms: dict[str, float] = {}
    cpu_sender_us: float = 0.0
    cpu_receiver_us: float = 0.0
    problem: str = ""


def pace(hop: Hop, send: Any) -> float:
    """Send the warm-up, then the messages at their rate; gives the CPU seconds of the latter."""
    _send_paced(hop.size, WARM_RATE, WARM, send)
    time.sleep(SETTLE_S)
    cpu_s = time.process_time()
    _send_paced(hop.size, hop.rate, hop.count, send)
    return time.process_time() - cpu_s


def _send_paced(size: int, rate: int, count: int, send: Any) -> None:
    filling = bytes(size - STAMP.size)
    start_s = time.perf_counter()
    for number in range(count):
        wait_s = start_s + number / rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        send(STAMP.pack(time.time_ns()) + filling)


def run_receiver(control: Connection, hop: Hop) -> None:
    """Read until everything has come (entry of a process)."""
    end, tally = RECEIVERS[hop.lane](), Tally()
    control.send(end.address)
    deadline_s = time.monotonic() + TIMEOUT_S
    while tally.seen < WARM + hop.count and time.monotonic() < deadline_s:
        for data in end.read():
            tally.take(data)
    control.send(tally.result())
    control.poll(TIMEOUT_S)


def run_sender(control: Connection, hop: Hop, address: tuple[str, ...]) -> None:
    """Send everything (entry of a process)."""
    end = SENDERS[hop.lane](address)
    time.sleep(SETTLE_S)
    control.send(pace(hop, end.send))
    control.poll(TIMEOUT_S)


def run_ray(control: Connection, hop: Hop, temporary: str) -> None:
    """Run both ends on a local Ray (entry of a process)."""
    set_environment(temporary)
    import ray

    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    options |= {"log_to_driver": False, "logging_level": logging.ERROR, "_node_ip_address": "127.0.0.1"}
    ray.init(address="local", **options)
    try:
        remote: Any = ray.remote(RayReader)
        reader = remote.options(num_cpus=0, enable_task_events=False).remote()
        ray.get(reader.result.remote(), timeout=TIMEOUT_S)
        cpu_s = pace(hop, reader.receive.remote)
        control.send((*ray.get(reader.result.remote(), timeout=TIMEOUT_S), cpu_s))
    finally:
        ray.shutdown()


def _answer(control: Connection, what: str) -> Any:
    if not control.poll(TIMEOUT_S * 2):
        raise TimeoutError(f"no answer from the {what}")
    return control.recv()


def _run_ray(hop: Hop) -> tuple[list[int], float, float]:
    context = multiprocessing.get_context("spawn")
    control, child = context.Pipe()
    temporary = tempfile.mkdtemp(prefix="rb-")
    process = context.Process(target=run_ray, args=(child, hop, temporary))
    process.start()
    child.close()
    try:
        delays, receiver_s, sender_s = _answer(control, "actor")
        return delays, receiver_s, sender_s
    finally:
        process.join(20)
        process.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def _run_pair(hop: Hop) -> tuple[list[int], float, float]:
    context = multiprocessing.get_context("spawn")
    (to_receiver, receiver), (to_sender, sender) = context.Pipe(), context.Pipe()
    processes = [context.Process(target=run_receiver, args=(receiver, hop), daemon=True)]
    try:
        processes[0].start()
        receiver.close()
        address = _answer(to_receiver, "receiver")
        processes.append(context.Process(target=run_sender, args=(sender, hop, address), daemon=True))
        processes[1].start()
        sender.close()
        sender_s = _answer(to_sender, "sender")
        delays, receiver_s = _answer(to_receiver, "receiver")
        return delays, receiver_s, sender_s
    finally:
        for control, process in zip((to_receiver, to_sender), processes, strict=False):
            control.close()
            process.join(3)
            process.kill()


def measure(hop: Hop) -> HopResult:
    """Measure one run."""
    try:
        delays, receiver_s, sender_s = _run_ray(hop) if hop.lane == "ray call" else _run_pair(hop)
    except (OSError, EOFError, TimeoutError) as error:
        return HopResult(hop=hop, problem=str(error) or type(error).__name__)
    return HopResult(
        hop=hop,
        latency_ms=latency_figures(delays),
        cpu_sender_us=sender_s * 1e6 / hop.count,
        cpu_receiver_us=receiver_s * 1e6 / hop.count,
        problem="" if len(delays) == hop.count else f"{hop.count - len(delays)} of {hop.count} lost",
    )


def report(results: list[HopResult]) -> list[list[str]]:
    """Give the table of the medians, heading first."""
    groups: dict[tuple[int, int, str], list[HopResult]] = {}
    for result in results:
        groups.setdefault((result.hop.size, result.hop.rate, result.hop.lane), []).append(result)
    lines = [["bytes, rate", "lane", "p50 us", "p99 us", "max us", "sender CPU us", "receiver CPU us", "problems"]]
    for (size, rate, lane), group in groups.items():
        good = [one for one in group if one.latency_ms] or group
        quantiles = [median(one.latency_ms.get(name, 0.0) for one in good) * 1000 for name in ("p50", "p99", "max")]
        cpu = [median(one.cpu_sender_us for one in good), median(one.cpu_receiver_us for one in good)]
        problems = "; ".join(one.problem for one in group if one.problem)
        lines.append([f"{size} B, {rate}/s", lane, *(f"{value:.0f}" for value in quantiles + cpu), problems])
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; gives 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hop", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lanes", default=",".join(LANES))
    parser.add_argument("--sizes", default="200,20000")
    parser.add_argument("--rates", default="200,1000,5000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    lanes = [lane for lane in options.lanes.split(",") if _is_there(lane)]
    hops = [
        Hop(lane, int(size), int(rate), int(int(rate) * options.seconds))
        for _ in range(options.repeat)
        for size in options.sizes.split(",")
        for rate in options.rates.split(",")
        for lane in lanes
    ]
    results = []
    for hop in hops:
        results.append(measure(hop))
        print(f"{hop.lane} {hop.size} B {hop.rate}/s: {results[-1].latency_ms} {results[-1].problem}", flush=True)
    print(aligned(report(results)))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    return 1 if any(result.problem for result in results) else 0


def _is_there(lane: str) -> bool:
    needed = NEEDS.get(lane)
    if needed is None or find_spec(needed) is not None:
        return True
    print(f"{lane} is skipped: {needed} is not installed")
    return False


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())

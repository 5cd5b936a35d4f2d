"""Backtests as tasks of a Ray cluster: one processor each, as many at a time as the cluster has.

`raytrade.pipeline.environment.prepare` must run before this module is imported. The recording and the strategy's file
must lie at the same path on every node.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import ray
from ray.exceptions import RayError

from raytrade.backtest.results import Result
from raytrade.backtest.run import run
from raytrade.backtest.settings import BacktestSettings
from raytrade.backtest.sweep import Outcome
from raytrade.errors import PipelineError, RaytradeError
from raytrade.pipeline.driver import join, start_node
from raytrade.storage.memory import keep_memory
from raytrade.storage.recording import Recording, open_recording

WINDOW_PER_CPU = 2
"""Jobs handed to Ray at a time per processor: enough that none waits, few enough to be called back."""


def connect(address: str = "") -> None:
    """Join the cluster at the address; empty: the one that runs here, else start one; ``local``: start one.

    Raises:
        PipelineError: there is no cluster at the address, or Ray does not start.
    """
    if address != "local":
        try:
            join(address or "auto")
            return
        except PipelineError:
            if address:
                raise
    start_node({})


def disconnect() -> None:
    """Leave the cluster; a Ray that was started here ends."""
    ray.shutdown()


@lru_cache(maxsize=1)
def _recording(data: str) -> Recording:
    return open_recording(Path(data))


def _run_job(job: bytes) -> bytes:
    """Run one job in a worker; every answer is bytes, an error too."""
    keep_memory()
    settings = msgspec.json.decode(job, type=BacktestSettings)
    try:
        return msgspec.json.encode(run(settings, _recording(settings.data)).without_curve())
    except RaytradeError as error:
        return msgspec.json.encode({"error": str(error)})


def run_jobs(jobs: Sequence[BacktestSettings]) -> Generator[Outcome, None, None]:
    """Run the jobs on the cluster, giving each as it ends. Whoever stops early calls back what has not begun.

    Raises:
        PipelineError: a job could not be run; says why.
    """
    task = ray.remote(num_cpus=1, max_retries=3)(_run_job)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    window = max(int(resources.get("CPU", 1)), 1) * WINDOW_PER_CPU
    waiting = list(enumerate(jobs))[::-1]
    running: dict[ray.ObjectRef[bytes], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < window:
                number, job = waiting.pop()
                running[task.remote(msgspec.json.encode(job))] = number
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                yield running.pop(reference), _result_of(reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _result_of(reference: ray.ObjectRef[bytes]) -> Result:
    try:
        answer: bytes = ray.get(reference)
    except RayError as error:
        raise PipelineError(f"a run was lost: {str(error).splitlines()[0]}") from None
    if answer.startswith(b'{"error":'):
        raise PipelineError(msgspec.json.decode(answer)["error"])
    return msgspec.json.decode(answer, type=Result)

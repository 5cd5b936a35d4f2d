"""raytrade itself: one local Ray without dashboard, started in a process of its own for every run."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from .limits import HOOK
from .market import LOTS_PER_UNIT, TICKS_PER_UNIT, Half, digest, symbol_names
from .probe import VENUE
from .ray_environment import OBJECT_STORE_BYTES, set_environment
from .system import READY_TIMEOUT_S, Failed, Task

POLL_S = 0.1
STOP_TIMEOUT_S = 60.0


class RaytradeSystem:
    """Runs a pipeline of the given configuration, see `pipeline_config`."""

    id_column = "id_last"

    def __init__(self, task: Task, config: dict[str, Any]) -> None:
        self.task = task
        self._config = config
        self._temporary = tempfile.mkdtemp(prefix="rb-")
        self._control, child = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process: Any = context.Process(target=run_pipeline, args=(child, self._config, self._temporary))

    def start(self) -> None:
        self._process.start()
        self._answer(READY_TIMEOUT_S)

    def _answer(self, timeout_s: float) -> Any:
        """Wait for the process to have done as it was told."""
        if not self._control.poll(timeout_s):
            raise Failed("the pipeline does not answer")
        try:
            problem, answer = self._control.recv()
        except EOFError:
            problem, answer = "the pipeline's process ended", None
        if problem:
            raise Failed(problem)
        return answer

    def roots(self) -> dict[int, str]:
        return {self._process.pid: "driver"}

    def drain(self) -> None:
        self._ask("drain", {f"{VENUE}:{name}/book": last for name, last in self.task.last_ids.items()})

    def _ask(self, *command: Any) -> Any:
        self._control.send(command)
        return self._answer(STOP_TIMEOUT_S)

    def digests(self) -> list[str]:
        return list(self._ask("digests", symbol_names(self.task.shape.instruments)))

    def pids(self) -> dict[str, int]:
        """Give the process of each actor by the actor's name."""
        return dict(self._ask("pids"))

    def metrics_port(self) -> int:
        """Give the port where the node's metrics are."""
        return int(self._ask("metrics_port"))

    def stop(self) -> None:
        if self._process.is_alive():
            self._control.send(("stop",))
            self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)
        shutil.rmtree(self._temporary, ignore_errors=True)


def pipeline_config(task: Task, same_node: str, copies: int) -> dict[str, Any]:
    """Give the configuration of a pipeline with `copies` dedup replicas and as many recorders."""
    address, symbols = f"127.0.0.1:{task.port}", symbol_names(task.shape.instruments)
    venue = {"symbols": symbols, "channels": ["book"], "ws_url": f"ws://{address}", "rest_url": f"http://{address}"}
    strategies = [
        {
            "name": f"probe-{at}",
            "strategy": "benchmarks.pipeline_systems.probe:Probe",
            "params": {"applied": str(path), "capacity": task.capacity, "symbols": len(symbols)},
        }
        for at, path in enumerate(task.applied_paths)
    ]
    directories = [task.recording, *(task.directory / f"recording-{copy}" for copy in range(1, copies))]
    return {
        "name": "bench",
        "venues": {VENUE: venue},
        "collectors": {"per_node": task.shape.collectors},
        "dedup": {"replicas": copies},
        "strategies": strategies,
        # No log of arrivals: the others do not keep one.
        "recorders": [
            {"name": f"recorder-{at}", "directory": str(path), "arrivals": False} for at, path in enumerate(directories)
        ],
        "links": {"same_node": same_node},
    }


def run_pipeline(control: Connection, config: dict[str, Any], temporary: str) -> None:
    """Run the pipeline (entry of the process).

    When it is up and after each command it says what is wrong (an empty text if nothing is) and the answer.
    """
    set_environment(temporary)
    import ray

    try:
        _Driver(control, config).run()
    except Exception as error:  # noqa: BLE001 - the boundary of the process: the parent is told
        control.send((f"{type(error).__name__}: {error}", None))
    finally:
        ray.shutdown()


class _Driver:
    def __init__(self, control: Connection, config: dict[str, Any]) -> None:
        from raytrade.config import check_config
        from raytrade.pipeline import driver

        self._driver = driver
        self._control = control
        self._config = check_config(config, "benchmark")

    def run(self) -> None:
        self._start_ray()
        self._driver.start(self._config)
        self._until(self._is_linked, READY_TIMEOUT_S / 2, "the links did not come up")
        self._control.send(("", None))
        commands: dict[str, Callable[..., Any]] = {
            "drain": self._drain,
            "digests": self._digests,
            "metrics_port": _metrics_port,
            "pids": self._pids,
        }
        while (command := self._control.recv())[0] != "stop":
            self._control.send(("", commands[command[0]](*command[1:])))
        self._driver.stop(self._config.name)

    def _start_ray(self) -> None:
        """As the pipeline does by itself, unless there are so many instruments that a budget must be lifted."""
        if len(self._config.venues[VENUE].symbols) == 1:
            self._driver.start_local(self._config)
            return
        import ray

        from raytrade.actors.upstreams import NAMESPACE

        self._driver.keep_output_clean()
        options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options |= {"log_to_driver": False, "logging_level": logging.ERROR, "_node_ip_address": "127.0.0.1"}
        ray.init(address="local", namespace=NAMESPACE, runtime_env={"worker_process_setup_hook": HOOK}, **options)

    def _actors(self, role: str) -> list[dict[str, Any]]:
        actors = self._driver.status(self._config.name)["actors"]
        return [actor for actor in actors.values() if actor.get("role") == role]

    def _pids(self) -> dict[str, int]:
        actors = self._driver.status(self._config.name)["actors"]
        return {name: actor["pid"] for name, actor in actors.items() if "pid" in actor}

    def _is_linked(self) -> bool:
        config = self._config
        dedups, replicas = self._actors("dedup"), config.dedup.replicas
        consumers = self._actors("strategy") + self._actors("recorder")
        lines = [line for actor in self._actors("collector") for line in actor["lines"].values()]
        wanted = "shm" if config.links.same_node == "shm" else "call (configured)"
        return (
            [len(dedup["up"]) for dedup in dedups] == [config.collectors.per_node] * replicas
            and [len(actor["up"]) for actor in consumers]
            == [replicas] * (len(config.strategies) + len(config.recorders))
            and [line["status"]["is_up"] for line in lines] == [True] * config.collectors.per_node
            and all(lane == wanted for dedup in dedups for lane in dedup["lanes"].values())
        )

    def _drain(self, last_ids: dict[str, int]) -> None:
        """Wait until every recorder has taken the last update of each stream, and have them write."""

        def is_taken() -> bool:
            coverages = [actor["coverage"] for actor in self._actors("recorder")]
            return all(
                stream in c and c[stream]["last"] >= last for c in coverages for stream, last in last_ids.items()
            )

        self._until(is_taken, STOP_TIMEOUT_S / 2, "the recorder did not get the last update")
        for part in self._config.recorders:
            problem = str(self._call(f"recorder-{part.name}", "flush"))
            if problem:
                raise Failed(problem)

    def _digests(self, symbols: list[str]) -> list[str]:
        """Give the digest of each strategy's books."""
        given = [self._call(f"strategy-{part.name}", "books") for part in self._config.strategies]
        return [digest(map(_halves, (books[f"{VENUE}:{symbol}"] for symbol in symbols))) for books in given]

    def _call(self, actor: str, method: str) -> Any:
        import ray

        from raytrade.actors.upstreams import NAMESPACE

        handle: Any = ray.get_actor(f"{self._config.name}-{actor}", namespace=NAMESPACE)
        return ray.get(getattr(handle, method).remote(), timeout=STOP_TIMEOUT_S / 2)

    @staticmethod
    def _until(holds: Any, timeout_s: float, problem: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise Failed(problem)
            time.sleep(POLL_S)


def _metrics_port() -> int:
    import ray

    nodes: Any = ray.nodes
    return int(nodes()[0]["MetricsExportPort"])


def _halves(book: dict[str, Any]) -> tuple[Half, Half]:
    """Read a book in decimal text."""
    bids, asks = (
        {int(Decimal(price) * TICKS_PER_UNIT): int(Decimal(size) * LOTS_PER_UNIT) for price, size in book[side]}
        for side in ("bids", "asks")
    )
    return bids, asks


def raytrade(task: Task) -> RaytradeSystem:
    """Make raytrade with local lanes: one dedup, one recorder."""
    return RaytradeSystem(task, pipeline_config(task, "shm", 1))


def raytrade_call(task: Task) -> RaytradeSystem:
    """Make raytrade with actor calls between processes of one host as between hosts."""
    return RaytradeSystem(task, pipeline_config(task, "call", 1))


def raytrade_x2(task: Task) -> RaytradeSystem:
    """Make raytrade with two dedup replicas and two recorders."""
    return RaytradeSystem(task, pipeline_config(task, "shm", 2))

"""raytrade itself: one local Ray without dashboard, started in a process of its own for every run."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any

from .market import SYMBOL
from .ray_environment import set_environment
from .system import READY_TIMEOUT_S, Failed, Task

POLL_S = 0.1
STOP_TIMEOUT_S = 60.0


class RaytradeSystem:
    """`copies` dedup replicas and as many recorders."""

    id_column = "id_last"

    def __init__(self, task: Task, same_node: str, copies: int) -> None:
        self.task = task
        self._config = _config(task, same_node, copies)
        self._temporary = tempfile.mkdtemp(prefix="rb-")
        self._control, child = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process: Any = context.Process(target=run_pipeline, args=(child, self._config, self._temporary))

    def start(self) -> None:
        self._process.start()
        self._expect(READY_TIMEOUT_S)

    def _expect(self, timeout_s: float) -> None:
        """Wait for the process to have done as it was told."""
        if not self._control.poll(timeout_s):
            raise Failed("the pipeline does not answer")
        try:
            problem = self._control.recv()
        except EOFError:
            problem = "the pipeline's process ended"
        if problem:
            raise Failed(problem)

    def roots(self) -> dict[int, str]:
        return {self._process.pid: "driver"}

    def drain(self) -> None:
        self._control.send(("drain", self.task.last_id))
        self._expect(STOP_TIMEOUT_S)

    def stop(self) -> None:
        if self._process.is_alive():
            self._control.send(("stop",))
            self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)
        shutil.rmtree(self._temporary, ignore_errors=True)


def _config(task: Task, same_node: str, copies: int) -> dict[str, Any]:
    address = f"127.0.0.1:{task.port}"
    venue = {"symbols": [SYMBOL], "channels": ["book"], "ws_url": f"ws://{address}", "rest_url": f"http://{address}"}
    params = {
        "applied": str(task.applied_path),
        "digest": str(task.digest_path),
        "capacity": task.capacity,
        "last_id": task.last_id,
    }
    directories = [task.recording, *(task.directory / f"recording-{copy}" for copy in range(1, copies))]
    return {
        "name": "bench",
        "venues": {"binance-spot": venue},
        "collectors": {"per_node": 2},
        "dedup": {"replicas": copies},
        "strategies": [{"name": "probe", "strategy": "benchmarks.pipeline_systems.probe:Probe", "params": params}],
        "recorders": [{"name": f"recorder-{at}", "directory": str(path)} for at, path in enumerate(directories)],
        "links": {"same_node": same_node},
    }


def run_pipeline(control: Connection, config: dict[str, Any], temporary: str) -> None:
    """Run the pipeline (entry of the process).

    It says an empty text when it is up and after each command, else what is wrong.
    """
    set_environment(temporary)
    import ray

    try:
        _Driver(control, config).run()
    except Exception as error:  # noqa: BLE001 - the boundary of the process: the parent is told
        control.send(f"{type(error).__name__}: {error}")
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
        self._driver.start_local(self._config)
        self._driver.start(self._config)
        self._until(self._is_linked, READY_TIMEOUT_S / 2, "the links did not come up")
        self._control.send("")
        while (command := self._control.recv())[0] != "stop":
            self._drain(command[1])
            self._control.send("")
        self._driver.stop(self._config.name)

    def _actors(self, role: str) -> list[dict[str, Any]]:
        actors = self._driver.status(self._config.name)["actors"]
        return [actor for actor in actors.values() if actor.get("role") == role]

    def _is_linked(self) -> bool:
        config = self._config
        dedups, replicas = self._actors("dedup"), config.dedup.replicas
        consumers = self._actors("strategy") + self._actors("recorder")
        lines = [line for actor in self._actors("collector") for line in actor["lines"].values()]
        wanted = "shm" if config.links.same_node == "shm" else "call (configured)"
        return (
            [len(dedup["up"]) for dedup in dedups] == [config.collectors.per_node] * replicas
            and [len(actor["up"]) for actor in consumers] == [replicas] * (1 + len(config.recorders))
            and [line["status"]["is_up"] for line in lines] == [True] * config.collectors.per_node
            and all(lane == wanted for dedup in dedups for lane in dedup["lanes"].values())
        )

    def _drain(self, last_id: int) -> None:
        """Wait until every recorder has taken the last update, and have them write."""
        import ray

        from raytrade.actors.upstreams import NAMESPACE

        def is_taken() -> bool:
            coverages = [actor["coverage"] for actor in self._actors("recorder")]
            return all(c and max(part["last"] for part in c.values()) >= last_id for c in coverages)

        self._until(is_taken, STOP_TIMEOUT_S / 2, "the recorder did not get the last update")
        for part in self._config.recorders:
            actor: Any = ray.get_actor(f"{self._config.name}-recorder-{part.name}", namespace=NAMESPACE)
            problem = str(ray.get(actor.flush.remote(), timeout=STOP_TIMEOUT_S / 2))
            if problem:
                raise Failed(problem)

    @staticmethod
    def _until(holds: Any, timeout_s: float, problem: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise Failed(problem)
            time.sleep(POLL_S)


def raytrade(task: Task) -> RaytradeSystem:
    """Make raytrade with local lanes: one dedup, one recorder."""
    return RaytradeSystem(task, "shm", 1)


def raytrade_call(task: Task) -> RaytradeSystem:
    """Make raytrade with actor calls between processes of one host as between hosts."""
    return RaytradeSystem(task, "call", 1)


def raytrade_x2(task: Task) -> RaytradeSystem:
    """Make raytrade with two dedup replicas and two recorders."""
    return RaytradeSystem(task, "shm", 2)

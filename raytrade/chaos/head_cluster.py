"""A cluster on this machine whose head can die and come back: every node is a `ray start --block` of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ray

from raytrade.chaos.processes import kill_tree
from raytrade.demo.nodes import OBJECT_STORE_BYTES, Labels, free_port
from raytrade.errors import PipelineError
from raytrade.pipeline import driver
from raytrade.pipeline.head import head_environment, node_environment

ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 60.0
POLLS_S = 0.5


class HeadCluster:
    """A head that carries nothing and keeps its tables in `directory`, and a worker node per set of labels."""

    def __init__(self, directory: Path, labels: list[Labels]) -> None:
        self.directory = directory
        self._port = free_port()
        self._client_port = free_port()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._head: subprocess.Popen[bytes] | None = None
        try:
            self.start_head()
            for each in labels:
                self.add(each)
            self._await_nodes(1 + len(labels))
        except BaseException:
            self.stop()
            raise

    @property
    def address(self) -> str:
        """Address for drivers."""
        return f"{ADDRESS}:{self._port}"

    def start_head(self) -> None:
        """Start the head, the first time or again: the same command, address and directory.

        Raises:
            PipelineError: it does not come up.
        """
        environment = head_environment(self.directory / "gcs")
        words = ["--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}"]
        words += ["--include-dashboard=false", f"--dashboard-port={free_port()}", f"--temp-dir={self.directory}"]
        self._head = self._start(
            "head", [*words, "--labels-file=" + self._labels_file("head", {"role": "head"})], environment
        )
        self._join()

    def add(self, labels: Labels) -> None:
        """Start one more node."""
        name = f"node-{len(self._workers)}"
        words = [f"--address={self.address}", "--labels-file=" + self._labels_file(name, labels)]
        self._workers.append(self._start(name, words, node_environment()))

    def _labels_file(self, name: str, labels: Labels) -> str:
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(labels))
        return str(path)

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        sizes = ["--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}", f"--node-ip-address={ADDRESS}"]
        ports = ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}"]
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*program, *sizes, *ports, *words],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def _join(self) -> None:
        """Connect as a driver, once the head answers."""
        problem = ""
        for _ in range(int(START_TIMEOUT_S / POLLS_S)):
            assert self._head is not None
            try:
                self._head.wait(POLLS_S)
                raise PipelineError(f"the head ended at once; see {self.directory / 'head.log'}")
            except subprocess.TimeoutExpired:
                pass
            try:
                driver.join(self.address)
                return
            except PipelineError as error:
                problem = str(error)
        raise PipelineError(f"the head does not come up: {problem}")

    def _await_nodes(self, count: int) -> None:
        for _ in range(int(START_TIMEOUT_S / POLLS_S)):
            if sum(node["Alive"] for node in ray.nodes()) >= count:  # type: ignore[no-untyped-call]
                return
            try:
                self._workers[-1].wait(POLLS_S)
                raise PipelineError(f"a node ended at once; see {self.directory}/node-*.log")
            except subprocess.TimeoutExpired:
                pass
        raise PipelineError(f"the nodes did not join; see {self.directory}/node-*.log")

    def leave(self) -> None:
        """Disconnect: a driver is a guest of the head and would die with it."""
        ray.shutdown()

    def kill_head(self) -> int:
        """SIGKILL the whole head: tables, raylet, agents, and what runs there; gives how many processes."""
        assert self._head is not None
        self.leave()
        killed = kill_tree(self._head.pid)
        self._head.wait(10)
        return len(killed)

    def stop(self) -> None:
        """End everything that this started."""
        ray.shutdown()
        for process in [*self._workers, *filter(None, [self._head])]:
            kill_tree(process.pid)
            process.wait(10)

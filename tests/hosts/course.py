"""The course of the hosts test: up, flow, a host joins, a half is cut off, a host dies, down; each step is measured."""

from __future__ import annotations

import json
import re
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import yaml

from raytrade.core.metrics import Histogram
from raytrade.demo.checker import covered, recorded
from tests.hosts.network import Host, Network
from tests.hosts.report import Report
from tests.hosts.site import GUEST, GUEST_INDEX, HEAD, INDEX, PIPELINE, PROJECT, SYMBOLS, VENUE, VENV, WORKERS, Site

POLL_S = 0.5
REBOOT_S = 5.0
UP_S_MAX = 120.0
JOIN_S_MAX = 20.0
REDUNDANCY_S_MAX = 60.0
PARTITION_S = 30.0
STALE_MS_MAX = 3000.0
"""A link that is silent for a second is lost; the rest is this machine's two cores."""
COMMAND_S = 120.0
BINANCE = "binance-spot"


class Failed(Exception):
    """A step did not come to its end."""


class Course:
    """One run over started hosts; the steps are called in order."""

    def __init__(self, site: Site, network: Network, report: Report, rate: float) -> None:
        self.site, self.network, self.report = site, network, report
        self._rate = rate
        self._probe: subprocess.Popen[str] | None = None
        self._port = 0

    # Before.

    def start_hosts(self) -> None:
        """Start all hosts but the one that joins later, and the venue on its own."""
        addresses = {**INDEX, **{host: index for pool in WORKERS.values() for host, index in pool.items()}}
        for name, index in addresses.items():
            self.site.furnish(self.network, name, index)
        self.site.furnish(self.network, GUEST, GUEST_INDEX)
        self.site.furnish_launcher(self.host("launcher"))
        venue = self.host(VENUE)
        self._check(venue.call(f"bash {self.site.image}/setup.sh", COMMAND_S), "setting up the venue")
        symbols = ",".join(SYMBOLS)
        options = f"--host {venue.address} --symbols {symbols} --rate {self._rate / len(SYMBOLS)} --clients 0"
        process = venue.enter(
            f"exec {VENV}/bin/raytrade emulate {options}", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        found = re.search(r":(\d+)\s*$", process.stdout.readline())
        if found is None:
            raise Failed("the venue's emulator did not start")
        self._port = int(found[1])
        pipeline = self.host("launcher").root / f"root/{PROJECT.removeprefix('/root/')}/hosts.yaml"
        pipeline.write_text(yaml.safe_dump(self.site.pipeline(self._port)))

    def host(self, name: str) -> Host:
        """Give a host."""
        return self.network.hosts[name]

    def write_cluster(self, more_hosts: dict[str, list[str]] | None = None) -> None:
        """Write the cluster file on the launcher."""
        path = self.host("launcher").root / "root/cluster.yaml"
        path.write_text(yaml.safe_dump(self.site.cluster(more_hosts), sort_keys=False))

    def ray(self, command: str) -> str:
        """Run one of Ray's commands on the launcher."""
        done = self.host("launcher").call(f"cd {PROJECT}; ray {command}", COMMAND_S)
        self._check(done, f"ray {command}")
        return done.stdout

    def _check(self, done: subprocess.CompletedProcess[str], what: str) -> None:
        if done.returncode:
            raise Failed(f"{what} ended with {done.returncode}:\n{done.stdout[-3000:]}")

    # Asking.

    def ask(self, question: str, *arguments: Any, timeout_s: float = 60.0) -> Any:
        """Ask the probe."""
        if self._probe is None:
            command = f"exec {VENV}/bin/python {self.site.image}/probe.py"
            self._probe = self.host(HEAD).enter(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._answer(timeout_s)
        assert self._probe.stdin is not None
        self._probe.stdin.write(json.dumps([question, *arguments]) + "\n")
        self._probe.stdin.flush()
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> Any:
        assert self._probe is not None and self._probe.stdout is not None
        ready, _, _ = select.select([self._probe.stdout], [], [], timeout_s)
        line = self._probe.stdout.readline() if ready else ""
        if not line:
            raise Failed("the probe on the head does not answer")
        return json.loads(line)

    def actors(self, role: str = "") -> dict[str, dict[str, Any]]:
        """Give the actors that answer, with the address of their node."""
        actors: dict[str, dict[str, Any]] = self.ask("status", PIPELINE).get("actors", {})
        return {name: actor for name, actor in actors.items() if actor.get("role", "") == (role or actor.get("role"))}

    def until(self, holds: Callable[[], Any], what: str, timeout_s: float) -> float:
        """Poll until it holds; gives after how many seconds it did."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > timeout_s:
                raise Failed(f"not in {timeout_s:.0f} s: {what}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def is_redundant(self, collectors: int) -> bool:
        """Tell whether so many collectors have their lines up and everybody hears everybody."""
        actors = list(self.actors().values())
        lines = [line for actor in actors for line in (actor["lines"] if actor["role"] == "collector" else {}).values()]
        hearing = {"dedup": collectors, "strategy": 2, "recorder": 2}
        return (
            len(lines) == collectors
            and all(line["status"]["is_up"] for line in lines)
            and sorted(actor["role"] for actor in actors if actor["role"] != "collector") == sorted(CONSUMERS)
            and all(len(actor["up"]) == hearing[actor["role"]] for actor in actors if actor["role"] in hearing)
        )

    def sentinel(self) -> dict[str, Any]:
        """Give the strategy's status; {} while it does not answer."""
        return next(iter(self.actors("strategy").values()), {})

    def updates(self) -> int:
        """Give how many book updates the strategy has applied."""
        instruments = self.sentinel().get("engine", {}).get("instruments", {})
        return sum(part["counts"]["updates"] for part in instruments.values())

    def situation(self) -> str:
        """Describe what runs where, for who must find out what went wrong."""
        try:
            nodes = {node["id"]: node["address"] for node in self.ask("nodes")}
            actors = self.ask("status", PIPELINE).get("actors", {})
        except (Failed, OSError) as error:
            return f"(no status: {error})"
        lines = [f"nodes: {sorted(nodes.values())}"]
        for name, actor in sorted(actors.items()):
            where = nodes.get(actor["node"], "a dead node")
            lines.append(f"{name} {actor['state']} on {where}: up {actor.get('up')} {actor.get('problems')}")
        return "\n".join(lines)

    # The steps.

    def come_up(self, collectors: int) -> None:
        """From `ray up` to the first update that the strategy gets; then to full redundancy."""
        self.write_cluster()
        began = time.monotonic()
        self.ray("up -y --no-config-cache ~/cluster.yaml")
        self.report.figure("ray up returned", time.monotonic() - began, "s")
        self.ray(f"submit ~/cluster.yaml {PROJECT}/examples/run_pipeline.py {PROJECT}/hosts.yaml")
        self.report.figure("ray submit returned", time.monotonic() - began, "s")
        self.until(lambda: self.updates() > 0, "the first update at the strategy", UP_S_MAX)
        self.report.bounded("ray up to the first arbitrated update", time.monotonic() - began, UP_S_MAX, "s")
        self.until(lambda: self.is_redundant(collectors), "every line and link up", REDUNDANCY_S_MAX)

    def join(self, collectors: int) -> None:
        """A machine is started by hand with the collectors' label while updates flow."""
        guest = self.host(GUEST)
        self.prepare_guest(guest)
        labels = "collector=yes,region=oslo,zone=c,network=isp-c"
        began = time.monotonic()
        options = f"--address={self.host(HEAD).address}:6379 --labels={labels} --num-cpus=2"
        self._check(guest.call(f"ray start {options} --object-store-memory=100000000", COMMAND_S), "ray start")
        self.until(lambda: self._wins(guest) and self.is_redundant(collectors), "its share", REDUNDANCY_S_MAX)
        self.report.bounded(
            "a collector's host takes its share after ray start", time.monotonic() - began, JOIN_S_MAX, "s"
        )

    def prepare_guest(self, guest: Host) -> None:
        """Set a host up as the cluster's image is, with the token."""
        self._check(guest.call(f"bash {self.site.image}/setup.sh", COMMAND_S), "setting up the guest")
        folder = guest.root / "root/.ray"
        folder.mkdir(mode=0o700)
        (folder / "auth_token").write_text(self.site.token)
        (folder / "auth_token").chmod(0o600)
        profile = (self.host(HEAD).root / "root/.bashrc").read_text().splitlines()[0]
        bashrc = guest.root / "root/.bashrc"
        bashrc.write_text(f"{profile}\n{bashrc.read_text()}")

    def _wins(self, host: Host) -> bool:
        """Tell whether every dedup counts updates of the lines on this host."""
        mine = [name for name, actor in self.actors("collector").items() if self._is_on(actor, host)]
        dedups = self.actors("dedup").values()
        return bool(mine and dedups) and all(
            any(line["updates"] for name, line in dedup["lines"].items() if name.startswith(mine[0]))
            for dedup in dedups
        )

    def _is_on(self, actor: dict[str, Any], host: Host) -> bool:
        return any(node["id"] == actor["node"] and node["address"] == host.address for node in self.ask("nodes"))

    def cut_off(self, name: str, collectors: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """A host's cable is out for half a minute."""
        host = self.host(name)
        began = time.monotonic()
        host.partition(cut=True)
        meanwhile()
        time.sleep(max(0.0, began + PARTITION_S - time.monotonic()))
        host.partition(cut=False)
        took_s = self.until(lambda: self.is_redundant(collectors), "redundancy after the partition", 150)
        self.report.bounded(f"{name} cut off for 30 s: redundant again after", took_s, REDUNDANCY_S_MAX, "s")

    def crash(self, name: str) -> None:
        """A host dies with all that runs on it, and is there again, empty, a few seconds later."""
        host = self.host(name)
        host.kill()
        time.sleep(REBOOT_S)
        host.start()

    def replace(self, name: str, collectors: int) -> None:
        """The cluster starts Ray on another host of the pool, or on the same one again."""
        began = time.monotonic()
        was = {node["id"] for node in self.ask("nodes") if node["address"] == self.host(name).address}
        self.crash(name)
        gone = lambda: not was & {node["id"] for node in self.ask("nodes")}  # noqa: E731
        self.until(gone, "the dead node is noticed", 150)
        self.report.figure(f"{name} crashed: noticed after", time.monotonic() - began, "s")
        self.until(lambda: self.is_redundant(collectors), "redundancy after a crash", 150)
        self.report.bounded(f"{name} crashed: redundant again after", time.monotonic() - began, REDUNDANCY_S_MAX, "s")

    # The end.

    def check(self) -> None:
        """End the stream; hold what the strategy and the files have against what the venue sent."""
        self._venue("/_control?action=finish")
        truth = self._venue("/_truth")
        last = {symbol: ids[-1] for symbol, ids in truth["ids"].items()}
        self.until(lambda: self._has(last), "the strategy has everything", 30)
        sentinel = self.sentinel()
        missed = repeated = 0
        for symbol, ids in truth["ids"].items():
            mine = sentinel["coverage"][f"{BINANCE}:{symbol}/book"]
            wanted = [number for number in ids if number > mine["first"]]
            missed += len(covered(mine).missed(wanted))
            repeated += mine["repeats"]
        self.report.figure("updates sent by the venue", sum(map(len, truth["ids"].values())), "")
        self.report.bounded("updates missed by the strategy", missed, 0, "")
        self.report.bounded("updates that came twice", repeated, 0, "")
        gauges = sentinel["engine"]["gauges"]
        self.report.bounded("books that went back", gauges.get("backwards", 0), 0, "")
        self.report.bounded("longest time a usable book heard nothing", gauges.get("stale_ms", 0.0), STALE_MS_MAX, "ms")
        if sentinel["engine"]["failure"]:
            self.report.fail(f"the strategy failed: {sentinel['engine']['failure']}")

    def _has(self, last: dict[str, int]) -> bool:
        coverage = self.sentinel().get("coverage", {})
        return all(coverage.get(f"{BINANCE}:{s}/book", {}).get("last", 0) >= number for s, number in last.items())

    def latency(self, what: str) -> None:
        """Report the latency from the collectors' sockets to the strategy, so far."""
        found = msgspec.convert(self.sentinel()["engine"]["latency"], Histogram, strict=False)
        for share in (0.5, 0.99):
            self.report.figure(f"{what}, p{share * 100:.0f}", found.quantile_ns(share) / 1e6, "ms")

    def _venue(self, path: str) -> dict[str, Any]:
        url = f"http://{self.host(VENUE).address}:{self._port}{path}"
        code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=30).read().decode())"
        done = self.host(VENUE).call(f'{VENV}/bin/python -c "{code}"', COMMAND_S)
        self._check(done, path)
        return dict(json.loads(done.stdout))

    def go_down(self) -> None:
        """Stop the pipeline, check its files, and take the cluster down: nothing of Ray may run anywhere."""
        self.ray("exec ~/cluster.yaml 'raytrade stop'")
        truth = self._venue("/_truth")
        recording = self.host("archive").root / "root/recording"
        missed = repeated = 0
        for symbol, ids in truth["ids"].items():
            ranges, twice = recorded(recording, BINANCE, symbol)
            missed += len(ranges.missed(ids))
            repeated += twice
        self.report.bounded("updates missed by the files", missed, 0, "")
        self.report.bounded("updates twice in the files", repeated, 0, "")
        if self._probe is not None:
            self._probe.kill()
            self._probe = None
        began = time.monotonic()
        self.ray("down -y --no-config-cache ~/cluster.yaml")
        self.report.figure("ray down", time.monotonic() - began, "s")
        left = {name: found for name in self.network.hosts if (found := self.ray_processes(name))}
        left.pop(GUEST, None)
        if left:
            self.report.fail(f"Ray still runs after ray down: {left}")

    def ray_processes(self, name: str) -> list[str]:
        """Name the processes of Ray on a host; [] on one that is dead."""
        host = self.host(name)
        if not host.is_up:
            return []
        done = host.call("ps ax -o comm= | grep -E 'raylet|gcs_server' || true", 20)
        return done.stdout.split()


CONSUMERS = ("dedup", "dedup", "recorder", "strategy")


def last_words(head: Host, lines: int = 40) -> str:
    """Give the end of the autoscaler's log."""
    found: list[str] = []
    for path in sorted((head.root / "tmp/ray").glob("session_2*/logs/monitor.log")):
        found += path.read_text(errors="replace").splitlines()
    return "\n".join(found[-lines:])

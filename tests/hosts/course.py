"""The course of the hosts test: up, flow, a host joins, a half is cut off, a host dies, down; each step is measured."""

from __future__ import annotations

import json
import re
import resource
import select
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import yaml

from raytrade.core.metrics import Histogram
from raytrade.demo.checker import covered, recorded
from tests.hosts.network import Host, Network, end, read_line
from tests.hosts.report import Report
from tests.hosts.security import documented_ports, find_secrets, intrude, open_ports
from tests.hosts.site import (
    GUEST,
    GUEST_INDEX,
    HEAD,
    INDEX,
    LIVE_INDEX,
    OUTSIDER,
    PIPELINE,
    PROJECT,
    PROXIED,
    PROXY_PORT,
    PROXY_USER,
    SYMBOLS,
    VENUE,
    WORKERS,
    Site,
)

POLL_S = 0.5
REBOOT_S = 5.0
LASTS_S = 5.0
ENDED_S = 15.0
CALM_S = 3.0
FAR_S = 12.0
FAR = ("tokyo", "zurich")
UP_S_MAX = 120.0
JOIN_S_MAX = 20.0
REDUNDANCY_S_MAX = 60.0
PARTITION_S = 30.0
BLINK_S = 10.0
STALE_MS_MAX = 3000.0
"""A link that is silent for a second is lost; the rest is this machine's two cores."""
COMMAND_S = 180.0
BINANCE = "binance-spot"


class Failed(Exception):
    """A step did not come to its end."""


class Kind(msgspec.Struct, frozen=True):
    """What is brought up: with TLS between the nodes, with a tier of dedups in each region."""

    tls: bool = False
    regional: bool = False


class Course:
    """One run over started hosts; the steps are called in order."""

    def __init__(self, site: Site, network: Network, report: Report, rate: float, kind: Kind) -> None:
        self.site, self.network, self.report = site, network, report
        self._rate, self._tls, self._regional = rate, kind.tls, kind.regional
        self._collectors = 2
        self._probe: subprocess.Popen[str] | None = None
        self._greeted = False
        self._port = 0

    # Before.

    def start_hosts(self) -> None:
        """Start all hosts."""
        addresses = {**INDEX, **{host: index for pool in WORKERS.values() for host, index in pool.items()}}
        for name, index in addresses.items():
            self.site.furnish(self.network, name, index)
        self.site.furnish(self.network, GUEST, GUEST_INDEX)
        self.site.furnish_launcher(self.host("launcher"))
        if self._tls:
            self.site.make_certificates(self.host("launcher"))

    def start_venue(self) -> None:
        """Start the venue and the proxy on their host, and write the pipeline that reads them."""
        venue = self.host(VENUE)
        symbols = ",".join(SYMBOLS)
        options = f"--host {venue.address} --symbols {symbols} --rate {self._rate / len(SYMBOLS)} --clients 0"
        process = venue.enter(
            f"exec {self.site.venv}/bin/raytrade emulate {options}", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        found = re.search(r":(\d+)\s*$", process.stdout.readline())
        if found is None:
            raise Failed("the venue's emulator did not start")
        self._port = int(found[1])
        proxy = f"{venue.address} {PROXY_PORT} {PROXY_USER}:{self.site.secret} /root/{PROXIED}"
        venue.enter(f"exec {self.site.venv}/bin/python {self.site.image}/proxy.py {proxy}", stdin=subprocess.DEVNULL)
        pipeline = self.host("launcher").root / f"root/{PROJECT.removeprefix('/root/')}/hosts.yaml"
        pipeline.write_text(yaml.safe_dump(self.site.pipeline(self._port, self._regional)))

    def host(self, name: str) -> Host:
        """Give a host."""
        return self.network.hosts[name]

    def write_cluster(self, more_hosts: dict[str, list[str]] | None = None) -> None:
        """Write the cluster file on the launcher."""
        path = self.host("launcher").root / "root/cluster.yaml"
        path.write_text(yaml.safe_dump(self.site.cluster(more_hosts, self._tls), sort_keys=False))

    def ray(self, command: str) -> str:
        """Run one of Ray's commands on the launcher."""
        done = self.call("launcher", f"cd {PROJECT}; ray {command}")
        self._check(done, f"ray {command}")
        return done.stdout

    def call(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end."""
        return self.host(host).call(command, COMMAND_S * self.report.patience)

    def _check(self, done: subprocess.CompletedProcess[str], what: str) -> None:
        if done.returncode:
            raise Failed(f"{what} ended with {done.returncode}:\n{done.stdout[-3000:]}")

    # Asking.

    def start_probe(self) -> None:
        """Start the probe on the head, if none runs; it says that it is ready before it answers."""
        if self._probe is None:
            command = f"exec {self.site.venv}/bin/python {self.site.image}/probe.py"
            self._probe = self.host(HEAD).enter(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._greeted = False

    def ask(self, question: str, *arguments: Any, timeout_s: float = 60.0) -> Any:
        """Ask the probe."""
        self.start_probe()
        if not self._greeted:
            self._answer(timeout_s)
            self._greeted = True
        assert self._probe is not None
        assert self._probe.stdin is not None
        try:
            self._probe.stdin.write(json.dumps([question, *arguments]) + "\n")
            self._probe.stdin.flush()
        except BrokenPipeError:
            raise Failed("the probe on the head has ended") from None
        return self._answer(timeout_s)

    def end_probe(self) -> None:
        """Let the probe go; the next question starts another."""
        if self._probe is not None:
            end(self._probe)
            self._probe = None

    def _answer(self, timeout_s: float) -> Any:
        assert self._probe is not None and self._probe.stdout is not None
        ready, _, _ = select.select([self._probe.stdout], [], [], timeout_s * self.report.patience)
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
        timeout_s *= self.report.patience
        while not holds():
            if time.monotonic() - began > timeout_s:
                raise Failed(f"not in {timeout_s:.0f} s: {what}")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def is_redundant(self) -> bool:
        """Tell whether all collectors have their lines up and everybody hears everybody."""
        collectors = self._collectors
        actors = list(self.actors().values())
        lines = [line for actor in actors for line in (actor["lines"] if actor["role"] == "collector" else {}).values()]
        hearing = {"regional": 1, "dedup": 2 * collectors if self._regional else collectors}
        hearing |= {"strategy": 2, "recorder": 2}
        wanted = [*CONSUMERS, *["regional"] * (2 * collectors if self._regional else 0)]
        return (
            len(lines) == collectors
            and all(line["status"]["is_up"] for line in lines)
            and sorted(actor["role"] for actor in actors if actor["role"] != "collector") == sorted(wanted)
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
        """Describe what runs where, for who must find out what went wrong; asks a fresh probe."""
        self.end_probe()
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

    def until_redundant(self, what: str, timeout_s: float) -> float:
        """Wait for a redundancy that lasts; gives after how many seconds it began.

        What a host that comes back still runs may look whole for a moment before it ends.
        """
        began = time.monotonic()
        while True:
            self.until(self.is_redundant, what, timeout_s - (time.monotonic() - began))
            since = time.monotonic()
            while self.is_redundant() and time.monotonic() - since < LASTS_S:
                time.sleep(POLL_S)
            if time.monotonic() - since >= LASTS_S:
                return since - began

    # The steps.

    def come_up(self) -> None:
        """From `ray up` to the first update that the strategy gets; then to full redundancy.

        A second try is counted in, as in `join`.
        """
        self.write_cluster()
        began = time.time()
        up = "ray up -y --no-config-cache ~/cluster.yaml"
        self._check(self.call("launcher", f"cd {PROJECT}; {up} || {up}"), up)
        self.report.figure("ray up returned", time.time() - began, "s")
        self.start_probe()
        self.ray(f"submit ~/cluster.yaml {PROJECT}/examples/run_pipeline.py {PROJECT}/hosts.yaml")
        self.report.figure("ray submit returned", time.time() - began, "s")
        self.until(lambda: self.updates() > 0, "the first update at the strategy", UP_S_MAX)
        first_s = self.sentinel()["engine"]["gauges"]["first_s"]
        self.report.bounded("ray up to the first arbitrated update", first_s - began, UP_S_MAX, "s")
        self.until_redundant("every line and link up", REDUNDANCY_S_MAX)

    def secure(self) -> None:
        """Nobody gets in without the token, no port is open that is not documented, and the proxy was used."""
        self.knock(joining=True)
        for name in (HEAD, "desk", "tokyo"):
            undocumented = open_ports(self.host(name)) - documented_ports()
            self.report.holds(f"{name}: only documented ports {sorted(undocumented) or ''}", not undocumented)
        log = (self.host(VENUE).root / "root" / PROXIED).read_text()
        self.report.holds("lines of zone b leave by the proxy", f"{self.host('zurich').address} " in log)
        self.report.holds("other lines do not", f"{self.host('tokyo').address} " not in log)

    def knock(self, joining: bool = False) -> None:
        """Nobody gets in without the token."""
        succeeded = intrude(self.site, self.host(OUTSIDER), self.host(HEAD), joining)
        joins = "joins, " if joining else ""
        self.report.holds(f"no token: nobody {joins}reads a stream or submits a job", not succeeded)
        for attempt, output in succeeded.items():
            self.report.fail(f"{attempt}: {output}")

    def join(self) -> None:
        """A machine is started by hand with the collectors' label while updates flow.

        A second try is counted in: Ray gives up a node whose agent has not been imported in 15 s.
        """
        guest = self.host(GUEST)
        self.prepare_guest(guest)
        self._collectors += 1
        labels = "collector=yes,region=oslo,zone=c,network=isp-c"
        used_s = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        options = f"--address={self.host(HEAD).address}:6379 --labels={labels} --num-cpus=2 --include-log-monitor=false"
        started = f"ray start {options} --object-store-memory=100000000"
        self._check(self.call(GUEST, f"{started} || {{ ray stop --force; {started}; }}"), "ray start")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        command_s = used.ru_utime + used.ru_stime - used_s.ru_utime - used_s.ru_stime
        self.report.figure("ray start returned", time.monotonic() - began, "s")
        for what, holds in (("its collector answers", self._collects), ("its lines are up", self._is_connected)):
            self.until(partial(holds, guest), what, REDUNDANCY_S_MAX)
            self.report.figure(f"{what}, after", time.monotonic() - began, "s")
        self.until(lambda: self._wins(guest), "its share", REDUNDANCY_S_MAX)
        self.report.bounded("ray start to its share", time.monotonic() - began, JOIN_S_MAX, "s")
        self.report.figure("processor time on the joining host until then", command_s + guest.cpu_s, "s")

    def prepare_guest(self, guest: Host) -> None:
        """Set a host up as the cluster's image is, with the token."""
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

    def _collects(self, host: Host) -> bool:
        return any(self._is_on(actor, host) for actor in self.actors("collector").values())

    def _is_connected(self, host: Host) -> bool:
        lines = [a["lines"] for a in self.actors("collector").values() if self._is_on(a, host)]
        return any(line["status"]["is_up"] for mine in lines for line in mine.values())

    def _is_on(self, actor: dict[str, Any], host: Host) -> bool:
        return any(node["id"] == actor["node"] and node["address"] == host.address for node in self.ask("nodes"))

    def cut_off(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """A host's cable is out for half a minute.

        Ray gives the node up meanwhile; when the host is back, what ran there ends by itself and is started anew.
        """
        host = self.host(name)
        began = time.monotonic()
        host.partition(cut=True)
        meanwhile()
        time.sleep(max(0.0, began + PARTITION_S - time.monotonic()))
        host.partition(cut=False)
        took_s = self.until_redundant("redundancy after the partition", 150)
        self.report.bounded(f"{name} cut off for 30 s: redundant again after", took_s, REDUNDANCY_S_MAX, "s")

    def blink(self, name: str) -> None:
        """A host's cable is out for too short a time for Ray to give the node up: links heal where they were."""
        host = self.host(name)
        began = time.monotonic()
        host.partition(cut=True)
        self.until(lambda: not self.is_redundant(), "the links are lost", BLINK_S)
        time.sleep(max(0.0, began + BLINK_S - time.monotonic()))
        host.partition(cut=False)
        took_s = self.until_redundant("redundancy after the cut", REDUNDANCY_S_MAX)
        self.report.bounded(f"{name} cut off for {BLINK_S:.0f} s: redundant again after", took_s, REDUNDANCY_S_MAX, "s")

    def crash(self, name: str) -> None:
        """A host dies and is there again, empty, seconds later; the cluster takes another of the pool, or the same."""
        host = self.host(name)
        was = {node["id"] for node in self.ask("nodes") if node["address"] == host.address}
        began = time.monotonic()
        host.kill()
        time.sleep(REBOOT_S)
        host.start()
        self.until(lambda: self._are_gone(was), "the dead node is noticed", 150)
        noticed_s = time.monotonic() - began
        self.report.figure(f"{name} crashed: noticed after", noticed_s, "s")
        took_s = noticed_s + self.until_redundant("redundancy after a crash", 150)
        self.report.bounded(f"{name} crashed: redundant again after", took_s, REDUNDANCY_S_MAX, "s")

    def _are_gone(self, nodes: set[str]) -> bool:
        return not nodes & {node["id"] for node in self.ask("nodes")}

    def scale_up(self) -> None:
        """An actor asks for a label that no node has, and a type of the cluster file does."""
        found = self.ask("scale_up", "burst", "yes", REDUNDANCY_S_MAX, timeout_s=90.0)
        self.report.figure("label-driven scale-up: actor answers after", found["after_s"], "s")
        self.report.holds("it ran on the host of that pool", found["address"] == self.host("extra").address)

    def grow(self) -> None:
        """A host is added to a pool by `ray up --no-restart`; what runs is not touched."""
        self.site.furnish(self.network, "live", LIVE_INDEX)
        before = {name: actor["pid"] for name, actor in self.actors().items()}
        self._collectors += 1
        self.write_cluster({"collector_a": [self.host("live").address]})
        began = time.monotonic()
        self.ray("up -y --no-restart --no-config-cache ~/cluster.yaml")
        self.until(lambda: self._wins(self.host("live")), "the added host's share", 120)
        self.report.figure("a host added by ray up --no-restart takes its share after", time.monotonic() - began, "s")
        after = {name: actor["pid"] for name, actor in self.actors().items()}
        self.report.holds("what ran was not touched", all(after.get(name) == pid for name, pid in before.items()))

    def move_away(self, delay_ms: float, loss: float) -> None:
        """The collectors' hosts are on another continent for a while; latency is counted from their sockets."""
        hosts = [self.host(name) for name in FAR]
        for host in hosts:
            host.lengthen(delay_ms, loss)
        self.until_redundant("every link up over the distance", 90)
        before, began = self._latencies(), self.updates()
        sent = sum(self.network.received_bytes(host) for host in hosts)
        self.until(lambda: self.updates() - began > self._rate * FAR_S, "updates over the distance", 120)
        count = self.updates() - began
        sent = sum(self.network.received_bytes(host) for host in hosts) - sent
        what = f"collectors {2 * delay_ms:.0f} ms and {loss:.0%} loss away"
        self._report_latency(f"{what}: socket to strategy", self._latencies(), before)
        self.report.figure(f"{what}: bytes from them per update", sent / count, "B")
        for host in hosts:
            host.shorten()
        self.until_redundant("redundancy after the distance", 90)

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
        """Report the latency from the collectors' sockets to the strategy over the next updates."""
        before, began = self._latencies(), self.updates()
        self.until(lambda: self.updates() - began > self._rate * CALM_S, "updates while nothing is wrong", 60)
        self._report_latency(what, self._latencies(), before)

    def zeromq(self) -> None:
        """Measure ZeroMQ between the same hosts, at the same rate."""
        python = f"{self.site.venv}/bin/python"
        relay = self.host("desk").enter(
            f"exec {python} {self.site.image}/zeromq.py relay {self.host('desk').address}",
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert relay.stdout is not None
        read_line(relay.stdout, "ready", "ZeroMQ")
        source = f"exec {python} {self.site.image}/zeromq.py source {self.host('desk').address} {self._rate}"
        self._check(self.call("tokyo", source), "ZeroMQ")
        for share, value in zip(("p50", "p99"), relay.communicate(timeout=COMMAND_S)[0].split(), strict=True):
            self.report.figure(f"ZeroMQ, two hops of as many bytes, nothing decoded, {share}", float(value), "ms")

    def _latencies(self) -> Histogram:
        return msgspec.convert(self.sentinel()["engine"]["latency"], Histogram, strict=False)

    def _report_latency(self, what: str, after: Histogram, before: Histogram) -> None:
        counts = {bucket: count - before.counts.get(bucket, 0) for bucket, count in after.counts.items()}
        between = Histogram(counts=counts, total=after.total - before.total, max_ns=after.max_ns)
        for share in (0.5, 0.99):
            self.report.figure(f"{what}, p{share * 100:.0f}", between.quantile_ns(share) / 1e6, "ms")

    def _venue(self, path: str) -> dict[str, Any]:
        url = f"http://{self.host(VENUE).address}:{self._port}{path}"
        code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=30).read().decode())"
        done = self.call(VENUE, f'{self.site.venv}/bin/python -c "{code}"')
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
        found = find_secrets(self.network.hosts, [self.site.token.encode(), self.site.secret.encode()])
        self.report.holds(f"no secret in any log or file {found[:5] or ''}", not found)
        self.report.bounded("updates missed by the files", missed, 0, "")
        self.report.bounded("updates twice in the files", repeated, 0, "")
        self.end_probe()
        began = time.monotonic()
        self.ray("down -y ~/cluster.yaml")
        self.report.figure("ray down", time.monotonic() - began, "s")
        self.until(lambda: not self._ray_left(), "no Ray runs on any host after ray down", ENDED_S)

    def _ray_left(self) -> list[str]:
        """Name the hosts on which Ray runs; the one that was joined by hand is none of the cluster's."""
        return [name for name in self.network.hosts if name != GUEST and self.ray_processes(name)]

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
        found += [line for line in path.read_text(errors="replace").splitlines() if "legacy field" not in line]
    return "\n".join(found[-lines:])

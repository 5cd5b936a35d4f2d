"""What people see of a running pipeline: status, tail, events, doctor, metrics and alerts, over one kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from raytrade.demo.nodes import Nodes
from raytrade.errors import PipelineError
from raytrade.observation.metrics import METRICS
from raytrade.pipeline import driver
from tests.cli.commands import run_process
from tests.ray.running import BINANCE, Running, running, until

CONTROL = "\x1b"


class Receiver(HTTPServer):
    """Takes notices, as a chat's webhook does."""

    def __init__(self) -> None:
        self.notices: list[dict[str, Any]] = []
        notices = self.notices

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def told(self, alert: str, state: str = "firing") -> list[dict[str, Any]]:
        return [notice for notice in self.notices if (notice["alert"], notice["state"]) == (alert, state)]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def pipeline(nodes: Nodes, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    def change(data: dict[str, Any]) -> None:
        data["alerts"] = {
            "webhook": f"http://127.0.0.1:{receiver.server_port}/",
            "redundancy": 3,
            "hold_s": 0.0,
            "disk_free_gb": 1_000_000.0,
        }

    with running("seen", tmp_path_factory.mktemp("recording"), BINANCE, change) as pipeline:
        pipeline.begin()
        yield pipeline


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_tail_begins_with_an_image_and_goes_on_without_a_hole(pipeline: Running, nodes: Nodes) -> None:
    shown = run_process("tail", "binance-*:BTC*/book", "--count", "40", "--address", nodes.address, timeout_s=90)
    assert (shown.status, shown.error) == (0, "")
    events = lines_of(shown.out)
    assert len(events) == 40
    assert events[0]["event"] == "snapshot"
    assert events[0]["flags"] == ["image"]
    assert {event["event"] for event in events[1:]} == {"delta"}
    ends = [event["id_last"] for event in events]
    assert all(event["id_prev"] <= end < event["id_last"] for event, end in zip(events[1:], ends, strict=False))


def test_tail_ends_with_its_reader_and_with_ctrl_c(pipeline: Running, nodes: Nodes) -> None:
    command = [sys.executable, "-m", "raytrade", "tail", "*", "--address", nodes.address]
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert piped.stdout is not None and piped.stderr is not None and waiting.stdout is not None
    assert json.loads(piped.stdout.readline())["event"]
    piped.stdout.close()
    assert json.loads(waiting.stdout.readline())["event"]
    waiting.send_signal(signal.SIGINT)
    _, error = waiting.communicate(timeout=30)
    assert (waiting.returncode, error) == (130, "")
    assert (piped.wait(30), piped.stderr.read()) == (0, "")
    piped.stderr.close()


def test_a_glob_that_fits_nothing_is_refused(pipeline: Running, nodes: Nodes) -> None:
    refused = run_process("tail", "kraken*", "--address", nodes.address)
    assert refused.status == 2
    assert refused.problem.endswith("no stream of pipeline seen fits; it has binance-spot:BTCUSDT")


def test_a_kill_shows_everywhere(pipeline: Running, nodes: Nodes, receiver: Receiver) -> None:
    until(pipeline.is_redundant, "all links and lines up")
    name, collector = next(iter(pipeline.actors("collector").items()))
    os.kill(collector["pid"], signal.SIGKILL)

    def kinds() -> set[str]:
        return {record["incident"] for record in driver.incidents("seen") if record["actor"] == name}

    until(lambda: {"actor_started", "actor_restarted", "line_up"} <= kinds(), "the restart is an incident")
    until(lambda: name in lost_writers(), "the lost link is one")
    shown = run_process("events", "--json", "--name", "actor_restarted", "--address", nodes.address)
    assert [(record["actor"], record["fields"]["pid_before"]) for record in lines_of(shown.out)] == [
        (name, collector["pid"])
    ]


def lost_writers() -> set[str]:
    return {str(one["fields"]["writer"]) for one in driver.incidents("seen") if one["incident"] == "link_down"}


def test_alerts_are_posted(pipeline: Running, receiver: Receiver) -> None:
    until(lambda: receiver.told("disk_low"), "the disk is smaller than wanted")
    assert {notice["subject"] for notice in receiver.told("disk_low")} == {"seen-recorder-recorder"}
    standing = driver.status("seen")["alerts"]
    assert {"alert": "disk_low", "subject": "seen-recorder-recorder"} in standing["firing"]
    assert (standing["notices_lost"], standing["webhook_problem"]) == (0, "")


def test_counters_are_the_status_less_its_costly_parts(pipeline: Running) -> None:
    status, counters = driver.status("seen")["actors"], driver.counters("seen")["actors"]
    assert set(status) == set(counters)
    name = next(name for name in status if "-dedup-" in name)
    assert set(status[name]) == set(counters[name])
    assert set(status[name]["lines"]) == set(counters[name]["lines"])
    assert all(line["lead"]["total"] > 0 for line in counters[name]["lines"].values() if line["wins"] > 50)
    for stream, counts in status[name]["streams"].items():
        assert set(counts) - set(counters[name]["streams"][stream]) == {"lines"}
        assert counters[name]["streams"][stream]["updates"] >= counts["updates"]


def test_metrics_reach_prometheus(pipeline: Running) -> None:
    def exported() -> set[str]:
        """Give what all nodes export; a node whose agent was started anew may not answer yet."""
        pages = []
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            with suppress(OSError):
                url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                pages.append(urllib.request.urlopen(url, timeout=10).read())
        return set(re.findall(r"^# TYPE ray_(raytrade_\w+) ", b"\n".join(pages).decode(), re.MULTILINE))

    moved = {"raytrade_line_frames_total", "raytrade_hop_latency_seconds", "raytrade_line_up"}
    until(lambda: moved <= exported(), "metrics are exported")
    assert exported() <= {metric.name for metric in METRICS}


def test_commands_write_no_control_codes_into_a_pipe(pipeline: Running, nodes: Nodes) -> None:
    address = ("--address", nodes.address)
    for arguments in (("status", "--watch", "--count", "2", "--interval", "0.1"), ("events",)):
        shown = run_process(*arguments, *address, timeout_s=120)
        assert (shown.status, shown.error) == (0, "")
        assert "seen-recorder-recorder" in shown.out
        assert CONTROL not in shown.out, arguments


def test_the_doctor_looks_at_every_node(pipeline: Running, nodes: Nodes, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "venues: {binance-spot: {symbols: [BTCUSDT], ws_url: 'ws://127.0.0.1:1'}}\n"
        "collectors: {labels: {collector: 'yes'}}\n"
        "recorders: [{directory: /proc/nothing/here, labels: {recorder: 'yes'}}]\n"
        "dedup: {labels: {dedup: perhaps}}\n"
    )
    shown = run_process("doctor", path, "--json", "--address", nodes.address, timeout_s=120)
    findings = lines_of(shown.out)
    assert shown.status == 1
    for check in ("clock offset", "same versions"):
        assert sum(finding["check"] == check for finding in findings) == 3
    assert [finding["level"] for finding in findings if finding["check"] == "ports"] == 3 * ["ok"]
    bad = {finding["check"]: finding for finding in findings if finding["level"] == "bad"}
    assert {"venue", "disk", "placement"} <= set(bad)
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")


def test_another_version_says_what_to_do() -> None:
    with pytest.raises(PipelineError, match=r"runs raytrade 0\.0\.9 and this is .*: use the same version here"):
        driver.check_version({"name": "seen", "version": "0.0.9"})

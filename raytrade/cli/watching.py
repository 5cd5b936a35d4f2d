"""``raytrade status``, ``tail``, ``events`` and ``doctor``: looking at a pipeline, changing nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from raytrade.cli.latency import latency_table
from raytrade.cli.output import INTERRUPTED, wide_console
from raytrade.cli.pipelines import Address, AsJson, Pipeline, load_driver
from raytrade.config import Config, load_config
from raytrade.core.clock import SECOND
from raytrade.core.events import LineDown, LineUp
from raytrade.core.message import decode
from raytrade.errors import ConfigError, PipelineError
from raytrade.observation.health import Finding, Level
from raytrade.observation.jsonlines import fields_of

if TYPE_CHECKING:
    from raytrade.pipeline.subscription import Subscription

Interval = Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")]
Count = Annotated[int, typer.Option("--count", min=0, help="End after so many; 0: never.")]

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.BAD: "red"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(show_status)
    app.command("tail")(tail)
    app.command("events")(show_events)
    app.command("doctor")(doctor)


def _print(value: object) -> None:
    print(msgspec.json.encode(value, enc_hook=str).decode(), flush=True)


def _every(seconds: float, count: int, act: Callable[[], None]) -> None:
    """Call at once and then every so often; for ever, or `count` times."""
    patience = threading.Event()
    done = 0
    while True:
        act()
        done += 1
        if count and done >= count:
            return
        patience.wait(seconds)


# Status.


def show_status(
    pipeline: Pipeline = "",
    address: Address = "auto",
    as_json: AsJson = False,
    latency: Annotated[bool, typer.Option("--latency", help="Show where an update's time goes.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    interval: Interval = 2.0,
    count: Count = 0,
) -> None:
    """Show every actor of a running pipeline: lines, streams, links, files, standing alerts.

    With --watch and --json there is one object a line; with --watch into a pipe one table after the other.

    Example: raytrade status --json
    """
    driver = load_driver()
    driver.join(address)
    times = (count or 0) if watch else 1
    if as_json:
        _every(interval, times, lambda: _print(driver.status(pipeline)))
        return
    console = wide_console()
    if not (watch and console.is_terminal):
        _every(interval, times, lambda: _show(console, driver.status(pipeline), latency))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def refresh() -> None:
            live.update(_screen(driver.status(pipeline), latency), refresh=True)

        _every(interval, times, refresh)


def _screen(found: dict[str, Any], latency: bool) -> Table:
    screen = Table.grid()
    for part in _parts(found, latency):
        screen.add_row(part)
    return screen


def _parts(found: dict[str, Any], latency: bool) -> list[Any]:
    if latency:
        return [latency_table(found["actors"])]
    parts: list[Any] = [f"pipeline {found['name']}", actor_table(found["actors"]), line_table(found["actors"])]
    parts += [f"request budget {name}: {counts}" for name, counts in budget_totals(found["actors"]).items()]
    parts += [f"drained: node {node_id[:12]}" for node_id in found["drained"]]
    parts += [f"moving: {name} {reason}" for name, reason in found["waiting"].items()]
    parts += [f"[yellow]degraded: {problem}[/]" for problem in found["degraded"]]
    parts += [f"[red]problem: {problem}[/]" for problem in found["problems"]]
    return parts + [f"[red]alert: {one['alert']}: {one['subject']}[/]" for one in found["alerts"]["firing"]]


def _show(console: Console, found: dict[str, Any], latency: bool) -> None:
    for part in _parts(found, latency):
        console.print(part)


def actor_table(actors: dict[str, dict[str, Any]]) -> Table:
    """Show one row per actor."""
    table = Table("actor", "node", "state", "pid", "links up", "lane", "remarks")
    for name, actor in sorted(actors.items()):
        remarks = [*actor.get("problems", {}).values(), *filter(None, [actor.get("problem")])]
        remarks += filter(None, [actor.get("engine", {}).get("failure")])
        remarks += [f"{reader}: too slow, {count} times" for reader, count in actor.get("slow", {}).items()]
        if actor.get("spill", {}).get("disk_bytes"):
            remarks.append(f"{actor['spill']['disk_bytes'] // 1_000_000} MB wait on disk")
        for line in actor.get("lines", {}).values() if actor.get("role") == "collector" else ():
            remarks += [f"{symbol}: {reason}" for symbol, reason in line["status"]["refused"].items()]
        if actor.get("digests"):
            remarks.append(
                f"digests alone of {', '.join(actor['digests'])}; messages asked for {actor['helped']} times"
            )
        lanes = sorted(set(actor.get("lanes", {}).values()))
        up = actor.get("up", actor.get("links", {}))
        row = [name, actor["node"][:8], actor["state"], str(actor.get("pid", "")), str(len(up)), " ".join(lanes)]
        table.add_row(*row, "\n".join(remarks))
    return table


def line_table(actors: dict[str, dict[str, Any]]) -> Table:
    """Show one row per line, with what it gave to the first dedup that answers."""
    table = Table("line", "up", "frames", "undecodable", "reconnects", "wins", "duplicates", "gaps seen", "healed")
    dedups = [a for a in actors.values() if a.get("role") in ("regional", "dedup")]
    for actor in actors.values():
        for name, line in actor.get("lines", {}).items() if actor.get("role") == "collector" else ():
            given: dict[str, Any] = next((d["lines"][name] for d in dedups if name in d["lines"]), {})
            up = "silent" if any(name in dedup.get("silent", ()) for dedup in dedups) else "yes"
            row = [name, up if line["status"]["is_up"] else line["status"]["last_reason"] or "no"]
            row += [str(line["counts"][key]) for key in ("frames", "undecodable")] + [str(line["status"]["reconnects"])]
            row += [str(given.get(key, "")) for key in ("wins", "duplicates", "gaps_seen", "gaps_healed")]
            table.add_row(*row)
    return table


def budget_totals(actors: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Say what all collectors together spent of each venue's request weight in the last minute."""
    totals: dict[str, dict[str, int]] = {}
    for actor in actors.values():
        for venue, counts in actor.get("budgets", {}).items():
            total = totals.setdefault(venue, dict.fromkeys(counts, 0))
            for key, value in counts.items():
                total[key] += value
    return {
        venue: f"{total['spent']} of {total['weight_max']} spent in a minute, {total['refused']} requests refused"
        for venue, total in totals.items()
        if total["weight_max"]
    }


# The stream.


def tail(
    globs: Annotated[
        list[str], typer.Argument(metavar="INSTRUMENT...", help="Names or globs; /book or /trades may follow.")
    ],
    count: Count = 0,
    lines: Annotated[bool, typer.Option("--lines", help="Also when lines come up and go down.")] = False,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Print the merged stream of a running pipeline, one JSON object a line; each book begins with an image.

    Ends at Ctrl-C, after --count events, or when nobody reads the output any more. A reader that is too slow gets a
    "gap" of kind "slow_consumer" and images, and hurts nobody else.

    Example: raytrade tail "binance-*:BTC*" --count 10
    """
    driver = load_driver()
    driver.join(address)
    driver.ensure_version(pipeline)
    from raytrade.pipeline.subscription import Subscription

    stream = Subscription(pipeline, tuple(globs))
    encode = msgspec.json.Encoder().encode
    printed = 0
    before = signal.signal(signal.SIGINT, lambda *_: _interrupt(stream))
    try:
        for message in stream.messages():
            event = decode(message)
            if isinstance(event, LineUp | LineDown) and not lines:
                continue
            sys.stdout.write(encode(fields_of(event, message.line)).decode() + "\n")
            sys.stdout.flush()
            printed += 1
            if count and printed >= count:
                return
        _leave_interrupted(stream)
    except BrokenPipeError:
        _leave_closed_pipe()
    except KeyboardInterrupt:
        _leave_interrupted(stream)
    finally:
        signal.signal(signal.SIGINT, before)
        stream.close()


def _interrupt(stream: Subscription) -> None:
    """Take Ctrl-C: the stream ends even where the exception strikes in code that loses it."""
    stream.end()
    raise KeyboardInterrupt


def _leave_interrupted(stream: Subscription) -> None:
    """End the process without Ray's way out, which waits for calls that are under way."""
    stream.close()
    os._exit(INTERRUPTED)


def _leave_closed_pipe() -> None:
    """Who read has gone: that is a way to end, as with `head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Incidents.


def show_events(
    pipeline: Pipeline = "",
    address: Address = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per event.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens next, until Ctrl-C.")] = False,
    name: Annotated[str, typer.Option("--name", help="Only these events, as line_down.")] = "",
    interval: Interval = 0.5,
    count: Count = 0,
) -> None:
    """Show what happened to a pipeline: lines and links up and down, gaps, restarts, moves, refusals, alerts.

    Example: raytrade events --follow --json
    """
    driver = load_driver()
    driver.join(address)
    driver.ensure_version(pipeline)
    shown, since = 0, 0
    patience = threading.Event()
    while True:
        for record in driver.incidents(pipeline, since):
            since = record["number"] + 1
            if name and record["incident"] != name:
                continue
            _print(record) if as_json else print(_incident_text(record), flush=True)
            shown += 1
            if count and shown >= count:
                return
        if not follow:
            return
        patience.wait(interval)


def _incident_text(record: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(record["ts_ns"] / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    fields = " ".join(f"{key}={_value(value)}" for key, value in record["fields"].items())
    return f"{at}Z {record['incident']:20} {record['actor']} {fields}".rstrip()


def _value(value: object) -> str:
    text = " ".join(str(value).split())
    return f'"{text}"' if " " in text else text


# The doctor.


def doctor(
    config_path: Annotated[Path | None, typer.Argument(metavar="[PIPELINE.yaml]")] = None,
    address: Annotated[
        str, typer.Option("--address", help="Ray cluster to look at; 'local': this host only.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per finding.")] = False,
) -> None:
    """Look for what would hurt a pipeline, here and on every node of the cluster; each finding has its remedy.

    Versions, clocks, limits, shared memory, ports, and with a configuration also labels, disks and whether every
    collector's host reaches every venue. Exit status 1 if anything is bad.

    Example: raytrade doctor examples/pipeline.yaml
    """
    driver = load_driver()
    from raytrade.pipeline.doctor import examine_cluster, examine_here

    config, findings = _configuration(config_path)
    if _is_joined(driver, address):
        findings += examine_cluster(config)
    else:
        findings += examine_here(config)
    if as_json:
        for finding in findings:
            _print(finding)
    else:
        wide_console().print(_finding_table(findings))
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(1)


def _is_joined(driver: Any, address: str) -> bool:
    """Join the cluster if there is one; an address that was given must be one."""
    if address == "local":
        return False
    try:
        driver.join(address)
    except PipelineError:
        if address != "auto":
            raise
        return False
    return True


def _configuration(path: Path | None) -> tuple[Config | None, list[Finding]]:
    if path is None:
        return None, []
    subject = str(path)
    try:
        config = load_config(path)
    except ConfigError as error:
        text = ": ".join(part for part in (error.key, error.problem) if part)
        remedy = "correct the key; `raytrade config schema` lists all of them"
        return None, [Finding(subject=subject, check="configuration", level=Level.BAD, text=text, remedy=remedy)]
    text = f"pipeline {config.name}, {len(config.venues)} venues"
    return config, [Finding(subject=subject, check="configuration", level=Level.OK, text=text)]


def _finding_table(findings: list[Finding]) -> Table:
    table = Table("where", "what", "", "found", "remedy")
    for finding in findings:
        level = f"[{_STYLES[finding.level]}]{finding.level.value}[/]"
        table.add_row(finding.subject, finding.check, level, finding.text, finding.remedy)
    return table

"""``raytrade chaos``: faults on a running pipeline, and the soak that draws them and checks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from raytrade.cli.output import wide_console
from raytrade.cli.pipelines import Address, AsJson, Pipeline
from raytrade.cli.progress import waiting
from raytrade.errors import ConfigError

Seconds = Annotated[float, typer.Option("--seconds", min=0.1, max=600, help="For how long.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Hit a running pipeline with faults, or prove with a soak of drawn faults that nobody misses anything.",
)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="chaos")


def _status(pipeline: str, address: str) -> dict[str, Any]:
    """Join the cluster and give the pipeline's status."""
    from raytrade.pipeline import environment

    environment.prepare()
    from raytrade.pipeline import driver

    driver.join(address)
    return driver.status(pipeline)


@app.command()
def kill(
    target: Annotated[str, typer.Argument(metavar="ACTOR|node", help="An actor, or 'node' with --node.")],
    node: Annotated[str, typer.Option(help="With 'node': its id, the beginning of it, or an actor there.")] = "",
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """SIGKILL an actor's process, or a node's raylet with all that runs under it.

    An actor is named as `raytrade status` shows it, or by the end of its name: `dedup-0-a`, `supervisor`.

    Example: raytrade chaos kill dedup-0-a
    """
    if (target == "node") != bool(node):
        raise ConfigError("chaos kill", "node", "say which one: raytrade chaos kill node --node ID")
    status = _status(pipeline, address)
    from raytrade.chaos import processes, targets
    from raytrade.pipeline import driver

    if node:
        node_id = targets.find_node(status, node)
        gone = driver.run_on_node(node_id, processes.kill_node, node_id)
        print(f"killed node {node_id[:12]}: {len(gone)} processes")
        return
    found = targets.find_actor(status, target)
    driver.run_on_node(found.node, processes.kill_actor, found.pid, found.role)
    print(f"killed {found.name} (pid {found.pid})")


@app.command()
def pause(
    actor: Annotated[str, typer.Argument(metavar="ACTOR")],
    seconds: Seconds = 1.0,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Stop an actor's process for a while (SIGSTOP, SIGCONT): a machine that hangs.

    Example: raytrade chaos pause recorder-recorder --seconds 3
    """
    status = _status(pipeline, address)
    from raytrade.chaos import processes, targets
    from raytrade.pipeline import driver

    found = targets.find_actor(status, actor)
    driver.run_on_node(found.node, processes.pause_actor, found.pid, found.role, seconds)
    print(f"paused {found.name} (pid {found.pid}) for {seconds:g} s")


@app.command()
def cut(
    line: Annotated[str, typer.Argument(metavar="LINE", help="As `raytrade status` shows it, or the end of it.")],
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Cut a line's connection without a handshake, where the exchange is `raytrade emulate`.

    Example: raytrade chaos cut binance-spot
    """
    status = _status(pipeline, address)
    from raytrade.chaos import targets, venue_lines

    found = targets.find_line(status, line)
    print(f"cut {found.name} (connection {venue_lines.cut(found)} of the emulator)")


@app.command()
def partition(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its id, the beginning of it, or an actor there.")],
    seconds: Seconds = 5.0,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Cut a node off: for a while nobody hears from it. All its processes are stopped, no packet is filtered.

    Longer than the cluster's health check waits, and the node is taken for dead, as after a real partition.

    Example: raytrade chaos partition 3f2a --seconds 8
    """
    status = _status(pipeline, address)
    from raytrade.chaos import processes, targets
    from raytrade.pipeline import driver

    node_id = targets.find_node(status, node)
    driver.run_on_node(node_id, processes.freeze_node, node_id, seconds)
    print(f"nobody heard from node {node_id[:12]} for {seconds:g} s")


@app.command("disk-full")
def disk_full(
    recorder: Annotated[str, typer.Argument(metavar="RECORDER")],
    seconds: Seconds = 5.0,
    pipeline: Pipeline = "",
    address: Address = "auto",
) -> None:
    """Have every write of a recorder fail for a while: its process gets a file-size limit of 0, as with a full quota.

    The disk itself is not touched. Needs the recorder's own user (or root) on its host, and Linux.

    Example: raytrade chaos disk-full recorder-recorder --seconds 5
    """
    status = _status(pipeline, address)
    from raytrade.chaos import processes, targets
    from raytrade.pipeline import driver

    found = targets.find_actor(status, recorder, role="recorder")
    driver.run_on_node(found.node, processes.fill_disk, found.pid, seconds)
    print(f"{found.name} (pid {found.pid}) could write nothing for {seconds:g} s")


@app.command()
def soak(  # noqa: PLR0913 - one parameter per option
    minutes: Annotated[float, typer.Option(min=0.1, help="For how long faults are drawn.")] = 5.0,
    seed: Annotated[int, typer.Option(help="The same seed draws the same faults.")] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Book updates per second in all.")] = 2000.0,
    hold: Annotated[float, typer.Option(min=0, max=10, help="Seconds by which a restart is held back.")] = 5.0,
    faults: Annotated[str, typer.Option(help="Only these, with commas between: kill,pause,cut,drop,...")] = "",
    kills: Annotated[int, typer.Option(min=0, help="End after so many kills; 0: when the time is over.")] = 0,
    both_copies: Annotated[bool, typer.Option("--both-copies", help="Kill both dedups at once instead.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of what was seen and recorded; else a temporary one.")
    ] = None,
) -> None:
    """Run a whole pipeline on labelled nodes of this machine, draw faults, and hold everything against the truth.

    Three collectors, two dedups, two strategies, two recorders. The next fault waits until every role has its spare.
    The stall is the longest delivery gap of a surviving strategy in the second after the fault; the restart is held
    back so that a starting process is not what is measured. Exit status 1 if anything was missed or seen twice, a
    file cannot be read, or redundancy was late (10 s after a process died, 60 s after a node).

    Example: raytrade chaos soak --minutes 5 --seed 7 --json soak.json
    """
    actions = _actions(faults)
    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError("chaos soak", "--json", f"{json_file.parent}: no such directory")
    _prepare()
    from raytrade.chaos.report import print_report
    from raytrade.chaos.soak import SoakSettings, run_soak

    directory = out or Path(tempfile.mkdtemp(prefix="raytrade-soak-"))
    settings = SoakSettings(
        seconds=60 * minutes,
        seed=seed,
        directory=directory,
        rate=rate,
        hold_s=hold,
        actions=actions,
        kills_max=kills,
        both_copies=both_copies,
    )
    with waiting(f"drawing faults for {minutes:g} min"):
        result = run_soak(settings, lambda text: print(text, flush=True))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.encode(result))
    failures = print_report(wide_console(), result)
    _end(failures, directory, is_ours=out is None)


def _end(failures: list[str], directory: Path, is_ours: bool) -> None:
    """End with the status of a run: what a good one has left in a temporary directory is of no use to anybody."""
    if failures:
        print(f"raytrade: what was seen and recorded lies in {directory}", file=sys.stderr)
        raise typer.Exit(1)
    if is_ours:
        shutil.rmtree(directory, ignore_errors=True)


@app.command()
def head(
    seconds: Annotated[float, typer.Option(min=5, help="For how long there is no head.")] = 600.0,
    rate: Annotated[float, typer.Option(min=1, help="Book updates per second in all.")] = 500.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result here.")] = None,
) -> None:
    """Kill the whole head of a cluster on this machine under a running pipeline, and bring it back.

    Exit status 1 if anything was missed, or if the supervisor, a collector that was killed meanwhile or a node that
    joins do not come up after the head's return.

    Example: raytrade chaos head --seconds 30
    """
    _prepare()
    from raytrade.chaos.head import HeadSettings, run_head_proof

    directory = Path(tempfile.mkdtemp(prefix="raytrade-head-"))
    settings = HeadSettings(away_s=seconds, directory=directory, rate=rate)
    with waiting(f"{seconds:g} s without a head"):
        result = run_head_proof(settings, lambda text: print(text, flush=True))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.encode(result))
    for name, delivered in sorted(result.delivered.items()):
        print(f"{name} saw {delivered} updates in {result.away_s:.0f} s without a head")
    print(f"longest delivery gap meanwhile {result.stall_ms:.1f} ms")
    print(f"updates missed by consumers: {result.run.missed_by_strategies}")
    failures = result.failures()
    for failure in failures:
        print(f"raytrade: {failure}", file=sys.stderr)
    _end(failures, directory, is_ours=True)


def _prepare() -> None:
    """A cluster of our own on this machine needs no token."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from raytrade.pipeline import environment

    environment.prepare()


def _actions(text: str) -> tuple[Any, ...]:
    from raytrade.chaos.draw import Action

    known = {str(action): action for action in Action}
    words = [word for word in text.split(",") if word]
    for word in words:
        if word not in known:
            raise ConfigError("chaos soak", "--faults", f"{word!r} is none of {', '.join(known)}")
    return tuple(known[word] for word in words)


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results that `chaos soak --json` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Add up the results of several soaks; exit status 1 if any of them failed.

    Example: raytrade chaos report soak-1.json soak-2.json
    """
    from raytrade.chaos.history import Soak, combined
    from raytrade.chaos.report import print_report

    soaks = []
    for path in files:
        try:
            soaks.append(msgspec.json.decode(path.read_bytes(), type=Soak))
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError("chaos report", str(path), f"not a result of a soak: {error}") from None
    total = combined(soaks)
    if as_json:
        print(msgspec.json.encode(total).decode())
    else:
        print_report(wide_console(), total)
    if total.failures():
        print("raytrade: a soak has failed", file=sys.stderr)
        raise typer.Exit(1)

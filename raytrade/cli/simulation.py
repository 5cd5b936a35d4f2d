"""``raytrade simulate``: the whole pipeline under seeded faults, checked against the truth."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from raytrade.cli.progress import steps
from raytrade.errors import ConfigError
from raytrade.simulation import Result, Simulation, run_seed
from raytrade.simulation.story import plan_lines, story_lines

JOBS_MAX = 2
CHUNK = 4


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a range of seeds."""

    seeds: int
    failed: list[int]
    venue_messages: int
    faults: int
    crashes: int
    books_checked: int
    losses: int
    losses_reported: int
    false_gaps: int
    recovery_s_max: float


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    seeds: Annotated[str, typer.Option(help="A:B, the seeds from A up to and without B; or one seed.")] = "0:100",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per seed and one for all.")] = False,
    verbose: Annotated[bool, typer.Option(help="Print the plan, and the story of a failure.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes.")] = JOBS_MAX,
) -> None:
    """Run the whole pipeline under a manual clock, one run per seed, with faults, and check every promise.

    A failing seed is repeated by one command, which is printed.

    Example: raytrade simulate --seeds 0:500
    """
    chosen = _read_seeds(seeds)
    results = [*map(_tell, chosen)] if verbose else list(_run(chosen, max(1, min(jobs, os.cpu_count() or 1)), as_json))
    summary = _summary(results)
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        _print(summary)
    for result in results:
        if result.violation is not None:
            problem = f"seed {result.seed}: {result.violation.who}: {result.violation.what}"
            print(f"raytrade: {problem}\n  raytrade simulate --seeds {result.seed} --verbose", file=sys.stderr)
    if summary.failed:
        raise typer.Exit(1)


def _read_seeds(text: str) -> range:
    first, colon, end = text.partition(":")
    if not first.isdecimal() or (colon and not end.isdecimal()):
        raise ConfigError("simulate", "--seeds", f"{text!r} is not A:B")
    chosen = range(int(first), int(end) if colon else int(first) + 1)
    if not chosen:
        raise ConfigError("simulate", "--seeds", f"{text!r} is empty")
    return chosen


def _tell(seed: int) -> Result:
    """Run one seed and print what it means and how it failed."""
    simulation = Simulation(seed)
    print("\n".join(plan_lines(simulation)))
    result = simulation.run()
    print("\n".join([*story_lines(simulation, result), f"  trace {result.trace}"]))
    return result


def _run(seeds: range, jobs: int, as_json: bool) -> Iterator[Result]:
    with steps("seeds") as progress:
        for number, result in enumerate(_results(seeds, jobs)):
            if as_json:
                print(msgspec.json.encode(result).decode())
            progress(number + 1, len(seeds))
            yield result


def _results(seeds: range, jobs: int) -> Iterator[Result]:
    if jobs == 1 or len(seeds) == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=CHUNK)


def _summary(results: list[Result]) -> Summary:
    return Summary(
        seeds=len(results),
        failed=[result.seed for result in results if result.violation is not None],
        venue_messages=sum(result.venue_messages for result in results),
        faults=sum(len(result.faults) for result in results),
        crashes=sum(result.crashes for result in results),
        books_checked=sum(result.books_checked for result in results),
        losses=sum(result.losses for result in results),
        losses_reported=sum(result.losses_reported for result in results),
        false_gaps=sum(result.false_gaps for result in results),
        recovery_s_max=max(result.recovery_s for result in results),
    )


def _print(summary: Summary) -> None:
    print(f"{summary.seeds} seeds, {len(summary.failed)} failed")
    print(f"{summary.venue_messages} venue messages, {summary.faults} faults, {summary.crashes} crashes")
    print(f"{summary.books_checked} live books compared with the venue's")
    print(f"{summary.losses_reported} of {summary.losses} lost ids reported, {summary.false_gaps} false gaps")
    print(f"every book live again within {summary.recovery_s_max:.1f} s of the last fault")

"""Progress on standard error, and only where that is a terminal: into a pipe or a file nothing of it is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from raytrade.core.clock import Nanos
from raytrade.core.delta_run import Part
from raytrade.storage.times import instant_text

EVERY = 1000
Told = Callable[[int, int], None]


def bars(*columns: Any) -> Progress:
    """Give bars of these columns. Standard output goes its own way unless it is the same terminal."""
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
    )


@contextmanager
def steps(what: str) -> Iterator[Told]:
    """Show a bar; gives what is to be told of how many steps are done, and of how many there are."""
    with bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something goes on for which there is no measure, and for how long it has."""
    with bars(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        progress.add_task(what, total=None)
        yield


@contextmanager
def naming(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being worked on, where nobody knows how much there is; gives what is to be told of it."""
    with bars(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda name: progress.update(task, description=f"{what} {name}")


def through_time(what: str, items: Iterable[tuple[Nanos, Any]]) -> Iterator[tuple[Nanos, Any]]:
    """Hand on what comes in the order of time, and show how far it has come."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[at]}"), TimeElapsedColumn()
    with bars(*columns) as progress:
        task = progress.add_task(what, total=None, at="")
        number = due = 0
        for now_ns, item in items:
            if number >= due:
                progress.update(task, at=f"{number} messages, {instant_text(now_ns)}")
                due = number + EVERY
            number += item.last - item.first if isinstance(item, Part) else 1
            yield now_ns, item

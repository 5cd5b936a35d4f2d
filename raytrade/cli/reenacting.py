"""``raytrade replay DIR --as strategy:NAME``: a strategy's journal lived again, and held against what it did then."""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from raytrade.cli.output import wide_console
from raytrade.cli.reading import json_text
from raytrade.errors import ConfigError
from raytrade.rules import rule_of
from raytrade.storage.journals import JOURNAL_FOLDER, Journal, journals_of, names_of
from raytrade.storage.times import instant_text
from raytrade.strategy.commands import StrategyFailed
from raytrade.strategy.journal import Reenactment, engine_of


class Wanted(NamedTuple):
    """What is lived again: `directory` of a recording or of journals, the strategy's name in its pipeline."""

    directory: Path
    name: str
    strategy: str
    with_hash: bool


def reenact(wanted: Wanted, *, as_json: bool) -> None:
    """Play every journal of the strategy, the oldest first; ends with status 1 where something was done otherwise."""
    lives = [_live(path, wanted) for path in _paths(wanted)]
    print(json_text(lives)) if as_json else _show(wanted, lives)
    for life in lives:
        if life["difference"]:
            print(f"raytrade: {life['journal']}: {life['difference']}", file=sys.stderr)
        if life["failure"]:
            print(f"{life['traceback']}raytrade: the strategy failed: {life['failure']}", file=sys.stderr)
    if any(life["difference"] or life["failure"] for life in lives):
        raise typer.Exit(1)


def _paths(wanted: Wanted) -> list[Path]:
    """Find the journals; a strategy may be named as its pipeline does, or as its actor is called."""
    below = wanted.directory / JOURNAL_FOLDER
    directory = below if below.is_dir() else wanted.directory
    names = names_of(directory)
    found = [name for name in names if name.partition("~")[0] == wanted.name]
    found = found or [name for name in names if name.partition("~")[0].endswith(f"-strategy-{wanted.name}")]
    if not found:
        known = f"there are those of {', '.join(names)}" if names else f"there is none in {directory}"
        raise ConfigError("replay", "--as", f"no journal of {wanted.name!r}; {known}")
    return [path for name in found for path in journals_of(directory, name)]


def _live(path: Path, wanted: Wanted) -> dict[str, Any]:
    journal = Journal(path)
    again = Reenactment(engine_of(journal.opening, rule_of, wanted.strategy))
    again.play(journal.entries())
    failed = next((command for command in again.commands if isinstance(command, StrategyFailed)), None)
    life: dict[str, Any] = {
        "journal": str(path),
        "began_ns": journal.opening.ts_start_ns,
        "inputs": again.inputs,
        "is_whole": again.is_whole,
        "torn_bytes": journal.torn_bytes,
        "orders": len(again.wishes),
        "fills_and_refusals": len(again.results),
        "difference": again.difference(),
        "failure": "" if failed is None else _failure(failed),
        "traceback": "" if failed is None else failed.traceback,
    }
    if wanted.with_hash:
        content = msgspec.json.encode([again.wishes, again.results], order="deterministic")
        life["hash"] = blake2b(content, digest_size=16).hexdigest()
    return life


def _failure(failed: StrategyFailed) -> str:
    return f"{failed.callback} at {instant_text(failed.ts_fail_ns)}{failed.event}: {failed.error}"


def _show(wanted: Wanted, lives: list[dict[str, Any]]) -> None:
    table = Table("began", title=f"{wanted.name}: {len(lives)} journals lived again")
    for name in ("inputs", "orders", "fills and refusals"):
        table.add_column(name, justify="right")
    table.add_column("as it was")
    for life in lives:
        counts = (str(life[name]) for name in ("inputs", "orders", "fills_and_refusals"))
        told = "no" if life["difference"] else "yes" if life["is_whole"] else "yes, as far as the journal reaches"
        table.add_row(*(Text(cell) for cell in (instant_text(life["began_ns"]), *counts, told)))
    wide_console().print(table)
    for life in lives:
        if "hash" in life:
            print(f"hash {life['hash']}")

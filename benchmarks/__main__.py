"""Micro benchmarks.

python -m benchmarks [decode|book|arbiter|codec|all] [--quick] [--json FILE] [--write]
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import msgspec

from benchmarks.micro import arbiter, book, codec, decode
from benchmarks.micro.inputs import captures_folder, load_feed
from benchmarks.micro.report import Report, document, environment, table
from benchmarks.micro.rounds import measure

BENCHMARKS = {module.__name__.rpartition(".")[2]: module.benchmark for module in (decode, book, arbiter, codec)}
RESULTS = Path(__file__).with_name("RESULTS.md")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Micro benchmarks")
    parser.add_argument("name", nargs="?", default="all", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--quick", action="store_true", help="200 frames, 3 rounds: to see that it works")
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--captures", type=Path, default=captures_folder(), help="folder of recordings")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args(arguments)
    if options.quick:
        options.frames, options.rounds = 200, 3
    return options


def run(options: argparse.Namespace) -> Report:
    """Run what was chosen, printing each table as it is done."""
    feed = load_feed(options.frames, options.captures)
    report = Report(datetime.datetime.now(datetime.UTC).date().isoformat(), environment(), [])
    for name in BENCHMARKS if options.name == "all" else [options.name]:
        report.results.append(measure(BENCHMARKS[name](feed), options.rounds))
        print(table(report.results[-1]), end="\n\n", flush=True)
    return report


def main(arguments: list[str] | None = None) -> None:
    """Run, print and write."""
    options = parse_arguments(arguments)
    report = run(options)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if options.write:
        RESULTS.write_text(document(report))


if __name__ == "__main__":
    main()

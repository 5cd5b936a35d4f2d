"""The same input gives the same output, whatever the process and its hash seed: hashes of backtests and replays.

    python -m benchmarks.determinism [--runs N] [--events N] [--json FILE]

Each run is a process of its own with another ``PYTHONHASHSEED``: a backtest of the market maker in `examples`, and a
replay, over one synthetic recording. Fails unless all hashes of each kind are one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.replay import INSTRUMENT, record

STRATEGY = Path(__file__).parents[1] / "examples" / "strategies" / "market_maker.py"


def commands(directory: Path) -> dict[str, list[str]]:
    """Give the command lines, each of which prints a hash."""
    parameters = [f"instrument={INSTRUMENT}", 'quantity="0.01"', 'tick="0.01"']
    given = [part for parameter in parameters for part in ("--param", parameter)]
    return {
        "backtest": ["backtest", f"{STRATEGY}:MarketMaker", "--data", str(directory), *given],
        "replay": ["replay", str(directory), "--hash"],
    }


def hash_of(command: list[str], seed: int) -> str:
    """Run a command under a hash seed, and give the hash that it prints."""
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    call = [sys.executable, "-m", "raytrade", *command]
    ended = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
    return next(line.split()[1] for line in ended.stdout.splitlines() if line.startswith("hash "))


def measure(runs: int, events: int) -> dict[str, Any]:
    """Run all of it."""
    with tempfile.TemporaryDirectory() as directory:
        record(Path(directory), events)
        hashes = {
            name: [hash_of(command, 7919 * number) for number in range(runs)]
            for name, command in commands(Path(directory)).items()
        }
    alike = {name: max(map(found.count, found)) for name, found in hashes.items()}
    return {"runs": runs, "events": events, "alike": alike, "hashes": hashes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.runs, options.events)
    for name, count in figures["alike"].items():
        print(f"{name}: {count} of {options.runs} hashes are the same")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if min(figures["alike"].values()) < options.runs:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

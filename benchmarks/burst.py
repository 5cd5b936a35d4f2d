"""A burst of pre-rendered frames as fast as the sockets take them: how long the pipeline needs beside bare clients.

    python -m benchmarks.burst --updates 50000 --repeat 5 --json burst.json

Run by run in turn: two clients that read every frame, look at its id and do nothing else; and the pipeline (two
collectors, arbitration, a book in a strategy, Parquet). The time is from the first frame that the exchange hands to its
sockets to the last one that both clients have read, or that is in the strategy's book. Gives 1 if the pipeline loses or
repeats an update, its book is not the exchange's in the end, or anything is not recorded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.pipeline_systems.bare import BareClients
from benchmarks.pipeline_systems.exchange import BURST
from benchmarks.pipeline_systems.market import FIRST_ID
from benchmarks.pipeline_systems.registry import SYSTEMS
from benchmarks.pipeline_systems.results import aligned
from benchmarks.pipeline_systems.running import ExchangeProcess, Load, measure, wait_until
from benchmarks.pipeline_systems.system import Failed
from benchmarks.pipeline_systems.timelog import SentLog

CLIENTS = 2
TIMEOUT_S = 60.0
RATIO_MAX = 2.0
"""The aim: the pipeline needs at most this many times what bare clients need."""
QUICK_UPDATES = 5_000


class Round(msgspec.Struct):
    """Seconds of one run each."""

    bare_s: float
    pipeline_s: float
    problems: list[str]


def bare_seconds(updates: int) -> float:
    """Measure the bare clients.

    Raises:
        Failed: they do not come up, or do not get to the end.
    """
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="rb-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        exchange = ExchangeProcess(directory / "sent", updates)
        stack.callback(exchange.stop)
        clients = BareClients(exchange.port, directory, updates, CLIENTS)
        stack.callback(clients.stop)
        wait_until(lambda: exchange.status()["subscribers"] == CLIENTS, TIMEOUT_S, "the clients do not come up")
        exchange.send(updates, BURST)
        exchange.sent(TIMEOUT_S)
        last = FIRST_ID + updates - 1
        wait_until(lambda: all(log.last_id() == last for log in clients.logs), TIMEOUT_S, "a client is late")
        sent_ns = SentLog(directory / "sent", updates).times(0, 1)[0]
        return (max(log.pairs()[-1][1] for log in clients.logs) - sent_ns) / 1e9


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.burst", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--system", default="raytrade", choices=[name for name in SYSTEMS if "raytrade" in name])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_UPDATES} updates, once")
    options = parser.parse_args(arguments)
    if options.quick:
        options.updates, options.repeat = QUICK_UPDATES, 1
    if min(options.updates, options.repeat) < 1:
        parser.error("updates and repeat must be positive")
    return options


def one_round(options: argparse.Namespace) -> Round:
    """Measure both, one after the other."""
    bare_s = bare_seconds(options.updates)
    result = measure(options.system, SYSTEMS[options.system], Load("burst", options.updates, BURST), 0, 0.0)
    return Round(bare_s, result.seconds, result.problems)


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; gives 1 if anything was lost."""
    options = parse_arguments(arguments)
    rounds: list[Round] = []
    for at in range(options.repeat):
        try:
            rounds.append(one_round(options))
        except Failed as error:
            print(f"burst: {error}", file=sys.stderr)
            return 1
        each = rounds[-1]
        problems = "".join(f" PROBLEM: {problem}" for problem in each.problems)
        print(f"#{at} bare {each.bare_s:.2f} s, {options.system} {each.pipeline_s:.2f} s{problems}", flush=True)
    bare_s, pipeline_s = median(each.bare_s for each in rounds), median(each.pipeline_s for each in rounds)
    rows = [["", "seconds", "updates/s"]]
    for name, seconds in (("bare clients", bare_s), (options.system, pipeline_s)):
        rows.append([name, f"{seconds:.2f}", f"{options.updates / seconds:.0f}" if seconds else "-"])
    print(f"\n{aligned(rows)}\n{pipeline_s / bare_s:.2f} times the bare clients' time (aim: {RATIO_MAX:g})")
    if options.json:
        figures = {"updates": options.updates, "rounds": rounds, "ratio": pipeline_s / bare_s}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1))
    return 1 if any(each.problems for each in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())

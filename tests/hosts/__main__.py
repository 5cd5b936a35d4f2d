"""``python -m tests.hosts``: a cluster on hosts of its own, brought up, hurt and taken down with Ray's own commands.

Needs root, Linux and Debian's openssh-server, rsync and iproute2 (installed if missing). Exit status: 0 all as it must
be, 1 not, 0 too where hosts cannot be made (said on standard output), unless RAYTRADE_NO_SKIP is set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hosts.course import Course, Failed, Kind, last_words
from tests.hosts.network import Network, install_missing, reason_against
from tests.hosts.report import Report
from tests.hosts.site import HEAD, Site

PLACE = Path("/var/tmp")
PREFIX = "raytrade-hosts-"


def remove_leftovers() -> None:
    """Remove the folders of runs that were killed."""
    for path in PLACE.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
DELAY_MS, LOSS = 50.0, 0.01
"""One way, and the share of frames lost."""
STEPS: dict[str, Callable[[Course], None]] = {
    "secure": lambda course: course.secure(),
    "far": lambda course: course.move_away(DELAY_MS, LOSS),
    "ocean": lambda course: course.move_away(DELAY_MS, 0.0),
    "knock": lambda course: course.knock(),
    "blink": lambda course: course.blink("archive"),
    "zeromq": lambda course: course.zeromq(),
    "join": lambda course: course.join(),
    "cut": lambda course: course.cut_off("archive"),
    "siege": lambda course: course.cut_off("archive", meanwhile=course.secure),
    "crash": lambda course: course.crash("zurich"),
    "scale": lambda course: course.scale_up(),
    "grow": lambda course: course.grow(),
}
BUSY = 5.0
"""The short course runs beside anything: its times are told, and bounded this much wider."""
QUICK = ("join", "knock")
QUICK_RATE, FULL_RATE = 100.0, 2000.0
QUICK_S, FULL_S, LAST_WORDS_S = 480, 1800, 90
"""How long a run may take in all, and the description of what went wrong after that."""
FULL = ("secure", "zeromq", "far", "join", "cut", "crash", "scale", "grow")


def run(course: Course, steps: list[str]) -> None:
    """Come up, take the steps, check everything, go down."""
    with ThreadPoolExecutor(max_workers=1) as aside:
        image = aside.submit(course.site.build_image)
        course.start_hosts()
        image.result()
    course.start_venue()
    course.come_up()
    course.latency("socket to strategy")
    for step in steps:
        STEPS[step](course)
    course.check()
    course.go_down()


def give_up(number: int, _: object) -> None:
    """End the run, once: cleaning up is not disturbed by another signal."""
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    signal.alarm(0)
    raise Failed("not done in time" if number == signal.SIGALRM else f"ended by {signal.Signals(number).name}")


def describe(course: Course) -> str:
    """Say what runs where and what the autoscaler wrote last, if that can be had soon."""

    def hurry(*_: object) -> None:
        raise Failed("no description in time")

    signal.signal(signal.SIGALRM, hurry)
    signal.alarm(LAST_WORDS_S)
    try:
        return f"{course.situation()}\n{last_words(course.host(HEAD))}"
    except (Failed, LookupError) as error:
        return str(error)
    finally:
        signal.alarm(0)


def main() -> int:
    """Run it; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short course, about two minutes")
    parser.add_argument("--rate", type=float, default=0.0, help="book updates per second")
    parser.add_argument("--regional", action="store_true", help="with a tier of dedups in each region")
    parser.add_argument("--tls", action="store_true", help="with TLS between the nodes")
    parser.add_argument("--steps", default="", help=f"what to do, with commas between: {', '.join(STEPS)}")
    arguments = parser.parse_args()
    chosen = [step for step in arguments.steps.split(",") if step]
    if unknown := set(chosen) - set(STEPS):
        parser.error(f"--steps: no such step: {', '.join(sorted(unknown))}")
    steps = chosen or list(QUICK if arguments.quick else FULL)
    reason = reason_against() or install_missing()
    if reason:
        print(f"hosts: skipped: {reason}")
        return 1 if os.environ.get("RAYTRADE_NO_SKIP") else 0
    for number in ENDINGS:
        signal.signal(number, give_up)
    signal.alarm(QUICK_S if arguments.quick else FULL_S)
    remove_leftovers()
    began = time.monotonic()
    report = Report(BUSY if arguments.quick else 1.0)
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))
    try:
        site = Site(directory)
        network = Network(directory, sorted({sys.prefix, sys.base_prefix}))
        kind = Kind(arguments.tls, arguments.regional)
        course = Course(site, network, report, arguments.rate or (QUICK_RATE if arguments.quick else FULL_RATE), kind)
        try:
            run(course, steps)
        except (Failed, RuntimeError, subprocess.SubprocessError) as error:
            report.fail(f"{error}\n{describe(course)}")
        finally:
            network.stop()
    except Failed as error:
        report.fail(str(error))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.figure("in all", time.monotonic() - began, "s")
    print(f"hosts: {report.checks - len(report.failures)} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

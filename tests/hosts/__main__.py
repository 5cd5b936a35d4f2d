"""``python -m tests.hosts``: a cluster on hosts of its own, brought up, hurt and taken down with Ray's own commands.

Needs root, Linux and Debian's openssh-server, rsync and iproute2 (installed if missing). Exit status: 0 all as it must
be, 1 not, 0 too where hosts cannot be made (said on standard output), unless RAYTRADE_NO_SKIP is set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
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
QUICK = ("join", "knock", "blink")
FULL = ("secure", "zeromq", "far", "join", "cut", "crash", "scale", "grow")


def run(course: Course, steps: list[str]) -> None:
    """Come up, take the steps, check everything, go down."""
    course.start_hosts()
    course.come_up()
    course.latency("socket to strategy")
    for step in steps:
        STEPS[step](course)
    course.check()
    course.go_down()


def give_up(*_: object) -> None:
    """Tell how far it came, and take everything down; only the first time."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Failed("ended by SIGTERM")


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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, give_up)
    remove_leftovers()
    began = time.monotonic()
    report = Report(BUSY if arguments.quick else 1.0)
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))
    try:
        site = Site(directory)
        site.build_image()
        network = Network(directory, sorted({sys.prefix, sys.base_prefix}))
        kind = Kind(arguments.tls, arguments.regional)
        course = Course(site, network, report, arguments.rate or (300 if arguments.quick else 2000), kind)
        try:
            run(course, steps)
        except Failed as error:
            report.fail(f"{error}\n{course.situation()}\n{last_words(course.host(HEAD))}")
        finally:
            network.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.figure("in all", time.monotonic() - began, "s")
    print(f"hosts: {report.checks - len(report.failures)} passed, {len(report.failures)} failed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parse, call, print.

Exit status: 0 done, 1 the run failed, 2 usage or configuration is wrong, 130 Ctrl-C. An error is one line on
standard error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import cast

import typer

from raytrade.cli import (
    backtesting,
    captures,
    chaos,
    demonstration,
    emulation,
    exporting,
    keeping,
    monitoring,
    pipelines,
    planning,
    proofs,
    reading,
    replaying,
    selftesting,
    simulation,
    top,
    ui,
    venues,
    watching,
)
from raytrade.cli.output import INTERRUPTED
from raytrade.core.native import demand
from raytrade.errors import ConfigError, RaytradeError

app = typer.Typer(
    name="raytrade",
    help="Redundant, broker-free order-book pipelines on Ray.",
    epilog="Exit status: 0 done, 1 the run failed, 2 usage or configuration, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
pipelines.register(app)
backtesting.register(app)
watching.register(app)
monitoring.register(app)
top.register(app)
ui.register(app)
planning.register(app)
demonstration.register(app)
captures.register(app)
emulation.register(app)
exporting.register(app)
keeping.register(app)
proofs.register(app)
reading.register(app)
replaying.register(app)
selftesting.register(app)
simulation.register(app)
chaos.register(app)
venues.register(app)


_UsageError = cast(type[Exception], typer.BadParameter.__base__)
"""What typer raises on a wrong command line, wherever its version keeps the class."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        status = _run()
    except ConfigError as error:
        status = _report(str(error), 2)
    except RaytradeError as error:
        status = _report(str(error), 1)
    except _UsageError as error:
        status = _report_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        _let_go_of_output()
        where = f"{error.filename}: " if error.filename else ""
        status = _report(f"{where}{error.strerror or error}", 1)
    raise SystemExit(status)


def _run() -> int:
    """Run the command; what it printed has left the process when this returns."""
    demand()
    try:
        status = app(prog_name="raytrade", standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.__context__, OSError):  # typer is silent about a closed pipe
            raise end.__context__ from None
        raise
    sys.stdout.flush()
    return status if isinstance(status, int) else 0


def _report(problem: str, status: int, command: str = "raytrade") -> int:
    with suppress(OSError):
        print(f"{command}: {problem}", file=sys.stderr)
    return status


def _report_usage(error: Exception) -> int:
    """Say what is wrong with the command line, in one line; without any arguments the help is printed already."""
    message = " ".join(getattr(error, "format_message", error.__str__)().split())
    context = getattr(error, "ctx", None)
    return _report(message, 2, context.command_path if context is not None else "raytrade") if message else 2


def _let_go_of_output() -> None:
    """Standard output is broken: what is still buffered for it must not fail again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

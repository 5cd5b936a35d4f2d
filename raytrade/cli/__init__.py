"""The command line: parse, call, print.

Exit status: 0 done, 1 the run failed, 2 usage or configuration is wrong. An error is one line on standard error.
"""

from __future__ import annotations

import sys

import typer

from raytrade.cli import captures, demonstration, emulation, pipelines, venues
from raytrade.errors import ConfigError, RaytradeError

app = typer.Typer(
    name="raytrade",
    help="Redundant, broker-free order-book pipelines on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
pipelines.register(app)
demonstration.register(app)
captures.register(app)
emulation.register(app)
venues.register(app)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        app()
    except ConfigError as error:
        _fail(error, 2)
    except RaytradeError as error:
        _fail(error, 1)


def _fail(error: RaytradeError, status: int) -> None:
    print(f"raytrade: {error}", file=sys.stderr)
    raise SystemExit(status)

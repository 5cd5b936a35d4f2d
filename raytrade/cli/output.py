"""Consoles: as wide as the terminal, and wide enough for a table where there is none."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_COLUMNS = 160


def wide_console() -> Console:
    """Give a console on standard output; piped, it is `PIPED_COLUMNS` wide and writes no control codes."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_COLUMNS)

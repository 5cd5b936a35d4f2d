"""What commands share: consoles as wide as the terminal (or wide enough for a table), and the status after Ctrl-C."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_COLUMNS = 160

INTERRUPTED = 130
"""The shells' exit status of a command that Ctrl-C ended."""


def wide_console() -> Console:
    """Give a console on standard output; piped, it is `PIPED_COLUMNS` wide and writes no control codes."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_COLUMNS)

"""A websocket and REST server that speaks a venue's protocol, with faults on order.

It serves a recorded capture or a seeded synthetic market, and knows the truth: what was sent to
whom and what the books truly were. It shares no code with the venues or the arbitration, which
it is there to check.
"""

from .faults import GRAMMAR, KINDS, FaultRule, parse_fault, parse_faults
from .journal import FaultRecord, TrueBook, Truth
from .running import EmulatorThread, run_in_thread, serve
from .scripted_feed import Script, ScriptStep
from .server import Emulator
from .settings import EmulatorSettings
from .venues import DIALECTS

VENUES = tuple(sorted(DIALECTS))
"""Venues the synthetic market can speak."""

__all__ = [
    "GRAMMAR",
    "KINDS",
    "VENUES",
    "Emulator",
    "EmulatorSettings",
    "EmulatorThread",
    "FaultRecord",
    "FaultRule",
    "Script",
    "ScriptStep",
    "TrueBook",
    "Truth",
    "parse_fault",
    "parse_faults",
    "run_in_thread",
    "serve",
]

"""What a host says of itself: versions, limits, shared memory, clock, disks."""

from __future__ import annotations

import ctypes
import platform
import resource
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raytrade import __version__
from raytrade.core.clock import Nanos
from raytrade.core.native import CHOICE
from raytrade.observation.health import DiskFacts, HostFacts
from raytrade.transport.clock import SystemClock

_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)) with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _clock() -> tuple[bool | None, Nanos]:
    """Tell whether the network sets the clock, and how far it may be off."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None, 0
    timex = _Timex()
    if adjtimex(ctypes.byref(timex)) < 0:
        return None, 0
    return not timex.status & _UNSYNCHRONISED, timex.maxerror * 1000


def host_facts() -> HostFacts:
    """Give the facts of the host that this runs on."""
    synchronised, error_ns = _clock()
    try:
        ray = version("ray")
    except PackageNotFoundError:
        ray = "not installed"
    shared = Path("/dev/shm")
    return HostFacts(
        python=platform.python_version(),
        raytrade=__version__,
        ray=ray,
        files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        shared_memory_bytes=shutil.disk_usage(shared).free if shared.is_dir() else 0,
        clock_synchronised=synchronised,
        clock_error_ns=error_ns,
        now_ns=SystemClock().now_ns(),
        native=CHOICE.reason if CHOICE.native is not None else f"none: {CHOICE.reason}",
        native_refused=CHOICE.is_refused,
    )


def disk_facts(directory: str) -> DiskFacts:
    """Look at the place where a recording is to lie; it need not be there yet."""
    path = Path(directory).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return DiskFacts(directory=directory, problem=error.strerror or str(error), free_bytes=0)
    try:
        with tempfile.TemporaryFile(dir=path):
            problem = ""
    except OSError as error:
        problem = f"not writable: {error.strerror or error}"
    return DiskFacts(directory=directory, problem=problem, free_bytes=free)

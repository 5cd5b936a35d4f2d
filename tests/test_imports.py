"""The import contracts, and what importing the package costs."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("ray", "pyarrow", "numpy", "duckdb", "websockets", "asyncio", "pydantic")
PURE = (
    "raytrade",
    "raytrade.core.book",
    "raytrade.venues",
    "raytrade.arbitration",
    "raytrade.strategy.engine",
    "raytrade.replay",
)


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("module", PURE)
def test_pure_packages_load_nothing_heavy(module: str) -> None:
    loaded = python(f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY!r})))")
    assert loaded == "[]"


def test_import_takes_less_than_300_ms() -> None:
    """Of the processor's time: what else runs on the machine does not matter."""
    code = "import time; t = time.process_time(); import raytrade; print(time.process_time() - t)"
    assert statistics.median(float(python(code)) for _ in range(5)) < 0.3

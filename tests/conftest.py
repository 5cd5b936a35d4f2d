"""What all tests share: profiles of hypothesis, and the recordings.

``HYPOTHESIS_PROFILE`` chooses `fast` (the default: the same examples each time), `deep` or `night` (others each time;
``--hypothesis-seed`` repeats a run).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("deep", max_examples=300, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True)
settings.register_profile(
    "night", max_examples=5000, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

NOTHING_SKIPPED = bool(os.environ.get("RAYTRADE_NO_SKIP"))
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "captures"


class Folders(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps together, on one process, what shares a cluster or the imported recordings."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.split("/")[1]
        return folder if folder in ("ray", "golden") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Folders:
    """Divide the tests (``pytest -n 2``)."""
    return Folders(config, log)


@pytest.fixture(scope="session")
def captures() -> Path:
    """Give the folder of recordings, or skip the test."""
    folder = Path(os.environ.get("RAYTRADE_CAPTURES", BESIDE))
    if not folder.is_dir():
        pytest.skip("no captures (RAYTRADE_CAPTURES)")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped, where nothing may be."""
    if NOTHING_SKIPPED:
        for report in terminalreporter.stats.get("skipped", []):
            terminalreporter.write_line(f"not allowed to skip: {report.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With RAYTRADE_NO_SKIP a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if NOTHING_SKIPPED and exitstatus == 0 and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

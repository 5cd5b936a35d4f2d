"""One Ray of three labelled nodes for all tests of a run, apart from any other that runs on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from raytrade.demo.nodes import Nodes

HERE = Path(__file__).parent
LONG = (
    "test_chaos.py",
    "test_moves.py",
    "test_nodes.py",
    "test_recorders.py",
    "test_regions.py",
    "test_run_command.py",
    "test_standby.py",
    "test_sweep.py",
    "test_upgrade.py",
    "test_watching.py",
)
"""Pipelines of their own beside those of the main suite: run by `pytest -m long`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, and be patient: the machine may be busy."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ray)
            if item.path.name in LONG:
                item.add_marker(pytest.mark.long)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """Give three nodes, each of which may carry every role, and be connected to them."""
    from raytrade.demo.nodes import Nodes

    with tempfile.TemporaryDirectory(prefix="rt-", ignore_cleanup_errors=True) as directory:
        started = Nodes(Path(directory))
        yield started
        started.stop()

"""What all tests share: profiles of hypothesis, and the recordings.

``HYPOTHESIS_PROFILE`` chooses `fast` (the default), `ci` or `night`; ``--hypothesis-seed`` repeats a run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("fast", max_examples=60, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", max_examples=300, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True)
settings.register_profile("night", max_examples=5000, deadline=None, suppress_health_check=SLOW_IS_FINE, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "captures"


@pytest.fixture(scope="session")
def captures() -> Path:
    """Give the folder of recordings, or skip the test."""
    folder = Path(os.environ.get("RAYTRADE_CAPTURES", BESIDE))
    if not folder.is_dir():
        pytest.skip("no captures (RAYTRADE_CAPTURES)")
    return folder

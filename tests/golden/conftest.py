"""What the tests on recordings share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.recordings import Library, Recording


@pytest.fixture(scope="session")
def library(captures: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(captures, tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def recording(request: pytest.FixtureRequest, library: Library) -> Recording:
    """The recording that the test names by its (indirect) parameter."""
    return library(request.param)

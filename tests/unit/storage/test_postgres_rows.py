"""What a database is given: where it is, and how rows are numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raytrade.errors import ConfigError
from raytrade.storage.postgres import _numbers, address_of


def test_rows_of_a_message_are_numbered_over_the_end_of_a_piece() -> None:
    first = _numbers(np.array([4, 4, 5, 5, 5]), -1, -1)
    assert first.tolist() == [0, 1, 0, 1, 2]
    assert _numbers(np.array([5, 5, 6, 7, 7]), 5, 2).tolist() == [3, 4, 0, 0, 1]
    assert _numbers(np.array([6, 6]), 5, 2).tolist() == [0, 1]


def test_a_password_need_not_stand_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECORDS", "postgresql://u:p@h/d")
    assert address_of("env:RECORDS") == "postgresql://u:p@h/d"
    path = tmp_path / "address"
    path.write_text("postgresql://u:p@h/e\n")
    with pytest.raises(ConfigError, match="others can read it"):
        address_of(f"file:{path}")
    path.chmod(0o600)
    assert address_of(f"file:{path}") == "postgresql://u:p@h/e"
    with pytest.raises(ConfigError, match="the variable NOTHING is not set"):
        address_of("env:NOTHING")

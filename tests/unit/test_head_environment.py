"""What the nodes of a cluster find in their environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrade.errors import ConfigError
from raytrade.pipeline.head import RECONNECT_S, head_environment, node_environment


def test_every_node_outlives_the_head_for_long() -> None:
    assert node_environment()["RAY_gcs_rpc_server_reconnect_timeout_s"] == str(RECONNECT_S)
    assert head_environment(None).items() >= node_environment().items()


def test_the_head_keeps_its_tables_in_a_directory(tmp_path: Path) -> None:
    storage = tmp_path / "gcs"
    environment = head_environment(storage)
    assert (environment["RAY_gcs_storage"], environment["RAY_gcs_storage_path"]) == ("rocksdb", str(storage))
    assert storage.is_dir()
    assert "RAY_gcs_storage" not in head_environment(None)


def test_silence_of_15_to_20_s_is_death() -> None:
    found = head_environment(None)
    period, timeout = (int(found[f"RAY_health_check_{part}_ms"]) for part in ("period", "timeout"))
    checks = int(found["RAY_health_check_failure_threshold"])
    assert 15_000 <= checks * period <= checks * max(period, timeout) <= 20_000


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Not a directory|File exists"):
        head_environment(tmp_path / "file" / "gcs")

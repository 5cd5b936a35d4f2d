"""New code and more shards under a running pipeline: nobody misses an update."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

import raytrade
from raytrade.config import check_config
from raytrade.demo.nodes import Nodes
from raytrade.pipeline import driver
from tests.ray.running import BINANCE, Running, data_of, running, until

VERSION = "9.9.9"


def code(directory: Path, pattern: str, replacement: str, file: str) -> Path:
    """Lay this project's code down once more, with something changed in it."""
    shutil.copytree(Path(raytrade.__file__).parent, directory / "raytrade")
    path = directory / "raytrade" / file
    text, found = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert found == 1
    path.write_text(text)
    return directory


def versions(pipeline: Running) -> set[str]:
    actors = [pipeline.handle(name) for name in pipeline.status()["actors"]]
    return {one.version for one in ray.get([actor.code.remote() for actor in actors])}


def upgrade(nodes: Nodes, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raytrade", "upgrade", "--code", str(folder), "--address", nodes.address]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def apart(data: dict[str, Any]) -> None:
    data["failure_domain"] = "region"


def test_more_shards_and_new_code_lose_nothing(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = code(tmp_path / "newer", r"^__version__ = .*$", f'__version__ = "{VERSION}"', "__init__.py")
    recording = tmp_path / "recording"
    with running("upgrade", recording, BINANCE, apart, rate=200.0) as pipeline:
        pipeline.begin()
        pipeline.let_flow()
        data = data_of("upgrade", pipeline.exchanges, recording, BINANCE) | {"failure_domain": "region"}
        data["dedup"] |= {"shards": 2}
        assert any(text.startswith("dedup: ") for text in driver.start(check_config(data, "upgrade")).changes)
        assert len(pipeline.actors("dedup")) == 4
        pipeline.let_flow()

        done = upgrade(nodes, newer)
        assert done.returncode == 0, done.stderr
        rounds = [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith(("superv", "region"))]
        assert rounds == ["supervisor", "region frankfurt", "region london", "region zurich"]
        monkeypatch.setattr(driver, "__version__", VERSION)
        assert versions(pipeline) == {VERSION} and pipeline.status()["version"] == VERSION
        until(pipeline.is_redundant, "all linked again")
        pipeline.let_flow()
        truths = pipeline.finish()
        pipeline.check_strategy("watch", truths, whole=False)
        pipeline.stop()
        pipeline.check_files(truths)

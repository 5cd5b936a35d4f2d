"""What is shipped beside the code: container file, workflow, typing marker, the checks' scripts."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_container_file_copies_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    allowed = (ROOT / ".dockerignore").read_text().split()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed
    version = re.search(r"^FROM python:(\d+)\.(\d+)", text, re.MULTILINE)
    minimum = re.search(r"(\d+)\.(\d+)", PROJECT["requires-python"])
    assert version is not None
    assert minimum is not None
    assert [int(part) for part in version.groups()] >= [int(part) for part in minimum.groups()]
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "raytrade"}
    assert needed == set(copied), "what the build needs, and nothing else"


def test_the_workflow_runs_what_is_run_here() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps


def test_scripts_can_be_run_and_types_are_marked() -> None:
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.is_file()]
    assert {path.name for path in scripts} >= {"run", "docs", "monitoring", "package"}
    assert all(os.access(path, os.X_OK) for path in scripts)
    assert (ROOT / "raytrade" / "py.typed").is_file()

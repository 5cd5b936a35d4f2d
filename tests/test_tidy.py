"""The house style, as far as a program can see it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "raytrade").rglob("*.py"))
FOLDERS = ("raytrade", "tests", "benchmarks", "examples")
EVERYTHING = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
BODY_LINES_MAX = 60
FILE_LINES_MAX = 500
METHODS_MAX = 40
PARAMETERS_MAX = 7
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_file(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= FILE_LINES_MAX
    assert path.stem not in DRAWERS
    assert ast.get_docstring(tree), "a module says what it is"
    for function in functions(tree):
        assert body_lines(function) <= BODY_LINES_MAX, function.name
        parameters = [a for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")]
        is_command = path.parent.name == "cli"
        assert is_command or len(parameters) + len(function.args.kwonlyargs) <= PARAMETERS_MAX, function.name
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert sum(isinstance(part, ast.FunctionDef) for part in node.body) <= METHODS_MAX, node.name


def test_no_leftovers() -> None:
    mark = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")))
    assert [str(path) for path in EVERYTHING if mark.search(path.read_text())] == []


def test_no_sleeping_in_sources() -> None:
    assert [str(path) for path in SOURCES if "time.sleep(" in path.read_text()] == []


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/RESULTS.md"])
def test_links_lead_to_files(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []

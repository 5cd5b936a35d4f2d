"""Runs every block of code in the documents, page by page, or says why one is not run.

    python docs/blocks.py [PAGE...]

``python`` blocks of a page share one namespace, ``sh`` blocks one directory, ``yaml`` blocks are checked as
configurations; ``text`` is output and not run. A block under a comment ``<!-- not run: why -->`` is listed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
REMARK = r"(?:<!-- (?P<why>[^>]*) -->\n)?"
BLOCK = re.compile(REMARK + r"^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL_TIMEOUT_S = 180
PAGES_AT_ONCE = 2
NOT_RUN = {
    "chaos.md": "needs a running pipeline, and kills parts of it; `tests/ray/test_chaos.py` runs the commands",
    "scaling.md": "needs machines of their own",
    "security.md": "needs a cluster on several hosts; `python -m tests.hosts` builds one",
}


def check_page(path: Path) -> None:
    """Run the page's blocks from first to last; the first error ends it."""
    if path.name in NOT_RUN:
        print(f"{path.name}: not run: {NOT_RUN[path.name]}")
        return
    namespace: dict[str, Any] = {"__name__": "__page__"}
    ran = 0
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        (Path(directory) / "examples").symlink_to(HERE.parent / "examples")
        for block in BLOCK.finditer(path.read_text()):
            kind, text, why = block["kind"], block["text"], block["why"] or ""
            line = path.read_text()[: block.start()].count("\n") + 1
            if why.startswith("not run: "):
                print(f"  {path.relative_to(HERE)}:{line}: {why}")
            elif kind not in ("python", "sh", "yaml", "text", "sql"):
                raise SystemExit(f"{path}:{line}: a block of kind {kind!r} is neither run nor marked as output")
            elif kind != "text":
                _run(kind, text, why, f"{path.relative_to(HERE)}:{line}", namespace)
                ran += 1
    print(f"{path.relative_to(HERE)}: {ran} blocks ran", flush=True)


def _run(kind: str, text: str, why: str, place: str, namespace: dict[str, Any]) -> None:
    if why.startswith("file: "):
        name = Path(why.removeprefix("file: "))
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(text)
    match kind:
        case "python":
            exec(compile(text, place, "exec"), namespace)
        case "sh":
            bin_ = Path(sys.executable).parent
            environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled"}
            command = ["bash", "-euo", "pipefail", "-c", text]
            subprocess.run(command, check=True, timeout=SHELL_TIMEOUT_S, env=environment, stdout=subprocess.DEVNULL)
        case "yaml":
            from raytrade.config import check_config

            check_config(yaml.safe_load(text), place)


def main(names: list[str]) -> int:
    """Check the named pages, or all of them, each in a process of its own."""
    pages = [HERE / name for name in names] or sorted(HERE.rglob("*.md"))
    if len(pages) == 1:
        check_page(pages[0])
        return 0
    with ThreadPool(PAGES_AT_ONCE) as pool:
        failed = [page for page in pool.imap(_check_apart, pages) if page is not None]
    for page in failed:
        print(f"{page}: a block failed", file=sys.stderr)
    return 1 if failed else 0


def _check_apart(page: Path) -> Path | None:
    """Check a page in a process of its own; gives it if it failed."""
    command = [sys.executable, __file__, str(page)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(ended.stdout, end="", flush=True)
    return page if ended.returncode else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Runs every notebook of this folder from its first cell to its last; the first error ends it.

python -m examples.notebooks.execute [NAME...]
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

read: Any = import_module("nbformat").reads
NotebookClient: Any = import_module("nbclient").NotebookClient

HERE = Path(__file__).parent
CELL_TIMEOUT_S = 180
AT_ONCE = 2


def main(names: list[str]) -> int:
    """Execute the named notebooks, or all of them."""
    paths = [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, cells in pool.map(execute, paths):
            print(f"{name}: {cells} cells ran", flush=True)
    return 0


def execute(path: Path) -> tuple[str, int]:
    """Run a notebook in a kernel of its own; gives its name and how many cells it has."""
    notebook = read(path.read_text(), as_version=4)
    asyncio.run(
        NotebookClient(notebook, timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(HERE)}}).async_execute()
    )
    return path.name, sum(cell.cell_type == "code" for cell in notebook.cells)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

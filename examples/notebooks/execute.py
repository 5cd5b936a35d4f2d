"""Runs every notebook of this folder from its first cell to its last; the first error ends it.

python -m examples.notebooks.execute [NAME...]
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

read: Any = import_module("nbformat").reads
NotebookClient: Any = import_module("nbclient").NotebookClient

HERE = Path(__file__).parent
CELL_TIMEOUT_S = 60


def main(names: list[str]) -> int:
    """Execute the named notebooks, or all of them."""
    paths = [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        notebook = read(path.read_text(), as_version=4)
        client = NotebookClient(notebook, timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(HERE)}})
        client.execute()
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f"{path.name}: {cells} cells ran", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

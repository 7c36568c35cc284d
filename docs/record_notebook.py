"""Run docs/notebook.ipynb again and keep what its cells show.

It runs in a clone of the last commit, in the folder that it lies in; minutes on two cores, most of
them for the training in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from coverage_principle.cli import command_parser, run
from coverage_principle.data import write_text
from coverage_principle.paths import repository_root

NOTEBOOK = Path("docs") / "notebook.ipynb"


def main(_: argparse.Namespace) -> None:
    import nbformat

    root = repository_root()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / root.name
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
        os.environ["PYTHONPATH"] = f"{clone}{os.pathsep}{clone / 'simpletransformers'}"
        notebook = nbformat.read(clone / NOTEBOOK, as_version=4)
        execute(notebook, clone)
    write_text(root / NOTEBOOK, nbformat.writes(notebook) + "\n")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    print(f"{NOTEBOOK}: {len(code)} cells of code, {len(notebook.cells)} in all")


def execute(notebook, root: Path, seconds: int = 600) -> None:
    """Run the cells of a notebook that lies in the checkout ``root``, and keep their outputs.

    What depends on the machine and the time goes: kernel, versions, durations, progress bars.
    """
    from nbclient import NotebookClient

    folder = str(root / NOTEBOOK.parent)
    NotebookClient(
        notebook, timeout=seconds, record_timing=False, resources={"metadata": {"path": folder}}
    ).execute()
    notebook.metadata = {"language_info": {"name": "python"}}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]


if __name__ == "__main__":
    run(command_parser(__doc__), main)

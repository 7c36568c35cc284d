"""Run the commands of docs/outputs.json again and keep there what they print, as the pages show it.

They run in a clone of the last commit, in the file's order: minutes on two cores. To add one, add
its page, the folder it runs in and the command to the file.
`tests/test_docs.py` compares the pages with the file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from coverage_principle.cli import command_parser, run
from coverage_principle.data import write_json
from coverage_principle.errors import InputError
from coverage_principle.paths import repository_root

FILE = repository_root() / "docs" / "outputs.json"

#: Makes the runs that commands on ``results/quickstart`` read.
QUICKSTART = "bash script/quickstart.sh --no-install"
_PHI = "results/coverage_by_phi"
#: Files of the clone that pages show, and where they lie here.
KEPT = {
    "results/required_data/required_twohop_b_seen-0.7.json": "docs/results/required_data",
    "results/required_data/required_twohop_b_seen-0.7.png": "docs/results/required_data",
    "results/predicted_data/predicted_twohop_seen-0.7.png": "docs/results/predicted_data",
    f"{_PHI}/coverage_by_phi_r-200_d-20_ood-0.05.json": f"docs/{_PHI}",
    f"{_PHI}/coverage_by_phi_r-200_d-20_ood-0.05.png": f"docs/{_PHI}",
    "circuit_analysis/tracing_results/trace/deliveries_wd-0.3_layer-2_head-4_seed-42_residual_diff_"
    "f1_rank.png": "docs/images/own_table.png",
    "results/grid/residual/grid.2-hop/b/final_checkpoint/iicg.png": "docs/images/own_triples.png",
    "CKPT_DIR/trained_checkpoints/their-composition_wd-0.1_layer-2_head-4_seed-42/curves.png": (
        "docs/images/own_grokked.png"
    ),
    "results/quickstart/figures/accuracy_by_type.png": "docs/images/quickstart_types.png",
    "results/quickstart/figures/accuracy_by_k.png": "docs/images/quickstart_k_cutoff.png",
}


def main(_: argparse.Namespace) -> None:
    root = repository_root()
    records = json.loads(FILE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / root.name
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
        for record in records:
            command = record["command"]
            if "results/quickstart" in command and not (clone / "results/quickstart").exists():
                printed(QUICKSTART, clone, clone)
            record["output"] = printed(command, clone / record["folder"], clone)
        for source, target in KEPT.items():
            shutil.copy(clone / source, root / target)
    write_json(FILE, records)
    print(f"{FILE.relative_to(root)}: {len(records)} outputs")


def printed(command: str, folder: Path, clone: Path) -> list[str]:
    """The lines that a command prints; what it says on the error stream is passed through."""
    print(f"$ {command}", flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = f"{clone}{os.pathsep}{clone / 'simpletransformers'}"  # not what is installed
    env = {**os.environ, "PATH": path, "PYTHONPATH": own}
    options = {"cwd": folder, "env": env, "stdout": subprocess.PIPE, "text": True}
    finished = subprocess.run(shlex.split(command), check=False, **options)
    if finished.returncode:
        raise InputError(f"{command} ended with exit code {finished.returncode}")
    return [line.rstrip() for line in finished.stdout.splitlines()]


if __name__ == "__main__":
    run(command_parser(__doc__), main)

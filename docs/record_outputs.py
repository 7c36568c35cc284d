"""Run the commands whose output README and docs/ show, and keep what they print in outputs.json.

They run in a clone of the last commit, in the order given here: minutes on two cores.
`tests/test_docs.py` compares the pages with the file.
"""

from __future__ import annotations

import argparse
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

_NAME = "twohop.50.10000.diff-f12.inf"
_COVERAGE = f"python determine_coverage.py --data_dir data/{_NAME}"
_QUICKSTART = "results/quickstart/runs/419ebd407491/model"
_REQUIRED = "python script/required_data.py --num_tokens"

_CIRCUITS = "circuit_analysis/hierarchical/2-hop"
_SEEDS, _HUNDRED = (",".join(map(str, seeds)) for seeds in (range(42, 52), range(100)))

#: The page that shows the output, the folder that the command runs in, and the command.
EXAMPLES = (
    (
        "README.md",
        "dataset_generation",
        "python twohop.py --num_tokens 50 --max_train_data_num 10000 --default_seen_ratio 0.7 "
        "--test_size_for_type 2000 --seed 42",
    ),
    ("README.md", ".", f"{_COVERAGE}/ --min_evidence 1 --k_sweep"),
    ("README.md", ".", f"bash script/train.sh {_NAME} 0.1 8 12 cpu 42 --max_steps 2"),
    ("docs/coverage.md", ".", f"{_COVERAGE} --min_evidence 2 --scope domain"),
    ("docs/coverage.md", ".", f'{_COVERAGE} --explain "<t_42><t_21><t_19>"'),
    ("docs/coverage.md", ".", f"{_COVERAGE} --min_evidence 3 --suggest 500"),
    ("docs/required_data.md", ".", f"{_REQUIRED} 50,70,100,150,200 --seeds {_SEEDS}"),
    (
        "docs/required_data.md",
        ".",
        f"{_REQUIRED} 50 --seeds {_HUNDRED} --output_dir results/hundred",
    ),
    (None, ".", "bash script/quickstart.sh --no-install"),
    (
        "README.md",
        _CIRCUITS,
        f"python collapse_analysis_2-hop.py --ckpt {_QUICKSTART}/final_checkpoint "
        "--layer_pos_pairs all --save_dir ./results/cosine_analysis --atomic_idx 1 --mode residual",
    ),
    (
        "README.md",
        _CIRCUITS,
        f"python causal_tracing_2-hop.py --model_dir {_QUICKSTART} --step_list final_checkpoint "
        "--metric_type rank",
    ),
    ("docs/circuit_analysis.md", ".", f"python circuit_analysis/lens.py --model_dir {_QUICKSTART}"),
)
#: Files of the clone that pages show, and where they lie here.
KEPT = {
    "results/required_data/required_twohop_b_seen-0.7.json": "docs/results/required_data",
    "results/required_data/required_twohop_b_seen-0.7.png": "docs/results/required_data",
    "results/quickstart/figures/accuracy_by_type.png": "docs/images/quickstart_types.png",
    "results/quickstart/figures/accuracy_by_k.png": "docs/images/quickstart_k_cutoff.png",
}


def main(_: argparse.Namespace) -> None:
    root = repository_root()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / root.name
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
        records = []
        for page, where, command in EXAMPLES:
            print(f"$ {command}", flush=True)
            output = printed(command, clone / where, clone)
            if page is not None:
                record = {"page": page, "folder": where, "command": command}
                records.append(record | {"output": output})
        for source, target in KEPT.items():
            shutil.copy(clone / source, root / target)
    write_json(FILE, records)
    print(f"{FILE.relative_to(root)}: {len(records)} outputs")


def printed(command: str, folder: Path, clone: Path) -> list[str]:
    """The lines that a command prints; what it says on the error stream is passed through."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
    options = {"cwd": folder, "env": env, "stdout": subprocess.PIPE, "text": True}
    finished = subprocess.run(shlex.split(command), check=False, **options)
    if finished.returncode:
        raise InputError(f"{command} ended with exit code {finished.returncode}")
    return [line.rstrip() for line in finished.stdout.splitlines()]


if __name__ == "__main__":
    run(command_parser(__doc__), main)

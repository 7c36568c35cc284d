"""What the commands of the claims share: flags, runs, and what is printed of the result."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import CancelledError
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sweeping import launcher_flags, sweeping, watch

from coverage_principle.cli import add_settings, command_parser, run, table
from coverage_principle.experiments import ClaimSettings

_ABOUT = (
    "Trains the models that it needs (runs that are done are not done again), and writes a figure, "
    "tables, numbers and sentences computed from them. k, the k-cutoff of an item, is in how many "
    "contexts the training set shows the fragments that lead to it acting alike."
)


def claim_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of the command of a claim."""
    command = f"python script/reproduce/{name}.py"
    examples = (
        ("see that it runs, in a minute or two", f"{command} --scale tiny"),
        ("in minutes on a laptop, two runs at a time", f"{command} --scale cpu --jobs 2"),
        ("on two GPUs", f"{command} --scale gpu --gpus 0,1"),
    )
    parser = command_parser(f"{description}\n\n{_ABOUT}", examples)
    add_settings(parser, ClaimSettings)
    launcher_flags(parser, ("local", "slurm"))
    return parser


def reproduce(name: str, description: str) -> None:
    """Be the command of the claim ``name``."""

    def main(arguments: argparse.Namespace) -> None:
        from coverage_principle.data import check_place
        from coverage_principle.experiments.claims import CLAIMS, write_result
        from coverage_principle.paths import relative_to_root, repository_root

        claim, scale = CLAIMS[name], arguments.scale
        default = repository_root() / "results" / "reproduce" / scale
        root = check_place(arguments.output_dir or default).resolve()
        print(f"{claim.title}: scale {scale}, in {relative_to_root(root)}", flush=True)
        with sweeping(arguments, root) as sweep:
            numbers = watch(sweep, lambda: claim.collect(sweep, scale))
        folder = root / name
        command = f"python script/reproduce/{name}.py --scale {scale}"
        result = write_result(claim, numbers, folder, scale=scale, command=command, sweep=sweep)
        sweep.ledger.write_table()
        for one in claim.tables(numbers):
            print(f"\n{one.title}\n{table(one.header, one.rows)}")
        print(f"\npublished: {claim.published}\n")
        for sentence in result["findings"]:
            print(f"- {sentence}")
        files = "README.md, figure.png, figure.pdf, numbers.json, tables as CSV"
        print(f"\n{relative_to_root(folder)}: {files}")

    parser = claim_parser(name, description)
    run(parser, main, refusals=lambda: (CancelledError,))  # a run was stopped from outside

"""What the commands of the claims share: flags, runs, and what is printed of the result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sweeping import interruptions, launcher_flags, sweeping, watch

from coverage_principle.cli import run, table


def claim_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every claim."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--scale",
        choices=("tiny", "cpu", "gpu", "paper"),
        default="cpu",
        help="tiny: only shows that it runs; cpu: minutes on a laptop; gpu: hours on one GPU; "
        "paper: as published",
    )
    add(
        "--output_dir",
        default=None,
        help="where runs and results go (default: results/reproduce/SCALE in the repository); "
        "claims in one folder share their runs",
    )
    launcher_flags(parser, ("local", "slurm"))
    return parser


def reproduce(name: str, description: str) -> None:
    """Be the command of the claim ``name``."""

    def main(arguments: argparse.Namespace) -> None:
        from coverage_principle.experiments.claims import CLAIMS, write_result
        from coverage_principle.paths import relative_to_root, repository_root

        claim = CLAIMS[name]
        default = repository_root() / "results" / "reproduce" / arguments.scale
        root = Path(arguments.output_dir or default).resolve()
        print(f"{claim.title}: scale {arguments.scale}, in {relative_to_root(root)}", flush=True)
        with sweeping(arguments, root) as sweep:
            numbers = watch(sweep, lambda: claim.collect(sweep, arguments.scale))
        folder = root / name
        command = f"python script/reproduce/{name}.py --scale {arguments.scale}"
        result = write_result(
            claim, numbers, folder, scale=arguments.scale, command=command, sweep=sweep
        )
        sweep.ledger.write_table()
        for one in claim.tables(numbers):
            print(f"\n{one.title}\n{table(one.header, one.rows)}")
        print(f"\npublished: {claim.published}\n")
        for sentence in result["findings"]:
            print(f"- {sentence}")
        print(
            f"\n{relative_to_root(folder)}: README.md, figure.png, figure.pdf, numbers.json, "
            "tables as CSV"
        )

    run(claim_parser(description), main, refusals=interruptions)

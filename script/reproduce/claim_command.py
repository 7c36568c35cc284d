"""What the commands of the claims share: flags, runs, and what is printed of the result."""

from __future__ import annotations

import argparse
import shlex
import sys
from concurrent.futures import CancelledError
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sweeping import launcher_flags, sweeping, watch

from coverage_principle.cli import add_settings, command_parser, run, settings_from, table
from coverage_principle.experiments import ClaimSettings
from simpletransformers.settings import Settings

_ABOUT = (
    "Trains the models that it needs (runs that are done are not done again), and writes a figure, "
    "tables, numbers and sentences computed from them. The k-cutoff of an item says how firmly the "
    "training set covers it: in how many contexts the fragments act alike whose swap makes it a "
    "training item."
)


def claim_parser(
    name: str, description: str, own: type[Settings] | None = None
) -> argparse.ArgumentParser:
    """The parser of the command of a claim, with the flags of ``own`` settings that only it has."""
    command = f"python script/reproduce/{name}.py"
    examples = (
        ("see that it runs, in a minute or two", f"{command} --scale tiny"),
        ("in minutes on a laptop, two runs at a time", f"{command} --scale cpu --jobs 2"),
        ("on two GPUs", f"{command} --scale gpu --gpus 0,1"),
    )
    parser = command_parser(f"{description}\n\n{_ABOUT}", examples)
    add_settings(parser, ClaimSettings)
    if own:
        add_settings(parser, own)
    launcher_flags(parser, ("local", "slurm"))
    return parser


def reproduce(name: str, description: str, own: type[Settings] | None = None) -> None:
    """Be the command of the claim ``name``; its ``collect`` is given its ``own`` settings."""

    def main(arguments: argparse.Namespace) -> None:
        from coverage_principle.data import check_place
        from coverage_principle.experiments.claims import CLAIMS, write_result
        from coverage_principle.experiments.settings import flags
        from coverage_principle.paths import relative_to_root, repository_root

        claim, scale = CLAIMS[name], arguments.scale
        settings = [settings_from(own, arguments)] if own else []
        default = repository_root() / "results" / "reproduce" / scale
        root = check_place(arguments.output_dir or default).resolve()
        print(f"{claim.title}: scale {scale}, in {relative_to_root(root)}", flush=True)
        with sweeping(arguments, root) as sweep:
            numbers = watch(sweep, lambda: claim.collect(sweep, scale, *settings))
        folder = root / name
        given = {k: v for one in settings for k, v in vars(one).items() if v}
        words = ["python", f"script/reproduce/{name}.py", *flags({"scale": scale, **given})]
        command = shlex.join(words)
        result = write_result(claim, numbers, folder, scale=scale, command=command, sweep=sweep)
        sweep.ledger.write_table()
        for one in claim.tables(numbers):
            print(f"\n{one.title}\n{table(one.header, one.rows)}")
        print(f"\npublished: {claim.published}\n")
        for sentence in result["findings"]:
            print(f"- {sentence}")
        files = "README.md, figure.png, figure.pdf, numbers.json, tables as CSV"
        print(f"\n{relative_to_root(folder)}: {files}")

    parser = claim_parser(name, description, own)
    run(parser, main, refusals=lambda: (CancelledError,))  # a run was stopped from outside

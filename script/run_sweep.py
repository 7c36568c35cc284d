"""Run a grid of settings: generate, cover, train, evaluate and analyse each, once.

SPEC.json names what to run (docs/sweeps.md tells how). Each run has a folder named by a hash of its
settings; what is finished is skipped, what was interrupted goes on, and every finished run is a
line of results.jsonl and a row of results.csv. Start it again at any time.
"""

from __future__ import annotations

import argparse
from concurrent.futures import wait
from pathlib import Path

from sweeping import launcher_flags, report_trouble, sweeping, watch

from coverage_principle.cli import command_parser, run, table
from simpletransformers.words import counted


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("spec", metavar="SPEC.json", help="base settings and a grid")
    where = "the sweep's folder (default: results/sweeps/NAME in the repository)"
    parser.add_argument("--output_dir", help=where)
    launcher_flags(parser, ("local", "slurm", "print"))
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import check_place
    from coverage_principle.experiments import read_spec
    from coverage_principle.paths import relative_to_root, repository_root

    spec = read_spec(Path(arguments.spec))
    default = repository_root() / "results" / "sweeps" / spec.name
    root = check_place(arguments.output_dir or default).resolve()
    if arguments.launcher == "print":
        show_commands(spec, root)
        return
    print(f"{spec.name}: {counted(len(spec.runs), 'run')} in {relative_to_root(root)}")
    from coverage_principle.experiments.report import accuracy_rows

    with sweeping(arguments, root) as sweep:
        futures = sweep.submit_all(spec.runs)
        watch(sweep, lambda: wait(futures))
    file = sweep.ledger.write_table()
    records = [sweep.ledger.records.get(one.id, {"status": "open"}) for one in spec.runs]
    header, rows = accuracy_rows(records)
    for one, record, row in zip(spec.runs, records, rows, strict=True):
        row[:0] = f"{one.id}  {one.label}", record["status"]
    print(f"\n{table(['run', 'status', *header], rows)}\n")
    print(f"results: {relative_to_root(file)}, {relative_to_root(file.with_suffix('.jsonl'))}")
    report_trouble(sweep, spec.runs, futures)


def show_commands(spec, root: Path) -> None:
    """The commands of every run, those that runs share only once."""
    from coverage_principle.experiments import Workplace

    place, shown = Workplace(root), set()
    for one in spec.runs:
        print(f"# {one.id}  {one.label}")
        for command in one.commands(place.run_folder(one), place.shared_folder(one)):
            if not command.stage.shared or one.shared_id not in shown:
                print(command.shown())
        shown.add(one.shared_id)


if __name__ == "__main__":
    run(build_parser(), main)

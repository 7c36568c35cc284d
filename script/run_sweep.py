"""Run a grid of settings: make the data, find coverage, train, evaluate and analyse, each once.

SPEC.json holds the flags of these commands, and lists of values for some of them (docs/sweeps.md).
Each combination is a run in a folder of its own. Start the command again at any time: what is
finished is skipped, what was interrupted goes on. Every finished run is a line of results.jsonl and
a row of results.csv.
"""

from __future__ import annotations

import argparse
from concurrent.futures import wait
from pathlib import Path

from sweeping import launcher_flags, report_trouble, sweeping, watch

from coverage_principle.cli import command_parser, group_of, run, table
from simpletransformers.words import counted

_COMMAND = "python script/run_sweep.py docs/tutorial/weight_decay.json"
EXAMPLES = (
    ("the commands that a sweep would run", f"{_COMMAND} --launcher print"),
    ("the sweep of docs/tutorial.md, two runs at a time", f"{_COMMAND} --jobs 2"),
    ("run again what failed", f"{_COMMAND} --retry_failed"),
    (
        "on a cluster",
        f"{_COMMAND} --launcher slurm --jobs 8 --slurm slurm_partition=gpu --slurm timeout_min=120",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "the settings that all runs share, and those of which each run has its own values"
    group_of(parser, "job").add_argument("spec", metavar="SPEC.json", help=about)
    where = "the sweep's folder (default: results/sweeps/NAME of the repository)"
    group_of(parser, "written").add_argument("--output_dir", help=where)
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

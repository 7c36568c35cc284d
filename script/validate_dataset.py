"""Check a data set, ours or the published generators', and list every problem in it.

Exit status 1 if there is a problem that keeps it from being used as it is meant, else 0. What does
not (an overlap of train and test, no metadata.json) is listed as a note.
"""

from __future__ import annotations

import argparse
import sys

from coverage_principle.cli import command_parser, run
from simpletransformers.words import counted


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("data_dir", help="the data set's folder, or the name of one in data/")
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import validate
    from coverage_principle.paths import find_folder, relative_to_root

    path = find_folder(arguments.data_dir, "data_dir", also_in="data")
    dataset, problems = validate(path)
    for problem in problems:
        print(f"{'note' if problem.tolerable else 'problem'}: {problem}")
    serious = sum(not problem.tolerable for problem in problems)
    if dataset is not None:
        tested = len(dataset.test) + (len(dataset.valid) if dataset.valid else 0)
        print(
            f"{relative_to_root(path)}: task {dataset.graph.name}, read "
            f"{counted(len(dataset.train), 'training composition')} and {tested:,} of test and "
            "validation"
        )
    print(f"{counted(serious, 'problem')}, {counted(len(problems) - serious, 'note')}")
    if serious:
        sys.exit(1)


if __name__ == "__main__":
    run(build_parser(), main)

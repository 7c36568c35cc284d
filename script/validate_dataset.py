"""Check a data set, ours or the published generators', and list every problem in it.

Exit status 1 if there is a problem that keeps it from being used as it is meant, else 0. What does
not (an overlap of train and test, no metadata.json) is listed as a note.
"""

from __future__ import annotations

import argparse
import sys

from coverage_principle.cli import command_parser, group_of, run


def build_parser() -> argparse.ArgumentParser:
    example = "python script/validate_dataset.py twohop.20.1500.diff-f12.inf"
    parser = command_parser(__doc__, [("the data set of this repository", example)])
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("data_dir", metavar="DATA_DIR", help=about)
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
            f"{relative_to_root(path)}: task {dataset.graph.name}, {len(dataset.train):,} training "
            f"compositions and {tested:,} of test and validation read"
        )
    print(f"{serious:,} problems, {len(problems) - serious:,} notes")
    if serious:
        sys.exit(1)


if __name__ == "__main__":
    run(build_parser(), main)

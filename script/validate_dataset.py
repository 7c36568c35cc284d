"""Check a data set, ours or the published generators', and tell every problem in it.

Problems of one cause are told together: how many records have it, the first of them, what to do.
Exit status 1 if there is a problem that keeps it from being used as it is meant, else 0. What does
not (an overlap of train and test, no metadata.json) is listed as a note.
"""

from __future__ import annotations

import argparse
import sys

from coverage_principle.cli import command_parser, group_of, run
from simpletransformers.words import counted


def build_parser() -> argparse.ArgumentParser:
    example = "python script/validate_dataset.py twohop.20.1500.diff-f12.inf"
    parser = command_parser(__doc__, [("the data set of this repository", example)])
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("data_dir", metavar="DATA_DIR", help=about)
    about = "every record's number, instead of the first three of each file"
    group_of(parser, "shown").add_argument("--all", action="store_true", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import grouped, validate
    from coverage_principle.paths import find_folder, relative_to_root

    path = find_folder(arguments.data_dir, "data_dir", also_in="data")
    dataset, problems = validate(path)
    groups = grouped(problems)
    for group in groups:
        lines = group.lines(all_records=arguments.all)
        print(f"{'note' if group.tolerable else 'problem'}:", "\n".join(lines))
    serious = sum(not group.tolerable for group in groups)
    if dataset is not None:
        tested = len(dataset.test) + (len(dataset.valid) if dataset.valid else 0)
        print(
            f"{relative_to_root(path)}: task {dataset.graph.name}, read "
            f"{counted(len(dataset.train), 'training composition')} and {tested:,} of test and "
            "validation"
        )
    print(f"{counted(serious, 'problem')}, {counted(len(groups) - serious, 'note')}")
    if serious:
        sys.exit(1)


if __name__ == "__main__":
    run(build_parser(), main)

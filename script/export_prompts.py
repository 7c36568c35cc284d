"""Turn the items of a data set into prompts in natural language, a JSON object a line.

For any language model, to evaluate it or to tune it. Training items in the same template may stand
before each prompt (--shots): any of them, or such that they alone cover the item at k (--inside),
or at no k (--outside). They cover an item at k if swapping a part of it for one that acts alike in
at least k contexts turns it into one of them.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    run,
    settings_from,
    table,
)
from coverage_principle.data import PromptSettings

_COMMAND = (
    "python script/export_prompts.py twohop.20.1500.diff-f12.inf "
    '--template "The child of {x1} and {x2} married {x3}. Their child is {t}."'
)
EXAMPLES = (
    ("every test item as a sentence to complete", _COMMAND),
    (
        "after 16 training items that cover it at k = 2",
        f"{_COMMAND} --shots 16 --inside 2 --output results/inside.jsonl",
    ),
    (
        "after 16 that do not cover it, as chat messages",
        f"{_COMMAND} --shots 16 --outside --chat --output results/outside.jsonl",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("data_dir", metavar="DATA_DIR", help=about)
    add_settings(parser, PromptSettings)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.coverage import about_file, make_prompts, write_prompts
    from coverage_principle.data import check_place, load_dataset
    from coverage_principle.paths import find_folder, relative_to_root

    settings = settings_from(PromptSettings, arguments)
    folder = find_folder(arguments.data_dir, "data_dir", also_in="data")
    output = Path(settings.output or folder / "prompts.jsonl")
    for place in (output, about_file(output)):
        check_place(place, file=True)
    dataset = load_dataset(folder)
    prompts = make_prompts(dataset, settings)
    written = write_prompts(prompts, output)
    report(prompts, dataset.graph)
    print("written: " + "\n         ".join(map(relative_to_root, written)))


def report(prompts, graph) -> None:
    """Print how many prompts there are of each type, and how many of them their shots cover."""
    shots = prompts.settings.shots
    kinds = dict.fromkeys([*(line["type"] or "" for line in prompts.lines), *prompts.left_out])
    rows = []
    for kind in kinds:
        lines = [line for line in prompts.lines if (line["type"] or "") == kind]
        row = [graph.explained(kind) if kind else "(no type)", f"{len(lines):,}"]
        if shots:
            covered = sum(line["shots_k_cutoff"] > 0 for line in lines)
            row += [f"{covered:,}", f"{prompts.left_out[kind]:,}"]
        rows.append(row)
    header = ["type", "prompts", *(["covered by their shots", "left out"] if shots else [])]
    print(table(header, rows), end="\n\n")


if __name__ == "__main__":
    run(build_parser(), main)

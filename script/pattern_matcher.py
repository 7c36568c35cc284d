"""What an ideal pattern matcher answers to every test item, in the format of main.py --do_predict.

So it is a row beside any model in script/evaluate_predictions.py. It swaps fragments (parts of an
input) that act alike in the training set, and knows nothing else (docs/graded.md). With --learner
the answers are those of the learner, kernel ridge regression on the training items, which makes
many of a Transformer's mistakes as well. Single facts are answered if they are training facts; the
others get no answer.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    progress_bar,
    run,
    settings_from,
    table,
)
from coverage_principle.coverage import CoverageSettings, LearnerSettings
from coverage_principle.errors import InputError

_COMMAND = "python script/pattern_matcher.py --data_dir data/twohop.20.1500.diff-f12.inf"
EXAMPLES = (
    ("the answers of the pattern matcher", _COMMAND),
    ("those of the learner", f"{_COMMAND} --learner"),
    ("by swaps of x1 and x2 together only", f"{_COMMAND} --fragments 1,2 --output results/12.json"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("--data_dir", required=True, help=about)
    add_settings(parser, CoverageSettings, only=("noise", "fragments"))
    about = "the learner's answers in place of the pattern matcher's"
    group_of(parser, "job").add_argument("--learner", action="store_true", help=about)
    add_settings(parser, LearnerSettings)
    about = (
        "where the answers go (default: results/pattern_matcher/DATASET/all_items.json of the "
        "repository, or results/learner/DATASET/all_items.json)"
    )
    group_of(parser, "written").add_argument("--output", metavar="FILE.json", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.data import check_place, load_dataset, write_json
    from coverage_principle.paths import find_folder, relative_to_root, repository_root
    from coverage_principle.predictions import ideal_predictions

    settings = settings_from(CoverageSettings, arguments)
    numbers = settings_from(LearnerSettings, arguments)
    if numbers != LearnerSettings() and not arguments.learner:
        raise InputError("the learner's numbers are given, but not `learner`; give it with them")
    dataset = load_dataset(find_folder(arguments.data_dir, "data_dir", also_in="data"))
    name = "learner" if arguments.learner else "pattern_matcher"
    default = repository_root() / "results" / name / dataset.name / "all_items.json"
    file = check_place(Path(arguments.output or default), file=True)
    if file.suffix != ".json" or file.resolve().parent == dataset.path:
        raise InputError(
            f"`output` {file} must end in .json and lie outside the data set's folder, "
            f"{dataset.path}"
        )
    with progress_bar() as progress:
        found = ideal_predictions(
            dataset,
            settings,
            learner=numbers if arguments.learner else None,
            progress=lambda share: progress(share, name.replace("_", " ")),
        )
    write_json(file, found.records, one_per_line=True)
    noise = f", noise {found.noise:.3g}" if settings.noise else ""
    rows = [
        [dataset.graph.explained(label), f"{of:,}", f"{n / of:.1%}"]
        for label, (n, of) in found.right_by_type().items()
    ]
    print(f"{dataset.name}: {name.replace('_', ' ')}{noise}")
    print(table(["", "items", "right"], rows))
    print(f"written: {relative_to_root(file)}")


if __name__ == "__main__":
    run(build_parser(), main)

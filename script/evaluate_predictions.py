"""How right any model's predictions are, where, and whether coverage told it beforehand.

A file of predictions is all_items.json of main.py --do_predict, or a JSON list or JSON lines of
anything that answered: each record names its item by input_text (and type), or by id, its place in
test.json, and holds what the model wrote under model_output. Missing, double and unparsable
predictions are counted, never guessed. How well k-cutoffs (how firmly the training set covers an
item) tell right answers is shown if determine_coverage.py --k_sweep --graded has looked at the data
set.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import command_parser, group_of, run, table

_DATA = "data/twohop.20.1500.diff-f12.inf"
EXAMPLES = (
    (
        "something to evaluate: the answers of an ideal pattern matcher",
        f"python script/pattern_matcher.py --data_dir {_DATA} --output results/matcher.json",
    ),
    (
        "and those of a learner",
        f"python script/pattern_matcher.py --data_dir {_DATA} --learner "
        "--output results/learner.json",
    ),
    (
        "both beside each other",
        f"python script/evaluate_predictions.py --data_dir {_DATA} "
        "--predictions results/matcher.json results/learner.json",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "the data set's folder, or the name of one in data/"
    group_of(parser, "data").add_argument("--data_dir", required=True, help=about)
    read, written = group_of(parser, "source"), group_of(parser, "written")
    about = "what models answered: a file for each model or seed"
    read.add_argument("--predictions", required=True, nargs="+", metavar="FILE", help=about)
    about = "the prompts of script/export_prompts.py that were answered, for names and template"
    read.add_argument("--prompts", metavar="FILE.jsonl", help=about)
    about = "what coverage says of the test items, where it is not test_annotated.json: a file "
    about += "that determine_coverage.py wrote beside it, as with --noise or --fragments"
    read.add_argument("--annotated", metavar="FILE", help=about)
    about = "for JSON, figure and page (default: results/predictions/DATASET of the repository)"
    written.add_argument("--output_dir", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.data import (
        ANNOTATED,
        annotated_records,
        check_place,
        load_dataset,
        test_records,
        write_json,
    )
    from coverage_principle.paths import find_folder, relative_to_root, repository_root
    from coverage_principle.predictions import evaluate_predictions, read_predictions
    from coverage_principle.reporting.predictions import (
        draw_predictions,
        prediction_notes,
        write_prediction_page,
    )

    dataset = load_dataset(find_folder(arguments.data_dir, "data_dir", also_in="data"))
    folder = arguments.output_dir or repository_root() / "results" / "predictions" / dataset.name
    stem = Path(folder) / "evaluation"
    png, pdf, page, numbers = (Path(f"{stem}.{kind}") for kind in ("png", "pdf", "html", "json"))
    for place in (png, pdf, page, numbers):
        check_place(place, file=True)
    read = read_predictions(dataset, arguments.predictions, arguments.prompts)
    given = arguments.annotated and annotations(dataset, arguments.annotated)
    annotated = annotated_records(dataset, given) if given else test_records(dataset)
    found = evaluate_predictions(dataset, read, annotated, given or ANNOTATED)
    notes = prediction_notes(found)
    if found["absent"]:
        command = "python determine_coverage.py --k_sweep --graded --data_dir"
        fields = ", ".join(found["absent"])
        notes.append(f"Without {fields}: {command} {relative_to_root(dataset.path)} writes them.")
    others = sorted(file.name for file in dataset.path.glob("test_annotated_*.json"))
    if others and not given:
        notes.append(f"Not read is what other runs wrote: --annotated {' or '.join(others)}.")
    draw_predictions(found, png)
    write_prediction_page(found, png, page, notes)
    write_json(numbers, found)
    report(found, notes)
    files = map(relative_to_root, (page, png, pdf, numbers))
    print("\nwritten: " + "\n         ".join(files))


def annotations(dataset, given: str) -> str:
    """The name of the annotated file of a data set that was given by name or path."""
    from pathlib import Path

    from coverage_principle.errors import InputError

    name = Path(given).name
    if Path(given) != Path(name) and Path(given).resolve().parent != dataset.path.resolve():
        raise InputError(f"`annotated` {given} lies in another folder than {dataset.path}")
    there = sorted(file.name for file in dataset.path.glob("test_annotated*.json"))
    if name not in there:
        shown = ", ".join(there) or "none: run determine_coverage.py on it"
        raise InputError(f"`annotated` {given}: {dataset.path} has no such file; it has {shown}")
    return name


def report(found: dict, notes: list[str]) -> None:
    """Print every table, and what has to be known beside them."""
    from coverage_principle.reporting.predictions import prediction_tables

    for title, header, rows in prediction_tables(found):
        print(f"{title}\n{table(header, rows)}\n")
    print("\n".join(notes))


if __name__ == "__main__":
    run(build_parser(), main)

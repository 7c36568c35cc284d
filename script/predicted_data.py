"""How much training data the pattern matcher and the learner need, before any training.

For each number of tokens |X| and each seed, a world is drawn, and the fewest training items are
found from which an ideal pattern matcher, and a learner (kernel ridge regression), answer most of
the other compositions of the same facts rightly (docs/graded.md says what they are). With the
learner's numbers fitted to a model at a small size (determine_coverage.py --fit prints them as
flags), this says how much data that model needs at larger ones; with --needed, how many times the
data of the matcher a model needed. Every measurement is kept in the result file, so that an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    over_worlds,
    positive,
    run,
    settings_from,
    table,
)
from coverage_principle.coverage import LearnerSettings, PredictedSettings
from simpletransformers.words import counted

_COMMAND = "python script/predicted_data.py --num_tokens 12,14,16 --accuracy 0.9"
EXAMPLES = (
    ("small worlds, within a minute or two", _COMMAND),
    ("beside what a model needed at each size", f"{_COMMAND} --needed 900 1300 1700"),
    ("the matcher alone, for 3-hop", f"{_COMMAND} --task threehop --by matcher"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    task = {"default": "twohop", "help": "a task by name, or FILE.json with a graph of your own"}
    group_of(parser, "task").add_argument("--task", **task)
    add_settings(parser, PredictedSettings)
    about = "to compare: training items that a model needed, one number for each of --num_tokens"
    needed = {"type": positive, "nargs": "+", "help": about}
    group_of(parser, "search").add_argument("--needed", **needed)
    add_settings(parser, LearnerSettings)
    about = "for results and figure (default: results/predicted_data in the repository)"
    group_of(parser, "written").add_argument("--output_dir", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.coverage import PredictedData, predicted_name
    from coverage_principle.data import check_place, find_task, write_json
    from coverage_principle.errors import InputError
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.predicted_data import draw_predicted, summarise_predicted

    graph = find_task(arguments.task)
    settings = settings_from(PredictedSettings, arguments)
    needed = dict(zip(settings.num_tokens, arguments.needed or (), strict=False))
    if arguments.needed and len(arguments.needed) != len(settings.num_tokens):
        raise InputError(
            f"`needed` gives {counted(len(arguments.needed), 'amount')} for the "
            f"{len(settings.num_tokens)} sizes of `num_tokens`; give one for each"
        )
    folder = Path(arguments.output_dir or repository_root() / "results" / "predicted_data")
    stem = folder / f"predicted_{predicted_name(graph, settings)}"
    kept, written = Path(f"{stem}_measured.json"), Path(f"{stem}.json")
    check_place(kept)
    found = PredictedData(graph, settings, settings_from(LearnerSettings, arguments), kept)
    worlds = [(size, seed) for size in sorted(settings.num_tokens) for seed in settings.seeds]
    over_worlds(worlds, "|X| = {}, seed {}", found.find, "{}, N = {:,}")
    summary = summarise_predicted(found, needed)
    write_json(written, summary)
    report(summary)
    files = [written, *([kept] if kept.exists() else []), *draw_predicted(summary, stem)]
    print("written: " + "\n         ".join(map(relative_to_root, files)))


def report(summary: dict) -> None:
    """Print the amounts by predictor, and how they compare with what a model needed."""
    worlds = counted(len(summary["seeds"]), "world")
    print(
        f"\n{summary['task']}: training items from which {100 * summary['accuracy']:g} % of the "
        f"unseen in-domain items are answered rightly\n(mean of {worlds}, standard deviation; "
        f"samples of {counted(summary['sample'], 'item')})\n"
    )
    names = summary["by"]
    compared = summary["needed"] is not None
    header = ["|X|", *names]
    if compared:
        header.append("model")
        for name in names:
            header += [f"/ {name}", f"expected by {name}"]
    rows = []
    for size, by_predictor in summary["predicted"].items():
        cells = [size]
        for name in names:
            one = by_predictor[name]
            spread = "" if one["sd"] is None else f" ± {one['sd']:,.0f}"
            cells.append("not reached" if one["mean"] is None else f"{one['mean']:,.0f}{spread}")
        if compared:
            cells.append(f"{summary['needed'][size]:,}")
            for name in names:
                times, expected = (
                    by_predictor[name][key] for key in ("model_needs_times", "expected")
                )
                cells.append("-" if times is None else f"{times:.2f}")
                cells.append("-" if expected is None else f"{expected:,.0f}")
        rows.append(cells)
    if summary["fits"]:
        fits = [summary["fits"].get(name) for name in names]
        cells = [f"{fit['exponent']:.2f}" if fit else "" for fit in fits]
        rows.append(["exponent", *cells, *[""] * (len(header) - 1 - len(names))])
    print(table(header, rows), end="\n\n")
    if compared:
        print(
            "/ matcher: how many times the matcher's data the model needed. expected: what the "
            "predictor\nneeds, times that ratio at the smallest |X|\n"
        )


if __name__ == "__main__":
    run(build_parser(), main)

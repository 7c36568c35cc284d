"""Draw what a sweep found: a score against a setting, the k-cutoff or training steps.

Runs that differ in their seeds only are one point: their mean, with a 95 % interval. The figure is
written as PNG and PDF, its numbers as .points.json, and the points are printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    run,
    settings_from,
    table,
    with_flags,
)
from coverage_principle.experiments import PlotSettings

_SWEEP = "python script/run_sweep.py docs/tutorial/weight_decay.json --jobs 2"
_TUTORIAL = "python script/plot_sweep.py docs/tutorial/results.jsonl"
_OWN = "python script/plot_sweep.py results/sweeps/weight_decay"
EXAMPLES = (
    ("the sweep of docs/tutorial.md, whose results are here", _TUTORIAL),
    ("by k-cutoff, a line for each weight decay", f"{_TUTORIAL} --x k_cutoff --vary weight_decay"),
    ("two types of test items, of one seed", f"{_TUTORIAL} --group type_0 type_1 --where seed=42"),
    ("the same sweep, carried out here", _SWEEP),
    ("over training", f"{_OWN} --x step --vary weight_decay"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    about = "a sweep's folder, or its results.jsonl; the sweep may still be under way"
    group_of(parser, "source").add_argument("sweep", metavar="DIR", help=about)
    add_settings(parser, PlotSettings)
    about = (
        "name of the files, an ending is replaced (default: Y_by_X in DIR; for a results.jsonl in "
        "results/sweeps/ of the repository, in a folder named as the one it is in)"
    )
    group_of(parser, "written").add_argument("--output", metavar="FILE", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.experiments.points import place_of, sweep_points, write_points
    from coverage_principle.experiments.results import read_results
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.sweep_text import points_table

    settings = settings_from(PlotSettings, arguments)
    results = read_results(arguments.sweep)
    points = sweep_points(results, settings)
    stem = place_of(points, results, Path(arguments.sweep), arguments.output)
    written = write_points(points, settings, stem)
    print(table(*points_table(points)))
    print()
    for note in points["notes"]:
        print(with_flags(note, build_parser()))
    print(f"figure: {', '.join(map(relative_to_root, written[:2]))}")
    print(f"numbers: {relative_to_root(written[2])}")


if __name__ == "__main__":
    run(build_parser(), main)

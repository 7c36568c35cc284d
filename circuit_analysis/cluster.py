"""Cosine clustering (IICG) for any task: do states with the same value come together?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.clustering import cluster_command, cluster_parser
from coverage_principle.cli import run


def build_parser():
    parser = cluster_parser(__doc__)
    parser.add_argument(
        "--group_by",
        nargs="+",
        default=["1"],
        metavar="KEYS",
        help='values or slots, such as b or "b,x2", or the number of a function; several are '
        "drawn side by side",
    )
    return parser


def main(arguments) -> None:
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import iicg_comparison

    keys = [int(key) if key.isdecimal() else key for key in arguments.group_by]
    found = {}
    for key in keys:
        folder, metrics = cluster_command(arguments, key)
        found[metrics["grouped_by"]["value"]] = metrics
    if len(found) > 1:
        target = folder.parent.parent / f"{folder.name}_by_{'_against_'.join(found)}.png"
        written = iicg_comparison(found, target)
        print(f"\n{', '.join(relative_to_root(path) for path in written)}")


if __name__ == "__main__":
    run(build_parser(), main)

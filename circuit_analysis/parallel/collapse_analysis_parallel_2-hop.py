"""Cosine clustering of hidden states in the parallel 2-hop task (IICG)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.clustering import cluster_command, cluster_parser
from coverage_principle.cli import positive, run

#: The published numbers of the groupings; any other number is that of a function.
KEYS = {1: "b1", 2: "b2", 3: "t"}


def build_parser():
    parser = cluster_parser(__doc__)
    parser.add_argument("--atomic_idx", type=positive, default=1, help=f"group by: {KEYS}")
    return parser


def main(arguments) -> None:
    number = arguments.atomic_idx
    cluster_command(arguments, KEYS.get(number, number), f"f{number}", task="parallel2hop")


if __name__ == "__main__":
    run(build_parser(), main)

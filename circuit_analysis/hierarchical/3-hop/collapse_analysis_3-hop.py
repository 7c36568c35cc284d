"""Cosine clustering of hidden states in the 3-hop task (IICG)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.clustering import cluster_command, cluster_parser
from coverage_principle.cli import positive, run

#: The published numbers of the groupings; any other number is that of a function.
KEYS = {4: "x3,b2", 5: "b1,b2"}


def build_parser():
    parser = cluster_parser(__doc__)
    parser.add_argument("--atomic_idx", type=positive, default=1, help=f"group by: {KEYS}")
    return parser


def main(arguments) -> None:
    number = arguments.atomic_idx
    cluster_command(arguments, KEYS.get(number, number), f"f{number}", task="threehop")


if __name__ == "__main__":
    run(build_parser(), main)

"""Logit lens: rank and probability of the bridge and the answer at every layer and position."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, run_flags
from circuit_analysis.lenses import lens_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__)
    run_flags(parser)
    parser.add_argument(
        "--metric_type",
        choices=("rank", "prob"),
        default="rank",
        help="kept from the published command; both are always measured",
    )
    return parser


def main(arguments) -> None:
    lens_command(arguments, "2-hop", task="twohop")


if __name__ == "__main__":
    run(build_parser(), main)

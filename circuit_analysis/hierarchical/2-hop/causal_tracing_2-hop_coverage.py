"""Causal tracing of the bridge for groups of test items by k-cutoff."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, run_flags
from circuit_analysis.tracing import trace_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__, grouping=True)
    run_flags(parser)
    parser.add_argument(
        "--metric_type",
        choices=("rank", "prob", "logit"),
        default="rank",
        help="rank: how often t' comes to the top; prob: how far p(t') moves; "
        "logit: how far logit(t') - logit(t) moves",
    )
    return parser


def main(arguments) -> None:
    trace_command(arguments, "2-hop", task="twohop")


if __name__ == "__main__":
    run(build_parser(), main)

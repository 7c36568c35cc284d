"""Causal tracing in the non-tree task, where x2 reaches the answer by two paths."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.common import circuit_parser, run_flags
from circuit_analysis.tracing import trace_command
from coverage_principle.cli import run

#: The published numbers of the counterfactuals.
FAMILIES = {1: "diff_f1", 4: "keep_b_change_x2", 5: "change_b_and_x2"}


def build_parser():
    parser = circuit_parser(__doc__)
    run_flags(parser)
    parser.add_argument(
        "--atomic_idx",
        type=int,
        choices=tuple(FAMILIES),
        required=True,
        help="1 changes b by x1, (b'); 4 keeps b and changes x2, (b, x2'); "
        "5 changes both, (b', x2')",
    )
    parser.add_argument(
        "--metric_type",
        choices=("rank", "prob", "logit"),
        default="rank",
        help="rank: how often t' comes to the top; prob: how far p(t') moves; "
        "logit: how far logit(t') - logit(t) moves",
    )
    return parser


def main(arguments) -> None:
    trace_command(
        arguments,
        "nontree",
        task="nontree",
        family=FAMILIES[arguments.atomic_idx],
        label=f"diff_f{arguments.atomic_idx}",
    )


if __name__ == "__main__":
    run(build_parser(), main)

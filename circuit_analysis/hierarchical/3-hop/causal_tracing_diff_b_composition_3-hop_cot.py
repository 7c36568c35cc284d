"""Causal tracing of a 3-hop model that writes its bridges: b1, b2 and t where it emits them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, run_flags
from circuit_analysis.tracing import trace_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__)
    run_flags(parser)
    parser.add_argument(
        "--metric_type",
        choices=("rank", "prob", "logit"),
        default="rank",
        help="rank: how often t' comes to the top; prob: how far p(t') moves; "
        "logit: how far logit(t') - logit(t) moves",
    )
    parser.add_argument(
        "--atomic_idx", type=int, choices=(1, 2), required=True, help="1 changes b1, 2 changes b2"
    )
    return parser


def main(arguments) -> None:
    trace_command(arguments, "3-hop_cot", task="threehop", function_number=arguments.atomic_idx)


if __name__ == "__main__":
    run(build_parser(), main)

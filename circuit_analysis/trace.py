"""Causal tracing for any task: patch one hidden state with that of a counterfactual run.

Families of counterfactuals follow from the task graph; --family list shows those of the data set.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import circuit_parser, numbered_pairs, run_flags
from circuit_analysis.tracing import trace_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__.split("\n")[0])
    run_flags(parser)
    add = parser.add_argument
    add(
        "--family",
        default=None,
        help="which counterfactuals, such as diff_f2; list shows those of the task; "
        "the first if not given",
    )
    add(
        "--metric_type",
        choices=("rank", "prob", "logit"),
        default="rank",
        help="rank: how often t' comes to the top; prob: how far p(t') moves; "
        "logit: how far logit(t') - logit(t) moves",
    )
    add(
        "--mode",
        default="residual",
        help="stream to patch: residual, post_attention, post_mlp or embedding",
    )
    add(
        "--layer_pos_pairs",
        type=numbered_pairs,
        default="all",
        help='"[(3,1)]": layer 3, second token; or all',
    )
    add("--ood", action="store_true", help="also trace items whose own bridge call is unseen")
    add("--no_dedup", action="store_true", help="all items, not one for each fragment")
    return parser


def main(arguments) -> None:
    if arguments.family == "list":
        from coverage_principle.circuits import families, find_dataset, find_run
        from coverage_principle.data import load_dataset

        dataset = load_dataset(find_dataset(find_run(arguments.model_dir), arguments.data_dir))
        for name, family in families(dataset.graph).items():
            held = f", {', '.join(family.held)} kept" if family.held else ""
            print(f"{name}: ({family.title}), {family.slot} is changed{held}")
        return
    trace_command(
        arguments,
        "trace",
        family=arguments.family,
        stream=arguments.mode,
        pairs=arguments.layer_pos_pairs,
        out_of_domain=arguments.ood,
        every_item=arguments.no_dedup,
    )


if __name__ == "__main__":
    run(build_parser(), main)

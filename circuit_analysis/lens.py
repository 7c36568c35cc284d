"""Logit lens for any task: what would the model answer if it stopped at a hidden state?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import circuit_parser, numbered_pairs, run_flags
from circuit_analysis.lenses import lens_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__)
    run_flags(parser)
    add = parser.add_argument
    add(
        "--group_by",
        default="1",
        help="one item is used for each fragment of this value; a name or a function's number",
    )
    add(
        "--layer_pos_pairs",
        type=numbered_pairs,
        default="all",
        help='"[(3,1)]": layer 3, second token; or all',
    )
    add("--no_dedup", action="store_true", help="all items, not one for each fragment")
    return parser


def main(arguments) -> None:
    key = arguments.group_by
    lens_command(
        arguments,
        "lens",
        group_by=int(key) if key.isdecimal() else key,
        pairs=arguments.layer_pos_pairs,
        every_item=arguments.no_dedup,
    )


if __name__ == "__main__":
    run(build_parser(), main)

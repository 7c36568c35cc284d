"""Same-bridge interchange: patch in the state of another (x1, x2) with the same b."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, run_flags
from circuit_analysis.tracing import interchange_command
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__)
    run_flags(parser)
    parser.add_argument("--group_by", default="b", help="the intermediate value that is kept")
    return parser


def main(arguments) -> None:
    interchange_command(arguments, "2-hop", task="twohop", value=arguments.group_by)


if __name__ == "__main__":
    run(build_parser(), main)

"""Cosine statistics of three files of vectors of the non-tree task, as text, with sampled pairs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.measuring import measure_command, vectors_parser
from coverage_principle.cli import run


def build_parser():
    return vectors_parser(__doc__, pictures=True, members=3, groups=3)


def main(arguments) -> None:
    measure_command(arguments, samples=True)


if __name__ == "__main__":
    run(build_parser(), main)

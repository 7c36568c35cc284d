"""Cosine statistics and IICG of three files of vectors, ID test being a k-cutoff group."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.measuring import measure_command, vectors_parser
from coverage_principle.cli import run


def build_parser():
    return vectors_parser(__doc__)


def main(arguments) -> None:
    measure_command(arguments, by_cutoff=True)


if __name__ == "__main__":
    run(build_parser(), main)

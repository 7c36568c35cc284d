"""Histograms of cosines and principal components of three files of vectors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.measuring import plot_command, vectors_parser
from coverage_principle.cli import run


def build_parser():
    return vectors_parser(__doc__, pictures=True, members=20, groups=5)


def main(arguments) -> None:
    plot_command(arguments)


if __name__ == "__main__":
    run(build_parser(), main)

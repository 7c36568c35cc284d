"""A published command: what it is stands in circuit_analysis/published.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.published import command

build_parser, start = command(__file__)

if __name__ == "__main__":
    start()

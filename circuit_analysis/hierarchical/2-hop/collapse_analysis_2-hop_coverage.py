"""Cosine clustering of a model's hidden states for groups of test items by k-cutoff."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.published import command

build_parser = command(__file__, __doc__, start=__name__ == "__main__")

"""Causal tracing in the non-tree task, where x2 reaches the answer by two paths."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.published import command

build_parser = command(__file__, __doc__, start=__name__ == "__main__")

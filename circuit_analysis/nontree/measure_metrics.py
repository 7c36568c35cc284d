"""Cosine statistics of three files of vectors of the non-tree task, as text, with sampled pairs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from circuit_analysis.published import command

build_parser = command(__file__, __doc__, start=__name__ == "__main__")

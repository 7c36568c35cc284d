"""Cosine statistics and IICG of three files of vectors, ID test being a k-cutoff group."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.published import command

build_parser = command(__file__, __doc__, start=__name__ == "__main__")

"""Causal tracing of a 3-hop model that writes its bridges: b1, b2 and t where it emits them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.published import command

build_parser = command(__file__, __doc__, start=__name__ == "__main__")

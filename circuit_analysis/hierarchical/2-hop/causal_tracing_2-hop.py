"""Causal tracing of the bridge: patch the residual stream with that of a run with another b."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.published import command

build_parser, start = command(__file__, __doc__)

if __name__ == "__main__":
    start()

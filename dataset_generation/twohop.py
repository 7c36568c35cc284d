"""Generate a 2-hop data set: b = f1(x1, x2), t = f2(b, x3)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_generation.common import Generator

optional = "cot fake_bridge same_function separate_seen facts"
same = "f2 is the same function as f1"
generator = Generator(__doc__, "twohop", optional, same="f12", same_help=same)
build_parser = generator.build_parser

if __name__ == "__main__":
    generator.run()

"""Generate a parallel 2-hop data set: b1 = f1(x1, x2), b2 = f2(x3, x4), t = f3(b1, b2)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_generation.common import Generator

optional = "cot same_function separate_seen include_atomic facts"
same = "f1, f2 and f3 are one function"
generator = Generator(__doc__, "parallel2hop", optional, "f123", same, {"test_size_for_type": 3000})
build_parser = generator.build_parser

if __name__ == "__main__":
    generator.run()

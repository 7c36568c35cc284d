"""Generate a non-tree data set: b = f1(x1, x2), t = f2(b, x2, x3); x2 reaches t by two paths."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_generation.common import Generator

same = (
    "f2 is f1 applied twice: f2(b, x2, x3) = f1(f1(b, x2), x3), with seen facts of its own (the "
    "published f2(b, x2, x3) = f1(b, x2) does not depend on x3)"
)
generator = Generator(__doc__, "nontree", "cot same_function", "f12", same)
build_parser = generator.build_parser

if __name__ == "__main__":
    generator.run()

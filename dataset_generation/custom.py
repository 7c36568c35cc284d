"""Generate a data set of a task of your own, a graph in a JSON file (docs/custom_tasks.md)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_generation.common import Generator

optional = "cot fake_bridge same_function separate_seen include_atomic alphabets facts"
generator = Generator(__doc__, None, optional)
build_parser = generator.build_parser

if __name__ == "__main__":
    generator.run()

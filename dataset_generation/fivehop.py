"""Generate a 5-hop data set: a chain of five functions over x1 ... x6."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_generation.common import Generator

about = "chain of thought: targets hold b1 to b4, then t; --no-cot: t alone"
cot = {"action": argparse.BooleanOptionalAction, "default": True, "help": about}
changes = {"max_train_data_num": 600_000, "cot": cot}
generator = Generator(__doc__, "fivehop", "cot", changes=changes)
build_parser = generator.build_parser

if __name__ == "__main__":
    generator.run()

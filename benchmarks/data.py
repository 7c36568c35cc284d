"""Time and memory of the generators as whole processes, and how cost grows with N."""

from __future__ import annotations

import argparse
import tempfile

from common import Figures, measure, output_flag

from coverage_principle.cli import command_parser, run

#: name -> command; the sizes that the project is held to.
CASES = {
    "2-hop, 50 tokens, 10,000 items": ("twohop.py", 50, 10_000),
    "3-hop, 200 tokens, 1,000,000 items": ("threehop.py", 200, 1_000_000),
    "non-tree, 200 tokens, 600,000 items": ("nontree.py", 200, 600_000),
    "5-hop, 50 tokens, 600,000 items, chain of thought": ("fivehop.py", 50, 600_000),
}
#: N over which the cost of an item is followed, 3-hop |X|=200.
GROWTH = (10_000, 100_000, 1_000_000)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    output_flag(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    figures = Figures("data/README.md")
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, (script, tokens, size) in CASES.items():
            seconds, peak = measure(command(script, tokens, size, folder))
            rows.append([name, f"{seconds:.1f}", f"{peak:,.0f} MiB"])
        figures.add(["data set, as a whole process", "seconds", "peak memory"], rows)
        rows, before, earlier = [], 0, 0.0
        for size in GROWTH:
            seconds, _ = measure(command("threehop.py", 200, size, folder))
            per_item = 1e6 * (seconds - earlier) / (size - before)
            # Start-up, tables and test items are in the first row.
            rows.append([f"{size:,}", f"{seconds:.1f}", f"{per_item:.1f}" if before else "-"])
            before, earlier = size, seconds
        figures.add(["N (3-hop, 200 tokens)", "seconds", "microseconds a further item"], rows)
    figures.write(arguments.output)


def command(script: str, tokens: int, size: int, folder: str) -> list[str]:
    sizes = f"--num_tokens {tokens} --max_train_data_num {size}".split()
    return [f"dataset_generation/{script}", *sizes, "--output_dir", folder, "--overwrite"]


if __name__ == "__main__":
    run(build_parser(), main)

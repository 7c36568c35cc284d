"""Time and memory of the generators as whole processes, and how cost grows with N.

The last table takes the largest data set of "Grokked Transformers are Implicit Reasoners" through
the stages that need no model, each a whole process.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import benchmark_parser, measure, show_tables

from coverage_principle.cli import run

#: Data set: generator, tokens, items; the sizes that the project is held to.
CASES = {
    "2-hop, 50 tokens, 10,000 items": ("twohop", 50, 10_000),
    "3-hop, 200 tokens, 1,000,000 items": ("threehop", 200, 1_000_000),
    "non-tree, 200 tokens, 600,000 items": ("nontree", 200, 600_000),
    "5-hop, 50 tokens, 600,000 items, chain of thought": ("fivehop", 50, 600_000),
}
#: N over which the cost of an item is followed, 3-hop |X|=200.
GROWTH = (10_000, 100_000, 1_000_000)


def main(arguments: argparse.Namespace) -> None:
    tables = [map(whole, CASES), growth(), stages()]
    show_tables("data/README.md", tables, arguments.output)


def whole(name: str) -> dict[str, str]:
    seconds, peak = generate(*CASES[name])
    cells = {"seconds": f"{seconds:.1f}", "peak memory": f"{peak:,.0f} MiB"}
    return {"data set, as a whole process": name, **cells}


def growth() -> Iterator[dict[str, str]]:
    before, earlier = 0, 0.0
    for size in GROWTH:
        seconds, _ = generate("threehop", 200, size)
        # Start-up, tables and test items are in the first row.
        further = f"{1e6 * (seconds - earlier) / (size - before):.1f}" if before else "-"
        cells = {"seconds": f"{seconds:.1f}", "microseconds a further item": further}
        yield {"N (3-hop, 200 tokens)": f"{size:,}", **cells}
        before, earlier = size, seconds


def stages() -> Iterator[dict[str, str]]:
    """Generation, reading and the k-sweep of 2,000 entities, 40,000 facts, phi 18."""
    with tempfile.TemporaryDirectory() as base:
        written, results = Path(base) / "data", Path(base) / "results"
        read = "import sys; from coverage_principle.data import load_dataset as f; f(sys.argv[1])"
        folder = written / "composition.2000.200.20.phi-18.inf"
        for name, command in {
            "generation": ("dataset_generation/grokked.py", "--phi", 18, "--output_dir", written),
            "reading": ("-c", read, folder),
            "k-sweep": (
                *("determine_coverage.py", "--data_dir", folder, "--k_sweep"),
                *("--output_dir", results),
            ),
        }.items():
            seconds, peak = measure(*command)
            cells = {"seconds": f"{seconds:.1f}", "peak memory": f"{peak:,.0f} MiB"}
            yield {"684,000 compositions, 40,000 facts": name, **cells}


def generate(name: str, tokens: int, size: int) -> tuple[float, float]:
    sizes = ("--num_tokens", tokens, "--max_train_data_num", size)
    with tempfile.TemporaryDirectory() as folder:
        return measure(f"dataset_generation/{name}.py", *sizes, "--output_dir", folder)


if __name__ == "__main__":
    run(benchmark_parser(__doc__, {}), main)

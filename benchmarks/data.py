"""Time and memory of the generators as whole processes, and how cost grows with N.

The last table takes the largest data set of "Grokked Transformers are Implicit Reasoners" through
the stages that need no model, each a whole process. Takes about 3 minutes with --before.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import OUT, Bench, bench, benchmark_parser, cells, measure, show_tables

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
READ = "import sys; from coverage_principle.data import load_dataset as f; f(sys.argv[1])"


def main(arguments: argparse.Namespace) -> None:
    sizes = [min(size, arguments.most) for size in GROWTH]
    cases = {name: case for name, case in CASES.items() if case[2] <= arguments.most}
    with bench(arguments) as measured:
        whole = (
            row("data set, as a whole process", name, generate(measured, *case))
            for name, case in cases.items()
        )
        entities = 2000 if arguments.most >= GROWTH[-1] else 50
        show_tables(arguments, [whole, growth(measured, sizes), stages(measured, entities)])


def row(about: str, name: str, figures: dict) -> dict:
    return {about: name, **cells(figures), "figures": figures}


def growth(measured: Bench, sizes: list[int]) -> Iterator[dict]:
    before, earlier = 0, 0.0
    for size in dict.fromkeys(sizes):
        figures = generate(measured, "threehop", 200, size)
        seconds = figures["now"]["cpu_s"]
        # Start-up, tables and test items are in the first row.
        further = f"{1e6 * (seconds - earlier) / (size - before):.1f}" if before else "-"
        found = row("N (3-hop, 200 tokens)", f"{size:,}", figures)
        yield {**found, "microseconds a further item": further}
        before, earlier = size, seconds


def stages(measured: Bench, entities: int) -> Iterator[dict]:
    """Generation, reading and the k-sweep of 2,000 entities, 40,000 facts, phi 18."""
    with tempfile.TemporaryDirectory() as base:
        made = ("dataset_generation/grokked.py", "--phi", 18, "--num_entities", entities)
        used = measure(*made, "--output_dir", base)  # one for all that read it
        if used.failed:
            raise RuntimeError(used.failed)
        (folder,) = Path(base).iterdir()
        about = "2,000 entities" if entities == 2000 else f"{entities} entities"
        for name, command in {
            "generation": (*made, "--output_dir", OUT),
            "reading": ("-c", READ, folder),
            "k-sweep": (
                *("determine_coverage.py", "--data_dir", folder, "--k_sweep"),
                *("--output_dir", OUT),
            ),
        }.items():
            yield row(f"{about}, phi 18", name, measured.row(measured.ways(*command)))


def generate(measured: Bench, name: str, tokens: int, size: int) -> dict:
    sizes = ("--num_tokens", tokens, "--max_train_data_num", size)
    return measured.row(measured.ways(f"dataset_generation/{name}.py", *sizes, "--output_dir", OUT))


if __name__ == "__main__":
    run(benchmark_parser(__doc__, {"--most": (GROWTH[-1], "items of a data set at most")}), main)

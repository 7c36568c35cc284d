"""Times determine_coverage.py, whole process, on generated data: one k, all k, the whole domain.

Imports, reading, figures and writing are included. The domain scope is left out where the domain
has more inputs than it takes. "pair work" is what the evidence costs: over slot sets and (context,
answer) pairs, the squared number of fragments that meet there, in millions of multiply-adds.
Takes about 7 minutes with --before.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

from common import OUT, Bench, bench, cells, generate, show_tables, worlds_parser

from coverage_principle.cli import run

DEFAULT = (
    "twohop:50:10000 twohop:50:40000 twohop:100:100000 twohop:200:100000 twohop:200:400000 "
    "nontree:50:50000 parallel2hop:50:60000 threehop:50:200000 fivehop:50:600000"
)
SWEEP, DOMAIN = ("--k_sweep",), ("--k_sweep", "--scope", "domain")


def build_parser() -> argparse.ArgumentParser:
    return worlds_parser(__doc__, DEFAULT)


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder)
        jobs = {"k-sweep": SWEEP, "domain scope": DOMAIN, "one k": ()}
        tables = (
            (row for world in arguments.worlds for row in time_world(world, base, measured, *job))
            for job in jobs.items()
        )
        show_tables(arguments, tables)


def time_world(
    world: str, base: Path, measured: Bench, job: str, flags: tuple[str, ...]
) -> Iterator[dict]:
    """A row of a job, unless it is more than the job takes."""
    from coverage_principle.coverage.scopes import MOST_INPUTS
    from coverage_principle.data import load_dataset

    folder, _ = generate(world, base)
    dataset = load_dataset(folder)
    if flags == DOMAIN and prod(dataset.slot_sizes) > MOST_INPUTS:
        return
    command = ("determine_coverage.py", "--data_dir", folder, "--output_dir", OUT, *flags)
    figures = measured.row(measured.ways(*command))
    row = {f"data set, {job}": world}
    if flags == SWEEP:
        row["pair work (10^6)"] = f"{sum(work_of(dataset)) / 1e6:,.1f}"
    yield row | cells(figures) | {"figures": figures}


def work_of(dataset) -> Iterator[int]:
    """Multiply-adds of the evidence of each slot set: its items that meet, squared."""
    for meets in meetings(dataset.train.inputs, dataset.train.answers, dataset.slot_sizes):
        yield int((meets * meets).sum())


def meetings(inputs, answers, sizes) -> Iterator:
    """For each slot set, how many items meet in each context with one answer: int64 arrays."""
    import numpy as np

    slots = range(len(sizes))
    for length in range(1, len(sizes)):
        for context in itertools.combinations(slots, length):
            key = answers.astype(np.int64)
            for slot in context:
                key = key * sizes[slot] + inputs[:, slot]
            yield np.unique(key, return_counts=True)[1].astype(np.int64)


if __name__ == "__main__":
    run(build_parser(), main)

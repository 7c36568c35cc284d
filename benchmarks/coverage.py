"""Times determine_coverage.py, whole process, on generated data: one k, all k, the whole domain.

Each figure is the median of --repeats runs in a fresh process each, imports, reading, figures and
writing included; memory is the largest resident size of any run of the dataset scope. The domain
scope is left out where the domain has more inputs than it takes. "pair work"
is what the evidence costs: over slot sets and (context, answer) pairs, the squared number of
fragments that meet there, in millions of multiply-adds.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from math import prod
from pathlib import Path
from statistics import median

from common import generate, measure, show_tables, take_turns, worlds_parser

from coverage_principle.cli import run

DEFAULT = (
    "twohop:50:10000 twohop:50:40000 twohop:100:100000 twohop:200:100000 twohop:200:400000 "
    "nontree:50:50000 parallel2hop:50:60000 threehop:50:200000 fivehop:50:600000"
)


def build_parser() -> argparse.ArgumentParser:
    return worlds_parser(__doc__, DEFAULT)


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(arguments.data or folder)
        table = (time_world(world, base, arguments.repeats) for world in arguments.worlds)
        show_tables("docs/coverage.md", [table], arguments.output)


def time_world(world: str, base: Path, repeats: int) -> dict[str, str]:
    from coverage_principle.coverage.scopes import MOST_INPUTS
    from coverage_principle.data import load_dataset

    folder, size = generate(world, base)
    dataset = load_dataset(folder)
    kinds = {"one": [], "sweep": ["--k_sweep"]}
    if prod(dataset.slot_sizes) <= MOST_INPUTS:
        kinds["domain"] = ["--k_sweep", "--scope", "domain"]
    command = ("determine_coverage.py", "--data_dir", folder, "--output_dir", base / "results")
    ways = {name: partial(measure, *command, *flags) for name, flags in kinds.items()}
    runs = take_turns(ways, repeats)
    seconds = {name: median(s for s, _ in found) for name, found in runs.items()}
    memory = {name: max(peak for _, peak in found) for name, found in runs.items()}
    work = pair_work(dataset) / 1e6
    print(f"{world} done", flush=True)
    return {
        "data set": world,
        "items": f"{size:,}",
        "pair work (10^6)": f"{work:,.0f}" if work >= 1 else f"{work:.1f}",
        "one k (s)": f"{seconds['one']:.2f}",
        "k-sweep (s)": f"{seconds['sweep']:.2f}",
        "ratio": f"{seconds['sweep'] / seconds['one']:.2f}",
        "MiB": f"{max(memory['one'], memory['sweep']):,.0f}",
        "domain scope (s)": f"{seconds['domain']:.2f}" if "domain" in kinds else "-",
        "domain MiB": f"{memory['domain']:,.0f}" if "domain" in kinds else "-",
    }


def pair_work(dataset) -> int:
    """Multiply-adds of the evidence of all slot sets."""
    import numpy as np

    from coverage_principle.coverage import observe, slot_sets

    train, total = dataset.train, 0
    for positions in slot_sets(train.inputs.shape[1]):
        seen = observe(train.inputs, train.answers, positions, dataset.slot_sizes)
        _, meets = np.unique(seen.with_label(seen.context_of), return_counts=True)
        total += int(np.square(meets.astype(np.int64)).sum())
    return total


if __name__ == "__main__":
    run(build_parser(), main)

"""Training items to 99 % coverage: chosen by ``--suggest`` against drawn at random.

From the same first N items of a world, counts how many more are needed until 99 % of all in-domain
items that were unseen at N are k-covered (2-hop, ground truth, as in script/required_data.py).
"""

from __future__ import annotations

import argparse
import statistics
import time

from common import Figures, output_flag

from coverage_principle.cli import command_parser, run

SHARE = 0.99
#: |X|, N and k.
CASES = (
    *((50, 5000, 2), (50, 5000, 3), (50, 10_000, 2), (50, 10_000, 3), (50, 10_000, 4)),
    *((100, 40_000, 2), (100, 40_000, 3)),
)
HEADER = [
    "tokens",
    "N",
    "k",
    "covered at N",
    "more items, chosen",
    "more items, random",
    "ratio",
    "s",
]


def chosen_and_random(num_tokens: int, start: int, k: int, seed: int) -> tuple[float, int, int]:
    """Share covered at ``start`` items; items to add until SHARE, chosen and at random."""
    import numpy as np

    from coverage_principle.coverage import in_domain_coverage, required_amounts, select
    from coverage_principle.coverage.required import GrowingWorld
    from coverage_principle.data import WorldSettings
    from coverage_principle.tasks import TASKS

    world = GrowingWorld(TASKS["twohop"], WorldSettings(num_tokens, 1, seed=seed))
    train = world.train(start)

    def count(amount: int):
        return in_domain_coverage(world.graph, world.tables, world.train(amount), (k,))

    at_random = required_amounts(count, world.trainable, (k,), share=SHARE, start=start)[k]
    found = select(world.graph, world.tables, train, world.trainable, k)
    reached = found.covered >= SHARE * found.in_domain
    chosen = int(np.argmax(reached)) if reached.any() else len(train)
    return count(start).share(k), chosen, at_random - start


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="worlds averaged over (default: 5)")
    output_flag(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    figures, rows = Figures("docs/coverage.md"), []
    for num_tokens, start, k in CASES:
        began = time.perf_counter()
        runs = [chosen_and_random(num_tokens, start, k, seed) for seed in range(arguments.seeds)]
        seconds = (time.perf_counter() - began) / arguments.seeds
        share, chosen, at_random = (statistics.mean(column) for column in zip(*runs, strict=True))
        row = [f"{num_tokens}", f"{start:,}", f"{k}", f"{share:.1%}", f"{chosen:,.0f}"]
        rows.append([*row, f"{at_random:,.0f}", f"{at_random / chosen:.1f}", f"{seconds:.1f}"])
    figures.add(HEADER, rows)
    figures.write(arguments.output)


if __name__ == "__main__":
    run(build_parser(), main)

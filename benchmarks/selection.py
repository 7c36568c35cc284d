"""Training items to 99 % coverage: chosen by ``--suggest`` against drawn at random.

From the same first N items of a world, counts how many more are needed until 99 % of all in-domain
items that were unseen at N are k-covered (2-hop, ground truth, as in script/required_data.py).
Takes about 2 minutes with --before.
"""

from __future__ import annotations

import argparse
import statistics

from common import Bench, bench, benchmark_parser, cells, part, show_tables, timed

from coverage_principle.cli import run

SHARE = 0.99
#: |X|, N, and the k to count for.
CASES = ((50, 5000, (2, 3)), (50, 10_000, (2, 3, 4)), (100, 40_000, (2, 3)))


def worlds(num_tokens: int, start: int, k: int, seeds: int) -> dict:
    """Each world's share and numbers, and the times of all of them together."""
    found, times = timed(
        lambda: [chosen_and_random(num_tokens, start, k, seed) for seed in range(seeds)]
    )
    return {**times, "worlds": found}


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


def compare(num_tokens: int, start: int, k: int, seeds: int, measured: Bench) -> dict:
    figures = measured.row(measured.ways(worlds, num_tokens, start, k, seeds, run=part))
    found = zip(*figures["now"]["said"]["worlds"], strict=True)
    share, chosen, at_random = (statistics.mean(column) for column in found)
    return {
        "tokens": f"{num_tokens}",
        "N": f"{start:,}",
        "k": f"{k}",
        "covered at N": f"{share:.1%}",
        "more items, chosen": f"{chosen:,.0f}",
        "more items, random": f"{at_random:,.0f}",
        "ratio": f"{at_random / chosen:.1f}",
        **cells(figures),
        "figures": figures,
    }


def main(arguments: argparse.Namespace) -> None:
    cases = [(*case, k) for *case, ks in CASES for k in ks if case[0] <= arguments.most_tokens]
    with bench(arguments) as measured:
        table = (compare(*case, arguments.seeds, measured) for case in cases)
        show_tables(arguments, [table])


AMOUNTS = {
    "--seeds": (5, "worlds averaged over"),
    "--most_tokens": (100, "largest |X|"),
}

if __name__ == "__main__":
    run(benchmark_parser(__doc__, AMOUNTS, row_seconds=15), main)

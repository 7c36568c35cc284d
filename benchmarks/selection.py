"""Training items to 99 % coverage: chosen by ``--suggest`` against drawn at random.

From the same first N items of a world, counts how many more are needed until 99 % of all in-domain
items that were unseen at N are k-covered (2-hop, ground truth, as in script/required_data.py).
"""

from __future__ import annotations

import argparse
import statistics

from common import benchmark_parser, show_tables, timed

from coverage_principle.cli import run

SHARE = 0.99
#: |X|, N, and the k to count for.
CASES = ((50, 5000, (2, 3)), (50, 10_000, (2, 3, 4)), (100, 40_000, (2, 3)))


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


def compare(num_tokens: int, start: int, k: int, seeds: int) -> dict[str, str]:
    runs = [timed(chosen_and_random, num_tokens, start, k, seed) for seed in range(seeds)]
    found = zip(*(result for result, _ in runs), strict=True)
    share, chosen, at_random = (statistics.mean(column) for column in found)
    return {
        "tokens": f"{num_tokens}",
        "N": f"{start:,}",
        "k": f"{k}",
        "covered at N": f"{share:.1%}",
        "more items, chosen": f"{chosen:,.0f}",
        "more items, random": f"{at_random:,.0f}",
        "ratio": f"{at_random / chosen:.1f}",
        "s": f"{statistics.mean(seconds for _, seconds in runs):.1f}",
    }


def main(arguments: argparse.Namespace) -> None:
    table = (compare(*case, k, arguments.seeds) for *case, ks in CASES for k in ks)
    show_tables("docs/coverage.md", [table], arguments.output)


if __name__ == "__main__":
    run(benchmark_parser(__doc__, {"--seeds": (5, "worlds averaged over")}), main)

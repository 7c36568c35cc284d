"""Times the counting of covered items, and whole searches for required data.

First table: one training set, counted with the fragment of the task's first value alone (exactly)
and with those of every intermediate value (on samples of 100,000 items). Second: every value again,
against the substitution graph with all inputs held and its components found at once. Start is left
out. Third: script/required_data.py for one seed and 50 to 100 tokens, a process of its own each.
Takes about 5 minutes with --before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from common import OUT, Bench, bench, benchmark_parser, cells, over_now, part, show_tables, timed

from coverage_principle.cli import run

#: Task, |X|, N and the k to count for.
COUNTED = (
    ("parallel2hop", 100, 148_000, 1),
    ("parallel2hop", 200, 2_200_000, 2),
    ("threehop", 100, 132_000, 1),
    ("threehop", 200, 2_200_000, 2),
    ("threehop", 200, 6_600_000, 3),
)
HELD = (("parallel2hop", 40, 30_000, 2), ("threehop", 40, 32_000, 2))
SEARCHED = ("twohop", "parallel2hop", "threehop")
SEARCH = ("--k", "1,2,3", "--seeds", "42")
SIZES = (50, 70, 100)


def main(arguments: argparse.Namespace) -> None:
    most = arguments.most_tokens
    with bench(arguments) as measured:
        tables = (
            (row for case in COUNTED if case[1] <= most for row in one_and_every(measured, *case)),
            (forms_and_inputs(measured, *case) for case in HELD if case[1] <= most),
            (searched(measured, task, most) for task in SEARCHED),
        )
        show_tables(arguments, tables)


def about(task: str, tokens: int, amount: int, k: int) -> dict[str, str]:
    return {"task": task, "tokens": f"{tokens}", "N": f"{amount:,}", "k": f"{k}"}


def one_and_every(measured: Bench, *case) -> Iterator[dict]:
    for name in ("one", "every"):
        figures = measured.row(measured.ways(count_covered, *case, name, run=part))
        share = figures["now"]["said"]["share"]
        row = {**about(*case), "fragments of": f"{name} value", "covered": f"{share:.2%}"}
        yield {**row, **cells(figures), "figures": figures}


def forms_and_inputs(measured: Bench, *case) -> dict:
    ways = measured.ways(count_covered, *case, "forms", run=part)
    ways["inputs"] = partial(part, count_covered, *case, "inputs", threads=measured.threads)
    figures = measured.row(ways)
    shares = {figures[way]["said"]["share"] for way in ("now", "inputs")}
    if len(shares) > 1:
        raise RuntimeError(f"the two ways differ: {shares}")
    row = {**about(*case), "inputs": f"{case[1] ** 4:,}", **cells(figures)}
    return {**row, "all inputs held / now": over_now(figures["inputs"]), "figures": figures}


def searched(measured: Bench, task: str, most: int) -> dict:
    tokens = ",".join(str(size) for size in SIZES if size <= most) or str(most)
    words = ("script/required_data.py", "--task", task, "--num_tokens", tokens, *SEARCH)
    figures = measured.row(measured.ways(*words, "--output_dir", OUT))
    return {"search": task, **cells(figures), "figures": figures}


def count_covered(task: str, tokens: int, amount: int, k: int, name: str) -> dict:
    """Times and share of what is counted in one way."""
    import numpy as np

    from coverage_principle.coverage import in_domain_coverage, joint_coverage

    sample = {"sample": 100_000, "rng": np.random.default_rng(0)}
    way = {
        "one": in_domain_coverage,
        "every": partial(joint_coverage, **sample),
        "forms": joint_coverage,
        "inputs": all_inputs,
    }[name]
    way(*training_set(task, 10, 100), (k,))  # what it needs is loaded
    counts, times = timed(way, *training_set(task, tokens, amount), (k,))
    return {**times, "share": counts.share(k)}


def training_set(task: str, tokens: int, amount: int) -> tuple:
    """Graph, tables and the first items of a world."""
    from coverage_principle.coverage.required import GrowingWorld
    from coverage_principle.data import WorldSettings
    from coverage_principle.tasks import TASKS

    world = GrowingWorld(TASKS[task], WorldSettings(tokens, 1, seed=42))
    return world.graph, world.tables, world.train(amount)


def all_inputs(graph, tables, train, ks):
    """The counts by their definition: every input is a node, every class joined in any context."""
    import numpy as np

    from coverage_principle.coverage import functional_equivalence, observe
    from coverage_principle.coverage.counting import bridges_inside
    from coverage_principle.coverage.linking import components
    from coverage_principle.coverage.measured import Counts
    from coverage_principle.data import CompositionSpace, evaluate
    from coverage_principle.data.tables import seen_calls

    tokens, slots = len(tables[0]), len(graph.inputs)
    values, number = evaluate(graph, tables, train), np.arange(tokens**slots)
    number = number.reshape((tokens,) * slots)
    in_domain = CompositionSpace(graph, tables, seen_calls(graph, tables, train))
    items = number[tuple(in_domain.unrank(np.arange(in_domain.size)).T)]
    trained = number[tuple(train.T)]
    unseen, covered = np.setdiff1d(items, trained), {}
    for k in ks:
        ends = [], []
        for value in bridges_inside(graph):
            positions = graph.fragment_positions(value)
            labels = values[graph.answer].astype(np.int64) * tokens + values[value]
            seen = observe(train, labels, positions, tokens)
            classes = functional_equivalence(seen, tokens).classes(k)
            hub = np.unique(classes, return_index=True)[1][classes]
            rest = [slot for slot in range(slots) if slot not in positions]
            by_fragment = number.transpose((*positions, *rest)).reshape(
                tokens ** len(positions), -1
            )
            ends[0].append(by_fragment[seen.codes[hub]].ravel())
            ends[1].append(by_fragment[seen.codes].ravel())
        component = components(number.size, *map(np.concatenate, ends))
        covered[k] = int(np.isin(component[unseen], component[trained]).sum())
    return Counts(len(unseen), covered)


AMOUNTS = {"--most_tokens": (200, "largest |X|")}

if __name__ == "__main__":
    run(benchmark_parser(__doc__, AMOUNTS), main)

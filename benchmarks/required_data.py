"""Times the counting of covered items, and whole searches for required data.

First table: one training set, counted with the fragment of the task's first value alone (exactly)
and with those of every intermediate value (on samples of 100,000 items). Second: every value again,
against the substitution graph with all inputs held and its components found at once. Both are the
fastest of --repeats; the ways take turns. Third: script/required_data.py for 3 seeds and 50 to 200
tokens, a process of its own each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial

from common import benchmark_parser, measure, show_tables, take_turns

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
SEARCH = ("--num_tokens", "50,70,100,150,200", "--k", "1,2,3", "--seeds", "42,43,44")


def main(arguments: argparse.Namespace) -> None:
    tables = (
        (one_and_every(*case, arguments.repeats) for case in COUNTED),
        (forms_and_inputs(*case, arguments.repeats) for case in HELD),
        (searched(task) for task in SEARCHED),
    )
    show_tables("docs/required_data.md", tables, arguments.output)


def one_and_every(task: str, tokens: int, amount: int, k: int, repeats: int) -> dict[str, str]:
    import numpy as np

    from coverage_principle.coverage import in_domain_coverage, joint_coverage

    about = (*training_set(task, tokens, amount), (k,))
    ways = {
        "one": partial(in_domain_coverage, *about),
        "every": lambda: joint_coverage(*about, sample=100_000, rng=np.random.default_rng(0)),
    }
    share, seconds = fastest(ways, k, repeats)
    return {
        **{"task": task, "tokens": f"{tokens}", "N": f"{amount:,}", "k": f"{k}"},
        "covered by one": f"{share['one']:.2%}",
        "by every value": f"{share['every']:.2%}",
        "one (s)": f"{seconds['one']:.2f}",
        "every (s)": f"{seconds['every']:.2f}",
        "ratio": f"{seconds['every'] / seconds['one']:.2f}",
    }


def forms_and_inputs(task: str, tokens: int, amount: int, k: int, repeats: int) -> dict[str, str]:
    from coverage_principle.coverage import joint_coverage

    about = (*training_set(task, tokens, amount), (k,))
    ways = {"forms": partial(joint_coverage, *about), "inputs": partial(all_inputs, *about)}
    share, seconds = fastest(ways, k, repeats)
    if share["forms"] != share["inputs"]:
        raise RuntimeError(f"the two ways differ: {share}")
    return {
        **{"task": task, "tokens": f"{tokens}", "N": f"{amount:,}", "k": f"{k}"},
        "inputs": f"{tokens**4:,}",
        "all inputs held (s)": f"{seconds['inputs']:.2f}",
        "canonical forms (s)": f"{seconds['forms']:.2f}",
        "ratio": f"{seconds['inputs'] / seconds['forms']:.1f}",
    }


def searched(task: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        words = ("script/required_data.py", "--task", task, *SEARCH, "--output_dir", folder)
        seconds, memory = measure(*words)
    return {"search": task, "seconds": f"{seconds:,.0f}", "MiB": f"{memory:,.0f}"}


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


def fastest(ways: dict[str, Callable], k: int, repeats: int) -> tuple[dict, dict]:
    """Each way's share at k, and the fewest seconds that it took."""

    def clocked(way: Callable) -> tuple[float, float]:
        began = time.perf_counter()
        return way().share(k), time.perf_counter() - began

    runs = take_turns({name: partial(clocked, way) for name, way in ways.items()}, repeats)
    share = {name: found[0][0] for name, found in runs.items()}
    return share, {name: min(seconds for _, seconds in found) for name, found in runs.items()}


if __name__ == "__main__":
    run(benchmark_parser(__doc__, {"--repeats": (3, "runs of each way")}), main)

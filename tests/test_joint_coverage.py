"""Coverage by the fragments of several values at once, against the definition by brute force."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from coverage_principle.coverage import SearchSettings, canonical, counting
from coverage_principle.coverage.canonical import blocks
from coverage_principle.coverage.counting import bridges_inside, iterated_coverage, joint_coverage
from coverage_principle.coverage.known_values import ValueFragments
from coverage_principle.coverage.required import (
    Counts,
    GrowingWorld,
    RequiredData,
    in_domain_coverage,
    sampling_error,
    smallest_step,
)
from coverage_principle.data import WorldSettings
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, Function, TaskGraph
from tests.open_worlds import rows, sample
from tests.oracles import coverage_bruteforce as oracle
from tests.oracles.worlds_bruteforce import draw_world

KS = (1, 2, 3)
SEEDS = range(300)


def truth(plain, train, value):
    """Slots of a value's fragment, and the true value of each fragment in the training set."""
    positions = plain.graph.fragment_positions(value)
    return positions, {oracle.part(x, positions): plain.run(x)[1][value] for x in train}


def covered(plain, train, values, k):
    """Inputs in a component with a training item: every input is a node."""
    inputs, graph = plain.inputs(), nx.Graph()
    graph.add_nodes_from(inputs)
    for value in values:
        positions, true = truth(plain, train, value)
        answers = {x: plain.answer(x) for x in train}
        for (a, b), evidence in oracle.pair_evidence(answers, positions, true).items():
            for x in inputs if evidence >= k else ():
                if oracle.part(x, positions) == a:
                    y = list(x)
                    for position, token in zip(positions, b, strict=True):
                        y[position] = token
                    graph.add_edge(x, tuple(y))
    components = nx.connected_components(graph)
    return set().union(*(c for c in components if not c.isdisjoint(train)))


@cache
def worlds():
    """Small random worlds that have a fragment to substitute: the items of each, and what of its
    unseen in-domain items the definition covers at each k.
    """
    found = []
    for seed in SEEDS:
        plain = draw_world(seed)
        try:
            values = bridges_inside(plain.graph)
        except InputError:
            continue
        world = sample(plain, seed)
        items = set(rows(world.train))
        unseen = plain.types(items).get("type_0", set())
        expected = {k: covered(plain, items, values, k) & unseen for k in KS}
        found.append((plain, [t.values for t in world.tables], world.train, unseen, expected))
    return found


def test_several_values_cover_what_the_definition_says(monkeypatch):
    several = beyond = 0
    for plain, tables, train, unseen, expected in worlds():
        about, values = (plain.graph, tables, train, KS), bridges_inside(plain.graph)
        numbers = {k: len(items) for k, items in expected.items()}
        assert joint_coverage(*about) == Counts(len(unseen), numbers)
        with monkeypatch.context() as patch:  # as where there are too many codes for a table
            patch.setattr(canonical, "_MOST_TABLE", 0)
            assert joint_coverage(*about) == Counts(len(unseen), numbers)
        singly = [in_domain_coverage(*about, value=value).covered for value in values]
        assert all(one[k] <= numbers[k] for one in singly for k in KS)
        several += len(values) > 1
        beyond += any(numbers[k] > max(one[k] for one in singly) for k in KS)
    assert len(worlds()) > 180 and several > 80 and beyond > 20


def test_iterated_coverage_is_the_fixed_point():
    further = 0
    for plain, tables, train, unseen, once in worlds():
        items, values, numbers = set(rows(train)), bridges_inside(plain.graph), {}
        for k in KS:
            known, new = set(items), once[k]
            while new:
                known |= new
                new = (covered(plain, known, values, k) & unseen) - known
            numbers[k] = len(known - items)
        found = iterated_coverage(plain.graph, tables, train, KS)
        assert found == Counts(len(unseen), numbers)
        further += any(numbers[k] > len(once[k]) for k in KS)
    assert further > 20


@pytest.mark.parametrize(("task", "tokens"), [("threehop", 4), ("parallel2hop", 4), ("fivehop", 2)])
def test_the_tasks_of_the_paper_are_counted_by_brute_force(task, tokens):
    for seed in range(3):
        world = GrowingWorld(TASKS[task], WorldSettings(tokens, 1, default_seen_ratio=1, seed=seed))
        plain = Plain(world)
        for share in (0.1, 0.25, 0.5):
            train = world.train(round(share * world.trainable))
            items, values = set(rows(train)), bridges_inside(world.graph)
            unseen = plain.in_domain(items) - items
            expected = {k: len(covered(plain, items, values, k) & unseen) for k in KS}
            found = joint_coverage(world.graph, world.tables, train, KS)
            assert found == Counts(len(unseen), expected)


class Plain:
    """A world of the library with what ``covered`` asks of one."""

    def __init__(self, world):
        self.graph, self._tables = world.graph, world.tables

    def inputs(self):
        return list(np.ndindex((len(self._tables[0]),) * len(self.graph.inputs)))

    def run(self, item):
        known, calls = dict(zip(self.graph.inputs, item, strict=True)), {}
        for function, table in zip(self.graph.functions, self._tables, strict=True):
            calls[function.name] = tuple(known[source] for source in function.sources)
            known[function.output] = int(table[calls[function.name]])
        return calls, known

    def answer(self, item):
        return self.run(item)[1][self.graph.answer]

    def in_domain(self, train):
        used = {call for item in train for call in self.run(item)[0].items()}
        return {item for item in self.inputs() if used.issuperset(self.run(item)[0].items())}


@pytest.mark.parametrize("seed", range(30))
def test_pairs_and_subsets_of_contexts_give_the_classes_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    items = np.unique(rng.integers(0, (12, 7), size=(rng.integers(1, 50), 2)), axis=0)
    _, fragment = np.unique(items[:, 0], return_inverse=True)
    _, context = np.unique(items[:, 1], return_inverse=True)
    values = rng.integers(0, 3, size=fragment.max() + 1)
    seen = ValueFragments((0,), fragment, context, values[fragment], 3, True, None)
    of_value = {}  # as the answer is a function of value and context
    train = {
        (int(f), int(c)): of_value.setdefault((values[f], c), len(of_value))
        for f, c in zip(fragment, context, strict=True)
    }
    true = {(f,): int(v) for f, v in enumerate(values)}
    _, group = np.unique(context * 3 + values[fragment], return_inverse=True)
    by_pairs = seen._by_pairs(KS, group)
    for k in KS:
        expected = {
            frozenset(f for (f,) in one) for one in oracle.class_partition(train, (0,), k, true)
        }
        for classes in (by_pairs[k], seen._by_subsets(k, group), seen.classes(KS)[k]):
            found = {}
            for f, c in enumerate(classes.tolist()):
                found.setdefault(c, set()).add(f)
            assert {frozenset(one) for one in found.values()} == expected


def test_slot_sets_fall_into_blocks():
    def slots(*sets):
        return [(block.slots, block.members) for block in blocks(sets)]

    assert slots((0, 1), (2, 3)) == [((0, 1), (0,)), ((2, 3), (1,))]
    assert slots((0, 1, 2), (0, 1), (0, 1)) == [((0, 1), (1, 2)), ((0, 1, 2), (0,))]
    # (1, 2) and (2, 3) overlap, and so does their union with (0, 1); (2,) lies within.
    assert slots((1, 2), (2, 3), (0, 1), (2,), (5,)) == [((5,), (4,)), ((0, 1, 2, 3), (0, 1, 2, 3))]


def test_too_wide_a_block_and_too_many_items_are_refused(monkeypatch):
    graph = TaskGraph(
        "overlapping",
        ("x1", "x2", "x3"),
        (
            Function("f1", "b", ("x1", "x2")),
            Function("f2", "c", ("x2", "x3")),
            Function("f3", "t", ("b", "c")),
        ),
    )
    world = GrowingWorld(graph, WorldSettings(5, 1, seed=1))
    about = graph, world.tables, world.train(10), (1,)
    monkeypatch.setattr(canonical, "MOST_OF_BLOCK", 124)
    with pytest.raises(InputError, match="overlap .* 125 inputs.*`value`"):
        joint_coverage(*about)
    with pytest.raises(InputError, match="overlap .* 216 inputs"):  # before anything is measured
        RequiredData(graph, SearchSettings(num_tokens=(4, 6)), Path("none.json"))
    monkeypatch.setattr(counting, "MOST_HELD", 9)
    with pytest.raises(InputError, match="`iterate` keeps all in-domain items in memory"):
        iterated_coverage(*about)
    with pytest.raises(InputError, match="nothing can be substituted"):
        bridges_inside(TaskGraph("whole", ("x1",), (Function("f1", "t", ("x1",)),)))


def test_a_sample_is_uniform_and_its_error_is_told():
    world = GrowingWorld(TASKS["parallel2hop"], WorldSettings(8, 1, seed=3))
    train = world.train(250)
    about = world.graph, world.tables, train, (2,)
    whole = joint_coverage(*about)
    assert joint_coverage(*about, sample=whole.unseen) == whole  # no more than there are
    parts = [
        joint_coverage(*about, sample=200, rng=np.random.default_rng(seed)) for seed in range(300)
    ]
    assert {(part.unseen, part.sample) for part in parts} == {(whole.unseen, 200)}
    shares = [part.share(2) for part in parts]
    error = math.sqrt(np.mean([part.standard_error(2) ** 2 for part in parts]))
    assert abs(np.mean(shares) - whole.share(2)) < 4 * error / math.sqrt(300)
    assert np.std(shares) == pytest.approx(error, rel=0.15)
    assert whole.standard_error(2) == 0
    # An amount's error: share 0.99 +- 0.001, and 0.9 at half of it.
    counted = {500: Counts(10**9, {1: 9000}, 10_000), 1000: Counts(10**9, {1: 9900}, 10_000)}
    assert sampling_error(counted, 1000, 1) == pytest.approx(1000 * 0.000995 * 0.6931 / 0.09, 0.01)
    assert sampling_error(counted, 500, 1) is None  # nothing below it
    assert sampling_error({9: Counts(50, {1: 50})}, 9, 1) == 0


@pytest.mark.parametrize("threshold", [0, 1, 5, 36, 99, 100])
@pytest.mark.parametrize("start", [0, 3, 37, 99])
@pytest.mark.parametrize("stride", [1, 4, 32])
def test_the_smallest_step_is_found_from_anywhere(threshold, start, stride):
    asked = []

    def reached(step):
        asked.append(step)
        return step >= threshold

    found = smallest_step(reached, start, 99, stride)
    assert found == (None if threshold == 100 else threshold)
    assert len(asked) == len(set(asked)) < 18 and min(asked) >= 0 and max(asked) <= 99

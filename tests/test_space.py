"""The counting, unranking and sampling engine against full enumeration."""

import doctest
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from coverage_principle.data import space as space_module
from coverage_principle.data.space import CompositionSpace, distinct_integers
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, Function, TaskGraph
from tests.oracles.task_bruteforce import all_items, calls_of, random_graph


def test_the_worked_example_is_right():
    assert doctest.testmod(space_module) == (0, 7)


def random_world(graph, num_tokens, ratio, rng):
    shapes = [(num_tokens,) * function.arity for function in graph.functions]
    tables = [rng.integers(0, num_tokens, shape) for shape in shapes]
    allowed = [rng.random(shape) < ratio for shape in shapes]
    return tables, allowed


def enumerate_allowed(graph, num_tokens, tables, allowed):
    by_name = {f.name: t for f, t in zip(graph.functions, tables, strict=True)}
    masks = {f.name: m for f, m in zip(graph.functions, allowed, strict=True)}
    return {
        item
        for item in all_items(graph, num_tokens)
        if all(masks[name][args] for name, (args, _) in calls_of(graph, by_name, item).items())
    }


@pytest.mark.parametrize("seed", range(60))
def test_every_graph_is_counted_and_unranked_exactly(seed):
    rng = np.random.default_rng(seed)
    named = list(TASKS.values())
    graph = named[seed] if seed < len(named) else random_graph(rng)
    num_tokens = 3 if len(graph.inputs) > 4 else int(rng.integers(2, 5))
    tables, allowed = random_world(graph, num_tokens, rng.choice([0.3, 0.7, 1.0]), rng)
    expected = enumerate_allowed(graph, num_tokens, tables, allowed)
    space = CompositionSpace(graph, tables, allowed)
    assert space.size == len(expected)
    rows = [tuple(row) for batch in space.batches(size=7) for row in batch.tolist()]
    assert len(rows) == len(set(rows))
    assert set(rows) == expected


@pytest.mark.parametrize("task", ["twohop", "parallel2hop", "nontree"])
def test_samples_are_uniform(task):
    """Chi-square of the inclusion counts of every composition over many small samples."""
    rng = np.random.default_rng(1)
    graph = TASKS[task]
    tables, allowed = random_world(graph, 3, 0.7, rng)
    space = CompositionSpace(graph, tables, allowed)
    excluded = space.unrank(np.arange(0, space.size, 5))
    draws, size = 4000, max(1, space.size // 6)
    for sample, population in (
        (lambda: space.sample(size, rng), space.size),
        (lambda: space.sample_outside(size, excluded, rng), space.size - len(excluded)),
    ):
        counts = Counter(tuple(row) for _ in range(draws) for row in sample().tolist())
        assert len(counts) == population
        expected = draws * size / population
        # Without replacement, counts vary less than multinomially by the factor (1 - size/pop.).
        statistic = sum((c - expected) ** 2 / expected for c in counts.values())
        statistic /= 1 - size / population
        p = stats.chi2.sf(statistic, population - 1)
        assert 1e-4 < p < 1 - 1e-4


@pytest.mark.parametrize("population", [10, 1000])
def test_distinct_integers_are_uniform_and_in_random_order(population):
    rng = np.random.default_rng(2)
    for count in (1, population // 10, population // 2, population):
        drawn = distinct_integers(population, count, rng)
        assert len(set(drawn.tolist())) == count
        assert drawn.min() >= 0
        assert drawn.max() < population
    first = Counter(distinct_integers(10, 2, rng)[0] for _ in range(5000))
    assert stats.chisquare(list(first.values())).pvalue > 1e-4


def test_sample_outside_returns_all_that_is_left():
    rng = np.random.default_rng(3)
    graph = TASKS["twohop"]
    tables, allowed = random_world(graph, 4, 0.8, rng)
    space = CompositionSpace(graph, tables, allowed)
    train = space.sample(space.size - 3, rng)
    rest = space.sample_outside(100, train, rng)
    assert len(rest) == 3
    union = {tuple(r) for r in train.tolist()} | {tuple(r) for r in rest.tolist()}
    assert len(union) == space.size
    assert len(space.sample_outside(100, space.sample(space.size, rng), rng)) == 0


def test_an_empty_space():
    graph = TASKS["twohop"]
    tables, allowed = random_world(graph, 3, 0.0, np.random.default_rng(0))
    space = CompositionSpace(graph, tables, allowed)
    assert space.size == 0
    assert space.sample(0, np.random.default_rng(0)).shape == (0, 3)


def test_a_domain_too_large_to_count_is_refused():
    slots = tuple(f"x{i}" for i in range(30))
    names = ("x0", *(f"b{i}" for i in range(1, 30)))
    functions = tuple(Function(f"f{i}", names[i], (names[i - 1], slots[i])) for i in range(1, 30))
    tables = [np.zeros((5, 5), dtype=int)] * len(functions)
    with pytest.raises(InputError, match="5 tokens in 30 slots make .* cannot be counted"):
        CompositionSpace(TaskGraph("long", slots, functions), tables, [t == 0 for t in tables])

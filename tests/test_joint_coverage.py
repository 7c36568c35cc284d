"""Coverage by the fragments of several values at once, against the definition by brute force."""

from __future__ import annotations

from itertools import product

import networkx as nx
import numpy as np
import pytest

from coverage_principle.coverage import canonical, joint
from coverage_principle.coverage.canonical import blocks
from coverage_principle.coverage.joint import bridges_inside, iterated_coverage, joint_coverage
from coverage_principle.coverage.required import Counts, in_domain_coverage
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS
from tests.open_worlds import arrays, rows, sample
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


def worlds():
    """Small random worlds, with their training items, that have a fragment to substitute."""
    for seed in SEEDS:
        plain = draw_world(seed)
        try:
            values = bridges_inside(plain.graph)
        except InputError:
            continue
        world = sample(plain, seed)
        yield plain, [table.values for table in world.tables], world.train, values


def test_several_values_cover_what_the_definition_says():
    counted = several = beyond = 0
    for plain, tables, train, values in worlds():
        items = set(rows(train))
        unseen = plain.types(items).get("type_0", set())
        expected = {k: len(covered(plain, items, values, k) & unseen) for k in KS}
        found = joint_coverage(plain.graph, tables, train, KS)
        assert found == Counts(len(unseen), expected)
        singly = [in_domain_coverage(plain.graph, tables, train, KS, value=v) for v in values]
        assert all(one.covered[k] <= expected[k] for one in singly for k in KS)
        counted += 1
        several += len(values) > 1
        beyond += any(expected[k] > max(one.covered[k] for one in singly) for k in KS)
    assert counted > 180 and several > 80 and beyond > 20


def test_iterated_coverage_is_the_fixed_point():
    counted = further = 0
    for plain, tables, train, values in worlds():
        items = set(rows(train))
        unseen = plain.types(items).get("type_0", set())
        once, expected = {}, {}
        for k in KS:
            known = set(items)
            while new := (covered(plain, known, values, k) & unseen) - known:
                once.setdefault(k, len(new))
                known |= new
            expected[k] = len(known - items)
        found = iterated_coverage(plain.graph, tables, train, KS)
        assert found == Counts(len(unseen), expected)
        counted += 1
        further += any(expected[k] > once.get(k, 0) for k in KS)
    assert counted > 180 and further > 20

"""Every way to count pairs, to link them and to spread over the domain, against simple ones."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from coverage_principle.coverage import (
    CoverageSettings,
    dataset_coverage,
    diagnose,
    evidence,
    pairing,
    weighing,
    whole_domain,
)
from coverage_principle.coverage.diagnostics import _repeated
from coverage_principle.coverage.evidence import observe
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.data.space import Places
from tests.oracles import coverage_bruteforce as oracle
from tests.test_coverage import random_world

#: Limits under which pairs are counted by contexts or by answers, in tables or by sorting, in
#: blocks of a few or all at once.
WAYS = {
    "contexts, tables": {"_MEETING": 0},
    "contexts, sorted": {"_MEETING": 0, "_CELLS": 0},
    "contexts, sorted blocks": {"_MEETING": 0, "_CELLS": 0, "_BLOCK": 3},
    "answers, tables": {"_MEETING": 10**6, "_WORD": -(10**9)},
    "answers, sorted": {"_MEETING": 10**6, "_WORD": -(10**9), "_CELLS": 0},
    "answers, blocks, narrow tables": {"_WORD": -(10**9), "_BLOCK": 5, "_TABLE": 1},
}


def random_items(seed):
    """Fragments, contexts and labels of distinct cells; in later seeds more of the cells."""
    rng = np.random.default_rng(seed)
    fragments, contexts = (int(rng.integers(2, most)) for most in (40, 160))
    cells = rng.permutation(fragments * contexts)
    cells = cells[: max(2, int(len(cells) * (0.05, 0.3, 0.9)[seed % 3]))]
    labels = rng.integers(0, (2, 5, 40)[seed % 3], len(cells))
    columns = (*np.divmod(cells, contexts), labels)
    return [np.unique(column, return_inverse=True)[1].astype(np.int32) for column in columns]


def counted_by_hand(fragment_of, context_of, label_of):
    """``{(first, second): (agreeing, shared)}`` of all pairs that agree somewhere."""
    behaviour = {}
    columns = map(np.ndarray.tolist, (fragment_of, context_of, label_of))
    for fragment, *seen in zip(*columns, strict=True):
        behaviour.setdefault(fragment, {}).update([seen])
    found = {}
    for a, b in combinations(sorted(behaviour), 2):
        shared = behaviour[a].keys() & behaviour[b].keys()
        agreeing = sum(behaviour[a][c] == behaviour[b][c] for c in shared)
        found[a, b] = agreeing, len(shared)
    return found


def set_limits(monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(pairing, name, value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(9))
def test_pairs_are_counted_alike_in_every_way(seed, way, monkeypatch):
    items = random_items(seed)
    every = counted_by_hand(*items)
    set_limits(monkeypatch, WAYS[way])
    blocks = list(pairing.agreeing_pairs(*items))
    rows = [row for block in blocks for row in zip(*map(np.ndarray.tolist, block), strict=True)]
    found = {(first, second): counts for first, second, *counts in rows}
    assert len(found) == len(rows)
    assert found == {pair: [*counts] for pair, counts in every.items() if counts[0]}
    assert all(part.dtype == np.int32 for block in blocks for part in block)
    first, second = pairing.disagreeing_pairs(*items)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    assert sorted(pairs) == [
        pair for pair, (agreeing, shared) in every.items() if agreeing < shared
    ]


@pytest.mark.parametrize("limits", [{"_MEETING": 0}, {"_CELLS": 0}, {"_CELLS": 0, "_TABLE": 1}])
@pytest.mark.parametrize("seed", range(9))
def test_shared_contexts_are_counted_alike_in_every_way(seed, limits, monkeypatch):
    """By a table of all pairs, and by bits."""
    fragment_of, context_of, label_of = random_items(seed)
    every = counted_by_hand(fragment_of, context_of, label_of)
    set_limits(monkeypatch, {**limits, "_BLOCK": 50})
    shared = pairing.shared_contexts(fragment_of, context_of)
    first, second = np.array([*every], dtype=np.int32).reshape(-1, 2).T
    for pairs in ((first, second), (second, first)):
        assert shared(*pairs).tolist() == [counts[1] for counts in every.values()]
        assert shared(*pairs).dtype == np.int32


@pytest.mark.parametrize("block", [1, 1 << 23])
@pytest.mark.parametrize("seed", range(9))
def test_what_agrees_comes_in_the_order_of_the_whole_product(seed, block, monkeypatch):
    """Which pairs, how often, and in what order: that of the product of all that was seen."""
    monkeypatch.setattr(evidence, "_BLOCK", block)
    fragment_of, context_of, label_of = random_items(seed)
    count = int(fragment_of.max()) + 1
    inputs = np.stack([fragment_of, context_of], axis=1)
    seen = observe(inputs, label_of, (0,), (count, int(context_of.max()) + 1))
    matrix = seen.incidence(seen.with_label(seen.context_of))
    chosen = np.random.default_rng(seed).permutation(count)[: max(1, count // 2)]
    whole = (matrix[chosen] @ matrix.T).tocoo()
    expected = np.stack([chosen[whole.row], whole.col, whole.data])
    found = [np.stack(part) for part in evidence.Agreements(seen).of(chosen)]
    assert all(part.dtype == np.int32 for part in found)
    found = np.concatenate(found, axis=1)
    assert found.tolist() == expected[:, expected[0] != expected[1]].tolist()


@pytest.mark.parametrize("noise", [PairNoise(), PairNoise(0.1, 5)])
@pytest.mark.parametrize("seed", range(9))
def test_weighed_pairs_have_histograms_and_forests_as_by_hand(seed, noise, monkeypatch):
    items = random_items(seed)
    values = np.random.default_rng(seed).integers(0, 3, int(items[0].max()) + 1)
    monkeypatch.setattr(weighing, "_EDGES", -(10**6))  # a forest after every block
    monkeypatch.setattr(pairing, "_BLOCK", 7)
    weighed = weighing.weigh_pairs(*items, true_values=values, noise=noise)
    graphs = {True: nx.Graph(), False: nx.Graph()}
    pairs, false_pairs = {}, {}
    for (a, b), counts in counted_by_hand(*items).items():
        evidence = int(noise.evidence(*(np.array([count]) for count in counts))[0])
        if evidence:
            pairs[evidence] = pairs.get(evidence, 0) + 1
            graphs[False].add_edge(a, b, evidence=evidence)
            if values[a] == values[b]:
                graphs[True].add_edge(a, b, evidence=evidence)
            else:
                false_pairs[evidence] = false_pairs.get(evidence, 0) + 1
    assert {e: n for e, n in enumerate(weighed.pairs.tolist()) if n} == pairs
    assert {e: n for e, n in enumerate(weighed.false_pairs.tolist()) if n} == false_pairs
    for true, forest in ((False, weighed.forest), (True, weighed.true_forest)):
        assert (np.diff(forest[2]) <= 0).all()
        own = nx.Graph()
        for a, b, evidence in zip(*map(np.ndarray.tolist, forest), strict=True):
            assert graphs[true].edges[a, b]["evidence"] == evidence
            own.add_edge(a, b)
        assert nx.is_forest(own) if len(own) else not pairs or true
        best = nx.maximum_spanning_edges(graphs[true], weight="evidence")
        assert sorted(forest[2].tolist()) == sorted(edge[2]["evidence"] for edge in best)


@pytest.mark.parametrize("seed", range(6))
def test_a_forest_takes_the_first_of_equal_edges(seed):
    """Kruskal's way, edge by edge."""
    rng = np.random.default_rng(seed)
    count, many = 40, 600
    first, second = rng.integers(0, count, (2, many))
    evidence = rng.integers(1, 5, many)
    expected, joined = [], nx.utils.UnionFind(range(count))
    for i in np.argsort(-evidence, kind="stable").tolist():
        if joined[first[i]] != joined[second[i]]:
            joined.union(first[i], second[i])
            expected.append((first[i], second[i], evidence[i]))
    found = weighing.spanning_forest(count, first, second, evidence)
    assert list(zip(*found, strict=True)) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(9))
def test_of_equally_firm_pairs_the_forest_takes_those_of_the_lowest_numbers(seed, way, monkeypatch):
    """In every way, so that an explanation names the same pairs; lone fragments are in stars."""
    items = random_items(seed)
    order = np.random.default_rng(seed).permutation(len(items[0]))
    items = [column[order] for column in items]
    lone = np.bincount(items[0]) == 1
    edges, groups = [], {}
    for (a, b), (agreeing, shared) in counted_by_hand(*items).items():
        if agreeing == shared > 0 and not lone[a] and not lone[b]:
            edges.append((-agreeing, a, b))
    for fragment, *group in zip(*map(np.ndarray.tolist, items), strict=True):
        groups.setdefault(tuple(group), []).append(fragment)
    for members in groups.values():
        hub = next((fragment for fragment in members if lone[fragment]), None)
        others = [fragment for fragment in members if fragment != hub and hub is not None]
        edges += [(-1, *sorted((hub, fragment))) for fragment in others]
    expected, joined = [], nx.utils.UnionFind(range(len(lone)))
    for firm, a, b in sorted(edges):
        if joined[a] != joined[b]:
            joined.union(a, b)
            expected.append((a, b, -firm))
    set_limits(monkeypatch, WAYS[way])
    monkeypatch.setattr(weighing, "_EDGES", -(10**6) if seed % 2 else 1 << 22)
    forest = weighing.weigh_pairs(*items).forest
    assert list(zip(*map(np.ndarray.tolist, forest), strict=True)) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(8))
def test_coverage_is_the_same_in_every_way(seed, way, monkeypatch):
    graph, _, train, test, dataset = random_world(seed)
    every = oracle.all_slot_sets(len(graph.inputs))
    plain = diagnose(dataset_coverage(dataset))
    set_limits(monkeypatch, WAYS[way])
    coverage = dataset_coverage(dataset)
    assert diagnose(coverage) == plain
    assert dict(zip(test, coverage.cutoffs.tolist(), strict=True)) == oracle.cutoffs(
        train, test, every
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_whole_domain_is_reached_alike_bit_by_bit_and_at_once(seed, monkeypatch):
    *_, dataset = random_world(seed)
    settings = CoverageSettings(scope="domain")
    whole = dataset_coverage(dataset, settings).node_cutoffs
    monkeypatch.setattr(whole_domain, "_WORDS", 1)  # a column of bits at a time
    monkeypatch.setattr(whole_domain, "_AT_ONCE", 10**9)  # all rows anew
    np.testing.assert_array_equal(dataset_coverage(dataset, settings).node_cutoffs, whole)
    monkeypatch.setattr(whole_domain, "_AT_ONCE", 0.5)  # never all rows
    np.testing.assert_array_equal(dataset_coverage(dataset, settings).node_cutoffs, whole)


def test_where_there_is_nothing_to_count_nothing_is_found():
    none = np.empty(0, dtype=np.int32)
    assert [len(part) for part in pairing.disagreeing_pairs(none, none, none)] == [0, 0]
    assert not list(pairing.agreeing_pairs(none, none, none))
    assert weighing.weigh_pairs(none, none, none).pairs.sum() == 0


def test_groups_and_values_that_are_too_large_for_one_number_are_told_apart():
    """Of 2^25 contexts and classes and 2^20 labels, as sparse data sets of 10^8 items may have."""
    groups = np.array([2**50 - 1, 2**50 - 1, 7, 7, 2**50 - 2, 2**50 - 2])
    values = np.array([2**20 - 1, 3, 5, 5, 2**20 - 1, 2**20 - 2])
    assert _repeated(groups, values).tolist() == [2**50 - 2, 2**50 - 1]


def test_places_of_codes_by_a_table_and_by_search():
    rng = np.random.default_rng(0)
    known = np.unique(rng.integers(0, 1 << 40, 500))
    codes = rng.permutation(np.concatenate([known[::2], rng.integers(0, 1 << 40, 500)]))
    found = Places(known, 1 << 40, len(codes)).of(codes)
    there = np.isin(codes, known)
    assert (known[found[there]] == codes[there]).all() and (found[~there] == -1).all()
    small, few = codes % 1000, np.unique(known % 1000)
    there = np.isin(small, few)
    found = Places(few, 1000, len(small)).of(small)
    assert (few[found[there]] == small[there]).all() and (found[~there] == -1).all()
    assert Places(known[:0], 1 << 40, len(codes)).of(codes).max() == -1


def test_observations_of_one_slot_set_are_those_of_all():
    *_, dataset = random_world(3)
    train, sizes = dataset.train, dataset.slot_sizes
    for slot_set in dataset_coverage(dataset).slot_sets:
        seen = slot_set.observations
        alone = observe(train.inputs, train.answers, seen.positions, sizes)
        for name in ("codes", "context_codes", "fragment_of", "context_of", "label_of"):
            np.testing.assert_array_equal(getattr(seen, name), getattr(alone, name))

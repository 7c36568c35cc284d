"""Coverage against brute force from the definitions, by hand, and on the published example."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coverage_principle.coverage import (
    EVERY_K,
    CoverageSettings,
    consistent_pairs,
    dataset_coverage,
    diagnose,
    observe,
    pairing,
    slot_sets,
    sweep_lines,
    type_lines,
    warnings,
)
from coverage_principle.coverage.diagnostics import contradicting_pairs
from coverage_principle.coverage.linking import components
from coverage_principle.coverage.summary import classes_at
from coverage_principle.data import Codec, Dataset, Split, build_vocabulary
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, Function, TaskGraph
from tests.oracles import coverage_bruteforce as oracle
from tests.oracles.task_bruteforce import all_items, answer_of, calls_of, random_graph

FIXTURES = Path(__file__).parent / "fixtures"
GROUND_TRUTH = CoverageSettings(ground_truth=True)


def make_dataset(graph, num_tokens, train, test, tables=None, types=None, bridges=0):
    """A data set in memory; ``train`` and ``test`` map input tuples to answers."""

    def split(items, types):
        rows = np.array(list(items), dtype=np.int32).reshape(-1, len(graph.inputs))
        answers = np.array(list(items.values()), dtype=np.int32)
        # A chain of thought: some bridge tokens stand before the answer.
        targets = np.column_stack([*[np.zeros_like(answers)] * bridges, answers])
        records = [{"type": label} for label in types]
        numbers = np.arange(1, len(rows) + 1)
        return Split(rows, targets, answers, np.array(types, dtype=str), records, numbers)

    codec = Codec(build_vocabulary(num_tokens))
    test_split = split(test, types or ["type_0"] * len(test))
    train_split = split(train, [""] * len(train))
    dataset = Dataset(Path("/nowhere"), graph, codec, train_split, test_split, None, None)
    if tables is not None:
        dataset.__dict__["_tables"] = tables
    return dataset


def random_task(rng, slots, partial):
    """A random graph of so many slots; ``partial``: its first function reads only some of them."""
    while True:
        graph = random_graph(rng)
        first = graph.functions[0]
        if len(graph.inputs) == slots and (len(set(first.sources)) < slots or not partial):
            return graph


def random_world(seed, *, graph=None, share=None, wrong=0.0):
    """A small random task with training and test items: dictionaries, and the data set.

    ``wrong`` is the share of the training items that get another answer.
    """
    rng = np.random.default_rng(seed)
    graph = graph or random_task(rng, slots=2 + seed % 3, partial=seed % 4 > 0)
    num_tokens = int(rng.integers(3, {2: 9, 3: 6, 4: 5}[len(graph.inputs)]))
    tables = {
        # Few outputs, so that functions often agree.
        f.name: rng.integers(0, rng.integers(2, num_tokens + 1), (num_tokens,) * f.arity)
        for f in graph.functions
    }
    items = all_items(graph, num_tokens)
    rng.shuffle(items)
    items = [tuple(map(int, item)) for item in items[:80]]
    cut = max(1, int(len(items) * (share or rng.uniform(0.2, 0.9))))
    answers = {item: answer_of(graph, tables, item) for item in items}
    train = {item: answers[item] for item in items[:cut]}
    for item in items[: int(cut * wrong)]:
        train[item] = (train[item] + int(rng.integers(1, num_tokens))) % num_tokens
    test = {item: answers[item] for item in items[cut:]}
    ordered = [tables[f.name].astype(np.int32) for f in graph.functions]
    return graph, tables, train, test, make_dataset(graph, num_tokens, train, test, ordered)


def true_fragment_values(graph, tables, train):
    first = graph.functions[0]
    positions = graph.fragment_positions(first.output)
    return positions, {
        oracle.part(item, positions): calls_of(graph, tables, item)[first.name][1] for item in train
    }


def fragments_of(slot_set, train):
    """The fragments of a slot set as tuples, in the library's order."""
    return sorted(oracle.behaviours(train, slot_set.observations.positions))


def annotated(coverage, **changes):
    """What a k-sweep with changed settings annotates."""
    changed = replace(coverage.settings, **{"k_sweep": True, **changes})
    return replace(coverage, settings=changed).annotated()


@pytest.mark.parametrize("seed", range(60))
def test_every_k_cutoff_agrees_with_brute_force(seed):
    graph, _, train, test, dataset = random_world(seed)
    coverage = dataset_coverage(dataset)
    expected = oracle.cutoffs(train, test, oracle.all_slot_sets(len(graph.inputs)))
    assert dict(zip(test, coverage.cutoffs.tolist(), strict=True)) == expected
    largest = max(expected.values(), default=0)
    assert coverage.largest_k == largest
    for k in range(1, largest + 2):
        assert coverage.covered(k).sum() == sum(cutoff >= k for cutoff in expected.values())


@pytest.mark.parametrize("seed", range(40))
def test_ground_truth_agrees_with_brute_force(seed):
    graph, tables, train, test, dataset = random_world(seed)
    positions, values = true_fragment_values(graph, tables, train)
    if len(positions) == len(graph.inputs):
        with pytest.raises(InputError, match="reads every slot|task random has none"):
            dataset_coverage(dataset, GROUND_TRUTH)
        return
    coverage = dataset_coverage(dataset, GROUND_TRUTH)
    expected = oracle.cutoffs(train, test, [positions], values)
    assert dict(zip(test, coverage.cutoffs.tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", range(30))
def test_classes_and_diagnostics_agree_with_brute_force(seed):
    graph, tables, train, _, dataset = random_world(seed)
    coverage = dataset_coverage(dataset)
    report = diagnose(coverage)
    assert [s.observations.positions for s in coverage.slot_sets] == oracle.all_slot_sets(
        len(graph.inputs)
    )
    for slot_set, counts in zip(coverage.slot_sets, report["slot_sets"], strict=True):
        positions = slot_set.observations.positions
        names = fragments_of(slot_set, train)
        pairs = oracle.pair_evidence(train, positions)
        barred = oracle.contradicting(train, positions)
        by_evidence = {str(n): list(pairs.values()).count(n) for n in sorted(pairs.values())}
        assert counts["pairs_by_evidence"] == by_evidence
        real = {
            name: tuple(
                calls_of(graph, tables, item)[graph.function_of(b).name][1]
                for b in slot_set.determined
            )
            for item in train
            for name in [oracle.part(item, positions)]
        }
        if slot_set.determined:
            wrong = [n for (a, b), n in pairs.items() if real[a] != real[b]]
            assert counts["false_pairs_by_evidence"] == {
                str(n): wrong.count(n) for n in sorted(wrong)
            }
        for k in range(1, max(pairs.values(), default=0) + 2):
            classes = oracle.class_partition(train, positions, k)
            found = slot_set.equivalence.classes(k)
            assert {
                frozenset(names[i] for i in np.flatnonzero(found == c)) for c in set(found)
            } == classes
            shown = classes_at(counts, k)
            assert shown["classes"] == len(classes)
            assert shown["largest_class"] == max(map(len, classes))
            sizes = list(map(len, classes))
            assert shown["class_sizes"] == {str(n): sizes.count(n) for n in sizes}
            inside = [c for c in classes for a, b in barred if {a, b} <= c]
            assert shown["contradicting_pairs"] == len(inside)
            assert shown["contradictory_classes"] == len(set(inside))
            if slot_set.determined:
                mixed = sum(len({real[name] for name in c}) > 1 for c in classes)
                assert shown["mixed_classes"] == mixed


def test_forest_edges_are_pairs_that_the_training_set_shows(monkeypatch):
    """Also when the pairs come in many blocks and the contexts in many tables."""
    *_, train, _, dataset = random_world(7, graph=TASKS["threehop"], share=0.9)
    whole = dataset_coverage(dataset)
    monkeypatch.setattr(pairing, "_BLOCK", 5)
    monkeypatch.setattr(pairing, "_TABLE", 1)
    blocks = dataset_coverage(dataset)
    np.testing.assert_array_equal(whole.cutoffs, blocks.cutoffs)
    edges = 0
    for one, other in zip(whole.slot_sets, blocks.slot_sets, strict=True):
        np.testing.assert_array_equal(one.equivalence.pairs, other.equivalence.pairs)
        names = fragments_of(one, train)
        pairs = oracle.pair_evidence(train, one.observations.positions)
        for e in (one.equivalence, other.equivalence):
            assert (np.diff(e.evidence) <= 0).all()  # firmest first
            for i, j, n in zip(e.first, e.second, e.evidence, strict=True):
                assert pairs[names[i], names[j]] == n
                edges += 1
    assert edges > 20


def test_more_than_64_contexts_and_many_blocks(monkeypatch):
    """Packed words and their tables against dense products, on a set too large for loops."""
    rng = np.random.default_rng(0)
    inputs = np.unique(rng.integers(0, 22, (1600, 3)), axis=0).astype(np.int32)
    labels = rng.integers(0, 2, len(inputs))
    for positions in slot_sets(3):
        seen = observe(inputs, labels, positions, 22)
        shared = seen.incidence(seen.context_of).toarray()
        agreeing = seen.incidence(seen.with_label(seen.context_of)).toarray()
        shared, agreeing = shared @ shared.T, agreeing @ agreeing.T
        first, second = np.nonzero(np.triu((shared == agreeing) & (shared > 0), 1))
        expected = set(zip(first, second, shared[first, second], strict=True))
        for table in (1 << 23, 100):
            monkeypatch.setattr(pairing, "_TABLE", table)
            monkeypatch.setattr(pairing, "_BLOCK", 6_000)
            found = [
                triple for block in consistent_pairs(seen) for triple in zip(*block, strict=True)
            ]
            assert len(found) == len(set(found))
            assert set(found) == expected
        one_class = np.zeros(seen.num_fragments, dtype=np.int32)
        assert contradicting_pairs(seen, one_class) == (np.triu(shared > agreeing, 1)).sum()


# ------------------------------------------------------------------------------------- by hand


def test_equal_values_at_different_slots_are_not_a_link():
    """(5,3,4) and (3,5,4) both hold 5 beside (3,4), with equal answers, and share nothing else."""
    graph = TASKS["twohop"]
    dataset = make_dataset(graph, 6, {(5, 3, 4): 1}, {(3, 5, 4): 1})
    coverage = dataset_coverage(dataset)
    assert coverage.cutoffs.tolist() == [0]
    assert coverage.sweep()["1"] == [0, 0.0]


def test_a_two_hop_example_by_hand():
    """(0,0) and (1,1) agree in contexts 0 and 1; (1,1) and (2,2) agree in 2 and 3.

    (0,0) and (2,2) share no context but are one class at k = 2 through (1,1). (3,3) agrees with
    (0,0) twice but contradicts it once, so it stays alone.
    """
    train = {
        (0, 0, 0): 5,
        (0, 0, 1): 6,
        (1, 1, 0): 5,
        (1, 1, 1): 6,
        (1, 1, 2): 7,
        (1, 1, 3): 8,
        (2, 2, 2): 7,
        (2, 2, 3): 8,
        (3, 3, 0): 5,
        (3, 3, 1): 4,
    }
    test = {
        (0, 0, 2): 7,  # covered by (1,1,2)
        (2, 2, 0): 5,  # covered by (1,1,0), at k = 2
        (2, 2, 1): 4,  # same context as (1,1,1), other answer: joined to nothing firm
        (3, 3, 2): 7,  # (3,3) is contradicted by both others
        (4, 4, 0): 5,  # a fragment that no training item holds
    }
    coverage = dataset_coverage(make_dataset(TASKS["twohop"], 9, train, test))
    assert coverage.cutoffs.tolist() == [2, 2, 0, 0, 0]
    pair = next(s for s in coverage.slot_sets if s.slots == ("x1", "x2"))
    assert pair.equivalence.pairs.tolist() == [0, 0, 2]
    assert sorted(np.bincount(pair.equivalence.classes(2))) == [1, 3]
    assert sorted(np.bincount(pair.equivalence.classes(3))) == [1, 1, 1, 1]


def test_coverage_passes_through_other_test_items():
    """A chain: training item - test item - test item, by two different slot sets."""
    train = {
        (0, 0): 0,
        (1, 0): 0,
        (0, 1): 1,
        (1, 1): 1,  # x1: 0 and 1 are equivalent
        (0, 2): 2,
        (2, 2): 2,
        (2, 3): 2,  # x2: 2 and 3 are equivalent
    }
    test = {(1, 2): 2, (1, 3): 2}
    graph = TaskGraph("pair", ("x1", "x2"), (Function("f1", "t", ("x1", "x2")),))
    coverage = dataset_coverage(make_dataset(graph, 5, train, test))
    expected = oracle.cutoffs(train, test, [(0,), (1,)])
    assert coverage.cutoffs.tolist() == list(expected.values())
    assert coverage.cutoffs[1] >= 1


def test_a_test_item_that_is_a_training_item_is_covered_at_every_k():
    train, test = {(0, 0, 0): 1, (1, 2, 3): 2}, {(1, 2, 3): 2, (3, 3, 3): 0}
    coverage = dataset_coverage(make_dataset(TASKS["twohop"], 5, train, test))
    assert coverage.cutoffs.tolist() == [EVERY_K, 0]
    assert coverage.largest_k == 0
    assert coverage.sweep()["20"] == [1, 50.0]
    assert [r["k_cutoff"] for r in annotated(coverage)] == [20, 0]
    assert [r["k_cutoff"] for r in annotated(coverage, max_k=5)] == [5, 0]
    told = "type_0 items that are training items: 1;"
    assert any(told in w for w in warnings(coverage, diagnose(coverage)))


def test_the_answer_is_the_last_token_of_a_chain_of_thought():
    *_, train, test, plain = random_world(3, graph=TASKS["twohop"])
    thought = make_dataset(TASKS["twohop"], plain.slot_sizes[0], train, test, bridges=1)
    np.testing.assert_array_equal(
        dataset_coverage(plain).cutoffs, dataset_coverage(thought).cutoffs
    )


def test_annotation_of_every_type():
    train = {(0, 0, 0): 1, (0, 0, 1): 2, (1, 1, 0): 1, (1, 1, 1): 2, (1, 1, 2): 3}
    test = {(0, 0, 2): 3, (2, 2, 2): 3, (0, 0, 0): 1, (4, 4, 4): 0}
    types = ["type_0", "type_0", "train_inferred", "type_1"]
    coverage = dataset_coverage(make_dataset(TASKS["twohop"], 5, train, test, types=types))
    assert annotated(coverage, min_evidence=2) == [
        {"type": "type_0", "coverage": True, "k_cutoff": 2},
        {"type": "type_0", "coverage": False, "k_cutoff": 0},
        {"type": "train_inferred", "coverage": True, "k_cutoff": None},
        {"type": "type_1", "coverage": False, "k_cutoff": None},
    ]
    assert annotated(coverage, min_evidence=3, k_sweep=False)[0] == {
        "type": "type_0",
        "coverage": False,
    }
    assert annotated(coverage, max_k=1)[0]["k_cutoff"] == 1
    lines = type_lines(coverage, 2)
    assert [line.split()[0] for line in lines] == ["train_inferred", "type_0", "type_1", "-:"]
    assert lines[1].startswith("type_0 (every call seen)") and lines[1].endswith("1 of 2")
    # A type that the scope does not look at has no count, and is told of below.
    assert lines[2].split() == ["type_1", "(both", "unseen)", "-", "of", "1"]
    assert lines[3].startswith("-: uses a fact that no training composition shows")


def test_without_type_0_items():
    dataset = make_dataset(
        TASKS["twohop"], 5, {(0, 0, 0): 1}, {(0, 0, 0): 1}, types=["train_inferred"]
    )
    coverage = dataset_coverage(dataset)
    assert coverage.sweep()["1"] == [0, 0.0]
    assert len(coverage.sweep()) == 20
    assert any("no type_0 items" in w for w in warnings(coverage, diagnose(coverage)))


def test_a_single_k_agrees_with_the_sweep():
    *_, dataset = random_world(11, graph=TASKS["threehop"], share=0.8)
    sweep = dataset_coverage(dataset)
    assert sweep.largest_k >= 2
    for k in range(1, sweep.largest_k + 2):
        single = dataset_coverage(dataset, CoverageSettings(min_evidence=k))
        np.testing.assert_array_equal(single.covered(k), sweep.covered(k))
    with pytest.raises(InputError, match="at least 2, from which on coverage"):
        dataset_coverage(dataset, CoverageSettings(min_evidence=2)).covered(1)


def test_unknown_true_values_only_matter_to_ground_truth():
    graph, tables, _, _, dataset = random_world(5, graph=TASKS["twohop"])
    x1, x2, _ = dataset.train.inputs[0]
    f1, f2 = (tables[f.name].astype(np.int32) for f in graph.functions)
    f1[x1, x2] = -1
    dataset.__dict__["_tables"] = [f1, f2]
    assert all(not s.determined for s in dataset_coverage(dataset).slot_sets)
    with pytest.raises(InputError, match=r"atomic_facts_f1\.json lacks facts"):
        dataset_coverage(dataset, GROUND_TRUTH)
    del dataset.__dict__["_tables"]
    assert all(not s.determined for s in dataset_coverage(dataset).slot_sets)
    with pytest.raises(InputError, match="does not exist"):
        dataset_coverage(dataset, GROUND_TRUTH)


def test_tasks_of_one_and_of_six_slots():
    rng = np.random.default_rng(4)
    items = [tuple(row) for row in np.unique(rng.integers(0, 2, (60, 6)), axis=0).tolist()]
    answers = {item: item[0] ^ item[1] for item in items}
    train, test = (dict(list(answers.items())[start::2]) for start in (0, 1))
    coverage = dataset_coverage(make_dataset(TASKS["fivehop"], 2, train, test))
    assert len(coverage.slot_sets) == 2**6 - 2
    expected = oracle.cutoffs(train, test, oracle.all_slot_sets(6))
    assert coverage.cutoffs.tolist() == list(expected.values())
    assert max(expected.values()) >= 2

    one_slot = TaskGraph("single", ("x1",), (Function("f1", "t", ("x1",)),))
    coverage = dataset_coverage(make_dataset(one_slot, 3, {(0,): 1}, {(1,): 1}))
    assert coverage.slot_sets == []
    assert coverage.cutoffs.tolist() == [0]


# --------------------------------------------------------------------------------- properties


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6))
def test_order_of_rows_and_names_of_tokens_do_not_matter(seed, shuffle):
    graph, _, train, test, dataset = random_world(seed)
    rng = np.random.default_rng(shuffle)
    rename = rng.permutation(dataset.slot_sizes[0]).tolist()

    def changed(items):
        order = rng.permutation(len(items))
        listed = list(items.items())
        return {
            tuple(rename[v] for v in listed[i][0]): rename[listed[i][1]] for i in order.tolist()
        }

    other_train, other_test = changed(train), changed(test)
    other = make_dataset(graph, dataset.slot_sizes[0], other_train, other_test)
    before = dict(zip(test, dataset_coverage(dataset).cutoffs.tolist(), strict=True))
    after = dict(zip(other_test, dataset_coverage(other).cutoffs.tolist(), strict=True))
    assert after == {tuple(rename[v] for v in item): k for item, k in before.items()}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_coverage_shrinks_with_k_and_holds_what_it_should(seed):
    graph, _, train, test, _ = random_world(seed)
    again = {**test, **dict(list(train.items())[:5])}  # some training items as test items
    dataset = make_dataset(graph, 9, train, again)
    coverage = dataset_coverage(dataset)
    counts = [covered for covered, _ in coverage.sweep().values()]
    assert counts == sorted(counts, reverse=True)
    leaked = np.array([item in train for item in again])
    assert (coverage.cutoffs[leaked] == EVERY_K).all()
    assert (coverage.cutoffs[~leaked] < EVERY_K).all()
    # The edges of the substitution graph give the same components as the sweep.
    for k in (1, 2):
        scope = coverage.scope
        stars = [scope.stars(s.equivalence, k) for s in coverage.slot_sets]
        component = components(scope.count, *np.concatenate(stars, axis=1))
        trained = set(component[scope.trained])
        expected = np.array([c in trained for c in component[scope.test_nodes]])
        np.testing.assert_array_equal(scope.inputs[scope.test_nodes], dataset.test.inputs)
        assert expected[leaked].all()
        np.testing.assert_array_equal(coverage.covered(k), expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ground_truth_covers_no_more_than_evidence_at_the_same_fragment(seed):
    graph, tables, train, test, dataset = random_world(seed)
    positions, _ = true_fragment_values(graph, tables, train)
    if len(positions) == len(graph.inputs):
        return
    evidence_only = oracle.cutoffs(train, test, [positions])
    truth = dataset_coverage(dataset, GROUND_TRUTH)
    assert (truth.cutoffs <= np.array(list(evidence_only.values()), dtype=int)).all()
    assert all(
        counts["mixed_classes"] == 0
        for s in diagnose(truth)["slot_sets"]
        if "mixed" in s
        for counts in s["by_k"].values()
    )


# ------------------------------------------------------------------------ the published example


@pytest.fixture(scope="module")
def published():
    """The published 2-hop example of 50 tokens and 10,000 training items.

    ``fixtures/published_twohop.npz`` holds its training items, its type_0 items and f1's table as
    small integers: what the published generator writes for seed 42.
    """
    arrays = np.load(FIXTURES / "published_twohop.npz")

    def items(name):
        rows = map(tuple, arrays[name].tolist())
        return dict(zip(rows, arrays[f"{name}_answers"].tolist(), strict=True))

    tables = [arrays["f1"].astype(np.int32), np.zeros((50, 50), np.int32)]
    return make_dataset(TASKS["twohop"], 50, items("train"), items("type_0"), tables)


def test_published_example(published):
    coverage = dataset_coverage(published)
    counts = [covered for covered, _ in coverage.sweep().values()]
    assert counts == [2000, 1925, 1230, 296, 39, 8, 1, *[0] * 13]
    report = diagnose(coverage)
    pair = next(s for s in report["slot_sets"] if s["slots"] == ["x1", "x2"])
    assert pair["determines"] == ["b"]
    at = [classes_at(pair, k) for k in range(1, 9)]
    assert [a["classes"] for a in at] == [1, 85, 637, 1366, 1666, 1737, 1748, 1749]
    assert [a["mixed_classes"] for a in at] == [1, 5, 0, 0, 0, 0, 0, 0]
    assert [a["contradicting_pairs"] for a in at] == [710_912, 275_197, 0, 0, 0, 0, 0, 0]
    pairs = {int(n): count for n, count in pair["pairs_by_evidence"].items()}
    wrong = {int(n): count for n, count in pair["false_pairs_by_evidence"].items()}
    direct = [sum(c for n, c in pairs.items() if n >= k) for k in range(1, 6)]
    false = [sum(c for n, c in wrong.items() if n >= k) for k in range(1, 6)]
    assert direct == [29_460, 7_477, 1_992, 441, 87]
    assert false == [10_740, 83, 0, 0, 0]
    singles = [s for s in report["slot_sets"] if len(s["slots"]) == 1]
    assert all(not s["pairs_by_evidence"] for s in singles)
    lines = sweep_lines(coverage, report)
    assert len(lines) == 12 and lines[9] == "k = 9 to 20: nothing is covered"
    assert lines[11].startswith("classes: of (x1, x2) alone")
    assert lines[2].split() == ["2", "1,925", "96.25", "0", "85", "1,056", "5"]
    spoken = " ".join(warnings(coverage, report))
    assert "up to k = 1 all fragments of (x1, x2) fall into one class" in spoken
    assert "up to k = 2 some classes of (x1, x2) mix" in spoken


def test_published_example_with_ground_truth(published):
    coverage = dataset_coverage(published, GROUND_TRUTH)
    counts = [covered for covered, _ in coverage.sweep().values()]
    assert counts[:8] == [2000, 1925, 1230, 296, 39, 8, 1, 0]
    (pair,) = diagnose(coverage)["slot_sets"]
    assert [classes_at(pair, k)["classes"] for k in (1, 2, 3)] == [50, 124, 637]
    assert all(counts["mixed_classes"] == 0 for counts in pair["by_k"].values())


def test_the_published_count_at_large_k_is_collisions_of_the_key(published):
    """Without the slot set in the bucket key, 20 items seem covered where no fragments are equal.

    From k = 8 on every fragment is a class of its own, so nothing substitutes for anything.
    """
    items = {**published_items(published.train), **published_items(published.test)}
    graph = nx.Graph()
    graph.add_nodes_from(items)
    buckets = {}
    for item, answer in items.items():
        for positions in oracle.all_slot_sets(3):
            key = (oracle.part(item, positions), oracle.rest(item, positions), answer)
            graph.add_edge(item, buckets.setdefault(key, item))
    trained = set(published_items(published.train))
    covered = [x for c in nx.connected_components(graph) if c & trained for x in c - trained]
    assert len(covered) == 20


def published_items(split):
    return dict(zip(map(tuple, split.inputs.tolist()), split.answers.tolist(), strict=True))

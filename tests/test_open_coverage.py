"""Coverage of 200 random worlds with alphabets, partial functions and facts, by its definition."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from coverage_principle.coverage import (
    EVERY_K,
    CoverageSettings,
    dataset_coverage,
    scopes,
    suggest,
)
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from tests.open_worlds import WORLDS, both, rows, sample, write
from tests.oracles import coverage_bruteforce as oracle
from tests.oracles.worlds_bruteforce import draw_world, shape_of

DOMAIN = CoverageSettings(k_sweep=True, scope="domain")


def case(seed, tmp_path):
    """A world, its data set, and its training items and test items by type: ``{input: answer}``."""
    plain, world = both(seed)
    dataset = write(world, tmp_path / "data")
    answers = [world.noisy.get(i, plain.answer(x)) for i, x in enumerate(rows(world.train))]
    train = dict(zip(rows(world.train), answers, strict=True))
    test = {k: {x: plain.answer(x) for x in rows(items)} for k, items in world.test.items()}
    return plain, dataset, train, test


def as_cutoffs(array):
    return [None if cutoff == EVERY_K else int(cutoff) for cutoff in array]


@pytest.mark.parametrize("seed", WORLDS)
def test_every_k_cutoff_is_that_of_the_definition(tmp_path, seed):
    """Both scopes: over the items of the data set, and over every input, undefined ones too."""
    plain, dataset, train, test = case(seed, tmp_path)
    slot_sets = oracle.all_slot_sets(len(plain.graph.inputs))
    coverage = dataset_coverage(dataset, CoverageSettings(k_sweep=True))
    expected = oracle.cutoffs(train, test["type_0"], slot_sets)
    assert rows(dataset.test.inputs[coverage.test_rows]) == [*expected]
    assert coverage.cutoffs.tolist() == [*expected.values()]
    for k, (covered, percent) in coverage.sweep().items():
        assert covered == sum(cutoff >= int(k) for cutoff in expected.values())
        assert percent == round(100 * covered / max(1, len(expected)), 2)

    domain = dataset_coverage(dataset, DOMAIN)
    anywhere = oracle.domain_cutoffs(train, dataset.slot_sizes, slot_sets)
    assert as_cutoffs(domain.node_cutoffs) == [anywhere[item] for item in plain.inputs()]
    for records, cutoffs in ((coverage.annotated(), expected), (domain.annotated(), anywhere)):
        _check_annotations(records, dataset, test, cutoffs)


def _check_annotations(records, dataset, test, cutoffs):
    """Every test record in its order, facts last, with coverage at k = 2 and its k-cutoff."""
    assert [
        {k: v for k, v in record.items() if k not in ("coverage", "k_cutoff")} for record in records
    ] == json.loads((dataset.path / "test.json").read_text(encoding="utf-8"))
    least = CoverageSettings().min_evidence
    items = [(label, item) for label, own in test.items() for item in own]
    for (label, item), record in zip(items, records, strict=False):
        cutoff = None if label == "train_inferred" else cutoffs.get(item)
        assert record["k_cutoff"] == cutoff
        assert record["coverage"] == (label == "train_inferred" or (cutoff or 0) >= least)
    for record in records[len(items) :]:  # all are training facts
        assert record["type"].startswith("fact_")
        assert record["coverage"] and record["k_cutoff"] is None


@pytest.mark.parametrize("seed", WORLDS[::2])
def test_true_values_are_those_of_partial_and_shared_tables(tmp_path, seed):
    """``ground_truth``: the fragment of the first function, and pairs of equal results only."""
    plain, dataset, train, test = case(seed, tmp_path)
    first, settings = plain.graph.functions[0], CoverageSettings(ground_truth=True)
    positions = tuple(i for i, x in enumerate(plain.graph.inputs) if x in first.sources)
    if len(positions) == len(plain.graph.inputs):
        with pytest.raises(
            InputError,
            match="which leaves no context|true intermediate values, but task open has none",
        ):
            dataset_coverage(dataset, settings)
        return
    true = {oracle.part(item, positions): plain.run(item)[1][first.output] for item in train}
    expected = oracle.cutoffs(train, test["type_0"], [positions], true)
    assert dataset_coverage(dataset, settings).cutoffs.tolist() == [*expected.values()]
    anywhere = oracle.domain_cutoffs(train, dataset.slot_sizes, [positions], true)
    found = dataset_coverage(dataset, replace(settings, scope="domain"))
    assert as_cutoffs(found.node_cutoffs) == [anywhere[item] for item in plain.inputs()]


def test_the_worlds_tell_right_from_wrong(tmp_path):
    """Enough is covered, at several k, for the comparisons above to mean something."""
    found = Counter()
    for seed in WORLDS[::3]:
        dataset = write(both(seed)[1], tmp_path / str(seed))
        found.update(dataset_coverage(dataset).cutoffs.tolist())
    assert min(found[0], found[1], found[2]) > 20 and sum(found[k] for k in found if k > 2) > 10


def test_facts_in_training_do_not_matter(tmp_path):
    """Nothing is substituted in a fact: items are covered as if there were none.

    The oracle knows no facts either, so that the comparisons above say the same in both scopes.
    """
    seeds = [seed for seed in WORLDS if draw_world(seed).facts != "none"][::3]
    assert len(seeds) > 10
    for seed in seeds:
        plain, world = both(seed)
        dataset = write(world, tmp_path / f"with {seed}")
        without = write(sample(replace(plain, facts="none"), seed), tmp_path / f"without {seed}")
        assert len(without.train.facts) == 0 < len(dataset.train.facts)
        assert np.array_equal(dataset.train.inputs, without.train.inputs)
        first, second = dataset_coverage(dataset), dataset_coverage(without)
        assert np.array_equal(first.node_cutoffs, second.node_cutoffs), seed
        assert first.sweep() == second.sweep(), seed


@pytest.mark.parametrize("seed", [s for s in WORLDS if shape_of(s).startswith("one function")])
def test_without_a_known_graph_every_unseen_item_has_a_k_cutoff(tmp_path, seed):
    """One function over all slots: what no training item is, is a node; no table is needed."""
    plain, dataset, train, test = case(seed, tmp_path)
    assert {*test} == {"train_inferred", "type_0"}
    unseen = {*plain.compositions} - {*train}
    assert {*test["type_0"]} <= unseen
    assert len(test["type_0"]) == min(plain.test_size, len(unseen))
    coverage = dataset_coverage(dataset)
    assert len(coverage.cutoffs) == len(test["type_0"])
    for file in dataset.path.glob("atomic_facts_*"):
        file.unlink()
    assert np.array_equal(dataset_coverage(load_dataset(dataset.path)).cutoffs, coverage.cutoffs)


@pytest.mark.parametrize("seed", WORLDS[::5])
def test_the_graph_is_named_by_tokens(tmp_path, seed):
    """Nodes, answers and edges as other programs read them."""
    plain, dataset, train, test = case(seed, tmp_path)
    graph, alphabet = plain.graph, dict(plain.graph.alphabets)

    def name(nodes, values):
        pairs = zip(nodes, values, strict=True)
        return "".join(plain.alphabets[alphabet.get(n, "token")][v] for n, v in pairs)

    expected = oracle.substitution_graph(
        train, test["type_0"], oracle.all_slot_sets(len(graph.inputs)), 1
    )
    found = dataset_coverage(dataset).graph(1)
    answers = {**train, **test["type_0"]}
    named = {item: name(graph.inputs, item) for item in expected}
    assert {text: node["answer"] for text, node in found.nodes(data=True)} == {
        text: name([graph.answer], [answers[item]]) for item, text in named.items()
    }
    edges = {frozenset((named[a], named[b])) for a, b in expected.edges}
    assert {frozenset(edge) for edge in found.edges} == edges


def test_contexts_beyond_64_bits_are_told_apart_all_the_same(tmp_path, monkeypatch):
    """Where context and answer do not fit into one number, contexts are numbered anew."""
    for seed in (0, 1, 4, 6):
        dataset = case(seed, tmp_path / str(seed))[1]
        plain = dataset_coverage(dataset).node_cutoffs
        with monkeypatch.context() as patch:
            patch.setattr(scopes, "MOST_CODES", 1)
            assert np.array_equal(dataset_coverage(dataset).node_cutoffs, plain)


def test_suggestions_need_right_answers(tmp_path):
    seed = next(s for s in WORLDS if both(s)[1].noisy and draw_world(s).graph.bridges)
    with pytest.raises(InputError, match="`suggest` counts by true answers, but .* wrong ones"):
        suggest(case(seed, tmp_path)[1], 1, k=1)

"""Equivalence that allows for wrong labels, by its definition, on worlds that hold some."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from math import isfinite
from types import SimpleNamespace

import numpy as np
import pytest

from coverage_principle.coverage import (
    EVERY_K,
    CoverageSettings,
    consistent_pairs,
    dataset_coverage,
    diagnose,
    explain,
    explanation_lines,
    result_name,
    warnings,
)
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS
from tests.open_worlds import rows, sample, write
from tests.oracles import coverage_bruteforce as oracle
from tests.oracles.worlds_bruteforce import draw_world
from tests.test_coverage import make_dataset, random_world, true_fragment_values

RATES = (0.02, 0.1, 0.2, 0.35, 0.49)


def as_cutoffs(array):
    return [None if cutoff == EVERY_K else int(cutoff) for cutoff in array]


def world_with_wrong_labels(seed, folder):
    """Alphabets of several sizes, partial tables: the data set, training and type_0 items."""
    plain = draw_world(seed)
    world = sample(replace(plain, noise=0.25 if plain.noise else 0), seed)
    dataset = write(world, folder)
    train = dict(zip(rows(dataset.train.inputs), dataset.train.answers.tolist(), strict=True))
    test = {item: plain.answer(item) for item in rows(world.test.get("type_0", np.empty((0, 1))))}
    return plain, dataset, train, test


def settings_and_noise(dataset, seed, **more):
    """One of the rates, for the library and for the oracle; None where there is one answer."""
    (answers,) = dataset.sizes([dataset.graph.answer])
    rate = RATES[seed % len(RATES)] if answers > 1 else 0.0
    return CoverageSettings(noise=rate, **more), (rate, answers) if rate else None


@pytest.mark.parametrize("seed", range(60))
def test_every_k_cutoff_is_that_of_the_definition(tmp_path, seed):
    """Evidence of every pair, its closure, and what is connected, in both scopes."""
    plain, dataset, train, test = world_with_wrong_labels(seed, tmp_path / "data")
    settings, noise = settings_and_noise(dataset, seed)
    slot_sets = oracle.all_slot_sets(len(plain.graph.inputs))
    coverage = dataset_coverage(dataset, settings)
    assert coverage.noise.rate == settings.noise
    for slot_set in coverage.slot_sets:
        positions = slot_set.observations.positions
        names = sorted(oracle.behaviours(train, positions))
        expected = oracle.pair_evidence(train, positions, noise=noise)
        found = {
            (names[a], names[b]): n
            for block in consistent_pairs(slot_set.observations, noise=coverage.noise)
            for a, b, n in zip(*(part.tolist() for part in block), strict=True)
        }
        assert found == expected
        counts = dict(enumerate(slot_set.equivalence.pairs.tolist()))
        evidence = list(expected.values())
        assert {n: c for n, c in counts.items() if c} == {n: evidence.count(n) for n in evidence}
    assert coverage.cutoffs.tolist() == [
        *oracle.cutoffs(train, test, slot_sets, noise=noise).values()
    ]
    anywhere = oracle.domain_cutoffs(train, dataset.slot_sizes, slot_sets, noise=noise)
    domain = dataset_coverage(dataset, replace(settings, scope="domain"))
    assert as_cutoffs(domain.node_cutoffs) == [anywhere[item] for item in plain.inputs()]


@pytest.mark.parametrize("scope", ["dataset", "domain"])
@pytest.mark.parametrize("seed", range(20))
def test_different_true_values_are_never_equivalent(seed, scope):
    graph, tables, train, test, dataset = random_world(seed, wrong=0.3)
    positions, true = true_fragment_values(graph, tables, train)
    if len(positions) == len(graph.inputs):
        return
    settings, noise = settings_and_noise(dataset, seed, ground_truth=True, scope=scope)
    coverage = dataset_coverage(dataset, settings)
    (slot_set,), names = coverage.slot_sets, sorted(true)
    for k in slot_set.equivalence.levels.tolist():
        classes = slot_set.equivalence.classes(k)
        kinds = {*zip(classes.tolist(), map(true.get, names), strict=True)}
        assert len(kinds) == classes.max() + 1
    if scope == "dataset":
        expected = oracle.cutoffs(train, test, [positions], true, noise)
        assert coverage.cutoffs.tolist() == [*expected.values()]
    else:
        expected = oracle.domain_cutoffs(train, dataset.slot_sizes, [positions], true, noise)
        assert as_cutoffs(coverage.node_cutoffs) == [*expected.values()]


def test_the_worlds_tell_noise_from_none():
    """Enough differs from strict equivalence for the comparisons above to mean something."""
    firmer = weaker = 0
    for seed in range(30):
        *_, dataset = random_world(seed, wrong=0.2)
        strict = dataset_coverage(dataset)
        noisy = dataset_coverage(dataset, CoverageSettings(noise=0.2))
        firmer += int((noisy.cutoffs > strict.cutoffs).sum())
        weaker += int((noisy.cutoffs < strict.cutoffs).sum())
    assert firmer > 30
    assert weaker == 0  # a pair that never disagrees keeps its evidence


@pytest.mark.parametrize("scope", ["dataset", "domain"])
@pytest.mark.parametrize("seed", range(15))
def test_every_explanation_says_what_the_training_set_shows(seed, scope):
    _, _, train, _, dataset = random_world(seed, share=0.4, wrong=0.25)
    settings, noise = settings_and_noise(dataset, seed, scope=scope)
    coverage = dataset_coverage(dataset, settings)
    for item, cutoff in zip(
        rows(dataset.test.inputs[coverage.test_rows]), coverage.cutoffs.tolist(), strict=True
    ):
        found = explain(coverage, item)
        here = item
        for step in found.steps:
            evidence = oracle.pair_evidence(
                train, step.slot_set.observations.positions, None, noise
            )
            assert step.before == here
            for pair in step.pairs:
                assert evidence[tuple(sorted((pair.first, pair.second)))] == pair.balance >= cutoff
            here = step.after
        assert here in train or not cutoff
        for near in found.lacking:
            counts = near.pair.agreeing, near.pair.disagreeing
            more = cutoff + 1 - near.pair.balance
            weight = oracle.penalty(*noise) * counts[1]
            assert counts[0] + more - weight + 1e-9 >= cutoff + 1 > counts[0] + more - 1 - weight
        text = "\n".join(explanation_lines(coverage, found))
        assert "never interchangeable" not in text
        said = re.findall(
            r"equal answers in (?:all |(\d+) of |the )(only|\d+) contexts? that", text
        )
        assert said == [
            (str(p.agreeing) if p.disagreeing else "", together(p))
            for step in found.steps
            for p in step.pairs
        ]


def together(pair):
    """The contexts that a pair shares, as an explanation counts them."""
    count = pair.agreeing + pair.disagreeing
    return "only" if count == 1 else str(count)


def one_wrong_label(**more):
    """(0, 0) and (1, 1) agree in contexts 0 to 4, but for a wrong label in 4; of 20 answers."""
    answers = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6}
    train = {(f, f, x): answers[x] for f in (0, 1) for x in range(5)} | {(1, 1, 5): 6}
    dataset = make_dataset(TASKS["twohop"], 20, train | {(0, 0, 4): 9}, {(0, 0, 5): 6}, **more)
    return dataset, (0, 0, 5)


def test_one_wrong_label_costs_agreements_and_no_more():
    """4 agreements less 0.58 for the disagreement: evidence 3, where no k was left."""
    dataset, item = one_wrong_label()
    strict, noisy = (dataset_coverage(dataset, CoverageSettings(noise=e)) for e in (0, 0.1))
    assert (strict.cutoffs.tolist(), noisy.cutoffs.tolist()) == ([0], [3])
    text = "\n".join(explanation_lines(noisy, explain(noisy, item)))
    assert "is covered up to k = 3" in text
    assert "(0, 0) ~ (1, 1): equal answers in 4 of 5 contexts that they share (x3=0 -> 1" in text
    assert "), evidence 3" in text
    assert "agree in 4 of 5 shared contexts, 1 more needed" in text
    assert "10.0% of the training answers; a different answer outweighs 0.58 equal ones" in text
    text = "\n".join(explanation_lines(strict, explain(strict, item)))
    assert "give different answers in 1 of 5 shared contexts: never interchangeable" in text
    # Wrong labels make equal fragments contradict each other: that is counted, not warned of.
    report = diagnose(noisy)
    pairs = next(s for s in report["slot_sets"] if s["slots"] == ["x1", "x2"])
    assert pairs["by_k"]["3"]["contradicting_pairs"] == 1
    assert not any("contradict" in sentence for sentence in warnings(noisy, report))


def test_an_explanation_with_true_values_offers_no_pair_that_is_barred():
    first = np.zeros((20, 20), dtype=np.int32)
    first[1, 1] = 1  # another true value than that of (0, 0)
    dataset, item = one_wrong_label(tables=[first, first])
    settings = CoverageSettings(noise=0.1, ground_truth=True)
    coverage = dataset_coverage(dataset, settings)
    assert coverage.cutoffs.tolist() == [0]
    text = "\n".join(explanation_lines(coverage, explain(coverage, item)))
    assert "they have different true b: never interchangeable" in text


def test_auto_takes_the_rate_that_the_data_show(monkeypatch):
    dataset, _ = one_wrong_label()
    asked = []

    def estimated_noise(data, positions):
        asked.append((data, positions))
        return 0.07

    fake = SimpleNamespace(estimated_noise=estimated_noise)
    monkeypatch.setitem(sys.modules, "coverage_principle.coverage.graded", fake)
    coverage = dataset_coverage(dataset, CoverageSettings(noise="auto", fragments="1,2;3"))
    assert asked == [(dataset, [(0, 1), (2,)])]
    assert coverage.noise == PairNoise(0.07, 20)
    assert result_name(coverage) == f"{dataset.name}_noise-auto_x1x2+x3"
    assert diagnose(coverage)["noise"] == 0.07


def test_rates_that_are_none_are_refused():
    for rate in (0.5, -0.1, float("nan"), "0.1", "Auto", None, True):
        with pytest.raises(InputError, match="`noise`"):
            CoverageSettings(noise=rate)
    with pytest.raises(InputError, match="with 1 answers, equal fragments would agree no more"):
        PairNoise(0.1, 1)
    for answers in (2, 3, 1000):
        for rate in (5e-324, 1e-17, 0.4999):  # each means something, and can be computed with
            noise = PairNoise(rate, answers)
            assert isfinite(noise.penalty)
            assert noise.penalty > 0
            assert noise.evidence(np.array([3]), np.array([3])).tolist() == [3]

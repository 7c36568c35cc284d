"""Support, pattern matcher and learner against loops over what their docstrings say."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from math import log

import numpy as np
import pytest

from coverage_principle.coverage import (
    FIELDS,
    Matcher,
    calibration,
    calibration_rows,
    equality,
    graded,
    graded_coverage,
    graded_rows,
    learn,
    learner,
    matcher,
    observe,
    require_learner,
    slot_sets,
    votes,
)
from coverage_principle.coverage.equality import (
    Equality,
    count_pairs,
    fit_equality,
    vote_weight,
)
from coverage_principle.coverage.evidence import Agreements
from coverage_principle.coverage.learner import Learner
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.coverage.settings import LearnerSettings
from coverage_principle.coverage.votes import Voters
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from tests.open_worlds import WORLDS, rows, sample, write
from tests.oracles import graded_bruteforce as oracle
from tests.oracles.worlds_bruteforce import draw_world

RATES = (0.0, 0.0, 0.05, 0.2)


class Case:
    """A small random world: what trains, what is asked, and the noise that is assumed."""

    def __init__(self, seed: int, most: int | None = None) -> None:
        plain = draw_world(seed)
        world = sample(replace(plain, noise=0.25 if plain.noise else 0), seed)
        answers = [world.noisy.get(i, plain.answer(x)) for i, x in enumerate(rows(world.train))]
        self.train = dict([*zip(rows(world.train), answers, strict=True)][:most])
        unseen = [x for x in plain.inputs() if x not in self.train]
        # Unseen calls and fragments among them, and some training items.
        self.queries = [*unseen[:: max(1, len(unseen) // 12)], *[*self.train][:3]]
        self.sizes = tuple(plain.size(slot) for slot in plain.graph.inputs)
        self.answers = plain.size(plain.graph.answer)
        rate = RATES[seed % 4] if self.answers > 1 else 0.0
        self.noise, self.sets = (rate, self.answers), slot_sets(len(self.sizes))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([*self.train], dtype=np.int32), np.array([*self.train.values()])

    @property
    def asked(self) -> np.ndarray:
        return np.array(self.queries, dtype=np.int32)

    def observe(self, positions):
        return observe(*self.arrays, positions, self.sizes)

    def about(self) -> dict:
        return {"num_answers": self.answers, "sizes": self.sizes}

    def matcher(self) -> Matcher:
        return Matcher(*self.arrays, **self.about(), positions=self.sets, noise=self.noise[0])


# ------------------------------------------------------------------- pairs and how likely they are


@pytest.mark.parametrize("seed", WORLDS[::3])
def test_pairs_and_the_estimate_from_them(seed, monkeypatch):
    """Counts of all pairs; one step of expectation maximisation; what the result is worth."""
    case = Case(seed)
    for positions in case.sets:
        counts = count_pairs(Agreements(case.observe(positions)))
        pairs = oracle.pair_counts(case.train, positions)
        expected = [pair for pair in pairs if pair[0]]
        columns = (c.tolist() for c in (counts.agreeing, counts.shared, counts.pairs))
        found = zip(*columns, strict=True)
        assert {(a, s): n for a, s, n in found} == {p: expected.count(p) for p in expected}
        sums = counts.agreements, counts.meetings, counts.sharing
        assert sums == pytest.approx(oracle.sums(pairs))

        noise = PairNoise(*case.noise)
        monkeypatch.setattr(equality, "_ROUNDS", 0)
        start = fit_equality(counts, noise)
        monkeypatch.setattr(equality, "_ROUNDS", 1)
        after = fit_equality(counts, noise)
        monkeypatch.undo()
        if not sums[0]:
            assert start == after == fit_equality(counts, noise)
            continue
        step = oracle.em_step(pairs, start.prior, start.chance, case.noise)
        assert (after.prior, after.chance) == pytest.approx(np.clip(step, 1e-9, 0.999))
        fitted = fit_equality(counts, noise)
        own = fitted.prior, fitted.chance, case.noise
        assert fitted.nats == pytest.approx(oracle.nats(pairs, *own))
        again = oracle.em_step(pairs, *own)
        assert own[:2] == pytest.approx(np.clip(again, 1e-9, 0.999), abs=0.02)


def test_a_sample_of_fragments_stands_for_all():
    """Where only some are looked at, the numbers of pairs are scaled up."""
    rng = np.random.default_rng(0)
    inputs = np.argwhere(rng.random((90, 30)) < 0.5).astype(np.int32)
    seen = observe(inputs, rng.integers(0, 3, len(inputs)), (0,), (90, 30))
    whole, some = (count_pairs(Agreements(seen), *most) for most in ((), (30,)))
    assert some.pairs.sum() == pytest.approx(whole.pairs.sum(), rel=0.02)
    assert (some.agreements, some.sharing) == (whole.agreements, whole.sharing)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.3])
def test_the_posterior_is_bayes_rule(rate):
    for answers in (2, 3, 20):
        for prior, chance in ((1e-9, 0.3), (0.01, 0.05), (0.4, 0.9)):
            one = Equality(prior, chance, PairNoise(rate, answers))
            for shared in range(6):
                agreeing = np.arange(shared + 1)
                expected = [
                    oracle.posterior(a, shared, prior, chance, (rate, answers)) for a in agreeing
                ]
                assert one.posterior(agreeing, shared) == pytest.approx(expected)
                weights = [oracle.vote_weight(p, (rate, answers)) for p in expected]
                assert one.weight(agreeing, shared) == pytest.approx(weights)


def test_a_vote_counts_more_the_surer_it_is():
    for rate, answers in ((0, 2), (0.1, 2), (0, 50), (0.3, 50)):
        weight = vote_weight(np.linspace(0, 1, 101), PairNoise(rate, answers))
        assert weight[0] == 0
        assert (np.diff(weight) > 0).all()
    assert weight[-1] == pytest.approx(log(0.7 / (0.3 / 49)))


# --------------------------------------------------------------------------------- votes, matcher


def found_votes(voters, queries, count):
    """For each query: ``{item number: (agreeing, shared)}`` of votes in its own context."""
    found = [{} for _ in range(count)]
    for pairs in voters.pairs(queries, in_context=True):
        items = voters.items(pairs.other, queries.context[pairs.query]).tolist()
        numbers = zip(pairs.query.tolist(), items, pairs.agreeing, pairs.shared, strict=True)
        for query, item, agreeing, shared in numbers:
            assert item not in found[query]
            found[query][item] = int(agreeing), int(shared)
    return found


@pytest.mark.parametrize("seed", WORLDS[1::3])
def test_votes_are_those_of_the_definition(seed):
    """Of queries, and of training items that are left out: as if they had never been there."""
    case = Case(seed)
    items = [*case.train]
    left_out = range(0, len(items), max(1, len(items) // 6))
    cells = 0 if seed % 2 else votes.MOST_CELLS  # with none, items are looked up by bisection
    for positions in case.sets:
        voters = Voters(case.observe(positions), case.arrays[1], case.sizes, cells)

        def expected(train, query, positions=positions):
            found = oracle.votes(train, query, positions)
            return {items.index(item): counts for item, *counts in found}

        found = found_votes(voters, voters.queries(case.asked), len(case.queries))
        for query, own in zip(case.queries, found, strict=True):
            assert {i: [*c] for i, c in own.items()} == expected(case.train, query)
        queries = voters.left_out(np.array(left_out))
        for number, own in zip(left_out, found_votes(voters, queries, len(left_out)), strict=True):
            reduced = {x: a for x, a in case.train.items() if x != items[number]}
            assert {i: [*c] for i, c in own.items()} == expected(reduced, items[number])


@pytest.mark.parametrize("seed", WORLDS[::4])
def test_joint_votes_are_those_of_the_definition(seed):
    """One substitution at each part of a bipartition, for queries and for items left out."""
    case = Case(seed)
    items, noise, given = [*case.train], PairNoise(*case.noise), (0.3, 0.4)
    left_out = [*range(0, len(items), max(1, len(items) // 5))]
    equal = Equality(*given, noise)

    def chance(pairs):
        return equal.posterior(pairs.agreeing, pairs.shared)

    for positions in case.sets:
        others = tuple(i for i in range(len(case.sizes)) if i not in positions)
        if 0 not in positions:
            continue
        own = [Voters(case.observe(p), case.arrays[1], case.sizes) for p in (positions, others)]
        equalities = dict.fromkeys((positions, others), given)
        for asked, reduce in (
            ([v.queries(case.asked) for v in own], False),
            ([v.left_out(np.array(left_out)) for v in own], True),
        ):
            queries = [items[i] for i in left_out] if reduce else case.queries
            found = [{} for _ in queries]
            for query, item, both in votes.joint_votes(own, asked, (chance, chance), 0.05):
                for q, i, p in zip(query.tolist(), item.tolist(), both.tolist(), strict=True):
                    assert i not in found[q]
                    found[q][i] = p
            for query, mine in zip(queries, found, strict=True):
                train = {x: a for x, a in case.train.items() if not (reduce and x == query)}
                expected = oracle.joint_votes(train, query, positions, equalities, case.noise)
                assert mine == pytest.approx({items.index(x): p for x, p in expected})


@pytest.mark.parametrize("seed", WORLDS[1::3])
def test_support_answers_and_probabilities_of_the_matcher(seed):
    case = Case(seed)
    found = case.matcher()
    own = found.match(case.asked)
    numbers = {p: (e.prior, e.chance) for p, e in found.equalities.items()}
    shown = [p for p, e in found.equalities.items() if e.nats >= 1]
    for row, query in enumerate(case.queries):
        support, scores = oracle.support_and_scores(case.train, query, numbers, shown, case.noise)
        assert own.support[row].tolist() == support
        expected = oracle.matcher_probability(
            case.train, query, scores, found.sharpness, case.noise
        )
        assert own.probability[row] == pytest.approx(expected, abs=1e-6)
        best = sorted(expected, reverse=True)
        assert own.probability[row, own.answer[row]] == pytest.approx(best[0])
        assert own.margin[row] == pytest.approx(best[0] - best[1] if best[1:] else 1, abs=1e-6)


@pytest.mark.parametrize("seed", WORLDS[::20])
def test_the_sharpness_is_that_under_which_left_out_items_are_likeliest(seed):
    """True leave-one-out: an item's votes are those of a training set without it."""
    case = Case(seed)
    found = case.matcher()
    numbers = {p: (e.prior, e.chance) for p, e in found.equalities.items()}
    shown = [p for p, e in found.equalities.items() if e.nats >= 1]
    scores = {}
    for query in case.train:
        reduced = {x: a for x, a in case.train.items() if x != query}
        scores[query] = oracle.support_and_scores(reduced, query, numbers, shown, case.noise)[1]
    rate, answers = case.noise
    counts = np.bincount([*case.train.values()], minlength=answers) + 1

    def loss(sharpness):
        total = 0.0
        for query, own in scores.items():
            weights = counts * np.exp(sharpness * (np.array(own) - max(own)))
            right = weights[case.train[query]] / weights.sum()
            seen = (1 - rate) * right + rate / max(answers - 1, 1) * (1 - right)
            total -= log(max(seen, 1e-12))
        return total

    best = loss(found.sharpness)
    for factor in (0.7, 0.9, 1.1, 1.4):
        if np.exp(-7) < found.sharpness * factor < np.exp(3):
            assert best <= loss(found.sharpness * factor) + 1e-3


def test_the_examples_in_docstrings_hold():
    assert doctest.testmod(matcher)[0] == doctest.testmod(equality)[0] == 0


# ---------------------------------------------------------------------------------------- learner


@pytest.mark.parametrize("seed", WORLDS[::5])
def test_the_kernel_and_the_scores_of_the_learner(seed, monkeypatch):
    """K by its definition, positive semi-definite, and the dense system's solution."""
    case = Case(seed, most=20)
    if len(case.sizes) == 1:
        return  # nothing to part
    monkeypatch.setattr(learner, "_RESIDUAL", 1e-6)
    settings = LearnerSettings(*((1.0, 0.5, 8.0, 1.0), (0.3, 0.01, 2.0, 0.2))[seed % 4 // 2])
    found = Learner(*case.arrays, **case.about(), noise=case.noise[0], settings=settings)
    items, shown = [*case.train], {}
    for positions in case.sets:
        own = fit_equality(count_pairs(Agreements(case.observe(positions))), PairNoise(*case.noise))
        shown[positions] = own.nats
    dense = np.array(oracle.kernel(case.train, items, items, shown, settings))
    own = found._features.of(case.arrays[0])  # the learner's own rows are in another order
    assert (own @ own.T).toarray() == pytest.approx(dense, rel=1e-4, abs=1e-5)
    assert np.linalg.eigvalsh(dense).min() > -1e-9
    asked = np.array(oracle.kernel(case.train, case.queries, items, shown, settings))
    assert (found._features.of(case.asked) @ own.T).toarray() == pytest.approx(asked, abs=1e-4)
    targets = np.eye(case.answers)[case.arrays[1]]
    weights = np.linalg.solve(dense + settings.ridge * np.eye(len(items)), targets)
    assert found.scores(case.asked) == pytest.approx(asked @ weights, abs=2e-3)


def thinned(kernel_of, monkeypatch, masks):
    """The mean and standard error of kernels under several choices of contexts."""
    found = []
    for seed in range(masks):

        def some(side, share, seed=seed):
            own = side.observations
            return np.random.default_rng((seed, *own.positions)).random(own.num_contexts) < share

        monkeypatch.setattr(learner._Side, "_some_contexts", some)
        found.append(kernel_of())
    return np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(masks)


def test_features_of_a_small_alphabet_stay_within_their_bound(monkeypatch):
    """Two tokens of a slot that act alike meet thousands of contexts each."""
    rng = np.random.default_rng(3)
    inputs = np.unique(rng.integers(0, (4, 40, 40), size=(2000, 3)), axis=0)
    table = rng.integers(0, 30, size=(2, 40, 40))
    answers = table[inputs[:, 0] // 2, inputs[:, 1], inputs[:, 2]]
    monkeypatch.setattr(learner, "_MOST_ALONE", 20_000)
    monkeypatch.setattr(learner, "_MOST_ENTRIES", 20_000)
    found = Learner(inputs, answers, num_answers=30, sizes=(4, 40, 40))
    assert found._features.own.nnz < 6 * 20_000
    assert np.isfinite(found.scores(inputs[:5])).all()


def test_thinned_contexts_leave_the_expected_kernel(monkeypatch):
    """Contexts are left out of products of behaviours alone, and the rest count for them."""
    rng = np.random.default_rng(1)
    table = rng.integers(0, 3, (4, 4))
    inputs = np.argwhere(rng.random((4, 4, 4)) < 0.8).astype(np.int32)
    answers = (table[inputs[:, 0], inputs[:, 1]] + inputs[:, 2]) % 3

    def kernel():
        found = Learner(inputs, answers, num_answers=3, sizes=(4, 4, 4))._features
        return (found.own @ found.own.T).toarray()

    whole = kernel()
    monkeypatch.setattr(learner, "_MOST_ENTRIES", 600)
    sides = [
        learner._Side(observe(inputs, answers, p, (4, 4, 4)), (4, 4, 4), *rest)
        for p, *rest in (((0, 1), LearnerSettings(), 2.0), ((2,), LearnerSettings(), 2.0))
    ]
    assert 0.2 < learner._Features._share(*sides, len(inputs)) < 0.9
    masks = [side._some_contexts(0.5)[:4].tolist() for side in sides]
    assert masks[0] != masks[1][:4]  # the two parts of an item are thinned independently
    mean, error = thinned(kernel, monkeypatch, 40)
    assert np.abs(mean - whole).max() > 0
    assert (np.abs(mean - whole) <= 5 * error + 1e-4).all()
    assert mean.sum() == pytest.approx(whole.sum(), rel=0.05)


def test_few_items_and_a_single_slot_are_learnt_from():
    """One training item; a task that cannot be parted: the most frequent answer."""
    for inputs, sizes in (([[0, 1]], (2, 2)), ([[0], [1], [2]], (4,))):
        answers = np.array([0, 2, 2][-len(inputs) :])
        options = {"num_answers": 3, "sizes": sizes}
        for found in (
            learn(np.array(inputs), answers, np.array([[1] * len(sizes)]), **options),
            Matcher(np.array(inputs), answers, positions=slot_sets(len(sizes)), **options).match(
                np.array([[3 % s for s in sizes]])
            ),
        ):
            assert found.answer.tolist() == [2]
            assert found.probability.sum() == pytest.approx(1)


# ------------------------------------------------------------------------------------------ graded


def test_calibration_groups_by_hand():
    probability = np.array([0.0, 0.2, 0.21, 0.4, 0.95, 0.951, 1.0])
    right = np.array([False, True, False, True, True, False, True])
    found = calibration(probability, right, bounds=(0.0, 0.2, 0.4, 0.95, 1.0))
    assert [(one["low"], one["high"], one["items"], one["right"]) for one in found] == [
        (0.0, 0.2, 2, 1),
        (0.2, 0.4, 2, 1),
        (0.4, 0.95, 1, 1),
        (0.95, 1.0, 2, 1),
    ]
    assert [one["probability"] for one in found] == pytest.approx([0.1, 0.305, 0.95, 0.9755])
    assert calibration(probability[:0], right[:0])[0] == {
        **{"low": 0.0, "high": 0.2, "items": 0, "probability": None, "right": 0}
    }


@pytest.mark.parametrize("seed", WORLDS[::20])
def test_every_world_is_graded(seed, tmp_path):
    """No bridges, alphabets of one token, one training item, facts beside compositions."""
    plain = draw_world(seed)
    dataset = write(sample(plain, seed), tmp_path / "data")
    positions = slot_sets(len(dataset.graph.inputs))
    found = graded_coverage(dataset, positions, noise=("auto", 0.1, 0.0)[seed % 3])
    fields, summary = found.fields(), json.loads(json.dumps(found.summary()))
    count, test = len(dataset.test), dataset.test
    assert len(fields) == len(test.all_records)
    assert all(set(own) == set(FIELDS) for own in fields)
    assert all(value is None for own in fields[count:] for value in own.values())
    tokens = plain.alphabets[plain.graph.alphabet(plain.graph.answer)]
    for number, own in enumerate(fields[:count]):
        assert {own["matcher_answer"], own["learner_answer"]} <= {*tokens}
        assert own["support"] == found.matched.support[number, test.answers[number]]
        assert 0 <= own["matcher_margin"] <= own["matcher_probability"] <= 1 + 1e-6
    assert sum(one["items"] for one in summary["by_type"].values()) == count
    first = int((test.types == "type_0").sum())
    for groups in summary["calibration"].values():
        assert sum(group["items"] for group in groups) == first


def test_a_learner_that_is_too_large_is_left_out(tmp_path, monkeypatch):
    """One unknown above the limit: all but the learner's is as with it."""
    dataset = write(sample(draw_world(0), 0), tmp_path / "data")
    positions, count = slot_sets(len(dataset.graph.inputs)), graded.unknowns(dataset)
    assert count == len(dataset.train) * dataset.sizes([dataset.graph.answer])[0]
    monkeypatch.setattr(graded, "MOST_UNKNOWNS", count)
    require_learner(dataset, "fit")
    whole = graded_coverage(dataset, positions)
    monkeypatch.setattr(graded, "MOST_UNKNOWNS", count - 1)
    steps = []
    alone = graded_coverage(dataset, positions, progress=lambda *step: steps.append(step))
    assert steps[-1] == (1.0, "pattern matcher")
    assert (whole.learned is None, alone.learned) == (False, None)

    def of_learner(name):
        return name.startswith("learner")

    expected = [{n: v for n, v in own.items() if not of_learner(n)} for own in whole.fields()]
    assert alone.fields() == expected
    summary, own = whole.summary(), alone.summary()
    assert (own.pop("learner"), own.pop("learner_sharpness")) == (None, None)
    del summary["learner"], summary["learner_sharpness"]
    for one in (*summary["by_type"].values(), summary["calibration"]):
        del one["learner"]
    assert own == summary
    header, *rows = graded_rows(own, dataset.graph)
    assert header == ["", "items", "median support", "matcher right", "expected"]
    assert [*map(len, rows)] == [5] * len(summary["by_type"])
    header, *rows = calibration_rows(own)
    assert header == ["probability", "matcher: items", "right"]
    assert {*map(len, rows)} == {3}
    with pytest.raises(InputError, match=rf"`fit` asks.*{len(dataset.train):,} training items"):
        require_learner(dataset, "fit")


def test_a_test_set_without_compositions_or_type_0_is_graded(tmp_path):
    dataset = write(sample(draw_world(0), 0), tmp_path / "data")
    records = [r for r in dataset.test.records if r["type"] != "type_0"]
    for kept in (records, []):
        (dataset.path / "test.json").write_text(json.dumps(kept), encoding="utf-8")
        found = graded_coverage(load_dataset(dataset.path), [(0, 1), (2,)])
        assert len(found.fields()) == len(kept)
        assert "type_0" not in found.summary()["by_type"]


# --------------------------------------------------------------- worlds large enough for statistics


def two_hops(seed, wrong, *, tokens=15, items=1000):
    """Training items with a share of wrong labels, and unseen ones with their true answers."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, tokens, (2, tokens, tokens))
    inputs = np.argwhere(np.ones((tokens,) * 3, dtype=bool)).astype(np.int32)
    rng.shuffle(inputs)
    true = second[first[inputs[:, 0], inputs[:, 1]], inputs[:, 2]]
    given = true.copy()
    noisy = rng.random(len(true)) < wrong
    given[noisy] = (true[noisy] + rng.integers(1, tokens, noisy.sum())) % tokens
    return inputs[:items], given[:items], inputs[items:], true[items:]


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_the_noise_is_found_and_the_matcher_as_sure_as_it_is_right(wrong):
    """Estimated from training items alone; right as often as the probabilities say."""
    expected = right = spread = 0.0
    for seed in (0, 1):
        inputs, given, unseen, true = two_hops(seed, wrong)
        about = {"num_answers": 15, "sizes": (15, 15, 15), "positions": slot_sets(3)}
        noise = None if seed == 0 else wrong
        one = Matcher(inputs, given, **about, noise=noise)
        assert abs(one.noise - wrong) <= 0.03
        found = one.match(unseen)
        sure = found.probability.max(axis=1)
        expected, right = expected + sure.sum(), right + (found.answer == true).sum()
        spread += (sure * (1 - sure)).sum()
    assert abs(right - expected) < 4 * spread**0.5

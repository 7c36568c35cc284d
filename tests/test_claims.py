"""Claims: the measures behind them against plain loops, the words against made-up numbers, and
the commands from runs to page."""

from __future__ import annotations

import doctest
import itertools
import json
import math
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from coverage_principle.coverage import (
    graded_coverage,
    neighbours,
    slot_sets,
    smallest_amount,
)
from coverage_principle.data import load_dataset
from coverage_principle.experiments import ClaimSettings, Sweep
from coverage_principle.experiments.claims import (
    CLAIMS,
    SCALES,
    base,
    card,
    chain_of_thought,
    cuts,
    data_scaling,
    parameter_scaling,
    prediction,
    register,
    scaling,
    scaling_words,
)
from coverage_principle.experiments.claims.base import recipe
from coverage_principle.presets import TRAINING
from coverage_principle.statistics import (
    Rate,
    auc,
    mean_of,
    mean_over_groups,
    rate_difference,
    rate_of,
    rate_over_seeds,
    wilson_interval,
)
from simpletransformers.settings import fields_of
from tests.conftest import ROOT

# --------------------------------------------------------------------------------------- measures


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25))
def test_auc_counts_pairs(items):
    scores, positive = zip(*items, strict=True)
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for (a, good), (b, other) in itertools.product(items, items)
        if good and not other
    ]
    if pairs:
        assert auc(scores, positive) == pytest.approx(sum(pairs) / len(pairs))
    else:
        assert auc(scores, positive) is None


def test_means_have_students_interval():
    values = [0.2, 0.5, 0.9, 0.4]
    mean = mean_of(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mean.mean, mean.low, mean.high) == pytest.approx((0.5, low, high))
    assert (rate_of(values).low, rate_of([0.9, 1.0]).high) == (max(low, 0), 1.0)
    assert mean_of([3]).low is None and str(mean_of([3])) == "3.00"
    assert mean_of([0.5, 0.6]).above_zero is False and mean_of([0.50, 0.51]).above_zero
    assert mean_of([-0.50, -0.51]).below_zero and not mean_of([3]).above_zero
    with pytest.raises(ValueError, match="no values"):
        mean_of([])


def test_a_mean_over_items_and_models_is_clustered_by_both():
    """Against sums over pairs of values that share an item, a model, or both."""
    rng = np.random.default_rng(3)
    items, models = rng.integers(0, 7, 40), rng.integers(0, 4, 40)
    for values in (
        rng.random(40) + 0.5 * items + models,
        np.where(items % 2 == models % 2, 1.0, -1.0),  # what is common to neither
    ):
        away = np.multiply.outer(values - values.mean(), values - values.mean())
        same_item, same_model = (np.equal.outer(own, own) for own in (items, models))
        kinds = {
            7: same_item,
            4: same_model,
            len(set(zip(items, models, strict=True))): same_item & same_model,
        }
        one, other, both = (n / (n - 1) * away[same].sum() for n, same in kinds.items())
        half = stats.t.ppf(0.975, 3) * math.sqrt(max(one, other, one + other - both)) / 40
        found = mean_over_groups(values, items, models)
        assert (found.mean, found.n) == (pytest.approx(values.mean()), 4)
        assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert mean_over_groups(values, items, np.zeros(40, dtype=int)).low is None


def test_a_rate_over_seeds_is_what_is_believed_of_its_mean():
    """Against the posterior by plain integration, with scipy's own beta-binomial."""
    right, items = [17, 33, 49], 100
    middles = (np.arange(400) + 0.5) / 400
    spreads = np.linspace(0.01, 4, 400)
    prior = stats.halfnorm.pdf(spreads, scale=0.7)
    weight = np.zeros(len(middles))
    for column, middle in enumerate(middles):
        size = 1 / (spreads**2 * middle * (1 - middle))
        shape = size * middle, size * (1 - middle)
        seen = [stats.betabinom.pmf(x, items, *shape) for x in right]
        weight[column] = (prior * np.prod(seen, axis=0)).sum()
    ends = np.interp([0.025, 0.975], np.cumsum(weight) / weight.sum(), middles + 0.5 / 400)
    found = rate_over_seeds([x / items for x in right], [items] * 3)
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.005)
    assert (found.mean, found.n, found.items) == (pytest.approx(0.33), 3, 300)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.5), (5, 0.5)])
def test_intervals_over_seeds_hold_the_true_rate(seeds, spread):
    rng = np.random.default_rng(1)
    middle = -0.8
    truth = special.expit(middle + spread * rng.standard_normal(100_000)).mean()
    held, narrower = 0, 0
    for _ in range(100):
        own = special.expit(middle + spread * rng.standard_normal(seeds))
        rates = rng.binomial(200, own) / 200
        found = rate_over_seeds(rates, [200] * seeds)
        held += found.low <= truth <= found.high
        narrower += found.high - found.low < (wide := rate_of(rates)).high - wide.low
    assert held >= 90
    assert narrower >= 60 or not spread


def test_a_rate_knows_its_items_and_leaves_out_seeds_without():
    few, many = (rate_over_seeds([0.5, 0.5], [n, n]) for n in (5, 5000))
    assert few.high - few.low > many.high - many.low > 0
    assert rate_over_seeds([0.5, 0.0], [10, 0]) == rate_over_seeds([0.5], [10])
    nothing = rate_over_seeds([0.0, 0.0], [40, 40])
    assert (nothing.mean, nothing.low) == (0.0, 0.0) and 0.02 < nothing.high < 0.2
    with pytest.raises(ValueError, match="no items"):
        rate_over_seeds([0.0], [0])


def test_a_difference_of_rates_has_the_interval_of_zou_and_donner():
    first, second = Rate(0.9, 0.8, 0.95, 3, 100), Rate(0.5, 0.4, 0.7, 3, 100)
    gap = rate_difference(first, second)
    assert gap.mean == pytest.approx(0.4)
    assert gap.low == pytest.approx(0.4 - math.hypot(0.1, 0.2))
    assert gap.high == pytest.approx(0.4 + math.hypot(0.05, 0.1))


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=25)
def test_neighbours_are_the_training_items_one_slot_away(seed, slots):
    rng = np.random.default_rng(seed)
    domain = np.array(list(itertools.product(range(3), repeat=slots)))
    order = rng.permutation(len(domain))
    train, items = domain[order[:7]], domain[order[7:]]
    expected = [sum((item != other).sum() == 1 for other in train) for item in items]
    assert neighbours(items, train).tolist() == expected


@given(
    threshold=st.integers(2, 4000),
    start=st.integers(2, 5000),
    most=st.integers(10, 5000),
    tolerance=st.sampled_from([0.03, 0.1, 0.5]),
)
def test_the_search_finds_the_smallest_sufficient_amount(threshold, start, most, tolerance):
    asked = []

    def reached(amount):
        assert 2 <= amount <= most and amount not in asked
        asked.append(amount)
        return amount >= threshold

    how = {"tolerance": tolerance, "factor": 1.25, "geometric": True}
    found = smallest_amount(reached, start, most, **how)
    if threshold > most:
        assert found is None
    else:
        assert threshold <= found <= max(threshold + 1, math.ceil(threshold * (1 + tolerance)))
    assert len(asked) <= 40


@given(
    crossing=st.floats(3, 4000),
    slope=st.floats(2, 60),
    start=st.floats(2, 5000),
    most=st.integers(10, 5000),
    stride=st.sampled_from([1.25, 2]),
    in_a_row=st.sampled_from([1, 2]),
)
def test_a_climb_measures_both_sides_of_the_crossing(
    crossing, slope, start, most, stride, in_a_row
):
    tried = {}

    def accuracy(amount):
        assert 2 <= amount <= most and amount not in tried
        # 0.99 at the crossing, a straight line on logarithmic axes
        tried[amount] = float(special.expit(math.log(99) + slope * math.log(amount / crossing)))
        return tried[amount]

    found = scaling.climb(accuracy, start, most, stride=stride, in_a_row=in_a_row)
    enough = {n for n, value in tried.items() if value >= 0.99}
    few = {n: value for n, value in tried.items() if value < 0.99}
    assert found == min(enough, default=None)
    assert enough or most in tried
    assert few or 2 in tried
    if enough and few:
        assert max(few) < found <= math.ceil(max(few) * stride) + 1
        # A steep curve is looked at more closely, until a trial tells where it crosses.
        assert max(few.values()) >= 0.7 or found <= 1.07 * max(few) + 1
        assert most in tried or len(enough) >= in_a_row
    anchored = {min(most, max(2, round(start * stride**j))) for j in range(-45, 45)}
    assert len(set(tried) - anchored) <= 6  # all others stand on the grid


# ------------------------------------------------------------------------------------------ words


def test_a_guess_is_the_commonest_answer_with_the_last_input(small_dataset):
    dataset = load_dataset(small_dataset)
    seen: dict[int, Counter] = {}
    for inputs, answer in zip(dataset.train.inputs, dataset.train.answers, strict=True):
        seen.setdefault(int(inputs[-1]), Counter())[int(answer)] += 1
    best = {x: min(own, key=lambda a, own=own: (-own[a], a)) for x, own in seen.items()}
    test = dataset.test
    for kind in ("type_0", "type_2"):
        items = [
            best.get(int(inputs[-1]), 0) == answer
            for inputs, answer, own in zip(test.inputs, test.answers, test.types, strict=True)
            if own == kind
        ]
        assert items and base.guessed(dataset, kind) == pytest.approx(np.mean(items))


def by_data(low, high, outside):
    def run(inside):
        return {
            "run": "r",
            "steps": [10, 20],
            "accuracy": {
                "train_inferred": [0.5, 1.0],
                "type_0": [0.1, inside],
                "type_1": [0.1, outside],
            },
            "items": {"train_inferred": 500, "type_0": 400, "type_1": 500},
            "guess": {"type_0": inside / 2, "type_1": 0.04},
        }

    return {
        "num_tokens": 10,
        "chance": 0.1,
        "sizes": {
            "100": {"1": run(low), "2": run(low + 0.01)},
            "200": {"1": run(high), "2": run(high)},
        },
    }


def test_words_claim_only_what_the_numbers_show():
    find = CLAIMS["accuracy_by_data"].findings
    shown = " ".join(find(by_data(0.3, 0.97, 0.12)))
    rate = rate_over_seeds([0.3, 0.31], [400, 400])
    assert f"from {rate} with 100 training items to 0.97" in shown
    assert "(2 sizes, 2 seeds each, 400 to 500 test items of each type a seed; 95 %" in shown
    gap = rate_difference(rate_over_seeds([0.97, 0.97], [400, 400]), rate)
    assert f"The rise is steepest from N = 100 to 200: by {gap} with 100 items more." in shown
    assert "the curve stays low." in shown and "20 at N = 200" in shown
    assert "No type with an unseen fact is clearly above chance" in shown
    (table,) = CLAIMS["accuracy_by_data"].tables(by_data(0.3, 0.97, 0.12))
    assert table.rows[0][2] == str(rate) and "beta-binomial" in table.title
    above = " ".join(find(by_data(0.3, 0.97, 0.4)))
    assert "at every size, where published is chance: type_1 (both unseen)." in above
    assert "be right for 0.15 to 0.48 of type_0 and 0.04 of type_1 (measured" in shown
    assert "stays low" not in " ".join(find(by_data(0.3, 0.97, 0.6)))
    flat = " ".join(find(by_data(0.3, 0.4, 0.12)))
    assert "stays low" not in flat and "At no size does every seed reach 0.9" in flat


def told_apart(slope, support, ceiling):
    """A world of made-up numbers: accuracy by k-cutoff, and AUCs of what predicts the answers."""
    aucs = {"neighbours": 0.55, "k_cutoff": 0.6, "matcher": 0.6, "support": support}
    aucs |= {"learner": 0.75, "another_seed": 0.7, "another_probability": ceiling}
    of_all = {"auc": {name: {"mean": value} for name, value in aucs.items()}}
    sizes = {"1": 30, "2": 50, "4": 20, "9": 1}
    return {
        "run": "r",
        "steps": [10, 20],
        "by_k": {k: {"n": n, "accuracy": [0.1, 0.2 + slope * int(k)]} for k, n in sizes.items()},
        "told": {"type_0": of_all, "unseen": {"auc": {**of_all["auc"], "type": {"mean": 0.9}}}},
    }


def test_words_on_k_cutoffs_and_what_else_predicts_answers():
    claim = CLAIMS["accuracy_by_k_cutoff"]
    worlds = {
        "1": told_apart(0.05, 0.7, 0.8),
        "2": told_apart(0.06, 0.72, 0.75),
        "3": told_apart(0.07, 0.74, 0.85),
    }
    shown = claim.findings({"chance": 0.1, "num_tokens": 10, "sizes": {"500": worlds}})
    assert "are answered more often, as published" in shown[0]
    ends = [
        rate_over_seeds([0.2 + slope * k for slope in (0.05, 0.06, 0.07)], [n] * 3)
        for k, n in ((1, 30), (4, 20))  # of the one item of k-cutoff 9 nothing is said
    ]
    assert f"goes from {ends[0]} at k-cutoff 1 to {ends[1]} at k-cutoff 4 (3 seeds, 101" in shown[1]
    assert f"A step of the k-cutoff adds {mean_of([0.05, 0.06, 0.07])} (least" in shown[1]
    assert f"support {mean_of([0.7, 0.72, 0.74])}" in shown[2]
    assert "The number of items one slot away predicts clearly worse than" in shown[3]
    assert "The matcher is not clearly apart from the k-cutoff: 0.00" in shown[4]
    better = mean_of([0.1, 0.12, 0.14])
    assert shown[5] == f"Support predicts clearly better than the k-cutoff: {better} of AUC."
    shares = mean_of([0.2 / 0.3, 0.22 / 0.25, 0.24 / 0.35])
    assert f"support {shares}" in shown[7]
    assert f"The learner's AUC less that one is {mean_of([-0.05, 0, -0.1])}." in shown[7]
    worlds["1"] = told_apart(-0.05, 0.7, 0.8)
    numbers = {"chance": 0.1, "num_tokens": 10, "sizes": {"500": worlds}}
    assert "are not clearly answered more often" in claim.findings(numbers)[0]
    by_k, aucs = claim.tables(numbers)
    assert [row[0] for row in by_k.rows] == ["1", "2", "4", "9"]
    assert by_k.rows[1][1].endswith(", n = 150")
    assert aucs.rows[7] == ["type alone, all unseen items", "0.90 (0.90 to 0.90)"]
    del worlds["2"]["told"]["type_0"]["auc"]["learner"]  # a model that answers every item
    assert "learner" not in claim.findings(numbers)[2]


def test_words_on_path_ambiguity_know_items_and_seeds():
    def runs(rates, by_b, by_both):
        return {
            str(seed): {
                "run": "r",
                "final": rate,
                "items": {"type_0": 200 + seed},
                "iicg": {"b": {"peak": one, "layer": 1}, "b,x2": {"peak": other, "layer": 2}},
            }
            for seed, (rate, one, other) in enumerate(zip(rates, by_b, by_both, strict=True))
        }

    tasks = {
        "2-hop": runs([0.9, 0.95, 0.92], [0.3, 0.31, 0.32], [0.29, 0.3, 0.32]),
        "non-tree": runs([0.2, 0.3, 0.25], [0.0, 0.01, -0.01], [0.2, 0.21, 0.19]),
        "2-hop, CoT": runs([1, 1, 1], [0.9, 0.9, 0.91], [0.9, 0.9, 0.9]),
        "non-tree, CoT": runs([1, 1, 0.99], [0.9, 0.9, 0.91], [0.9, 0.9, 0.9]),
    }
    numbers = {"chance": 0.1, "num_tokens": 10, "size": 50, "keys": ["b", "b,x2"], "tasks": tasks}
    first, gap, small, _, _, iicg, *_ = CLAIMS["path_ambiguity"].findings(numbers)
    plain = rate_over_seeds([0.9, 0.95, 0.92], [200, 201, 202])
    ambiguous = rate_over_seeds([0.2, 0.3, 0.25], [200, 201, 202])
    assert f"{plain} for 2-hop, {ambiguous} for non-tree" in first
    assert "(3 seeds each, with 200 to 202 such test items; 95 % intervals: beta" in first
    difference = rate_difference(plain, ambiguous)
    assert gap == f"non-tree is clearly below 2-hop: difference {difference}."
    assert small.startswith("non-tree, CoT is not clearly below 2-hop, CoT")
    assert iicg == (
        f"non-tree: IICG at x3 is {mean_of([0, 0.01, -0.01])} by b and "
        f"{mean_of([0.2, 0.21, 0.19])} by (b, x2); the states depend on x2 beside b; by b alone it "
        "is not clearly above 0."
    )


def series(factor, exponent, published=None, before=None):
    """Two worlds at each of three sizes, with a trial that fails and one that the rule ends."""
    at = {
        str(size): {
            str(seed): {
                "required": round(factor * size**exponent * noise),
                "most": 10**6,
                "trials": {
                    str(round(factor * size**exponent * noise * times)): {
                        **{"run": "r", "accuracy": accuracy, "items": 1000, "steps": 50},
                        **{"train_accuracy": 1.0, "epochs": 200},
                    }
                    for times, accuracy in ((0.85, 0.93), (1.1, 0.992))
                },
            }
            for seed, noise in ((42, 1.0), (43, 1.02))
        }
        for size in (10, 20, 40)
    }
    found = {"published": published, "before": before, "at": at, "fit": scaling.growth(at)}
    return found | {"without_noisy": scaling.without_noisy(at)}


def scaled(**every):
    """The numbers of a claim about these series."""
    return {
        **{"rule": "rule", "stride": 1.25, "accuracy": 0.99, "covered": 0.99, "max_steps": 100},
        **{"series": every, "before": {}},
    }


def test_exponents_are_said_with_interval_and_published_value():
    numbers = scaled(**{"2-hop": series(3, 2.26, published=2.26)})
    one = numbers["series"]["2-hop"]
    assert one["fit"]["power"]["exponent"] == pytest.approx(2.26, abs=0.02)
    plain, exact, of_possible = CLAIMS["data_scaling"].findings(numbers)
    ends = re.fullmatch(
        "2-hop: the required N is (.*)% of all possible training compositions in a world of 10 "
        "tokens, and (.*)% in one of 40.",
        of_possible,
    )
    most = 10**6 / 0.95  # 3 * 10^2.26 items of so many, and 3 * 40^2.26
    wanted = [100 * 3 * size**2.26 / most for size in (10, 40)]
    assert [float(end) for end in ends.groups()] == pytest.approx(wanted, rel=0.05, abs=0.005)
    assert "2-hop" in plain and "4.0 times the tokens ask for 23.0 times" in plain
    assert "|X|^2.26" in exact and "published 2.26 lies within it" in exact
    assert "6 worlds of 3 sizes, 12 trials, each with 1,000 unseen items" in exact
    first, second = CLAIMS["data_scaling"].tables(numbers)
    low, middle, high = (one["fit"]["power"][name] for name in ("low", "exponent", "high"))
    assert second.rows[0][:3] == ["2-hop", f"{middle:.2f} ({low:.2f} to {high:.2f})", "2.26"]
    assert [row[:4] for row in first.rows] == [["2-hop", n, "2", "4"] for n in ("10", "20", "40")]
    one["published"] = 2.9
    assert "lies outside of it" in CLAIMS["data_scaling"].findings(numbers)[1]
    one["at"]["40"]["43"]["required"] = None
    assert "in 1 world the largest N that was tried was not enough" in exact_of(numbers)
    for search in one["at"]["40"].values():
        search["most"] = 10_000
    *_, share, ends = CLAIMS["data_scaling"].tables(numbers)[0].rows[2]
    assert share == "over 100%" and ends.endswith(" to none")
    del one["at"]["20"], one["at"]["40"]
    one["fit"] = scaling.growth(one["at"])
    (nothing,) = CLAIMS["data_scaling"].findings(numbers)
    assert "no exponent (2 worlds of 1 size, 4 trials)" in nothing


def test_sizes_where_training_items_are_not_answered_are_named():
    numbers = scaled(**{"2-hop": series(3, 2.26)})
    one = numbers["series"]["2-hop"]
    before = CLAIMS["data_scaling"].findings(numbers)
    first, second = (one["at"]["40"][seed]["trials"].values() for seed in ("42", "43"))
    for trial, share in zip((*first, *second), (0.97, 0.985, 0.98, 1.0), strict=True):
        trial["train_accuracy"] = share
    (more,) = set(CLAIMS["data_scaling"].findings(numbers)) - set(before)
    assert more.startswith("2-hop: at 40 tokens most trials ended with less than 0.99 of their")
    assert "(0.970 to 0.985), 1 of the 2 with enough and 2 of the 2 with too few items" in more
    one["without_noisy"] = alone = scaling.without_noisy(one["at"])
    growth = scaling.growth({size: one["at"][size] for size in ("10", "20")})
    assert alone == {**growth, "without": "40"}
    others = growth["power"]
    one["published"] = 2.9
    told = CLAIMS["data_scaling"].findings(numbers)
    (words,) = (one for one in told if "without 40 tokens the exponent is" in one)
    assert f"{others['exponent']:.2f} ({others['low']:.2f}" in words and "outside of it" in words
    one["published"] = None
    next(iter(first))["train_accuracy"] = 0.99  # two of four are not most of them
    assert scaling.without_noisy(one["at"]) is None
    one["without_noisy"] = None
    assert CLAIMS["data_scaling"].findings(numbers) == before


def test_where_training_is_noisy_at_some_sizes_the_others_are_fitted_without_them(tmp_path):
    one = series(3, 2.26)
    clean = scaling.growth({size: one["at"][size] for size in ("10", "20")})
    for search in one["at"]["40"].values():
        (_, few), (_, many) = search["trials"].items()
        few |= {"train_accuracy": 0.95}
        many |= {"train_accuracy": 0.9, "accuracy": 0.5, "steps": 100}
        search |= {"required": None, "most": 10_000}
    one |= {"fit": scaling.growth(one["at"]), "without_noisy": scaling.without_noisy(one["at"])}
    for part in ("sizes", "worlds"):
        found = scaling_words.required(one, part)
        assert list(found) == ["10", "20", "40"] and found["40"] == one["fit"][part]["40"]
        assert {size: found[size] for size in ("10", "20")} == clean[part]
        assert one["fit"][part]["10"] != clean[part]["10"]
    numbers = scaled(**{"2-hop": one})
    wanted, low, high = clean["sizes"]["10"]
    table = CLAIMS["data_scaling"].tables(numbers)[0]
    assert table.rows[0][4] == f"{wanted:,.0f} ({low:,.0f} to {high:,.0f})"
    assert [row[-2:] for row in table.rows][2] == ["over 100%", "none"]
    ratio = scaling_words.size_ratios(numbers, "2-hop", "2-hop")["10"]
    assert ratio[2] == pytest.approx(math.exp(math.log(high / low) / math.sqrt(2)))
    told = CLAIMS["data_scaling"].findings(numbers)
    (cut,) = (words for words in told if "failed were cut off" in words)
    assert cut.startswith("2-hop: 2 of 8 trials that failed were cut off at step 100")
    (falls,) = (words for words in told if "do not help" in words)
    few, many = (int(n) for n in one["at"]["40"]["43"]["trials"])
    assert f"are right with N = {few:,} and 0.50 with {many:,} (seed 43)" in falls
    assert "at 40 tokens, in 2 of 2 worlds," in falls
    least = [list(search["trials"].values())[-1] for search in one["at"]["40"].values()]
    for trial, share in zip(least, (0.929, 0.8), strict=True):  # 0.93 with few: no clear fall
        trial["accuracy"] = share
    (falls,) = (w for w in CLAIMS["data_scaling"].findings(numbers) if "do not help" in w)
    assert "in 1 of 2 worlds," in falls and "(seed 43)" in falls
    (falls,) = (w for w in scaling_words.cut_off(numbers, place="world {}") if "not help" in w)
    assert falls.startswith("2-hop: at world 40, in 1 of 2 worlds")
    for trial in least:
        trial["accuracy"] = 0.5
    (noisy,) = (words for words in told if "training is noisy" in words)
    assert noisy.endswith(
        "training is noisy there or was cut off, and tells little of the data needed."
    )
    one["at"]["80"] = {"42": {"required": None, "most": 99, "trials": {}}}  # nothing could be tried
    assert CLAIMS["data_scaling"].findings(numbers)[2:] == told[2:]
    assert CLAIMS["data_scaling"].tables(numbers)[0].rows[3][3:] == ["0", "-", "-", "none"]
    assert (
        "(0.900 to 0.950), 4 of the 4 with too few items" in noisy and "enough items" not in noisy
    )
    assert CLAIMS["data_scaling"].draw(numbers, tmp_path / "figure")[0].stat().st_size > 0


def exact_of(numbers):
    return CLAIMS["data_scaling"].findings(numbers)[1]


def test_a_larger_model_is_said_to_need_less_where_the_intervals_say_so():
    numbers = scaled(small=series(1, 3.0), large=series(3, 2.26))
    shown = CLAIMS["parameter_scaling"].findings(numbers)
    gap = r"The exponent of large less that of small is -0.7\d \(.*; clearly lower\)."
    assert re.fullmatch(gap, shown[-2])
    # 3 |X|^2.26 is 0.55, 0.33 and 0.20 times |X|^3.
    assert re.search(
        r"N of large over that of small: 0.55 \(0.\d\d to 0.\d\d\) at 10, 0.33 .* and 0.20 .* at "
        "40 tokens;",
        shown[-1],
    )
    assert shown[-1].endswith("clearly less at 3 and clearly more at 0 of 3 sizes.")
    # Where a trial that failed was cut off, neither N nor an exponent with it is compared.
    few, _ = numbers["series"]["small"]["at"]["40"]["42"]["trials"].values()
    few["steps"] = numbers["max_steps"]
    *_, gap, ratios = CLAIMS["parameter_scaling"].findings(numbers)
    assert "is not judged with all sizes, as at 40 tokens training was cut off" in gap
    assert "at 40 tokens" not in ratios and ratios.endswith("of 2 sizes.")
    numbers = scaled(small=series(3, 2.26), middle=series(3, 2.26), large=series(3, 2.26))
    shown = CLAIMS["parameter_scaling"].findings(numbers)[-6:]
    assert all(words.endswith("not clearly different).") for words in shown[::2])
    assert all("clearly less at 0 and clearly more at 0 of 3" in words for words in shown[1::2])
    assert ["middle" in words for words in shown] == [True] * 2 + [False] * 2 + [True] * 2
    both = {
        f"{task}{cot}": series(n, 2.0)
        for task in ("2-hop", "3-hop")
        for n, cot in ((3, ""), (1, ", CoT"))
    }
    numbers = scaled(**both)
    _, saved, how, *orders = CLAIMS["chain_of_thought"].findings(numbers)[:5]
    assert how.startswith("With chain of thought, an item counts as right only if")
    assert re.search(r"3-hop: .* answer: (2.99|3.00) \(2.* at 10, .* at 40 tokens; clearly", saved)
    assert saved.endswith("clearly less at 0 and clearly more at 3 of 3 sizes.")
    for name, told in zip(("2-hop", "3-hop"), orders, strict=True):
        assert re.match(rf"{name}: .* is \S0.00 \(-0.\d\d to \+0.\d\d; not clearly diff", told)
    both["2-hop, CoT"] = series(1, 1.5, published=2.1)
    both["2-hop"]["published"] = 2.3
    told = CLAIMS["chain_of_thought"].findings(numbers | {"series": both})[3]
    assert "+0.50 (" in told
    assert told.endswith("clearly higher); the published +0.20 lies outside of it.")
    for search in both["2-hop, CoT"]["at"]["40"].values():
        for trial in search["trials"].values():
            trial["train_accuracy"] = 0.9
    for name in ("2-hop", "2-hop, CoT"):
        both[name]["without_noisy"] = scaling.without_noisy(both[name]["at"])
    told = CLAIMS["chain_of_thought"].findings(numbers | {"series": both})[4]
    powers = [
        scaling.growth({size: both[name]["at"][size] for size in ("10", "20")})["power"]
        for name in ("2-hop", "2-hop, CoT")
    ]
    gap = powers[0]["exponent"] - powers[1]["exponent"]
    assert told.startswith(
        f"Fitted without 40 tokens, where training is noisy, that difference is {gap:+.2f} ("
    )


def around(mean, half=0.02):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def predicted(task, learner, gap, chance=0.1):
    """A world of made-up numbers: the learner's AUC, and by how much it exceeds another seed's."""
    aucs = {"k_cutoff": 0.62, "support": 0.7, "learner": learner, "another_seed": learner - gap}
    right = {"matcher": 0.97, "learner": 0.6}
    known = {name: {"same": around(0.5), "same_wrong": around(0.25)} for name in right}
    return {
        "task": task,
        "training_items": 1600,
        "items": 500,
        "runs": [{"run": "r", "accuracy": 0.4}, {"run": "s", "accuracy": 0.5}],
        "accuracy": right,
        "auc": {name: around(value) for name, value in aucs.items()},
        "differences": {
            "support - k_cutoff": around(0.08),
            "learner - support": around(learner - 0.7),
            "learner - another_seed": around(gap, 0.03),
        },
        "agreement": {"chance": chance, **known},
    }


def test_predictors_are_called_better_only_where_the_interval_says_so():
    worlds = {
        "2-hop, 20 tokens": predicted("2-hop", 0.80, 0.05),
        "2-hop, 28 tokens": predicted("2-hop", 0.78, 0.01),
        "3-hop, 9 tokens": predicted("3-hop", 0.66, -0.06, chance=0.2),
    }
    over = prediction.over_worlds(worlds)
    assert doctest.testmod(prediction) == (0, 2)
    assert list(over) == ["2-hop", "3-hop", "all"]
    mean = over["2-hop"]["learner - another_seed"]["items"]
    assert mean["mean"] == pytest.approx(0.03)
    assert mean["high"] - mean["mean"] == pytest.approx(0.03 / math.sqrt(2))
    assert over["3-hop"]["learner - another_seed"]["worlds"]["low"] is None
    numbers = {"data_seed": 5, "seeds": 2, "worlds": worlds, "over_worlds": over}
    shown = CLAIMS["prediction"].findings(numbers)
    assert "2 models each, 500 type_0 items)" in shown[1]
    assert "the models 0.400 to 0.500, the matcher 0.970, the learner 0.600" in shown[1]
    assert "k-cutoff 0.620, support 0.700, learner 0.660 to 0.800" in shown[2]
    for world in worlds.values():
        world["auc"]["another_probability"] = around(0.75)
    first = CLAIMS["prediction"].findings(numbers)[0]
    assert "in 66% to 80% of the cases, by world, and another model" in first
    assert "trained on the same items in 75% (50% is guessing" in first
    for world in worlds.values():
        del world["auc"]["another_probability"]
    text = " ".join(shown)
    for part in (
        "Support predicts clearly better than the k-cutoff in 3 of 3 worlds, clearly worse in 0;",
        "The learner predicts clearly better than support in 2 of 3 worlds, clearly worse in 1;",
        "better than another seed's answer in 1 of 3 worlds, clearly worse in 1; the mean "
        "difference of AUCs is 0.000 (-0.017 to 0.017), "
        "with the worlds as units 0.000 (-0.138 to 0.138)",
        "2-hop 0.030 (0.009 to 0.051), 3-hop -0.060 (-0.090 to -0.030)",
        "2-hop, 20 tokens, N = 1,600: k-cutoff 0.620 (0.600 to 0.640)",
        "matcher 0.250, learner 0.250, at random 0.100 to 0.200",
    ):
        assert part in text, part
    assert "the others'" not in text
    aucs, differences, shares = CLAIMS["prediction"].tables(numbers)
    assert aucs.rows[0][-1] == "-" and shares.rows[2][-1] == "0.200"
    assert [row[0] for row in differences.rows[3:]] == [
        *("mean, 2-hop", "mean, 3-hop", "mean, all", "mean, worlds as units")
    ]


def test_amounts_are_compared_with_what_was_known_before_training(tmp_path):
    def known(**by_size):
        """Amounts of two seeds a size; the second of None is not reached."""
        amounts = {n[1:]: dict(zip(("42", "43"), of, strict=True)) for n, of in by_size.items()}
        return {"amounts": amounts, "fit": None}

    numbers = scaled(
        **{"2-hop": series(1, 2.0, before="2-hop"), "3-hop": series(2, 2.0, before="3-hop")},
        **{"3-hop, CoT": series(1, 1.5)},
    )
    for one in numbers["series"].values():
        one["fit"]["worlds"] = {  # as if they were known
            size: {seed: search["required"] for seed, search in seeds.items()}
            for size, seeds in one["at"].items()
        }
    numbers["before"] = {
        "2-hop": {
            "k = 2": known(n10=(100, 102), n20=(200, 204), n40=(400, 408)),
            "k = 3": known(n10=(100, 51), n20=(400, 408), n40=(1600, 1632)),
            "learner": known(n10=(80, None)),
        },
        "3-hop": {
            "k = 2": known(n10=(200, 204), n20=(800, 816), n40=(3200, 3264)),
            "k = 3": known(n10=(500, 510), n20=(800, 816), n40=(3200, 3264)),
        },
    }
    times = scaling_words.needed_times(numbers)
    # Pair by pair: 100 and 102 items were needed where k = 3 says 100 and 51.
    assert times["k = 3"]["2-hop"]["10"] == pytest.approx(math.sqrt(2))
    assert times["k = 2"]["2-hop"] == pytest.approx({"10": 1, "20": 2, "40": 4})
    assert times["learner"] == {"2-hop": {"10": pytest.approx(1.25)}}
    k3, learner, verdict = scaling_words.before_training(numbers)
    assert "k = 3 says N within a factor of 2 at 5 of 6 sizes: models needed 0.40 to 1.41" in k3
    assert "largest |X| 1.41 to 1.00 (2-hop) and 0.40 to 1.00 (3-hop)" in k3
    assert "within a factor of 1.5 at 1 of 1 sizes" in learner
    assert "no single k is nearest for all (k = 3 for 2-hop and k = 2 for 3-hop)" in verdict
    assert "the best for all is k = 3, off by a factor of 2.50" in verdict
    table = CLAIMS["chain_of_thought"].tables(numbers)[-1]
    assert table.header[3:] == ["k = 2", "k = 3", "learner"]
    assert table.rows[0][3:] == ["101 (x 1.00)", "76 (x 1.41)", "80 (x 1.25)"]
    assert table.rows[3][3:] == ["202 (x 1.00)", "505 (x 0.40)", "-"] and len(table.rows) == 6
    assert scaling_words.before_training({**numbers, "before": {}}) == []
    assert CLAIMS["data_scaling"].draw(numbers, tmp_path / "figure")[0].stat().st_size > 0


def cut_numbers(cut, control):
    """Four items in two groups; what two seeds answer without cut and control, item by item."""

    def run(right):
        own = {"right": right, "probability": [0.25 + 0.5 * one for one in right]}
        return {"run": "r", **own, "others": {"right": 0.9, "probability": 0.8}}

    def group(first):
        items = [first, first + 1]
        arms = {"cut": cut, "control": control}
        return {
            "items": items,
            "matched": 3,
            "smallest": [True, False],
            "sizes": [2, 3],
            "removed": {"cut": 5, "control": 5},
            "seen": {"cut": [True, first > 0], "control": [True, True]},
            "fragment": {"cut": [4, 1], "control": [4, 3]},
            "runs": {
                arm: {seed: run([rates[i][n] for i in items]) for n, seed in enumerate("12")}
                for arm, rates in arms.items()
            },
        }

    return {
        **{"num_tokens": 10, "chance": 0.1, "size": 50, "eligible": 9, "least_cutoff": 3},
        "k_cutoffs": [3, 3, 4, 5],
        "fragment": [4, 5, 4, 5],
        "items": ["<t_1>", "<t_2>", "<t_3>", "<t_4>"],
        "full": {seed: run([True] * 4) for seed in "12"},
        "at": {"2": [group(0), group(2)]},
    }


def test_words_of_cuts_are_paired_by_item():
    yes, no, half = (True, True), (False, False), (True, False)
    claim = CLAIMS["cuts"]
    numbers = cut_numbers([no, no, no, half], [yes, yes, half, yes])
    gaps = cuts.differences(numbers, "2", "all")
    assert gaps == [1, 1, 0.5, 0.5] and mean_of(gaps).above_zero
    assert cuts.differences(numbers, "2", "calls") == [1, 0.5, 0.5]  # the second one's is not made
    assert cuts.differences(numbers, "2", "alike") == [1, 0.5]
    shown = " ".join(claim.findings(numbers))
    assert "cuts of 2 to 3 items (mean 2.5; 2 of 4 proven smallest)" in shown
    # Four items of one sign are too few for the sign test, whatever the interval says.
    assert "lost in 88% of the models (2 seeds), with the control in 12%: not clearly more" in shown
    assert "4 items are lost more often with the cut, 0 with the control" in shown
    assert "(sign test p = 0.125)" in shown
    # Of two items no sentence is made, but they do not tell what a rare fragment does either.
    assert "at least as rare without the control, " not in shown
    assert "for only 2 of these items is it as rare without the control, so what" in shown
    assert "6 of 10 items of the controls hold the same fragment" in shown
    by_item = claim.tables(numbers)[1].rows
    assert by_item[2] == ["<t_3>", "4", "2", "2 of 2", "1 of 2"]
    same = " ".join(claim.findings(cut_numbers([half] * 4, [half] * 4)))
    assert "not clearly more often, by 0.00; 0 items are lost more" in same
    alone = claim.findings(cut_numbers([no] * 4, [yes] * 4))
    assert "lost in 100% of the models (2 seeds), with the control in 0%" in " ".join(alone)
    (row, *_) = claim.tables(cut_numbers([no] * 4, [yes] * 4))[0].rows
    low, high = wilson_interval(4, 4)
    assert row[3:] == [f"1.00 ({low:.2f} to {high:.2f})", f"0.00 (0.00 to {1 - low:.2f})", "1.00"]
    nothing = {**numbers, "items": [], "at": {"2": []}}
    assert "nothing to cut" in claim.findings(nothing)[0] and claim.tables(nothing) == []


# -------------------------------------------------------------------------- claims and their files


def test_a_claim_is_a_module_and_a_command():
    modules = {path.stem for path in Path(scaling.__file__).parent.glob("*.py")}
    commands = {path.stem for path in (ROOT / "script" / "reproduce").glob("*.py")}
    assert set(CLAIMS) == commands - {"claim_command"} and set(CLAIMS) < modules
    assert [claim.letter for claim in CLAIMS.values()] == list("abcdefghijk")
    for name, claim in CLAIMS.items():
        command = (ROOT / "script" / "reproduce" / f"{name}.py").read_text()
        assert f'reproduce("{name}"' in command and f'"""Claim {claim.letter}: ' in command
    assert fields_of(ClaimSettings)["scale"][1].choices == SCALES


def test_a_claim_from_outside_takes_its_place():
    toy = replace(CLAIMS["mechanisms"], letter="ab", name="toy")
    try:
        assert register(toy) is toy and register(toy) is toy
        assert list(CLAIMS)[:3] == ["accuracy_by_data", "toy", "accuracy_by_k_cutoff"]
        for taken in ({"name": "other"}, {"letter": "z"}):
            with pytest.raises(ValueError, match="is there already: toy"):
                register(replace(toy, **taken))
    finally:
        del CLAIMS["toy"]


def test_the_script_for_all_claims_names_none_and_answers_help():
    script = ROOT / "script" / "reproduce" / "all.sh"
    assert not [name for name in CLAIMS if f"{name} " in script.read_text()]
    shown = subprocess.run(
        ["bash", script, "--scale", "cpu", "--help"], capture_output=True, text=True, check=True
    )
    assert (
        shown.stdout.startswith("Every claim,")
        and "[--scale {cpu,night,gpu,paper}]" in shown.stdout
    )
    assert "set -" not in shown.stdout and not shown.stderr


# ---------------------------------------------------------------------------------------- settings


class Asked(Exception):
    """What a claim wanted to have run."""


class Recorder:
    """In place of a sweep: keeps what is asked for, and goes no further."""

    def submit_all(self, runs):
        raise Asked(runs)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_asks_for_runs_that_the_commands_take(scale):
    """Settings are checked by the commands' own parsers when they are resolved."""
    of_one_size = ("path_ambiguity", "mechanisms", "critical_ratio", "cuts", "prediction")
    for name in ("accuracy_by_data", "accuracy_by_k_cutoff", *of_one_size):
        with pytest.raises(Asked) as asked:
            CLAIMS[name].collect(Recorder(), scale)
        runs = asked.value.args[0]
        assert len({run.id for run in runs}) > 1
    for claim in (data_scaling, parameter_scaling, chain_of_thought):
        for series in claim.series(scale).values():
            size, seed = series.worlds[0]
            run = scaling.trial(series, scale, size, seed, 200)
            assert run.data["num_tokens"] == size
            assert "type_0:" in run.train["stop_when"]
            assert run.train.get("precision") == TRAINING[scale].get("precision")
    direct = data_scaling.series(scale)
    for name, series in chain_of_thought.series(scale).items():
        if name in direct:  # searches of claims c and e are shared
            assert series.plan.items() <= direct[name].plan.items() and series.plan
            assert series.start == direct[name].start
    (same,) = [
        one
        for one in parameter_scaling.series(scale).values()
        if scaling.trial(one, scale, 18, 42, 300).id
        == scaling.trial(direct["2-hop"], scale, 18, 42, 300).id
    ]
    assert set(same.worlds) <= set(direct["2-hop"].worlds)


# ---------------------------------------------------------------------------- commands and results


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, run_command):
    """Two claims at the tiny scale, in one folder, and what the commands printed."""
    root = tmp_path_factory.mktemp("claims")
    printed = {}
    for name in ("accuracy_by_data", "accuracy_by_k_cutoff"):
        finished = run_command(
            f"script/reproduce/{name}.py", "--scale", "tiny", "--output_dir", root, "--jobs", 2
        )
        assert finished.returncode == 0, finished.stderr
        printed[name] = finished.stdout
    return root, printed


def test_claims_in_one_folder_share_their_runs(reproduced):
    root, printed = reproduced
    records = (root / "results.jsonl").read_text().splitlines()
    # Two sizes, two seeds; the second claim needs two of these again, and a second model of each.
    assert len(records) == 6
    assert len({json.loads(record)["world"] for record in records}) == 4
    for name, text in printed.items():
        numbers = json.loads((root / name / "numbers.json").read_text())
        for sentence in numbers["findings"]:
            assert f"- {sentence}" in text
        assert numbers["runs"] == {"accuracy_by_data": 4, "accuracy_by_k_cutoff": 4}[name]
        for file in ("figure.png", "figure.pdf", "README.md", "table_1.csv"):
            assert (root / name / file).stat().st_size > 0, file


def test_aucs_are_those_of_the_models_outputs(reproduced):
    root, _ = reproduced
    numbers = json.loads((root / "accuracy_by_k_cutoff" / "numbers.json").read_text())["numbers"]
    for one in (one for runs in numbers["sizes"].values() for one in runs.values()):
        first, second = (
            json.loads((root / "runs" / run["run"] / "all_items.json").read_text())
            for run in one["told"]["type_0"]["runs"]
        )
        assert one["run"] == one["told"]["type_0"]["runs"][0]["run"]
        for group, kinds in (("type_0", {"type_0"}), ("unseen", {f"type_{n}" for n in range(4)})):
            rows = [n for n, item in enumerate(first) if item["type"] in kinds]
            assert one["told"][group]["items"] == len(rows)
            both = [
                [items[n]["model_output"] == items[n]["target_text"] for n in rows]
                for items in (first, second)
            ]
            cutoffs = [first[n].get("k_cutoff") or 0 for n in rows]
            assert sum(group["n"] for group in one["by_k"].values()) == sum(
                item["type"] == "type_0" for item in first
            )
            found = one["told"][group]["auc"]
            assert found["k_cutoff"]["per_file"] == pytest.approx(
                [auc(cutoffs, right) for right in both]
            )
            ceiling = [auc(both[1], both[0]), auc(both[0], both[1])]
            assert found["another_seed"]["per_file"] == pytest.approx(ceiling)
            is_inside = [first[n]["type"] == "type_0" for n in rows]
            if group == "unseen":
                assert found["type"]["per_file"][0] == pytest.approx(auc(is_inside, both[0]))


def test_predictors_are_those_of_the_models_and_of_the_graded_items(
    reproduced, monkeypatch, tmp_path
):
    """The claim's own runs are made one that is there: a sweep without launcher trains nothing."""
    root, _ = reproduced
    monkeypatch.setitem(prediction.WORLDS, "tiny", {"twohop": {8: 100}})
    monkeypatch.setitem(prediction.SEEDS, "tiny", (42,))
    monkeypatch.setattr(prediction, "DATA_SEED", 42)
    numbers = prediction.collect(Sweep(root, None), "tiny")
    (world,) = numbers["worlds"].values()
    (run,) = world["runs"]
    items = json.loads((root / "runs" / run["run"] / "all_items.json").read_text())
    records = map(json.loads, (root / "results.jsonl").read_text().splitlines())
    (where,) = [record["world"] for record in records if record["run"] == run["run"]]
    (folder,) = (root / "worlds" / where / "data").iterdir()
    graded = graded_coverage(load_dataset(folder), slot_sets(3)).fields()
    inside = [n for n, item in enumerate(items) if item["type"] == "type_0"]
    outputs, targets = (
        [items[n][name].removesuffix("</a>").split("<")[-1] for n in inside]
        for name in ("model_output", "target_text")
    )
    right = [one == other for one, other in zip(outputs, targets, strict=True)]
    assert run["accuracy"] == pytest.approx(np.mean(right))
    for name, scores in (
        ("k_cutoff", [items[n]["k_cutoff"] for n in inside]),
        ("support", [graded[n]["support"] for n in inside]),
        ("learner", [graded[n]["learner_score"] for n in inside]),
    ):
        assert world["auc"][name]["per_file"] == [pytest.approx(auc(scores, right), abs=1e-3)]
    for name in ("matcher", "learner"):
        told = [graded[n][f"{name}_answer"].strip("<>") + ">" for n in inside]
        hits = [one == other for one, other in zip(told, targets, strict=True)]
        assert world["accuracy"][name] == pytest.approx(np.mean(hits))
        same = [one == other for one, other in zip(told, outputs, strict=True)]
        assert world["agreement"][name]["same"]["mean"] == pytest.approx(np.mean(same))
    assert "another_seed" not in world["auc"]
    assert prediction.find(numbers) and prediction.tables(numbers)
    assert prediction.draw(numbers, tmp_path / "figure")[0].stat().st_size > 0


def test_the_report_of_a_sweep_and_of_a_run_stands_alone(
    reproduced, run_command, tmp_path, refused
):
    root, _ = reproduced
    record = json.loads((root / "results.jsonl").read_text().splitlines()[0])
    for folder, words in (
        (
            root,
            [
                "claims, measured",
                "6 runs done, 0 failed",
                record["run"],
                "Accuracy by k-cutoff over training",
                "data.max_train_data_num",
            ],
        ),
        (
            root / "runs" / record["run"],
            ["Training run: twohop.8.", "type_0/k_cutoff=", "args.learning_rate"],
        ),
    ):
        finished = run_command("script/make_report.py", folder)
        assert finished.returncode == 0, finished.stderr
        page = (folder / "report.html").read_text()
        for word in words:
            assert word in page, word
        assert "src=" in page and 'src="data:image/png' in page
        assert "http://" not in page and "https://" not in page
        assert "class=sortable" in page and "<script>" in page
    (tmp_path / "empty").mkdir()
    refused(run_command("script/make_report.py", tmp_path / "empty"), "neither a sweep")


RESULTS = sorted((ROOT / "docs" / "results").glob("*/numbers.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.parent.name)
def test_the_pages_of_shipped_results_are_what_their_numbers_say(file):
    result = json.loads(file.read_text())
    claim = CLAIMS[result["claim"]]
    assert claim.findings(result["numbers"]) == result["findings"]
    text = card(result, claim.tables(result["numbers"]), "figure.png")
    assert (file.parent / "README.md").read_text() == text


def test_a_page_names_the_settings_of_its_models():
    deep = {"n_layer": 3, "n_embd": 128, "max_steps": 2500, "learning_rate": 1.4e-3}
    trains = [deep, {**deep, "n_layer": 2, "model_type": "llama"}, {"model_file": "mine.py"}, None]
    assert recipe([{"settings": {"train": train}} for train in trains]) == (
        "a model file or gpt2 or llama, 2 or 3 layers, 128 dimensions, at most 2,500 steps, "
        "learning rate 0.0014"
    )
    assert recipe([]) == ""


def test_results_of_every_claim_are_shipped():
    assert {file.parent.name for file in RESULTS} == set(CLAIMS)


class NoRuns:
    """In place of a launcher: whatever is not known already fails."""

    def submit_all(self, runs):
        raise AssertionError(f"the records lack {[run.label for run in runs]}")


NIGHT = ROOT / "docs" / "results" / "night.jsonl"


@pytest.mark.parametrize(
    "module",
    [data_scaling, parameter_scaling, chain_of_thought],
    ids=lambda module: module.CLAIM.letter,
)
def test_searches_of_shipped_results_are_those_of_the_records(module, tmp_path):
    """Copied into an empty folder, the records of ``--scale night`` save all training."""
    shipped = ROOT / "docs" / "results" / module.CLAIM.name / "numbers.json"
    result = json.loads(shipped.read_text())
    assert result["scale"] == "night"
    (tmp_path / "results.jsonl").write_text(NIGHT.read_text())
    sweep = Sweep(tmp_path, NoRuns())
    for name, one in module.series("night").items():
        at = result["numbers"]["series"][name]["at"]
        assert {(int(size), int(seed)) for size in at for seed in at[size]} == set(one.worlds)
        for size in one.plan:
            found = scaling.search(sweep, "night", one, size, scaling.SEED)
            assert found == at[str(size)][str(scaling.SEED)]

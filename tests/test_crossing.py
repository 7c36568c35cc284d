"""The fit of required N: its likelihood against plain integration, its intervals against truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from coverage_principle.experiments.claims.scaling import climb
from coverage_principle.experiments.crossing import LINE, Trial, _Data, _Fit, fit_growth
from coverage_principle.statistics import fit_power_law

LEVEL = 0.99
TOP = math.log(99)


def simulated(rng, plan, *, exponent=2.2, slope=13.0, scatter=0.5, spread=0.1, items=1000):
    """The trials of climbs in made-up worlds, ``plan[|X|]`` of each size; 10 items at |X| = 1."""
    trials = []
    for size, count in plan.items():
        for seed in range(count):
            middle = math.log(10) + exponent * math.log(size) + spread * rng.standard_normal()

            def accuracy(amount, size=size, seed=seed, middle=middle):
                odds = TOP + slope * (math.log(amount) - middle) + scatter * rng.standard_normal()
                share = rng.binomial(items, special.expit(odds)) / items
                trials.append(Trial(size, f"{size}/{seed}", amount, share, items))
                return share

            climb(accuracy, 8 * size**exponent, 10**9, stride=1.25, in_a_row=1)
    return trials


def test_the_likelihood_is_that_of_a_plain_integral():
    known = [(1000, 0.5), (1400, 0.93), (1600, 0.97), (1700, 0.995)]
    trials = [Trial(20, "a", n, share, 300) for n, share in known]
    trials += [Trial(30, "b", 2000, 0.99, 200), Trial(30, "c", 2500, 0.2, 200)]
    slope, scatter, spread, means = 11.0, 0.4, 0.15, {"a": 7.3, "b": 7.7, "c": 7.7}

    def density(theta, world):
        value = stats.norm.pdf(theta, means[world], spread)
        for one in trials:
            if one.world != world:
                continue
            line = TOP + slope * (math.log(one.amount) - theta)
            share = min(LEVEL, max(LINE, one.accuracy))
            right, wrong = share * one.items + 0.5, (1 - share) * one.items + 0.5
            noise = math.sqrt(scatter**2 + 1 / right + 1 / wrong)
            if one.accuracy >= LEVEL:
                value *= stats.norm.sf(TOP, line, noise)
            elif one.accuracy < LINE:
                value *= stats.norm.cdf(special.logit(LINE), line, noise)
            else:
                value *= stats.norm.pdf(math.log(right / wrong), line, noise)
        return value

    design = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = np.array([*np.log([slope, scatter, spread]), 7.3, 7.7])
    likelihood, expected = _Data.of(trials, LEVEL).worlds(found, design)
    for place, world in enumerate("abc"):
        ends = {"a": means[world] - 1, "b": means[world] + 1, "points": [means[world]]}
        whole = integrate.quad(density, args=(world,), **ends)[0]
        middle = integrate.quad(lambda x, w: x * density(x, w), args=(world,), **ends)[0] / whole
        assert likelihood[place] == pytest.approx(math.log(whole), abs=1e-3)
        assert expected[place] == pytest.approx(middle, abs=1e-3)


def test_the_fit_is_the_likeliest_and_the_same_each_time():
    trials = simulated(np.random.default_rng(3), {16: 3, 28: 2})
    data, design = _Data.of(trials, LEVEL), np.eye(2)[[0, 0, 0, 1, 1]]
    best = _Fit(data, design).found
    for step in np.random.default_rng(4).normal(0, 0.03, (200, len(best))):
        assert data.value(best + step, design) < data.value(best, design) + 1e-6
    assert fit_growth(trials, LEVEL) == fit_growth(trials, LEVEL)


def test_with_known_amounts_it_is_a_regression_over_worlds():
    """Trials without noise tell each world's N, so that only the worlds' spread is left."""
    rng = np.random.default_rng(1)
    sizes = np.repeat([10, 15, 20], 3)
    logs = 2.0 + 2.2 * np.log(sizes) + 0.15 * rng.standard_normal(9)
    trials = [
        Trial(int(size), f"{world}", round(math.exp(log + step)), accuracy, 10**9)
        for world, (size, log) in enumerate(zip(sizes, logs, strict=True))
        for step in (-0.2, -0.15, -0.1, -0.05, 0.1)
        for accuracy in [min(0.991, special.expit(TOP + 14 * step))]
    ]
    found, expected = fit_growth(trials, LEVEL), fit_power_law(sizes, np.exp(logs))
    assert found.slope == pytest.approx(14, rel=0.01)
    assert list(found.worlds.values()) == pytest.approx(np.exp(logs), rel=0.01)
    for name in ("exponent", "low", "high"):
        assert getattr(found.power, name) == pytest.approx(getattr(expected, name), abs=0.02)
    for size, (required, low, high) in found.sizes.items():
        own = logs[sizes == size]
        assert required == pytest.approx(math.exp(own.mean()), rel=0.01)
        within = [logs[sizes == other] - logs[sizes == other].mean() for other in (10, 15, 20)]
        half = stats.t.ppf(0.975, 6) * math.sqrt(np.square(within).sum() / 6 / 3)
        assert math.log(high / low) / 2 == pytest.approx(half, rel=0.03)


@pytest.mark.parametrize("spread", [0.03, 0.2])
def test_intervals_hold_the_true_exponent(spread):
    rng, held, errors = np.random.default_rng(2), 0, []
    for _ in range(16):
        power = fit_growth(simulated(rng, {10: 3, 14: 3, 20: 3}, spread=spread), LEVEL).power
        held += power.low <= 2.2 <= power.high
        errors.append(power.exponent - 2.2)
    assert held >= 14
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 4


@pytest.mark.parametrize("share", [0.3, 0.65, 0.995])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_size_whose_trials_lie_on_one_side_has_no_n_but_says_something_of_growth(share, seeds):
    rng = np.random.default_rng(0)
    trials = simulated(rng, {10: 3, 14: 3})
    both = fit_growth(trials, LEVEL)
    amounts = (round(10 * 20**2.2 * times) for times in (0.9, 1.1))
    aside = [Trial(20, f"20/{seed}", n, share, 1000) for n in amounts for seed in range(seeds)]
    found = fit_growth(trials + aside, LEVEL)
    assert list(found.sizes) == [10, 14] and found.worlds == both.worlds
    assert found.sizes == both.sizes
    # What is known to be more than was tried does not make growth smaller, nor the reverse.
    sign = 1 if share < LEVEL else -1
    assert sign * (found.power.exponent - both.power.exponent) > -1e-6
    assert found.power.high > found.power.exponent > found.power.low
    assert fit_growth(aside, LEVEL) is None
    # One size alone that is bounded says nothing of growth.
    alone = fit_growth([one for one in trials if one.size == 10] + aside, LEVEL)
    assert list(alone.sizes) == [10] and alone.power is None


def test_few_worlds_say_what_they_can():
    def trials(*worlds):
        return [
            Trial(size, f"{size}/{seed}", n, share, 500)
            for size, seed in worlds
            for n, share in ((9 * size**2, 0.9), (11 * size**2, 0.99))
        ]

    assert fit_growth([], LEVEL) is None
    assert fit_growth([one for one in trials((10, 1)) if one.accuracy < LEVEL], LEVEL) is None
    single = fit_growth(trials((10, 1), (10, 2)), LEVEL)
    assert single.power is None and list(single.sizes) == [10]
    required, low, high = single.sizes[10]
    assert low < 1000 < required < 1200 < high
    scattered = fit_growth(trials((10, 1), (12, 1), (15, 1), (20, 1)), LEVEL)
    assert scattered.power.low < 2 < scattered.power.high
    assert [low for _, low, _ in scattered.sizes.values()] == [None] * 4

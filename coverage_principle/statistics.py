"""Small statistics for figures and findings: intervals of rates, trends over groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


def wilson_interval(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate (95 % for the default z); ``(0, 1)`` for n = 0.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not leave a rate of exactly 0 or 1 outside of its own interval.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Two order statistics that hold the median of the population with at least 95 %.

    The number of values below it is binomial with 1/2, whatever their distribution. None for fewer
    than six values, which no two of them bound so surely.
    """
    below = _most_heads(len(values), 0.025) if len(values) else 0
    if below == 0:
        return None
    ordered = np.sort(values)
    return float(ordered[below - 1]), float(ordered[len(values) - below])


def _most_heads(n: int, share: float) -> int:
    """The smallest k such that n > 0 fair coins show at most k heads with probability ``share``.

    It is at most a half. As ``scipy.stats.binom.ppf``, whose import takes half a second.
    """
    low = max(0, n // 2 - 6 * math.isqrt(n))  # what is 12 standard deviations off does not count
    k = np.arange(low + 1, n // 2 + 1)
    ways = np.concatenate([[1.0], np.cumprod((n - k + 1) / k)])  # in units of those of ``low``
    whole = 2 * ways.sum() - (ways[-1] if n % 2 == 0 else 0.0)
    return low + int(np.searchsorted(np.cumsum(ways), share * whole))


def trend_z(levels: Sequence[float], successes: Sequence[float], totals: Sequence[int]) -> float:
    """Cochran-Armitage z statistic for a linear trend of a rate over ordered groups.

    Positive when the rate climbs with ``levels``; about standard normal without a trend. 0 when no
    trend can be seen (one group, or all items alike).

    P. Armitage, "Tests for linear trends in proportions and frequencies", 1955.
    """
    n = sum(totals)
    if n == 0:
        return 0.0
    groups = list(zip(levels, successes, totals, strict=True))
    rate, mean = sum(successes) / n, sum(level * total for level, _, total in groups) / n
    slope = sum((level - mean) * (good - total * rate) for level, good, total in groups)
    spread = sum(total * (level - mean) ** 2 for level, _, total in groups)
    variance = rate * (1 - rate) * spread
    return slope / math.sqrt(variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class PowerLaw:
    """``y = factor * x ** exponent``; ``low`` and ``high`` bound the exponent (95 %).

    ``r2`` is the coefficient of determination of the logarithms.
    """

    factor: float
    exponent: float
    low: float
    high: float
    r2: float


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Least squares on the logarithms, with Student's interval for the slope.

    ``ValueError`` with fewer than three points, or all at one ``x``: there is no interval then.
    """
    if len(x) < 3 or len(set(x)) < 2:
        raise ValueError("a power law needs at least three points at two different x")
    from scipy import stats

    fit = stats.linregress(np.log(x), np.log(y))
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    slope = float(fit.slope)
    factor = math.exp(fit.intercept)
    return PowerLaw(factor, slope, slope - half, slope + half, float(fit.rvalue) ** 2)


def power_law_of_sizes(amounts: Mapping[int, Sequence[float | None]]) -> dict[str, float] | None:
    """``fit_power_law`` of several amounts for each x, as a dictionary; None of too few.

    Where one of them is None, because it lies beyond what could be asked, the others of that x are
    the smaller ones, so none of them counts.
    """
    known = {x: own for x, own in amounts.items() if None not in own}
    points = [(x, one) for x, own in known.items() for one in own]
    if len(points) < 3 or len({x for x, _ in points}) < 2:
        return None
    return vars(fit_power_law(*zip(*points, strict=True)))


@dataclass(frozen=True)
class Mean:
    """A mean over ``n`` seeds and its 95 % interval (Student's t); no interval for n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0; False without one."""
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below 0; False without one."""
        return self.high is not None and self.high < 0

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.mean:.2f}{interval}"


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of values that differ by seed. ``ValueError`` if there are none."""
    if not len(values):
        raise ValueError("no values to take a mean of")
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Mean(mean, None, None, 1)
    half = _student(n) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, n)


def _student(n: int) -> float:
    """Student's t of a 95 % interval over n values. (``scipy.stats`` takes a second to import.)"""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.975))


def mean_over_groups(
    values: Sequence[float], groups: Sequence[int], others: Sequence[int] | None = None
) -> Mean:
    """The mean of values that are alike within groups, and its interval over groups.

    With groups of one size it is that of ``mean_of`` of their means; else groups count by their
    size (the ratio estimator of W. G. Cochran, "Sampling Techniques", 1977, for clusters). ``n`` is
    the number of groups. ``ValueError`` if there are no values.

    With ``others``, values are alike within these groups as well (items, and the models that answer
    them). The variance is then that over the ones plus that over the others, less that over both
    at once, though not less than either (A. C. Cameron, J. B. Gelbach and D. L. Miller, "Robust
    inference with multiway clustering", 2011); ``n`` is the smaller number of groups.
    """
    if not len(values):
        raise ValueError("no values to take a mean of")
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())

    def over(labels: Sequence[int]) -> tuple[np.ndarray, float, int]:
        """The labels as numbers, the variance of the sum over groups, how many there are."""
        names, of = np.unique(labels, return_inverse=True)
        n = len(names)
        pulls = np.bincount(of, values - mean)
        return of, n / max(1, n - 1) * float((pulls**2).sum()), n

    of, variance, n = over(groups)
    if others is not None:
        of_others, second, count = over(others)
        _, both, _ = over(of * count + of_others)
        variance, n = max(variance, second, variance + second - both), min(n, count)
    if n == 1:
        return Mean(mean, None, None, 1)
    half = _student(n) * math.sqrt(variance) / len(values)
    return Mean(mean, mean - half, mean + half, n)


def mean_of_groups(groups: Sequence[Sequence[float]]) -> tuple[Mean, list[Mean]]:
    """The mean of the means of groups, whatever their sizes, and each group's own mean.

    Values differ within a group by the seed, and groups by what is compared. How much values vary
    within a group is taken to be the same in all and estimated from all together, as in R. A.
    Fisher's analysis of variance ("Statistical Methods for Research Workers", 1925); intervals are
    Student's, and there are none where every group has one value. ``ValueError`` for an empty one.
    """
    if not groups or not all(map(len, groups)):
        raise ValueError("no values to take a mean of")
    means = [float(np.mean(group)) for group in groups]
    apart = [value - mean for group, mean in zip(groups, means, strict=True) for value in group]
    free = len(apart) - len(groups)
    unsure = np.array([1 / len(group) for group in groups])
    halves: list[float | None] = [None] * (1 + len(groups))
    if free:
        sd = math.sqrt(sum(np.square(apart)) / free)
        variances = [unsure.sum() / len(groups) ** 2, *unsure]
        halves = [float(_student(free + 1) * sd * math.sqrt(v)) for v in variances]
    every = [float(np.mean(means)), *means]
    found = [
        Mean(mean, None, None, n) if half is None else Mean(mean, mean - half, mean + half, n)
        for mean, half, n in zip(every, halves, [len(apart), *map(len, groups)], strict=True)
    ]
    return found[0], found[1:]


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Mean | None:
    """By how much values exceed others, seed by seed; None unless there is one for each."""
    if not len(first) or len(first) != len(second):
        return None
    return mean_of(np.subtract(first, second))


def rate_of(values: Sequence[float]) -> Mean:
    """``mean_of`` for shares: the interval is cut to [0, 1]."""
    return as_share(mean_of(values))


def as_share(mean: Mean) -> Mean:
    """The same with its interval cut to [0, 1]."""
    if mean.low is None:
        return mean
    return replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high))


@dataclass(frozen=True)
class Rate(Mean):
    """The share of ``items`` that are right, over ``n`` seeds, and its 95 % interval."""

    items: int = 0


#: The scale of a half-normal prior of how much the seeds' log odds differ, as a standard deviation.
#: With 0.7, two thirds of the seeds have odds within a factor of 2 of the middle.
_SPREAD = 0.7
#: Cells of the prior of that spread, and of the rate (of each of the rounds that narrow it down).
_SPREADS, _RATES = 24, 120


def rate_over_seeds(rates: Sequence[float], items: Sequence[int]) -> Rate:
    """The share of items that are right, with an interval from the items *and* the seeds.

    ``rates[s]`` is that of seed s among its ``items[s]``. Within a seed, right items are binomial;
    the seeds' own rates have a Beta distribution with mean m and a standard deviation of about
    ``t m (1 - m)``, so that t is that of their log odds (J. G. Skellam, "A probability distribution
    derived from the binomial distribution by regarding the probability of success as variable
    between the sets of trials", 1948). With a uniform prior of m and a half-normal one of t (scale
    0.7), the interval is the middle 95 % of the posterior of m. Student's interval over the seeds'
    rates does not know the items, and is often all of [0, 1] with three seeds.

    In simulations (300 items a seed, log odds with a standard deviation of 0 to 0.7) it held the
    true rate in 90 to 100 % of the cases, with 3 seeds and with 5. Seeds without items do not
    count; ``ValueError`` if there are no others. The mean is the share of all items together.
    """
    counts = np.asarray(items, dtype=float)
    right, counts = (np.asarray(rates, dtype=float) * counts)[counts > 0], counts[counts > 0]
    if not len(counts):
        raise ValueError("no items to take a rate of")
    share = float(right.sum() / counts.sum())
    low, high = 0.0, 1.0
    for _ in range(3):  # each round looks closer at where the weight lies
        edges = np.linspace(low, high, _RATES + 1)
        below = _believed(right, counts, edges)
        low, high = np.interp([1e-4, 1 - 1e-4], below, edges)
        low, high = (
            max(0.0, low - 1 / _RATES * (high - low)),
            min(1.0, high + (high - low) / _RATES),
        )
    low, high = np.interp([0.025, 0.975], below, edges)
    low, high = min(float(low), share), max(float(high), share)
    return Rate(share, low, high, len(counts), int(counts.sum()))


def _believed(right: np.ndarray, counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The posterior that the rate lies below each edge, of those between the first and the last."""
    from scipy.special import betaln, ndtri

    rates = (edges[1:] + edges[:-1]) / 2
    spread = _SPREAD * ndtri(0.5 + (np.arange(_SPREADS) + 0.5) / (2 * _SPREADS))[:, None]
    # Beta(a, b) with this mean: the larger its size a + b, the more alike are the seeds.
    size = np.minimum(1e7, 1 / (spread**2 * rates * (1 - rates)))
    a, b = size * rates, size * (1 - rates)
    seeds = zip(right, counts, strict=True)
    likelihood = sum(betaln(x + a, n - x + b) - betaln(a, b) for x, n in seeds)
    weight = np.exp(likelihood - likelihood.max()).sum(axis=0)
    return np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])


def rate_difference(first: Rate, second: Rate) -> Mean:
    """By how much a rate exceeds another, with the interval that theirs give.

    G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general
    approach", 2008 (MOVER), for rates whose errors are independent. Rates of the same seeds mostly
    err alike; the interval is then wider than need be.
    """
    gap = first.mean - second.mean
    low = gap - math.hypot(first.mean - first.low, second.high - second.mean)
    high = gap + math.hypot(first.high - first.mean, second.mean - second.low)
    return Mean(gap, low, high, min(first.n, second.n))


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """The probability that a positive item has a higher score than another one, ties counting half.

    The area under the ROC curve, by the rank sum (Mann and Whitney, 1947). None if all items are
    positive, or none is.
    """
    positive = np.asarray(positive, dtype=bool)
    good, bad = int(positive.sum()), int((~positive).sum())
    if not good or not bad:
        return None
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    return float((ranks[positive].sum() - good * (good + 1) / 2) / (good * bad))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis; nan where all values of one are equal.

    The correlation of ranks, equal values having their mean rank (C. Spearman, "The proof and
    measurement of association between two things", 1904).
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) for values in (first, second)]
    one, other = (own - own.mean(axis=-1, keepdims=True) for own in ranks)
    norm = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=-1) / norm


def auc_influence(
    scores: Sequence[float], positive: Sequence[bool]
) -> tuple[float, np.ndarray] | None:
    """``auc``, and how far each item pulls it: ``(n,)``, whose sum of squares is its variance.

    These are the structural components of E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson,
    "Comparing the areas under two or more correlated ROC curves", 1988: the share of the other
    class that an item is ranked rightly against, less the AUC, scaled so that the squares sum to
    their estimate of the variance (0 where a class has one item). The products of two AUCs' sum to
    the covariance, so the influence on a difference or a mean is the difference or mean of the
    influences. None where ``auc`` is.
    """
    positive = np.asarray(positive, dtype=bool)
    counts = {True: int(positive.sum()), False: int((~positive).sum())}
    if not all(counts.values()):
        return None
    from scipy.stats import rankdata

    scores = np.asarray(scores)
    above = rankdata(scores)  # less the ranks within the class: how many of the other are below
    influence = np.empty(len(scores))
    for kind, own in counts.items():
        rows, other = positive == kind, counts[not kind]
        below = (above[rows] - rankdata(scores[rows])) / other
        right = below if kind else 1 - below
        value = right.mean()  # the AUC, from either class
        influence[rows] = (right - value) / math.sqrt(own * max(1, own - 1))
    return float(value), influence

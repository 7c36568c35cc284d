"""How likely two fragments are to be equal, given how often they agree: one model for a slot set.

The model. A share of all pairs of fragments, the ``prior``, are equal: they agree in every shared
context but for noise (``noise.py``). The others agree in each with one probability, ``chance``,
independently. Both numbers are estimated from all pairs of the slot set that share a context, by
expectation maximisation, so that nothing about the task is given: where a slot set is no fragment
of anything the estimated prior is about 0, and its pairs count for nothing.

What is assumed and not so: the pairs are taken as independent, although a third fragment ties them;
and unequal pairs have one chance of agreement, although fragments that share a part (a token, an
intermediate value) agree more often than others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coverage_principle.coverage.evidence import Agreements
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.reprs import one_line

#: Fragments whose pairs are looked at to estimate a slot set's numbers; more change little.
_MOST_FRAGMENTS = 1500
_ROUNDS = 100
#: Nats below which a slot set counts as one without equal fragments.
SHOWN = 1.0


@dataclass(frozen=True)
class PairCounts:
    """How often the pairs of fragments of one slot set agree.

    A row for each (agreements, shared contexts) that occurs among pairs that agree at all, with the
    number of such pairs. ``agreements`` and ``meetings`` are those of all pairs together, and
    ``sharing`` is how many pairs share a context, as many as if they met at random.
    """

    agreeing: np.ndarray
    shared: np.ndarray
    pairs: np.ndarray
    agreements: float
    meetings: float
    sharing: float

    __repr__ = one_line


def count_pairs(agreements: Agreements, most: int = _MOST_FRAGMENTS) -> PairCounts:
    """Count the pairs of a slot set, from ``most`` fragments evenly spaced if there are more."""
    observations = agreements.observations
    count = observations.num_fragments
    rows = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    found = []
    for first, second, agreeing in agreements.of(rows):
        both = np.stack([agreeing, agreements.shared(first, second)])
        values, times = np.unique(both, axis=1, return_counts=True)
        found.append(np.concatenate([values, times[None]]))
    agreeing, shared, times = np.concatenate([np.zeros((3, 0), np.int64), *found], axis=1)
    values, row = np.unique(np.stack([agreeing, shared]), axis=1, return_inverse=True)
    # Every pair of two looked-at fragments came twice, one of which has been looked at once.
    pairs = np.bincount(row.reshape(-1), times, values.shape[1]) * count / (2 * max(len(rows), 1))
    meetings = _pairs_in(np.bincount(observations.context_of))
    every = max(count * (count - 1) / 2, 1.0)
    return PairCounts(
        *values,
        pairs,
        _pairs_in(agreements.sizes),
        meetings,
        every * -np.expm1(-meetings / every),
    )


def _pairs_in(sizes: np.ndarray) -> float:
    sizes = sizes.astype(float)
    return float((sizes * (sizes - 1) / 2).sum())


@dataclass(frozen=True)
class Equality:
    """What one slot set says of its pairs: ``prior``, ``chance``, and the noise of labels.

    ``nats`` is the expected log-odds in favour of equality, summed over all pairs: how much the
    training set says of this slot set. 0 where no fragment stands for another.

    With a prior of 1 % and a chance of 1 in 20, two agreements out of two make equality likely, and
    one disagreement excludes it where labels are right:

    >>> equality = Equality(prior=0.01, chance=0.05, noise=PairNoise(0.0, answers=20))
    >>> equality.posterior(np.array([1, 2, 3, 3]), np.array([1, 2, 3, 4])).round(3).tolist()
    [0.168, 0.802, 0.988, 0.0]
    """

    prior: float
    chance: float
    noise: PairNoise
    nats: float = 0.0

    def log_odds(self, agreeing: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Log-odds that pairs are equal: ``(n,)``; minus infinity where that is excluded."""
        differ, differing = self.noise.differ, np.asarray(shared) - agreeing
        odds = np.log(self.prior) - np.log1p(-self.prior)
        odds = odds + agreeing * (np.log1p(-differ) - np.log(self.chance))
        if differ == 0:
            return np.where(differing > 0, -np.inf, odds)
        return odds + differing * (np.log(differ) - np.log1p(-self.chance))

    def posterior(self, agreeing: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """The probability that pairs are equal: ``(n,)``."""
        return _logistic(self.log_odds(agreeing, shared))

    def weight(self, agreeing: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """What a vote of a fragment for another one counts (``vote_weight``): ``(n,)`` nats."""
        return vote_weight(self.posterior(agreeing, shared), self.noise)


def vote_weight(equal: np.ndarray, noise: PairNoise) -> np.ndarray:
    """What votes count whose voters equal the query with the probabilities ``equal``: nats.

    With that probability p the vote is right, but for the noise E; else it says nothing, any of the
    A answers. It counts the log of how much likelier the voted answer is than another one, times p:
    without that factor, the many weak votes of unequal fragments outweigh the few of equal ones.
    """
    answers, wrong = noise.answers, noise.rate
    apart = np.maximum(1 - equal, 1e-12) / answers
    wrongly = equal * wrong / max(answers - 1, 1)
    return equal * np.log((equal * (1 - wrong) + apart) / (wrongly + apart))


def fit_equality(counts: PairCounts, noise: PairNoise) -> Equality:
    """Estimate the numbers of one slot set by expectation maximisation.

    Pairs that share contexts and agree in none count as unequal: with little noise they are.
    """
    if counts.meetings == 0 or counts.agreements == 0:
        return Equality(1e-9, 0.5, noise)
    prior = min(0.5, counts.sharing**-0.5)
    chance = counts.agreements / counts.meetings
    for _ in range(_ROUNDS):
        prior, chance = np.clip([prior, chance], 1e-9, 0.999)
        equal = Equality(prior, chance, noise)
        weight = counts.pairs * equal.posterior(counts.agreeing, counts.shared)
        prior = weight.sum() / counts.sharing
        apart = max(counts.meetings - (weight * counts.shared).sum(), 1e-9)
        chance = (counts.agreements - (weight * counts.agreeing).sum()) / apart
        if np.allclose((equal.prior, equal.chance), (prior, chance), rtol=1e-6, atol=1e-12):
            break
    prior, chance = np.clip([prior, chance], 1e-9, 0.999)
    equal = Equality(float(prior), float(chance), noise)
    odds = equal.log_odds(counts.agreeing, counts.shared)
    in_favour = _logistic(odds) * np.maximum(odds, 0)
    return replace(equal, nats=float((counts.pairs * in_favour).sum()))


def _logistic(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))

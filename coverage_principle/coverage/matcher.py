"""The pattern matcher: what a learner that only substitutes equal fragments would answer.

For a query, every training item in the same context votes for its answer, at every slot set, and
counts as much as its fragment is likely to equal the query's (``vote_weight``); so do items that
become the query by a substitution at each of two parts that make up the input. The matcher answers
with the largest sum, and where nothing votes with the training set's most frequent answer. Its
probabilities are a softmax of ``sharpness`` times these sums over the frequencies of answers: votes
are not independent, so that their sum alone would be too sure. The sharpness, and the rate of wrong
labels if that is asked for, are those under which the training items themselves are most likely,
each left out in turn. No answer of a test item is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from coverage_principle.coverage.equality import (
    SHOWN,
    Equality,
    count_pairs,
    fit_equality,
    vote_weight,
)
from coverage_principle.coverage.evidence import Observer
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.coverage.votes import MOST_CELLS, Pairs, Queries, Voters, joint_votes
from coverage_principle.data.space import distinct, encode_rows, is_member, rows_among
from coverage_principle.reprs import one_line

#: Training items that are left out in turn, evenly spaced.
_LEFT_OUT = 2000
#: Rates of wrong labels among which the likeliest is sought, before it is refined.
_RATES = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)
#: By how many nats wrong labels must explain the left-out items better than none.
_CLEARLY = 4.0
#: Pairs that are less likely to be equal do not vote together with another pair.
_LIKELY = 0.05
#: Queries times answers that are held at once.
_NUMBERS = 1 << 23

#: A slot set, by positions.
Slots = tuple[int, ...]


@dataclass(frozen=True)
class Matched:
    """What the matcher makes of queries.

    ``support`` ``(n, answers)`` sums, over votes, in how many contexts the voter's fragment and the
    query's agree, contradictions or not; ``probability`` ``(n, answers)`` are the matcher's.
    """

    support: np.ndarray
    probability: np.ndarray

    __repr__ = one_line

    @property
    def answer(self) -> np.ndarray:
        """The likeliest answers, ``(n,)``; of equal ones the first."""
        return self.probability.argmax(axis=1)

    @property
    def margin(self) -> np.ndarray:
        """By how much the likeliest answer's probability exceeds the next one's: ``(n,)``."""
        if self.probability.shape[1] < 2:
            return self.probability[:, 0]
        best = np.partition(self.probability, -2, axis=1)
        return best[:, -1] - best[:, -2]


class Matcher:
    """The pattern matcher of training items ``inputs`` ``(n, slots)``, distinct, with ``answers``.

    ``num_answers`` is how many there can be, ``sizes`` those of the slots' alphabets, ``positions``
    the slot sets. ``noise`` is the rate of wrong labels, None to estimate it.

    Two fragments that agree in the contexts 0 and 1, of which one was seen in context 2 as well:

    >>> inputs = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 2]])
    >>> about = {"num_answers": 3, "sizes": (2, 3), "positions": [(0,)]}
    >>> found = Matcher(inputs, np.array([0, 0, 1, 1, 2]), **about).match(np.array([[1, 2]]))
    >>> found.support.tolist(), found.answer.tolist()
    ([[0.0, 0.0, 2.0]], [2])
    """

    def __init__(
        self,
        inputs: np.ndarray,
        answers: np.ndarray,
        *,
        num_answers: int,
        sizes: Sequence[int],
        positions: Sequence[tuple[int, ...]],
        noise: float | None = 0.0,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._num_answers, sizes = num_answers, tuple(sizes)
        self._answers, self._slots = answers, len(sizes)
        self._codes, self._sizes = encode_rows(inputs, sizes), sizes
        counts = np.bincount(answers, minlength=num_answers) + 1
        self._base = np.log(counts / counts.sum())
        self._voters, self._counts = {}, {}
        observer = Observer(inputs, answers, sizes)
        for done, own in enumerate(positions, start=1):
            share = MOST_CELLS // len(positions)
            voters = self._voters[own] = Voters(observer.at(own), answers, sizes, share)
            self._counts[own] = count_pairs(voters.agreements)
            progress(0.8 * done / len(positions))
        items = np.unique(np.linspace(0, len(answers) - 1, _LEFT_OUT).astype(np.int64))
        asked = {own: voters.left_out(items) for own, voters in self._voters.items()}
        self._fit(asked, answers[items], noise)
        progress(1.0)

    def _fit(self, asked: Mapping[Slots, Queries], true: np.ndarray, noise: float | None) -> None:
        """Choose sharpness and noise by the left-out items, whose answers are ``true``."""
        self.noise = self._likeliest(asked, true) if noise is None else noise
        self.equalities = self._equalities(self.noise)
        scores = self._scores(asked, len(true))[1]
        _, self.sharpness = self._sharpen(scores, true, self.noise)

    def _likeliest(self, asked: Mapping[Slots, Queries], true: np.ndarray) -> float:
        """The rate of wrong labels under which the left-out items are likeliest.

        By the votes in the items' own contexts alone, which are found once for all rates.
        """
        votes = {
            own: list(self._voters[own].pairs(queries, in_context=True))
            for own, queries in asked.items()
        }

        def loss(rate: float) -> float:
            equalities, scores = self._equalities(rate), np.zeros((len(true), self._num_answers))
            for own, found in votes.items():
                for pairs in found:
                    self._vote(scores, pairs, equalities[own])
            return self._sharpen(scores, true, rate)[0] + _CLEARLY * (rate > 0)

        most = 0.8 * (1 - 1 / self._num_answers)
        tried = {rate: loss(rate) for rate in _RATES if rate == 0 or rate < most}
        best = min(tried, key=tried.get)
        low = max((rate for rate in tried if rate < best), default=0.0)
        high = min((rate for rate in tried if rate > best), default=best)
        if low < high:
            how = {"bounds": (low, high), "method": "bounded", "options": {"xatol": 2e-3}}
            rate = round(float(minimize_scalar(loss, **how).x), 4)
            tried[rate] = loss(rate)
        return min(tried, key=tried.get)

    def _equalities(self, rate: float) -> dict[Slots, Equality]:
        noise = PairNoise(rate, self._num_answers)
        return {own: fit_equality(counts, noise) for own, counts in self._counts.items()}

    def _vote(self, scores: np.ndarray, pairs: Pairs, equality: Equality | None = None) -> None:
        """Add the votes of pairs in the queries' contexts; without ``equality``, agreements."""
        weights = pairs.agreeing
        if equality is not None:
            weights = equality.weight(pairs.agreeing, pairs.shared)
        self._add(scores, pairs.query, pairs.item, weights)

    def _add(self, scores, query, item, weights) -> None:
        cells = query.astype(np.int64) * self._num_answers + self._answers[item]
        scores += np.bincount(cells, weights, scores.size).reshape(scores.shape)

    def _scores(self, asked: Mapping[Slots, Queries], count: int) -> np.ndarray:
        """Agreements and weights of all votes: ``(2, count, answers)``."""
        support, scores = found = np.zeros((2, count, self._num_answers))
        for own, queries in asked.items():
            for pairs in self._voters[own].pairs(queries, in_context=True):
                self._vote(support, pairs)
                self._vote(scores, pairs, self.equalities[own])
        for parts in self._bipartitions(asked):
            equal = tuple(self.equalities[part] for part in parts)
            posterior = tuple(
                lambda pairs, one=one: one.posterior(pairs.agreeing, pairs.shared) for one in equal
            )
            voters = tuple(self._voters[part] for part in parts)
            queries = tuple(asked[part] for part in parts)
            for query, item, both in joint_votes(voters, queries, posterior, _LIKELY):
                self._add(scores, query, item, vote_weight(both, equal[0].noise))
        return found

    def _bipartitions(self, asked: Mapping[Slots, Queries]) -> list[tuple[Slots, Slots]]:
        """Ways to part the slots in two that both show equal fragments."""
        found = []
        for own in asked:
            rest = tuple(slot for slot in range(self._slots) if slot not in own)
            if 0 in own and rest in asked:
                shown = min(self.equalities[part].nats for part in (own, rest))
                found += [(own, rest)] if shown >= SHOWN else []
        return found

    def _sharpen(self, scores: np.ndarray, true: np.ndarray, rate: float) -> tuple[float, float]:
        """The loss (nats) of the left-out items, and the sharpness at which it is least."""
        wrong = rate / max(self._num_answers - 1, 1)

        def loss(log_sharpness: float) -> float:
            chosen = self._probability(scores, np.exp(log_sharpness))[np.arange(len(true)), true]
            seen = (1 - rate) * chosen + wrong * (1 - chosen)
            return float(-np.log(np.maximum(seen, 1e-12)).sum())

        found = minimize_scalar(loss, bounds=(-7, 3), method="bounded", options={"xatol": 0.01})
        return float(found.fun), float(np.exp(found.x))

    def _probability(self, scores: np.ndarray, sharpness: float) -> np.ndarray:
        return softmax(sharpness * scores + self._base, axis=1)

    def match(
        self, inputs: np.ndarray, progress: Callable[[float], None] = lambda _: None
    ) -> Matched:
        """What the matcher makes of ``inputs`` ``(n, slots)``.

        One that is a training item is answered as in training, but for the rate of wrong labels.
        """
        found = [np.zeros((2, 0, self._num_answers))]
        at_once = max(1, _NUMBERS // self._num_answers)
        for begin in range(0, len(inputs), at_once):
            part = inputs[begin : begin + at_once]
            asked = {own: voters.queries(part) for own, voters in self._voters.items()}
            support, scores = self._scores(asked, len(part))
            probability = self._remember(part, self._probability(scores, self.sharpness))
            found.append(np.stack([support, probability]))
            progress((begin + len(part)) / len(inputs))
        return Matched(*np.concatenate(found, axis=1))

    def _remember(self, inputs: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Weigh in what training says of inputs that are training items (Bayes' rule)."""
        codes = encode_rows(inputs, self._sizes)
        item = rows_among(self._codes, distinct(codes))
        item = item[np.argsort(self._codes[item])]
        known = np.flatnonzero(is_member(codes, self._codes[item]))
        item = item[np.searchsorted(self._codes[item], codes[known])]
        likelihood = np.full((len(known), self._num_answers), max(self.noise, 1e-9))
        likelihood /= max(self._num_answers - 1, 1)
        likelihood[np.arange(len(known)), self._answers[item]] = 1 - self.noise
        posterior = probability[known] * likelihood
        probability[known] = posterior / posterior.sum(axis=1, keepdims=True)
        return probability

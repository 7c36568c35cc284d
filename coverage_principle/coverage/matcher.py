"""The pattern matcher: what a learner that only substitutes equal fragments would answer.

For a query, every training item in the same context votes for its answer with the expected log-odds
that its fragment equals the query's (``Equality.weight``), at every slot set. The matcher answers
with the largest sum, and where nothing votes with the training set's most frequent answer. Its
probabilities are a softmax of ``sharpness`` times these sums over the frequencies of answers: votes
are not independent, so that their sum alone would be too sure. The sharpness, and the rate of wrong
labels if that is asked for, are those under which the training items themselves are most likely,
each left out in turn. No answer of a test item is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from coverage_principle.coverage.equality import Equality, count_pairs, fit_equality
from coverage_principle.coverage.evidence import observe
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.coverage.votes import Voters, Votes

#: Training items that are left out in turn, evenly spaced.
_LEFT_OUT = 2000
#: Rates of wrong labels among which the likeliest is sought, before it is refined.
_RATES = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4)
#: By how many nats wrong labels must explain the left-out items better than none.
_CLEARLY = 4.0
_QUERIES = 1 << 14


@dataclass(frozen=True)
class Matched:
    """What the matcher makes of queries.

    ``support`` ``(n, answers)`` sums, over votes, in how many contexts the voter's fragment and the
    query's agree, contradictions or not; ``probability`` ``(n, answers)`` are the matcher's.
    """

    support: np.ndarray
    probability: np.ndarray

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
        self.num_answers, self.sizes = num_answers, tuple(sizes)
        self._answers = answers
        self._codes: dict[bytes, int] | None = None
        counts = np.bincount(answers, minlength=num_answers) + 1
        self._base = np.log(counts / counts.sum())
        left_out = np.unique(np.linspace(0, len(answers) - 1, _LEFT_OUT).astype(np.int64))
        self.voters, self._counts, votes = [], [], []
        for done, own in enumerate(positions, start=1):
            seen = observe(inputs, answers, own, self.sizes)
            self._counts.append(count_pairs(seen))
            self.voters.append(Voters(seen, answers, self.sizes))
            votes.append(list(self.voters[-1].of_left_out(left_out)))
            progress(done / len(positions))
        self._inputs = inputs
        self._fit(votes, answers[left_out], noise)

    def _fit(self, votes: list[list[Votes]], true: np.ndarray, noise: float | None) -> None:
        """Choose sharpness and noise by the left-out items ``true`` ``(m,)``."""

        def try_rate(rate: float) -> tuple[float, float, list[Equality]]:
            equalities = self._equalities(rate)
            scores = np.zeros((len(true), self.num_answers))
            for one, of_set in zip(equalities, votes, strict=True):
                for part in of_set:
                    weights = one.weight(part.agreeing, part.shared)
                    scores += part.total(weights, *scores.shape)
            loss, sharpness = self._sharpen(scores, true, rate)
            return loss, sharpness, equalities

        rates = {noise: try_rate(noise)} if noise is not None else self._likeliest(try_rate)
        self.noise = min(rates, key=lambda rate: rates[rate][0] + _CLEARLY * (rate > 0))
        _, self.sharpness, self.equalities = rates[self.noise]

    def _likeliest(self, try_rate: Callable) -> dict[float, tuple]:
        """Several rates tried, the best one refined between its neighbours."""
        tried = {rate: try_rate(rate) for rate in _RATES if self._possible(rate)}
        rates = list(tried)
        best = min(range(len(rates)), key=lambda i: tried[rates[i]][0])
        low, high = rates[max(best - 1, 0)], rates[min(best + 1, len(rates) - 1)]
        if low < high:
            how = {"bounds": (low, high), "method": "bounded", "options": {"xatol": 2e-3}}
            rate = round(float(minimize_scalar(lambda x: try_rate(x)[0], **how).x), 4)
            tried[rate] = try_rate(rate)
        return tried

    def _possible(self, rate: float) -> bool:
        return rate == 0 or (self.num_answers > 1 and rate < 0.8 * (1 - 1 / self.num_answers))

    def _equalities(self, rate: float) -> list[Equality]:
        noise = PairNoise(rate, self.num_answers)
        return [fit_equality(counts, noise) for counts in self._counts]

    def _sharpen(self, scores: np.ndarray, true: np.ndarray, rate: float) -> tuple[float, float]:
        """The loss (nats) of the left-out items, and the sharpness at which it is least."""
        wrong = rate / max(self.num_answers - 1, 1)

        def loss(log_sharpness: float) -> float:
            chosen = self._probability(scores, np.exp(log_sharpness))[np.arange(len(true)), true]
            seen = (1 - rate) * chosen + wrong * (1 - chosen)
            return float(-np.log(np.maximum(seen, 1e-12)).sum())

        found = minimize_scalar(loss, bounds=(-7, 3), method="bounded", options={"xatol": 0.01})
        return float(found.fun), float(np.exp(found.x))

    def _probability(self, scores: np.ndarray, sharpness: float) -> np.ndarray:
        logits = sharpness * scores + self._base
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return odds / odds.sum(axis=1, keepdims=True)

    def match(
        self, queries: np.ndarray, progress: Callable[[float], None] = lambda _: None
    ) -> Matched:
        """What the matcher makes of ``queries`` ``(n, slots)``.

        One that is a training item is answered as in training, but for the rate of wrong labels.
        """
        found = [np.zeros((2, 0, self.num_answers))]
        for begin in range(0, len(queries), _QUERIES):
            part = queries[begin : begin + _QUERIES]
            support, scores = np.zeros((2, len(part), self.num_answers))
            for voters, equality in zip(self.voters, self.equalities, strict=True):
                for votes in voters.of(part):
                    support += votes.total(votes.agreeing, *support.shape)
                    weights = equality.weight(votes.agreeing, votes.shared)
                    scores += votes.total(weights, *scores.shape)
            probability = self._remember(part, self._probability(scores, self.sharpness))
            found.append(np.stack([support, probability]))
            progress((begin + len(part)) / len(queries))
        return Matched(*np.concatenate(found, axis=1))

    def _remember(self, queries: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Weigh in what training says of queries that are training items (Bayes' rule)."""
        if self._codes is None:
            self._codes = {row.tobytes(): i for i, row in enumerate(self._inputs.astype(np.int32))}
        rows = [self._codes.get(row.tobytes(), -1) for row in queries.astype(np.int32)]
        known = np.flatnonzero(np.array(rows, dtype=np.int64) >= 0)
        seen = self._answers[[rows[i] for i in known]]
        likelihood = np.full((len(known), self.num_answers), max(self.noise, 1e-9))
        likelihood /= max(self.num_answers - 1, 1)
        likelihood[np.arange(len(known)), seen] = 1 - self.noise
        posterior = probability[known] * likelihood
        probability[known] = posterior / posterior.sum(axis=1, keepdims=True)
        return probability

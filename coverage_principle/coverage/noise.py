"""What wrong labels do to evidence: two equal fragments may then disagree.

The model. Each training answer is, independently, wrong with probability E, and a wrong one is
uniform among the others. Two fragments that are equal then show different answers in a shared
context with probability

    d = 1 - (1 - E)^2 - E^2 / (A - 1)

where A is the number of answers; two that are not equal are taken to agree by coincidence, with
probability 1 / A. So an agreement speaks for equality with log((1 - d) A), a disagreement against
it with log((1 - 1/A) / d), and the *evidence* of a pair is their sum in units of one agreement,
rounded down: agreements less ``penalty`` times the disagreements. Without noise the penalty is
infinite, so that evidence is the number of shared contexts of a pair that never disagrees, as in
the paper's definition.

Stochastic functions are the same to this model: with several true answers for a call, E is the
probability that a training answer is not the most frequent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf, log

import numpy as np

from coverage_principle.errors import InputError

#: Sums that are whole numbers but for the rounding of floats stay whole.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PairNoise:
    """How much a disagreement of two fragments counts against their agreements.

    ``rate`` is the share of wrong labels, 0 to below 1; ``answers`` the number of answers.
    ``InputError`` if labels are so often wrong that an agreement would say nothing.

    >>> noise = PairNoise(0.1, answers=20)
    >>> round(noise.differ, 3), round(noise.penalty, 2)
    (0.189, 0.58)
    >>> noise.evidence(np.array([4, 4, 1]), shared=np.array([4, 5, 3])).tolist()
    [4, 3, 0]
    """

    rate: float = 0.0
    answers: int = 2

    def __post_init__(self) -> None:
        if self.rate and (self.answers < 2 or 1 - self.differ <= 1 / self.answers):
            raise InputError(
                f"`noise` {self.rate:g} is too much: with {self.answers} answers, equal fragments "
                "would agree no more often than any others"
            )

    @property
    def differ(self) -> float:
        """The probability that equal fragments show different answers in a shared context."""
        if self.rate == 0:
            return 0.0
        # The formula above, multiplied out: a tiny rate does not vanish beside the 1.
        return self.rate * (2 - self.rate * self.answers / (self.answers - 1))

    @property
    def penalty(self) -> float:
        """How many agreements one disagreement outweighs."""
        if self.rate == 0:
            return inf
        against = log(1 - 1 / self.answers) - log(self.differ)
        return against / log((1 - self.differ) * self.answers)

    def balance(self, agreeing: int, disagreeing: int) -> int | None:
        """What speaks for one pair, in agreements, rounded down; below 0 where more is against it.

        Its evidence is this, if it is positive. None where no further agreement could help.
        """
        if not disagreeing:
            return agreeing
        if self.rate == 0:
            return None
        return floor(agreeing - self.penalty * disagreeing + _ROUNDING)

    def evidence(self, agreeing: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """The evidence of pairs, ``(n,)`` int32; 0 where there is none."""
        if self.rate == 0:
            return np.where(agreeing == shared, agreeing, 0).astype(np.int32)
        found = np.floor(agreeing - self.penalty * (shared - agreeing) + _ROUNDING)
        return np.maximum(found, 0).astype(np.int32)


#: Labels are never wrong: as in the paper.
NO_NOISE = PairNoise()

"""Functional k-equivalence of the fragments of one slot set, for every k at once.

At a given k two fragments are in one class when a chain of pairs with evidence >= k joins them
(transitive closure). The classes at every k follow from a maximum spanning forest of the evidence
(``weighing.py``). Its edges are pairs that the training set itself shows to be equivalent: a path
along it is the firmest explanation of why two fragments are in one class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coverage_principle.coverage.evidence import Observations
from coverage_principle.coverage.linking import components
from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.coverage.weighing import Forest, weigh_pairs
from coverage_principle.data.space import decode_rows, distinct, encode_rows, sizes_at
from coverage_principle.reprs import one_line


@dataclass(frozen=True)
class Equivalence:
    """The equivalences of one slot set.

    ``codes`` are the fragments of the training set (``encode_rows`` with ``sizes``, those of the
    slots at ``positions``; ascending). ``first``, ``second`` and ``evidence`` are the edges of the
    spanning forest, firmest first. ``pairs[e]`` counts the pairs of fragments with evidence e;
    ``false_pairs[e]`` those among them whose true values differ, if these are known, and
    ``true_forest`` are the edges of a forest of the others.
    """

    positions: tuple[int, ...]
    sizes: int | tuple[int, ...]
    codes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    evidence: np.ndarray
    pairs: np.ndarray
    false_pairs: np.ndarray | None
    true_forest: Forest | None = None

    __repr__ = one_line

    @property
    def of_true_pairs(self) -> Equivalence:
        """What would be left if only pairs of equal true values counted; these must be known."""
        first, second, evidence = self.true_forest
        return replace(self, first=first, second=second, evidence=evidence, true_forest=None)

    @property
    def levels(self) -> np.ndarray:
        """The k at which classes differ from those at k + 1, descending."""
        return distinct(self.evidence)[::-1]

    def classes(self, k: int) -> np.ndarray:
        """Class of each fragment at ``k``: ``(fragments,)`` int32, counted from 0."""
        firm = self.evidence >= k
        return components(len(self.codes), self.first[firm], self.second[firm])

    def falling(self, lowest: int) -> Iterator[tuple[int, np.ndarray]]:
        """Every level from the firmest down to ``lowest``, and the classes there.

        Classes are those of ``classes``, each level's made of the one before.
        """
        classes = np.arange(len(self.codes), dtype=np.int32)
        ends = np.searchsorted(-self.evidence, -self.levels, side="right").tolist()
        for begin, end, k in zip([0, *ends], ends, self.levels.tolist(), strict=False):
            if k < lowest:
                return
            edges = classes[self.first[begin:end]], classes[self.second[begin:end]]
            classes = components(int(classes.max()) + 1, *edges)[classes]
            yield k, classes

    def joined_up_to(self, first: np.ndarray, second: np.ndarray, lowest: int) -> np.ndarray:
        """The largest k at which two fragments are in one class: ``(n,)`` int32.

        ``first`` and ``second`` are indices of fragments. 0 if there is no such k from ``lowest``.
        """
        found = np.zeros(len(first), dtype=np.int32)
        for k in self.levels[self.levels >= lowest].tolist():
            classes = self.classes(k)
            found[(found == 0) & (classes[first] == classes[second])] = k
        return found

    def fragments(self) -> np.ndarray:
        """The values of each fragment at the slot set: ``(fragments, slots of the set)`` int64."""
        return decode_rows(self.codes, self.sizes, len(self.positions))

    def fragment_ids(self, inputs: np.ndarray) -> np.ndarray:
        """Index of each input's fragment, ``(n,)`` int32; -1 where the training set has it not."""
        codes = encode_rows(inputs[:, list(self.positions)], self.sizes)
        found = np.searchsorted(self.codes, codes).astype(np.int32)
        found[found == len(self.codes)] = 0
        return np.where(self.codes[found] == codes, found, np.int32(-1))

    def fragment_id(self, item: Sequence[int]) -> int:
        """The same for one input."""
        return int(self.fragment_ids(np.array([item]))[0])


def functional_equivalence(
    observations: Observations,
    sizes: int | Sequence[int],
    *,
    true_values: np.ndarray | None = None,
    noise: PairNoise = NO_NOISE,
    progress: Callable[[float], None] = lambda _: None,
) -> Equivalence:
    """Weigh all pairs of fragments; ``sizes`` as for ``observe``.

    ``true_values`` ``(fragments,)`` only serve to count the pairs that agree by coincidence.
    ``noise`` says what a disagreement counts.
    """
    seen = observations.fragment_of, observations.context_of, observations.label_of
    weighed = weigh_pairs(*seen, true_values=true_values, noise=noise, progress=progress)
    return Equivalence(
        observations.positions,
        sizes_at(sizes, observations.positions),
        observations.codes,
        *weighed.forest,
        weighed.pairs,
        weighed.false_pairs,
        weighed.true_forest,
    )

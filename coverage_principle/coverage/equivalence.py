"""Functional k-equivalence of the fragments of one slot set, for every k at once.

At a given k two fragments are in one class when a chain of pairs with evidence >= k joins them
(transitive closure). The classes at every k follow from a maximum spanning forest of the evidence,
so of the possibly billions of pairs fewer than one a fragment is kept. Its edges are pairs that the
training set itself shows to be equivalent: a path along it is the firmest explanation of why two
fragments are in one class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import minimum_spanning_tree

from coverage_principle.coverage.evidence import Observations, consistent_pairs
from coverage_principle.coverage.linking import components, stars
from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.data.space import decode_rows, encode_rows, sizes_at
from coverage_principle.reprs import one_line


@dataclass(frozen=True)
class Equivalence:
    """The equivalences of one slot set.

    ``codes`` are the fragments of the training set (``encode_rows`` with ``sizes``, those of the
    slots at ``positions``; ascending). ``first``, ``second`` and ``evidence`` are the edges of the
    spanning forest, firmest first. ``pairs[e]`` counts the pairs of fragments with evidence e;
    ``false_pairs[e]`` those among them whose true values differ, if these are known.
    """

    positions: tuple[int, ...]
    sizes: int | tuple[int, ...]
    codes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    evidence: np.ndarray
    pairs: np.ndarray
    false_pairs: np.ndarray | None

    __repr__ = one_line

    @property
    def levels(self) -> np.ndarray:
        """The k at which classes differ from those at k + 1, descending."""
        return np.unique(self.evidence)[::-1]

    def classes(self, k: int) -> np.ndarray:
        """Class of each fragment at ``k``: ``(fragments,)`` int32, counted from 0."""
        firm = self.evidence >= k
        return components(len(self.codes), self.first[firm], self.second[firm])

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
    found = PairTally(observations.num_fragments, true_values)
    lone = (np.bincount(observations.fragment_of) == 1)[observations.fragment_of]
    found.add_lone(observations, lone)
    found.add(consistent_pairs(observations.only(~lone), progress, noise=noise))
    sizes = sizes_at(sizes, observations.positions)
    return found.equivalence(observations.positions, sizes, observations.codes)


class PairTally:
    """The pairs of ``count`` fragments as they come: how many there are, and their forest so far.

    ``true_values`` are as for ``functional_equivalence``.
    """

    def __init__(self, count: int, true_values: np.ndarray | None = None) -> None:
        self._count, self._true_values = count, true_values
        self._forest = (np.empty(0, dtype=np.int32),) * 3
        self._pairs = self._false_pairs = np.zeros(1, dtype=np.int64)

    def add_lone(self, observations: Observations, lone: np.ndarray) -> None:
        """Count the pairs of which a fragment is ``lone``, in contexts that come once.

        ``lone`` ``(n,)`` is of the training items: their fragment was seen in one context only.
        """
        true = self._true_values
        values = None if true is None else true[observations.fragment_of]
        first, second, pairs, false_pairs = _lone_pairs(observations, lone, values)
        self._merge(first, second, np.ones(len(first), dtype=np.int32))
        self._pairs = _add(self._pairs, pairs)
        self._false_pairs = _add(self._false_pairs, false_pairs)

    def add(self, blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        """Count other pairs, as ``consistent_pairs`` gives them; each may come once."""
        for first, second, evidence in blocks:
            self._pairs = _add(self._pairs, np.bincount(evidence))
            if self._true_values is not None:
                wrong = self._true_values[first] != self._true_values[second]
                self._false_pairs = _add(self._false_pairs, np.bincount(evidence[wrong]))
            self._merge(first, second, evidence)

    def equivalence(
        self, positions: tuple[int, ...], sizes: int | tuple[int, ...], codes: np.ndarray
    ) -> Equivalence:
        """What follows from all pairs, for the fragments ``codes`` at ``positions``."""
        false_pairs = None if self._true_values is None else self._false_pairs
        return Equivalence(positions, sizes, codes, *self._forest, self._pairs, false_pairs)

    def _merge(self, *block: np.ndarray) -> None:
        both = (np.concatenate(pair) for pair in zip(self._forest, block, strict=True))
        self._forest = _spanning_forest(self._count, *both)


def _lone_pairs(
    observations: Observations, lone: np.ndarray, values: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pairs in which a fragment occurs that was seen in one context only.

    Such a fragment agrees there with every other one of the same answer, with evidence 1, and
    nothing contradicts it. In sparse data these are most of all pairs, so they are not made one by
    one: a star a group gives the same classes, and their number follows from the groups' sizes.
    ``lone`` and ``values`` are of the training items. Returns first, second, and how many pairs and
    false pairs there are by evidence (0 and 1).

    Fragments 0, 1 and 2 give answer 7 in context 0; only 2 is seen in another context too, so 0 and
    1 are lone. Of the three pairs two are made, a star around fragment 0, and all three counted:

    >>> from coverage_principle.coverage.evidence import observe
    >>> inputs = np.array([[0, 0], [1, 0], [2, 0], [2, 1]])
    >>> seen = observe(inputs, np.array([7, 7, 7, 9]), (0,), sizes=3)
    >>> lone = np.array([True, True, False, False])
    >>> first, second, pairs, _ = _lone_pairs(seen, lone, None)
    >>> list(zip(first.tolist(), second.tolist())), pairs.tolist()
    ([(0, 1), (0, 2)], [0, 3])

    With true values 5, 5 and 6 of the fragments, two of the three agree by coincidence:

    >>> _lone_pairs(seen, lone, np.array([5, 5, 6, 6]))[3].tolist()
    [0, 2]
    """
    answer = observations.with_label(observations.context_of)
    lone_first = np.argsort(~lone, kind="stable")
    hubs, members = (lone_first[side] for side in stars(answer[lone_first]))
    of_lone = lone[hubs]
    ends = np.column_stack([hubs, members])[of_lone]
    first, second = np.sort(observations.fragment_of[ends], axis=1).T
    pairs = _pairs_within(answer) - _pairs_within(answer[~lone])
    false_pairs = 0
    if values is not None:
        _, alike = np.unique(answer, return_inverse=True)
        alike = alike * (int(values.max()) + 1) + values
        false_pairs = pairs - (_pairs_within(alike) - _pairs_within(alike[~lone]))
    return first, second, np.array([0, pairs]), np.array([0, false_pairs])


def _pairs_within(groups: np.ndarray) -> int:
    """Number of unordered pairs of rows with equal values."""
    sizes = np.unique(groups, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def _spanning_forest(
    count: int, first: np.ndarray, second: np.ndarray, evidence: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The edges of a maximum spanning forest, by descending evidence."""
    top = int(evidence.max(initial=0)) + 1
    # Every pair comes once, so nothing is summed up here; weights are positive, as a zero would
    # count as no edge.
    weights = sparse.coo_array((top - evidence, (first, second)), shape=(count, count))
    tree = minimum_spanning_tree(weights.tocsr()).tocoo()
    order = np.argsort(tree.data, kind="stable")
    kept = (tree.row[order], tree.col[order], top - tree.data[order])
    return tuple(values.astype(np.int32) for values in kept)


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two histograms of different length."""
    total = np.zeros(max(len(a), len(b)), dtype=np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total

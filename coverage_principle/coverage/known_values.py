"""Classes of fragments that stand for known values: which are k-equivalent, at several k at once.

The fragment of an intermediate value is what determines it, so its true value is known. Two
fragments are k-equivalent if they share at least k contexts, agree in all of these, and have the
same true value; classes are the transitive closure, as in ``equivalence.py``.

Where nothing but the value reads its slots, fragments of equal value agree in every context. Then a
shared (context, value) is all the evidence there is, and of two ways to find the classes the
cheaper is taken. *Pairs*: a sparse product counts the contexts that each pair shares. *Subsets*:
two fragments share k contexts if some k contexts are seen with both, so each fragment is listed
under every k of its contexts, and a list is joined. That takes no pairs, and is cheap where
fragments have few contexts each, however many fragments there are. Elsewhere fragments of equal
value may contradict each other, and ``functional_equivalence`` looks at every pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod

import numpy as np
import scipy.sparse as sparse

from coverage_principle.coverage.equivalence import functional_equivalence
from coverage_principle.coverage.evidence import observe, row_blocks
from coverage_principle.coverage.linking import components, stars
from coverage_principle.data.space import MOST_CODES, encode_rows, numbered
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TaskGraph

#: Lists that fragments are put in at most: each takes about 40 bytes.
_MOST_LISTED = 1 << 25


@dataclass(frozen=True)
class ValueFragments:
    """The fragments of one intermediate value in a training set.

    ``positions`` are the slots that determine the value. ``fragment_of`` and ``context_of`` number
    the fragment and the context of each training item from 0 without gaps, ``value_of`` is the true
    value; all ``(n,)``. ``num_values`` is the size of its alphabet. ``alike``: fragments of equal
    value agree wherever they meet; where they may not, ``answer_of`` ``(n,)`` tells.
    """

    positions: tuple[int, ...]
    fragment_of: np.ndarray
    context_of: np.ndarray
    value_of: np.ndarray
    num_values: int
    alike: bool
    answer_of: np.ndarray

    __repr__ = one_line

    @cached_property
    def first(self) -> np.ndarray:
        """A training item of each fragment: ``(fragments,)``."""
        items = np.empty(int(self.fragment_of.max(initial=-1)) + 1, dtype=np.int64)
        items[self.fragment_of] = np.arange(len(self.fragment_of))
        return items

    def classes(self, ks: Sequence[int]) -> dict[int, np.ndarray]:
        """The class of each fragment at each k, ``{k: (fragments,) int32}``, counted from 0."""
        if not self.alike:
            labels = self.answer_of.astype(np.int64) * self.num_values + self.value_of
            pair = np.stack([self.fragment_of, self.context_of], axis=1)
            sizes = len(self.first), int(self.context_of.max(initial=0)) + 1
            equivalence = functional_equivalence(observe(pair, labels, (0,), sizes), sizes)
            return {k: equivalence.classes(k) for k in ks}
        groups = self.context_of.astype(np.int64) * self.num_values + self.value_of
        contexts = int(self.context_of.max(initial=0)) + 1
        _, group_of = numbered(groups, contexts * self.num_values)
        by_pairs = int(np.square(np.bincount(group_of).astype(np.int64)).sum())
        often = np.bincount(np.bincount(self.fragment_of))
        by_subsets = sum(comb(n, k) * int(times) for n, times in enumerate(often) for k in ks)
        fits = contexts ** max(ks) * self.num_values < MOST_CODES
        if max(ks) == 1 or (fits and by_subsets < min(by_pairs, _MOST_LISTED)):
            return {k: self._by_subsets(k, group_of) for k in ks}
        return self._by_pairs(ks, group_of)

    def _by_subsets(self, k: int, group_of: np.ndarray) -> np.ndarray:
        """Fragments that are listed under equal k contexts, and of equal value, are joined.

        Of three fragments of value 0, the first two share contexts 0 and 2, the last two 1 alone:

        >>> fragment, context = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 2, 0, 1, 2, 1])
        >>> seen = ValueFragments((0,), fragment, context, np.zeros(6, int), 1, True, None)
        >>> {k: seen._by_subsets(k, context).tolist() for k in (1, 2, 3)}
        {1: [0, 0, 0], 2: [0, 0, 1], 3: [0, 1, 2]}
        """
        if k == 1:
            key, fragment = group_of, self.fragment_of
        else:
            fragment, key = self._listed(k)
        first, second = stars(key)
        return components(len(self.first), fragment[first], fragment[second])

    def _listed(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Every k contexts of every fragment: the fragment, and a key of its value and contexts."""
        enough = np.bincount(self.fragment_of)[self.fragment_of] >= k
        items = np.flatnonzero(enough)
        items = items[np.lexsort((self.context_of[items], self.fragment_of[items]))]
        fragment, context = self.fragment_of[items], self.context_of[items].astype(np.int64)
        end = np.searchsorted(fragment, fragment, side="right")  # behind the fragment's last item
        contexts = int(self.context_of.max(initial=0)) + 1
        last = np.arange(len(items))
        key = self.value_of[items].astype(np.int64) * contexts + context
        for _ in range(k - 1):  # each list is gone on with by every later context
            times = end[last] - last - 1
            before = np.cumsum(times) - times
            last = np.repeat(last + 1 - before, times) + np.arange(times.sum())
            key = np.repeat(key, times) * contexts + context[last]
        return fragment[last], key

    def _by_pairs(self, ks: Sequence[int], group_of: np.ndarray) -> dict[int, np.ndarray]:
        """The same from the number of groups that each pair of fragments shares."""
        found = {k: np.arange(len(self.first), dtype=np.int32) for k in ks}
        for first, second, evidence in self._pairs(group_of):
            for k, classes in found.items():
                firm = evidence >= k
                found[k] = _joined(classes, first[firm], second[firm])
        return found

    def _pairs(self, group_of: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Pairs of fragments and how many groups they share, each pair once, in blocks."""
        shape = len(self.first), int(group_of.max(initial=-1)) + 1
        ones = np.ones(len(group_of), dtype=np.int32)
        incidence = sparse.csr_array((ones, (self.fragment_of, group_of)), shape=shape)
        for begin, end in row_blocks(incidence):
            product = (incidence[begin:end] @ incidence[begin:].T).tocoo()
            upper = product.col > product.row
            yield product.row[upper] + begin, product.col[upper] + begin, product.data[upper]


def value_fragments(
    graph: TaskGraph,
    value: str,
    values: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    *,
    alike: bool,
) -> ValueFragments:
    """See training items, evaluated as ``values``, through the fragment of ``value``.

    ``sizes`` are the tokens of each slot and value.
    """

    def number(slots: Sequence[str]) -> np.ndarray:
        own = [sizes[slot] for slot in slots]
        codes = encode_rows(np.stack([values[slot] for slot in slots], axis=1), own)
        return numbered(codes, prod(own))[1]

    fragment = graph.fragment(value)
    return ValueFragments(
        graph.fragment_positions(value),
        number(fragment),
        number([slot for slot in graph.inputs if slot not in fragment]),
        values[value],
        sizes[value],
        alike,
        values[graph.answer],
    )


def _joined(classes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Classes ``(fragments,)`` after fragments ``first`` and ``second`` are joined."""
    if len(first) == 0:
        return classes
    return components(int(classes.max()) + 1, classes[first], classes[second])[classes]

"""One slot set weighed: the evidence of its pairs, of which a forest and two histograms are kept.

The classes at every k follow from a maximum spanning forest of the evidence, so of the possibly
billions of pairs fewer than one a fragment is kept. ``weigh_pairs`` takes arrays and gives arrays,
and shares nothing with any other slot set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.linking import components
from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.coverage.pairing import (
    bits_below,
    evident_pairs,
    numbered_answers,
    pack,
)
from coverage_principle.data.space import opens
from coverage_principle.reprs import one_line

#: Edges that are gathered before a forest is made of them.
_EDGES = 1 << 22

#: First and second fragment and evidence of edges, ``(m,)`` int32 each.
Forest = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Weighed:
    """The evidence of one slot set.

    ``forest`` are the edges of a maximum spanning forest, firmest first. ``pairs[e]`` counts the
    pairs of fragments with evidence e. Where true values are known, ``false_pairs[e]`` counts those
    among them whose values differ, and ``true_forest`` is the forest of the others; else None.
    """

    forest: Forest
    pairs: np.ndarray
    true_forest: Forest | None
    false_pairs: np.ndarray | None

    __repr__ = one_line


def weigh_pairs(
    fragment_of: np.ndarray,
    context_of: np.ndarray,
    label_of: np.ndarray,
    *,
    true_values: np.ndarray | None = None,
    noise: PairNoise = NO_NOISE,
    progress: Callable[[float], None] = lambda _: None,
) -> Weighed:
    """Weigh all pairs of fragments of one slot set.

    The fragment, context and label of each training item are indices from 0 without gaps, ``(n,)``
    int32; no fragment is twice in one context. ``true_values`` ``(fragments,)`` are indices too.
    ``noise`` says what a disagreement costs.
    """
    items = np.bincount(fragment_of)
    forest, true_forest = (ForestOf(len(items), _EDGES) for _ in range(2))
    pairs = false_pairs = np.zeros(2, dtype=np.int64)
    stars, true_stars = [], []
    lone = (items == 1)[fragment_of]
    if lone.any():
        *stars, count = lone_stars(fragment_of, context_of, label_of, lone)
        pairs = np.array([0, count])
        if true_values is not None:
            own = true_values[fragment_of]
            *true_stars, true = lone_stars(fragment_of, context_of, label_of, lone, own)
            false_pairs = np.array([0, count - true])
        fragment_of, context_of, label_of = (
            of[~lone] for of in (fragment_of, context_of, label_of)
        )
    for block in evident_pairs(fragment_of, context_of, label_of, noise, progress):
        first, second, evidence = block
        pairs = summed(pairs, np.bincount(evidence))
        forest.add(*block)
        if true_values is not None:
            true = true_values[first] == true_values[second]
            false_pairs = summed(false_pairs, np.bincount(evidence[~true]))
            true_forest.add(*(part[true] for part in block))
    found = forest.with_stars(*stars)
    if true_values is None:
        return Weighed(found, pairs, None, None)
    return Weighed(found, pairs, true_forest.with_stars(*true_stars), false_pairs)


def lone_stars(
    fragment_of: np.ndarray,
    context_of: np.ndarray,
    label_of: np.ndarray,
    lone: np.ndarray,
    value_of: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """The pairs in which a fragment occurs that was seen in one context only.

    Such a fragment agrees there with every other one of the same answer, with evidence 1, and
    nothing contradicts it. In sparse data these are most of all pairs, so they are not made one by
    one: a star a group, around its first lone fragment, gives the same classes, and their number
    follows from the groups' sizes.
    ``lone`` tells which training items hold such a fragment. With ``value_of`` ``(n,)`` only pairs
    of equal values count. Returns first, second, and how many pairs there are.

    Fragments 0, 1 and 2 give answer 7 in context 0; only 2 is seen in another context too, so 0 and
    1 are lone. Of the three pairs two are made, a star around fragment 0, and all three counted:

    >>> lone = np.array([True, True, False, False])
    >>> seen = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    >>> first, second, count = lone_stars(*seen, lone)
    >>> list(zip(first.tolist(), second.tolist())), count
    ([(0, 1), (0, 2)], 3)

    With true values 5, 5 and 6 of the fragments, two of the three agree by coincidence:

    >>> lone_stars(*seen, lone, np.array([5, 5, 6, 6]))[2]
    1
    """
    contexts, labels = (int(column.max()) + 1 for column in (context_of, label_of))
    items = len(fragment_of)
    width = bits_below(items)
    beside = {"beside": width + 1}
    group, groups = numbered_answers(context_of, contexts, label_of, labels, **beside)
    if value_of is not None:
        group, groups = numbered_answers(group, groups, value_of, int(value_of.max()) + 1, **beside)
    # Lone fragments come first in their group, in the order of the items.
    item = np.arange(items, dtype=np.int32)
    keys = np.sort(pack((group, groups), (~lone, 2), (item, items)))
    starts = np.flatnonzero(opens(keys >> keys.dtype.type(width + 1)))
    sizes = np.diff(starts, append=len(keys))
    is_lone = (keys >> keys.dtype.type(width)) & keys.dtype.type(1) == 0
    firm = sizes - np.add.reduceat(is_lone, starts, dtype=np.int64)
    count = int((sizes * (sizes - 1) // 2 - firm * (firm - 1) // 2).sum())
    fragment = fragment_of[keys & keys.dtype.type((1 << width) - 1)]
    hub = np.repeat(np.where(is_lone[starts], fragment[starts], -1), sizes)
    hub[starts] = -1  # no edge from a hub to itself
    edges = np.flatnonzero(hub >= 0)
    hub, member = hub[edges], fragment[edges]
    return np.minimum(hub, member), np.maximum(hub, member), count


class ForestOf:
    """A maximum spanning forest of ``count`` nodes, whose edges come in blocks.

    About ``most`` edges are gathered before the forest is made anew.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count, self._most, self._blocks, self._held = count, most, [], 0

    def add(self, first: np.ndarray, second: np.ndarray, evidence: np.ndarray) -> None:
        self._blocks.append((first, second, evidence))
        self._held += len(first)
        if self._held >= self._most + 2 * self._count:
            self._blocks, self._held = [self.edges()], 0

    def with_stars(self, *stars: np.ndarray) -> Forest:
        """The forest with edges of evidence 1 more, if there are any: first and second fragment.

        Of edges with equal evidence the lower numbers come first, as in the blocks.
        """
        if not stars:
            return self.edges()
        edges = zip(self.edges(), (*stars, np.ones_like(stars[0])), strict=True)
        first, second, evidence = map(np.concatenate, edges)
        order = np.argsort(pack((first, self._count), (second, self._count)))
        return spanning_forest(self._count, first[order], second[order], evidence[order])

    def edges(self) -> Forest:
        none = (np.empty(0, dtype=np.int32),) * 3
        edges = (np.concatenate(parts) for parts in zip(none, *self._blocks, strict=True))
        return spanning_forest(self._count, *edges)


def spanning_forest(
    count: int, first: np.ndarray, second: np.ndarray, evidence: np.ndarray
) -> Forest:
    """The edges of a maximum spanning forest of ``count`` nodes, firmest first.

    Of edges with equal evidence the one that comes first is taken. Edges are looked at in this
    order, more and more at a time; most of the later ones join what is joined already.
    """
    top = int(evidence.max(initial=0))
    rank = top - evidence
    order = np.argsort(rank.astype(np.uint16) if top < 1 << 16 else rank, kind="stable")
    component, chosen = np.arange(count), [np.empty(0, dtype=order.dtype)]
    begin, at_once = 0, max(count, 1 << 12)
    while begin < len(order):
        edges = order[begin : begin + at_once]
        a, b = component[first[edges]], component[second[edges]]
        apart = np.flatnonzero(a != b)
        if len(apart):
            picked, joined = _joining(int(component.max()) + 1, a[apart], b[apart])
            chosen.append(edges[apart[picked]])
            component = joined[component]
        begin, at_once = begin + at_once, 2 * at_once
    kept = np.concatenate(chosen)
    return first[kept], second[kept], evidence[kept]


def _joining(count: int, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a spanning forest, each as early as can be, and the component of each node.

    In each round every component chooses its first edge out of itself (Boruvka).
    """
    component, chosen, left = np.arange(count), [], np.arange(len(a))
    while len(left):
        best = np.full((2, count), len(left))
        backwards = np.arange(len(left) - 1, -1, -1)
        for side, ends in zip(best, (a, b), strict=True):
            side[ends[::-1]] = backwards  # of several, the one that is written last stays
        marks = np.zeros(len(left) + 1, dtype=bool)
        marks[best.min(axis=0)] = True
        picked = np.flatnonzero(marks[:-1])
        chosen.append(left[picked])
        joined = components(count, a[picked], b[picked])
        count, component = int(joined.max()) + 1, joined[component]
        a, b = joined[a], joined[b]
        apart = a != b
        a, b, left = a[apart], b[apart], left[apart]
    return np.sort(np.concatenate(chosen)), component


def summed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of two histograms of different length."""
    total = np.zeros(max(len(a), len(b)), dtype=np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total

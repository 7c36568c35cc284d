"""The substitution graph of given items, and how firmly each is connected to the training set.

Two items are joined when, for some slot set, they have the same class of fragment there, the same
context and the same answer. A bucket of such items is joined as a star, never as a clique. The
slot set is part of what makes a bucket: <t_5><t_3><t_4> and <t_3><t_5><t_4> both hold 5 beside
(3, 4), but at different slots, and nothing joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.grouping import components, stars
from coverage_principle.data.space import encode_rows

#: The k-cutoff of items that are in the training set: they are covered at every k.
EVERY_K = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Items:
    """The nodes of a substitution graph.

    ``inputs`` is ``(n, slots)`` int32, ``answers`` ``(n,)``, ``observed`` ``(n,)`` bool: it is a
    training item. Equal inputs are one node, whichever rows they stand in.
    """

    inputs: np.ndarray
    answers: np.ndarray
    observed: np.ndarray
    num_tokens: int

    def __len__(self) -> int:
        return len(self.inputs)


def k_cutoffs(
    items: Items,
    equivalences: Sequence[Equivalence],
    *,
    lowest: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> np.ndarray:
    """The largest k at which each item is connected to a training item: ``(n,)`` int32.

    0 where there is no such k from ``lowest`` up, ``EVERY_K`` for training items. One pass from the
    firmest evidence down: components only grow, and only where classes have.
    """
    _, component = np.unique(encode_rows(items.inputs, items.num_tokens), return_inverse=True)
    cutoffs = np.zeros(len(items), dtype=np.int32)
    cutoffs[_connected(component, items.observed)] = EVERY_K
    fragment_ids = [equivalence.fragment_ids(items.inputs) for equivalence in equivalences]
    levels = [equivalence.levels for equivalence in equivalences]
    every_level = np.unique(np.concatenate([*levels, np.empty(0, np.int32)]))[::-1]
    every_level = every_level[every_level >= lowest]
    for done, k in enumerate(every_level, start=1):
        for equivalence, ids, own in zip(equivalences, fragment_ids, levels, strict=True):
            if k in own:
                first, second = _bucket_stars(items, equivalence, ids, int(k), only_new=True)
                component = _merge(component, first, second)
        covered = _connected(component, items.observed)
        cutoffs[covered & (cutoffs == 0)] = k
        progress(done / len(every_level))
    return cutoffs


def substitution_edges(
    items: Items, equivalences: Sequence[Equivalence], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Edges ``(first, second)`` that give the substitution graph at ``k`` its components.

    Every bucket is a star around its first item (in row order), so there are at most n edges a
    slot set, and ``first`` is a training item wherever the bucket has one before others.
    """
    first = second = np.empty(0, dtype=np.int64)
    for equivalence in equivalences:
        ids = equivalence.fragment_ids(items.inputs)
        before, after = _bucket_stars(items, equivalence, ids, k)
        first, second = np.concatenate([first, before]), np.concatenate([second, after])
    return first, second


def _bucket_stars(
    items: Items, equivalence: Equivalence, ids: np.ndarray, k: int, *, only_new: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Each bucket's first item beside each other one; ``ids`` are the items' fragments.

    ``only_new`` leaves out the classes that are the same at k + 1.
    """
    classes = equivalence.classes(k)
    counts = np.ones(len(classes), dtype=bool)
    if only_new:
        counts[:] = False
        counts[classes[equivalence.first[equivalence.evidence == k]]] = True
    # An item whose fragment the training set lacks is equivalent to nothing here.
    members = np.flatnonzero((ids >= 0) & counts[classes[ids]])
    rest = [slot for slot in range(items.inputs.shape[1]) if slot not in equivalence.positions]
    inputs = np.column_stack([items.inputs[members][:, rest], items.answers[members]])
    context_and_answer = encode_rows(inputs, items.num_tokens)
    hubs, others = stars(context_and_answer, classes[ids[members]])
    return members[hubs], members[others]


def _merge(component: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Components after the edges (first, second) are added."""
    count = int(component.max()) + 1
    return components(count, component[first], component[second])[component]


def _connected(component: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Which items have an observed one in their component."""
    holds_observed = np.zeros(int(component.max()) + 1, dtype=bool)
    holds_observed[component[observed]] = True
    return holds_observed[component]

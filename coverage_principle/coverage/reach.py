"""k-cutoffs of the dataset scope, found from what test items can reach alone.

A path from a test item to its first training item goes through test items only, and what lies
behind that training item does not matter. So of the training items only those count that some test
item may be joined to: at a slot set, those with its context and its answer. Mostly these are few,
and all training items together are one node, 0; test items are numbered from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.linking import merge, stars
from coverage_principle.data.space import Numbering, encode_rows, sizes_at

#: Training items that are looked at at once.
_CHUNK = 1 << 19

#: Inputs ``(n, slots)`` and answers ``(n,)``.
Rows = tuple[np.ndarray, np.ndarray]


def reached(
    train: Rows,
    test: Rows,
    equivalences: Sequence[Equivalence],
    sizes: Sequence[int],
    *,
    lowest: int,
    progress: Callable[[float], None],
) -> np.ndarray:
    """The largest k at which each test item is connected to a training item: ``(n,)`` int32.

    ``sizes`` are those of the slots' alphabets. 0 where there is no such k from ``lowest`` up. No
    input of ``test`` is in ``train``.
    """
    component = np.arange(len(test[0]) + 1, dtype=np.int32)
    cutoffs = np.zeros(len(component), dtype=np.int32)
    sides = [_Side(equivalence, train, test, sizes) for equivalence in equivalences]
    levels = [set(side.levels.tolist()) for side in sides]
    every_level = sorted((k for k in set().union(*levels) if k >= lowest), reverse=True)
    for done, k in enumerate(every_level, start=1):
        for side, own in zip(sides, levels, strict=True):
            if k in own:
                first, second = side.new_edges(k)
                merge(component, component[first], component[second])
        cutoffs[(component == component[0]) & (cutoffs == 0)] = k
        progress(done / len(every_level))
    return cutoffs[1:]


class _Side:
    """One slot set: test items, and the training items of their contexts and answers.

    ``key`` numbers a context and an answer; a bucket of the graph is a key and a class.
    """

    def __init__(
        self, equivalence: Equivalence, train: Rows, test: Rows, sizes: Sequence[int]
    ) -> None:
        self._equivalence = equivalence
        inputs, answers = test
        fragments = equivalence.fragment_ids(inputs)
        # A fragment that the training set lacks is equivalent to nothing.
        self._items = np.flatnonzero(fragments >= 0)
        self._fragments = fragments[self._items]
        rest = [slot for slot in range(len(sizes)) if slot not in equivalence.positions]
        own = encode_rows(inputs[self._items][:, rest], sizes_at(sizes, rest))
        contexts = Numbering(np.unique(own), prod(sizes_at(sizes, rest)))
        span = 1 + max(int(a.max(initial=0)) for a in (train[1], answers))
        keys = contexts.of(own).astype(np.int64) * span + answers[self._items]
        numbers = Numbering(np.unique(keys), len(contexts) * span)
        self._keys = numbers.of(keys)
        found = [(np.empty(0, np.int32),) * 2]
        for begin in range(0, len(train[0]) if len(numbers) else 0, _CHUNK):
            inputs, answers = (array[begin : begin + _CHUNK] for array in train)
            context = contexts.of(encode_rows(inputs[:, rest], sizes_at(sizes, rest)))
            rows = np.flatnonzero(context >= 0)
            key = numbers.of(context[rows].astype(np.int64) * span + answers[rows])
            rows, key = rows[key >= 0], key[key >= 0]
            found.append((key, equivalence.fragment_ids(inputs[rows])))
        self._train_keys, self._train_fragments = map(np.concatenate, zip(*found, strict=True))

    @property
    def levels(self) -> np.ndarray:
        return self._equivalence.levels

    def new_edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """What joins test items to each other, and to node 0, at ``k`` and not at ``k`` + 1."""
        equivalence = self._equivalence
        classes = equivalence.classes(k)
        grown = np.zeros(len(classes), dtype=bool)
        grown[classes[equivalence.first[equivalence.evidence == k]]] = True

        def buckets(keys: np.ndarray, fragments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = classes[fragments]
            rows = np.flatnonzero(grown[found])
            return rows, keys[rows].astype(np.int64) * len(classes) + found[rows]

        rows, own = buckets(self._keys, self._fragments)
        _, trained = buckets(self._train_keys, self._train_fragments)
        known = Numbering(np.unique(own), (int(self._keys.max(initial=0)) + 1) * len(classes))
        nodes, numbers = self._items[rows] + 1, known.of(own)
        hit = np.zeros(len(known) + 1, dtype=bool)
        hit[known.of(trained)] = True  # -1, of none, is the last
        hubs, members = stars(numbers)
        joined = nodes[hit[numbers]]
        first = np.concatenate([nodes[hubs], np.zeros(len(joined), dtype=nodes.dtype)])
        return first, np.concatenate([nodes[members], joined])

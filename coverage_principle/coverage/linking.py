"""Linking rows: connected components, edges that join all rows of equal keys, neighbours."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Component of each of ``count`` nodes under the edges (first, second): ``(count,)`` int32."""
    ones = np.ones(len(first), dtype=np.int32)  # an edge given often is summed up, not to zero
    graph = sparse.coo_array((ones, (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def merge(component: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Join components ``first[i]`` and ``second[i]``, in place; only those touched are renamed."""
    if len(first) == 0:
        return
    marks = np.zeros(len(component), dtype=bool)
    marks[first] = marks[second] = True
    touched, number = np.flatnonzero(marks), np.cumsum(marks, dtype=component.dtype)
    joined = components(len(touched), number[first] - 1, number[second] - 1)
    del number  # as large as all components
    representative = np.empty(int(joined.max()) + 1, dtype=component.dtype)
    representative[joined[::-1]] = touched[::-1]  # the smallest label of each
    renamed = np.arange(len(component), dtype=component.dtype)
    renamed[touched] = representative[joined]
    component[:] = renamed[component]


def stars(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join rows with equal keys: ``(hubs, members)``, the first row of a group beside each other.

    A group of n rows gives n - 1 edges, where a clique would give n (n - 1) / 2.
    """
    order, opens = _groups(keys)
    hubs = order[opens][np.cumsum(opens) - 1]
    return hubs[~opens], order[~opens]


def cliques(*keys: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """All pairs of rows with equal keys, ``(first, second)``; None if more than ``most``."""
    order, opens = _groups(keys)
    sizes = np.diff([*np.flatnonzero(opens), len(order)])
    if int((sizes * (sizes - 1) // 2).sum()) > most:
        return None
    group = np.cumsum(opens)
    found = [np.empty((2, 0), dtype=np.int64)]
    for gap in range(1, int(sizes.max(initial=0))):
        same = group[gap:] == group[:-gap]
        found.append(np.stack([order[:-gap][same], order[gap:][same]]))
    first, second = np.concatenate(found, axis=1)
    return first, second


def neighbours(items: np.ndarray, train: np.ndarray) -> np.ndarray:
    """How many training items are one slot away from each item ``(n, slots)`` outside of ``train``.

    >>> neighbours(np.array([[0, 0], [5, 5]]), np.array([[0, 1], [0, 2], [3, 0]])).tolist()
    [3, 0]
    """
    count = np.zeros(len(items), dtype=np.int64)
    for slot in range(items.shape[1]):
        both = np.delete(np.concatenate([train, items]), slot, axis=1)
        rows, inverse = np.unique(both, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        in_train = np.bincount(inverse[: len(train)], minlength=len(rows))
        count += in_train[inverse[len(train) :]]
    return count


def _groups(keys: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers with equal keys beside each other, in order, and where a group begins."""
    order = np.lexsort(keys)  # stable: rows of a group stay in order
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    return order, opens

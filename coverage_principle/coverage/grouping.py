"""Rows that belong together: connected components, and groups of equal keys as stars."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Component of each of ``count`` nodes under the edges (first, second): ``(count,)`` int32."""
    ones = np.ones(len(first), dtype=np.int32)  # an edge given often is summed up, not to zero
    graph = sparse.coo_array((ones, (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def stars(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join rows with equal keys: ``(hubs, members)``, the first row of a group beside each other.

    A group of n rows gives n - 1 edges, where a clique would give n (n - 1) / 2.
    """
    order = np.lexsort(keys)  # stable: rows of a group stay in order
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    hubs = order[opens][np.cumsum(opens) - 1]
    return hubs[~opens], order[~opens]

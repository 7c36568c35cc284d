"""What figures show of grouped vectors: principal components, histograms of cosines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coverage_principle.circuits.similarity import unit_vectors

#: Edges of the histograms' bins.
BINS = np.linspace(-1, 1, 101)


def principal_components(vectors: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(n, count)`` on the first principal components, and their variance shares.

    Components that the vectors do not have are zero. Signs are fixed: the largest loading of each
    component is positive, so the same vectors give the same picture everywhere.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    centred = vectors - vectors.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(variances)[::-1][:count]
    axes = axes[:, order]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    coordinates = np.zeros((len(vectors), count))
    coordinates[:, : axes.shape[1]] = centred @ axes
    shares = np.zeros(count)
    total = variances.sum()
    if total > 0:
        shares[: len(order)] = np.clip(variances[order], 0, None) / total
    return coordinates, shares


def cosine_histograms(
    vectors: np.ndarray, groups: np.ndarray, *, rows_at_once: int = 1024
) -> Mapping[str, np.ndarray]:
    """How many pairs have a cosine in each bin of ``BINS``; (100,) int64 each.

    ``within`` (pairs inside a group), ``between_all`` (pairs of different groups) and
    ``between_centroid`` (pairs of group means). Every pair is counted, but only ``rows_at_once``
    rows of cosines are held.
    """
    labels, index = np.unique(groups, return_inverse=True)
    centroids = np.stack([vectors[index == i].mean(axis=0) for i in range(len(labels))])
    within, everything = _histograms(vectors, index, rows_at_once)
    _, centres = _histograms(centroids, np.arange(len(labels)), rows_at_once)
    return {
        "within": within,
        "between_all": everything - within,
        "between_centroid": centres,
    }


def _histograms(vectors, index, rows_at_once) -> tuple[np.ndarray, np.ndarray]:
    """Histograms over unordered pairs: of the same index, and of all."""
    unit = unit_vectors(np.asarray(vectors, dtype=np.float32))
    same, every = (np.zeros(len(BINS) - 1, dtype=np.int64) for _ in range(2))
    for begin in range(0, len(unit), rows_at_once):
        block = unit[begin : begin + rows_at_once]
        cosines = block @ unit[begin:].T
        upper = np.triu(np.ones(cosines.shape, dtype=bool), k=1)
        places = np.clip(((cosines + 1) * (len(every) / 2)).astype(np.int64), 0, len(every) - 1)
        every += np.bincount(places[upper], minlength=len(every))
        alike = upper & (index[begin : begin + rows_at_once, None] == index[None, begin:])
        same += np.bincount(places[alike], minlength=len(every))
    return same, every

"""Cosine clustering of vectors by group, in closed form from group sums.

IICG, the intra-inter cosine gap, is the mean cosine of vectors of one group minus that of vectors
of different groups. With unit vectors u and group sums s_g, the cosines of all pairs inside group g
add up to (|s_g|^2 - n_g) / 2 and those between groups g and h to s_g . s_h, so nothing larger than
the groups' Gram matrix is ever held.

*Pooled* means every pair counts the same, as published: large groups dominate. *Balanced* means
every group (or pair of groups) counts the same, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from coverage_principle.reprs import one_line


@dataclass(frozen=True)
class GroupSums:
    """What is needed of a set of grouped vectors.

    For G groups, all float64: ``counts`` (G,); ``gram`` (G, G), the inner products of the sums of
    unit vectors; ``own`` (G,), the sum of the vectors' cosines with themselves (n_g, less any zero
    vectors, whose cosine with everything is taken as 0); ``centroids`` (G, width), the means of
    the vectors as they are.
    """

    counts: np.ndarray
    gram: np.ndarray
    own: np.ndarray
    centroids: np.ndarray

    __repr__ = one_line


def group_sums(vectors: np.ndarray, groups: np.ndarray) -> GroupSums:
    """Sums over groups of ``vectors`` (n, width); ``groups`` (n,) holds each one's label."""
    _, index = np.unique(groups, return_inverse=True)
    vectors = np.asarray(vectors, dtype=np.float64)
    counts = np.bincount(index).astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    some = norms > 0
    # A sparse matrix sums by group without a copy of the vectors, sorted or normalised.
    place, shape = (index, np.arange(len(index))), (len(counts), len(index))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=some)
    sums = csr_array((scale, place), shape=shape) @ vectors
    totals = csr_array((np.ones(len(index)), place), shape=shape) @ vectors
    own = np.bincount(index, weights=some, minlength=len(counts))
    return GroupSums(counts, sums @ sums.T, own, totals / counts[:, None])


def permuted(
    vectors: np.ndarray, groups: np.ndarray, rng: np.random.Generator, count: int
) -> dict[str, np.ndarray]:
    """``iicg`` and ``iicg_balanced`` (count,) with the labels dealt out anew each time.

    What a split of this size and these group sizes gives if states know nothing of their group.
    nan where there are no pairs inside groups, or none between them.

    Sizes, and the sum s of all unit vectors, stay the same. So the cosines between groups add up to
    |s|^2 - sum_g |s_g|^2, and balanced to |sum_g s_g / n_g|^2 - sum_g |s_g|^2 / n_g^2: a labeling
    costs one pass over the vectors, and no Gram matrix of the groups.
    """
    sizes = np.unique(groups, return_counts=True)[1].astype(np.float64)
    unit = unit_vectors(np.asarray(vectors, dtype=np.float32))
    own = np.einsum("ij,ij->i", unit, unit).astype(np.float64)  # 1, but 0 for a zero vector
    whole = unit.sum(axis=0, dtype=np.float64)
    pairs = sizes * (sizes - 1)
    several = pairs > 0
    between = len(unit) ** 2 - sizes @ sizes, len(sizes) * (len(sizes) - 1)
    if not several.any() or not between[0]:
        return {name: np.full(count, np.nan) for name in ("iicg", "iicg_balanced")}
    shape, starts = (len(sizes), len(unit)), np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    ones, found = np.ones(len(unit), np.float32), np.empty((count, 2))
    for row in found:
        dealt = csr_array((ones, rng.permutation(len(unit)), starts), shape)
        sums = (dealt @ unit).astype(np.float64)
        squares, means = np.einsum("ij,ij->i", sums, sums), (sums / sizes[:, None]).sum(axis=0)
        inside = squares - dealt @ own
        row[0] = inside.sum() / pairs.sum() - (whole @ whole - squares.sum()) / between[0]
        row[1] = (inside[several] / pairs[several]).mean()
        row[1] -= (means @ means - (squares / sizes**2).sum()) / between[1]
    return dict(zip(("iicg", "iicg_balanced"), found.T, strict=True))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def mean_cosine(vectors: np.ndarray) -> float | None:
    """The mean cosine of all pairs of ``vectors`` (n, width); None if there are none."""
    unit = unit_vectors(np.asarray(vectors, dtype=np.float64))
    total, pairs = unit.sum(axis=0), len(unit) * (len(unit) - 1)
    return float((total @ total - (unit * unit).sum()) / pairs) if pairs else None


def measure_similarity(
    vectors: np.ndarray,
    groups: np.ndarray,
    *,
    rng: np.random.Generator | None = None,
    resamples: int = 200,
    permutations: int = 0,
) -> dict:
    """Cosine statistics of grouped vectors.

    Returns ``n_vectors``, ``n_groups``, and the mean cosines ``within`` (pairs inside a group),
    ``between_all`` (pairs of different groups) and ``between_centroid`` (pairs of group means),
    each pooled over pairs; ``within_balanced`` and ``between_balanced``; ``iicg`` = within -
    between_all and ``iicg_balanced``. With ``rng``, also ``iicg_interval`` and
    ``iicg_balanced_interval``: 95 % percentile bootstrap over groups, because vectors of one group
    are no independent observations. With ``permutations`` as well, ``iicg_permuted`` and
    ``iicg_balanced_permuted``: ``mean``, ``interval`` (the middle 95 %) and ``p``, the share of
    labelings (this one included) with at least this gap, of so many random ones. What has no pairs
    is None.
    """
    if len(vectors) == 0:
        return {"n_vectors": 0, "n_groups": 0, **dict.fromkeys(_STATISTICS)}
    sums = group_sums(vectors, groups)
    size = len(sums.counts)
    means = _means(sums, np.ones((1, size)))
    result = {"n_vectors": len(vectors), "n_groups": size}
    result |= {
        name: None if np.isnan(values[0]) else float(values[0]) for name, values in means.items()
    }
    result["between_centroid"] = mean_cosine(sums.centroids)
    if rng is not None:
        draws = rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)
        resampled = _means(sums, draws)
        for name in ("iicg", "iicg_balanced"):
            result[f"{name}_interval"] = _interval(resampled[name])
        if permutations:
            for name, values in permuted(vectors, groups, rng, permutations).items():
                result[f"{name}_permuted"] = _baseline(result[name], values)
    return result


def _baseline(found: float | None, permuted: np.ndarray) -> dict | None:
    if found is None or np.isnan(permuted).any():
        return None
    share = float((1 + (permuted >= found).sum()) / (1 + len(permuted)))
    return {"mean": float(permuted.mean()), "interval": _interval(permuted), "p": share}


_STATISTICS = ("within", "between_all", "within_balanced", "between_balanced")
_STATISTICS += ("iicg", "iicg_balanced", "between_centroid")


def _means(sums: GroupSums, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each statistic when group g is there ``weights[:, g]`` times; nan where it has no pairs.

    Copies of one group are not compared with each other, so the diagonal never counts as between.
    """
    counts, off = sums.counts, ~np.eye(len(sums.counts), dtype=bool)
    pairs = counts * (counts - 1)
    inside = np.diag(sums.gram) - sums.own
    several = pairs > 0
    mean_inside = np.divide(inside, pairs, out=np.zeros_like(inside), where=several)
    across = np.where(off, sums.gram, 0.0)
    sizes = np.outer(counts, counts)

    def ratio(top, bottom):
        return np.divide(top, bottom, out=np.full(len(weights), np.nan), where=bottom > 0)

    def quadratic(matrix):
        return ((weights @ matrix) * weights).sum(axis=1)

    within = ratio(weights @ inside, weights @ pairs)
    between = ratio(quadratic(across), quadratic(np.where(off, sizes, 0.0)))
    within_balanced = ratio(weights @ mean_inside, weights @ several.astype(np.float64))
    between_balanced = ratio(quadratic(across / sizes), quadratic(off.astype(np.float64)))
    gaps = within - between, within_balanced - between_balanced
    found = (within, between, within_balanced, between_balanced, *gaps)
    return dict(zip(_STATISTICS, found, strict=False))


def _interval(values: np.ndarray) -> list[float] | None:
    values = values[~np.isnan(values)]
    return [float(v) for v in np.percentile(values, [2.5, 97.5])] if len(values) else None

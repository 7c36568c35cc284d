"""Percentile bootstrap over samples: means, rates and ratios with 95 % intervals."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


class Bootstrap:
    """n samples and how often each is in each of ``RESAMPLES`` bootstrap samples.

    All numbers of one object come from the same draws. Values are ``(..., n)``; what is returned is
    a list over the axis before the last, JSON-ready, with None for what has no samples.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        if n:
            draws = rng.integers(0, n, size=(RESAMPLES, n)) + np.arange(RESAMPLES)[:, None] * n
            counts = np.bincount(draws.ravel(), minlength=RESAMPLES * n)
            self._weights = counts.reshape(RESAMPLES, n).astype(np.float32)
        self.n = n

    def counts(self, hits: np.ndarray) -> list[dict]:
        """``count``, ``rate`` and ``interval`` of 0/1 values (rows, n)."""
        return [
            {"count": int(row.sum()), "rate": float(row.mean()) if self.n else None, "interval": e}
            for row, e in zip(hits, self.intervals(hits), strict=True)
        ]

    def means(self, values: np.ndarray) -> list[dict]:
        """``mean`` and ``interval`` of values (rows, n)."""
        return [
            {"mean": float(row.mean()) if self.n else None, "interval": ends}
            for row, ends in zip(values, self.intervals(values), strict=True)
        ]

    def ratios(self, top: np.ndarray, bottom: np.ndarray) -> list[dict]:
        """The same of sum(top) / sum(bottom), for ``top`` (rows, n) and ``bottom`` (n,)."""
        total = bottom.sum() if self.n else 0
        return [
            {"mean": float(row.sum() / total) if total else None, "interval": ends}
            for row, ends in zip(top, self.intervals(top, bottom), strict=True)
        ]

    def intervals(
        self, values: np.ndarray, bottom: np.ndarray | None = None
    ) -> list[list[float] | None]:
        """For each row of values (rows, n) both ends, None if they are not defined."""
        if self.n == 0:
            return [None] * len(values)
        means = self.resampled(values, bottom)
        ends = np.percentile(means, [2.5, 97.5], axis=0).T
        return [[float(e) for e in pair] if np.isfinite(pair).all() else None for pair in ends]

    def resampled(self, values: np.ndarray, bottom: np.ndarray | None = None) -> np.ndarray:
        """The mean of each row of values (rows, n > 0) in each bootstrap sample: (RESAMPLES, rows).

        With ``bottom`` (n,) the ratio of the sums.
        """
        ones = np.ones(self.n, np.float32)
        sums = self._weights @ (ones if bottom is None else bottom)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self._weights @ values.T.astype(np.float32)) / sums[:, None]

"""Small statistics for figures and findings: intervals of rates, trends over groups."""

from __future__ import annotations

import math
from collections.abc import Sequence


def wilson_interval(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate (95 % for the default z); ``(0, 1)`` for n = 0.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Rounding must not leave a rate of exactly 0 or 1 outside of its own interval.
    return min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))


def trend_z(levels: Sequence[float], successes: Sequence[float], totals: Sequence[int]) -> float:
    """Cochran-Armitage z statistic for a linear trend of a rate over ordered groups.

    Positive when the rate climbs with ``levels``; about standard normal without a trend. 0 when no
    trend can be seen (one group, or all items alike).

    P. Armitage, "Tests for linear trends in proportions and frequencies", 1955.
    """
    n = sum(totals)
    if n == 0:
        return 0.0
    rate = sum(successes) / n
    mean = sum(level * total for level, total in zip(levels, totals, strict=True)) / n
    slope = sum(
        (level - mean) * (good - total * rate)
        for level, good, total in zip(levels, successes, totals, strict=True)
    )
    spread = sum(t * (level - mean) ** 2 for level, t in zip(levels, totals, strict=True))
    variance = rate * (1 - rate) * spread
    return slope / math.sqrt(variance) if variance > 0 else 0.0

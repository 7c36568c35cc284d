"""Claim c: required data against |X| for 2-hop, parallel 2-hop and 3-hop, answered directly."""

from __future__ import annotations

from coverage_principle.coverage.required import TRAINED_EXPONENTS
from coverage_principle.experiments.claims import scaling, scaling_report

TITLE = "Data scaling: required N against |X|"
PUBLISHED = (
    "required N grows as |X|^2.26 (2-hop), 2.43 (parallel 2-hop) and 2.58 (3-hop), all R^2 > 0.98."
)


def series(scale: str) -> dict[str, scaling.Series]:
    """One for each task."""
    return {
        scaling.TITLES[task]: scaling.one_series(task, scale, published=exponent)
        for task, exponent in TRAINED_EXPONENTS.items()
    }


CLAIM = scaling_report.claim("c", "data_scaling", TITLE, PUBLISHED, series=series)

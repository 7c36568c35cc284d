"""Claim c: required data against |X| for 2-hop, parallel 2-hop and 3-hop, answered directly."""

from __future__ import annotations

from functools import partial

from coverage_principle.experiments.claims import scaling
from coverage_principle.experiments.claims.base import Claim
from coverage_principle.experiments.claims.scaling import DEEP, TITLES, Series, one_series


def series(scale: str) -> dict[str, Series]:
    """One for each task."""
    return {
        TITLES["twohop"]: one_series("twohop", scale, published=2.26),
        TITLES["parallel2hop"]: one_series("parallel2hop", scale, published=2.43),
        TITLES["threehop"]: one_series("threehop", scale, train=DEEP[scale], published=2.58),
    }


CLAIM = Claim(
    "c",
    "data_scaling",
    "Data scaling: required N against |X|",
    "required N grows as |X|^2.26 (2-hop), 2.43 (parallel 2-hop) and 2.58 (3-hop), all R^2 > 0.98.",
    partial(scaling.collect, series),
    scaling.find,
    scaling.tables,
    scaling.draw,
)

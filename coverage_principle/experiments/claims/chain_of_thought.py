"""Claim e: required data against |X| with and without chain of thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from coverage_principle.experiments.claims import data_scaling, scaling
from coverage_principle.experiments.claims.base import by_scale

TITLE = "Chain of thought: what writing the bridges saves"
PUBLISHED = (
    "exponents 2.09 (2-hop), 1.76 (3-hop) and 1.80 (5-hop) with chain of thought, against 2.26 and "
    "2.58 without."
)

#: With chain of thought, a model needs less: sizes and starts as in ``scaling``.
_SIZES = {
    "twohop": by_scale((3, 4), (12, 20, 28), (20, 30, 50, 70), scaling.PAPER_SIZES),
    "threehop": by_scale((3, 4), (7, 9, 11), (12, 20, 30, 50), scaling.PAPER_SIZES),
    "fivehop": by_scale((2, 3), (7, 10, 14), (12, 20, 30, 50), scaling.PAPER_SIZES),
}
_STARTS = {
    "twohop": by_scale(8, 480, 800, 2000),
    "threehop": by_scale(10, 240, 1000, 4000),
    "fivehop": by_scale(8, 280, 1000, 4000),
}


def series(scale: str) -> dict[str, scaling.Series]:
    """Chain of thought, beside claim c's direct answers at the sizes that both have."""
    published = {"twohop": 2.09, "threehop": 1.76, "fivehop": 1.80}
    thought = {
        scaling.TITLES[t]: scaling.one_series(t, scale, _SIZES, _STARTS, cot=True, published=value)
        for t, value in published.items()
    }
    both = {}
    for name, one in data_scaling.series(scale).items():
        if name in thought:
            kept = tuple(size for size in one.sizes if size in thought[name].sizes)
            # With this start the trials at these sizes are the same as there.
            both[name] = replace(one, sizes=kept, start=scaling.first_guess(one, kept[0]))
    return both | {f"{name}, CoT": one for name, one in thought.items()}


def find(numbers: Mapping) -> list[str]:
    """What holds for each series, and what writing the bridges saves."""
    sentences = scaling.find(numbers)
    for name in ("2-hop", "3-hop"):
        if ratios := scaling.ratios(numbers, name, f"{name}, CoT"):
            sentences.append(
                f"{name}: direct answers need {np.mean(ratios):.1f} times the data of chain of "
                f"thought at equal size and seed (range {min(ratios):.1f} to {max(ratios):.1f})."
            )
    return sentences


CLAIM = scaling.claim("e", "chain_of_thought", TITLE, PUBLISHED, series=series, find=find)

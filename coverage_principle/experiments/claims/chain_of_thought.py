"""Claim e: required data against |X| with and without chain of thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coverage_principle.experiments.claims import (
    data_scaling,
    scaling,
    scaling_report,
    scaling_words,
)
from coverage_principle.experiments.claims.base import by_scale

TITLE = "Chain of thought: what writing the bridges saves"
PUBLISHED = (
    "exponents 2.09 (2-hop), 1.76 (3-hop) and 1.80 (5-hop) with chain of thought, against 2.26 and "
    "2.58 without."
)

#: With chain of thought a model needs less: seeds by size, and starts, as in ``scaling``.
_TINY = {3: 1, 4: 1}
_GPU = dict.fromkeys((20, 30, 50, 70), 3)
_SIZES = {
    "twohop": by_scale(
        _TINY, {12: 1, 16: 2, 25: 1}, _GPU, scaling.PAPER_SIZES, night={18: 5, 25: 5, 36: 5}
    ),
    "threehop": by_scale(
        _TINY, {8: 2, 11: 1, 14: 1}, _GPU, scaling.PAPER_SIZES, night={8: 5, 11: 5, 16: 4}
    ),
    "fivehop": by_scale(
        {2: 1, 3: 1}, {7: 2, 10: 1, 14: 1}, _GPU, scaling.PAPER_SIZES, night={8: 5, 13: 5, 20: 5}
    ),
}
_STARTS = {
    "twohop": by_scale(150, 300, 300, 300),
    "threehop": by_scale(400, 420, 420, 420),
    "fivehop": by_scale(300, 480, 480, 480),
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
            shared = thought[name].plan
            both[name] = replace(one, plan={n: m for n, m in one.plan.items() if n in shared})
    return both | {f"{name}, CoT": one for name, one in thought.items()}


def find(numbers: Mapping) -> list[str]:
    """What writing the bridges saves, whether exponents differ, and what holds for each series."""
    saved, exponents = [], []
    for name in ("2-hop", "3-hop"):
        thought = f"{name}, CoT"
        if ratios := scaling_words.size_ratios(numbers, name, thought):
            saved.append(
                f"{name}: the data that a model needs to answer directly, over what it needs to "
                "write the intermediate values and then the answer: "
                f"{scaling_words.ratio_words(ratios)}."
            )
        if {name, thought} <= set(numbers["series"]):
            what = f"{name}: the exponent of direct answers less that of chain of thought"
            exponents += scaling_words.exponent_gap(numbers, what, name, thought)
    if saved:
        saved.append(
            "With chain of thought, an item counts as right only if every intermediate value and "
            "the answer are, as the model writes them by itself."
        )
    return saved + exponents + scaling_words.find(numbers)


CLAIM = scaling_report.claim("e", "chain_of_thought", TITLE, PUBLISHED, series=series, find=find)

"""Claim e: required data against |X| with and without chain of thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from coverage_principle.experiments.claims import data_scaling, scaling
from coverage_principle.experiments.claims.base import Claim
from coverage_principle.experiments.claims.scaling import (
    DEEP,
    PAPER_SIZES,
    Series,
    first_guess,
    one_series,
)

#: Sizes and starts with chain of thought, which needs less; those of 5-hop are its own.
_SIZES: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {
    "tiny": {"twohop": ((3, 4), 8), "threehop": ((3, 4), 10)},
    "cpu": {"twohop": ((12, 20, 28), 480), "threehop": ((7, 9, 11), 240)},
    "gpu": {"twohop": ((20, 30, 50, 70), 800), "threehop": ((12, 20, 30, 50), 1000)},
    "paper": {"twohop": (PAPER_SIZES, 2000), "threehop": (PAPER_SIZES, 4000)},
}


def series(scale: str) -> dict[str, Series]:
    """Chain of thought, beside claim c's direct answers at the sizes that both have."""
    direct, sizes, cot = data_scaling.series(scale), _SIZES[scale], {"data": {"cot": True}}
    deep = {"train": DEEP[scale], **cot}
    two = one_series("twohop", scale, sizes["twohop"], published=2.09, **cot)
    three = one_series("threehop", scale, sizes["threehop"], published=1.76, **deep)
    return {
        "2-hop": _at_sizes(direct["2-hop"], two.sizes),
        "3-hop": _at_sizes(direct["3-hop"], three.sizes),
        "2-hop, CoT": two,
        "3-hop, CoT": three,
        "5-hop, CoT": one_series("fivehop", scale, published=1.80, **cot),
    }


def _at_sizes(series: Series, sizes: tuple[int, ...]) -> Series:
    """The series at those of its sizes that are among ``sizes``, with the same trials there."""
    kept = tuple(size for size in series.sizes if size in sizes)
    return replace(series, sizes=kept, start=first_guess(series, kept[0]))


def find(numbers: Mapping) -> list[str]:
    """What holds for each series, and what writing the bridges saves."""
    sentences = scaling.find(numbers)
    for name in ("2-hop", "3-hop"):
        direct, thought = (numbers["series"][n]["at"] for n in (name, f"{name}, CoT"))
        ratios = [
            direct[size][seed]["required"] / thought[size][seed]["required"]
            for size in direct
            if size in thought
            for seed in direct[size]
            if direct[size][seed]["required"] and thought[size][seed]["required"]
        ]
        if ratios:
            sentences.append(
                f"{name}: direct answers need {np.mean(ratios):.1f} times the data of chain of "
                f"thought at equal size and seed (range {min(ratios):.1f} to {max(ratios):.1f})."
            )
    return sentences


CLAIM = Claim(
    "e",
    "chain_of_thought",
    "Chain of thought: what writing the bridges saves",
    "exponents 2.09 (2-hop), 1.76 (3-hop) and 1.80 (5-hop) with chain of thought, against 2.26 and "
    "2.58 without.",
    partial(scaling.collect, series),
    find,
    scaling.tables,
    scaling.draw,
)

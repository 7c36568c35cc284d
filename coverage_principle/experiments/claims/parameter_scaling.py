"""Claim d: required data against |X| for models of several sizes (2-hop)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from coverage_principle.experiments.claims import scaling, scaling_report, scaling_words
from coverage_principle.experiments.claims.base import by_scale

TITLE = "Parameter scaling: does a larger model need less data? (2-hop)"
PUBLISHED = (
    "exponents 2.13, 2.26 and 2.28 for 68M, 96M and 1.5B parameters: 20 times the parameters bring "
    "no gain."
)

#: Layers, heads and width of a scale's models, from small to large; one of them is claim c's.
_MODELS = by_scale(
    ((2, 2, 16), (2, 2, 32)),
    ((2, 4, 48), (2, 4, 80), (2, 4, 128)),
    ((4, 6, 384), (8, 12, 768), (12, 16, 1024)),
    ((4, 12, 768), (8, 12, 768), (48, 25, 1600)),
    night=((2, 4, 80), (2, 4, 128), (2, 4, 192)),
)
#: Seeds by |X|, of claim c's; its largest worlds are left out where three models take too long.
_PLANS = {
    "twohop": by_scale(
        {3: 1, 4: 1},
        {16: 2, 20: 1, 25: 1},
        dict.fromkeys((20, 30, 50, 70), 3),
        scaling.PAPER_SIZES,
        night={18: 5, 25: 5, 36: 2},
    )
}
_EXPONENTS = dict(zip(_MODELS["paper"], (2.13, 2.26, 2.28), strict=True))


def series(scale: str) -> dict[str, scaling.Series]:
    """One for each model."""
    found = {}
    for model in _MODELS[scale]:
        size = dict(zip(("n_layer", "n_head", "n_embd"), model, strict=True))
        name = "{n_layer} layers, {n_embd} dimensions".format_map(size)
        own = {"train": size, "published": _EXPONENTS.get(model), "model": name}
        found[name] = scaling.one_series("twohop", scale, _PLANS, **own)
    return found


def find(numbers: Mapping) -> list[str]:
    """What holds for each model, and whether a larger one needs less data."""
    sentences, series = scaling_words.find(numbers), numbers["series"]
    for small, large in itertools.combinations(series, 2):
        what = f"The exponent of {large} less that of {small}"
        sentences += scaling_words.exponent_gap(numbers, what, large, small)
        if ratios := scaling_words.size_ratios(numbers, large, small):
            words = scaling_words.ratio_words(ratios)
            sentences.append(f"N of {large} over that of {small}: {words}.")
    return sentences


CLAIM = scaling_report.claim("d", "parameter_scaling", TITLE, PUBLISHED, series=series, find=find)

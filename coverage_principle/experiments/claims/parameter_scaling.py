"""Claim d: required data against |X| for models of several sizes (2-hop)."""

from __future__ import annotations

from collections.abc import Mapping

from coverage_principle.experiments.claims import scaling, scaling_report
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
        {16: 2, 20: 1, 28: 1},
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
        name = "{n_layer} layers, {n_embd}".format_map(size)
        own = {"train": size, "published": _EXPONENTS.get(model), "model": name}
        found[name] = scaling.one_series("twohop", scale, _PLANS, **own)
    return found


def find(numbers: Mapping) -> list[str]:
    """What holds for each model, and whether a larger one needs less data."""
    sentences, every = scaling_report.find(numbers), list(numbers["series"].values())
    *others, large = numbers["series"]
    small = others[0]
    powers = [(one["fit"] or {}).get("power") for one in every]
    if all(powers):
        gain = powers[-1]["high"] < powers[0]["low"]
        verdict = "falls clearly, which the published one does not"
        verdict = verdict if gain else "does not fall clearly; nor does the published one"
        missing = any(s["required"] is None for one in every for s in scaling.searches(one))
        if gain and (scaling.cut_off(numbers) or missing):
            verdict = "falls, but not clearly so: some trials were cut off, or no N was enough"
        sentences.append(f"From {small} to {large} the exponent {verdict}.")
    for other in others:
        if ratios := scaling_report.size_ratios(numbers, large, other):
            less = sum(high < 1 for _, _, high in ratios.values())
            more = sum(low > 1 for _, low, _ in ratios.values())
            sentences.append(
                f"What {large} needs, over what {other} does: {scaling_report.ratio_words(ratios)}"
                f"; clearly less at {less} and clearly more at {more} of {len(ratios)} sizes."
            )
    return sentences


CLAIM = scaling_report.claim("d", "parameter_scaling", TITLE, PUBLISHED, series=series, find=find)

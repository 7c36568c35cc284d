"""Claim e: required data against |X| with and without chain of thought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from coverage_principle.experiments.claims import data_scaling, scaling, scaling_report
from coverage_principle.experiments.claims.base import by_scale
from coverage_principle.statistics import Rate, rate_difference
from simpletransformers.words import listed

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
        _TINY, {12: 1, 16: 2, 28: 2}, _GPU, scaling.PAPER_SIZES, night={18: 5, 25: 5, 36: 5}
    ),
    "threehop": by_scale(
        _TINY, {8: 2, 11: 2, 14: 1}, _GPU, scaling.PAPER_SIZES, night={8: 5, 11: 5, 16: 4}
    ),
    "fivehop": by_scale(
        {2: 1, 3: 1}, {7: 2, 10: 1, 14: 2}, _GPU, scaling.PAPER_SIZES, night={8: 5, 13: 5, 20: 5}
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
        if ratios := scaling_report.size_ratios(numbers, name, thought):
            saved.append(
                "A model that writes the intermediate values before the answer needs less data "
                "than one that answers directly, by a factor of "
                f"{scaling_report.ratio_words(ratios)} ({name})."
            )
        exponents += _order(name, *(numbers["series"].get(one) for one in (name, thought)))
    if saved:
        how = "With chain of thought, an item is right if all that the model writes by itself is."
        saved.append(how)
    return saved + exponents + scaling_report.find(numbers)


def _order(name: str, direct: Mapping | None, thought: Mapping | None) -> list[str]:
    """Whether direct answers have the higher exponent, as published."""
    every = [one for one in (direct, thought) if one]
    fits = [one["fit"] for one in every]
    if len(every) < 2 or not (gap := _gap(fits)):
        return []
    published = ""
    if None not in (of := [one["published"] for one in every]):
        published = f" (published: {of[0] - of[1]:+.2f})"
    what = "the exponent of direct answers less that of chain of thought"
    sentences = [f"{name}: {what} is {gap}{published}."]
    if noisy := {size: None for one in every for size in scaling.noisy_ends(one["at"])}:
        others = [{n: of for n, of in one["at"].items() if n not in noisy} for one in every]
        if gap := _gap([scaling.growth(at) for at in others]):
            where = f"{listed(list(noisy))} tokens, where training is noisy,"
            sentences.append(f"{name}: fitted without {where} that difference is {gap}.")
    return sentences


def _gap(fits: Sequence[Mapping | None]) -> str | None:
    """The difference of two fits' exponents with its interval, and whether it is clear."""
    powers = [fit and fit["power"] for fit in fits]
    if not all(powers):
        return None
    ends = ("exponent", "low", "high")
    gap = rate_difference(*(Rate(*(power[end] for end in ends), 1) for power in powers))
    verdict = "clearly higher" if gap.above_zero else "not clearly different"
    if gap.high < 0:
        verdict = "clearly lower"
    return f"{gap.mean:+.2f} ({gap.low:+.2f} to {gap.high:+.2f}), {verdict}"


CLAIM = scaling_report.claim("e", "chain_of_thought", TITLE, PUBLISHED, series=series, find=find)

"""What claims c, d and e say of their numbers: measures and sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from coverage_principle.experiments.claims.base import span
from coverage_principle.experiments.claims.scaling import (
    ACCURACY,
    growth,
    noisy_ends,
    possible,
    searches,
)
from coverage_principle.statistics import Mean, Rate, rate_difference, wilson_interval
from simpletransformers.words import counted, listed

#: Within which factor a predictor is hoped to say N before training.
HOPED = {"k = 3": 2.0, "learner": 1.5}


def find(numbers: Mapping) -> list[str]:
    """What is needed, the exponent of each series, and what was known before training."""
    sentences = in_plain_words(numbers["series"])
    for name, series in numbers["series"].items():
        every, power = searches(series), (series["fit"] or {}).get("power")
        trials = [trial for search in every for trial in search["trials"].values()]
        worlds = f"{counted(len(every), 'world')} of {counted(len(series['at']), 'size')}"
        if power is None:
            sentences.append(
                f"{name}: no exponent ({worlds}, {counted(len(trials), 'trial')}): some trials "
                "have to reach the rule and some to fail at each of two sizes, in four worlds."
            )
            continue
        items = [trial["items"] for trial in trials]
        words = (
            f"{name}: required N grows as |X|^{power['exponent']:.2f} (95 % interval "
            f"{power['low']:.2f} to {power['high']:.2f}; {worlds}, {len(trials)} trials, each with "
            f"{span(items)} unseen items)"
        )
        words += beside_published(power, series["published"])
        if missing := sum(search["required"] is None for search in every):
            worlds = counted(missing, "world")
            words += f"; in {worlds} the largest N that was tried was not enough"
        sentences += [words + ".", *_bends(name, series), _of_possible(name, series)]
    sentences += cut_off(numbers) + noisy_sizes(numbers)
    for task, predictors in numbers["before"].items():
        fits = {name: one["fit"] for name, one in predictors.items() if one["fit"]}
        if parts := [f"{fit['exponent']:.2f} ({name})" for name, fit in fits.items()]:
            sentences.append(
                f"{task}: N that covers {numbers['covered']:.0%} of the unseen in-domain items of "
                f"these worlds, or lets the learner answer them, grows with exponents of "
                f"{listed(parts)}."
            )
    return sentences + before_training(numbers)


def required(series: Mapping, part: str = "sizes") -> dict:
    """The N required by a series' ``sizes`` (with bounds) or ``worlds``, by |X|.

    One slope and scatter hold for all sizes of a fit, so where training is noisy at some the others
    are taken from the fit without these.
    """
    return {**series["fit"][part], **(series["without_noisy"] or {part: {}})[part]}


def _bends(name: str, series: Mapping) -> list[str]:
    """At which sizes the N required, with its interval, lies off the power law of the same fit."""
    power, found = series["fit"]["power"], []
    for size, (middle, low, high) in series["fit"]["sizes"].items():
        law = power["factor"] * int(size) ** power["exponent"]
        if low and not low <= law <= high:
            found.append(
                f"{middle:,.0f} ({low:,.0f} to {high:,.0f}) where the law says {law:,.0f} at {size}"
            )
    if not found:
        return []
    return [f"{name}: no one power law holds for all sizes: N is {listed(found)} tokens."]


def _of_possible(name: str, series: Mapping) -> str:
    """How much of what could be trained on is required, in the smallest and the largest worlds."""
    small, *_, large = required(series)
    first, last = (percent(of_all_possible(series, size)) for size in (small, large))
    return (
        f"{name}: the required N is {first} of all possible training compositions in a world of "
        f"{small} tokens, and {last} in one of {large}."
    )


def of_all_possible(series: Mapping, size: str) -> float:
    """Required N over how many training compositions there can be."""
    return required(series)[size][0] / possible(series["at"][size])


def percent(share: float) -> str:
    """A share as a page shows it."""
    return "over 100%" if share > 1 else f"{share:.{0 if share >= 0.1 else 2}%}"


def in_plain_words(every: Mapping[str, Mapping]) -> list[str]:
    """What a series needs in its smallest and its largest worlds: the first that says so.

    It has an exponent, and worlds so large that what it needs could be tried. Sizes where training
    is noisy are left out where several others are left.
    """
    for name, series in every.items():
        if series["fit"] and series["fit"]["power"]:
            fits = [fit for fit in (series["without_noisy"], series["fit"]) if fit]
            sizes = next(fit["sizes"] for fit in fits if len(fit["sizes"]) > 1)
            (small, (few, *_)), *_, (large, (many, *_)) = sizes.items()
            if max(of_all_possible(series, size) for size in (small, large)) > 1:
                continue
            return [
                "To answer 99 % of the unseen combinations of facts that it has seen, a model "
                f"needs about {few:,.0f} training items in a world of {small} tokens and "
                f"{many:,.0f} in one of {large} ({name}): {int(large) / int(small):.1f} times "
                f"the tokens ask for {many / few:.1f} times the data."
            ]
    return []


def needed_times(numbers: Mapping) -> dict[str, dict[str, dict[str, float]]]:
    """How many times the N of each predictor models needed, by predictor, series and |X|.

    The geometric mean over the worlds of that size in which the predictor reached its share.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, series in numbers["series"].items():
        for predictor, one in numbers["before"].get(series["before"], {}).items():
            for size, seeds in one["amounts"].items() if series["fit"] else ():
                own = required(series, "worlds").get(size, {})
                logs = [math.log(own[seed] / n) for seed, n in seeds.items() if n and seed in own]
                if logs:
                    of_series = found.setdefault(predictor, {}).setdefault(name, {})
                    of_series[size] = math.exp(np.mean(logs))
    return found


def before_training(numbers: Mapping) -> list[str]:
    """Whether k = 3 and the learner say N within the hoped factor, and whether one k is right."""
    found, sentences = needed_times(numbers), []
    for predictor, factor in HOPED.items():
        times = [x for sizes in found.get(predictor, {}).values() for x in sizes.values()]
        if not times:
            continue
        good = sum(1 / factor <= x <= factor for x in times)
        who = f"coverage at {predictor}"
        if predictor == "learner":
            asked = [of[predictor] for of in numbers["before"].values() if predictor in of]
            most = max(len(seeds) for one in asked for seeds in one["amounts"].values())
            worlds = f"asked in at most {counted(most, 'world')} of a size"
            who = f"the learner (not fitted to any model, {worlds})"
        ends = [
            f"{first:.2f} to {last:.2f} ({name})"
            for name, (first, *_, last) in _several(found[predictor]).items()
        ]
        sentences.append(
            f"Before any training, {who} says N within a factor of {factor:g} at {good} of "
            f"{len(times)} sizes: models needed {min(times):.2f} to {max(times):.2f} times as much"
            + (f"; from the smallest to the largest |X| {listed(ends)}." if ends else ".")
        )
    ks = {name: of_series for name, of_series in found.items() if name != "learner"}
    if not ks:
        return sentences
    names = next(iter(ks.values()))
    nearest = {}
    for name in names:
        off = {k: _worst(of[name].values()) for k, of in ks.items() if _same(of, names, name)}
        nearest[name] = min(off, key=off.__getitem__)
    worst = {
        k: _worst(x for sizes in of.values() for x in sizes.values())
        for k, of in ks.items()
        if all(_same(of, names, name) for name in names)
    }
    best = min(worst, key=worst.__getitem__)
    if len(set(nearest.values())) == 1:
        verdict = f"one k is nearest for all: {best}"
    else:
        each = listed([f"{k} for {name}" for name, k in nearest.items()])
        verdict = f"no single k is nearest for all ({each}); the best for all is {best}"
    return [*sentences, f"Of {', '.join(ks)}, {verdict}, off by a factor of {worst[best]:.2f}."]


def _several(of: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """What is there of each series, by |X|, where there are several sizes."""
    return {name: list(sizes.values()) for name, sizes in of.items() if len(sizes) > 1}


def _worst(times: Iterable[float]) -> float:
    """The factor by which the worst of them is off."""
    return max(math.exp(abs(math.log(x))) for x in times)


def _same(of: Mapping, first: Mapping, name: str) -> bool:
    """Whether a k has as many sizes of a series as the first."""
    return len(of.get(name, {})) == len(first[name])


def size_ratios(numbers: Mapping, name: str, other: str) -> dict[str, tuple[float, float, float]]:
    """How many times the N of ``other`` a series requires at each size of both, with bounds.

    Sizes are left out that tell little of either. The intervals of the two are joined as if they
    were of different worlds, which they are not: these bounds are rather wide.
    """
    every = [numbers["series"][one] for one in (name, other)]
    found = {}
    if all(series["fit"] for series in every):
        of, to = map(required, every)
        vague = {size for series in every for size in _vague(numbers, series)}
        for size in [n for n in of if n in to and n not in vague and of[n][1] and to[n][1]]:
            ratio = of[size][0] / to[size][0]
            half = math.hypot(*(math.log(high / low) / 2 for _, low, high in (of[size], to[size])))
            found[size] = (ratio, ratio * math.exp(-half), ratio * math.exp(half))
    return found


def _vague(numbers: Mapping, series: Mapping) -> set[str]:
    """Sizes whose N says little: failed trials were cut off there, or it is more than can be."""
    found = {size for size in required(series) if of_all_possible(series, size) > 1}
    for size, seeds in series["at"].items():
        trials = [trial for search in seeds.values() for trial in search["trials"].values()]
        if any(
            one["accuracy"] < numbers["accuracy"] and one["steps"] >= numbers["max_steps"]
            for one in trials
        ):
            found.add(size)
    return found


def exponent_gap(numbers: Mapping, what: str, name: str, other: str) -> list[str]:
    """By how much the exponents of two series differ, ``what`` being said of the first's.

    Where training is noisy at some sizes of either, also without these, or only so if the N of such
    a size says little; [] where one has no exponent. The intervals are joined as in
    ``size_ratios``.
    """
    pair = [numbers["series"][one] for one in (name, other)]
    if not (gap := _gap([series["fit"] for series in pair])):
        return []
    beside = ""
    if None not in (of := [series["published"] for series in pair]):
        published = of[0] - of[1]
        where = "within" if gap.low <= published <= gap.high else "outside of"
        beside = f"; the published {published:+.2f} lies {where} it"
    sentences = [f"{what} is {_gap_words(gap)}{beside}."]
    if vague := sorted({size for series in pair for size in _vague(numbers, series)}, key=int):
        why = f"at {listed(vague)} tokens training was cut off, or more is required than there is"
        sentences = [f"{what} is not judged with all sizes, as {why}."]
    noisy = {size: None for series in pair for size in noisy_ends(series["at"])}
    if noisy and (gap := _gap([_fit_without(series, noisy) for series in pair])):
        where = f"{listed(list(noisy))} tokens, where training is noisy,"
        sentences.append(f"Fitted without {where} that difference is {_gap_words(gap)}.")
    return sentences


def _fit_without(series: Mapping, sizes: Iterable[str]) -> Mapping | None:
    kept = {size: seeds for size, seeds in series["at"].items() if size not in sizes}
    own = series["without_noisy"]
    return own if own and set(own["sizes"]) == set(kept) else growth(kept)


def _gap(fits: Sequence[Mapping | None]) -> Mean | None:
    """The difference of two fits' exponents; None where one has none."""
    powers = [fit and fit["power"] for fit in fits]
    if not all(powers):
        return None
    ends = ("exponent", "low", "high")
    return rate_difference(*(Rate(*(power[end] for end in ends), 1) for power in powers))


def _gap_words(gap: Mean) -> str:
    low, high = round(gap.low, 2), round(gap.high, 2)  # as they are shown
    verdict = "clearly higher" if low > 0 else "not clearly different"
    if high < 0:
        verdict = "clearly lower"
    return f"{gap.mean:+.2f} ({low:+.2f} to {high:+.2f}; {verdict})"


def ratio_words(found: Mapping[str, tuple[float, float, float]]) -> str:
    """``0.96 (0.80 to 1.15) at 16 and ... tokens; clearly less at 0 and ... of 3 sizes``"""
    parts = [f"{x:.2f} ({low:.2f} to {high:.2f}) at {n}" for n, (x, low, high) in found.items()]
    less = sum(round(high, 2) < 1 for _, _, high in found.values())  # as they are shown
    more = sum(round(low, 2) > 1 for _, low, _ in found.values())
    return (
        f"{listed(parts)} tokens; clearly less at {less} and clearly more at {more} of "
        f"{counted(len(found), 'size')}"
    )


def cut_off(numbers: Mapping, place: str = "{} tokens") -> list[str]:
    """Trials whose training ended at its last step, so that N is not what they lacked.

    Where the largest N then does clearly worse than the smallest, the world with the largest fall
    is named; ``place`` says what the keys of worlds of a size are.
    """
    sentences = []
    for name, series in numbers["series"].items():
        trials = itertools.chain(*(search["trials"].values() for search in searches(series)))
        failed = [trial for trial in trials if trial["accuracy"] < numbers["accuracy"]]
        cut = sum(trial["steps"] >= numbers["max_steps"] for trial in failed)
        if cut:
            sentences.append(
                f"{name}: {cut} of {counted(len(failed), 'trial')} that failed were cut off at "
                f"step {numbers['max_steps']:,}, before the rule ended them; longer training might "
                "have needed fewer items."
            )
        for size, seeds in series["at"].items():
            falls = _falls(seeds, numbers["max_steps"])
            if not falls:
                continue
            _, seed, few, many = max(falls)
            worlds = f"{len(falls)} of {counted(len(seeds), 'world')}"
            sentences.append(
                f"{name}: at {place.format(size)}, in {worlds}, more items do not help such "
                "training: of "
                f"the unseen items {few[1]['accuracy']:.2f} are right with N = {few[0]:,} and "
                f"{many[1]['accuracy']:.2f} with {many[0]:,} (seed {seed}). There it is the model "
                "or its training that falls short, and not the data."
            )
    return sentences


def _falls(seeds: Mapping[str, Mapping], last_step: int) -> list[tuple]:
    """Worlds of a size whose largest N was cut off and is clearly less right than the smallest.

    By how much it is, the seed, and the trials of the smallest and the largest N, each after its N.
    """
    found = []
    for seed, search in seeds.items():
        trials = [(int(n), trial) for n, trial in search["trials"].items()]
        if trials and trials[-1][1]["steps"] >= last_step:
            few, many = trials[0], trials[-1]
            fall = rate_difference(*(_of_items(trial) for _, trial in (few, many)))
            found += [(fall.mean, seed, few, many)] if fall.above_zero else []
    return found


def _of_items(trial: Mapping) -> Rate:
    """A trial's accuracy, with the interval that its items give (Wilson's)."""
    share, items = trial["accuracy"], trial["items"]
    return Rate(share, *wilson_interval(share * items, items), 1)


def noisy_sizes(numbers: Mapping) -> list[str]:
    """Sizes where most trials ended without their training items; the exponent without those.

    The rule waits until a model has known its training items once. Where it then knows fewer at
    most ends, training is so noisy that its outcome is hardly that of N; where it was cut off
    before, still less.
    """
    sentences = []
    for name, series in numbers["series"].items():
        for size, ends in noisy_ends(series["at"]).items():
            kinds = []
            for kind, enough in (("enough", True), ("too few", False)):
                own = [train < ACCURACY for train, share in ends if (share >= ACCURACY) == enough]
                if own:
                    kinds.append(f"{sum(own)} of the {len(own)} with {kind}")
            low, high = min(ends)[0], max(train for train, _ in ends if train < ACCURACY)
            why = "training is noisy there, and whether N is enough is partly chance"
            trials = [one for s in series["at"][size].values() for one in s["trials"].values()]
            if any(one["steps"] >= numbers["max_steps"] for one in trials):
                why = "training is noisy there or was cut off, and tells little of the data needed"
            sentences.append(
                f"{name}: at {size} tokens most trials ended with less than {ACCURACY} of their "
                f"training items right ({low:.3f} to {high:.3f}), {listed(kinds)} items: {why}."
            )
        others = series["without_noisy"]
        if others and (power := others["power"]):
            sentences.append(
                f"{name}: without {others['without']} tokens the exponent is "
                f"{power['exponent']:.2f} ({power['low']:.2f} to {power['high']:.2f})"
                f"{beside_published(power, series['published'])}."
            )
    return sentences


def beside_published(power: Mapping, published: float | None) -> str:
    """The end of a sentence about an exponent: whether the published one lies in its interval."""
    if published is None:
        return ""
    low, high = (round(power[end], 2) for end in ("low", "high"))  # as they are shown
    where = "within" if low <= published <= high else "outside of"
    if published in (low, high):
        where = "at the edge of"
    return f"; the published {published:.2f} lies {where} it"

"""What the numbers of claims c, d and e allow to be said, and their tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coverage_principle.experiments.claims.base import Table


def find(numbers: Mapping) -> list[str]:
    sentences = []
    for name, series in numbers["series"].items():
        fit, searches = series["fit"], _searches(series)
        missing = sum(search["required"] is None for search in searches)
        if fit is None:
            sentences.append(
                f"{name}: no exponent, since in {missing} of {len(searches)} searches no N below "
                "the number of compositions was enough."
            )
            continue
        words = (
            f"{name}: required N grows as |X|^{fit['exponent']:.2f} (95 % interval "
            f"{fit['low']:.2f} to {fit['high']:.2f}, R^2 {fit['r2']:.3f})"
        )
        published = series["published"]
        if published is not None:
            inside = fit["low"] <= published <= fit["high"]
            words += (
                f"; the published {published:.2f} lies {'within' if inside else 'outside of'} it"
            )
        if missing:
            words += (
                f"; left out: {missing} of {len(searches)} searches, in which no N below the "
                "number of compositions was enough"
            )
        sentences.append(words + ".")
    sentences += _cut_off(numbers)
    for name, side in numbers["coverage"].items():
        parts = [
            f"{entry['fit']['exponent']:.2f} at k = {k}"
            for k, entry in side["k"].items()
            if entry["fit"]
        ]
        if parts:
            sentences.append(
                f"For the {name} task, covering {side['share']:.0%} of the unseen in-domain items "
                f"at these sizes asks for exponents of {', '.join(parts)}."
            )
    return sentences


def _searches(series: Mapping) -> list[Mapping]:
    """One for each size and seed."""
    return [search for seeds in series["at"].values() for search in seeds.values()]


def _cut_off(numbers: Mapping) -> list[str]:
    """Trials whose training ended at its last step, so that N is not what they lacked."""
    sentences = []
    for name, series in numbers["series"].items():
        failed = [
            trial
            for search in _searches(series)
            for trial in search["trials"].values()
            if trial["accuracy"] < numbers["accuracy"]
        ]
        cut = sum(trial["steps"] >= numbers["max_steps"] for trial in failed)
        if cut:
            sentences.append(
                f"{name}: {cut} of {len(failed)} trials that failed were cut off at step "
                f"{numbers['max_steps']:,}, before the rule ended them; "
                "longer training might have needed fewer items."
            )
    return sentences


def compare_models(numbers: Mapping) -> list[str]:
    """Claim d: whether a larger model needs less data."""
    sentences = find(numbers)
    names = list(numbers["series"])
    fits = [numbers["series"][name]["fit"] for name in names]
    if all(fits):
        low, high = fits[0], fits[-1]
        gain = high["high"] < low["low"]
        verdict = "falls clearly" if gain else "does not fall clearly"
        searches = [search for one in numbers["series"].values() for search in _searches(one)]
        if gain and (_cut_off(numbers) or any(one["required"] is None for one in searches)):
            verdict = "falls, but not clearly so: some trials were cut off or searches left out"
        sentences.append(f"From {names[0]} to {names[-1]} the exponent {verdict}.")
    smallest, largest = (
        [search["required"] for search in _searches(numbers["series"][name])]
        for name in (names[0], names[-1])
    )
    ratios = [b / a for a, b in zip(smallest, largest, strict=True) if a and b]
    if ratios:
        sentences.append(
            f"At equal size and seed, the largest model needs {np.mean(ratios):.2f} times the data "
            f"of the smallest (range {min(ratios):.2f} to {max(ratios):.2f})."
        )
    return sentences


def compare_thought(numbers: Mapping) -> list[str]:
    """Claim e: what writing the bridges saves."""
    sentences = find(numbers)
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


def tables(numbers: Mapping) -> list[Table]:
    rows = []
    for name, series in numbers["series"].items():
        for size, seeds in series["at"].items():
            amounts = [one["required"] for one in seeds.values()]
            rows.append(
                [
                    name,
                    size,
                    *(
                        f"{n:,}" if n else f"> {one['most']:,}"
                        for n, one in zip(amounts, seeds.values(), strict=True)
                    ),
                ]
            )
    header = ["task or model", "|X|", *(f"seed {seed}" for seed in numbers["seeds"])]
    result = [Table(f"Required N ({numbers['rule']}; to {numbers['tolerance']:.0%})", header, rows)]
    rows = []
    for name, side in numbers["coverage"].items():
        for size in side["sizes"]:
            needed = [entry["required"].get(size) for entry in side["k"].values()]
            rows.append([name, size, *("-" if n is None else f"{n:,.0f}" for n in needed)])
        fits = [entry["fit"] for entry in side["k"].values()]
        rows.append([name, "exponent", *(f"{fit['exponent']:.2f}" if fit else "-" for fit in fits)])
    if rows:
        first = next(iter(numbers["coverage"].values()))
        title = (
            f"N at which {first['share']:.0%} of the unseen in-domain items are k-covered (mean)"
        )
        result.append(Table(title, ["task", "|X|", *(f"k = {k}" for k in first["k"])], rows))
    return result

"""Claim a: accuracy against training data and training time (2-hop)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data import load_dataset
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import Rate, rate_difference
from coverage_principle.tasks import TASKS
from simpletransformers.words import counted, listed

TITLE = "Accuracy against training data and training time (2-hop)"
PUBLISHED = (
    "a sharp rise of in-domain accuracy around N = 20,000 at 50 tokens; out of the domain accuracy "
    "stays at chance for all N and training times."
)

#: Training-set sizes.
SIZES = base.by_scale(
    (100, 180),
    (800, 1600, 2000, 2500, 3000),
    (5000, 10000, 15000, 20000, 30000),
    (5000, 10000, 15000, 20000, 25000, 30000, 40000, 50000),
)
#: "Fitted" and "solved": from here on an accuracy counts as reached.
_REACHED = 0.9


def variants(sizes: tuple[int, ...]) -> dict[str, dict]:
    """Trainings by size, every test item's k-cutoff and output kept."""
    return {str(size): {"size": size, "label": f"2-hop N={size}", **base.TESTED} for size in sizes}


def collect(sweep: Sweep, scale: str) -> dict:
    """Every size and seed, with its evaluations over training."""

    def measure(run: RunSettings, record: Mapping) -> dict:
        covered = {k: share / 100 for k, (_, share) in record["k_sweep"].items() if share}
        dataset = load_dataset(sweep.dataset(run))
        types = sorted({kind for kind in dataset.test.types if kind.startswith("type_")})
        guess = {kind: round(base.guessed(dataset, kind), 4) for kind in types}
        return {**base.over_training(sweep, run), "covered_share": covered, "guess": guess}

    sizes = base.measured(sweep, scale, variants(SIZES[scale]), measure)
    return {**base.world(scale), "sizes": sizes}


def final_rate(numbers: Mapping, size: str, group: str) -> Rate:
    """The share of a group that the models of a size answer at the end."""
    return base.final_rate(numbers["sizes"][size], group)


def outside_groups(numbers: Mapping) -> list[str]:
    """The types that hold an unseen fact."""
    return sorted(g for g in _groups(numbers) if g.startswith("type_") and g != "type_0")


def _groups(numbers: Mapping) -> Mapping:
    return next(iter(next(iter(numbers["sizes"].values())).values()))["accuracy"]


def find(numbers: Mapping) -> list[str]:
    sizes = list(numbers["sizes"])
    inside = {size: final_rate(numbers, size, "type_0") for size in sizes}
    low, *_, high = sizes
    given = f"With {numbers['num_tokens']} tokens, accuracy on unseen compositions of seen facts"
    ends = f"{inside[low]} with {int(low):,} training items to {inside[high]} with {int(high):,}"
    runs = [run for seeds in numbers["sizes"].values() for run in seeds.values()]
    items = base.span(n for run in runs for n in run["items"].values())
    sentences = [
        f"{given} goes from {ends} ({counted(len(sizes), 'size')}, "
        f"{counted(inside[high].n, 'seed')} each, {items} test items of each type a seed; "
        f"{base.RATE_INTERVALS})."
    ]
    rises = {(a, b): rate_difference(inside[b], inside[a]) for a, b in itertools.pairwise(sizes)}
    (start, end), rise = max(
        rises.items(), key=lambda one: one[1].mean / (int(one[0][1]) - int(one[0][0]))
    )
    sentences.append(
        f"The rise is steepest from N = {int(start):,} to {int(end):,}: by {rise} with "
        f"{int(end) - int(start):,} items more{'' if rise.above_zero else ', not clear'}."
    )
    fitted = min(final_rate(numbers, size, "train_inferred").mean for size in sizes)
    sentences.append(
        f"Accuracy on training items is at least {math.floor(100 * fitted) / 100:.2f} at every "
        "size, so what grows is generalisation."
        if fitted >= _REACHED
        else f"At the size where it is lowest, training accuracy is {fitted:.2f}, so part of the "
        "growth is fitting."
    )
    points = itertools.product(sizes, outside_groups(numbers))
    top = max((final_rate(numbers, *point) for point in points), key=lambda rate: rate.mean)
    words = f"Items with an unseen fact reach at most {top}, where chance is "
    words += f"{numbers['chance']:.2f}, at any size and type"
    if top.mean < 0.5 * inside[high].mean and inside[high].mean > _REACHED:
        words += ": out of the domain the curve stays low"
    sentences.append(words + ".")
    above = [
        f"{group} ({TASKS['twohop'].words(group)})"
        for group in outside_groups(numbers)
        if all(final_rate(numbers, size, group).low > numbers["chance"] for size in sizes)
    ]
    sentences.append(
        f"Clearly above chance at every size, where published is chance: {', '.join(above)}."
        if above
        else "No type with an unseen fact is clearly above chance at every size, as published."
    )
    told = []
    for group in ("type_0", *outside_groups(numbers)):
        shares = sorted(
            f"{np.mean([run['guess'][group] for run in seeds.values()]):.2f}"
            for seeds in numbers["sizes"].values()
        )
        told.append(f"{' to '.join(dict.fromkeys((shares[0], shares[-1])))} of {group}")
    sentences.append(
        "A guess from x3 alone, the commonest answer of the training items with it, would be right "
        f"for {listed(told)} (measured on the data, means over seeds, least and most of sizes)."
    )
    times = {size: list(map(_solved_at, numbers["sizes"][size].values())) for size in sizes}
    solved = {size: steps for size, steps in times.items() if None not in steps}
    parts = ", ".join(f"{np.mean(t):,.0f} at N = {int(s):,}" for s, t in solved.items())
    sentences.append(
        f"Steps until type_0 first reaches {_REACHED:g}, for the sizes at which every seed does: "
        f"{parts}."
        if solved
        else f"At no size does every seed reach {_REACHED:g} on type_0."
    )
    return sentences


def _named(group: str) -> str:
    return f"{group}: {TASKS['twohop'].words(group)}"


def _solved_at(run: Mapping) -> int | None:
    values = zip(run["steps"], run["accuracy"]["type_0"], strict=True)
    return next((step for step, accuracy in values if accuracy >= _REACHED), None)


def tables(numbers: Mapping) -> list[base.Table]:
    groups = ["train_inferred", "type_0", *outside_groups(numbers)]
    rows = [
        [f"{int(size):,}", *(str(final_rate(numbers, size, g)) for g in groups)]
        for size in numbers["sizes"]
    ]
    about = "; ".join(map(_named, groups))
    title = (
        f"Final accuracy by training-set size, share of all seeds' items ({base.RATE_INTERVALS})"
    )
    return [base.Table(f"{title}. {about}", ["N", *groups], rows)]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Final accuracy by N for each type, and type_0 over training for each N."""
    figure, (left, right) = style.new_figure(9.6, 3.6, 1, 2)
    sizes = numbers["sizes"]
    for number, group in enumerate(_groups(numbers)):
        finals = [final_rate(numbers, size, group) for size in sizes]
        own = {"label": _named(group), **plots.look(number)}
        plots.with_interval(left, list(map(int, sizes)), finals, **own)
    plots.accuracy_axis(left, "final accuracy", numbers["chance"], over="training items N")
    left.set_ylabel("answer accuracy, mean over seeds")
    left.legend(**plots.FURTHER_BELOW, ncols=2)
    dashed = {"linestyle": "--", "linewidth": 0.9}
    for colour, (size, seeds) in zip(plots.shades(len(sizes)), sizes.items(), strict=True):
        plots.mean_curve(right, seeds, "type_0", color=colour, label=f"N = {int(size):,}")
        for group in outside_groups(numbers):
            plots.mean_curve(right, seeds, group, color=colour, **dashed)
    plots.label_only(right, "the other types", color="black", **dashed)
    plots.accuracy_axis(right, "type_0 over training", numbers["chance"])
    right.legend(fontsize=7, **plots.BESIDE)
    return style.save_figure(figure, stem)


CLAIM = base.Claim("a", "accuracy_by_data", TITLE, PUBLISHED, collect, find, tables, draw)

"""Claim b: accuracy by k-cutoff over training, and how well it predicts answers (2-hop)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.experiments.claims import accuracy_by_data, base
from coverage_principle.experiments.claims.predictors import PREDICTORS, the, told
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.reporting.predictions import points
from coverage_principle.reporting.training_figures import accuracy_by_k
from coverage_principle.statistics import Rate, mean_difference, mean_of, rate_of, rate_over_seeds
from simpletransformers.words import counted

TITLE = "Accuracy by k-cutoff over training (2-hop)"
PUBLISHED = (
    "items of a high k-cutoff are learned early, those of a low one lag even after long training, "
    "items outside of coverage stay at chance. No AUC is published."
)

#: Those of claim a's sizes at which coverage is partial.
SIZES = base.by_scale((100,), (1600, 2000), (10000, 15000), (10000, 15000))
#: Smaller groups of one k-cutoff are neither named nor drawn.
_FEWEST = 20

#: The seed of the training of each world's second model, which no world has.
ANOTHER = 1
#: What tells which items are answered. Another model of the same kind on the same data is the
#: ceiling: the probability that it gives the true answer.
_FROM_DATA = ("neighbours", "k_cutoff", "matcher", "support", "learner")
_CEILING = "another_probability"
TOLD = {name: PREDICTORS[name] for name in _FROM_DATA}
TOLD |= {"another_seed": "another model's answer", _CEILING: "its probability"}


def collect(sweep: Sweep, scale: str) -> dict:
    """Which items of partly covered test sets are answered, and what predicts it."""
    variants = accuracy_by_data.variants(SIZES[scale])
    second = [
        base.one_run(scale, seed, train={"manual_seed": ANOTHER}, **variant)
        for variant in variants.values()
        for seed in base.SEEDS[scale]
    ]
    futures = zip(second, sweep.submit_all(second), strict=True)
    others = {run.shared_id: (run, future) for run, future in futures}  # by world

    def measure(run: RunSettings, _record: Mapping) -> dict:
        history = sweep.history(run)
        by_k = [accuracy_by_k(event["eval"]) for event in history]
        groups = {
            str(k): {"n": n, "accuracy": [at[k][0] for at in by_k]}
            for k, (_, n) in by_k[-1].items()
        }
        other, future = others[run.shared_id]
        base.finished(future, other.label)
        return {
            "steps": [event["step"] for event in history],
            "by_k": groups,
            "told": told(sweep, [run, other], (), unseen=True),
        }

    return {**base.world(scale), "sizes": base.measured(sweep, scale, variants, measure)}


def find(numbers: Mapping) -> list[str]:
    slopes = {size: mean_of(_slopes(seeds)) for size, seeds in numbers["sizes"].items()}
    climbs = all(slope.above_zero for slope in slopes.values())
    verdict = "answered more often, as published" if climbs else "not clearly answered more often"
    sentences = [
        "The k-cutoff of an unseen item says how firmly the training items cover it. Items of a "
        f"higher k-cutoff are {verdict}."
    ]
    for size, seeds in numbers["sizes"].items():
        ks = _ks(seeds)
        ends = " to ".join(f"{_rate(seeds.values(), k)} at k-cutoff {k}" for k in (ks[0], ks[-1]))
        items = [sum(group["n"] for group in run["by_k"].values()) for run in seeds.values()]
        sentences.append(
            f"With {int(size):,} training items, accuracy on type_0 items goes from {ends} "
            f"({counted(len(seeds), 'seed')}, {base.span(items)} items each; "
            f"{base.RATE_INTERVALS}). A step of the k-cutoff adds {slopes[size]} (least squares in "
            "each world, Student's 95 % interval over worlds)."
        )
    for size, seeds in numbers["sizes"].items():
        found = {name: _aucs(seeds, "type_0", name) for name in TOLD}
        parts = [f"{words} {rate_of(found[name])}" for name, words in TOLD.items() if found[name]]
        sentences.append(
            f"Among the type_0 items of N = {int(size):,}, the AUC of predicting which are "
            f"answered is: {', '.join(parts)} (means over {counted(len(seeds), 'world')}, whose "
            "AUCs err by their items, too; Student's 95 % intervals over them)."
        )
        sentences += _comparisons(found)
    return sentences


def _comparisons(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """How AUCs differ within worlds, and how much each is of the ceiling's."""
    for name in _FROM_DATA:
        gap = mean_difference(found[name], found["k_cutoff"])
        if name == "k_cutoff" or gap is None:
            continue
        if gap.above_zero or gap.below_zero:
            words = f"predicts clearly {'better' if gap.above_zero else 'worse'} than"
        else:
            words = "is not clearly apart from"
        yield f"{the(name).capitalize()} {words} the k-cutoff: {gap} of AUC."
    if all(found.values()) and min(found[_CEILING]) > 0.5:
        ceiling = np.array(found[_CEILING]) - 0.5
        shares = {name: mean_of((np.array(found[name]) - 0.5) / ceiling) for name in _FROM_DATA}
        parts = ", ".join(f"{TOLD[name]} {share}" for name, share in shares.items())
        gap = mean_difference(found["learner"], found[_CEILING])
        yield (
            "What another model of the same kind, trained on the same items, tells by the "
            "probability that it gives the true answer is the measure of what there is to tell, "
            f"though no limit. Of its AUC above 0.5 the others reach these shares: {parts}. The "
            f"learner's AUC less that one is {gap}."
        )


def _slopes(seeds: Mapping) -> list[float]:
    """By how much accuracy grows with a step of the k-cutoff: least squares over each world."""
    found = []
    for run in seeds.values():
        k = np.array(list(map(int, run["by_k"])))
        n = np.array([group["n"] for group in run["by_k"].values()])
        right = np.array([group["accuracy"][-1] for group in run["by_k"].values()])
        away = k - np.average(k, weights=n)
        found.append(float((n * away * right).sum() / (n * away**2).sum()))
    return found


def _rate(runs: Iterable[Mapping], k: str) -> Rate:
    groups = [run["by_k"][k] for run in runs if k in run["by_k"]]
    return rate_over_seeds([g["accuracy"][-1] for g in groups], [g["n"] for g in groups])


def _ks(seeds: Mapping) -> list[str]:
    """The k-cutoffs that enough items of every world have."""
    runs = seeds.values()
    groups = [{k for k, one in run["by_k"].items() if one["n"] >= _FEWEST} for run in runs]
    return sorted(set.intersection(*groups), key=int)


def _aucs(seeds: Mapping, which: str, name: str) -> list[float]:
    """The AUC of a predictor in each world, the mean over its models; none unless all have it."""
    found = [run["told"][which]["auc"].get(name) for run in seeds.values()]
    return [one["mean"] for one in found] if None not in found else []


def tables(numbers: Mapping) -> list[base.Table]:
    sizes = numbers["sizes"]
    header = [f"N = {int(size):,}" for size in sizes]

    def accuracy(k: str, seeds: Mapping) -> str:
        if all(k not in run["by_k"] for run in seeds.values()):
            return "-"
        return base.rate_in_table(_rate(seeds.values(), k))

    runs = [run for seeds in sizes.values() for run in seeds.values()]
    ks = sorted({k for run in runs for k in run["by_k"]}, key=int)
    by_k = [[k, *(accuracy(k, seeds) for seeds in sizes.values())] for k in ks]
    by_predictor = [
        [f"{words}, {about}", *(base.mean_in_table(own) for own in found)]
        for which, about in (("type_0", "type_0 items"), ("unseen", "all unseen items"))
        for name, words in {"type": "type alone", **TOLD}.items()
        if any(found := [_aucs(seeds, which, name) for seeds in sizes.values()])
    ]
    title = f"Final type_0 accuracy by k-cutoff, share of all seeds' items ({base.RATE_INTERVALS})"
    other = (
        "AUC of predicting which items are answered, mean over worlds (95 %, Student's over them)"
    )
    first = base.Table(title, ["k-cutoff", *header], by_k)
    return [first, base.Table(other, ["predictor", *header], by_predictor)]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """type_0 accuracy over training by k-cutoff, and how well items' answers are predicted."""
    sizes = numbers["sizes"]
    figure, (*axes, last) = style.new_figure(3.6 * (len(sizes) + 1) + 1, 3.7, 1, len(sizes) + 1)
    ks = sorted({k for seeds in sizes.values() for k in _ks(seeds)}, key=int)
    colours = dict(zip(ks, plots.shades(len(ks)), strict=True))
    for axis, (size, seeds) in zip(axes, sizes.items(), strict=True):
        runs = list(seeds.values())
        for k in _ks(seeds):
            curve = np.mean([run["by_k"][k]["accuracy"] for run in runs], axis=0)
            axis.plot(runs[0]["steps"], curve, color=colours[k])
        plots.accuracy_axis(axis, f"by k-cutoff, N = {int(size):,}", numbers["chance"])
    axes[0].set_ylabel("type_0 accuracy, mean over seeds")
    for k in ks:
        plots.label_only(axes[-1], f"k-cutoff {k}", color=colours[k])
    axes[-1].legend(fontsize=6.5, **plots.BESIDE)
    _draw_aucs(last, sizes)
    return style.save_figure(figure, stem)


def _draw_aucs(axis, sizes: Mapping) -> None:
    names = [
        name
        for name in (*_FROM_DATA, _CEILING)
        if any(_aucs(seeds, "type_0", name) for seeds in sizes.values())
    ]
    for number, (size, seeds) in enumerate(sizes.items()):
        aside = 0.2 * (number - (len(sizes) - 1) / 2)
        found = {place + aside: _aucs(seeds, "type_0", name) for place, name in enumerate(names)}
        known = {place: vars(rate_of(values)) for place, values in found.items() if values}
        own = {"label": f"N = {int(size):,}", **plots.look(number)}
        points(axis, list(known), list(known.values()), x=False, **own)
    axis.axvline(0.5, color="grey", linewidth=1, linestyle=":")
    words = {**TOLD, "neighbours": "number of items\none slot away"}
    words[_CEILING] = "another model's\nprobability"
    axis.set_yticks(range(len(names)), [words[name] for name in names], fontsize=8)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="AUC among type_0 items (0.5: a guess)")
    axis.set_title("which items are answered")
    axis.legend(**plots.FURTHER_BELOW, ncols=2)


CLAIM = base.Claim("b", "accuracy_by_k_cutoff", TITLE, PUBLISHED, collect, find, tables, draw)

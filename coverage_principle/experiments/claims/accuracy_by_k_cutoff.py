"""Claim b: accuracy by k-cutoff over training, and how well it predicts answers (2-hop)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from coverage_principle.coverage import neighbours
from coverage_principle.data import Dataset
from coverage_principle.experiments.claims import accuracy_by_data, base
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.reporting.training_figures import accuracy_by_k
from coverage_principle.statistics import auc, mean_difference, rate_of
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

PREDICTORS = {"k_cutoff": "k-cutoff", "type": "type alone"}
PREDICTORS["neighbours"] = "training items that differ in one slot"


def collect(sweep: Sweep, scale: str) -> dict:
    """Which items of partly covered test sets are answered, and what predicts it."""

    def measure(run: RunSettings, _record: Mapping) -> dict:
        history = sweep.history(run)
        by_k = [accuracy_by_k(event["eval"]) for event in history]
        groups = {
            str(k): {"n": n, "accuracy": [at[k][0] for at in by_k]}
            for k, (_, n) in by_k[-1].items()
        }
        steps = [event["step"] for event in history]
        return {"steps": steps, "by_k": groups, "auc": item_aucs(*base.tested(sweep, run))}

    variants = accuracy_by_data.variants(SIZES[scale])
    return {**base.world(scale), "sizes": base.measured(sweep, scale, variants, measure)}


def item_aucs(dataset: Dataset, items: list[dict], correct: np.ndarray) -> dict[str, dict]:
    """How well each predictor ranks answered items above others: ``{items: {predictor: AUC}}``.

    ``items`` are test records with ``k_cutoff``, ``correct`` which of them were answered.
    ``type_0`` compares only unseen compositions of seen facts with each other, ``unseen`` all that
    are not training items.
    """
    kinds = np.array([item["type"] for item in items])
    chosen = {"type_0": kinds == "type_0", "unseen": kinds != "train_inferred"}
    cutoffs = np.array([item.get("k_cutoff") or 0 for item in items])
    scores = {"k_cutoff": cutoffs, "type": chosen["type_0"].astype(int)}
    scores["neighbours"] = neighbours(dataset.test.inputs, dataset.train.inputs)
    return {
        which: {name: auc(score[rows], correct[rows]) for name, score in scores.items()}
        for which, rows in chosen.items()
    }


def find(numbers: Mapping) -> list[str]:
    sentences = []
    for size, seeds in numbers["sizes"].items():
        ks = set.intersection(*(_ks([run]) for run in seeds.values()))
        ends = [
            f"{rate_of([run['by_k'][k]['accuracy'][-1] for run in seeds.values()])} at k-cutoff {k}"
            for k in (min(ks, key=int), max(ks, key=int))
        ]
        sentences.append(
            f"With {int(size):,} training items, accuracy on type_0 items is {' and '.join(ends)} "
            f"(means over {counted(len(seeds), 'seed')})."
        )
    for size, seeds in numbers["sizes"].items():
        found = {name: _aucs(seeds, "type_0", name) for name in PREDICTORS}
        parts = [f"{PREDICTORS[name]} {rate_of(v)}" for name, v in found.items() if v]
        sentences.append(
            f"Among the type_0 items of N = {int(size):,}, the AUC of predicting which are "
            f"answered is: {', '.join(parts)}."
        )
        gap = mean_difference(found["k_cutoff"], found["neighbours"])
        if gap is None:
            continue
        if gap.above_zero:
            words = "The k-cutoff predicts clearly better than counting neighbours"
        elif gap.below_zero:
            words = "Counting neighbours predicts clearly better than the k-cutoff"
        else:
            words = f"The difference between k-cutoff and counting neighbours is {gap}, not clear"
            words += " over these seeds"
        sentences.append(f"{words}.")
    return sentences


def _ks(runs: Iterable[Mapping], fewest: int = _FEWEST) -> set[str]:
    """The k-cutoffs that so many items of some run have."""
    return {k for run in runs for k, group in run["by_k"].items() if group["n"] >= fewest}


def _all_ks(numbers: Mapping, fewest: int = _FEWEST) -> list[str]:
    runs = (run for seeds in numbers["sizes"].values() for run in seeds.values())
    return sorted(_ks(runs, fewest), key=int)


def _aucs(seeds: Mapping, which: str, name: str) -> list[float]:
    found = [run["auc"][which][name] for run in seeds.values()]
    return [value for value in found if value is not None]


def tables(numbers: Mapping) -> list[base.Table]:
    sizes = numbers["sizes"]
    header = [f"N = {int(size):,}" for size in sizes]

    def accuracy(k: str, seeds: Mapping) -> str:
        groups = [run["by_k"][k] for run in seeds.values() if k in run["by_k"]]
        return base.mean_in_table([one["accuracy"][-1] for one in groups], [g["n"] for g in groups])

    by_k = [[k, *(accuracy(k, seeds) for seeds in sizes.values())] for k in _all_ks(numbers, 0)]
    by_predictor = [
        [
            f"{words}, {about}",
            *(base.mean_in_table(_aucs(seeds, which, name)) for seeds in sizes.values()),
        ]
        for which, about in (("type_0", "type_0 items"), ("unseen", "all unseen items"))
        for name, words in PREDICTORS.items()
    ]
    title = "Final type_0 accuracy by k-cutoff, mean over seeds (95 % interval)"
    other = "AUC of predicting which items are answered"
    first = base.Table(title, ["k-cutoff", *header], by_k)
    return [first, base.Table(other, ["predictor", *header], by_predictor)]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """type_0 accuracy over training by k-cutoff, and how well the k-cutoff predicts answers."""
    sizes = numbers["sizes"]
    figure, (*axes, last) = style.new_figure(3.6 * (len(sizes) + 1) + 1, 3.5, 1, len(sizes) + 1)
    ks = _all_ks(numbers)
    colours = dict(zip(ks, plots.shades(len(ks)), strict=True))
    for axis, (size, seeds) in zip(axes, sizes.items(), strict=True):
        runs = list(seeds.values())
        for k in ks:
            if all(k in _ks([run]) for run in runs):
                curve = np.mean([run["by_k"][k]["accuracy"] for run in runs], axis=0)
                axis.plot(runs[0]["steps"], curve, color=colours[k])
        plots.accuracy_axis(axis, f"N = {int(size):,}", numbers["chance"])
    axes[0].set_ylabel("type_0 accuracy, mean over seeds")
    for k in ks:
        plots.label_only(axes[-1], f"k-cutoff {k}", color=colours[k])
    axes[-1].legend(fontsize=6.5, **plots.BESIDE)
    _draw_aucs(last, sizes)
    return style.save_figure(figure, stem)


def _draw_aucs(axis, sizes: Mapping) -> None:
    names = PREDICTORS | {"neighbours": "neighbours in\ntraining"}
    for number, (size, seeds) in enumerate(sizes.items()):
        aside = 0.16 * (number - (len(sizes) - 1) / 2)
        found = {i + aside: _aucs(seeds, "type_0", name) for i, name in enumerate(names)}
        found = {place: values for place, values in found.items() if values}
        own = {"linestyle": "", "label": f"N = {int(size):,}", **plots.look(number)}
        plots.with_interval(axis, list(found), list(found.values()), **own)
    axis.axhline(0.5, color="grey", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(names)), list(names.values()), fontsize=8)
    axis.set(xlim=(-0.5, len(names) - 0.5), ylabel="AUC among type_0 items (0.5: none)")
    axis.set_title("predicting which items are answered")
    axis.legend(fontsize=7)


CLAIM = base.Claim("b", "accuracy_by_k_cutoff", TITLE, PUBLISHED, collect, find, tables, draw)

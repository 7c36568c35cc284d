"""Claim k: which unseen in-domain items does a model answer, predicted from the data alone?

Several models that differ in their seed are trained on each of several worlds, none of which was
used to choose a definition of graded coverage. What is made of the training items alone is
compared with what the other models tell: by right or wrong answers, which is one bit for an item,
and, more strictly, by the probabilities that they give the true answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coverage_principle.experiments.claims import base
from coverage_principle.experiments.claims.predictors import ANSWERERS, PREDICTORS, the, told
from coverage_principle.experiments.claims.scaling import TITLES
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.reporting.predictions import points, shown
from coverage_principle.statistics import mean_of
from simpletransformers.words import counted

TITLE = "Which unseen in-domain items are answered, predicted from the data alone"
PUBLISHED = "coverage tells which items can be answered; no AUC is published."

#: |X| and training items of the worlds of a task: models answer some type_0 items and not others.
WORLDS = base.by_scale(
    {"twohop": {8: 100}, "parallel2hop": {5: 120}},
    {
        "twohop": {20: 1600, 28: 3200},
        "threehop": {9: 1100, 11: 1700},
        "parallel2hop": {9: 470, 12: 800},
        "nontree": {14: 950, 16: 1400},
    },
    *2
    * [
        {
            "twohop": {50: 10_000, 70: 21_000},
            "threehop": {20: 7_000, 30: 22_000},
            "parallel2hop": {20: 5_500, 30: 16_000},
            "nontree": {20: 2_700, 30: 8_700},
        }
    ],
)
#: The worlds' seed, which no world had on which definitions or defaults were chosen.
DATA_SEED = 99
SEEDS = base.by_scale((1, 2), (1, 2, 3), (1, 2, 3), (1, 2, 3), night=(1, 2, 3, 4, 5))
TEST_SIZE = base.by_scale(100, 2000, 2000, 2000)
_TRAIN = base.by_scale({}, {"eval_steps": 250}, {}, {})
_DEEP = base.by_scale({}, {"n_layer": 3}, {}, {})  # a layer for each hop
_NAMES = {**TITLES, "nontree": "non-tree"}

COMPARED = (
    ("support", "k_cutoff"),
    ("learner", "support"),
    ("learner", "another_seed"),
    ("learner", "another_probability"),
    ("learner", "others"),
    ("learner", "others_probability"),
)
_ALL = "all"


def collect(sweep: Sweep, scale: str) -> dict:
    """For each world, what its models answer and how well it was told."""
    runs = {
        (task, size): [_run(scale, task, size, number, seed) for seed in SEEDS[scale]]
        for task, worlds in WORLDS[scale].items()
        for size, number in worlds.items()
    }
    base.finish(sweep, [run for own in runs.values() for run in own])
    worlds = {}
    for (task, size), own in runs.items():
        inside = told(sweep, own, COMPARED)["type_0"]
        worlds[f"{_NAMES[task]}, {size} tokens"] = {"task": _NAMES[task], **inside}
    numbers = {"data_seed": DATA_SEED, "seeds": len(SEEDS[scale]), "worlds": worlds}
    return {**numbers, "over_worlds": over_worlds(worlds)}


def _run(scale: str, task: str, size: int, number: int, seed: int) -> RunSettings:
    data = {"num_tokens": size, "seed": DATA_SEED, "test_size_for_type": TEST_SIZE[scale]}
    train = {**_TRAIN[scale], **(_DEEP[scale] if task == "threehop" else {})}
    label = f"{_NAMES[task]} |X|={size} N={number}"
    return base.one_run(
        *(scale, seed, number, label), task=task, data=data, train=train, **base.TESTED
    )


def over_worlds(worlds: Mapping[str, Mapping]) -> dict[str, dict[str, dict]]:
    """Mean differences of AUCs over the worlds of each task, and over all: ``{task: {pair: ..}}``.

    ``items`` has DeLong's interval, of these very worlds and models; ``worlds`` Student's, whose
    units are worlds, where there are several.
    """
    groups: dict[str, list[Mapping]] = {}
    for world in worlds.values():
        groups.setdefault(world["task"], []).append(world)
    groups[_ALL] = list(worlds.values())
    found: dict[str, dict[str, dict]] = {}
    for task, own in groups.items():
        pairs = dict.fromkeys(pair for world in own for pair in world["differences"])
        found[task] = {}
        for pair in pairs:
            known = [world["differences"][pair] for world in own if pair in world["differences"]]
            student = mean_of([one["mean"] for one in known])
            found[task][pair] = {"items": mean_of_independent(known), "worlds": vars(student)}
    return found


def mean_of_independent(intervals: Sequence[Mapping]) -> dict:
    """The mean of means whose errors are independent and normal, with its interval of like level.

    Half its width is the root of the sum of the squared halves, over their number.

    >>> first, second = {"mean": 5, "low": 2, "high": 8}, {"mean": 0, "low": -4, "high": 4}
    >>> mean_of_independent([first, second])
    {'mean': 2.5, 'low': 0.0, 'high': 5.0}
    """
    n = len(intervals)
    mean = sum(one["mean"] for one in intervals) / n
    half = math.hypot(*((one["high"] - one["low"]) / 2 for one in intervals)) / n
    return {"mean": mean, "low": mean - half, "high": mean + half}


# ------------------------------------------------------------------------------------------- words


def find(numbers: Mapping) -> list[str]:
    worlds, over = numbers["worlds"], numbers["over_worlds"]
    own = list(worlds.values())
    right = {"the models": [run["accuracy"] for world in own for run in world["runs"]]}
    for name in ("matcher", "learner"):
        right[f"the {name}"] = [world["accuracy"][name] for world in own]
    aucs = {name: _known(own, "auc", name) for name in PREDICTORS}
    sentences = []
    if aucs["learner"] and aucs["another_probability"]:
        one, other = (_pairs(aucs[name]) for name in ("learner", "another_probability"))
        sentences.append(
            "Of two unseen items, one that a model answers and one that it does not, the learner, "
            "which knows the training items and each item's true answer, but no model, ranks the "
            f"answered one higher in {one} of the cases, by world, and another model trained on "
            f"the same items in {other} (50% is guessing; this share is the AUC)."
        )
    sentences += [
        "Each predictor but other seeds is made from the training items, and tells of a test item "
        "how much in them speaks for its true answer. "
        "Intervals (95 %) are DeLong's over items, or, where it is said, Student's over worlds.",
        f"In {counted(len(worlds), 'world')} (data seed {numbers['data_seed']}, "
        f"{counted(numbers['seeds'], 'model')} each, {base.span(one['items'] for one in own)} "
        f"type_0 items) the share of type_0 items that are answered rightly is: {_spans(right)}.",
        "The AUC of predicting which of them a model answers is, by world: "
        f"{_spans({PREDICTORS[name]: _means(found) for name, found in aucs.items()})}.",
    ]
    for a, b in COMPARED:
        if mean := over[_ALL].get(f"{a} - {b}"):
            sentences.append(_comparison(a, b, _known(own, "differences", f"{a} - {b}"), mean))
    for name in ("another_seed", "another_probability"):
        pair = f"learner - {name}"
        by_task = {task: means[pair] for task, means in over.items() if pair in means}
        parts = [f"{task} {shown(one['items'])}" for task, one in by_task.items() if task != _ALL]
        if parts:
            words = f"By task, the learner's AUC less that of {the(name)} is"
            sentences.append(f"{words}: {', '.join(parts)}.")
    name, first = next(iter(worlds.items()))
    parts = [f"{PREDICTORS[key]} {shown(one)}" for key, one in first["auc"].items()]
    if parts:
        sentences.append(f"{name}, N = {first['training_items']:,}: {', '.join(parts)}.")
    agreements = [world["agreement"] for world in own]
    wrong = {
        words: _means(_known(agreements, key, "same_wrong")) for key, words in ANSWERERS.items()
    }
    if any(wrong.values()):
        chance = {"at random": [one["chance"] for one in agreements]}
        sentences.append(
            "Where both are wrong, the share of items with the very answer of the model is, by "
            f"world: {_spans({**wrong, **chance})}."
        )
    return sentences


def _pairs(aucs: Sequence[Mapping]) -> str:
    """AUCs of worlds as the share of pairs that are ranked rightly."""
    low, high = (f"{end(_means(aucs)):.0%}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def _comparison(a: str, b: str, known: Sequence[Mapping], mean: Mapping) -> str:
    """In how many worlds one predictor is clearly above another, and by how much on average."""
    above, below = sum(one["low"] > 0 for one in known), sum(one["high"] < 0 for one in known)
    text = (
        f"{the(a).capitalize()} predicts clearly better than {the(b)} in {above} of "
        f"{counted(len(known), 'world')}, clearly worse in {below}; the mean difference of AUCs is "
        f"{shown(mean['items'])}"
    )
    if mean["worlds"]["low"] is not None:
        text += f", with the worlds as units {shown(mean['worlds'])}"
    return f"{text}."


def _known(found: Iterable[Mapping], group: str, name: str) -> list[Mapping]:
    """``one[group][name]`` of those that have it."""
    values = [one.get(group, {}).get(name) for one in found]
    return [value for value in values if value is not None]


def _means(intervals: Iterable[Mapping]) -> list[float]:
    return [one["mean"] for one in intervals]


def _spans(named: Mapping[str, Sequence[float]]) -> str:
    """The least and the largest of the values of each name that has some, in words."""
    return ", ".join(f"{name} {_span(values)}" for name, values in named.items() if values)


def _span(values: Sequence[float]) -> str:
    low, high = (f"{end(values):.3f}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


def tables(numbers: Mapping) -> list[base.Table]:
    worlds = numbers["worlds"]
    aucs = [
        [name, f"{world['items']:,}", *(shown(world["auc"].get(key)) for key in PREDICTORS)]
        for name, world in worlds.items()
    ]
    title = "AUC of predicting which type_0 items are answered (95 %, DeLong's over items)"
    first = base.Table(title, ["world", "items", *PREDICTORS.values()], aucs)
    return [first, _differences(numbers), _agreements(worlds)]


def _differences(numbers: Mapping) -> base.Table:
    pairs = {f"{a} - {b}": f"{PREDICTORS[a]} \N{MINUS SIGN} {PREDICTORS[b]}" for a, b in COMPARED}
    rows = [
        [name, *(shown(world["differences"].get(pair)) for pair in pairs)]
        for name, world in numbers["worlds"].items()
    ]
    for task, means in numbers["over_worlds"].items():
        own = [shown(means[pair]["items"] if pair in means else None) for pair in pairs]
        rows.append([f"mean, {task}", *own])
    known = [numbers["over_worlds"][_ALL].get(pair, {}).get("worlds") for pair in pairs]
    own = [shown(one if one and one["low"] is not None else None) for one in known]
    rows.append(["mean, worlds as units", *own])
    title = "Differences of AUCs (95 %, DeLong's over items; last row Student's over worlds)"
    return base.Table(title, ["world", *pairs.values()], rows)


def _agreements(worlds: Mapping[str, Mapping]) -> base.Table:
    header = ["world", "models right", "matcher right", "learner right"]
    for kind in ("same answer", "same wrong answer"):
        header += [f"{kind}: {words}" for words in ANSWERERS.values()]
    rows = []
    for name, world in worlds.items():
        found = world["agreement"]
        row = [name, _span([run["accuracy"] for run in world["runs"]])]
        row += [f"{world['accuracy'][key]:.3f}" for key in ("matcher", "learner")]
        for kind in ("same", "same_wrong"):
            row += [shown(found[key][kind] if key in found else None) for key in ANSWERERS]
        rows.append([*row, f"{found['chance']:.3f}"])
    title = "Right answers, and answers that are the models'"
    return base.Table(title, [*header, "at random"], rows)


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """A panel for each task: the AUC of each predictor in each of its worlds."""
    by_task: dict[str, dict] = {}
    for name, world in numbers["worlds"].items():
        by_task.setdefault(world["task"], {})[name] = world
    width, names = 2.7 * len(by_task) + 1.3, list(PREDICTORS)
    shared = {"sharex": True, "sharey": True, "squeeze": False}
    figure, axes = style.new_figure(width, 4.2, 1, len(by_task), **shared)
    for axis, (task, worlds) in zip(axes[0], by_task.items(), strict=True):
        for number, (name, world) in enumerate(worlds.items()):
            aside = 0.26 * (number - (len(worlds) - 1) / 2)
            places = [names.index(key) + aside for key in world["auc"]]
            if places:
                label = name.removeprefix(f"{task}, ")
                found = list(world["auc"].values())
                points(axis, places, found, x=False, label=label, **plots.look(number))
        axis.axvline(0.5, color="grey", linewidth=1, linestyle=":")
        axis.set(title=task, xlabel="AUC (0.5: a guess)")
        axis.legend(**plots.BELOW, ncols=2)
    axes[0][0].set_yticks(range(len(names)), list(PREDICTORS.values()))
    axes[0][0].invert_yaxis()
    return style.save_figure(figure, stem)


CLAIM = base.Claim("k", "prediction", TITLE, PUBLISHED, collect, find, tables, draw)

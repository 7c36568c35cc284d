"""Claim i: how much data architectures need, and how much suffices for a pattern matcher.

The matcher (``coverage/matcher.py``) swaps fragments that probably act alike, and does nothing
else; it needs about the least data that pattern matching could do with. How many times as much a
model needs, in the same worlds and for the same accuracy, says how far its architecture is from it.

At cpu and night every architecture has a learning rate of its own: of 0.7e-3, 1.4e-3, 2.8e-3 (of
Mamba, twice these), the one with the most unseen items right in a world that is
not reported (2-hop, 16 tokens, 1,600 items, seed 7). The other scales have one for all. GPT-2 has
dropout, Llama in its attention alone, Mamba none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from coverage_principle.coverage import LearnerSettings, PredictedSettings, SearchSettings
from coverage_principle.coverage.predicted import PredictedData, predicted_name
from coverage_principle.coverage.required import RequiredData, search_name
from coverage_principle.data import sha256
from coverage_principle.errors import InputError
from coverage_principle.experiments.claims import scaling, scaling_words
from coverage_principle.experiments.claims.base import (
    Claim,
    Table,
    by_scale,
    finish,
    side_by_side,
    span,
)
from coverage_principle.experiments.crossing import Trial, fit_growth
from coverage_principle.experiments.settings import OwnModelSettings, RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import Mean, Rate, mean_of_groups, rate_difference
from coverage_principle.tasks import TASKS
from simpletransformers.words import counted

TITLE = "How far architectures are from an ideal pattern matcher"
PUBLISHED = "no comparison with a pattern matcher."

#: |X| and the number of seeds of a scale's worlds, by task; most are claim c's as well, though its
#: GPT-2 learns at 1.4e-3.
_WORLDS = by_scale(
    {"twohop": (4, 1)},
    {"parallel2hop": (9, 2)},
    {"twohop": (20, 3), "parallel2hop": (12, 3), "threehop": (12, 3)},
    {"twohop": (50, 3), "parallel2hop": (30, 3), "threehop": (30, 3)},
    night={"twohop": (18, 3), "parallel2hop": (11, 3), "threehop": (10, 3)},
)
#: The k at which coverage is shown, and the names of the rows that no model has.
_KS = (2, 3)
MATCHER, LEARNER = "pattern matcher", "learner"
_COVERED = {k: f"coverage at k = {k}" for k in _KS}
#: From this share of the training items on that a world can give, few items are left to be asked.
_NEARLY_ALL = 0.95
#: Ticks of the figure's axis, as far as it goes.
_TICKS = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)


@dataclass(frozen=True)
class Model:
    """A row of the table: flags of its training, on top of the scale's own.

    ``small`` are those at the scales cpu and night alone, where learning rates were chosen.
    ``seeds`` are the most that are tried in a world, by scale, where a model is slow.
    """

    train: Mapping[str, object]
    small: Mapping[str, object] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)


_LOW, _MIDDLE, _HIGH = ({"learning_rate": rate} for rate in (1.4e-3, 2.8e-3, 5.6e-3))
#: By the name of the row. A Llama's MLP has three matrices, so it has the parameters of a GPT-2
#: with less width inside. Mamba has half of them; as many (256 dimensions, not widened inside) were
#: no better. Its step takes seven times as long as a GPT-2's on a CPU.
MODELS = {
    "GPT-2": Model({}, _MIDDLE),
    "GPT-2, 4 layers": Model({"n_layer": 4}, _MIDDLE),
    "GPT-2, 1 block looped 4 times": Model({"n_layer": 1, "loops": 4}, _MIDDLE),
    "Llama": Model({"model_type": "llama"}, {**_LOW, "n_inner": 344}),
    "Mamba": Model({"model_type": "mamba"}, _HIGH, seeds={"cpu": 1, "night": 2}),
}


def title(task: str, size: int) -> str:
    """A world in tables and sentences, whatever its seed."""
    return f"{scaling.TITLES[task]}, {size} tokens"


def own_models(own: OwnModelSettings) -> dict[str, Model]:
    """The models of a user's files, by the files' stems.

    ``InputError`` for a file that is not there, or whose stem another row has.
    """
    rate = {} if own.learning_rate is None else {"learning_rate": own.learning_rate}
    taken, found = {MATCHER, LEARNER, *_COVERED.values(), *MODELS}, {}
    for file in map(Path, own.model_file):
        if not file.is_file():
            raise InputError(f"`model_file` {file} is not a file")
        if file.stem in taken | set(found):
            raise InputError(f"`model_file` {file}: another row is named {file.stem}; rename it")
        found[file.stem] = Model({"model_file": str(file.resolve()), **rate})
    return found


def planned(scale: str, models: Mapping[str, Model]) -> dict[tuple[str, str], scaling.Series]:
    """What is searched for each model and task: one |X|, and its seeds."""
    found = {}
    for name, model in models.items():
        train = {**model.train, **(model.small if scale in ("cpu", "night") else {})}
        for task, (size, seeds) in _WORLDS[scale].items():
            plan = {task: {scale: {size: min(seeds, model.seeds.get(scale, seeds))}}}
            found[name, task] = scaling.one_series(task, scale, plan, train=train, model=name)
    return found


def first_trial(series: scaling.Series, scale: str) -> RunSettings:
    """The run with which the first search of a series begins."""
    size, seed = series.worlds[0]
    return scaling.trial(series, scale, size, seed, round(scaling.first_guess(series, size)))


def collect(sweep: Sweep, scale: str, own: OwnModelSettings | None = None) -> dict:
    """A search for each model, world and seed, and what pattern matching needs there."""
    files = own_models(own or OwnModelSettings())
    series = planned(scale, MODELS | files)
    # A model that cannot be trained is told of before anything else is run.
    finish(sweep, [first_trial(one, scale) for (name, _), one in series.items() if name in files])
    wanted = [(*key, *world) for key, one in series.items() for world in one.worlds]
    wanted.reverse()  # the slowest model first: at the end no long search is left alone

    worlds = {
        title(task, size): (task, size, seeds) for task, (size, seeds) in _WORLDS[scale].items()
    }
    calls = [partial(pattern_matching, sweep.root, *world) for world in worlds.values()]
    matched = dict(zip(worlds, side_by_side(calls), strict=True))
    calls = [
        partial(scaling.search, sweep, scale, series[name, task], *at) for name, task, *at in wanted
    ]
    searched = side_by_side(calls)
    found = {point: one.result() for point, one in zip(wanted, searched, strict=True)}
    models: dict[str, dict] = {}
    for (name, task), one in series.items():
        ((size, _),) = one.plan.items()
        searches = {str(seed): found[name, task, size, seed] for _, seed in one.worlds}
        models.setdefault(name, {"at": {}})["at"][title(task, size)] = searches
    for name, model in models.items():
        if name in files:
            model["sha256"] = sha256(files[name].train["model_file"])
        model |= _about(sweep, model)
    patterns = {name: one.result() for name, one in matched.items()}
    return {
        **{"accuracy": scaling.ACCURACY, "epochs": scaling.EPOCHS},
        "max_steps": max(model.pop("max_steps") for model in models.values()),
        **{"matched": patterns, "models": models},
        "rows": compare(patterns, models, scaling.ACCURACY),
    }


def pattern_matching(root: Path, task: str, size: int, seeds: int) -> dict[str, dict]:
    """The N of matcher, learner and coverage in the worlds of a task, by name and seed.

    None where not even all possible training compositions are enough.
    """
    graph, numbers = TASKS[task], tuple(range(scaling.SEED, scaling.SEED + seeds))
    share = {"accuracy": scaling.ACCURACY, "sample": 1000}
    asked = PredictedSettings(num_tokens=(size,), seeds=numbers, **share)
    file = root / f"learned_{predicted_name(graph, asked)}.json"  # claim c's as well
    predicted = PredictedData(graph, asked, LearnerSettings(), file)
    covering = SearchSettings(num_tokens=(size,), seeds=numbers, k=_KS, share=scaling.ACCURACY)
    file = root / f"required_{search_name(graph, covering)}.json"
    required = RequiredData(graph, covering, file)
    found: dict[str, dict] = {name: {} for name in (MATCHER, LEARNER, *_COVERED.values())}
    for seed in numbers:
        by_predictor, by_k = predicted.find(size, seed), required.find(size, seed)
        found[MATCHER][str(seed)] = by_predictor["matcher"]
        found[LEARNER][str(seed)] = by_predictor["learner"]
        for k, name in _COVERED.items():
            found[name][str(seed)] = by_k[k]
    return found


def _trials(model: Mapping) -> Iterator[Mapping]:
    for searches in model["at"].values():
        for search in searches.values():
            yield from search["trials"].values()


def _about(sweep: Sweep, model: Mapping) -> dict:
    """What the records of a model's runs say: parameters in each world, rate, seconds."""
    parameters = {}
    records = [sweep.ledger.records[trial["run"]] for trial in _trials(model)]
    for world, searches in model["at"].items():
        run = next(iter(next(iter(searches.values()))["trials"].values()))["run"]
        parameters[world] = sweep.ledger.records[run]["parameters"]
    train = records[0]["settings"]["train"]
    seconds = round(sum(record["seconds"]["train"] for record in records))
    rates = {"learning_rate": train["learning_rate"], "max_steps": train["max_steps"]}
    return {"parameters": parameters, **rates, "train_seconds": seconds}


def compare(matched: Mapping, models: Mapping, accuracy: float) -> dict[str, dict]:
    """The N that every row needs, and how many times the matcher's; lower bounds come last.

    ``amounts`` and ``times`` have the geometric means over seeds by world, ``amount`` and ``whole``
    those over worlds, each as ``{"mean", "low", "high"}`` with 95 % bounds (None where there is
    one seed a world). A model's come of a fit to all its trials (``crossing``); ``least`` names the
    worlds of which they tell only that more is needed than the largest N that was tried, so that
    this is what counts there. Worlds in
    which the matcher has no N do not count; rows without any others, or without models and with a
    world in which no N is enough, are left out.

    In simulations (climbs in 3 worlds with 5 seeds; spreads of 0.08 between seeds and 0.07 of the
    matcher's N) the intervals of ``times`` held the truth in 95 % of the cases, ``whole`` in 94 %.
    """
    unit = {world: by_name[MATCHER] for world, by_name in matched.items()}
    rows: dict[str, dict] = {}
    for name in (MATCHER, LEARNER, *_COVERED.values()):
        amounts, times = {}, {}
        pairs = {
            world: [
                (n, unit[world][seed]) for seed, n in by_name[name].items() if unit[world][seed]
            ]
            for world, by_name in matched.items()
        }
        if not all(n for found in pairs.values() for n, _ in found):
            continue
        for world, found in pairs.items():
            if found:
                amounts[world] = [math.log(n) for n, _ in found]
                times[world] = [math.log(n / other) for n, other in found]
        if times:
            sides = (mean_of_groups(list(side.values())) for side in (amounts, times))
            amounts, times = (dict(zip(times, means, strict=True)) for _, means in sides)
            rows[name] = {"amounts": amounts, "times": times, "least": []}
    for name, model in models.items():
        trials = [
            (world, seed, int(n), one["accuracy"], one["items"])
            for world, by_seed in model["at"].items()
            for seed, search in by_seed.items()
            for n, one in search["trials"].items()
            if unit[world][seed]
        ]
        if trials:
            ones = {world: dict.fromkeys(by_seed, 1) for world, by_seed in unit.items()}
            (amounts, least), (times, _) = (_fitted(trials, by, accuracy) for by in (ones, unit))
            rows[name] = {"amounts": amounts, "times": times, "least": least}
    for row in rows.values():
        row |= {"whole": _power(_mean(row["times"])), "amount": _power(_mean(row["amounts"]))}
        for side in ("amounts", "times"):
            row[side] = {world: _power(one) for world, one in row[side].items()}
    return dict(
        sorted(rows.items(), key=lambda row: (bool(row[1]["least"]), row[1]["whole"]["mean"]))
    )


def _fitted(
    trials: Sequence[tuple], unit: Mapping, accuracy: float
) -> tuple[dict[str, Mean], list[str]]:
    """The logarithm of N over its unit that is required in each world: the mean over seeds.

    Where the trials of a world bound it from one side alone, of the largest N of each seed, or of
    the smallest where every one was enough; beside it, the worlds where more is needed.
    """
    logs: dict[str, dict[str, list[float]]] = {}
    given: list[Trial] = []
    for world, seed, amount, share, items in trials:
        times = amount / unit[world][seed]
        logs.setdefault(world, {}).setdefault(seed, []).append(math.log(times))
        number = list(logs).index(world) + 1
        given.append(Trial(number, f"{world}/{seed}", times, share, items))
    fit, found, more = fit_growth(given, accuracy), {}, []
    for number, (world, by_seed) in enumerate(logs.items(), start=1):
        if fit and number in fit.sizes:
            ends = [x and math.log(x) for x in fit.sizes[number]]
            found[world] = Mean(*ends, len(by_seed))
            continue
        short = all(one.accuracy < accuracy for one in given if one.size == number)
        more += [world] if short else []
        tried = [(max if short else min)(own) for own in by_seed.values()]
        found[world] = Mean(float(np.mean(tried)), None, None, len(tried))
    return found, more


def _mean(logs: Mapping[str, Mean]) -> Mean:
    """The mean over worlds, whose errors are independent, with the interval that theirs give."""
    means = list(logs.values())
    middle, count = sum(one.mean for one in means) / len(means), sum(one.n for one in means)
    if any(one.low is None for one in means):
        return Mean(middle, None, None, count)
    half = math.hypot(*(one.high - one.mean for one in means)) / len(means)
    return Mean(middle, middle - half, middle + half, count)


def _power(log: Mean) -> dict[str, float | None]:
    """Of a logarithm, what it is that of, to four digits."""
    ends = {"mean": log.mean, "low": log.low, "high": log.high}
    return {name: None if x is None else float(f"{math.exp(x):.4g}") for name, x in ends.items()}


def _shown(value: Mapping, least: object, form: str = ".2f") -> str:
    shown = f"{'> ' if least else ''}{value['mean']:{form}}"
    if value["low"] in (None, value["high"]):  # there is none, or the row is compared with itself
        return shown
    return f"{shown} ({value['low']:{form}} to {value['high']:{form}})"


def _times(numbers: Mapping, name: str) -> str:
    """How many times the matcher's data a row needs, in words."""
    row = numbers["rows"][name]
    return _shown(row["whole"], row["least"])


def find(numbers: Mapping) -> list[str]:
    """How far the best architecture is from the matcher, then every other, and what is open."""
    rows = numbers["rows"]
    models = {name: numbers["models"][name] for name in rows if name in numbers["models"]}
    if not models:
        return ["In no world does the pattern matcher reach the accuracy: nothing is compared."]
    best, *others = models
    plan = [
        f"{world} ({counted(len(by_seed), 'seed')})"
        for world, by_seed in models[best]["at"].items()
    ]
    items = max(trial["items"] for model in models.values() for trial in _trials(model))
    sentences = [
        f"The best of these architectures, {best}, needs {_times(numbers, best)} times the data "
        "that suffices for a pattern matcher.",
        f"That is a geometric mean over {', '.join(plan)}, for {numbers['accuracy']:.0%} of the "
        f"unseen in-domain items, of which {counted(items, 'item')} are asked at most; its "
        "interval (95 %) is that of a fit to all trials.",
    ]
    if others:
        words = ", ".join(f"{name} {_times(numbers, name)}" for name in others)
        sentences.append(f"The others need, times the matcher's data: {words}.")
    sentences += _against(rows, best, others)
    if names := [name for name in rows if name in (LEARNER, *_COVERED.values())]:
        words = ", ".join(f"{name} {_times(numbers, name)}" for name in names)
        sentences.append(f"Without any network, times the matcher's data: {words}.")
    if lacking := [name for name in (LEARNER, *_COVERED.values()) if name not in rows]:
        every = "not even every possible training composition is enough"
        sentences.append(f"Not compared, as in some world {every}: {', '.join(lacking)}.")
    return sentences + _open(numbers, models)


def _against(rows: Mapping, best: str, others: Sequence[str]) -> list[str]:
    """Which of the others need clearly more than the best one.

    N itself is compared, which the matcher's errors do not widen. Errors are taken as independent;
    as worlds are the same, intervals are rather too wide.
    """
    whole = {name: rows[name]["amount"] for name in (best, *others)}
    known = {name: one for name, one in whole.items() if one["low"] is not None}
    if best not in known or len(known) < 2:
        return []
    logs = {name: Rate(*map(math.log, one.values()), 1) for name, one in known.items()}
    more: list[str] = []
    like: list[str] = []
    for name in list(known)[1:]:
        gap = rate_difference(logs[name], logs[best])
        times = _shown(_power(gap), False)
        (more if gap.above_zero else like).append(f"{name} {times}")
    found = []
    if more:
        found.append(f"Clearly more than {best} need, times its data: {', '.join(more)}.")
    if like:
        found.append(f"Not clearly more than {best} need: {', '.join(like)}.")
    return found


def _open(numbers: Mapping, models: Mapping) -> list[str]:
    """Models that do not learn, searches that found no N, trials that were cut off."""
    found = []
    for name, model in models.items():
        searches = scaling.searches(model)
        missing = sum(one["required"] is None for one in searches)
        some = f"in {missing} of {counted(len(searches), 'search', 'searches')} no N was enough"
        if not any(trial["train_accuracy"] >= numbers["accuracy"] for trial in _trials(model)):
            found.append(f"{name} does not even learn its training items in any trial.")
        elif numbers["rows"][name]["least"]:
            found.append(f"{name}: {some}, so that its factor is a lower bound.")
        elif missing:
            found.append(f"{name}: {some} of those that leave something unseen.")
    found += _few_left(models)
    return found + scaling_words.cut_off({**numbers, "series": numbers["models"]}, place="{}")


def _few_left(models: Mapping[str, Mapping]) -> list[str]:
    """The searches whose N is nearly all that a world has, so that few items could be asked."""
    places = []
    for name, model in models.items():
        for world, by_seed in model["at"].items():
            ends = [
                one["trials"][str(one["required"])]["items"]
                for one in by_seed.values()
                if one["required"] and one["required"] >= _NEARLY_ALL * one["most"]
            ]
            if ends:
                seeds = f"{len(ends)} of {counted(len(by_seed), 'seed')}"
                places.append(f"{name} in {world} ({seeds}; {span(ends)} items left)")
    if not places:
        return []
    return [
        f"These get there only with {_NEARLY_ALL:.0%} or more of the training items that their "
        f"world can give, so that few are left to be asked: {', '.join(places)}."
    ]


def tables(numbers: Mapping) -> list[Table]:
    """A row for matcher, learner, coverage and each model, from small to large."""
    rows, worlds = [], list(numbers["matched"])
    for name, row in numbers["rows"].items():
        parameters, rate, minutes = "-", "-", "-"
        if model := numbers["models"].get(name):
            sizes = sorted({*model["parameters"].values()})
            parameters = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
            rate = f"{model['learning_rate']:g}"
            minutes = f"{model['train_seconds'] / 60:.0f}"
        amounts = [
            _shown(row["amounts"][world], world in row["least"], ",.0f")
            if world in row["amounts"]
            else "-"
            for world in worlds
        ]
        rows.append([name, parameters, rate, *amounts, _times(numbers, name), minutes])
    header = ["", "parameters", "learning rate", *worlds, "times the matcher's", "minutes"]
    text = (
        f"N from which {numbers['accuracy']:.0%} of the unseen in-domain items are right, and how "
        "many times the matcher's it is: geometric means over seeds, then worlds; 95 % intervals "
        "of a fit to all trials of a model (log odds of accuracy against log N), one of N and one "
        "of N over the matcher's, which need not be each other's quotient; else Student's t over "
        "seeds within worlds. Minutes: of training, all trials together. At cpu and night the "
        "learning rate is the best of three in a world that is not shown"
    )
    return [Table(text, header, rows)]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """The factor over the matcher by row: the mean over worlds, and each of several worlds."""
    rows, worlds = numbers["rows"], list(numbers["matched"])
    figure, axis = style.new_figure(8, 1.7 + 0.45 * len(rows))
    axis.axvline(1, color="grey", linewidth=1, linestyle=":", zorder=0)
    axis.set_title(f"data for {numbers['accuracy']:.0%} right: models (black), others (grey)")
    several = len(worlds) > 1
    for number, world in enumerate(worlds if several else ()):
        of_world = [(y, one["times"].get(world)) for y, one in enumerate(rows.values())]
        look = {**plots.look(number), "markersize": 4, "linewidth": 1}
        _points(axis, of_world, 0.14 * number - 0.3, label=world, **look)
    look = {"color": "black", "marker": "D", "markersize": 6, "linewidth": 2}
    whole = [(y, one["whole"]) for y, one in enumerate(rows.values())]
    label = f"{'mean of worlds' if several else worlds[0]}, 95 % interval"
    _points(axis, whole, 0.14 * len(worlds) - 0.24 if several else 0, label=label, **look)
    names = [f"{name} (at least)" if one["least"] else name for name, one in rows.items()]
    axis.set_yticks(range(len(rows)), names)
    for label, name in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color("black" if name in numbers["models"] else "grey")
    axis.set(xscale="log", ylim=(len(rows) - 0.4, -0.6))
    axis.set_xlabel("training data needed, times what suffices for the pattern matcher")
    low, high = axis.get_xlim()
    ticks = [x for x in _TICKS if low <= x <= high]
    axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axis.minorticks_off()
    axis.legend(ncols=4, **{**plots.BELOW, "fontsize": 8})
    return style.save_figure(figure, stem)


def _points(axis, points: Sequence[tuple[int, Mapping | None]], shift: float, **look) -> None:
    """Means with their intervals, as far as there are any, each in its row."""
    plots.label_only(axis, look.pop("label"), linestyle="", **look)
    for y, one in points:
        if one:
            low, high = (one["mean"] if one[end] is None else one[end] for end in ("low", "high"))
            ends = [[one["mean"] - low], [high - one["mean"]]]
            axis.errorbar([one["mean"]], [y + shift], xerr=ends, linestyle="", **look)


CLAIM = Claim("i", "architectures", TITLE, PUBLISHED, collect, find, tables, draw)

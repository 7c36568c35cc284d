"""What claims c, d and e share: how the data that a model needs grows with the number of tokens.

For each series (a task and a model), |X| and seed the smallest N that generalises is searched for;
a power law in |X| is fitted to what was found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coverage_principle.coverage import SearchSettings
from coverage_principle.coverage.required import GrowingWorld, RequiredData, search_name
from coverage_principle.data import WorldSettings, generate_world
from coverage_principle.experiments.claims.base import Claim, Table, by_scale, finished, training
from coverage_principle.experiments.crossing import Trial, fit_growth
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.reporting.required_data import summarise
from coverage_principle.statistics import power_law_through
from coverage_principle.tasks import TASKS
from simpletransformers.words import counted

#: Seeds of worlds and models count up from this one.
SEED = 42
#: The published rule: this accuracy on type_0, within so many epochs after the training items' own.
ACCURACY, EPOCHS = 0.99, 100
#: From here to ``ACCURACY``, what a trial answers tells how far from enough its N is.
TELLING = 0.5
#: The largest share of the possible training compositions that is tried: some must stay unseen.
_MOST = 0.95
#: Trials of a world stand on a grid of N: by how much it grows, and how many in a row end it.
_STRIDE = by_scale(2, 1.25, 1.25, 1.25)
_IN_A_ROW = by_scale(1, 1, 2, 2, night=2)
#: A grid whose trials go from too few to enough with none that tells is made finer to this ratio.
_FINEST = 1.07
#: The grid's first N grows with this power of |X|, without and with chain of thought: rather too
#: few items, as such trials are short.
_GUESS = {False: 2.2, True: 1.9}
#: The share of items that coverage alone asks for, and at which k.
_COVERED, _KS = 0.99, (1, 2, 3, 4)
#: Test items of each type.
_TEST_SIZE = by_scale(300, 1000, 2000, 2000)
#: Of so few training items not even one unseen item may be made up.
_FEW = 100
#: How the searches of a scale train, beside what ``training`` says.
_TRAIN: dict[str, dict[str, object]] = {
    "tiny": {"max_steps": 200},
    "cpu": {"train_batch_size": 128, "max_steps": 20000, "eval_steps": 50, "warmup_steps": 100},
    "gpu": {"train_batch_size": 2048, "max_steps": 20000, "eval_steps": 100, "warmup_steps": 500},
    "paper": {},
}
_TRAIN["cpu"] |= {"learning_rate": 1.4e-3, "weight_decay": 0.5}
_TRAIN["night"] = {**_TRAIN["cpu"], "max_steps": 60000}
#: Three steps one after the other need three layers, where the scale's own model has two.
_DEEP = by_scale({"n_layer": 3}, {"n_layer": 3}, {}, {})

#: How many seeds, from 42 on, at each size |X| of each task.
Plan = Mapping[int, int]
PAPER_SIZES = dict.fromkeys((30, 50, 70, 100, 150, 200), 3)
_TINY = {3: 1, 4: 1}
_SIZES = {
    "twohop": by_scale(
        _TINY,
        {16: 3, 20: 3, 28: 2},
        dict.fromkeys((20, 30, 50, 70), 3),
        PAPER_SIZES,
        night={18: 5, 25: 5, 36: 5, 50: 3},
    ),
    "parallel2hop": by_scale(
        _TINY,
        {7: 3, 9: 3, 12: 3},
        dict.fromkeys((12, 20, 30, 40), 3),
        dict.fromkeys((20, 30, 50, 70, 100), 3),
        night={8: 6, 11: 6, 16: 6, 22: 5},
    ),
    "threehop": by_scale(
        _TINY,
        {8: 2, 9: 2, 11: 2},
        dict.fromkeys((12, 20, 30, 40), 3),
        dict.fromkeys((20, 30, 50, 70, 100), 3),
        night={8: 5, 10: 5, 12: 5, 16: 5},
    ),
}
#: The first N of the grid at 10 tokens.
_STARTS = {
    "twohop": by_scale(150, 480, 570, 450),
    "parallel2hop": by_scale(400, 900, 1700, 2200),
    "threehop": by_scale(400, 1700, 3400, 4400),
}
#: The generator of a task where it has another name, and how tasks are called in figures.
_SCRIPTS = {"parallel2hop": "parallel-twohop"}
TITLES = {"twohop": "2-hop", "parallel2hop": "parallel 2-hop"}
TITLES |= {"threehop": "3-hop", "fivehop": "5-hop"}


@dataclass(frozen=True)
class Series:
    """One line of the figure: a task and a model, and the worlds that are measured.

    ``plan`` has the number of seeds by size |X|. ``start`` is the N of the grid's first trial at 10
    tokens; ``train`` are flags of the training (the architecture's among them), on top of the
    scale's own; ``published`` is the exponent that the paper reports, if it does.
    """

    task: str
    plan: Plan
    start: float
    train: Mapping[str, object] = field(default_factory=dict)
    cot: bool = False
    published: float | None = None

    @property
    def score(self) -> str:
        """What is to be reached: with bridges, what the model writes by itself has to be right."""
        return "free_exact_match" if self.cot else "answer_accuracy"

    @property
    def worlds(self) -> list[tuple[int, int]]:
        """``(|X|, seed)`` of every world."""
        return [(size, SEED + i) for size, count in self.plan.items() for i in range(count)]


def one_series(
    task: str, scale: str, plans: Mapping = _SIZES, starts: Mapping = _STARTS, **more: Any
) -> Series:
    """The series of a task at the sizes of a scale."""
    train = {**(_DEEP[scale] if task == "threehop" else {}), **more.pop("train", {})}
    return Series(task, plans[task][scale], starts[task][scale], train, **more)


def first_guess(series: Series, size: int) -> float:
    """The N that the grid of a size is anchored at, the same for all its seeds."""
    return series.start * (size / 10) ** _GUESS[series.cot]


def trial(series: Series, scale: str, size: int, seed: int, amount: int) -> RunSettings:
    """The training that tells whether ``amount`` items are enough."""
    data = {"num_tokens": size, "max_train_data_num": amount, "atomic_facts": "none"}
    data |= {"test_size_for_type": _TEST_SIZE[scale], **({"cot": True} if series.cot else {})}
    rule = {"stop_when": f"type_0:{series.score}>={ACCURACY}", "patience_epochs_after_fit": EPOCHS}
    rule |= {"stop_on_test": True, "test_types": ["train_inferred", "type_0"]}  # what it reads
    train = training(scale, **{**_TRAIN[scale], **series.train, **rule})
    task = _SCRIPTS.get(series.task, series.task)
    settings = {"task": task, "seed": seed, "data": data, "train": train}
    label = f"{series.task}{' CoT' if series.cot else ''} |X|={size} N={amount} seed={seed}"
    return RunSettings.resolve(settings, label)


def search(sweep: Sweep, scale: str, series: Series, size: int, seed: int) -> dict:
    """The trials of one world around the N from which its model generalises.

    ``trials`` maps N (in digits, ascending) to the ``run``, how many type_0 ``items`` were asked,
    the ``accuracy`` on these and on training items (``train_accuracy``), ``steps`` and ``epochs``.
    A trial whose accuracy is ``ACCURACY`` at least was ended there. ``required`` is the smallest N
    that was enough and above which none was too few, None if there is none; ``most`` is the largest
    that may be tried.
    """
    world = GrowingWorld(TASKS[series.task], WorldSettings(size, 1, seed=seed))
    most, trials = int(_MOST * world.trainable), {}

    def accuracy(amount: int) -> float:
        if amount <= _FEW and not _has_unseen(series.task, size, seed, amount):
            return 0.0  # nothing to generalise to
        run = trial(series, scale, size, seed, amount)
        record = finished(sweep.submit(run), run.label)
        asked, fitted = (record["scores"][group] for group in ("type_0", "train_inferred"))
        trials[amount] = {
            **{"run": run.id, "items": asked["n"], "accuracy": asked[series.score]},
            **{"train_accuracy": fitted["answer_accuracy"]},
            **{name: record[name] for name in ("steps", "epochs")},
        }
        return trials[amount]["accuracy"]

    how = {"stride": _STRIDE[scale], "in_a_row": _IN_A_ROW[scale]}
    required = climb(accuracy, first_guess(series, size), most, **how)
    by_amount = {str(n): trials[n] for n in sorted(trials)}
    return {"required": required, "most": most, "trials": by_amount}


def climb(
    accuracy: Callable[[int], float], start: float, most: int, *, stride: float, in_a_row: int
) -> int | None:
    """Measure ``accuracy(N)`` where it crosses ``ACCURACY``; the N from which it is reached.

    N is ``start * stride**j``, from 2 to ``most``. From ``start`` it goes down until a trial fails,
    then up until ``in_a_row`` trials in a row reach ``ACCURACY``. Unlike a bisection it does not
    hang on a single trial, and worlds of a size are tried at the same N. If no failed trial has
    ``TELLING`` or more, what lies between the last that failed and the next is tried as well.
    """

    def at(place: int) -> int:
        return min(most, max(2, round(start * stride**place)))

    def reached(amount: int) -> bool:
        if amount not in tried:
            tried[amount] = accuracy(amount)
        return tried[amount] >= ACCURACY

    tried: dict[int, float] = {}
    place = 0
    while reached(at(place)) and at(place) > 2:
        place -= 1
    row = 0
    while row < in_a_row and at(place) < most:
        place += 1
        row = row + 1 if reached(at(place)) else 0
    while True:
        low = max((n for n, value in tried.items() if value < ACCURACY), default=None)
        enough = min((n for n in tried if low is None or n > low), default=None)
        told = any(TELLING <= value < ACCURACY for value in tried.values())
        if told or low is None or enough is None or enough <= _FINEST * low + 1:
            return enough
        reached(round(math.sqrt(low * enough)))


def _has_unseen(task: str, size: int, seed: int, amount: int) -> bool:
    """Whether a data set of ``amount`` training items has any type_0 item to test."""
    settings = WorldSettings(size, amount, test_size_for_type=1, seed=seed)
    return len(generate_world(TASKS[task], settings).test["type_0"]) > 0


def collect(plan: Callable[[str], dict[str, Series]], sweep: Sweep, scale: str) -> dict:
    """Every series at every size and seed, side by side as far as the launcher allows."""
    series = plan(scale)
    wanted = [(name, *world) for name, one in series.items() for world in one.worlds]
    wanted.sort(key=lambda point: -point[1])  # at the end no long search is left alone

    def one_search(point: tuple[str, int, int]) -> dict:
        return search(sweep, scale, series[point[0]], *point[1:])

    with ThreadPoolExecutor(len(wanted), thread_name_prefix="search") as pool:
        found = dict(zip(wanted, pool.map(one_search, wanted), strict=True))
    by_series = {}
    for name, one in series.items():
        at: dict[str, dict[str, dict]] = {str(size): {} for size in one.plan}
        for size, seed in one.worlds:
            at[str(size)][str(seed)] = found[name, size, seed]
        fit = power_law_through(requirements(at))
        covered = None if one.cot else TITLES[one.task]  # with what its amounts are compared
        by_series[name] = {"published": one.published, "coverage": covered, "at": at, "fit": fit}
    return {
        "rule": f"type_0 >= {ACCURACY} within {EPOCHS} epochs after train_inferred >= 0.99",
        "accuracy": ACCURACY,
        "max_steps": training(scale, **_TRAIN[scale])["max_steps"],
        **{"stride": _STRIDE[scale], "series": by_series},
        "coverage": _coverage_side(series, sweep.root),
    }


def growth(at: Mapping[str, Mapping[str, Mapping]]) -> dict | None:
    """What the trials of searches say, by |X| and seed: ``fit_growth`` as JSON has it, or None.

    ``power`` (None with too few worlds) has ``exponent``, ``low``, ``high`` and ``factor``;
    ``sizes`` maps |X| to the N required there and its bounds; ``worlds`` |X| and seed to theirs.
    """
    trials = [
        Trial(int(size), f"{size}/{seed}", int(n), one["accuracy"], one["items"])
        for size, seeds in at.items()
        for seed, found in seeds.items()
        for n, one in found["trials"].items()
    ]
    fit = fit_growth(trials, ACCURACY)
    if fit is None:
        return None
    found = asdict(fit)
    worlds: dict[str, dict[str, float]] = {str(size): {} for size in fit.sizes}
    for name, amount in fit.worlds.items():
        size, seed = name.split("/")
        worlds[size][seed] = round(amount, 1)
    sizes = {str(size): list(ends) for size, ends in fit.sizes.items()}
    return found | {"sizes": sizes, "worlds": worlds}


def requirements(at: Mapping[str, Mapping[str, Mapping]]) -> list[tuple[int, int]]:
    """``(|X|, required N)`` of every size and seed at which an N was enough."""
    every = [(int(size), one["required"]) for size, seeds in at.items() for one in seeds.values()]
    return [(size, required) for size, required in every if required]


def _coverage_side(series: Mapping[str, Series], root: Path) -> dict:
    """What k-coverage alone asks for at the same sizes: by task (direct answers) and k.

    The fragments of all intermediate values count.
    """
    found: dict[str, dict] = {}
    settings = SearchSettings(k=_KS, share=_COVERED)
    for one in series.values():
        title = TITLES[one.task]
        if one.cot or title in found:
            continue
        graph = TASKS[one.task]
        file = root / f"required_{search_name(graph, settings)}.json"
        data = RequiredData(graph, settings, file)
        for size, seed in one.worlds:
            data.find(size, seed)
        summary, by_k = summarise(data), {}
        for k in map(str, _KS):
            seeds_of = {n: at[k]["by_seed"].values() for n, at in summary["required"].items()}
            reached = {n: list(filter(None, every)) for n, every in seeds_of.items()}
            means = {n: float(np.mean(amounts)) for n, amounts in reached.items() if amounts}
            by_k[k] = {"required": means, "fit": summary["fits"].get(k)}
        found[title] = {"share": _COVERED, "sizes": list(map(str, one.plan)), "k": by_k}
    return found


def find(numbers: Mapping) -> list[str]:
    """The exponent of each series, what is left open, and what coverage alone asks for."""
    sentences = []
    for name, series in numbers["series"].items():
        fit, all_of_it = series["fit"], searches(series)
        missing = sum(search["required"] is None for search in all_of_it)
        some = f"{missing} of {counted(len(all_of_it), 'search', 'searches')}"
        none = "no N below the number of compositions was enough"
        if fit is None:
            sentences.append(f"{name}: no exponent, since in {some} {none}.")
            continue
        interval = f"95 % interval {fit['low']:.2f} to {fit['high']:.2f}, R^2 {fit['r2']:.3f}"
        words = f"{name}: required N grows as |X|^{fit['exponent']:.2f} ({interval})"
        if (published := series["published"]) is not None:
            where = "within" if fit["low"] <= published <= fit["high"] else "outside of"
            words += f"; the published {published:.2f} lies {where} it"
        if missing:
            words += f"; left out: {some}, in which {none}"
        sentences.append(words + ".")
    sentences += cut_off(numbers)
    for name, side in numbers["coverage"].items():
        fits = [(k, entry["fit"]) for k, entry in side["k"].items() if entry["fit"]]
        if parts := [f"{fit['exponent']:.2f} at k = {k}" for k, fit in fits]:
            sentences.append(
                f"For the {name} task, covering {side['share']:.0%} of the unseen in-domain items "
                f"at these sizes asks for exponents of {', '.join(parts)}."
            )
    return sentences + against_coverage(numbers)


def against_coverage(numbers: Mapping) -> list[str]:
    """How many times the N that coverage asks for models needed, at the k that is nearest to all.

    Means over seeds are compared, at each size of each series that answers directly and at which
    every search found an N.
    """
    ratios: dict[str, list[float]] = {}
    names: dict[str, None] = {}
    for series in numbers["series"].values():
        title = series.get("coverage")
        side = numbers["coverage"].get(title, {"k": {}})
        for size, seeds in series["at"].items():
            needed = [search["required"] for search in seeds.values()]
            for k, entry in side["k"].items():
                if all(needed) and size in entry["required"]:
                    ratios.setdefault(k, []).append(np.mean(needed) / entry["required"][size])
                    names[title] = None
    if not ratios:
        return []
    nearest = min(ratios, key=lambda k: np.abs(np.log(ratios[k])).max())
    low, high = min(ratios[nearest]), max(ratios[nearest])
    return [
        f"Models needed {low:.2f} to {high:.2f} times the N that coverage asks for at k = {nearest}"
        f", of k = {', '.join(ratios)} the nearest to all {len(ratios[nearest])} means over seeds "
        f"({', '.join(names)})."
    ]


def searches(series: Mapping) -> list[Mapping]:
    """One for each size and seed."""
    return [search for seeds in series["at"].values() for search in seeds.values()]


def ratios(numbers: Mapping, name: str, other: str) -> list[float]:
    """How many times the N of ``other`` a series requires, at each size and seed of both."""
    of, to = (numbers["series"][one]["at"] for one in (name, other))
    pairs = [
        (one["required"], to[size][seed]["required"])
        for size in [size for size in of if size in to]
        for seed, one in of[size].items()
        if seed in to[size]
    ]
    return [n / m for n, m in pairs if n and m]


def cut_off(numbers: Mapping) -> list[str]:
    """Trials whose training ended at its last step, so that N is not what they lacked."""
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
    return sentences


def tables(numbers: Mapping) -> list[Table]:
    rows = []
    for name, series in numbers["series"].items():
        for size, seeds in series["at"].items():
            found = [(one["required"], one["most"]) for one in seeds.values()]
            needed = ", ".join(f"{n:,}" if n else f"> {most:,}" for n, most in found)
            rows.append([name, size, str(len(seeds)), needed])
    header = ["task or model", "|X|", "seeds", "smallest N that was enough"]
    title = f"Required N ({numbers['rule']}; on a grid of ratio {numbers['stride']})"
    result = [Table(title, header, rows)]
    rows = []
    for name, side in numbers["coverage"].items():
        for size in side["sizes"]:
            needed = [entry["required"].get(size) for entry in side["k"].values()]
            rows.append([name, size, *("-" if n is None else f"{n:,.0f}" for n in needed)])
        fits = [entry["fit"] for entry in side["k"].values()]
        rows.append([name, "exponent", *(f"{fit['exponent']:.2f}" if fit else "-" for fit in fits)])
    if rows:
        share = f"{side['share']:.0%} of the unseen in-domain items"
        header = ["task", "|X|", *(f"k = {k}" for k in side["k"])]
        result.append(Table(f"N at which {share} are k-covered (mean)", header, rows))
    return result


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Required N against |X| for each series, and the fitted exponents."""
    figure, (left, right) = style.new_figure(9.6, 3.8, 1, 2, width_ratios=(3, 2))
    names = list(numbers["series"])
    for number, (name, series) in enumerate(numbers["series"].items()):
        plots.power_law(left, number, name, requirements(series["at"]), series["fit"])
    for name, side in numbers["coverage"].items():
        own = plots.look(names.index(name))["color"] if name in names else "grey"
        _coverage_lines(left, side, own)
    if numbers["coverage"]:
        dotted = {"color": "black", "linestyle": ":", "linewidth": 1}
        plots.label_only(left, "99 % of unseen items k-covered", **dotted)
    sizes = {int(size) for series in numbers["series"].values() for size in series["at"]}
    title = "smallest N that generalises, by seed"
    plots.tokens_axis(left, sizes, title, "training items required")
    left.legend(ncols=3, **plots.BELOW)
    _exponents(right, numbers["series"])
    return style.save_figure(figure, stem)


def _coverage_lines(axis, side: Mapping, colour: str) -> None:
    """What k-coverage alone asks for, a dotted line for each k; lines that meet share a label."""
    ends: dict[float, list[str]] = {}
    for k, entry in side["k"].items():
        points = [(int(size), amount) for size, amount in entry["required"].items()]
        if len(points) > 1:
            axis.plot(*zip(*points, strict=True), color=colour, linestyle=":", linewidth=1)
            x, y = points[-1]
            near = next((end for end in ends if 0.95 < end / y < 1.05), y)
            ends.setdefault(near, []).append(k)
    form = {"textcoords": "offset points", "xytext": (3, -3), "color": colour, "fontsize": 7}
    for y, ks in ends.items():
        axis.annotate(f"k={','.join(ks)}", (x, y), **form)


def _exponents(axis, series: Mapping) -> None:
    """Each series' exponent with its interval, and the published value where there is one."""
    published = {"color": "black", "markeredgewidth": 2}
    fitted = [(i, name, one) for i, (name, one) in enumerate(series.items()) if one["fit"]]
    for place, (number, _, one) in enumerate(fitted):
        middle, low, high = (one["fit"][name] for name in ("exponent", "low", "high"))
        own = {"linestyle": "", "capsize": 3, "markersize": 5, **plots.look(number)}
        axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], **own)
        if one.get("published") is not None:
            axis.plot(one["published"], place, "|", markersize=14, **published)
    if any(one.get("published") is not None for _, _, one in fitted):
        published |= {"linestyle": "", "markersize": 10}
        plots.label_only(axis, "published (8-layer GPT-2)", "|", **published)
        axis.legend(**plots.BELOW)
    axis.set_yticks(range(len(fitted)), [name for _, name, _ in fitted], fontsize=8)
    axis.set(ylim=(len(fitted) - 0.4, -0.6), xlabel="exponent of |X|, 95 % interval")


def claim(*about: str, series: Callable, find: Callable = find) -> Claim:
    """A claim about these series (by scale): its letter, name, title, what is published."""
    return Claim(*about, partial(collect, series), find, tables, draw)

"""What claims c, d and e share: how the data that a model needs grows with the number of tokens.

For each series (a task and a model), |X| and seed the smallest N that generalises is searched for;
a power law in |X| is fitted to what was found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from coverage_principle.coverage import PredictedData, SearchSettings
from coverage_principle.coverage.predicted import predicted_name
from coverage_principle.coverage.required import GrowingWorld, RequiredData, search_name
from coverage_principle.coverage.settings import LearnerSettings, PredictedSettings
from coverage_principle.data import WorldSettings, generate_world
from coverage_principle.experiments.claims.base import by_scale, finished, side_by_side, training
from coverage_principle.experiments.crossing import LINE, Trial, fit_growth
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.statistics import power_law_of_sizes
from coverage_principle.tasks import TASKS
from simpletransformers.words import listed

#: Seeds of worlds and models count up from this one.
SEED = 42
#: The published rule: this accuracy on type_0, within so many epochs after the training items' own.
ACCURACY, EPOCHS = 0.99, 100
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
COVERED, _KS = 0.99, (1, 2, 3, 4)
#: The learner is asked in so many worlds of a size, of up to so many tokens where items have three
#: slots and four: with four its time grows with the cube of N, to a minute a world.
_LEARNED_SEEDS, _LEARNED_3, _LEARNED = 2, 50, by_scale(4, 9, 12, 12, night=12)
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
        {16: 2, 20: 1, 25: 1},
        dict.fromkeys((20, 30, 50, 70), 3),
        PAPER_SIZES,
        night=dict.fromkeys((18, 21, 25, 28, 36), 5),
    ),
    "parallel2hop": by_scale(
        _TINY,
        {7: 2, 9: 1, 12: 1},
        dict.fromkeys((12, 20, 30, 40), 3),
        dict.fromkeys((20, 30, 50, 70, 100), 3),
        night={8: 5, 11: 5, 16: 5},
    ),
    "threehop": by_scale(
        _TINY,
        {8: 2, 9: 1, 11: 1},
        dict.fromkeys((12, 20, 30, 40), 3),
        dict.fromkeys((20, 30, 50, 70, 100), 3),
        night={8: 5, 11: 5, 16: 4},
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
    scale's own; ``published`` is the exponent that the paper reports, if it does; ``model`` names
    the model where runs are shown, if there are several.
    """

    task: str
    plan: Plan
    start: float
    train: Mapping[str, object] = field(default_factory=dict)
    cot: bool = False
    published: float | None = None
    model: str = ""

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
    label = f"{series.model}: {label}" if series.model else label
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
    ``LINE`` or more, what lies between the last that failed and the next is tried as well.
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
        if at(place) != at(place - 1):  # few items may be rounded to the same number
            row = row + 1 if reached(at(place)) else 0
    while True:
        low = max((n for n, value in tried.items() if value < ACCURACY), default=None)
        enough = min((n for n in tried if low is None or n > low), default=None)
        told = any(LINE <= value < ACCURACY for value in tried.values())
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

    calls = [partial(search, sweep, scale, series[name], *world) for name, *world in wanted]
    searched = side_by_side(calls)
    found = {point: one.result() for point, one in zip(wanted, searched, strict=True)}
    by_series = {}
    for name, one in series.items():
        at: dict[str, dict[str, dict]] = {str(size): {} for size in one.plan}
        for size, seed in one.worlds:
            at[str(size)][str(seed)] = found[name, size, seed]
        before = None if one.cot else TITLES[one.task]  # with what its amounts are compared
        by_series[name] = {"published": one.published, "before": before, "at": at}
        by_series[name] |= {"fit": growth(at), "without_noisy": without_noisy(at)}
    return {
        "rule": f"type_0 >= {ACCURACY} within {EPOCHS} epochs after train_inferred >= 0.99",
        "accuracy": ACCURACY,
        "max_steps": training(scale, **_TRAIN[scale])["max_steps"],
        **{"stride": _STRIDE[scale], "covered": COVERED, "series": by_series},
        "before": _before(series, sweep.root, scale),
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


def _before(series: Mapping[str, Series], root: Path, scale: str) -> dict:
    """What coverage and learner say of the same worlds before any training, for direct answers.

    By task and predictor: the ``amounts`` N by |X| and seed (None: not reached), and their power
    law ``fit``. Coverage counts the fragments of all intermediate values.
    """
    found: dict[str, dict[str, dict]] = {}
    covering = SearchSettings(k=_KS, share=COVERED)
    learning = PredictedSettings(by=("learner",), accuracy=ACCURACY, sample=1000, tolerance=0.05)
    for one in series.values():
        title, graph = TITLES[one.task], TASKS[one.task]
        if one.cot or title in found:
            continue
        name = search_name(graph, covering), predicted_name(graph, learning)
        required = RequiredData(graph, covering, root / f"required_{name[0]}.json")
        learner = LearnerSettings()
        learned = PredictedData(graph, learning, learner, root / f"learned_{name[1]}.json")
        most = _LEARNED[scale] if len(graph.inputs) > 3 else _LEARNED_3
        amounts: dict[str, dict[str, dict[str, int | None]]] = {}
        for size, seed in one.worlds:
            own = {f"k = {k}": n for k, n in required.find(size, seed).items()}
            if size <= most and seed < SEED + _LEARNED_SEEDS:
                own |= learned.find(size, seed)
            for predictor, amount in own.items():
                amounts.setdefault(predictor, {}).setdefault(str(size), {})[str(seed)] = amount
        found[title] = {
            predictor: {"amounts": of_sizes, "fit": before_fit(of_sizes)}
            for predictor, of_sizes in amounts.items()
        }
    return found


def before_fit(amounts: Mapping[str, Mapping[str, int | None]]) -> dict[str, float] | None:
    """The power law of a predictor's amounts by |X| and seed."""
    return power_law_of_sizes({int(size): list(of.values()) for size, of in amounts.items()})


def searches(series: Mapping) -> list[Mapping]:
    """One for each size and seed."""
    return [search for seeds in series["at"].values() for search in seeds.values()]


def noisy_ends(at: Mapping[str, Mapping[str, Mapping]]) -> dict[str, list[tuple[float, float]]]:
    """Of the sizes of ``noisy_sizes``, each trial's accuracies on training and on unseen items."""
    found = {}
    for size, seeds in at.items():
        trials = itertools.chain(*(search["trials"].values() for search in seeds.values()))
        ends = [(one["train_accuracy"], one["accuracy"]) for one in trials]
        if 2 * sum(train < ACCURACY for train, _ in ends) > len(ends):
            found[size] = ends
    return found


def possible(seeds: Mapping[str, Mapping]) -> float:
    """How many different training compositions worlds of a size allow, the mean over them."""
    most = [search["most"] for search in seeds.values()]
    return sum(most) / len(most) / _MOST


def without_noisy(at: Mapping[str, Mapping[str, Mapping]]) -> dict | None:
    """``growth`` of the others ``without`` the sizes of ``noisy_sizes``.

    None where there are none of these, or the others do not tell.
    """
    if not (left_out := noisy_ends(at)):
        return None
    fit = growth({size: seeds for size, seeds in at.items() if size not in left_out})
    return fit and {**fit, "without": listed(list(left_out))}

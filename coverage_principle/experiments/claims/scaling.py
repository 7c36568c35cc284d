"""What claims c, d and e share: how the data that a model needs grows with the number of tokens.

For each series (a task and a model), |X| and seed the smallest N that generalises is searched for;
a power law in |X| is fitted to what was found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coverage_principle.coverage import SearchSettings, smallest_amount
from coverage_principle.coverage.required import GrowingWorld, RequiredData, search_name
from coverage_principle.data import WorldSettings, generate_world
from coverage_principle.experiments.claims.base import Claim, Table, by_scale, finished, training
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.reporting.required_data import summarise
from coverage_principle.statistics import power_law_through
from coverage_principle.tasks import TASKS
from simpletransformers.words import counted

#: The published rule: this accuracy on type_0, within so many epochs after the training items' own.
ACCURACY, EPOCHS = 0.99, 100
#: The largest share of the possible training compositions that is tried: some must stay unseen.
_MOST = 0.95
#: By how much N changes until two trials enclose it; at cpu one bisection is then within tolerance.
_STRIDE = 1.25
#: Searches begin at N that grows with this power of |X|: rather too low, as such trials are short.
_GUESS = 2.0
#: The share of items that coverage alone asks for, and at which k.
_COVERED, _KS = 0.99, (1, 2, 3)
#: Test items of each type.
_TEST_SIZE = 300
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
_TRAIN["night"] = _TRAIN["cpu"]
_TOLERANCE = by_scale(0.5, 0.12, 0.05, 0.03)
_SEEDS = by_scale((42,), (42, 43), (42, 43, 44), (42, 43, 44))
#: Three steps one after the other need three layers, where the scale's own model has two.
_DEEP = by_scale({"n_layer": 3}, {"n_layer": 3}, {}, {})

#: Sizes |X| of each task, and the N from which the smallest is searched.
PAPER_SIZES = (30, 50, 70, 100, 150, 200)
_SIZES = {
    "twohop": by_scale((3, 4), (16, 20, 28), (20, 30, 50, 70), PAPER_SIZES),
    "parallel2hop": by_scale((3, 4), (7, 9, 12), (12, 20, 30, 40), (20, 30, 50, 70, 100)),
    "threehop": by_scale((3, 4), (9, 11), (12, 20, 30, 40), (20, 30, 50, 70, 100)),
}
_STARTS = {
    "twohop": by_scale(8, 1700, 2600, 5000),
    "parallel2hop": by_scale(15, 540, 2500, 10000),
    "threehop": by_scale(15, 1500, 5000, 20000),
}
#: The generator of a task where it has another name, and how tasks are called in figures.
_SCRIPTS = {"parallel2hop": "parallel-twohop"}
TITLES = {"twohop": "2-hop", "parallel2hop": "parallel 2-hop"}
TITLES |= {"threehop": "3-hop", "fivehop": "5-hop"}


@dataclass(frozen=True)
class Series:
    """One line of the figure: a task and a model, and the sizes |X| that are measured.

    ``start`` is N at the smallest size from which the search begins; ``train`` are flags of the
    training; ``published`` is the exponent that the paper reports, if it does.
    """

    task: str
    sizes: tuple[int, ...]
    start: float
    train: Mapping[str, object] = field(default_factory=dict)
    cot: bool = False
    published: float | None = None

    @property
    def score(self) -> str:
        """What is to be reached: with bridges, what the model writes by itself has to be right."""
        return "free_exact_match" if self.cot else "answer_accuracy"


def one_series(
    task: str, scale: str, sizes: Mapping = _SIZES, starts: Mapping = _STARTS, **more: Any
) -> Series:
    """The series of a task at the sizes of a scale."""
    train = _DEEP[scale] if task == "threehop" else {}
    return Series(task, sizes[task][scale], starts[task][scale], **{"train": train, **more})


def first_guess(series: Series, size: int) -> float:
    """N from which the search at ``size`` begins."""
    return series.start * (size / series.sizes[0]) ** _GUESS


def trial(series: Series, scale: str, size: int, seed: int, amount: int) -> RunSettings:
    """The training that tells whether ``amount`` items are enough."""
    data = {"num_tokens": size, "max_train_data_num": amount, "atomic_facts": "none"}
    data |= {"test_size_for_type": _TEST_SIZE, **({"cot": True} if series.cot else {})}
    rule = {"stop_when": f"type_0:{series.score}>={ACCURACY}", "patience_epochs_after_fit": EPOCHS}
    rule |= {"stop_on_test": True, "test_types": ["train_inferred", "type_0"]}  # what it reads
    train = training(scale, **{**_TRAIN[scale], **series.train, **rule})
    task = _SCRIPTS.get(series.task, series.task)
    settings = {"task": task, "seed": seed, "data": data, "train": train}
    label = f"{series.task}{' CoT' if series.cot else ''} |X|={size} N={amount} seed={seed}"
    return RunSettings.resolve(settings, label)


def _has_unseen(task: str, size: int, seed: int, amount: int) -> bool:
    """Whether a data set of ``amount`` training items has any type_0 item to test."""
    settings = WorldSettings(size, amount, test_size_for_type=1, seed=seed)
    return len(generate_world(TASKS[task], settings).test["type_0"]) > 0


def _search(sweep: Sweep, scale: str, series: Series, size: int, seed: int) -> dict:
    """One search; every trial with what came of it."""
    world = GrowingWorld(TASKS[series.task], WorldSettings(size, 1, seed=seed))
    most = int(_MOST * world.trainable)
    trials: dict[int, dict] = {}

    def reached(amount: int) -> bool:
        if amount <= _FEW and not _has_unseen(series.task, size, seed, amount):
            return False  # nothing to generalise to
        run = trial(series, scale, size, seed, amount)
        record = finished(sweep.submit(run), run.label)
        accuracy = record["scores"]["type_0"][series.score]
        took = {name: record[name] for name in ("steps", "epochs")}
        fitted = record["scores"]["train_inferred"]["answer_accuracy"]
        trials[amount] = {"run": run.id, "accuracy": accuracy, **took, "train_accuracy": fitted}
        return accuracy >= ACCURACY

    # A trial with too many items is long: the search keeps to the ratio from both sides.
    how = {"tolerance": _TOLERANCE[scale], "factor": _STRIDE, "geometric": True}
    required = smallest_amount(reached, round(first_guess(series, size)), most, **how)
    by_amount = {str(n): trials[n] for n in sorted(trials)}
    return {"required": required, "most": most, "trials": by_amount}


def collect(plan: Callable[[str], dict[str, Series]], sweep: Sweep, scale: str) -> dict:
    """Every series at every size and seed, side by side as far as the launcher allows."""
    series, seeds = plan(scale), _SEEDS[scale]
    wanted = [(name, n, seed) for name, one in series.items() for n in one.sizes for seed in seeds]
    wanted.sort(key=lambda point: -point[1])  # at the end no long search is left alone

    def search(point: tuple[str, int, int]) -> dict:
        return _search(sweep, scale, series[point[0]], *point[1:])

    with ThreadPoolExecutor(len(wanted), thread_name_prefix="search") as pool:
        found = dict(zip(wanted, pool.map(search, wanted), strict=True))
    by_series = {}
    for name, one in series.items():
        at = {str(n): {str(seed): found[name, n, seed] for seed in seeds} for n in one.sizes}
        fit = power_law_through(requirements(at))
        covered = None if one.cot else TITLES[one.task]  # with what its amounts are compared
        by_series[name] = {"published": one.published, "coverage": covered, "at": at, "fit": fit}
    return {
        "rule": f"type_0 >= {ACCURACY} within {EPOCHS} epochs after train_inferred >= 0.99",
        "accuracy": ACCURACY,
        "max_steps": training(scale, **_TRAIN[scale])["max_steps"],
        **{"tolerance": _TOLERANCE[scale], "seeds": list(seeds), "series": by_series},
        "coverage": _coverage_side(series, sweep.root, seeds),
    }


def requirements(at: Mapping[str, Mapping[str, Mapping]]) -> list[tuple[int, int]]:
    """``(|X|, required N)`` of every size and seed at which an N was enough."""
    every = [(int(size), one["required"]) for size, seeds in at.items() for one in seeds.values()]
    return [(size, required) for size, required in every if required]


def _coverage_side(series: Mapping[str, Series], root: Path, seeds: tuple[int, ...]) -> dict:
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
        for size, seed in itertools.product(one.sizes, seeds):
            data.find(size, seed)
        summary, by_k = summarise(data), {}
        for k in map(str, _KS):
            seeds_of = {n: at[k]["by_seed"].values() for n, at in summary["required"].items()}
            reached = {n: list(filter(None, every)) for n, every in seeds_of.items()}
            means = {n: float(np.mean(amounts)) for n, amounts in reached.items() if amounts}
            by_k[k] = {"required": means, "fit": summary["fits"].get(k)}
        found[title] = {"share": _COVERED, "sizes": list(map(str, one.sizes)), "k": by_k}
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
        (search["required"], to[size][seed]["required"])
        for size in [size for size in of if size in to]
        for seed, search in of[size].items()
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
            rows.append([name, size, *(f"{n:,}" if n else f"> {most:,}" for n, most in found)])
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

"""Claims c, d and e: how the training data that a model needs grows with the number of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from coverage_principle.coverage.required import GrowingWorld, RequiredData, Search
from coverage_principle.data import WorldSettings
from coverage_principle.experiments.claims import scaling_words as words
from coverage_principle.experiments.claims.base import Claim, finished, training
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting.claim_figures import scaling as draw_scaling
from coverage_principle.reporting.statistics import fit_power_law
from coverage_principle.tasks import TASKS

#: The rule of the published code: this accuracy on type_0, within so many epochs after the training
#: items reached it.
ACCURACY, EPOCHS = 0.99, 100
#: The largest share of the trainable compositions that is tried: some must stay unseen.
_MOST = 0.95
#: By how much N changes until the required amount lies between two trials; at the scale cpu one
#: bisection of such a stride is within the tolerance.
_STRIDE = 1.25
#: From the smallest |X| on, searches begin at N that grows with this power of |X|: rather too low
#: than too high, since trials that are too small are short.
_GUESS = 2.0
#: Shares of items that coverage alone asks for, and at which k.
_COVERED, _KS = 0.99, (1, 2, 3)
#: Test items of each type.
_TEST_SIZE = 300


@dataclass(frozen=True)
class Series:
    """One line of the figure: a generator with flags, a model, and the sizes that are measured.

    ``start`` is N at the smallest size from which the search begins; ``graph`` names the task's
    graph; ``published`` is the exponent that the paper reports for this task, if it does.
    """

    task: str
    graph: str
    sizes: tuple[int, ...]
    start: float
    data: Mapping[str, object] = field(default_factory=dict)
    train: Mapping[str, object] = field(default_factory=dict)
    published: float | None = None


#: How the searches of a scale train, beside what ``training`` says.
_TRAIN: dict[str, dict[str, object]] = {
    "tiny": {"max_steps": 200},
    "cpu": {
        "train_batch_size": 128,
        "learning_rate": 1.4e-3,
        "weight_decay": 0.5,
        "warmup_steps": 100,
        "max_steps": 20000,
        "eval_steps": 50,
    },
    "gpu": {"train_batch_size": 2048, "max_steps": 20000, "eval_steps": 100, "warmup_steps": 500},
    "paper": {},
}
_TOLERANCE = {"tiny": 0.5, "cpu": 0.12, "gpu": 0.05, "paper": 0.03}
_SEEDS = {"tiny": (42,), "cpu": (42, 43), "gpu": (42, 43, 44), "paper": (42, 43, 44)}
_PAPER_SIZES = (30, 50, 70, 100, 150, 200)

#: Sizes |X| of each task at each scale, and the N from which the smallest is searched.
_SIZES: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {
    "tiny": {
        "twohop": ((3, 4), 8),
        "parallel2hop": ((3, 4), 15),
        "threehop": ((3, 4), 15),
        "fivehop": ((2, 3), 8),
    },
    "cpu": {
        "twohop": ((16, 20, 28), 1700),
        "parallel2hop": ((7, 9, 12), 540),
        "threehop": ((9, 11), 1500),
        "fivehop": ((7, 10, 14), 280),
    },
    "gpu": {
        "twohop": ((20, 30, 50, 70), 2600),
        "parallel2hop": ((12, 20, 30, 40), 2500),
        "threehop": ((12, 20, 30, 40), 5000),
        "fivehop": ((12, 20, 30, 50), 1000),
    },
    "paper": {
        "twohop": (_PAPER_SIZES, 5000),
        "parallel2hop": ((20, 30, 50, 70, 100), 10000),
        "threehop": ((20, 30, 50, 70, 100), 20000),
        "fivehop": (_PAPER_SIZES, 4000),
    },
}
#: For chain of thought, which needs less.
_COT_SIZES: dict[str, dict[str, tuple[tuple[int, ...], int]]] = {
    "tiny": {"twohop": ((3, 4), 8), "threehop": ((3, 4), 10)},
    "cpu": {"twohop": ((12, 20, 28), 480), "threehop": ((7, 9, 11), 240)},
    "gpu": {"twohop": ((20, 30, 50, 70), 800), "threehop": ((12, 20, 30, 50), 1000)},
    "paper": {"twohop": (_PAPER_SIZES, 2000), "threehop": (_PAPER_SIZES, 4000)},
}
#: Three steps one after the other need three layers, where the scale's own model has two.
_DEEP: dict[str, dict[str, object]] = {
    "tiny": {"n_layer": 3},
    "cpu": {"n_layer": 3},
    "gpu": {},
    "paper": {},
}
_SCRIPTS = {"parallel2hop": "parallel-twohop"}
#: How a task is called in figures.
_TITLES = {
    "twohop": "2-hop",
    "parallel2hop": "parallel 2-hop",
    "threehop": "3-hop",
    "fivehop": "5-hop",
}


def _series(graph: str, scale: str, *, cot: bool = False, **more: object) -> Series:
    table = _COT_SIZES[scale] if cot and graph in _COT_SIZES[scale] else _SIZES[scale]
    sizes, start = table[graph]
    return Series(
        _SCRIPTS.get(graph, graph), graph, sizes, start, {"cot": True} if cot else {}, **more
    )


def by_task(scale: str) -> dict[str, Series]:
    """Claim c: direct answers."""
    return {
        _TITLES["twohop"]: _series("twohop", scale, published=2.26),
        _TITLES["parallel2hop"]: _series("parallel2hop", scale, published=2.43),
        _TITLES["threehop"]: _series("threehop", scale, train=_DEEP[scale], published=2.58),
    }


#: Claim d: models of a scale, from small to large; one of them is claim c's.
_MODELS: dict[str, dict[str, dict[str, object]]] = {
    "tiny": {"2 layers, 16": {}, "2 layers, 32": {"n_embd": 32}},
    "cpu": {"2 layers, 48": {"n_embd": 48}, "2 layers, 80": {"n_embd": 80}, "2 layers, 128": {}},
    "gpu": {
        "4 layers, 384": {"n_layer": 4, "n_head": 6, "n_embd": 384},
        "8 layers, 768": {},
        "12 layers, 1024": {"n_layer": 12, "n_head": 16, "n_embd": 1024},
    },
    "paper": {
        "4 layers, 768": {"n_layer": 4},
        "8 layers, 768": {},
        "48 layers, 1600": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    },
}


def by_model(scale: str) -> dict[str, Series]:
    """Claim d: the 2-hop task with models of several sizes."""
    published = dict(zip(_MODELS["paper"], (2.13, 2.26, 2.28), strict=True))
    return {
        name: _series("twohop", scale, train=changes, published=published.get(name))
        for name, changes in _MODELS[scale].items()
    }


def by_thought(scale: str) -> dict[str, Series]:
    """Claim e: chain of thought, beside claim c's direct answers at the sizes that both have."""
    two = _series("twohop", scale, cot=True, published=2.09)
    three = _series("threehop", scale, cot=True, train=_DEEP[scale], published=1.76)
    direct = by_task(scale)
    return {
        "2-hop": _at_sizes(direct["2-hop"], two.sizes),
        "3-hop": _at_sizes(direct["3-hop"], three.sizes),
        "2-hop, CoT": two,
        "3-hop, CoT": three,
        "5-hop, CoT": _series("fivehop", scale, cot=True, published=1.80),
    }


def _at_sizes(series: Series, sizes: tuple[int, ...]) -> Series:
    """The series at those of its sizes that are among ``sizes``, with the same trials there."""
    kept = tuple(size for size in series.sizes if size in sizes)
    return replace(series, sizes=kept, start=_guess(series, kept[0]))


def _guess(series: Series, size: int) -> float:
    """N from which the search at ``size`` begins."""
    return series.start * (size / series.sizes[0]) ** _GUESS


# ----------------------------------------------------------------------------------------- search


def trial(series: Series, scale: str, size: int, seed: int, amount: int) -> RunSettings:
    """The training that tells whether ``amount`` items are enough."""
    cot = bool(series.data.get("cot"))
    settings = {
        "task": series.task,
        "seed": seed,
        "data": {
            "num_tokens": size,
            "max_train_data_num": amount,
            "atomic_facts": "none",
            "test_size_for_type": _TEST_SIZE,
            **series.data,
        },
        "train": training(
            scale,
            **{**_TRAIN[scale], **series.train},
            stop_when=f"type_0:{_score(cot)}>={ACCURACY}",
            patience_epochs_after_fit=EPOCHS,
            stop_on_test=True,
            test_types=["train_inferred", "type_0"],  # all that the rule reads
        ),
    }
    label = f"{series.graph}{' CoT' if cot else ''} |X|={size} N={amount} seed={seed}"
    return RunSettings.resolve(settings, label)


def _score(cot: bool) -> str:
    """What is to be reached: with bridges, what the model writes by itself has to be right."""
    return "free_exact_match" if cot else "answer_accuracy"


def required_items(
    reached: Callable[[int], bool], start: int, most: int, tolerance: float
) -> int | None:
    """The smallest N with ``reached(N)``, to a relative tolerance; None if not even ``most`` is.

    N moves from ``start`` by a constant factor until a success and a failure are neighbours, and is
    then bisected geometrically; the end that succeeded is returned. That more data never hurts is
    taken for granted.
    """
    low, high, amount = 1, None, min(start, most)
    while high is None or (low == 1 and high > 2):
        if reached(amount):
            high, amount = amount, max(2, round(amount / _STRIDE))
        elif amount == most:
            return None
        else:
            low, amount = amount, min(most, math.ceil(amount * _STRIDE))
    while high > low * (1 + tolerance) and high - low > 1:
        middle = min(high - 1, max(low + 1, round(math.sqrt(low * high))))
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _search(sweep: Sweep, scale: str, series: Series, size: int, seed: int) -> dict:
    """One search; every trial with what came of it."""
    graph = TASKS[series.graph]
    most = int(_MOST * GrowingWorld(graph, WorldSettings(size, 1, seed=seed)).trainable)
    trials: dict[int, dict] = {}

    def reached(amount: int) -> bool:
        run = trial(series, scale, size, seed, amount)
        record = finished(sweep.submit(run), run.label)
        accuracy = record["scores"]["type_0"][_score(bool(series.data.get("cot")))]
        trials[amount] = {
            "run": run.id,
            "accuracy": accuracy,
            "steps": record["steps"],
            "epochs": record["epochs"],
            "train_accuracy": record["scores"]["train_inferred"]["answer_accuracy"],
        }
        return accuracy >= ACCURACY

    start = round(_guess(series, size))
    required = required_items(reached, start, most, _TOLERANCE[scale])
    return {
        "required": required,
        "most": most,
        "trials": {str(n): trials[n] for n in sorted(trials)},
    }


def collect(
    plan: Callable[[str], dict[str, Series]],
    sweep: Sweep,
    scale: str,
) -> dict:
    """Every series at every size and seed, side by side as far as the launcher allows."""
    series = plan(scale)
    seeds = _SEEDS[scale]
    # The largest first: at the end no long search is left alone.
    wanted = sorted(
        (
            (name, size, seed)
            for name, one in series.items()
            for size in one.sizes
            for seed in seeds
        ),
        key=lambda point: -point[1],
    )
    with ThreadPoolExecutor(len(wanted), thread_name_prefix="search") as pool:
        found = dict(
            zip(
                wanted,
                pool.map(lambda point: _search(sweep, scale, series[point[0]], *point[1:]), wanted),
                strict=True,
            )
        )
    numbers: dict[str, object] = {
        "rule": f"type_0 >= {ACCURACY} within {EPOCHS} epochs after train_inferred >= 0.99",
        "accuracy": ACCURACY,
        "max_steps": training(scale, **_TRAIN[scale])["max_steps"],
        "tolerance": _TOLERANCE[scale],
        "seeds": list(seeds),
        "series": {},
    }
    for name, one in series.items():
        at = {
            str(size): {str(seed): found[name, size, seed] for seed in seeds} for size in one.sizes
        }
        numbers["series"][name] = {"published": one.published, "at": at, "fit": _fit(at)}
    numbers["coverage"] = _coverage_side(series, sweep.root, seeds)
    return numbers


def _fit(at: Mapping[str, Mapping[str, Mapping]]) -> dict | None:
    """The power law through every seed's requirement; None with fewer than two sizes."""
    points = [
        (int(size), one["required"])
        for size, seeds in at.items()
        for one in seeds.values()
        if one["required"]
    ]
    if len(points) < 3 or len({size for size, _ in points}) < 2:
        return None
    return asdict(fit_power_law(*zip(*points, strict=True)))


def _coverage_side(series: Mapping[str, Series], root: Path, seeds) -> dict:
    """What k-coverage alone asks for at the same sizes: by task (direct answers) and k."""
    found: dict[str, dict] = {}
    for one in series.values():
        if one.data.get("cot") or _TITLES[one.graph] in found:
            continue
        data = RequiredData(
            Search(TASKS[one.graph], _KS, share=_COVERED), root / f"required_{one.graph}.json"
        )
        for size in one.sizes:
            for seed in seeds:
                data.find(size, seed)
        by_k = {}
        for k in _KS:
            points = [
                (size, amounts[k])
                for size, worlds in data.amounts.items()
                for amounts in worlds.values()
                if amounts[k] is not None
            ]
            means = {
                str(size): float(np.mean([n for s, n in points if s == size]))
                for size in one.sizes
                if any(s == size for s, _ in points)
            }
            enough = len(points) >= 3 and len(means) >= 2
            by_k[str(k)] = {
                "required": means,
                "fit": asdict(fit_power_law(*zip(*points, strict=True))) if enough else None,
            }
        found[_TITLES[one.graph]] = {
            "share": _COVERED,
            "sizes": list(map(str, one.sizes)),
            "k": by_k,
        }
    return found


# ---------------------------------------------------------------------------------------- claims

BY_TASK = Claim(
    "data_scaling",
    "Data scaling: required N against |X|",
    "required N grows as |X|^2.26 (2-hop), 2.43 (parallel 2-hop) and 2.58 (3-hop), all R^2 > 0.98.",
    partial(collect, by_task),
    words.find,
    words.tables,
    draw_scaling,
)
BY_MODEL = Claim(
    "parameter_scaling",
    "Parameter scaling: does a larger model need less data? (2-hop)",
    "exponents 2.13, 2.26 and 2.28 for 68M, 96M and 1.5B parameters: 20 times the parameters bring "
    "no gain.",
    partial(collect, by_model),
    words.compare_models,
    words.tables,
    draw_scaling,
)
BY_THOUGHT = Claim(
    "chain_of_thought",
    "Chain of thought: what writing the bridges saves",
    "exponents 2.09 (2-hop), 1.76 (3-hop) and 1.80 (5-hop) with chain of thought, against 2.26 and "
    "2.58 without.",
    partial(collect, by_thought),
    words.compare_thought,
    words.tables,
    draw_scaling,
)

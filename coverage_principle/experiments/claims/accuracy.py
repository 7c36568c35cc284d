"""Claims a and b: accuracy against data, training time and k-cutoff (2-hop)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data import load_dataset, read_json
from coverage_principle.experiments.claims.base import TEST_SIZE, Claim, Table, gathered, training
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting.claim_figures import accuracy_by_data, prediction_of_correctness
from coverage_principle.reporting.statistics import auc, mean_of, rate_of
from coverage_principle.reporting.training_figures import accuracy_by_k

#: |X|, training-set sizes and seeds; for claim b the sizes at which coverage is partial.
PLANS = {
    "tiny": {"num_tokens": 8, "sizes": (100, 180), "seeds": (42, 43), "partial": (100,)},
    "cpu": {
        "num_tokens": 20,
        "sizes": (800, 1600, 2000, 2500, 3000),
        "seeds": (42, 43, 44),
        "partial": (1600, 2000),
    },
    "gpu": {
        "num_tokens": 50,
        "sizes": (5000, 10000, 15000, 20000, 30000),
        "seeds": (42, 43, 44),
        "partial": (10000, 15000),
    },
    "paper": {
        "num_tokens": 50,
        "sizes": (5000, 10000, 15000, 20000, 25000, 30000, 40000, 50000),
        "seeds": (42, 43, 44),
        "partial": (10000, 15000),
    },
}

#: "Fitted" and "solved": from here on an accuracy counts as reached.
_REACHED = 0.9


def twohop_run(scale: str, size: int, seed: int) -> RunSettings:
    """One training on ``size`` items, annotated with k-cutoffs, every test item's output kept."""
    settings = {
        "task": "twohop",
        "seed": seed,
        "data": {
            "num_tokens": PLANS[scale]["num_tokens"],
            "max_train_data_num": size,
            "test_size_for_type": TEST_SIZE[scale],
        },
        "coverage": {"k_sweep": True},
        "train": training(scale),
        "evaluate": {},
    }
    return RunSettings.resolve(settings, f"2-hop N={size} seed={seed}")


def collect_by_data(sweep: Sweep, scale: str) -> dict:
    """Claim a: every size and seed, with its evaluations over training."""
    plan = PLANS[scale]
    runs = {
        f"{size}/{seed}": twohop_run(scale, size, seed)
        for size in plan["sizes"]
        for seed in plan["seeds"]
    }
    records = gathered(sweep, runs)
    sizes: dict[str, dict[str, dict]] = {}
    for name, run in runs.items():
        size, seed = name.split("/")
        history = sweep.history(run)
        sizes.setdefault(size, {})[seed] = {
            "run": run.id,
            "steps": [event["step"] for event in history],
            "accuracy": {
                group: [event["eval"][group]["answer_accuracy"] for event in history]
                for group in history[-1]["eval"]
                if "/" not in group
            },
            "covered_share": {
                k: share / 100 for k, (_, share) in records[name]["k_sweep"].items() if share
            },
        }
    return {"num_tokens": plan["num_tokens"], "chance": 1 / plan["num_tokens"], "sizes": sizes}


def final_accuracies(numbers: Mapping, size: str, group: str) -> list[float]:
    """The last accuracy of a group for every seed of a size."""
    return [run["accuracy"][group][-1] for run in numbers["sizes"][size].values()]


def outside_groups(numbers: Mapping) -> list[str]:
    """The types that hold an unseen fact."""
    first = next(iter(next(iter(numbers["sizes"].values())).values()))
    return sorted(g for g in first["accuracy"] if g.startswith("type_") and g != "type_0")


def find_by_data(numbers: Mapping) -> list[str]:
    sizes = list(numbers["sizes"])
    inside = {size: rate_of(final_accuracies(numbers, size, "type_0")) for size in sizes}
    low, high = sizes[0], sizes[-1]
    seeds = inside[high].n
    sentences = [
        f"With {numbers['num_tokens']} tokens, accuracy on unseen compositions of seen facts goes "
        f"from {inside[low]} with {int(low):,} training items to {inside[high]} with "
        f"{int(high):,} (means over {seeds} seeds, 95 % intervals)."
    ]
    fitted = min(rate_of(final_accuracies(numbers, size, "train_inferred")).mean for size in sizes)
    sentences.append(
        f"Accuracy on training items is at least {fitted:.2f} at every size, so what grows is "
        "generalisation."
        if fitted >= _REACHED
        else f"At the size where it is lowest, training accuracy is {fitted:.2f}, so part of the "
        "growth is fitting."
    )
    groups = outside_groups(numbers)
    outside = {g: [rate_of(final_accuracies(numbers, s, g)) for s in sizes] for g in groups}
    top = max(mean.mean for means in outside.values() for mean in means)
    words = (
        f"Items with an unseen fact reach at most {top:.2f} (chance {numbers['chance']:.2f}) at "
        "any size and type"
    )
    if top < 0.5 * inside[high].mean and inside[high].mean > _REACHED:
        sentences.append(words + ": out of the domain the curve stays low, as published.")
    else:
        sentences.append(words + ".")
    times = {
        size: [_first_step(run, "type_0") for run in numbers["sizes"][size].values()]
        for size in sizes
    }
    reached = {s: [t for t in steps if t is not None] for s, steps in times.items()}
    solved = [s for s in sizes if len(reached[s]) == len(times[s])]
    if solved:
        parts = ", ".join(f"{np.mean(reached[s]):,.0f} at N = {int(s):,}" for s in solved)
        sentences.append(
            f"Steps until type_0 first reaches {_REACHED:g}, for the sizes at which every seed "
            f"does: {parts}."
        )
    else:
        sentences.append(f"At no size does every seed reach {_REACHED:g} on type_0.")
    return sentences


def _first_step(run: Mapping, group: str) -> int | None:
    values = zip(run["steps"], run["accuracy"][group], strict=True)
    return next((step for step, accuracy in values if accuracy >= _REACHED), None)


def tables_by_data(numbers: Mapping) -> list[Table]:
    groups = ["train_inferred", "type_0", *outside_groups(numbers)]
    rows = [
        [f"{int(size):,}", *(str(rate_of(final_accuracies(numbers, size, g))) for g in groups)]
        for size in numbers["sizes"]
    ]
    return [
        Table(
            "Final accuracy by training-set size, mean over seeds (95 % interval)",
            ["N", *groups],
            rows,
        )
    ]


BY_DATA = Claim(
    "accuracy_by_data",
    "Accuracy against training data and training time (2-hop)",
    "a sharp rise of in-domain accuracy around N = 20,000 at 50 tokens; out of the domain accuracy "
    "stays at chance for all N and training times.",
    collect_by_data,
    find_by_data,
    tables_by_data,
    accuracy_by_data,
)


# --------------------------------------------------------------------------------------- claim b

PREDICTORS = {
    "k_cutoff": "k-cutoff",
    "type": "type alone",
    "neighbours": "training items that differ in one slot",
}


def collect_by_k(sweep: Sweep, scale: str) -> dict:
    """Claim b: which items of partly covered test sets are answered, and what predicts it."""
    plan = PLANS[scale]
    runs = {
        f"{size}/{seed}": twohop_run(scale, size, seed)
        for size in plan["partial"]
        for seed in plan["seeds"]
    }
    gathered(sweep, runs)
    sizes: dict[str, dict[str, dict]] = {}
    for name, run in runs.items():
        size, seed = name.split("/")
        history = sweep.history(run)
        folder = sweep.folder(run)
        by_k = [accuracy_by_k(event["eval"]) for event in history]
        sizes.setdefault(size, {})[seed] = {
            "run": run.id,
            "steps": [event["step"] for event in history],
            "by_k": {
                str(k): {"n": n, "accuracy": [groups[k][0] for groups in by_k]}
                for k, (_, n) in by_k[-1].items()
            },
            "auc": item_aucs(read_json(folder / "all_items.json"), sweep.dataset(run)),
        }
    return {"num_tokens": plan["num_tokens"], "chance": 1 / plan["num_tokens"], "sizes": sizes}


def item_aucs(items: list[dict], data: Path) -> dict[str, dict[str, float | None]]:
    """How well each predictor ranks answered items above others: ``{items: {predictor: AUC}}``.

    ``items`` are test records with ``k_cutoff`` and ``model_output``. ``type_0`` compares only
    unseen compositions of seen facts with each other, ``unseen`` all that are not training items.
    """
    dataset = load_dataset(data)
    train = dataset.train.inputs
    kinds = np.array([item["type"] for item in items])
    correct = np.array([item["model_output"] == item["target_text"] for item in items])
    scores = {
        "k_cutoff": np.array([item.get("k_cutoff") or 0 for item in items]),
        "type": (kinds == "type_0").astype(int),
        "neighbours": neighbours(dataset.test.inputs, train),
    }
    chosen = {"type_0": kinds == "type_0", "unseen": kinds != "train_inferred"}
    return {
        which: {name: auc(score[rows], correct[rows]) for name, score in scores.items()}
        for which, rows in chosen.items()
    }


def neighbours(items: np.ndarray, train: np.ndarray) -> np.ndarray:
    """For each item ``(n, slots)`` outside of ``train``, the training items one slot away."""
    count = np.zeros(len(items), dtype=np.int64)
    for slot in range(items.shape[1]):
        rest_of_train = np.delete(train, slot, axis=1)
        rest = np.delete(items, slot, axis=1)
        rows, inverse = np.unique(
            np.concatenate([rest_of_train, rest]), axis=0, return_inverse=True
        )
        inverse = inverse.reshape(-1)
        in_train = np.bincount(inverse[: len(train)], minlength=len(rows))
        count += in_train[inverse[len(train) :]]
    return count


def find_by_k(numbers: Mapping) -> list[str]:
    sentences = []
    for size, seeds in numbers["sizes"].items():
        low, high = _ends(seeds)
        sentences.append(
            f"With {int(size):,} training items, accuracy on type_0 items is {low[1]} at k-cutoff "
            f"{low[0]} and {high[1]} at k-cutoff {high[0]} (means over {high[1].n} seeds)."
        )
    for size, seeds in numbers["sizes"].items():
        parts = []
        for name, words in PREDICTORS.items():
            values = _aucs(seeds, "type_0", name)
            if values:
                parts.append(f"{words} {rate_of(values)}")
        sentences.append(
            f"Among the type_0 items of N = {int(size):,}, the AUC of predicting which are "
            f"answered is: {', '.join(parts)}."
        )
        k, other = (_aucs(seeds, "type_0", name) for name in ("k_cutoff", "neighbours"))
        if k and other and len(k) == len(other):
            difference = mean_of([a - b for a, b in zip(k, other, strict=True)])
            if difference.low is not None and difference.low > 0:
                sentences.append("The k-cutoff predicts clearly better than counting neighbours.")
            elif difference.high is not None and difference.high < 0:
                sentences.append("Counting neighbours predicts clearly better than the k-cutoff.")
            else:
                sentences.append(
                    "The difference between k-cutoff and counting neighbours is "
                    f"{difference}, not clear over these seeds."
                )
    return sentences


def _ends(seeds: Mapping):
    """Lowest and highest k-cutoff with 20 items or more in every seed: (k, mean accuracy)."""
    shared = set.intersection(
        *({k for k, group in run["by_k"].items() if group["n"] >= 20} for run in seeds.values())
    )
    ks = sorted(shared, key=int)
    return [
        (k, rate_of([run["by_k"][k]["accuracy"][-1] for run in seeds.values()]))
        for k in (ks[0], ks[-1])
    ]


def _aucs(seeds: Mapping, which: str, name: str) -> list[float]:
    found = [run["auc"][which][name] for run in seeds.values()]
    return [value for value in found if value is not None]


def tables_by_k(numbers: Mapping) -> list[Table]:
    tables = []
    ks = sorted(
        {k for seeds in numbers["sizes"].values() for run in seeds.values() for k in run["by_k"]},
        key=int,
    )
    rows = []
    for k in ks:
        row = [k]
        for seeds in numbers["sizes"].values():
            groups = [run["by_k"][k] for run in seeds.values() if k in run["by_k"]]
            row.append(
                f"{rate_of([g['accuracy'][-1] for g in groups])}, n = "
                f"{sum(g['n'] for g in groups):,}"
                if groups
                else "-"
            )
        rows.append(row)
    header = [f"N = {int(size):,}" for size in numbers["sizes"]]
    tables.append(
        Table(
            "Final type_0 accuracy by k-cutoff, mean over seeds (95 % interval)",
            ["k-cutoff", *header],
            rows,
        )
    )
    rows = [
        [
            f"{words}, {about}",
            *(
                str(rate_of(found)) if (found := _aucs(seeds, which, name)) else "-"
                for seeds in numbers["sizes"].values()
            ),
        ]
        for which, about in (("type_0", "type_0 items"), ("unseen", "all unseen items"))
        for name, words in PREDICTORS.items()
    ]
    tables.append(Table("AUC of predicting which items are answered", ["predictor", *header], rows))
    return tables


BY_K = Claim(
    "accuracy_by_k_cutoff",
    "Accuracy by k-cutoff over training (2-hop)",
    "items of a high k-cutoff are learned early, those of a low one lag even after long training, "
    "items outside of coverage stay at chance. No AUC is published.",
    collect_by_k,
    find_by_k,
    tables_by_k,
    prediction_of_correctness,
)

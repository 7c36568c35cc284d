"""Claim g: what generalises beyond coverage, and by which mechanism (2-hop).

The paper names three mechanisms. *Structure-based* generalisation substitutes equivalent fragments
and ends where coverage ends. *Property-based* uses an algebraic property of a function: with a
commutative f1, an unseen call f1(x1, x2) can be answered if its mirror f1(x2, x1) was seen. A
*shared operator* is one function used at several places: a fact never seen in the first hop can be
answered if it was seen in the second.

All items that are looked at have one call that training never made, so no fragment with that call
has evidence, and the item is outside of k-coverage for every k. Each group of such items is
compared with the items that the mechanism cannot reach, in the same model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coverage_principle.data import Dataset, load_dataset, read_json
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.experiments.claims.base import TEST_SIZE, Claim, Table, gathered, training
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting.claim_figures import mechanisms as draw_mechanisms
from coverage_principle.reporting.statistics import Mean, mean_of, rate_of

PLANS = {
    "tiny": {"num_tokens": 8, "size": 180, "seeds": (42, 43)},
    "cpu": {"num_tokens": 20, "size": 2500, "seeds": (42, 43, 44)},
    "gpu": {"num_tokens": 50, "size": 30000, "seeds": (42, 43, 44)},
    "paper": {"num_tokens": 50, "size": 30000, "seeds": (42, 43, 44)},
}
#: Tables of f1 and f2: the property is there or not.
FAMILIES = ("random", "commutative", "modular")
#: One function for both hops, with a seen split for each, and ways to share its computation: the
#: whole stack of blocks run twice, and a single block run twice, which must do both hops.
_ONE = {"same_f12": True, "separate_seen": True}
_TWICE = {"add_recurrence": True}
SHARED = {
    "two functions": ({}, {}),
    "one function": (_ONE, {}),
    "two functions, stack twice": ({}, _TWICE),
    "one function, stack twice": (_ONE, _TWICE),
    "two functions, one block twice": ({}, {**_TWICE, "n_layer": 1}),
    "one function, one block twice": (_ONE, {**_TWICE, "n_layer": 1}),
}

PROPERTY_GROUPS = {
    "inside": "type_0: both calls seen",
    "f1_mirror": "f1 call unseen, its mirror seen",
    "f1_no_mirror": "f1 call unseen, mirror unseen",
    "f2_mirror": "f2 call unseen, its mirror seen",
    "f2_no_mirror": "f2 call unseen, mirror unseen",
}
SHARED_GROUPS = {
    "inside": "type_0: both calls seen",
    "f1_elsewhere": "f1 call unseen, but seen in hop 2",
    "f1_nowhere": "f1 call unseen in both hops",
    "f2_elsewhere": "f2 call unseen, but seen in hop 1",
    "f2_nowhere": "f2 call unseen in both hops",
}


def item_groups(dataset: Dataset) -> dict[str, np.ndarray]:
    """Which test items belong to which group: ``{group: (n,) bool}``.

    Groups of both panels; an item with an unseen call has its other call seen. A call equal to its
    own mirror is in no mirror group.
    """
    graph = dataset.graph
    seen = seen_calls(graph, dataset.tables(), dataset.train.inputs)
    values = evaluate(graph, dataset.tables(), dataset.test.inputs)
    calls = [call_arguments(function, values) for function in graph.functions]
    known = [mask[call] for mask, call in zip(seen, calls, strict=True)]
    groups = {"inside": np.array([kind == "type_0" for kind in dataset.test.types])}
    for hop, other in ((0, 1), (1, 0)):
        name = graph.functions[hop].name
        alone = ~known[hop] & known[other]
        first, second = calls[hop]
        mirrored = seen[hop][second, first]
        proper = alone & (first != second)
        groups[f"{name}_mirror"] = proper & mirrored
        groups[f"{name}_no_mirror"] = proper & ~mirrored
        elsewhere = seen[other][first, second]
        groups[f"{name}_elsewhere"] = alone & elsewhere
        groups[f"{name}_nowhere"] = alone & ~elsewhere
    return groups


def collect(sweep: Sweep, scale: str) -> dict:
    """Both panels: accuracy of every group, variant and seed."""
    plan = PLANS[scale]
    variants = {
        **{("property", family): ({"function_family": family}, {}) for family in FAMILIES},
        **{("shared", name): changes for name, changes in SHARED.items()},
    }
    runs = {
        (*variant, str(seed)): _run(scale, plan, seed, *changes, label=variant[1])
        for variant, changes in variants.items()
        for seed in plan["seeds"]
    }
    gathered(sweep, {"/".join(name): run for name, run in runs.items()})
    panels = {
        "property": {"title": "property of the functions", "groups": PROPERTY_GROUPS},
        "shared": {"title": "one operator for both hops", "groups": SHARED_GROUPS},
    }
    for (panel, variant, seed), run in runs.items():
        dataset = load_dataset(sweep.dataset(run))
        items = read_json(sweep.folder(run) / "all_items.json")
        correct = np.array([item["model_output"] == item["target_text"] for item in items])
        groups = item_groups(dataset)
        panels[panel].setdefault("variants", {}).setdefault(variant, {})[seed] = {
            "run": run.id,
            "groups": {
                group: {
                    "n": int(groups[group].sum()),
                    "accuracy": float(correct[groups[group]].mean())
                    if groups[group].any()
                    else None,
                }
                for group in panels[panel]["groups"]
            },
        }
    return {
        "num_tokens": plan["num_tokens"],
        "size": plan["size"],
        "chance": 1 / plan["num_tokens"],
        "panels": panels,
    }


def _run(
    scale: str, plan: Mapping, seed: int, data: Mapping, train: Mapping, *, label: str
) -> RunSettings:
    family = {k: v for k, v in data.items() if (k, v) != ("function_family", "random")}
    settings = {
        "task": "twohop",
        "seed": seed,
        "data": {
            "num_tokens": plan["num_tokens"],
            "max_train_data_num": plan["size"],
            "test_size_for_type": TEST_SIZE[scale],
            **family,
        },
        "coverage": {"k_sweep": True},
        "train": training(scale, **train),
        "evaluate": {},
    }
    return RunSettings.resolve(settings, f"{label} seed={seed}")


def accuracies(panel: Mapping, variant: str, group: str) -> list[float]:
    """A group's accuracy for each seed that has such items."""
    found = [run["groups"][group]["accuracy"] for run in panel["variants"][variant].values()]
    return [value for value in found if value is not None]


def find(numbers: Mapping) -> list[str]:
    sentences = []
    property_panel, shared = (numbers["panels"][name] for name in ("property", "shared"))
    for family in FAMILIES:
        for hop in ("f1", "f2"):
            words = _comparison(property_panel, family, f"{hop}_mirror", f"{hop}_no_mirror")
            if words:
                sentences.append(
                    f"{family} functions, {hop} call unseen: {words[0]} with the mirror seen, "
                    f"{words[1]} without{words[2]}."
                )
    random, modular = (
        accuracies(property_panel, family, "f1_no_mirror") for family in ("random", "modular")
    )
    if random and modular:
        sentences.append(
            f"Where not even the mirror was seen, modular f1 gives {rate_of(modular)}, random f1 "
            f"{rate_of(random)}: a sum can be known from other calls with the same sum."
        )
    sentences += _shared_sentences(shared)
    return sentences


def _shared_sentences(panel: Mapping) -> list[str]:
    """One for each variant in which the other hop clearly helps, and one for all others."""
    clear, unclear = [], []
    for variant in panel["variants"]:
        for hop in ("f1", "f2"):
            reached, control = f"{hop}_elsewhere", f"{hop}_nowhere"
            gap = _gap(panel, variant, reached, control)
            if gap is not None and gap.low is not None and gap.low > 0:
                words = _comparison(panel, variant, reached, control)
                clear.append(
                    f"{variant}, {hop} call unseen: {words[0]} where the other hop has seen it, "
                    f"{words[1]} where none has{words[2]}."
                )
            elif gap is not None:
                unclear.append(gap.mean)
    if unclear:
        clear.append(
            f"In {len(unclear)} of {len(unclear) + len(clear)} comparisons, over variants with one "
            "and with two functions and both hops, an unseen call is not clearly answered more "
            "often where the other hop has seen it: differences lie between "
            f"{min(unclear):.2f} and {max(unclear):.2f}."
        )
    return clear


def _gap(panel: Mapping, variant: str, reached: str, control: str) -> Mean | None:
    """How much more often a group is answered than its control, by seed."""
    with_it, without = (accuracies(panel, variant, group) for group in (reached, control))
    if not with_it or len(with_it) != len(without):
        return None
    return mean_of(list(np.subtract(with_it, without)))


def _comparison(panel: Mapping, variant: str, reached: str, control: str):
    """Accuracy of the group that a mechanism may reach, of its control, and a verdict."""
    gap = _gap(panel, variant, reached, control)
    if gap is None:
        return None
    with_it, without = (accuracies(panel, variant, group) for group in (reached, control))
    verdict = ""
    if gap.low is not None and gap.low > 0:
        verdict = f", a clear difference of {gap}"
    elif gap.low is not None:
        verdict = f"; no clear difference ({gap})"
    return rate_of(with_it), rate_of(without), verdict


def tables(numbers: Mapping) -> list[Table]:
    result = []
    for panel in numbers["panels"].values():
        rows = []
        for variant, seeds in panel["variants"].items():
            row = [variant]
            for group in panel["groups"]:
                n = sum(run["groups"][group]["n"] for run in seeds.values())
                found = accuracies(panel, variant, group)
                row.append(f"{rate_of(found)}, n = {n:,}" if found else "-")
            rows.append(row)
        result.append(
            Table(
                f"Accuracy, {panel['title']}: mean over seeds (95 % interval)",
                ["variant", *panel["groups"].values()],
                rows,
            )
        )
    return result


CLAIM = Claim(
    "mechanisms",
    "Beyond coverage: property-based and shared-operator generalisation (2-hop)",
    "a taxonomy of three mechanisms (structure-based, property-based, shared-operator), without "
    "numbers.",
    collect,
    find,
    tables,
    draw_mechanisms,
)

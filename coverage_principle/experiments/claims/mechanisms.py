"""Claim g: what generalises beyond coverage, and by which mechanism (2-hop).

The paper names three mechanisms. *Structure-based* generalisation substitutes equivalent fragments
and ends where coverage ends. *Property-based* uses an algebraic property of a function: with a
commutative f1, an unseen call f1(x1, x2) can be answered if its mirror f1(x2, x1) was seen. A
*shared operator* is one function used at several places: a fact that no composition in training
uses can be answered in a composition if it was trained by itself (``mechanisms_shared``).

All items that are looked at have a call that no composition in training makes, so no fragment with
that call has evidence, and the item is outside of k-coverage for every k. Each group of such items
is compared with the items that the mechanism cannot reach.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data import Dataset
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.claims import mechanisms_shared as shared
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import rate_difference
from simpletransformers.words import counted

TITLE = "Beyond coverage: shared operators and properties of functions (2-hop)"
PUBLISHED = (
    "a taxonomy of three mechanisms (structure-based, property-based, shared-operator), without "
    'numbers. Of looped models, "Loop, Think & Generalize" (arXiv 2604.07822): 0.01 out of domain '
    "with one pass, 0.75 to 0.8 with 4 to 8 loops, in a setting that differs."
)

SIZES = base.by_scale(180, 2500, 30000, 30000)
#: Tables of f1 and f2, as flags of data and training: the property is there or not. Random is the
#: default, and what claim a trains.
FAMILIES = {"random": ({}, {})}
FAMILIES |= {name: ({"function_family": name}, {}) for name in ("commutative", "modular")}
#: type_0, then for each hop the unseen calls whose mirror was seen, and those where it was not.
PROPERTY_GROUPS = {"inside": "type_0: both calls seen"}
for _hop in ("f1", "f2"):
    PROPERTY_GROUPS[f"{_hop}_mirror"] = f"{_hop} call unseen, its mirror seen"
    PROPERTY_GROUPS[f"{_hop}_no_mirror"] = f"{_hop} call unseen, mirror unseen"


def item_groups(dataset: Dataset) -> dict[str, np.ndarray]:
    """Which test items belong to which of ``PROPERTY_GROUPS``: ``{group: (n,) bool}``.

    An item with an unseen call has its other call seen. A call equal to its own mirror is in no
    mirror group.
    """
    graph = dataset.graph
    seen = seen_calls(graph, dataset.tables(), dataset.train.inputs)
    values = evaluate(graph, dataset.tables(), dataset.test.inputs)
    calls = [call_arguments(function, values) for function in graph.functions]
    known = [mask[call] for mask, call in zip(seen, calls, strict=True)]
    groups = {"inside": np.array([kind == "type_0" for kind in dataset.test.types])}
    for hop, other in ((0, 1), (1, 0)):
        first, second = calls[hop]
        alone = ~known[hop] & known[other] & (first != second)
        mirrored, name = seen[hop][second, first], graph.functions[hop].name
        groups |= {f"{name}_mirror": alone & mirrored, f"{name}_no_mirror": alone & ~mirrored}
    return groups


def collect(sweep: Sweep, scale: str) -> dict:
    """Both panels: accuracy of every group, variant and seed."""
    runs = shared.runs(scale)
    for name, (data, train) in FAMILIES.items():
        for seed in base.SEEDS[scale]:
            own = {"data": data, "train": train, **base.TESTED}
            runs[name, str(seed)] = base.one_run(scale, seed, SIZES[scale], name, **own)

    def measure(run: RunSettings, _record: Mapping) -> dict:
        if run.task == shared.TASK:
            return shared.measure(sweep, run)
        dataset, _, correct = base.tested(sweep, run)
        answered = {group: correct[rows] for group, rows in item_groups(dataset).items()}
        return {"groups": {g: share(own) for g, own in answered.items()}}

    found = base.measured_runs(sweep, runs, measure)
    by_property = {name: found.pop(name) for name in FAMILIES}
    return {
        **base.world(scale),
        "size": SIZES[scale],
        "property": by_property,
        "shared": shared.summary(scale, found),
    }


def share(answered: np.ndarray) -> dict:
    """How many items, and the share of them that are right; None without items."""
    return {"items": len(answered), "accuracy": float(answered.mean()) if len(answered) else None}


def find(numbers: Mapping) -> list[str]:
    """Sentences on the shared operator, then on properties of functions."""
    panel = numbers["property"]
    sentences: list[str] = []
    for variant, hop in itertools.product(panel, ("f1", "f2")):
        rates = [shared.rate(panel[variant], f"{hop}_{g}") for g in ("mirror", "no_mirror")]
        if None in rates:
            continue
        gap = rate_difference(*rates)
        counts = " and ".join(f"{rate.items:,}" for rate in rates)
        told = f"a clear difference of {gap}" if gap.above_zero else f"no clear difference ({gap})"
        sentences.append(
            f"{variant} functions, {hop} call unseen: {rates[0]} with the mirror seen, {rates[1]} "
            f"without, {told} ({counted(rates[0].n, 'seed')}; {counts} items)."
        )
    random, modular = (shared.rate(panel[name], "f1_no_mirror") for name in ("random", "modular"))
    if random and modular:
        gap = rate_difference(modular, random)
        told = f"no clear difference ({gap})"
        if gap.above_zero:
            told = "clearly more; a sum could be known from other calls with the same sum"
        sentences.append(
            f"Where not even the mirror was seen, modular f1 gives {modular}, random f1 {random}: "
            f"{told}."
        )
    if sentences:
        sentences.insert(
            0,
            f"Properties of functions, with {numbers['num_tokens']} tokens and N = "
            f"{numbers['size']:,}: is an item right of which no training item makes one call?",
        )
    return shared.find(numbers["shared"]) + sentences


def tables(numbers: Mapping) -> list[base.Table]:
    rows = [
        [variant, *(base.rate_in_table(shared.rate(seeds, group)) for group in PROPERTY_GROUPS)]
        for variant, seeds in numbers["property"].items()
    ]
    title = f"Accuracy, property of the functions ({base.RATE_INTERVALS})"
    by_property = base.Table(title, ["variant", *PROPERTY_GROUPS.values()], rows)
    return [*shared.tables(numbers["shared"]), by_property]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy outside of coverage by mechanism; over training; what stands for an entity."""
    figure, axes = style.new_figure(12.5, 9, 2, 2)
    (final, over_training), (states, by_property) = axes
    panel = numbers["shared"]
    shared.draw(panel, final, over_training, states)
    by_variant = numbers["property"].values()
    series = {
        label: [shared.rate(seeds, group) for seeds in by_variant]
        for group, label in PROPERTY_GROUPS.items()
    }
    plots.bars_of_rates(by_property, series, numbers["property"], span=0.8)
    title = "property of the functions: accuracy by unseen call"
    plots.accuracy_axis(by_property, title, numbers["chance"], over="")
    for axis in axes.flat:
        axis.set_ylim(0, 1.05)
        axis.legend(**{**plots.BELOW, "bbox_to_anchor": (0.5, -0.13)}, ncol=3, frameon=False)
    return style.save_figure(figure, stem)


CLAIM = base.Claim("g", "mechanisms", TITLE, PUBLISHED, collect, find, tables, draw)

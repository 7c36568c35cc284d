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
from coverage_principle.statistics import Mean, mean_difference, rate_of
from simpletransformers.words import counted

TITLE = "Beyond coverage: property-based and shared-operator generalisation (2-hop)"
PUBLISHED = (
    "a taxonomy of three mechanisms (structure-based, property-based, shared-operator), without "
    "numbers."
)

SIZES = base.by_scale(180, 2500, 30000, 30000)
#: Tables of f1 and f2, as flags of data and training: the property is there or not. Random is the
#: default, and what claim a trains.
FAMILIES = {"random": ({}, {})}
FAMILIES |= {name: ({"function_family": name}, {}) for name in ("commutative", "modular")}
#: Of both panels: type_0, then for each hop the unseen calls that the mechanism reaches, and not.
PROPERTY_GROUPS = {"inside": "type_0: both calls seen"}
SHARED_GROUPS = dict(PROPERTY_GROUPS)
for _hop, _other in (("f1", 2), ("f2", 1)):
    PROPERTY_GROUPS[f"{_hop}_mirror"] = f"{_hop} call unseen, its mirror seen"
    PROPERTY_GROUPS[f"{_hop}_no_mirror"] = f"{_hop} call unseen, mirror unseen"
    SHARED_GROUPS[f"{_hop}_elsewhere"] = f"{_hop} call unseen, but seen in hop {_other}"
    SHARED_GROUPS[f"{_hop}_nowhere"] = f"{_hop} call unseen in both hops"


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
        alone = ~known[hop] & known[other]
        first, second = calls[hop]
        mirrored, elsewhere = seen[hop][second, first], seen[other][first, second]
        proper = alone & (first != second)
        own = {"mirror": proper & mirrored, "no_mirror": proper & ~mirrored}
        own |= {"elsewhere": alone & elsewhere, "nowhere": alone & ~elsewhere}
        groups |= {f"{graph.functions[hop].name}_{name}": rows for name, rows in own.items()}
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
        return {"groups": {g: base.share(own) for g, own in answered.items()}}

    found = base.measured_runs(sweep, runs, measure)
    by_property = {name: found.pop(name) for name in FAMILIES}
    return {
        **base.world(scale),
        "size": SIZES[scale],
        "property": by_property,
        "shared": shared.summary(scale, found),
    }


def accuracies(panel: Mapping, variant: str, group: str) -> list[float]:
    """A group's accuracy for each seed that has such items."""
    found = [run["groups"][group]["accuracy"] for run in panel["variants"][variant].values()]
    return [value for value in found if value is not None]


def find(numbers: Mapping) -> list[str]:
    by_property, shared = (numbers["panels"][name] for name in ("property", "shared"))
    ends = ("mirror", "no_mirror", "with the mirror seen", "without")
    sentences = [words for _, words in _comparisons(by_property, " functions", *ends)]
    random, modular = (accuracies(by_property, f, "f1_no_mirror") for f in ("random", "modular"))
    if random and modular:
        sentences.append(
            f"Where not even the mirror was seen, modular f1 gives {rate_of(modular)}, random f1 "
            f"{rate_of(random)}: a sum can be known from other calls with the same sum."
        )
    ends = ("elsewhere", "nowhere", "where the other hop has seen it", "where none has")
    found = _comparisons(shared, "", *ends)
    sentences += [words for gap, words in found if gap.above_zero]
    if unclear := [gap.mean for gap, _ in found if not gap.above_zero]:
        sentences.append(
            f"In {len(unclear)} of {counted(len(found), 'comparison')}, over variants with one and "
            "with two functions and both hops, an unseen call is not clearly answered more often "
            f"where the other hop has seen it: differences lie between {min(unclear):.2f} and "
            f"{max(unclear):.2f}."
        )
    return sentences


def _comparisons(
    panel: Mapping, kind: str, reached: str, control: str, *where: str
) -> list[tuple[Mean, str]]:
    """How much more often a group is answered than its control, by seed, and a sentence of it.

    For each variant (whose name ``kind`` follows) and hop; ``where`` says in the sentence what the
    two groups are. Left out if the seeds of the two groups differ.
    """
    compared = []
    for variant, hop in itertools.product(panel["variants"], ("f1", "f2")):
        both = [accuracies(panel, variant, f"{hop}_{group}") for group in (reached, control)]
        if (gap := mean_difference(*both)) is None:
            continue
        rates = ", ".join(f"{rate_of(v)} {place}" for v, place in zip(both, where, strict=True))
        sentence = f"{variant}{kind}, {hop} call unseen: {rates}"
        if gap.above_zero:
            sentence += f", a clear difference of {gap}"
        elif gap.low is not None:
            sentence += f"; no clear difference ({gap})"
        compared.append((gap, sentence + "."))
    return compared


def tables(numbers: Mapping) -> list[base.Table]:
    result = []
    for panel in numbers["panels"].values():
        rows = []
        for variant, seeds in panel["variants"].items():
            rows.append([variant])
            for group in panel["groups"]:
                counts = [run["groups"][group]["n"] for run in seeds.values()]
                rows[-1].append(base.mean_in_table(accuracies(panel, variant, group), counts))
        title = f"Accuracy, {panel['title']}: mean over seeds (95 % interval)"
        result.append(base.Table(title, ["variant", *panel["groups"].values()], rows))
    return result


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy on items outside of coverage, by whether a mechanism could reach them."""
    panels = numbers["panels"].values()
    widths = [1 + len(panel["variants"]) for panel in panels]
    grid = {"sharey": True, "squeeze": False, "width_ratios": widths}
    figure, (axes,) = style.new_figure(1.2 * sum(widths), 4.6, 1, len(panels), **grid)
    for axis, panel in zip(axes, panels, strict=True):
        series = {
            label: [accuracies(panel, variant, group) for variant in panel["variants"]]
            for group, label in panel["groups"].items()
        }
        plots.bars_of_seeds(axis, series, panel["variants"], span=0.8)
        plots.accuracy_axis(axis, panel["title"], numbers["chance"], over="")
        axis.set_ylim(0, 1.05)
        axis.legend(**{**plots.BELOW, "bbox_to_anchor": (0.5, -0.16)}, ncol=2)
    axes[0].set_ylabel("answer accuracy (bar: mean, dots: seeds)")
    return style.save_figure(figure, stem)


CLAIM = base.Claim("g", "mechanisms", TITLE, PUBLISHED, collect, find, tables, draw)

"""Same-bridge interchange: is the state of another fragment with the SAME value as good?

An original's fragment (2-hop: x1, x2) is replaced by that of another item with the same value b, so
the right answer stays. If the model computes with b and forgets the fragment, patching the state
that carries b changes nothing; what changes is specific to the fragment.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.circuits.analysis import Progress, Subject
from coverage_principle.circuits.bootstrap import Bootstrap
from coverage_principle.circuits.counterfactuals import Counterfactuals, plan_of
from coverage_principle.circuits.items import Grouping, ItemSplit, grouping_of
from coverage_principle.circuits.patching import Trace
from coverage_principle.circuits.settings import InterchangeSettings
from coverage_principle.data import Dataset, evaluate
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

#: The published pairs of splits: originals from the first, fragments from the second.
_SPLITS = ("id_train", "id_test", "ood")
SPLIT_PAIRS = (*itertools.combinations(_SPLITS, 2), *((split, split) for split in _SPLITS))


def run_interchange(
    settings: InterchangeSettings, *, progress: Progress = lambda *_: None
) -> tuple[Path, dict]:
    """Same-bridge interchange of a run's checkpoints, for every published pair of splits.

    Writes ``<save_dir>/<run>_residual_same_<value>.json`` and returns its path and content.
    """
    subject = Subject.find(settings)
    dataset = subject.dataset
    grouping = kept_value(dataset.graph, settings.group_by)
    name = f"{subject.path.name}_residual_same_{grouping.name}"
    subject.place(name)
    splits = subject.splits(grouping)
    test, plans = dataset.test.inputs, {}
    for first, second in SPLIT_PAIRS:
        rows, donors = splits[first].rows, test[splits[second].rows]
        drawn = draw_interchange(dataset, grouping.name, test[rows], donors, seed=settings.seed)
        if len(drawn.rows):
            pair = f"{first}-{second}"
            split = {pair: splits[first]}
            plans[pair] = plan_of(dataset, rows, {pair: np.arange(len(rows))}, split, drawn)
    if not plans:
        raise InputError(f"{dataset.name}: no two test items have the same {grouping.name}")
    summaries: dict[str, dict] = {checkpoint.name: {} for checkpoint in subject.checkpoints}
    for pair, plan in plans.items():
        for checkpoint, loaded, traces in subject.patched(plan, progress):
            found = summarise_interchange(traces[-1], plan.slots, seed=settings.seed)
            for cell in found["cells"]:
                where = cell["layer"], cell["position"]
                cell |= loaded.network.place_of(cell["layer"])
                cell |= subject.of_cell(dataset.graph.answer, grouping.keys, *where)
            summaries[checkpoint][pair], depth = found, loaded.depth
    family = {"name": f"same_{grouping.name}", "holds": grouping.name}
    results = subject.results(
        stream="residual",
        family={**family, "changes": list(grouping.fragment)},
        **depth,
        splits={
            pair: plan.report[pair] | {"sources_explained": _explained(dataset, splits, pair)}
            for pair, plan in plans.items()
        },
        checkpoints=summaries,
    )
    return subject.write(name, results), results


def _explained(dataset: Dataset, splits: Mapping[str, ItemSplit], pair: str) -> list[str]:
    """The types, with their words, of the items that fragments are taken from."""
    return [dataset.graph.explained(name) for name in splits[pair.split("-")[1]].types]


def kept_value(graph: TaskGraph, wanted: str) -> Grouping:
    """The grouping by the value that interchange keeps; ``InputError`` if it is no intermediate."""
    graph.require_bridges("interchange keeps")
    grouping = grouping_of(graph, wanted)
    if grouping.name not in graph.bridges:
        refusal = f"`group_by` {grouping.name} is no intermediate value of task {graph.name}"
        raise InputError(f"{refusal}; it has {', '.join(graph.bridges)}")
    return grouping


def draw_interchange(
    dataset: Dataset, value: str, originals: np.ndarray, donors: np.ndarray, *, seed: int
) -> Counterfactuals:
    """For each of ``originals`` (n, slots) the fragment of one of ``donors`` (m, slots).

    A donor has the same ``value`` and another fragment; slots of the fragment that reach the answer
    past the value as well must be equal, else the answer would change. The draw is uniform over
    such fragments and depends on ``seed`` and the item alone (given the donors). ``InputError`` if
    ``value`` is no intermediate value.
    """
    graph, tables = dataset.graph, dataset.tables()
    kept_value(graph, value)
    columns = list(graph.fragment_positions(value))
    shared = [p for p in columns if graph.inputs[p] in graph.ambiguous_slots]
    inside = [graph.inputs[p] for p in shared]

    def keys(inputs: np.ndarray) -> list[tuple[int, int]]:
        """What a donor must have in common with an original, and its fragment."""
        own = evaluate(graph, tables, inputs)[value]
        parts = (np.column_stack([own, inputs[:, shared]]), inputs[:, columns])
        sizes = (dataset.sizes(names) for names in ((value, *inside), graph.fragment(value)))
        coded = (encode_rows(p, own).tolist() for p, own in zip(parts, sizes, strict=True))
        return list(zip(*coded, strict=True))

    places: dict[tuple[int, int], int] = {}
    for place, key in enumerate(keys(donors)):
        places.setdefault(key, place)  # the first donor of each fragment
    groups: dict[int, list[tuple[int, int]]] = {}
    for key in sorted(places):
        groups.setdefault(key[0], []).append(key)
    chosen = np.full(len(originals), -1, dtype=np.int64)
    candidates = np.zeros(len(originals), dtype=np.int64)
    for row, own in enumerate(keys(originals)):
        others = [key for key in groups.get(own[0], ()) if key != own]
        candidates[row] = len(others)
        if others:
            rng = np.random.default_rng([seed, *originals[row].tolist()])
            chosen[row] = places[others[rng.integers(len(others))]]
    rows = np.flatnonzero(chosen >= 0)
    inputs = originals[rows].copy()
    inputs[:, columns] = donors[chosen[rows]][:, columns]
    reasons = np.where(chosen >= 0, "", f"no other fragment has the same {value}").astype(object)
    answers = evaluate(graph, tables, inputs)[graph.answer].astype(np.int32)
    return Counterfactuals(rows, inputs, answers, candidates, reasons)


def summarise_interchange(trace: Trace, slots: tuple[str, ...], *, seed: int) -> dict:
    """What patching changed, cell by cell, over all samples and over those answered right.

    ``rank_changed``: the rank of t is another one (the published count); ``answer_kept``: t is
    ranked first (published: not given); ``rank_shift`` and ``logit_shift``: mean change of the rank
    and of the logit of t. Intervals are 95 % percentile bootstrap over samples.
    """
    right = trace.answers_original
    before, after = trace.before["rank"][:, 0], trace.after["rank"][..., 0]
    logit = trace.after["logit"][..., 0] - trace.before["logit"][:, 0]
    rng = np.random.default_rng(seed)
    cells = []
    for i, layer in enumerate(trace.layers):
        for j, position in enumerate(trace.positions):
            cell = {"layer": layer, "position": position, "slot": slots[position]}
            for name, chosen in (("unfiltered", np.ones_like(right)), ("original_correct", right)):
                rank, old = after[i, j, chosen], before[chosen]
                sample = Bootstrap(len(rank), rng)
                changed, kept = sample.counts(np.stack([rank != old, rank == 0]))
                shifts = np.stack([rank - old, logit[i, j, chosen]]).astype(np.float64)
                by_rank, by_logit = sample.means(shifts)
                cell[name] = {"n": len(rank), "rank_changed": changed, "answer_kept": kept}
                cell[name] |= {"rank_shift": by_rank, "logit_shift": by_logit}
            cells.append(cell)
    samples = {"n": len(right), "original_correct": int(right.sum())}
    return {"samples": samples, "cells": cells}

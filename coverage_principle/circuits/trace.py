"""Causal tracing: which (layer, position) carries a value, by patching and counting.

A cell's effect is how often, or how far, the original run patched there moves from its own answer t
to the counterfactual's t' (and for data with bridges in the target, from bridge b to b'). What is
counted is one entry of ``metrics.METRICS``. Effects are reported over three subsets of the samples,
side by side:

- ``published``: those that the published filter of the metric keeps. Metrics ``rank`` and
  ``logit``: the original run does not rank t' above t. Metric ``prob``: the source run gives t' at
  least 1e-6 more than the original run, and no patch below layer L at this position gives it more
  than the source run (which selects on the outcome).
- ``unfiltered``: every sample (``prob``: every sample whose ratio is defined).
- ``both_correct``: the model answers t in the original run and t' in the source run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.circuits import counterfactuals
from coverage_principle.circuits.analysis import Progress, Subject
from coverage_principle.circuits.bootstrap import Bootstrap
from coverage_principle.circuits.counterfactuals import Family, Plan
from coverage_principle.circuits.items import ItemSplit, grouping_of, union_of
from coverage_principle.circuits.metrics import METRICS
from coverage_principle.circuits.patching import Trace
from coverage_principle.circuits.settings import FamilySettings, TraceSettings
from coverage_principle.data import Dataset


def run_trace(
    settings: TraceSettings, *, progress: Progress = lambda *_: None
) -> tuple[Path, dict]:
    """Causal tracing of a run's checkpoints, written to files.

    Every checkpoint is given the same originals and counterfactuals. Writes
    ``<save_dir>/<run>_<stream>_<label>_<metric>.json`` (last) and ``.npz`` and returns the JSON
    file's path and its content; ``label`` is the family's name if not given. ``InputError`` for
    anything that does not exist.
    """
    subject = Subject.find(settings)
    family = counterfactuals.family_of(subject.dataset.graph, settings.family)
    label = settings.label or family.name
    name = f"{subject.path.name}_{settings.stream}_{label}_{settings.metric}"
    subject.place(name)
    results, arrays = trace_subject(subject, progress=progress)
    return subject.write(name, results, arrays), results


def trace_subject(
    subject: Subject, *, progress: Progress = lambda *_: None
) -> tuple[dict, dict[str, np.ndarray]]:
    """Causal tracing in memory: the content of both files of ``run_trace``.

    The settings are those of ``subject``, a ``TraceSettings``; the same ``InputError``.
    """
    settings, graph = subject.settings, subject.dataset.graph
    family = counterfactuals.family_of(graph, settings.family)
    splits = subject.splits(grouping_of(graph, family.value), out_of_domain=settings.out_of_domain)
    plan = plan_trace(subject.dataset, family, splits, seed=settings.seed)
    summaries, arrays = {}, plan.arrays()
    options = {"stream": settings.stream, "pairs": settings.pairs}
    options["probabilities"] = METRICS[settings.metric].probabilities

    def of_cell(value: str, cell: Mapping) -> dict:
        return subject.of_cell(value, (family.differing,), cell["layer"], cell["position"])

    for checkpoint, loaded, traces in subject.patched(plan, progress, **options):
        depth, options = loaded.depth, (settings, of_cell, loaded.network.place_of)
        summaries[checkpoint] = {
            name: summary_of(plan, traces, members, *options)
            for name, members in plan.members.items()
        }
        arrays |= arrays_of(checkpoint, plan, traces)
    results = subject.results(
        stream=settings.stream,
        family=family.about,
        metric=settings.metric,
        **depth,
        emitted=list(plan.layout.emitted),
        splits=plan.report,
        checkpoints=summaries,
    )
    return results, arrays


def plan_trace(
    dataset: Dataset, family: Family, splits: Mapping[str, ItemSplit], *, seed: int
) -> Plan:
    """Draw a counterfactual for every item of ``splits`` that has one.

    ``InputError`` if none has. Prompts are inputs, and filler if the data set has some.
    """
    rows, places = union_of(splits)
    drawn = counterfactuals.draw_counterfactuals(
        dataset, family, dataset.test.inputs[rows], seed=seed
    )
    return counterfactuals.plan_of(dataset, rows, places, splits, drawn)


def arrays_of(checkpoint: str, plan: Plan, traces: Sequence[Trace]) -> dict[str, np.ndarray]:
    """What a file of arrays holds of a checkpoint, by emitted value."""
    return {
        f"{checkpoint}/{value}/{readout}/{side}": values
        for value, found in zip(plan.layout.emitted, traces, strict=False)
        for side in ("before", "source", "after")
        for readout, values in getattr(found, side).items()
    }


def moved(plan: Plan, members: np.ndarray, number: int) -> np.ndarray:
    """Those of ``members`` whose emitted value is another one in the source run.

    A bridge that is the same in both runs cannot move from one to the other.
    """
    differs = plan.wanted[members, number, 0] != plan.wanted[members, number, 1]
    return members[differs]


def summary_of(
    plan: Plan,
    traces: Sequence[Trace],
    members: np.ndarray,
    settings: FamilySettings,
    of_cell: Callable[[str, Mapping], dict],
    place_of: Callable[[int], dict],
    estimates: Mapping[str, np.ndarray] | None = None,
) -> dict:
    """The answer's effects, and under ``bridges`` those of the bridges that the model writes.

    ``of_cell(value, cell)`` and ``place_of(layer)`` are added to the cells of an emitted value.
    ``estimates`` are about the value that is emitted first (see ``summarise_trace``).
    """
    found = {}
    for number, (value, trace) in enumerate(zip(plan.layout.emitted, traces, strict=True)):
        options = {"metric": settings.metric, "seed": settings.seed}
        options |= {"estimates": None if number else estimates}
        part = summarise_trace(trace, moved(plan, members, number), plan.slots, **options)
        if settings.pairs is not None:
            part["cells"] = [
                c for c in part["cells"] if (c["layer"], c["position"]) in settings.pairs
            ]
        part["cells"] = [
            cell | place_of(cell["layer"]) | of_cell(value, cell) for cell in part["cells"]
        ]
        found[value] = part
    answer = found.pop(plan.layout.emitted[-1])
    return answer | {"bridges": found} if found else answer


def summarise_trace(
    trace: Trace,
    members: np.ndarray,
    slots: tuple[str, ...],
    *,
    metric: str = "rank",
    seed: int,
    estimates: Mapping[str, np.ndarray] | None = None,
) -> dict:
    """Effects of every cell over the samples ``members``.

    ``metric`` is one of ``METRICS`` (some need a trace with probabilities). Returns ``samples``:
    how many there are and how many of them the model answers right in the original and in the
    source run; ``filtered_out``: by reason, what the published filter drops (at each position where
    it depends on it); ``cells``: see docs/circuit_analysis.md. Intervals are 95 % percentile
    bootstrap over samples, seeded with ``seed``.

    ``estimates``, (rows, positions, n) by name, are other estimates of the shift of
    logit(t') - logit(t): cells have their means, and as ``NAME_share`` their share of the source
    run's. The cells of a trace whose ``after`` is empty have nothing else.
    """
    samples, entry = Samples(trace, members), METRICS[metric]
    shape = len(members), len(trace.positions)

    def everywhere(mask: np.ndarray) -> np.ndarray:
        return np.broadcast_to(mask if mask.ndim == 2 else mask[:, None], shape)

    usable = everywhere(entry.usable(samples) if entry.usable else np.ones(len(members), bool))
    dropped = {why: everywhere(mask) for why, mask in entry.dropped(samples).items()}
    subsets = {
        "published": ~np.any([np.zeros(shape, bool), *dropped.values()], axis=0),
        "unfiltered": usable,
        "both_correct": usable & everywhere(samples.correct.all(axis=0)),
    }
    rng = np.random.default_rng(seed)
    cells = {
        (row, position): {**about, "position": position, "slot": slots[position]}
        for row, about in enumerate(trace.rows)
        for position in trace.positions
    }
    for place, position in enumerate(trace.positions):
        for name, mask in subsets.items():
            chosen = Cells(samples, place, mask[:, place], rng)
            # How far the logits move is measured with every metric.
            measures = (entry, METRICS["logit"]) if trace.after else ()
            effects = {key: e for one in measures for key, e in one.measure(chosen).items()}
            for key, values in (estimates or {}).items():
                own = values[:, place, members[mask[:, place]]]
                effects |= {key: chosen.means(own), f"{key}_share": chosen.ratios(own, chosen.gain)}
            for row in range(len(trace.rows)):
                of_row = {effect: found[row] for effect, found in effects.items()}
                cells[row, position][name] = {"n": chosen.n, **of_row}
    right = (*samples.correct, samples.correct.all(axis=0))
    names = ("original_correct", "source_correct", "both_correct")
    counts = {name: int(mask.sum()) for name, mask in zip(names, right, strict=True)}
    filtered = {
        reason: {slots[p]: int(mask[:, i].sum()) for i, p in enumerate(trace.positions)}
        for reason, mask in dropped.items()
    }
    samples_of = {"n": len(members), **counts}
    return {"samples": samples_of, "filtered_out": filtered, "cells": list(cells.values())}


class Samples:
    """The samples of a trace that belong to one split, as a metric's filters see them.

    ``before`` and ``source`` map each readout to (n, 2), ``after`` to (layers, positions, n, 2);
    the last axis is the original's and the source's value. ``layers`` names the first axis;
    ``correct`` (2, n) bool says whether the original and the source run give their own value.
    """

    def __init__(self, trace: Trace, members: np.ndarray) -> None:
        self.layers = trace.layers
        self.before = {name: values[members] for name, values in trace.before.items()}
        self.source = {name: values[members] for name, values in trace.source.items()}
        self.after = {name: values[:, :, members] for name, values in trace.after.items()}
        self.correct = np.stack([trace.answers_original[members], trace.answers_source[members]])


class Cells(Bootstrap):
    """Some samples at one position, in all layers, as a metric measures them.

    ``before`` and ``source`` map each readout to (n, 2), ``after`` to (layers, n, 2); ``ranks`` are
    the ranks of t and t' after patching, (layers, n) each. ``counts``, ``means`` and ``ratios``
    (of ``Bootstrap``) turn values (layers, n) into numbers with intervals, one for each layer.
    """

    def __init__(
        self, samples: Samples, place: int, chosen: np.ndarray, rng: np.random.Generator
    ) -> None:
        super().__init__(int(chosen.sum()), rng)
        self.before = {name: values[chosen] for name, values in samples.before.items()}
        self.source = {name: values[chosen] for name, values in samples.source.items()}
        self.after = {name: values[:, place, chosen] for name, values in samples.after.items()}

    @property
    def ranks(self) -> np.ndarray:
        return np.moveaxis(self.after["rank"], -1, 0)

    @property
    def gain(self) -> np.ndarray:
        """How far the source run is from the original in logit(t') - logit(t), (n,) float64."""
        before, source = (run["logit"].astype(np.float64) for run in (self.before, self.source))
        return (source[:, 1] - source[:, 0]) - (before[:, 1] - before[:, 0])

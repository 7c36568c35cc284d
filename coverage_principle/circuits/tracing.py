"""Causal tracing: which (layer, position) carries a value, by patching and counting.

A cell's effect is how often, or how far, the original run patched there moves from its own answer t
to the counterfactual's t' (and for data with bridges in the target, from bridge b to b'). Effects
are reported over three subsets of the samples, side by side:

- ``published``: the published filter. Metrics ``rank`` and ``logit``: the original run does not
  rank t' above t. Metric ``prob``: the source run gives t' at least 1e-6 more than the original
  run, and no patch below layer L at this position gives it more than the source run (which selects
  on the outcome).
- ``unfiltered``: every sample (``prob``: every sample whose ratio is defined).
- ``both_correct``: the model answers t in the original run and t' in the source run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.circuits.counterfactuals import (
    Counterfactuals,
    Family,
    draw_counterfactuals,
)
from coverage_principle.circuits.grouping import Layout, layout_of
from coverage_principle.circuits.items import ItemSplit, union_of
from coverage_principle.circuits.patching import Trace
from coverage_principle.data import Dataset, evaluate
from coverage_principle.errors import InputError

#: "Among the first" of the published rank metric: a 0-based rank of at most 5.
TOP_RANK = 5
#: Below this change of probability between original and source run, their ratio is not defined.
SMALLEST_CHANGE = 1e-6

SUBSETS = ("published", "unfiltered", "both_correct")
RESAMPLES = 1000


@dataclass(frozen=True)
class Plan:
    """What is traced; the same for every checkpoint.

    For n samples: ``rows`` (n,) their places in the test split, ``originals`` and ``sources``
    (n, prompt tokens) and ``wanted`` (n, values, 2), the values (w, w') that the two runs should
    emit after the prompt, all data-set ids. ``layout`` names tokens and values. ``members`` maps
    each split to its samples; ``report`` says for each split how many items there were and why some
    are not traced.
    """

    layout: Layout
    rows: np.ndarray
    originals: np.ndarray
    sources: np.ndarray
    wanted: np.ndarray
    members: dict[str, np.ndarray]
    report: dict[str, dict]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the prompt's positions."""
        return self.layout.names[: self.layout.prompt]


def plan_tracing(
    dataset: Dataset, family: Family, splits: Mapping[str, ItemSplit], *, seed: int
) -> Plan:
    """Draw a counterfactual for every item of ``splits`` that has one.

    ``InputError`` if none has. Prompts are inputs, and filler if the data set has some.
    """
    rows, places = union_of(splits)
    drawn = draw_counterfactuals(dataset, family, dataset.test.inputs[rows], seed=seed)
    return plan_of(dataset, rows, places, splits, drawn)


def plan_of(
    dataset: Dataset,
    rows: np.ndarray,
    places: Mapping[str, np.ndarray],
    splits: Mapping[str, ItemSplit],
    drawn: Counterfactuals,
) -> Plan:
    """The plan of test items ``rows`` with counterfactuals drawn for them in this order."""
    layout = layout_of(dataset)
    kept = drawn.rows
    if len(kept) == 0:
        reasons = "; ".join(f"{n} times: {why}" for why, n in Counter(drawn.reasons).items())
        raise InputError(
            f"{dataset.name}: no test item has a counterfactual ({reasons or 'there are no items'})"
        )
    members, report = {}, {}
    for name, split in splits.items():
        mine = places[name]
        traced = mine[drawn.reasons[mine] == ""]
        members[name] = np.searchsorted(kept, traced)
        report[name] = {
            "types": list(split.types),
            "items": split.available,
            "distinct_fragments": len(split.rows),
            "no_counterfactual": dict(Counter(drawn.reasons[mine]) - Counter({"": len(mine)})),
            "traced": len(traced),
            "mean_candidates": float(drawn.candidates[traced].mean()) if len(traced) else None,
        }
    inputs = dataset.test.inputs[rows[kept]]
    filler = dataset.test.targets[rows[kept]][:, : layout.prompt - layout.inputs]
    both = []
    for given in (inputs, drawn.inputs):
        values = evaluate(dataset.graph, dataset.tables(), given)
        both.append(np.stack([values[name] for name in layout.emitted], axis=1))
    return Plan(
        layout,
        rows[kept],
        np.concatenate([inputs, filler], axis=1),
        np.concatenate([drawn.inputs, filler], axis=1),
        np.stack(both, axis=2).astype(np.int32),
        members,
        report,
    )


# ------------------------------------------------------------------------------------- summaries


def summarise(
    trace: Trace, members: np.ndarray, slots: tuple[str, ...], *, metric: str = "rank", seed: int
) -> dict:
    """Effects of every cell over the samples ``members``.

    ``metric`` is ``rank``, ``logit`` or ``prob`` (which needs a trace with probabilities). Returns
    ``samples``: how many there are and how many of them the model answers right in the original and
    in the source run; ``filtered_out``: by reason, what the published filter drops (at each
    position where it depends on it); ``cells``: see docs/circuit_analysis.md. Intervals are 95 %
    percentile bootstrap over samples, seeded with ``seed``.
    """
    part = _Part(trace, members, metric)
    rng = np.random.default_rng(seed)
    measures = {"rank": [_rank_effects], "prob": [_relative_effects], "logit": []}[metric]
    subsets = part.subsets()
    cells = {
        (layer, position): {"layer": layer, "position": position, "slot": slots[position]}
        for layer in trace.layers
        for position in trace.positions
    }
    for place, position in enumerate(trace.positions):
        for name in SUBSETS:
            chosen = subsets[name][:, place]
            weights = resampled(int(chosen.sum()), rng)
            found = [
                measure(part, place, chosen, weights) for measure in [*measures, _logit_effects]
            ]
            for i, layer in enumerate(trace.layers):
                cells[layer, position][name] = {"n": int(chosen.sum())}
                for effects in found:
                    cells[layer, position][name] |= effects[i]
    return {
        "samples": {
            "n": len(members),
            "original_correct": int(part.correct[0].sum()),
            "source_correct": int(part.correct[1].sum()),
            "both_correct": int(part.correct.all(axis=0).sum()),
        },
        "filtered_out": part.filtered_out([slots[position] for position in trace.positions]),
        "cells": list(cells.values()),
    }


class _Part:
    """The samples of a trace that belong to one split.

    ``before`` and ``source`` are (n, 2) and ``after`` (layers, positions, n, 2) of each readout.
    """

    def __init__(self, trace: Trace, members: np.ndarray, metric: str) -> None:
        self.trace, self.metric = trace, metric
        self.before = {name: values[members] for name, values in trace.before.items()}
        self.source = {name: values[members] for name, values in trace.source.items()}
        self.after = {name: values[:, :, members] for name, values in trace.after.items()}
        self.correct = np.stack([trace.answers_original[members], trace.answers_source[members]])
        self._drops = self._published_drops()

    def subsets(self) -> dict[str, np.ndarray]:
        """Each subset as a bool array (samples, positions)."""
        shape = (self.correct.shape[1], len(self.trace.positions))
        usable = np.ones(shape, dtype=bool)
        if self.metric == "prob":
            usable &= (np.abs(self.gain()) >= SMALLEST_CHANGE)[:, None]
        published = np.ones(shape, dtype=bool)
        for dropped in self._drops.values():
            published &= ~dropped
        return {
            "published": published,
            "unfiltered": usable,
            "both_correct": usable & self.correct.all(axis=0)[:, None],
        }

    def filtered_out(self, slots: Sequence[str]) -> dict[str, dict[str, int]]:
        return {
            reason: {slot: int(dropped[:, i].sum()) for i, slot in enumerate(slots)}
            for reason, dropped in self._drops.items()
        }

    def gain(self) -> np.ndarray:
        return self.source["prob"][:, 1] - self.before["prob"][:, 1]

    def _published_drops(self) -> dict[str, np.ndarray]:
        """Reason -> (samples, positions): dropped for this reason, the first that applies."""
        positions = len(self.trace.positions)
        if self.metric != "prob":
            wrong = self.before["rank"][:, 0] > self.before["rank"][:, 1]
            return {"original run ranks t' above t": np.repeat(wrong[:, None], positions, axis=1)}
        gain = self.gain()
        small = np.repeat((np.abs(gain) < SMALLEST_CHANGE)[:, None], positions, axis=1)
        loss = np.repeat((gain < 0)[:, None], positions, axis=1) & ~small
        # At layer L the last position gives the source run itself, so rounding would decide there.
        below = [i for i, layer in enumerate(self.trace.layers) if layer < max(self.trace.layers)]
        after = self.after["prob"][below, :, :, 1]
        over = (after > self.source["prob"][:, 1]).any(axis=0).T & ~small & ~loss
        return {
            "source run changes the probability of t' by less than 1e-6": small,
            "source run gives t' less than the original run": loss,
            "a patch gives t' more than the source run": over,
        }


def _rank_effects(part: _Part, position: int, chosen: np.ndarray, weights: np.ndarray):
    """For each layer the counts and rates of the rank metric over the chosen samples."""
    ranks = part.after["rank"][:, position, chosen]
    t, changed = np.moveaxis(ranks, -1, 0)  # (layers, samples)
    top, above = changed <= TOP_RANK, t > changed
    effects = {
        "changed_in_top6": top,
        "changed_above_original": above,
        "both": top & above,
        "changed_first": changed == 0,
    }
    ends = {name: intervals(hits.T, weights) for name, hits in effects.items()}
    return [
        {name: count_of(hits[i], ends[name][i]) for name, hits in effects.items()}
        for i in range(len(changed))
    ]


def _relative_effects(part: _Part, position: int, chosen: np.ndarray, weights: np.ndarray):
    """For each layer (p'_after - p'_before) / (p'_source - p'_before) over the chosen samples."""
    before = part.before["prob"][chosen, 1].astype(np.float64)
    gain = part.source["prob"][chosen, 1].astype(np.float64) - before
    change = part.after["prob"][:, position, chosen, 1].astype(np.float64) - before
    ratios = change / gain
    ends, of_sums = intervals(ratios.T, weights), intervals(change.T, weights, divide_by=gain)
    return [
        {
            "relative_change": {
                "mean": float(ratios[i].mean()) if len(gain) else None,
                "interval": listed(ends[i]),
            },
            "relative_change_of_means": _ratio_of_sums(change[i], gain, of_sums[i]),
        }
        for i in range(len(ratios))
    ]


def _logit_effects(part: _Part, position: int, chosen: np.ndarray, weights: np.ndarray):
    """For each layer the shift of logit(t') - logit(t), and its share of the source's."""

    def difference(values: np.ndarray) -> np.ndarray:
        return values[..., 1].astype(np.float64) - values[..., 0]

    before = difference(part.before["logit"][chosen])
    gain = difference(part.source["logit"][chosen]) - before
    shift = difference(part.after["logit"][:, position, chosen]) - before
    ends, of_sums = intervals(shift.T, weights), intervals(shift.T, weights, divide_by=gain)
    return [
        {
            "logit_shift": {
                "mean": float(shift[i].mean()) if len(gain) else None,
                "interval": listed(ends[i]),
            },
            "logit_shift_share": _ratio_of_sums(shift[i], gain, of_sums[i]),
        }
        for i in range(len(shift))
    ]


def _ratio_of_sums(top: np.ndarray, bottom: np.ndarray, interval: np.ndarray) -> dict:
    total = bottom.sum() if len(bottom) else 0
    return {"mean": float(top.sum() / total) if total else None, "interval": listed(interval)}


def count_of(hits: np.ndarray, interval: np.ndarray) -> dict:
    """``count``, ``rate`` (None without samples) and ``interval`` of 0/1 values (n,)."""
    return {
        "count": int(hits.sum()),
        "rate": float(hits.mean()) if len(hits) else None,
        "interval": listed(interval),
    }


def resampled(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n samples is in each bootstrap sample: ``(RESAMPLES, n)`` float32."""
    if n == 0:
        return np.zeros((RESAMPLES, 0), dtype=np.float32)
    draws = rng.integers(0, n, size=(RESAMPLES, n)) + np.arange(RESAMPLES)[:, None] * n
    counts = np.bincount(draws.ravel(), minlength=RESAMPLES * n)
    return counts.reshape(RESAMPLES, n).astype(np.float32)


def intervals(
    values: np.ndarray, weights: np.ndarray, *, divide_by: np.ndarray | None = None
) -> np.ndarray:
    """95 % percentile intervals of the columns' means, ``(columns, 2)``; nan without rows.

    ``values`` is ``(n, columns)``, ``weights`` comes from ``resampled``. With ``divide_by`` (n,),
    of sum(values) / sum(divide_by).
    """
    n, columns = values.shape
    if n == 0:
        return np.full((columns, 2), np.nan)
    bottom = weights @ (np.ones(n, np.float32) if divide_by is None else divide_by)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (weights @ values.astype(np.float32)) / bottom[:, None]
    return np.percentile(means, [2.5, 97.5], axis=0).T


def bootstrap(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``intervals`` of freshly resampled rows."""
    return intervals(values, resampled(len(values), rng))


def listed(interval: np.ndarray) -> list[float] | None:
    """An interval for JSON: None if it is not defined."""
    return [float(end) for end in interval] if np.isfinite(interval).all() else None

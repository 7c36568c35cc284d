"""Causal tracing: which (layer, position) carries the bridge, by patching and counting.

A cell's effect is how often, or how far, the original run patched there moves from its own answer t
to the counterfactual's t'. Effects are reported over three subsets of the samples, side by side:

- ``published``: the published filter. Metric ``rank``: the original run does not rank t' above t.
  Metric ``prob``: the source run gives t' at least 1e-6 more than the original run, and no patch
  below layer L at this position gives it more than the source run (which selects on the outcome).
- ``unfiltered``: every sample (``prob``: every sample whose ratio is defined).
- ``both_correct``: the model answers t in the original run and t' in the source run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coverage_principle.circuits.counterfactuals import Family, draw_counterfactuals
from coverage_principle.circuits.items import ItemSplit, union_of
from coverage_principle.circuits.patching import Trace
from coverage_principle.data import Dataset
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
    (n, slots) and ``answers`` (n, 2), the answers t and t', all data-set ids. ``members`` maps each
    split to its samples; ``report`` says for each split how many items there were and why some are
    not traced.
    """

    family: Family
    rows: np.ndarray
    originals: np.ndarray
    sources: np.ndarray
    answers: np.ndarray
    members: dict[str, np.ndarray]
    report: dict[str, dict]


def plan_tracing(
    dataset: Dataset, family: Family, splits: Mapping[str, ItemSplit], *, seed: int
) -> Plan:
    """Draw a counterfactual for every item of ``splits`` that has one.

    ``InputError`` if targets hold bridges: the last input position then does not give the answer.
    """
    if dataset.train.targets.shape[1] != 1:
        raise InputError(
            f"{dataset.name}: its targets hold {dataset.train.targets.shape[1]} tokens; tracing "
            "needs a data set whose target is the answer alone"
        )
    rows, places = union_of(splits)
    test = dataset.test
    drawn = draw_counterfactuals(dataset, family, test.inputs[rows], seed=seed)
    kept = drawn.rows
    if len(kept) == 0:
        reasons = "; ".join(f"{n} times: {why}" for why, n in Counter(drawn.reasons).items())
        raise InputError(f"{dataset.name}: no test item has a counterfactual ({reasons})")
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
    answers = np.stack([test.answers[rows[kept]], drawn.answers], axis=1)
    return Plan(family, rows[kept], test.inputs[rows[kept]], drawn.inputs, answers, members, report)


# ------------------------------------------------------------------------------------- summaries


def summarise(trace: Trace, members: np.ndarray, slots: tuple[str, ...], *, seed: int) -> dict:
    """Effects of every cell over the samples ``members``.

    Returns ``samples``: how many there are and how many of them the model answers right in the
    original and in the source run; ``filtered_out``: by reason, what the published filter drops
    (at each position where it depends on it); ``cells``: see docs/circuit_analysis.md. Intervals
    are 95 % percentile bootstrap over samples, seeded with ``seed``.
    """
    part = _Part(trace, members)
    rng = np.random.default_rng(seed)
    effects = _rank_effects if trace.readout == "rank" else _relative_effects
    subsets = part.subsets()
    cells = {
        (layer, position): {"layer": layer, "position": position, "slot": slots[position]}
        for layer in trace.layers
        for position in trace.positions
    }
    for position in trace.positions:
        for name in SUBSETS:
            for layer, effect in zip(
                trace.layers, effects(part, position, subsets[name][:, position], rng), strict=True
            ):
                cells[layer, position][name] = effect
    return {
        "samples": {
            "n": len(members),
            "original_correct": int(part.correct[0].sum()),
            "source_correct": int(part.correct[1].sum()),
            "both_correct": int(part.correct.all(axis=0).sum()),
        },
        "filtered_out": part.filtered_out(slots),
        "cells": list(cells.values()),
    }


class _Part:
    """The samples of a trace that belong to one split."""

    def __init__(self, trace: Trace, members: np.ndarray) -> None:
        self.trace = trace
        self.before, self.source = trace.before[members], trace.source[members]
        self.after = trace.after[:, :, members]
        self.correct = np.stack([trace.answers_original[members], trace.answers_source[members]])
        self._drops = self._published_drops()

    def subsets(self) -> dict[str, np.ndarray]:
        """Each subset as a bool array (samples, positions)."""
        shape = (len(self.before), len(self.trace.positions))
        usable = np.ones(shape, dtype=bool)
        if self.trace.readout == "prob":
            usable &= (np.abs(self._gain()) >= SMALLEST_CHANGE)[:, None]
        published = np.ones(shape, dtype=bool)
        for dropped in self._drops.values():
            published &= ~dropped
        return {
            "published": published,
            "unfiltered": usable,
            "both_correct": usable & self.correct.all(axis=0)[:, None],
        }

    def filtered_out(self, slots: tuple[str, ...]) -> dict[str, dict[str, int]]:
        return {
            reason: {
                slots[position]: int(dropped[:, position].sum())
                for position in self.trace.positions
            }
            for reason, dropped in self._drops.items()
        }

    def _gain(self) -> np.ndarray:
        return self.source[:, 1] - self.before[:, 1]

    def _published_drops(self) -> dict[str, np.ndarray]:
        """Reason -> (samples, positions): dropped for this reason, the first that applies."""
        positions = len(self.trace.positions)
        if self.trace.readout == "rank":
            wrong = self.before[:, 0] > self.before[:, 1]
            return {"original run ranks t' above t": np.repeat(wrong[:, None], positions, axis=1)}
        gain = self._gain()
        small = np.repeat((np.abs(gain) < SMALLEST_CHANGE)[:, None], positions, axis=1)
        loss = np.repeat((gain < 0)[:, None], positions, axis=1) & ~small
        # At layer L the last position gives the source run itself, so rounding would decide there.
        below = [i for i, layer in enumerate(self.trace.layers) if layer < max(self.trace.layers)]
        over = (self.after[below, :, :, 1] > self.source[:, 1]).any(axis=0).T & ~small & ~loss
        return {
            "source run changes the probability of t' by less than 1e-6": small,
            "source run gives t' less than the original run": loss,
            "a patch gives t' more than the source run": over,
        }


def _rank_effects(part: _Part, position: int, chosen: np.ndarray, rng: np.random.Generator):
    """For each layer the counts and rates of the rank metric over the chosen samples."""
    t, changed = np.moveaxis(part.after[:, position, chosen], -1, 0)  # (layers, samples)
    top, above = changed <= TOP_RANK, t > changed
    names = ("changed_in_top6", "changed_above_original", "both")
    hits = np.stack([top, above, top & above])  # (3, layers, samples)
    n = int(chosen.sum())
    flat = hits.reshape(hits.shape[0] * hits.shape[1], n)
    intervals = _bootstrap(flat.T, rng).reshape(*hits.shape[:2], 2)
    return [
        {"n": n}
        | {
            name: {
                "count": int(hits[k, i].sum()),
                "rate": float(hits[k, i].mean()) if n else None,
                "interval": _listed(intervals[k, i]),
            }
            for k, name in enumerate(names)
        }
        for i in range(len(hits[0]))
    ]


def _relative_effects(part: _Part, position: int, chosen: np.ndarray, rng: np.random.Generator):
    """For each layer (p'_after - p'_before) / (p'_source - p'_before) over the chosen samples."""
    before = part.before[chosen, 1].astype(np.float64)
    gain = part.source[chosen, 1].astype(np.float64) - before
    change = part.after[:, position, chosen, 1].astype(np.float64) - before  # (layers, samples)
    n = len(gain)
    ratios = change / gain
    of_ratios = _bootstrap(ratios.T, rng)
    of_sums = _bootstrap(change.T, rng, divide_by=gain)
    return [
        {
            "n": n,
            "relative_change": {
                "mean": float(ratios[i].mean()) if n else None,
                "interval": _listed(of_ratios[i]),
            },
            "relative_change_of_means": {
                "mean": float(change[i].sum() / gain.sum()) if n and gain.sum() else None,
                "interval": _listed(of_sums[i]),
            },
        }
        for i in range(len(ratios))
    ]


def _bootstrap(
    values: np.ndarray, rng: np.random.Generator, *, divide_by: np.ndarray | None = None
) -> np.ndarray:
    """95 % percentile intervals of the columns' means, ``(columns, 2)``; nan without rows.

    ``values`` is ``(n, columns)``. With ``divide_by`` (n,), of sum(values) / sum(divide_by).
    """
    n, columns = values.shape
    if n == 0:
        return np.full((columns, 2), np.nan)
    draws = rng.integers(0, n, size=(RESAMPLES, n)) + np.arange(RESAMPLES)[:, None] * n
    weights = np.bincount(draws.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n)
    weights = weights.astype(np.float64)
    bottom = weights @ (np.ones(n) if divide_by is None else divide_by)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (weights @ values.astype(np.float64)) / bottom[:, None]
    return np.percentile(means, [2.5, 97.5], axis=0).T


def _listed(interval: np.ndarray) -> list[float] | None:
    return [float(end) for end in interval] if np.isfinite(interval).all() else None

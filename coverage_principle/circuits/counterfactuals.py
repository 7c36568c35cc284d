"""Counterfactual inputs: change one slot so that one intermediate value, and the answer, change.

The *diff* family of function f with output v: all slots but one are kept; the changed slot makes
v' differ from v and the answer t' differ from t, and every primitive call of the counterfactual is
seen, that is, used by some training composition. (The counterfactual itself need not be a training
item.) For 2-hop f1 this is the published ``diff_f1``: x2 -> x2', x1 and x3 kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coverage_principle.data import Dataset, evaluate
from coverage_principle.data.tables import call_arguments, seen_calls
from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph

# Candidates evaluated at once: items times |X|.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Family:
    """Change ``slot`` so that the output of ``function`` changes."""

    function: Function
    slot: str

    @property
    def name(self) -> str:
        return f"diff_{self.function.name}"


def diff_family(graph: TaskGraph, function_index: int) -> Family:
    """The family of a function (0-based): the last input slot that it reads is changed.

    ``InputError`` if the function gives the answer (nothing comes after it) or reads no slot.
    """
    function = graph.functions[function_index]
    slots = [source for source in function.sources if source in graph.inputs]
    if function.output == graph.answer or not slots:
        raise InputError(
            f"task {graph.name}: no counterfactual changes {function.output!r} of {function.name} "
            "alone; it must be an intermediate value whose function reads an input slot"
        )
    return Family(function, slots[-1])


@dataclass(frozen=True)
class Counterfactuals:
    """What was drawn for n originals.

    ``rows`` (m,) are the originals that have a counterfactual; ``inputs`` (m, slots) int32 and
    ``answers`` (m,) int32 are theirs, in the same order. ``candidates`` (n,) is the number of
    inputs each was drawn from, uniformly; ``reasons`` (n,) str says why there was none, else "".
    """

    rows: np.ndarray
    inputs: np.ndarray
    answers: np.ndarray
    candidates: np.ndarray
    reasons: np.ndarray


def draw_counterfactuals(
    dataset: Dataset, family: Family, originals: np.ndarray, *, seed: int
) -> Counterfactuals:
    """One counterfactual for each of ``originals`` (n, slots), where there is one.

    The draw of an item depends on ``seed`` and the item alone, so it is the same for every
    checkpoint, in every split and in any order.
    """
    graph, tables = dataset.graph, dataset.tables()
    seen = seen_calls(graph, tables, dataset.train.inputs)
    position = graph.inputs.index(family.slot)
    chosen = np.full(len(originals), -1, dtype=np.int64)
    candidates = np.zeros(len(originals), dtype=np.int64)
    reasons = np.full(len(originals), "", dtype=object)
    step = max(1, _CHUNK // dataset.num_tokens)
    for begin in range(0, len(originals), step):
        block = originals[begin : begin + step]
        allowed = np.ones((len(block), dataset.num_tokens), dtype=bool)
        reason = reasons[begin : begin + step]  # a view
        for why, mask in _stages(dataset, family, block, seen):
            allowed &= mask
            reason[(reason == "") & ~allowed.any(axis=1)] = why
        candidates[begin : begin + step] = allowed.sum(axis=1)
        for row in np.flatnonzero(reason == ""):
            options = np.flatnonzero(allowed[row])
            rng = np.random.default_rng([seed, position, *block[row].tolist()])
            chosen[begin + row] = options[rng.integers(len(options))]
    rows = np.flatnonzero(chosen >= 0)
    inputs = originals[rows].copy()
    inputs[:, position] = chosen[rows]
    answers = evaluate(graph, tables, inputs)[graph.answer]
    return Counterfactuals(rows, inputs, answers.astype(np.int32), candidates, reasons)


def _stages(dataset: Dataset, family: Family, block: np.ndarray, seen: list[np.ndarray]):
    """The conditions in the order in which a lack of candidates is explained.

    Yields ``(reason, mask)``; ``mask`` is ``(n, |X|)``: whether this value of the slot meets it.
    """
    graph, tables, size = dataset.graph, dataset.tables(), dataset.num_tokens
    position = graph.inputs.index(family.slot)
    changed = np.repeat(block, size, axis=0)
    changed[:, position] = np.tile(np.arange(size), len(block))
    old, new = evaluate(graph, tables, block), evaluate(graph, tables, changed)

    def differs(value: str) -> np.ndarray:
        return new[value].reshape(len(block), size) != old[value][:, None]

    def is_seen(index: int) -> np.ndarray:
        # An unknown value (-1) is the output of an unseen call, which an earlier stage refuses.
        arguments = call_arguments(graph.functions[index], new)
        return seen[index][arguments].reshape(len(block), size)

    own = graph.functions.index(family.function)
    slot, value = family.slot, family.function.output
    yield (
        f"no other {slot} makes a seen call of {family.function.name}",
        (
            (changed[:, position].reshape(len(block), size) != block[:, position, None])
            & is_seen(own)
        ),
    )
    yield f"no such {slot} changes {value}", differs(value)
    for index, function in enumerate(graph.functions):
        if index != own:
            yield f"no such {slot} leads to a seen call of {function.name}", is_seen(index)
    yield f"no such {slot} changes {graph.answer}", differs(graph.answer)

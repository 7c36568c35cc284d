"""Counterfactual inputs: change one slot so that some values of the computation change, others not.

Every family changes one input slot and the answer (t' differs from t), and every primitive call of
the counterfactual is seen, that is, used by some training composition. (The counterfactual itself
need not be a training item.) Which families a task has follows from its graph:

``diff_<function>``      for every intermediate value v: v' differs from v. For 2-hop f1 this is the
                         published ``diff_f1``: x2 -> x2', x1 and x3 kept. In a task with path
                         ambiguity a slot is changed that reaches the answer through v alone, if
                         there is one: for non-tree x1 -> x1', the published (b').
``keep_<v>_change_<x>``  for a slot x that reaches the answer through v and also past it: x' differs
                         and v is kept. For non-tree this is the published (b, x2').
``change_<v>_and_<x>``   the same, but v changes too: the published (b', x2').
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from coverage_principle.circuits.items import ItemSplit, Layout, layout_of, token_ids
from coverage_principle.data import Dataset, evaluate
from coverage_principle.data.tables import call_arguments, seen_calls
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import Function, TaskGraph

# Candidates evaluated at once: items times tokens of the slot.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Family:
    """Change ``slot`` so that the values ``changed`` differ and the values ``held`` stay.

    ``function`` is the first that reads the slot; ``value`` the intermediate value that the family
    is about; ``title`` names what differs, in the paper's way.
    """

    name: str
    title: str
    value: str
    slot: str
    function: Function
    changed: tuple[str, ...]
    held: tuple[str, ...]

    @property
    def about(self) -> dict[str, object]:
        """What a result file says of the family."""
        about = {"name": self.name, "title": self.title, "changes": self.value}
        return {**about, "slot": self.slot, "held": list(self.held)}

    @property
    def differing(self) -> str:
        """What differs: the value, or the slot that reaches the answer past the value it keeps."""
        return self.slot if self.value in self.held else self.value


def diff_family(graph: TaskGraph, function_index: int) -> Family:
    """The family that changes the output v of a function (0-based).

    The slot changed is the last one that the function reads, rather one that reaches the answer
    through v alone; if it reads none, the last such slot that v depends on. What the slot reaches
    besides v's ancestors and descendants is held. ``InputError`` if the function gives the answer
    (nothing comes after it).
    """
    graph.require_bridges("counterfactuals change")
    function = graph.functions[function_index]
    value = function.output
    if value == graph.answer:
        alone = f"no counterfactual changes {value!r} of {function.name} alone"
        raise InputError(f"task {graph.name}: {alone}; it must be an intermediate value")
    slots = [s for s in function.sources if s in graph.inputs] or list(graph.fragment(value))
    alone = [slot for slot in slots if not _passes_by(graph, slot, value)]
    slot = (alone or slots)[-1]
    beside = [v for v in graph.bridges if slot in graph.fragment(v)]
    after = _reached(graph, value)
    held = tuple(v for v in beside if v not in after and value not in _reached(graph, v))
    return _family(graph, f"diff_{function.name}", f"{value}'", value, slot, (value,), held)


def families(graph: TaskGraph) -> dict[str, Family]:
    """Every family of a task by name, those of its path ambiguity after those of its values."""
    found = [diff_family(graph, index) for index in range(len(graph.functions) - 1)]
    for slot in graph.ambiguous_slots:
        for value in graph.bridges:
            if slot not in graph.fragment(value) or not _passes_by(graph, slot, value):
                continue
            names = f"keep_{value}_change_{slot}", f"change_{value}_and_{slot}"
            about = value, slot
            found += [
                _family(graph, names[0], f"{value}, {slot}'", *about, (), (value,)),
                _family(graph, names[1], f"{value}', {slot}'", *about, (value,), ()),
            ]
    return {family.name: family for family in found}


def family_of(graph: TaskGraph, name: str | None) -> Family:
    """The family called ``name``, the first without; ``InputError`` lists those of the task."""
    if not name:
        return diff_family(graph, 0)
    there = families(graph)
    if name not in there:
        raise InputError(
            f"`family` {name} does not exist: task {graph.name} has {', '.join(there) or 'none'}"
        )
    return there[name]


def _family(graph, name, title, value, slot, changed, held) -> Family:
    first = next(f for f in graph.functions if slot in f.sources)
    return Family(name, title, value, slot, first, changed, held)


def _reached(graph: TaskGraph, start: str, without: str | None = None) -> set[str]:
    """``start`` and the values that depend on it, on paths that do not go through ``without``."""
    found = {start}
    for function in graph.functions:
        if function.output != without and found & set(function.sources):
            found.add(function.output)
    return found


def _passes_by(graph: TaskGraph, slot: str, value: str) -> bool:
    """Whether a path from ``slot`` to the answer does not go through ``value``."""
    return graph.answer in _reached(graph, slot, without=value)


@dataclass(frozen=True)
class Counterfactuals:
    """What was drawn for n originals (here, or by ``interchange``).

    ``rows`` (m,) are the originals that have a counterfactual; ``inputs`` (m, slots) int32 and
    ``answers`` (m,) int32 are theirs, in the same order. ``candidates`` (n,) is the number of
    inputs each was drawn from, uniformly; ``reasons`` (n,) str says why there was none, else "".
    """

    rows: np.ndarray
    inputs: np.ndarray
    answers: np.ndarray
    candidates: np.ndarray
    reasons: np.ndarray

    __repr__ = one_line


@dataclass(frozen=True)
class Condition:
    """What a counterfactual must meet besides its family's own conditions.

    ``met(originals, counterfactuals)`` is (m,) bool of m pairs, both (m, slots); ``otherwise`` is
    the reason of an item that has a counterfactual, but none that meets it.
    """

    otherwise: str
    met: Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw_counterfactuals(
    dataset: Dataset,
    family: Family,
    originals: np.ndarray,
    *,
    seed: int,
    condition: Condition | None = None,
) -> Counterfactuals:
    """One counterfactual for each of ``originals`` (n, slots), where there is one.

    The draw of an item depends on ``seed``, the ``condition`` and the item alone, so it is the same
    for every checkpoint, in every split and in any order.
    """
    graph, tables = dataset.graph, dataset.tables()
    seen = seen_calls(graph, tables, dataset.train.inputs)
    position = graph.inputs.index(family.slot)
    chosen = np.full(len(originals), -1, dtype=np.int64)
    candidates = np.zeros(len(originals), dtype=np.int64)
    reasons = np.full(len(originals), "", dtype=object)
    (size,) = dataset.sizes([family.slot])
    step = max(1, _CHUNK // size)
    for begin in range(0, len(originals), step):
        block = originals[begin : begin + step]
        allowed = np.ones((len(block), size), dtype=bool)
        reason = reasons[begin : begin + step]  # a view
        for why, mask in _stages(dataset, family, block, seen, condition):
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


def _stages(dataset: Dataset, family: Family, block, seen: list[np.ndarray], condition):
    """The conditions in the order in which a lack of candidates is explained.

    Yields ``(reason, mask)``; ``mask`` is ``(n, tokens of the slot)``: whether this value meets it.
    """
    graph, tables, (size,) = dataset.graph, dataset.tables(), dataset.sizes([family.slot])
    position = graph.inputs.index(family.slot)
    repeated = np.repeat(block, size, axis=0)
    changed = repeated.copy()
    changed[:, position] = np.tile(np.arange(size), len(block))
    old, new = evaluate(graph, tables, block), evaluate(graph, tables, changed)

    def differs(value: str) -> np.ndarray:
        return new[value].reshape(len(block), size) != old[value][:, None]

    def is_seen(index: int) -> np.ndarray:
        # An unknown value (-1) is the output of an unseen call, which an earlier stage refuses.
        arguments = call_arguments(graph.functions[index], new)
        return seen[index][arguments].reshape(len(block), size)

    own, slot = graph.functions.index(family.function), family.slot
    other = np.arange(size) != block[:, position, None]
    yield f"no other {slot} makes a seen call of {family.function.name}", other & is_seen(own)
    for value in family.changed:
        yield f"no such {slot} changes {value}", differs(value)
    for value in family.held:
        yield f"no such {slot} keeps {value}", ~differs(value)
    for index, function in enumerate(graph.functions):
        if index != own:
            yield f"no such {slot} leads to a seen call of {function.name}", is_seen(index)
    yield f"no such {slot} changes {graph.answer}", differs(graph.answer)
    if condition:
        yield condition.otherwise, condition.met(repeated, changed).reshape(len(block), size)


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

    __repr__ = one_line

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the prompt's positions."""
        return self.layout.names[: self.layout.prompt]

    def arrays(self) -> dict[str, np.ndarray]:
        """What a result's file of arrays holds of the plan."""
        fixed = {name: getattr(self, name) for name in ("originals", "sources", "wanted")}
        members = {f"member/{name}": members for name, members in self.members.items()}
        return {"test_rows": self.rows, **fixed, **members}


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
        report[name] = split.about(
            distinct_fragments=len(split.rows),
            no_counterfactual=dict(Counter(drawn.reasons[mine]) - Counter({"": len(mine)})),
            traced=len(traced),
            mean_candidates=float(drawn.candidates[traced].mean()) if len(traced) else None,
        )
    pair = dataset.test.inputs[rows[kept]], drawn.inputs
    both = []
    for given in pair:
        values = evaluate(dataset.graph, dataset.tables(), given)
        emitted = np.stack([values[name] for name in layout.emitted], axis=1)
        both.append(dataset.ids(emitted, layout.emitted))
    prompts = [token_ids(dataset, given, layout.prompt) for given in pair]
    wanted = np.stack(both, axis=2).astype(np.int32)
    return Plan(layout, rows[kept], *prompts, wanted, members, report)

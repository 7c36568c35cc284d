"""Why an item is covered, or what is missing: chains of substitutions and their evidence.

For a covered item: a shortest chain of substitutions to a training item, at the item's k-cutoff.
Every step exchanges one fragment for another of its class; why the two are in one class is shown by
pairs of fragments with enough shared contexts, a path along the maximum spanning forest, which is
the firmest there is. For the next k: which substitutions would lead to a training item, and how
much evidence they lack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.substitution import EVERY_K
from coverage_principle.data import evaluate
from coverage_principle.errors import InputError

#: Inputs that a search visits before it gives up.
_MOST_VISITED = 2_000_000


@dataclass(frozen=True)
class Pair:
    """Two fragments of a slot set: in how many contexts they agree and disagree in training.

    ``shared`` are some of the contexts in which they agree, each with the answer. ``by_chance``:
    their true values are known, and differ.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    agreeing: int
    disagreeing: int
    shared: list[tuple[tuple[int, ...], int]]
    by_chance: bool = False


@dataclass(frozen=True)
class Step:
    """One substitution: ``before`` becomes ``after`` at ``slot_set``, for the sake of ``pairs``."""

    slot_set: SlotSet
    before: tuple[int, ...]
    after: tuple[int, ...]
    pairs: list[Pair]


@dataclass(frozen=True)
class Lacking:
    """A substitution that would reach the training item ``trained``, had ``pair`` more evidence."""

    slot_set: SlotSet
    trained: tuple[int, ...]
    pair: Pair


@dataclass(frozen=True)
class Explanation:
    """What is known of an item; ``steps`` hold at ``cutoff``, ``lacking`` is about ``cutoff + 1``.

    ``answer`` is None where it is not known. ``seen_fragments`` says for each slot set in how many
    training items the item's fragment stands.
    """

    item: tuple[int, ...]
    answer: int | None
    cutoff: int
    steps: list[Step] = field(default_factory=list)
    lacking: list[Lacking] = field(default_factory=list)
    seen_fragments: list[tuple[SlotSet, int]] = field(default_factory=list)


def explain(coverage: Coverage, item: Sequence[int], *, most: int = 3) -> Explanation:
    """Explain one input (values of its slots); ``most`` limits what is said to be lacking.

    ``InputError`` if it has the wrong number of slots, a value out of range, or is no node of the
    scope that ``coverage`` was determined in.
    """
    item = tuple(int(value) for value in item)
    _check(coverage, item)
    nodes = _DomainNodes(coverage) if coverage.domain is not None else _DatasetNodes(coverage)
    cutoff, answer = nodes.cutoff(item), nodes.answer(item)
    if cutoff == EVERY_K:
        return Explanation(item, answer, cutoff)
    steps = _chain(coverage, nodes, item, cutoff) if cutoff else []
    return Explanation(
        item,
        answer,
        cutoff,
        steps,
        _lacking(coverage, nodes, item, cutoff + 1)[:most],
        [
            (s, int((s.observations.fragment_of == _id_of(s, item)).sum()))
            for s in coverage.slot_sets
        ],
    )


def _check(coverage: Coverage, item: tuple[int, ...]) -> None:
    graph, tokens = coverage.dataset.graph, coverage.dataset.num_tokens
    if len(item) != len(graph.inputs) or not all(0 <= value < tokens for value in item):
        raise InputError(
            f"--explain needs {len(graph.inputs)} tokens <t_0> to <t_{tokens - 1}>, one for each "
            f"slot ({', '.join(graph.inputs)})"
        )


# ------------------------------------------------------------------------------------------ nodes


class _DatasetNodes:
    """Training and type_0 test items; joined only with equal answers."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage, items = coverage, coverage.items
        self._rows: dict[tuple[int, ...], int] = {}
        for row, inputs in enumerate(map(tuple, items.inputs.tolist())):
            self._rows.setdefault(inputs, row)  # a training item before its copy
        self._trained = len(coverage.dataset.train)
        self._classes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _row(self, item: tuple[int, ...]) -> int:
        if item in self._rows:
            return self._rows[item]
        test = self._coverage.dataset.test
        kinds = test.types[(test.inputs == item).all(axis=1)].tolist()
        text = self._coverage.dataset.codec.decode(item)
        what = f"is of {kinds[0]}" if kinds else "is neither in train.json nor in test.json"
        raise InputError(
            f"--explain {text}: it {what}, and only training and type_0 items are nodes of the "
            "dataset scope; use --scope domain"
        )

    def cutoff(self, item: tuple[int, ...]) -> int:
        row = self._row(item)
        if row < self._trained:
            return EVERY_K
        return int(self._coverage.cutoffs[row - self._trained])

    def answer(self, item: tuple[int, ...]) -> int | None:
        return int(self._coverage.items.answers[self._row(item)])

    def is_trained(self, item: tuple[int, ...]) -> bool:
        return self._rows[item] < self._trained

    def neighbours(
        self, slot_set: SlotSet, number: int, item: tuple[int, ...], k: int
    ) -> Iterator[tuple[int, ...]]:
        """The other nodes of ``item``'s bucket at a slot set."""
        items, equivalence = self._coverage.items, slot_set.equivalence
        if number not in self._classes:
            ids = equivalence.fragment_ids(items.inputs)
            self._classes[number] = ids, np.where(ids >= 0, equivalence.classes(k)[ids], -1)
        _, classes = self._classes[number]
        row = self._rows[item]
        if classes[row] < 0:
            return
        same = (classes == classes[row]) & (items.answers == items.answers[row])
        for slot in range(items.inputs.shape[1]):
            if slot not in equivalence.positions:
                same &= items.inputs[:, slot] == items.inputs[row, slot]
        # Training items come first in ``items``, so a chain ends at the first chance.
        yield from map(tuple, items.inputs[same].tolist())


class _DomainNodes:
    """Every input; what it gives does not matter."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._trained = set(map(tuple, coverage.dataset.train.inputs.tolist()))
        self._members: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def cutoff(self, item: tuple[int, ...]) -> int:
        tokens = self._coverage.dataset.num_tokens
        return int(self._coverage.domain[np.ravel_multi_index(item, (tokens,) * len(item))])

    def answer(self, item: tuple[int, ...]) -> int | None:
        dataset = self._coverage.dataset
        try:
            values = evaluate(dataset.graph, dataset.tables(), np.array([item]))
        except InputError:
            return None
        answer = int(values[dataset.graph.answer][0])
        return None if answer < 0 else answer

    def is_trained(self, item: tuple[int, ...]) -> bool:
        return item in self._trained

    def neighbours(
        self, slot_set: SlotSet, number: int, item: tuple[int, ...], k: int
    ) -> Iterator[tuple[int, ...]]:
        equivalence = slot_set.equivalence
        if number not in self._members:
            self._members[number] = equivalence.classes(k), equivalence.fragments()
        classes, fragments = self._members[number]
        own = _id_of(slot_set, item)
        if own < 0:
            return
        found = list(item)
        for values in fragments[classes == classes[own]].tolist():
            for position, value in zip(equivalence.positions, values, strict=True):
                found[position] = value
            yield tuple(found)


def _id_of(slot_set: SlotSet, item: tuple[int, ...]) -> int:
    """Number of the item's fragment at a slot set; -1 if the training set has it not."""
    return int(slot_set.equivalence.fragment_ids(np.array([item]))[0])


# ------------------------------------------------------------------------------- chains, evidence


def _chain(coverage: Coverage, nodes, item: tuple[int, ...], k: int) -> list[Step]:
    """The steps of a shortest chain from ``item`` to a training item at ``k``."""
    came: dict[tuple[int, ...], tuple[tuple[int, ...], SlotSet] | None] = {item: None}
    done: set[tuple] = set()  # buckets whose members have all been reached
    queue = deque([item])
    while queue:
        here = queue.popleft()
        for number, slot_set in enumerate(coverage.slot_sets):
            if (bucket := _bucket(number, slot_set, here, k)) in done:
                continue
            done.add(bucket)
            for there in nodes.neighbours(slot_set, number, here, k):
                if there in came:
                    continue
                came[there] = here, slot_set
                if nodes.is_trained(there):
                    return _steps(coverage, came, there, k)
                queue.append(there)
        if len(came) > _MOST_VISITED:
            break
    raise InputError("the chain of substitutions is too long to be found; try --scope dataset")


def _bucket(number: int, slot_set: SlotSet, item: tuple[int, ...], k: int) -> tuple:
    """What the members of an item's bucket have in common: slot set, class, context."""
    equivalence = slot_set.equivalence
    own = _id_of(slot_set, item)
    rest = tuple(v for i, v in enumerate(item) if i not in equivalence.positions)
    return number, int(equivalence.classes(k)[own]) if own >= 0 else item, rest


def _steps(coverage: Coverage, came: dict, last: tuple[int, ...], k: int) -> list[Step]:
    steps = []
    while came[last] is not None:
        before, slot_set = came[last]
        first, second = _id_of(slot_set, before), _id_of(slot_set, last)
        path = _forest_path(slot_set, first, second, k)
        pairs = [_pair(coverage, slot_set, a, b) for a, b in zip(path[:-1], path[1:], strict=True)]
        steps.append(Step(slot_set, before, last, pairs))
        last = before
    return steps[::-1]


def _forest_path(slot_set: SlotSet, first: int, last: int, k: int) -> list[int]:
    """The fragments on the way from one to another along the spanning forest at ``k``."""
    equivalence = slot_set.equivalence
    firm = equivalence.evidence >= k
    joined: dict[int, list[int]] = {}
    for a, b in zip(
        equivalence.first[firm].tolist(), equivalence.second[firm].tolist(), strict=True
    ):
        joined.setdefault(a, []).append(b)
        joined.setdefault(b, []).append(a)
    came: dict[int, int | None] = {first: None}
    queue = deque([first])
    while last not in came:
        here = queue.popleft()
        for there in joined.get(here, ()):
            if there not in came:
                came[there] = here
                queue.append(there)
    path: list[int] = [last]
    while (before := came[path[-1]]) is not None:
        path.append(before)
    return path[::-1]


def _pair(coverage: Coverage, slot_set: SlotSet, a: int, b: int, *, most: int = 3) -> Pair:
    """Two fragments and what the training set shows of them; ``most`` contexts are listed."""
    observations, train = slot_set.observations, coverage.dataset.train
    values = slot_set.equivalence.fragments()
    of = [np.flatnonzero(observations.fragment_of == fragment) for fragment in (a, b)]
    labels = [
        dict(zip(observations.context_of[rows].tolist(), rows.tolist(), strict=True)) for rows in of
    ]
    shared = sorted(labels[0].keys() & labels[1].keys())
    label_of = observations.label_of
    agreeing = [c for c in shared if label_of[labels[0][c]] == label_of[labels[1][c]]]
    rest = [i for i in range(train.inputs.shape[1]) if i not in slot_set.equivalence.positions]
    listed = [
        (tuple(train.inputs[labels[0][c], rest].tolist()), int(train.answers[labels[0][c]]))
        for c in agreeing[:most]
    ]
    first, second = (tuple(values[fragment].tolist()) for fragment in (a, b))
    true = slot_set.true_values
    by_chance = true is not None and bool(true[a] != true[b])
    return Pair(first, second, len(agreeing), len(shared) - len(agreeing), listed, by_chance)


def _lacking(coverage: Coverage, nodes, item: tuple[int, ...], k: int) -> list[Lacking]:
    """Single substitutions that would reach a training item at ``k``, the nearest first.

    A contradicted pair comes after all others: no evidence can mend it.
    """
    train, answer = coverage.dataset.train, nodes.answer(item)
    found = []
    for slot_set in coverage.slot_sets:
        own = _id_of(slot_set, item)
        if own < 0:
            continue
        same = np.ones(len(train), dtype=bool)
        for slot, value in enumerate(item):
            if slot not in slot_set.equivalence.positions:
                same &= train.inputs[:, slot] == value
        if coverage.domain is None:  # an edge of the dataset scope needs equal answers
            same &= train.answers == answer
        classes = slot_set.equivalence.classes(k)
        for row in np.flatnonzero(same):
            other = int(slot_set.observations.fragment_of[row])
            if classes[other] != classes[own]:
                pair = _pair(coverage, slot_set, own, other)
                found.append(Lacking(slot_set, tuple(train.inputs[row].tolist()), pair))
    return sorted(found, key=lambda near: (near.pair.disagreeing, -near.pair.agreeing))

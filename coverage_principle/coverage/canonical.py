"""Components of the substitution graph over every input, without holding the inputs.

A class of fragments acts on its own slots and leaves the others alone: in any context, an input may
be exchanged for the one with another fragment of the class. So every input can be brought into a
*canonical form*, slot set by slot set, and two inputs are connected if and only if their forms are
equal. A slot set within another comes first: the inner one's forms are what the outer one's classes
join. Disjoint slot sets do not touch each other, and slots that are in none stay as they are.

For a 3-hop task, where (x1, x2) and (x1, x2, x3) may be exchanged, an input is first the pair
(class of (x1, x2), x3); the classes of (x1, x2, x3) join such pairs; its form is the joined pair
and x4. Only pairs that training items have can be joined, so that no more than these are held.

Slot sets that overlap without one holding the other have no such order. They make one *block*, the
union of their slots, whose inputs are all held; it is refused where they are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from coverage_principle.coverage.known_values import ValueFragments
from coverage_principle.coverage.linking import components, merge
from coverage_principle.data.space import is_member, numbered, strides
from coverage_principle.errors import InputError

#: Inputs of a block of overlapping slot sets that are held at most, and its edges added at once.
MOST_OF_BLOCK = 1 << 26
_EDGES = 1 << 23
#: Up to so many codes, all of them are kept as a table.
_MOST_TABLE = 1 << 24


@dataclass(frozen=True)
class Block:
    """Slots that are brought into canonical form together.

    ``members`` are the numbers of the slot sets whose classes act on it. ``overlap``: not all of
    them are the whole block.
    """

    slots: tuple[int, ...]
    members: tuple[int, ...]
    overlap: bool


def blocks(slot_sets: Sequence[Sequence[int]]) -> list[Block]:
    """The blocks of slot sets, inner ones first; any two are disjoint or one holds the other.

    >>> for one in blocks([(0, 1), (0, 1, 2), (3, 4), (4, 5)]):
    ...     print(one)
    Block(slots=(0, 1), members=(0,), overlap=False)
    Block(slots=(0, 1, 2), members=(1,), overlap=False)
    Block(slots=(3, 4, 5), members=(2, 3), overlap=True)
    """
    found: dict[frozenset[int], bool] = {frozenset(slots): False for slots in slot_sets}
    while crossing := next((pair for pair in combinations(found, 2) if _cross(*pair)), None):
        for slots in crossing:
            del found[slots]
        found[crossing[0] | crossing[1]] = True
    outer = [whole for whole, overlap in found.items() if overlap]
    kept = [slots for slots in found if not any(slots < whole for whole in outer)]
    return [
        Block(
            tuple(sorted(slots)),
            tuple(
                i
                for i, own in enumerate(map(frozenset, slot_sets))
                if (own <= slots if found[slots] else own == slots)
            ),
            found[slots],
        )
        for slots in sorted(kept, key=len)
    ]


def check_blocks(slot_sets: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
    """Refuse slot sets of which a block of overlapping ones has more inputs than can be held."""
    for block in blocks(slot_sets):
        count = prod(sizes[slot] for slot in block.slots)
        if block.overlap and count > MOST_OF_BLOCK:
            raise InputError(
                "fragments of several values overlap without one holding the other, and together "
                f"they have {count:,} inputs, all kept in memory; {MOST_OF_BLOCK:,} is the limit. "
                "Lower `num_tokens`, or give one `value`"
            )


def _cross(one: frozenset[int], other: frozenset[int]) -> bool:
    return bool(one & other) and not (one <= other or other <= one)


def connected(
    train: np.ndarray,
    queries: np.ndarray,
    sizes: Sequence[int],
    seen: Sequence[ValueFragments],
    classes: Sequence[np.ndarray],
) -> np.ndarray:
    """Which of ``queries`` are connected to an item of ``train``: ``(m,)`` bool.

    ``train`` ``(n, slots)`` and ``queries`` ``(m, slots)`` are inputs over alphabets of ``sizes``.
    ``seen`` are slot sets as the training items show them, ``classes`` the classes of their
    fragments (``ValueFragments.classes`` at one k). ``InputError`` if a block of overlapping slot
    sets has more than ``MOST_OF_BLOCK`` inputs.
    """
    slot_sets = [one.positions for one in seen]
    check_blocks(slot_sets, sizes)
    both = _Forms(train, sizes), _Forms(queries, sizes)
    for block in blocks(slot_sets):
        members = [(seen[i], classes[i]) for i in block.members]
        of_train, of_queries = (forms.take(block.slots) for forms in both)
        count = prod(sizes[slot] for slot in block.slots)
        if block.overlap:
            own = [sizes[slot] for slot in block.slots]
            form = _Table(_overlapping(train, block.slots, own, members))
        else:
            form = _joined_codes(of_train, count, members)
        for forms, codes in zip(both, (of_train, of_queries), strict=True):
            forms.put(block.slots, form(codes), count)
    every = range(len(sizes))
    of_train, of_queries = (forms.take(every) for forms in both)
    # Training items are many and queries few, so it is the queries that are looked up.
    distinct, number = np.unique(of_queries, return_inverse=True)
    reached = np.zeros(len(distinct), dtype=bool)
    if len(distinct):
        place = np.searchsorted(distinct, of_train)
        place[place == len(distinct)] = 0
        reached[place[distinct[place] == of_train]] = True
    return reached[number]


class _Forms:
    """Inputs as columns, each of a slot or of a block that has its canonical form already."""

    def __init__(self, rows: np.ndarray, sizes: Sequence[int]) -> None:
        self._columns = {(slot,): (rows[:, slot], size) for slot, size in enumerate(sizes)}

    def take(self, slots: Iterable[int]) -> np.ndarray:
        """One code for what stands at these slots, ``(n,)`` int64; their columns are taken out."""
        slots = set(slots)
        own = [name for name in sorted(self._columns) if slots.issuperset(name)]
        columns, sizes = zip(*(self._columns.pop(name) for name in own), strict=True)
        codes = columns[0].astype(np.int64)
        for column, size in zip(columns[1:], sizes[1:], strict=True):
            codes *= size
            codes += column
        return codes

    def put(self, slots: tuple[int, ...], codes: np.ndarray, count: int) -> None:
        self._columns[slots] = codes, count


class _Table:
    """The canonical code of every code."""

    def __init__(self, table: np.ndarray) -> None:
        self._table = table

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        return self._table[codes]


class _Changes:
    """The canonical codes of those codes that have another one; ``changed`` ascends."""

    def __init__(self, changed: np.ndarray, into: np.ndarray) -> None:
        self._changed, self._into = changed, into

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        found = codes.copy()
        held = is_member(codes, self._changed)
        found[held] = self._into[np.searchsorted(self._changed, codes[held])]
        return found


def _joined_codes(
    codes: np.ndarray, count: int, members: Sequence[tuple[ValueFragments, np.ndarray]]
) -> _Table | _Changes:
    """The canonical form of codes below ``count``: the least of those that classes join.

    ``codes`` are those of the training items, inner blocks being canonical.
    """
    ends: list[tuple[np.ndarray, np.ndarray]] = []
    number = 0
    for fragments, classes in members:
        several = (np.bincount(classes) > 1)[classes]
        _, own = numbered(classes[several], int(classes.max(initial=0)) + 1)
        ends.append((codes[fragments.first[several]], own.astype(np.int64) + number))
        number += int(own.max(initial=-1)) + 1
    joined, class_of = (np.concatenate(side) for side in zip(*ends, strict=True))
    distinct, node_of = numbered(joined, count)
    component = components(len(distinct) + number, node_of, len(distinct) + class_of)
    component = component[: len(distinct)]
    least = np.empty(int(component.max(initial=-1)) + 1, dtype=np.int64)
    least[component[::-1]] = distinct[::-1]  # of several the last, which is the least, stays
    into = least[component]
    if count <= _MOST_TABLE:
        table = np.arange(count)
        table[distinct] = into
        return _Table(table)
    return _Changes(distinct, into)


def _overlapping(
    train: np.ndarray,
    slots: Sequence[int],
    sizes: Sequence[int],
    members: Sequence[tuple[ValueFragments, np.ndarray]],
) -> np.ndarray:
    """The component of every input of a block: ``(inputs,)`` int32."""
    component = np.arange(prod(sizes), dtype=np.int32)
    steps = strides(sizes)
    for fragments, classes in members:
        inside = [slots.index(slot) for slot in fragments.positions]
        rest = [i for i in range(len(slots)) if i not in inside]
        contexts = np.zeros(1, dtype=np.int64)
        for i in rest:
            contexts = (contexts[:, None] + np.arange(sizes[i]) * steps[i]).ravel()
        own = train[fragments.first][:, list(fragments.positions)] @ steps[inside]
        hub = np.empty(int(classes.max(initial=-1)) + 1, dtype=np.int64)
        hub[classes] = own
        ends = hub[classes], own
        at_once = max(1, _EDGES // len(contexts))
        for begin in range(0, len(own), at_once):
            part = slice(begin, begin + at_once)
            first, second = ((end[part, None] + contexts).ravel() for end in ends)
            merge(component, component[first], component[second])
    return component

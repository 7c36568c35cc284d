"""One slot set weighed within a stated memory; what comes out is as if it were weighed whole.

Items are read in chunks, and each is put on disk as the numbers of its fragment and its context,
and its answer (``Spill``). There they lie in a grid of cells: blocks of fragments by blocks of
contexts. Every pair of fragments lies in one pair of blocks of fragments. Whatever is about a
context lies in one block of contexts: the pairs that are counted and not made (``lone_stars``), and
contradictions inside of a class. So two blocks are in memory at a time, beside what grows with the
number of fragments alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from coverage_principle.coverage.dataset import SlotSet
from coverage_principle.coverage.diagnostics import counted
from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.evidence import Observations
from coverage_principle.coverage.in_parts import budget
from coverage_principle.coverage.in_parts.rows import HeldRows, StoredRows
from coverage_principle.coverage.in_parts.spill import Spill
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.coverage.pairing import evident_pairs
from coverage_principle.coverage.weighing import ForestOf, lone_stars, summed
from coverage_principle.data import evaluate
from coverage_principle.data.space import Places, decode_rows, encode_rows, sizes_at
from coverage_principle.tasks import TaskGraph

#: Edges that a forest gathers at most, where tables have their full size.
_EDGES = 1 << 21


@dataclass(frozen=True)
class SlotSetTask:
    """What is to be weighed: a slot set of a task, and all that is known beside the items.

    ``sizes`` are those of the slots' alphabets, ``tables`` the functions' values (None: not known).
    ``equal`` names values in which equivalent fragments must agree; the tables tell them of every
    fragment. ``lowest`` is the least k that is counted.
    """

    positions: tuple[int, ...]
    graph: TaskGraph
    sizes: tuple[int, ...]
    tables: tuple[np.ndarray, ...] | None
    noise: PairNoise
    lowest: int
    equal: tuple[str, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(self.graph.inputs[i] for i in self.positions)


def weigh_slot_set(
    task: SlotSetTask,
    rows: HeldRows | StoredRows,
    memory: int,
    folder: Path,
    progress: Callable[[float], None] = lambda _: None,
) -> SlotSet:
    """Weigh a slot set in at most ``memory`` bytes beside what the process holds already.

    What does not fit goes to a file of ``folder``. ``InputError`` if the smallest parts do not fit.
    """
    with _Work(task, rows, memory, folder) as work:
        found = SlotSet(
            task.slots,
            None,
            work.weighed(progress),
            work.determined,
            work.true_values,
            work.required,
        )
        counts = counted(found, task.lowest, work.by_contexts, work.shrink)
        return replace(found, counts=counts)


class _Work:
    """A slot set that is being weighed: its items on disk, in cells."""

    def __init__(
        self, task: SlotSetTask, rows: HeldRows | StoredRows, memory: int, folder: Path
    ) -> None:
        self._task, self._rows = task, rows
        inside, sizes = list(task.positions), task.sizes
        rest = [slot for slot in range(len(sizes)) if slot not in inside]
        fragments, contexts = _Seen(inside, sizes), _Seen(rest, sizes)
        for seen in (fragments, contexts):
            seen.look_at(rows)
        self._codes, self._contexts = fragments.codes, contexts.codes
        size = len(rows), len(self._codes), len(self._contexts)
        self._parts = budget.split_up(memory, *size)
        if self._parts is None:
            raise budget.too_small(memory, budget.least(len(rows), sizes, inside), task.slots)
        self._lone = fragments.counts == 1
        self._begins = _blocks(fragments.counts, self._parts.compared // 2, self._parts.compared)
        self._context_begins = _blocks(contexts.counts, self._parts.beside, self._parts.beside)
        across = len(self._context_begins) - 1
        self._spill = Spill(folder, 3, (len(self._begins) - 1) * across)
        row, column = (
            _Cells(seen, begins)
            for seen, begins in ((fragments, self._begins), (contexts, self._context_begins))
        )
        for inputs, answers in rows.chunks(budget.CHUNK):
            fragment, row_of = row.of(inputs)
            context, column_of = column.of(inputs)
            items = np.column_stack([fragment, context, answers])
            self._spill.append(items, row_of * across + column_of)
        self.determined, self.true_values = (), None
        names = [name for name in task.graph.bridges if task.graph.fragment(name) == task.slots]
        known = {name: values for name in names if (values := self._values(name)) is not None}
        self.determined, self.true_values = tuple(known), _combined(known.values())
        self.required = _combined(self._values(name) for name in task.equal)

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._spill.close()

    @property
    def shrink(self) -> int:
        """How many times smaller tables are than they would be."""
        return self._parts.shrink

    def weighed(self, progress: Callable[[float], None]) -> Equivalence:
        """What ``functional_equivalence`` finds."""
        shrink = self._parts.shrink
        forests = [ForestOf(len(self._codes), _EDGES // shrink) for _ in range(2)]
        pairs = false_pairs = np.zeros(2, dtype=np.int64)
        true_values = self.true_values
        if self._lone.any():
            for seen in self.by_contexts():
                own = seen.fragment_of, seen.context_of, seen.label_of
                lone = self._lone[own[0]]
                if not lone.any():
                    continue
                *edges, count = lone_stars(*own, lone)
                forests[0].add(*edges, np.ones(len(edges[0]), dtype=np.int32))
                pairs = summed(pairs, [0, count])
                if true_values is not None:
                    *edges, true = lone_stars(*own, lone, true_values[own[0]])
                    forests[1].add(*edges, np.ones(len(edges[0]), dtype=np.int32))
                    false_pairs = summed(false_pairs, [0, count - true])
        for first, second, evidence in self._pairs(progress):
            pairs = summed(pairs, np.bincount(evidence))
            forests[0].add(first, second, evidence)
            if true_values is not None:
                true = true_values[first] == true_values[second]
                false_pairs = summed(false_pairs, np.bincount(evidence[~true]))
                forests[1].add(first[true], second[true], evidence[true])
        known = true_values is not None
        return Equivalence(
            self._task.positions,
            sizes_at(self._task.sizes, self._task.positions),
            self._codes,
            *forests[0].edges(),
            pairs,
            false_pairs if known else None,
            forests[1].edges() if known else None,
        )

    def by_contexts(self) -> Iterator[Observations]:
        """The items, a block of contexts at a time; each has all items of its contexts."""
        down, across = (len(begins) - 1 for begins in (self._begins, self._context_begins))
        for column in range(across):
            cells = [range(row * across + column, row * across + column + 1) for row in range(down)]
            fragment, context, label = self._labelled(self._spill.read(cells))
            context -= self._context_begins[column]
            label = self._compact(label)
            yield Observations(
                self._task.positions, self._codes, self._contexts, fragment, context, label
            )

    def _pairs(
        self, progress: Callable[[float], None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """All pairs of fragments that are not lone: ``(first, second, evidence)``."""
        blocks = range(len(self._begins) - 1)
        done, total = 0, len(blocks) * (len(blocks) + 1) // 2
        for one in blocks:
            own = self._block(one)
            for other in blocks[one:]:
                begins = int(self._begins[one]), int(self._begins[other])
                split, items = 0, own
                if other > one:
                    split = int(self._begins[one + 1]) - begins[0]
                    items = tuple(map(np.concatenate, zip(own, self._block(other), strict=True)))
                    items[0][len(own[0]) :] += split
                if len(items[0]):
                    items = *items[:2], self._compact(items[2])
                    how = {"split": split, "shrink": self._parts.shrink}
                    for first, second, evidence in evident_pairs(*items, self._task.noise, **how):
                        second += begins[1] - split
                        yield first + begins[0], second, evidence
                done += 1
                progress(done / total)

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The items of a block of fragments, whose numbers begin with 0, without lone ones."""
        across = len(self._context_begins) - 1
        items = self._spill.read([range(number * across, (number + 1) * across)])
        fragment, context, label = self._labelled(items[~self._lone[items[:, 0]]])
        fragment -= self._begins[number]
        return fragment, context, label

    def _labelled(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fragment, context and label of each item; the label tells what must be equal as well."""
        fragment, context, label = (np.ascontiguousarray(column) for column in items.T)
        if self.required is not None:
            # A different true value contradicts wherever contexts meet.
            label = label.astype(np.int64) * (int(self.required.max(initial=0)) + 1)
            label += self.required[fragment]
        return fragment, context, label

    def _compact(self, label: np.ndarray) -> np.ndarray:
        """Labels that tell apart what these do, below their number."""
        if self.required is None:
            return label
        return np.unique(label, return_inverse=True)[1].astype(np.int32)

    def _values(self, name: str) -> np.ndarray | None:
        """A value's truth for each fragment, which must determine it; None if one is not known."""
        task, found = self._task, []
        for begin in range(0, len(self._codes) if task.tables is not None else 0, budget.CHUNK):
            codes = self._codes[begin : begin + budget.CHUNK]
            inputs = np.zeros((len(codes), len(task.sizes)), dtype=np.int32)
            sizes = sizes_at(task.sizes, task.positions)
            inputs[:, list(task.positions)] = decode_rows(codes, sizes, len(task.positions))
            found.append(evaluate(task.graph, task.tables, inputs)[name].astype(np.int32))
            if found[-1].min() < 0:
                return None
        return np.concatenate(found) if found else None


class _Seen:
    """The distinct fragments (or contexts) at some slots: their codes, and how many items each."""

    def __init__(self, slots: Sequence[int], sizes: Sequence[int]) -> None:
        self._slots, self._sizes = list(slots), sizes_at(sizes, slots)
        self.span = prod(self._sizes)
        self.codes = self.counts = np.empty(0, dtype=np.int64)

    def of(self, inputs: np.ndarray) -> np.ndarray:
        return encode_rows(inputs[:, self._slots], self._sizes)

    def look_at(self, rows: HeldRows | StoredRows) -> None:
        if self.span <= 8 * len(rows) + (1 << 16):
            counts = np.zeros(self.span, dtype=np.int32)
            for inputs, _ in rows.chunks(budget.CHUNK):
                np.add.at(counts, self.of(inputs), 1)
            self.codes = np.flatnonzero(counts)
            self.counts = counts[self.codes]
            return
        piles: list[tuple[np.ndarray, np.ndarray]] = []
        for inputs, _ in rows.chunks(budget.CHUNK):
            piles.append(np.unique(self.of(inputs), return_counts=True))
            # As many again are gathered before they are sorted into the others.
            if sum(len(codes) for codes, _ in piles) > 2 * len(piles[0][0]) + budget.CHUNK:
                piles = [_merged(piles)]
        self.codes, self.counts = _merged(piles)


def _merged(piles: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    none = (np.empty(0, dtype=np.int64),) * 2
    codes, counts = map(np.concatenate, zip(none, *piles, strict=True))
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[starts], np.add.reduceat(counts, starts) if len(starts) else counts


class _Cells:
    """The numbers of fragments (or contexts), and the blocks that they are in."""

    def __init__(self, seen: _Seen, begins: np.ndarray) -> None:
        self._seen = seen
        self._numbers = Places(seen.codes, seen.span, len(seen.codes))
        self._begins = begins

    def of(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = self._numbers.of(self._seen.of(inputs))
        return number, np.searchsorted(self._begins, number, side="right") - 1


def _blocks(counts: np.ndarray, most: int, whole: int) -> np.ndarray:
    """Where blocks of about ``most`` items begin, and where the last ends; one if ``whole`` fits.

    >>> _blocks(np.array([3, 1, 2, 9, 1]), 4, 10).tolist()
    [0, 2, 3, 4, 5]
    """
    total = np.cumsum(counts, dtype=np.int64)
    if not len(total) or total[-1] <= whole:
        return np.array([0, len(counts)])
    begins = [0]
    while begins[-1] < len(counts):
        done = total[begins[-1] - 1] if begins[-1] else 0
        end = int(np.searchsorted(total, done + most, side="right"))
        begins.append(max(end, begins[-1] + 1))
    return np.array(begins)


def _combined(columns: Iterable[np.ndarray]) -> np.ndarray | None:
    """An index of the combination of values of each fragment; None without any."""
    found = None
    for values in columns:
        if found is not None:
            values = found.astype(np.int64) * (int(values.max(initial=0)) + 1) + values
        found = np.unique(values, return_inverse=True)[1].astype(np.int32)
    return found

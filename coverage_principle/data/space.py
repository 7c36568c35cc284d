"""The set of compositions whose every call is allowed, as something to count, index and sample.

A *space* is given by a task graph, its tables and for each function a mask of allowed calls
("expected seen" for training data; "seen" or its complement for each coverage type). It is never
enumerated: compositions are counted by dynamic programming over the graph, and any of them is
rebuilt from its rank, so uniform sampling without replacement is drawing distinct integers. Cost
is O(table entries) to set up and O(log) per item, whatever share of the domain is allowed.

How. In a tree, the number of ways to reach value v through function f is the sum, over f's allowed
calls that output v, of the product of the ways to reach each argument. A graph in which slots reach
the answer by several paths is a tree once those slots are fixed, so all counts carry one axis for
each such slot below them ("fixed slots"). Unranking walks the same recursion downwards.

An example. Two tokens, b = f1(x1, x2) = x1 xor x2 and t = f2(b, x3) = b and x3; f1(1, 1) and
f2(0, 1) are not allowed. One allowed call gives b = 0, namely f1(0, 0), and two give b = 1. So
f2(0, 0) stands for one composition, f2(1, 0) for two and f2(1, 1) for two, which makes ranks 0 | 1
2 | 3 4. Rank 4 is in the third group, one behind its begin; so b = 1 comes from the call of f1 one
behind the first, f1(1, 0), and the composition is (1, 0, 1).

>>> from coverage_principle.tasks import TASKS
>>> xor, conjunction = np.array([[0, 1], [1, 0]]), np.array([[0, 0], [0, 1]])
>>> allowed = np.array([[True, True], [True, False]]), np.array([[True, False], [True, True]])
>>> space = CompositionSpace(TASKS["twohop"], [xor, conjunction], allowed)
>>> space.size
5
>>> space.unrank(np.arange(5)).tolist()
[[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from coverage_principle.data.tables import node_sizes
from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph
from simpletransformers.words import counted

# Counts are int64, and an entry is a full row of fixed slots and arguments.
MOST_CODES = 2**62
_MAX_ENTRIES = 2**28
_BLOCK = 2**19


@dataclass(frozen=True)
class _Calls:
    """The allowed calls of one function, grouped by (fixed slots below it, output).

    ``columns`` names what an entry assigns: fixed slots, then the remaining sources. ``rows`` is
    ``(entries, len(columns))``. ``cumulative`` (entries + 1) sums the entries' multiplicities;
    ``start`` and ``total`` give, for every group key, its offset in ``cumulative`` and its size.
    """

    columns: tuple[str, ...]
    rows: np.ndarray
    cumulative: np.ndarray
    start: np.ndarray
    total: np.ndarray


class CompositionSpace:
    """All inputs of ``graph`` for which function j's call is in ``allowed[j]``, for every j.

    ``tables`` and ``allowed`` are arrays in the graph's order, with an axis for each argument, as
    long as its alphabet; undefined calls (-1) are not allowed. ``InputError`` if the space is too
    large to count (a domain above 2^62) or the slots with several paths make the recursion too wide
    to hold.
    """

    def __init__(
        self, graph: TaskGraph, tables: Sequence[np.ndarray], allowed: Sequence[np.ndarray]
    ) -> None:
        self.graph = graph
        self.sizes = node_sizes(graph, tables)
        check_domain([self.sizes[slot] for slot in graph.inputs], "lower `num_tokens`")
        self._calls: dict[str, _Calls] = {}
        for function, table, mask in zip(graph.functions, tables, allowed, strict=True):
            self._calls[function.output] = self._group(function, table, mask)
        self.size = int(self._calls[graph.answer].cumulative[-1])

    def _fixed(self, value: str) -> tuple[str, ...]:
        fragment = self.graph.fragment(value)
        return tuple(slot for slot in self.graph.ambiguous_slots if slot in fragment)

    def _group(self, function: Function, table: np.ndarray, allowed: np.ndarray) -> _Calls:
        graph, sizes = self.graph, self.sizes
        if table.min(initial=0) < 0:  # a partial function
            allowed = allowed & (table >= 0)
        fixed = self._fixed(function.output)
        columns = (*fixed, *dict.fromkeys(s for s in function.sources if s not in fixed))
        free = [slot for slot in fixed if slot not in function.sources]
        entries = int(allowed.sum()) * prod(sizes[slot] for slot in free)
        if entries > _MAX_ENTRIES:
            raise InputError(
                f"task {graph.name!r} with {max(sizes.values())} tokens: slots {', '.join(fixed)} "
                f"reach the answer by several paths, and function {function.name!r} would need "
                f"{entries:,} table entries; lower `num_tokens`"
            )
        # One entry per allowed call, times every assignment of the fixed slots that lie deeper.
        calls = np.nonzero(allowed)
        keep = np.ones(len(calls[0]), dtype=bool)
        named: dict[str, np.ndarray] = {}
        for source, values in zip(function.sources, calls, strict=True):
            if source in named:  # the same source twice: f(b, b)
                keep &= named[source] == values
            named[source] = values
        named = {source: values[keep] for source, values in named.items()}
        outputs = table[calls][keep]
        for slot in free:
            repeats, n = len(outputs), sizes[slot]
            named = {source: np.tile(values, n) for source, values in named.items()}
            outputs = np.tile(outputs, n)
            named[slot] = np.repeat(np.arange(n), repeats)
        weight = np.ones(len(outputs), dtype=np.int64)
        for source in dict.fromkeys(function.sources):
            if source in self._calls:
                weight *= self._calls[source].total[self._key(source, named, named[source])]
        order = np.flatnonzero(weight)  # entries that no composition reaches only cost memory
        if function.output == graph.answer:
            groups, key = 1, np.zeros(len(order), dtype=np.int64)
        else:
            groups = prod(sizes[node] for node in (*fixed, function.output))
            key = self._key(function.output, named, outputs)[order]
            by_key = np.argsort(key, kind="stable")
            order, key = order[by_key], key[by_key]
        cumulative = np.concatenate([[0], np.cumsum(weight[order])])
        bounds = np.searchsorted(key, np.arange(groups + 1))
        start = cumulative[bounds[:-1]]
        rows = np.empty((len(order), len(columns)), dtype=np.int32)
        for i, column in enumerate(columns):
            rows[:, i] = named[column][order]
        return _Calls(columns, rows, cumulative, start, cumulative[bounds[1:]] - start)

    def _key(self, value: str, assignment: dict[str, np.ndarray], output: np.ndarray) -> np.ndarray:
        """Group number of (fixed slots below ``value``, its output), in mixed radix."""
        key = np.zeros(len(output), dtype=np.int64)
        for slot in self._fixed(value):
            key = key * self.sizes[slot] + assignment[slot]
        return key * self.sizes[value] + output

    def unrank(self, ranks: np.ndarray) -> np.ndarray:
        """The compositions with these ranks: ``(len(ranks), slots)`` int32.

        A bijection between ``range(size)`` and the space.
        """
        values: dict[str, np.ndarray] = {}
        pending: dict[str, np.ndarray] = {self.graph.answer: np.asarray(ranks, dtype=np.int64)}
        for function in reversed(self.graph.functions):
            calls = self._calls[function.output]
            position = pending.pop(function.output)
            if function.output != self.graph.answer:
                group = self._key(function.output, values, values[function.output])
                position = calls.start[group] + position
            entry = _last_at_most(calls.cumulative, position)
            remainder = position - calls.cumulative[entry]
            for i, column in enumerate(calls.columns):
                values[column] = calls.rows[entry, i]
            # Split what is left of the rank among the arguments that are themselves computed.
            for source in dict.fromkeys(function.sources):
                if source in self._calls:
                    group = self._key(source, values, values[source])
                    ways = self._calls[source].total[group]
                    pending[source] = remainder % ways
                    remainder = remainder // ways
        return np.stack([values[slot] for slot in self.graph.inputs], axis=1).astype(np.int32)

    def batches(self, size: int = 1 << 18) -> Iterator[np.ndarray]:
        """The whole space in rank order, in arrays of at most ``size`` compositions."""
        for begin in range(0, self.size, size):
            yield self.unrank(np.arange(begin, min(begin + size, self.size)))

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """``count`` distinct compositions, uniform, in random order: ``(count, slots)`` int32."""
        ranks = distinct_integers(self.size, count, rng)
        rows = np.empty((count, len(self.graph.inputs)), dtype=np.int32)
        for begin in range(0, count, _BLOCK):  # what is made of a block stays small
            rows[begin : begin + _BLOCK] = self.unrank(ranks[begin : begin + _BLOCK])
        return rows

    def sample_outside(
        self, count: int, excluded: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Up to ``count`` distinct compositions, uniform among those not in ``excluded``.

        ``excluded`` is ``(m, slots)``, each row a member of the space. Fewer than ``count`` rows
        come back only if the space holds no more.
        """
        available = self.size - len(excluded)
        count = min(count, available)
        if count <= 0:
            return np.empty((0, len(self.graph.inputs)), dtype=np.int32)
        sizes = [self.sizes[slot] for slot in self.graph.inputs]
        banned = np.sort(encode_rows(excluded, sizes))
        # A little more than the expected number of draws; by symmetry, drawing again after a
        # shortfall (whose chance does not depend on WHICH items survive) keeps it uniform.
        draws = int(count * self.size / available * 1.05) + 64
        while True:
            draws = min(draws, self.size)
            rows = self.sample(draws, rng)
            rows = rows[~is_member(encode_rows(rows, sizes), banned)]
            if len(rows) >= count:
                return rows[:count]
            draws *= 2


def _last_at_most(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of the last number that is not above each of ``wanted``, int64."""
    order = np.argsort(
        wanted
    )  # neighbours are found in neighbouring memory, in a third of the time
    found = np.empty(len(wanted), dtype=np.int64)
    found[order] = np.searchsorted(ascending, wanted[order], side="right") - 1
    return found


def check_domain(sizes: Sequence[int], remedy: str) -> None:
    """Refuse slots of so many tokens that their inputs cannot be counted in int64."""
    if prod(map(int, sizes)) >= MOST_CODES:
        raise InputError(
            f"{tokens_in_slots(sizes)} make a domain of more than 2^62 inputs, which cannot be "
            f"counted; {remedy}"
        )


def tokens_in_slots(sizes: Sequence[int]) -> str:
    """The sizes of slots in words."""
    if len({*sizes}) == 1:
        return f"{counted(sizes[0], 'token')} in {counted(len(sizes), 'slot')}"
    return f"slots of {', '.join(f'{size:,}' for size in sizes)} tokens"


def encode_rows(rows: np.ndarray, sizes: int | Sequence[int]) -> np.ndarray:
    """Each row of values as one int64: mixed radix, first slot highest.

    ``sizes`` are more than the values of each column, or a number for all of them.
    """
    codes = np.zeros(len(rows), dtype=np.int64)
    for column, size in enumerate(_each(sizes, rows.shape[1])):
        codes = codes * size + rows[:, column]
    return codes


def decode_rows(codes: np.ndarray, sizes: int | Sequence[int], slots: int) -> np.ndarray:
    """The rows ``(n, slots)`` int64 that ``encode_rows`` gives these codes."""
    sizes = np.array(_each(sizes, slots), dtype=np.int64)
    return codes[:, None] // strides(sizes) % sizes


def strides(sizes: Sequence[int]) -> np.ndarray:
    """How much each slot counts in a code of ``encode_rows``: ``(slots,)`` int64."""
    return np.array([prod(map(int, sizes[i + 1 :])) for i in range(len(sizes))], dtype=np.int64)


def sizes_at(sizes: int | Sequence[int], positions: Sequence[int]) -> int | tuple[int, ...]:
    """The sizes of some slots; a number stands for all of them."""
    return sizes if isinstance(sizes, int | np.integer) else tuple(sizes[i] for i in positions)


def _each(sizes: int | Sequence[int], count: int) -> Sequence[int]:
    return [sizes] * count if isinstance(sizes, int | np.integer) else sizes


def is_member(codes: np.ndarray, sorted_codes: np.ndarray) -> np.ndarray:
    """Which of ``codes`` occur in the sorted array ``sorted_codes``."""
    if len(sorted_codes) == 0:
        return np.zeros(len(codes), dtype=bool)
    where = np.searchsorted(sorted_codes, codes)
    where[where == len(sorted_codes)] = 0
    return sorted_codes[where] == codes


class Places:
    """The places of codes below ``count`` among ``known`` ones, which ascend; -1: not there.

    They may be asked for by and by, about ``asked`` codes in all.

    >>> Places(np.array([5, 7]), 9, asked=3).of(np.array([7, 2, 5])).tolist()
    [1, -1, 0]
    """

    def __init__(self, known: np.ndarray, count: int, asked: int) -> None:
        self._known, self._table = known, None
        if count <= max(1 << 16, 8 * asked):
            self._table = np.full(count, -1, dtype=np.int32)
            self._table[known] = np.arange(len(known), dtype=np.int32)
            return
        # Most are not there: what differs from all that are in its last bits is not searched for.
        self._marks = np.zeros(1 << 22, dtype=bool)
        self._marks[known & (len(self._marks) - 1)] = True

    def of(self, codes: np.ndarray) -> np.ndarray:
        """The place of each code, ``(n,)`` int32; -1: not there."""
        if self._table is not None:
            return self._table[codes]
        found = np.full(len(codes), -1, dtype=np.int32)
        likely = np.flatnonzero(self._marks[codes & (len(self._marks) - 1)])
        likely = likely[is_member(codes[likely], self._known)]
        found[likely] = np.searchsorted(self._known, codes[likely])
        return found


def opens(ordered: np.ndarray) -> np.ndarray:
    """Where a group of equal numbers begins among sorted ones: ``(n,)`` bool."""
    found = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=found[1:])
    return found


def distinct(codes: np.ndarray) -> np.ndarray:
    """The different codes, ascending.

    ``np.unique`` of numpy 2.3 and later puts each into a table: a million different ones take a
    hundred times as long.
    """
    ordered = np.sort(codes)
    return ordered[opens(ordered)]


def repeated(ordered: np.ndarray) -> np.ndarray:
    """The codes that are more than once in a sorted array, ascending."""
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return again[opens(again)]


def rows_among(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The rows whose code is one of ``wanted``, ascending; both int64, ``wanted`` sorted.

    Made for few wanted codes of many: most rows are told by 20 bits.
    """

    def mixed(numbers: np.ndarray) -> np.ndarray:
        return (numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(44)).view(int)

    maybe, found = np.zeros(1 << 20, dtype=bool), [np.empty(0, dtype=np.int64)]
    maybe[mixed(wanted)] = True
    for begin in range(0, len(codes) if len(wanted) else 0, _BLOCK):
        block = codes[begin : begin + _BLOCK]
        rows = np.flatnonzero(maybe.take(mixed(block)))
        found.append(begin + rows[is_member(block[rows], wanted)])
    return np.concatenate(found)


def numbered(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct of some codes below ``count``, ascending, and the number of each among them.

    As ``np.unique`` gives them, but without sorting where the codes are not sparse.
    """
    if count > max(1 << 16, 8 * len(codes)):
        return np.unique(codes, return_inverse=True)
    present = np.zeros(count, dtype=bool)
    present[codes] = True
    distinct = np.flatnonzero(present)
    number = np.empty(count, dtype=np.int32)
    number[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, number[codes]


def distinct_integers(population: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` distinct integers of ``range(population)``, uniform, in random order; int64.

    Memory is O(count) when the population is large against it, O(population) otherwise.
    """
    if not 0 <= count <= population:
        raise ValueError(f"cannot draw {count} distinct integers from {population}")
    if count * 4 >= population:
        return rng.permutation(population)[:count].astype(np.int64)
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        # Keep first occurrences in drawing order: sequential sampling without replacement.
        more = rng.integers(0, population, size=int((count - len(drawn)) * 1.3) + 16)
        drawn = np.concatenate([drawn, more])
        rows = rows_among(drawn, repeated(np.sort(drawn)))
        kept = np.ones(len(drawn), dtype=bool)
        kept[rows] = False
        kept[rows[np.unique(drawn[rows], return_index=True)[1]]] = True
        drawn = drawn[kept]
    return drawn[:count]

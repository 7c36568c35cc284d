"""Evidence: which fragments of a slot set a training set shows to behave alike.

For a slot set I, a *fragment* is the values at I and a *context* the values at all other slots. Two
fragments share a context when the training set holds both in it. They *agree* there if the answers
are equal; one shared context with different answers *contradicts* the pair, and a contradicted
pair is not equivalent at any k, however often it agrees (functional k-equivalence, section 3 of
"The Coverage Principle"). For any other pair the number of shared contexts is its *evidence*. Where
labels may be wrong, ``noise.py`` says what a disagreement costs instead.

Both counts are products of sparse 0/1 matrices. They are made in blocks of rows, so that memory
stays bounded while a set of millions of pairs streams through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod

import numpy as np
import scipy.sparse as sparse

from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.coverage.pairing import (
    Groups,
    evident_pairs,
    run_lengths,
    shared_contexts,
)
from coverage_principle.data.space import encode_rows, numbered, sizes_at
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line

#: Multiply-adds of one block of the product: its pairs take about 12 bytes each.
_BLOCK = 1 << 23


def slot_sets(num_slots: int) -> list[tuple[int, ...]]:
    """All non-empty proper subsets of the slot positions ``0..num_slots-1``, small ones first."""
    return [
        positions
        for size in range(1, num_slots)
        for positions in combinations(range(num_slots), size)
    ]


def parse_slot_sets(text: str | None, inputs: Sequence[str]) -> list[tuple[int, ...]]:
    """The slot sets that the setting ``fragments`` names, for a task with the slots ``inputs``.

    ``all`` or None; ``contiguous``, slots next to each other; or sets separated by ``;``, each a
    list of slots by number from 1 or by name: ``1,2`` or ``x1,x2;x2,x3``. ``InputError`` for
    anything else, and for a set that holds no slot, a slot twice, or all slots (which leaves no
    context).
    """
    count = len(inputs)
    if text is None or text == "all":
        return slot_sets(count)
    if text == "contiguous":
        return [s for s in slot_sets(count) if s == tuple(range(s[0], s[-1] + 1))]
    names = {str(i): i - 1 for i in range(1, count + 1)} | {n: i for i, n in enumerate(inputs)}
    found = []
    for part in text.split(";"):
        slots = [slot.strip() for slot in part.split(",")]
        if not all(slot in names for slot in slots):
            raise InputError(
                f"`fragments` {text!r} is neither all nor contiguous nor a list of slots such as "
                f"1,2 or 1,2;2,3; the slots are 1 to {count} ({', '.join(inputs)})"
            )
        positions = tuple(sorted({names[slot] for slot in slots}))
        if len(positions) < len(slots) or len(positions) == count:
            raise InputError(
                f"`fragments` {part!r} must name some of the {count} slots, each once, but not all"
            )
        found.append(positions)
    return list(dict.fromkeys(found))


def fragments_of(indices: Sequence[int], inputs: Sequence[str]) -> str:
    """The setting ``fragments`` for one slot set whose slots are counted from 0.

    That is how the newest published script names it (``target_indices``). ``InputError`` unless
    they are some of the slots, each once, but not all.

    >>> fragments_of([0, 1], ["x1", "x2", "x3"])
    'x1,x2'
    """
    count, told = len(inputs), " ".join(map(str, indices))
    if not all(0 <= index < count for index in indices):
        named = f"the {count} slots ({', '.join(inputs)}) are 0 to {count - 1}"
        raise InputError(f"`target_indices` {told}: {named}")
    if len(set(indices)) < len(indices) or len(indices) == count:
        few = f"it must name some of the {count} slots, each once, but not all"
        raise InputError(f"`target_indices` {told}: {few}")
    return ",".join(inputs[index] for index in indices)


@dataclass(frozen=True)
class Observations:
    """A training set as one slot set sees it: a fragment, in a context, with a label.

    ``codes`` and ``context_codes`` are the distinct fragments and contexts in ascending order of
    ``encode_rows``. ``fragment_of``, ``context_of`` and ``label_of`` are ``(n,)`` int32 indices of
    each training item, counted from 0 without gaps. The label is the answer, or finer where the
    caller made it so.
    """

    positions: tuple[int, ...]
    codes: np.ndarray
    context_codes: np.ndarray
    fragment_of: np.ndarray
    context_of: np.ndarray
    label_of: np.ndarray

    __repr__ = one_line

    @property
    def num_fragments(self) -> int:
        return len(self.codes)

    @property
    def num_contexts(self) -> int:
        return int(self.context_of.max(initial=-1)) + 1

    def only(self, items: np.ndarray) -> Observations:
        """The same slot set with a part of the training items (a mask); fragments keep numbers."""
        return replace(
            self,
            fragment_of=self.fragment_of[items],
            context_of=self.context_of[items],
            label_of=self.label_of[items],
        )

    def incidence(self, columns: np.ndarray) -> sparse.csr_array:
        """Fragments x ``columns`` (an index for each item), int32; 1 where an item joins them."""
        _, columns = np.unique(columns, return_inverse=True)
        ones = np.ones(len(columns), dtype=np.int32)
        shape = (self.num_fragments, int(columns.max(initial=-1)) + 1)
        return sparse.csr_array((ones, (self.fragment_of, columns)), shape=shape)

    def with_label(self, others: np.ndarray) -> np.ndarray:
        """An index of (``others``, label) for each item."""
        return others.astype(np.int64) * (int(self.label_of.max(initial=0)) + 1) + self.label_of


def observe(
    inputs: np.ndarray,
    labels: np.ndarray,
    positions: tuple[int, ...],
    sizes: int | Sequence[int],
) -> Observations:
    """See the distinct training inputs ``(n, slots)`` with ``labels`` ``(n,)`` from a slot set.

    ``sizes`` are those of the slots' alphabets, or a number for all of them.
    """
    return Observer(inputs, labels, sizes).at(positions)


class Observer:
    """Sees training inputs from one slot set after another; arguments as for ``observe``.

    A context at a slot set is a fragment at the other slots, so each is numbered once.
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, sizes: int | Sequence[int]) -> None:
        self._inputs, self._sizes = inputs, sizes
        _, self._label_of = _numbered(labels, int(labels.max(initial=0)) + 1)
        self._found: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def at(self, positions: tuple[int, ...]) -> Observations:
        """The training inputs as the slot set at ``positions`` sees them."""
        rest = tuple(slot for slot in range(self._inputs.shape[1]) if slot not in positions)
        codes, fragment_of = self._fragments(positions)
        context_codes, context_of = self._fragments(rest)
        return Observations(
            positions, codes, context_codes, fragment_of, context_of, self._label_of
        )

    def _fragments(self, positions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if positions not in self._found:
            sizes = np.broadcast_to(sizes_at(self._sizes, positions), len(positions)).tolist()
            codes = encode_rows(self._inputs[:, list(positions)], sizes)
            self._found[positions] = _numbered(codes, prod(sizes))
        return self._found[positions]


def _numbered(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    distinct, number = numbered(codes, count)
    return distinct, number.astype(np.int32, copy=False)


def consistent_pairs(
    observations: Observations,
    progress: Callable[[float], None] = lambda _: None,
    *,
    noise: PairNoise = NO_NOISE,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of fragments with evidence, in blocks ``(first, second, evidence)``.

    Each block is three ``(m,)`` int32 arrays with first < second; every pair with an evidence of at
    least 1 comes once. ``progress`` is called with the share that is done.
    """
    seen = observations.fragment_of, observations.context_of, observations.label_of
    return evident_pairs(*seen, noise, progress)


class Agreements:
    """Which fragments of a slot set agree with given ones, and how many contexts pairs share.

    Made once and asked often. It holds about 12 bytes for each training item that agrees with
    another, and what ``shared_contexts`` holds.
    """

    def __init__(self, observations: Observations) -> None:
        seen = self.observations = observations
        groups = Groups.by_answer(seen.fragment_of, seen.context_of, seen.label_of)
        sizes = run_lengths(groups.end)
        several = sizes > 1  # a fragment alone agrees with none
        own = groups.fragment[np.repeat(several, sizes)]
        begins = np.concatenate([[0], np.cumsum(sizes[several])])
        shape = len(begins) - 1, seen.num_fragments
        self._groups = sparse.csr_array((np.ones(len(own), np.int8), own, begins), shape=shape)
        self._of = self._groups.T.tocsr()
        self.shared = shared_contexts(seen.fragment_of, seen.context_of)

    @property
    def sizes(self) -> np.ndarray:
        """How many fragments agree in each (context, label) that has several."""
        return np.diff(self._groups.indptr)

    def of(self, fragments: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The other fragments that agree anywhere with the given ones, which are distinct.

        Blocks ``(first, second, agreeing)`` of ``(m,)`` int32: ``first`` goes through the given
        ones in their order, ``agreeing`` counts contexts. Sums over the seconds of a first are made
        in the order in which they come, so that it is kept: that of scipy's product of 0/1
        matrices, of fragments and of (context, label), both ascending.
        """
        chosen = self._of[fragments]
        used, column = np.unique(chosen.indices, return_inverse=True)
        ones, shape = np.ones(len(column), np.int32), (len(fragments), len(used))
        chosen = sparse.csr_array((ones, column, chosen.indptr), shape=shape)
        groups = self._groups[used].astype(np.int32)
        for begin, end in row_blocks(chosen, np.diff(groups.indptr)):
            product = (chosen[begin:end] @ groups).tocoo()
            first = np.asarray(fragments)[product.row + begin]
            other = np.flatnonzero(first != product.col)
            first, second = first[other].astype(np.int32), product.col[other].astype(np.int32)
            yield first, second, product.data[other]


def row_blocks(
    matrix: sparse.csr_array, sizes: np.ndarray | None = None
) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose products with another matrix take about ``_BLOCK`` multiply-adds each.

    ``sizes`` are the entries in each row of the other; it is ``matrix.T`` if they are not given.
    """
    if sizes is None:
        sizes = np.bincount(matrix.indices, minlength=matrix.shape[1])
    work = np.concatenate([[0], np.cumsum(sizes[matrix.indices])])[matrix.indptr]
    begin, rows = 0, matrix.shape[0]
    while begin < rows:
        end = int(np.searchsorted(work, work[begin] + _BLOCK, side="right")) - 1
        end = min(max(end, begin + 1), rows)
        yield begin, end
        begin = end

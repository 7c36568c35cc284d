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

import numpy as np
import scipy.sparse as sparse

from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.data.space import encode_rows, sizes_at
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line

#: Multiply-adds of one block of the product: its pairs take about 12 bytes each.
_BLOCK = 1 << 23
#: 64-bit words of one table of presence bits.
_TABLE = 1 << 23


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
    rest = [slot for slot in range(inputs.shape[1]) if slot not in positions]
    fragments = encode_rows(inputs[:, list(positions)], sizes_at(sizes, positions))
    codes, fragment_of = np.unique(fragments, return_inverse=True)
    contexts = encode_rows(inputs[:, rest], sizes_at(sizes, rest))
    context_codes, context_of = np.unique(contexts, return_inverse=True)
    _, label_of = np.unique(labels, return_inverse=True)
    indices = (index.astype(np.int32) for index in (fragment_of, context_of, label_of))
    return Observations(positions, codes, context_codes, *indices)


def consistent_pairs(
    observations: Observations,
    progress: Callable[[float], None] = lambda _: None,
    *,
    noise: PairNoise = NO_NOISE,
    split: int = 0,
    block: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of fragments with evidence, in blocks ``(first, second, evidence)``.

    Each block is three ``(m,)`` int32 arrays with first < second; every pair with an evidence of at
    least 1 comes once. ``progress`` is called with the share that is done. ``split`` and ``block``
    are those of ``agreeing_pairs``.
    """
    for first, second, agreeing, shared in agreeing_pairs(
        observations, progress, split=split, block=block
    ):
        evidence = noise.evidence(agreeing, shared)
        kept = evidence > 0
        yield first[kept], second[kept], evidence[kept]


def agreeing_pairs(
    observations: Observations,
    progress: Callable[[float], None] = lambda _: None,
    *,
    split: int = 0,
    block: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of fragments that agree anywhere: blocks ``(first, second, agreeing, shared)``.

    Four ``(m,)`` int32 arrays, first < second: in how many contexts the two agree, and how many
    they share. With ``split`` only the pairs of a fragment before it and one from it on. ``block``
    is how many multiply-adds are done at once.
    """
    agreement = observations.incidence(observations.with_label(observations.context_of))
    contexts = ContextBits(observations)
    rows, others = agreement, None
    if split:
        rows, others = agreement[:split], agreement[split:]
        turned = others.T.tocsr()
    for begin, end in row_blocks(rows, others, block=block):
        # Only fragments from ``low`` on: the pairs with earlier ones came before.
        low = split or begin
        product = (rows[begin:end] @ (turned if split else agreement[low:].T)).tocoo()
        upper = product.col + (low - begin) > product.row
        first = product.row[upper].astype(np.int32) + np.int32(begin)
        second = product.col[upper].astype(np.int32) + np.int32(low)
        yield first, second, product.data[upper], contexts.shared(first, second)
        progress(end / rows.shape[0])


def agreeing_with(
    observations: Observations, fragments: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The fragments that agree anywhere with the given ones, themselves included.

    ``fragments`` are distinct indices. Blocks ``(first, second, agreeing)`` of ``(m,)`` int32:
    ``first`` goes through the given ones in their order, ``agreeing`` counts contexts.
    """
    agreement = observations.incidence(observations.with_label(observations.context_of))
    chosen = agreement[fragments]
    for begin, end in row_blocks(chosen, agreement):
        product = (chosen[begin:end] @ agreement.T).tocoo()
        first = np.asarray(fragments)[product.row + begin]
        yield first.astype(np.int32), product.col.astype(np.int32), product.data


def row_blocks(
    matrix: sparse.csr_array, other: sparse.csr_array | None = None, *, block: int | None = None
) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose products with ``other.T`` take about ``block`` multiply-adds each.

    ``other`` is the matrix itself if it is not given, ``block`` is ``_BLOCK``.
    """
    indices = (matrix if other is None else other).indices
    column_sizes = np.bincount(indices, minlength=matrix.shape[1])
    work = np.concatenate([[0], np.cumsum(column_sizes[matrix.indices])])[matrix.indptr]
    begin, rows = 0, matrix.shape[0]
    while begin < rows:
        end = int(np.searchsorted(work, work[begin] + (block or _BLOCK), side="right")) - 1
        end = min(max(end, begin + 1), rows)
        yield begin, end
        begin = end


class ContextBits:
    """Counts the shared contexts of given pairs by packed bits.

    The full product of the context incidence would be about |X| times denser than that of the
    agreements, and only pairs that agree somewhere matter.
    """

    def __init__(self, observations: Observations) -> None:
        order = np.argsort(observations.context_of, kind="stable")
        self._fragment = observations.fragment_of[order]
        self._context = observations.context_of[order]
        self._rows = observations.num_fragments
        self._words = -(-observations.num_contexts // 64)
        self._width = max(1, min(self._words, _TABLE // self._rows))
        self._whole = self._table(0) if self._width == self._words else None

    def shared(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Number of contexts that each pair shares: ``(m,)`` int32."""
        total = np.zeros(len(first), dtype=np.int32)
        if len(first) == 0:
            return total
        step = max(1, (1 << 20) // self._width)
        for word in range(0, self._words, self._width):
            table = self._table(word) if self._whole is None else self._whole
            for begin in range(0, len(first), step):
                part = slice(begin, begin + step)
                both = table[first[part]] & table[second[part]]
                total[part] += np.bitwise_count(both).sum(axis=1, dtype=np.int32)
        return total

    def _table(self, word: int) -> np.ndarray:
        """Presence bits of the contexts from ``64 * word`` on: (fragments, width) uint64."""
        low, high = np.searchsorted(self._context, [64 * word, 64 * (word + self._width)])
        context = self._context[low:high] - 64 * word
        table = np.zeros((self._rows, self._width), dtype=np.uint64)
        flags = np.uint64(1) << (context % 64).astype(np.uint64)
        np.bitwise_or.at(table, (self._fragment[low:high], context // 64), flags)
        return table

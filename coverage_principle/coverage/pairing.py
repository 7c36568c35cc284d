"""Pairs of fragments, counted: in how many contexts two of them agree, and how many they share.

All pairs that meet in a group of training items (those of one context and answer, or of one
context) are written down as packed whole numbers and counted, by a table where that is small, else
by sorting. There are two ways, and the cheaper is taken. *Contexts*: all pairs that share a context
are looked at, which gives both counts. *Answers*: only pairs that agree somewhere are, and the
contexts that they share are counted by packed bits; that is cheaper where a context holds many
fragments, of which few give equal answers.

Pairs come in blocks of a range of first fragments, so that memory stays bounded while hundreds of
millions of them stream through. Everything here takes arrays and gives arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.noise import NO_NOISE, PairNoise
from coverage_principle.data.space import opens

#: Meetings of two fragments that are looked at together: each takes about 40 bytes.
_BLOCK = 1 << 22
#: Cells of a table that counts pairs.
_CELLS = 1 << 22
#: 64-bit words of one table of presence bits.
_TABLE = 1 << 24
#: What one step costs, in nanoseconds: a meeting that is counted, and a word of bits of a pair.
_MEETING, _WORD = 25, 5

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def bits_below(count: int) -> int:
    """How many bits whole numbers below ``count`` take."""
    return max(int(count) - 1, 0).bit_length()


def pack(*columns: tuple[np.ndarray, int]) -> np.ndarray:
    """One number for each row of columns, the first highest: ``(n,)`` uint32, or int64.

    Each column comes with the number that its values are below. Numbers that 63 bits do not hold
    together are refused (``ValueError``).

    >>> pack((np.array([1, 2]), 3), (np.array([5, 0]), 6)).tolist()
    [13, 16]
    """
    widths = [bits_below(count) for _, count in columns]
    if sum(widths) > 63:
        raise ValueError(f"numbers of {sum(widths)} bits cannot be packed")
    dtype = np.uint32 if sum(widths) <= 32 else np.int64
    found = columns[0][0].astype(dtype)
    for (values, _), width in zip(columns[1:], widths[1:], strict=True):
        found <<= dtype(width)
        found |= values.astype(dtype, copy=False)
    return found


def run_lengths(ordered: np.ndarray) -> np.ndarray:
    """How often each of some sorted numbers occurs."""
    return np.diff(np.flatnonzero(opens(ordered)), append=len(ordered))


def within(repeats: np.ndarray) -> np.ndarray:
    """0, 1, ... for each group of so many: ``[2, 3]`` gives 0 1 0 1 2."""
    return np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)


@dataclass(frozen=True)
class Groups:
    """Fragments in groups, one behind the other, ascending within each: ``fragment`` ``(n,)``.

    ``end`` ``(n,)`` is where the group of each ends. ``label`` ``(n,)`` tells which agree; None if
    all of a group do.
    """

    fragment: np.ndarray
    end: np.ndarray
    label: np.ndarray | None = None

    @classmethod
    def of(
        cls, sorted_groups: np.ndarray, fragment: np.ndarray, label: np.ndarray | None = None
    ) -> Groups:
        sizes = run_lengths(sorted_groups)
        dtype = np.int32 if len(fragment) < 2**31 else np.int64
        return cls(fragment, np.repeat(np.cumsum(sizes).astype(dtype), sizes), label)

    @classmethod
    def by_answer(
        cls, fragment_of: np.ndarray, context_of: np.ndarray, label_of: np.ndarray
    ) -> Groups:
        """The items of one context and label each; arguments as for ``agreeing_pairs``."""
        fragments, contexts, labels = (
            int(column.max(initial=-1)) + 1 for column in (fragment_of, context_of, label_of)
        )
        beside = bits_below(fragments)
        answer, answers = numbered_answers(context_of, contexts, label_of, labels, beside=beside)
        return _unpacked(np.sort(pack((answer, answers), (fragment_of, fragments))), fragments)

    def after(self, split: int = 0) -> np.ndarray:
        """How many of its group come behind each: ``(n,)``.

        With ``split`` a fragment below it has only those from it on behind it, others have none.
        """
        if not split:
            return self.end - np.arange(1, len(self.end) + 1, dtype=self.end.dtype)
        behind = self.fragment >= split
        counts = np.concatenate([[0], np.cumsum(behind)])
        return np.where(behind, 0, counts[self.end] - counts[:-1]).astype(self.end.dtype)

    def blocks(
        self, fragments: int, split: int = 0, shrink: int = 1
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray | None]]:
        """All meetings: ``(begin, end, keys, agree)`` of the first fragments from begin to end.

        ``keys`` are ``(first - begin) * fragments + second``, one for each meeting of two
        fragments; ``agree`` tells which of these agree, None if all do. ``split`` is as for
        ``after``.
        """
        after = self.after(split)
        several = np.flatnonzero(after > 0)
        after, first = after[several], self.fragment[several]
        work = np.cumsum(np.bincount(first, after, fragments).astype(np.int64))
        begin = 0
        while begin < fragments:
            done = int(work[begin - 1]) if begin else 0
            end = int(np.searchsorted(work, done + _BLOCK // shrink, side="right"))
            end = min(max(end, begin + 1), fragments)
            if begin == 0 and end == fragments:
                own, times, mine = several, after, first
            else:
                here = np.flatnonzero((first >= begin) & (first < end))
                own, times, mine = several[here], after[here], first[here]
            # Those that it meets are the last of its group.
            other = np.repeat(self.end[own] - times - (np.cumsum(times) - times), times)
            other += np.arange(len(other), dtype=other.dtype)
            small = (end - begin) * fragments <= 2**32
            keys = (mine - begin).astype(np.uint32 if small else np.int64)
            keys *= keys.dtype.type(fragments)
            keys = np.repeat(keys, times)
            keys += self.fragment[other].astype(keys.dtype, copy=False)
            agree = None
            if self.label is not None:
                agree = np.repeat(self.label[own], times) == self.label[other]
            yield begin, end, keys, agree
            begin = end


def agreeing_pairs(
    fragment_of: np.ndarray,
    context_of: np.ndarray,
    label_of: np.ndarray,
    progress: Callable[[float], None] = lambda _: None,
    *,
    split: int = 0,
    shrink: int = 1,
) -> Iterator[Pairs]:
    """All pairs of fragments that agree anywhere: blocks ``(first, second, agreeing, shared)``.

    The fragment, context and label of each item are indices from 0, ``(n,)``; no fragment is twice
    in one context. Blocks are four ``(m,)`` int32 arrays, first < second, ascending: in how many
    contexts the two agree, and how many they share. With ``split`` only pairs of a fragment below
    it and one from it on. Blocks and tables are ``shrink`` times as small as they would be.

    Fragments 0 and 1 share the contexts 0 and 1, and agree in one of them:

    >>> items = np.array([[0, 0, 7], [1, 0, 7], [0, 1, 3], [1, 1, 4], [2, 2, 3]]).T
    >>> [[part.tolist() for part in block] for block in agreeing_pairs(*items)]
    [[[0], [1], [1], [2]]]
    """
    if len(fragment_of) == 0:
        return
    fragments, contexts, labels = (
        int(column.max()) + 1 for column in (fragment_of, context_of, label_of)
    )
    by_answer = Groups.by_answer(fragment_of, context_of, label_of)
    agreements = int(by_answer.after(split).sum(dtype=np.int64))
    sizes = np.bincount(context_of)
    meetings = int((sizes * (sizes - 1) // 2).sum())
    if split:
        low = np.bincount(context_of[fragment_of < split], minlength=contexts)
        meetings = int((low * (sizes - low)).sum())
    pairs, words = min(agreements, fragments * (fragments - 1) // 2), -(-contexts // 64)
    if _MEETING * meetings <= _MEETING * agreements + _WORD * words * pairs:
        columns = (context_of, contexts), (fragment_of, fragments), (label_of, labels)
        for begin, end, keys, agree in _by_context(*columns).blocks(fragments, split, shrink):
            yield _counted(keys, agree, begin, end, fragments, _CELLS // shrink)
            progress(end / fragments)
        return
    bits = ContextBits(fragment_of, context_of, _TABLE // shrink)
    for begin, end, keys, _ in by_answer.blocks(fragments, split, shrink):
        first, second, agreeing, _ = _counted(keys, None, begin, end, fragments, _CELLS // shrink)
        yield first, second, agreeing, bits.shared(first, second)
        progress(end / fragments)


def evident_pairs(
    fragment_of: np.ndarray,
    context_of: np.ndarray,
    label_of: np.ndarray,
    noise: PairNoise = NO_NOISE,
    progress: Callable[[float], None] = lambda _: None,
    *,
    split: int = 0,
    shrink: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same with their evidence, those that have any: blocks ``(first, second, evidence)``."""
    how = {"split": split, "shrink": shrink}
    pairs = agreeing_pairs(fragment_of, context_of, label_of, progress, **how)
    for first, second, agreeing, shared in pairs:
        evidence = noise.evidence(agreeing, shared)
        kept = evidence > 0
        yield first[kept], second[kept], evidence[kept]


def disagreeing_pairs(
    fragment_of: np.ndarray, group_of: np.ndarray, label_of: np.ndarray, shrink: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of fragments that have different labels in a group: ``(first, second)``.

    The group of each item is a whole number, the rest as for ``agreeing_pairs``.
    """
    found = [(np.empty(0, dtype=np.int64),) * 2]
    columns = [(of, int(of.max(initial=0)) + 1) for of in (group_of, fragment_of, label_of)]
    fragments = columns[1][1]
    for begin, _, keys, agree in _by_context(*columns).blocks(fragments, shrink=shrink):
        keys = np.sort(keys[~agree])
        first, second = np.divmod(keys[opens(keys)], keys.dtype.type(fragments))
        found.append((first + np.int64(begin), second))
    first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first.astype(np.int64), second.astype(np.int64)


def numbered_answers(
    context_of: np.ndarray, contexts: int, label_of: np.ndarray, labels: int, *, beside: int
) -> tuple[np.ndarray, int]:
    """A number for each item's (context, label), ascending with them, and what they are below.

    It can be packed with ``beside`` more bits.
    """
    width = bits_below(contexts) + bits_below(labels)
    if width + beside <= 63:
        return pack((context_of, contexts), (label_of, labels)), 1 << width
    both = pack((context_of, contexts), (label_of, labels))
    found, number = np.unique(both, return_inverse=True)
    return number, len(found)


def _unpacked(keys: np.ndarray, fragments: int) -> Groups:
    """Groups from sorted keys of a group and a fragment."""
    width = bits_below(fragments)
    fragment = (keys & keys.dtype.type((1 << width) - 1)).astype(np.int32)
    return Groups.of(keys >> keys.dtype.type(width), fragment)


def _by_context(*columns: tuple[np.ndarray, int]) -> Groups:
    """Items by context and fragment; ``columns`` are context, fragment and label."""
    if sum(bits_below(count) for _, count in columns) <= 63:
        keys = np.sort(pack(*columns))
        own = [bits_below(count) for _, count in columns]
        label = (keys & keys.dtype.type((1 << own[2]) - 1)).astype(np.int32)
        groups = _unpacked(keys >> keys.dtype.type(own[2]), columns[1][1])
        return Groups(groups.fragment, groups.end, label)
    (context_of, contexts), (fragment_of, fragments), (label_of, _) = columns
    if bits_below(contexts) + bits_below(fragments) > 63:
        _, context_of = np.unique(context_of, return_inverse=True)
        contexts = len(context_of)
    order = np.argsort(pack((context_of, contexts), (fragment_of, fragments)))
    return Groups.of(context_of[order], fragment_of[order], label_of[order])


def _counted(
    keys: np.ndarray, agree: np.ndarray | None, begin: int, end: int, fragments: int, most: int
) -> Pairs:
    """The pairs of one block's meetings; without ``agree``, ``shared`` is ``agreeing``.

    They are counted by a table if it has ``most`` cells at most.
    """
    cells = (end - begin) * fragments
    if cells <= min(most, 4 * len(keys)):
        shared = np.bincount(keys, minlength=cells)
        agreeing = shared if agree is None else np.bincount(keys[agree], minlength=cells)
        pair = np.flatnonzero(agreeing)
        agreeing, shared = agreeing[pair], shared[pair]
    else:
        agreed = keys if agree is None else keys[agree]
        agreed.sort()
        starts = np.flatnonzero(opens(agreed))
        pair = agreed[starts]
        shared = agreeing = np.diff(starts, append=len(agreed))
        if agree is not None:
            # What never agrees is left out; the others' disagreements are looked up.
            rest = keys[~agree]
            place = np.searchsorted(pair, rest)
            place[place == len(pair)] = 0
            if len(pair):
                place = place[pair[place] == rest]
                shared = agreeing + np.bincount(place, minlength=len(pair))
    first, second = np.divmod(pair, pair.dtype.type(fragments))
    found = first + begin, second, agreeing, shared
    return tuple(part.astype(np.int32) for part in found)


def shared_contexts(
    fragment_of: np.ndarray, context_of: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function that counts the shared contexts of pairs: ``(m,)`` int32 of two ``(m,)``.

    The fragment and the context of each item are indices ``(n,)``; none is there twice. It looks
    into a table of all pairs where that is small and sooner made than pairs are compared.
    """
    fragments, contexts = (int(of.max(initial=-1)) + 1 for of in (fragment_of, context_of))
    sizes = np.bincount(context_of)
    meetings, words = int((sizes * (sizes - 1) // 2).sum()), -(-contexts // 64)
    pairs = fragments * (fragments - 1) // 2
    if fragments**2 > _CELLS or _MEETING * meetings > _WORD * words * pairs:
        return ContextBits(fragment_of, context_of).shared
    table = np.zeros((fragments, fragments), dtype=np.int32)
    ordered = np.sort(pack((context_of, contexts), (fragment_of, fragments)))
    for begin, end, keys, _ in _unpacked(ordered, fragments).blocks(fragments):
        counts = np.bincount(keys, minlength=(end - begin) * fragments)
        table[begin:end] = counts.reshape(-1, fragments)
    table += table.T.copy()
    return lambda first, second: table[first, second]


class ContextBits:
    """Counts the shared contexts of given pairs of fragments by packed bits.

    The fragment and the context of each item are indices ``(n,)``; none is there twice. A table of
    bits has ``words`` words.
    """

    def __init__(
        self, fragment_of: np.ndarray, context_of: np.ndarray, words: int = _TABLE
    ) -> None:
        self._fragment, self._context = fragment_of, context_of
        self._rows = int(fragment_of.max(initial=0)) + 1
        self._words = -(-(int(context_of.max(initial=-1)) + 1) // 64)
        self._width = max(1, min(self._words, words // self._rows))
        self._order = None
        if self._width < self._words:
            self._order = np.argsort(context_of, kind="stable")
        self._whole = self._table(0) if self._order is None else None

    def shared(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Number of contexts that each pair shares: ``(m,)`` int32."""
        total = np.zeros(len(first), dtype=np.int32)
        if len(first) == 0:
            return total
        for word in range(0, self._words, self._width):
            table = self._table(word) if self._whole is None else self._whole
            for begin in range(0, len(first), 1 << 18):
                part = slice(begin, begin + (1 << 18))
                total[part] += _common(table, first[part], second[part])
        return total

    def _table(self, word: int) -> np.ndarray:
        """Presence bits of the contexts from ``64 * word`` on: (width, fragments) uint64."""
        fragment, context = self._fragment, self._context
        if self._order is not None:
            own = np.searchsorted(
                context, [64 * word, 64 * (word + self._width)], sorter=self._order
            )
            chosen = self._order[slice(*own)]
            fragment, context = fragment[chosen], context[chosen] - 64 * word
        table = np.zeros((self._width, self._rows), dtype=np.uint64)
        flags = np.uint64(1) << (context & 63).astype(np.uint64)
        # Each item has a bit of its own, so that adding them is the same as joining them.
        np.add.at(table.reshape(-1), (context >> 6) * np.int64(self._rows) + fragment, flags)
        return table


def _common(table: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How many bits of each pair of columns of ``table`` are set in both: ``(m,)`` int32."""
    if len(table) > len(first):
        both = np.bitwise_count(table[:, first] & table[:, second])
        return both.sum(axis=0, dtype=np.int32)
    total = np.zeros(len(first), dtype=np.int32)
    for bits in table:  # word by word: sums over rows of few words are slow
        total += np.bitwise_count(bits[first] & bits[second])
    return total

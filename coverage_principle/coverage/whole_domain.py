"""What is connected to a training item in the whole domain, found without components.

A class of fragments acts on its own slots in any context: what holds of one of its members, that a
training item is connected to it, holds of all. So what is reached spreads, slot set by slot set,
until nothing changes. A slot set holds it as bits, a row for each fragment of the training set and
a bit for each context, and joins the rows of a class at once. From one level of evidence to the
next it only grows, and whatever is new is written into the rows of the other slot sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from coverage_principle.data.space import strides

#: Words of bits that are looked at together.
_WORDS = 1 << 20
#: If more than one input in so many is new, all rows are made anew.
_AT_ONCE = 16.0


class WholeDomain:
    """Which inputs of a domain of slots of these ``sizes`` are reached; ``trained`` at first."""

    def __init__(self, sizes: Sequence[int], trained: np.ndarray) -> None:
        self.sizes = tuple(sizes)
        self.reached = np.zeros(prod(self.sizes), dtype=bool)
        self.reached[trained] = True

    def action(self, positions: Sequence[int], codes: np.ndarray) -> Action:
        """The slot set at ``positions`` with fragments ``codes`` (``encode_rows``), none joined."""
        return Action(self, positions, codes)

    def spread(self, actions: Sequence[Action]) -> Iterator[np.ndarray]:
        """Reach all that classes lead to; blocks of the numbers of inputs that were not before."""
        while any([action.waits for action in actions]):
            for action in actions:
                if not action.waits:
                    continue
                for nodes in action.spread():
                    self.reached[nodes] = True
                    for other in actions:
                        if other is not action:
                            other.told(nodes)
                    yield nodes


class Action:
    """One slot set's fragments as rows of bits, one for each context, and their classes."""

    def __init__(self, domain: WholeDomain, positions: Sequence[int], codes: np.ndarray) -> None:
        self._domain, sizes = domain, domain.sizes
        self._inside = list(positions)
        self._rest = [slot for slot in range(len(sizes)) if slot not in self._inside]
        steps, own = strides(sizes), [sizes[slot] for slot in self._inside]
        self._values = np.unravel_index(codes, own)
        self._begin = sum(
            values * steps[slot] for slot, values in zip(self._inside, self._values, strict=True)
        )
        self._context = np.zeros(1, dtype=np.int64)
        for slot in self._rest:
            more = np.arange(sizes[slot]) * steps[slot]
            self._context = (self._context[:, None] + more).ravel()
        self._row = np.full(prod(own), -1, dtype=np.int32)
        self._row[codes] = np.arange(len(codes), dtype=np.int32)
        self._classes = np.arange(len(codes), dtype=np.int32)
        self._changed = np.zeros(len(codes), dtype=bool)
        self._bits: np.ndarray | None = None
        self._news: list[np.ndarray] = []

    @property
    def waits(self) -> bool:
        """Whether something may follow from what was told or from classes that grew."""
        return bool(self._news) or bool(self._changed.any())

    def grow(self, classes: np.ndarray) -> None:
        """Take larger classes; those that are as before are left alone."""
        before = np.bincount(self._classes)[self._classes]
        self._classes = classes
        self._changed |= np.bincount(classes)[classes] > before

    def told(self, nodes: np.ndarray) -> None:
        """Inputs that are reached from elsewhere."""
        self._news.append(nodes)

    def spread(self) -> Iterator[np.ndarray]:
        """Join the rows of each class; blocks of inputs that are reached by that."""
        self._take_news()
        chosen = np.zeros(len(self._classes), dtype=bool)
        chosen[self._classes[self._changed]] = True
        several = np.bincount(self._classes, minlength=len(chosen)) >= 2
        rows = np.flatnonzero((chosen & several)[self._classes])
        self._changed[:] = False
        rows = rows[np.argsort(self._classes[rows], kind="stable")]
        classes = self._classes[rows]
        starts = np.flatnonzero(np.diff(classes, prepend=-1))
        sizes = np.diff(starts, append=len(rows))
        words = self._bits.shape[1]
        # Columns in parts, so that what is joined stays small.
        step = max(1, _WORDS // max(len(rows), 1))
        for begin in range(0, words, step):
            part = self._bits[rows, begin : begin + step]
            whole = np.repeat(_joined(part, sizes), sizes, axis=0)
            new = whole & ~part
            some = np.flatnonzero(new.any(axis=1))
            if len(some):
                self._bits[rows[some], begin : begin + step] = whole[some]
                yield self._nodes(rows[some], new[some], begin)

    def _nodes(self, rows: np.ndarray, new: np.ndarray, begin: int) -> np.ndarray:
        """The inputs of these bits, which begin with word ``begin`` of their rows."""
        flags = np.unpackbits(new.view(np.uint8), axis=1, bitorder="little")
        place, context = np.nonzero(flags)
        return self._begin[rows[place]] + self._context[context + 64 * begin]

    def _take_news(self) -> None:
        """Bring the rows up to date: bit by bit where little is new, else all of them at once."""
        sizes, count = self._domain.sizes, sum(map(len, self._news))
        if self._bits is None or count > len(self._domain.reached) / _AT_ONCE:
            axes = (*self._inside, *self._rest)
            flags = self._domain.reached.reshape(sizes).transpose(axes)[self._values]
            packed = np.packbits(flags.reshape(len(flags), -1), axis=1, bitorder="little")
            bits = np.zeros((len(packed), -(-packed.shape[1] // 8)), dtype=np.uint64)
            bits.view(np.uint8)[:, : packed.shape[1]] = packed
            self._changed |= True if self._bits is None else (bits != self._bits).any(axis=1)
            self._bits = bits
        else:
            for nodes in self._news:
                self._take(nodes)
        self._news = []

    def _take(self, nodes: np.ndarray) -> None:
        sizes = self._domain.sizes
        values = np.unravel_index(nodes, sizes)

        def code(slots: Sequence[int]) -> np.ndarray:
            own = [sizes[slot] for slot in slots]
            return np.ravel_multi_index([values[slot] for slot in slots], own)

        row, context = self._row[code(self._inside)], code(self._rest)
        kept = row >= 0
        row, context = row[kept], context[kept]
        flags = np.uint64(1) << (context & 63).astype(np.uint64)
        place = row * np.int64(self._bits.shape[1]) + (context >> 6)
        flat = self._bits.reshape(-1)
        fresh = flat[place] & flags == 0  # a bit that is there already would be added twice
        np.add.at(flat, place[fresh], flags[fresh])
        self._changed[row[fresh]] = True


def _joined(rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Groups of so many rows, one behind the other, joined to one each, two and two at a time."""
    while sizes.max(initial=1) > 1:
        begins = np.cumsum(sizes) - sizes
        half = (sizes + 1) // 2
        first = np.repeat(begins, half)
        first += 2 * (np.arange(len(first)) - np.repeat(np.cumsum(half) - half, half))
        second = np.minimum(first + 1, np.repeat(begins + sizes - 1, half))
        rows, sizes = rows[first] | rows[second], half
    return rows

"""Shots, the training items in a prompt, and whether they alone cover the item that is asked for.

The shots are the whole training set and the item is the only test item, a node of the substitution
graph whatever its type. All other nodes are shots, so the item is covered at k just if one
substitution leads from it to a shot: the same context and answer, and a fragment of the same class
at k (``docs/coverage.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from coverage_principle.coverage.equivalence import functional_equivalence
from coverage_principle.coverage.evidence import observe
from coverage_principle.data.space import distinct_integers, encode_rows, sizes_at
from coverage_principle.errors import InputError
from simpletransformers.words import counted

#: How often agreements and other shots are drawn anew beside one partner (``inside``), and how many
#: exchanges are tried for each shot (``outside``).
_TRIES = 10


def shots_cutoff(
    inputs: np.ndarray,
    answers: np.ndarray,
    item: np.ndarray,
    answer: int,
    sizes: int | Sequence[int],
    slot_sets: Sequence[tuple[int, ...]],
) -> int:
    """The largest k at which shots alone cover an item that is none of them; 0 if at none.

    ``inputs`` ``(n, slots)`` are distinct, ``answers`` ``(n,)``, ``item`` ``(slots,)``;
    ``sizes`` as for ``observe``. Fragments are those of ``slot_sets``.
    """
    same, found = inputs == item, 0
    for positions in slot_sets:
        rest = _rest(positions, item)
        own = np.flatnonzero(same[:, positions].all(axis=1))
        reached = np.flatnonzero(same[:, rest].all(axis=1) & (answers == answer))
        if len(own) == 0 or len(reached) == 0:
            continue
        observations = observe(inputs, answers, positions, sizes)
        equivalence = functional_equivalence(observations, sizes)
        others = observations.fragment_of[reached]
        mine = np.full_like(others, observations.fragment_of[own[0]])
        found = max(found, int(equivalence.joined_up_to(mine, others, found + 1).max()))
    return found


class ShotDrawer:
    """Draws ``count`` shots for an item from a training set: ``inputs`` with ``answers``.

    With ``inside`` they cover the item at that k, with ``outside`` at no k; without either they are
    any. ``sizes`` as for ``observe``; fragments are those of ``slot_sets``.
    ``InputError`` if there are not so many items.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        answers: np.ndarray,
        sizes: int | Sequence[int],
        slot_sets: Sequence[tuple[int, ...]],
        *,
        count: int,
        inside: int | None = None,
        outside: bool = False,
    ) -> None:
        if count >= len(inputs):
            raise InputError(
                f"`shots` {count} is too many; train.json has "
                f"{counted(len(inputs), 'composition')}, and an item is no shot for itself"
            )
        self._inputs, self._answers, self._sizes = inputs, answers, sizes
        self._slot_sets, self._count = slot_sets, count
        self._inside, self._outside = inside, outside
        self._index = cache(lambda slots: _Index(inputs, slots, sizes))  # if it is needed

    def draw(
        self, item: np.ndarray, answer: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, int] | None:
        """The rows of the shots in random order, and the item's k-cutoff with them.

        None if no shots were found that do what is asked for.
        """
        own = self._index(tuple(range(len(item)))).rows(item)
        if self._inside is not None:
            return self._draw_inside(item, answer, own, rng)
        rows = self._filled(np.empty(0, dtype=np.int64), own, rng)
        cutoff = self._cutoff(rows, item, answer)
        if not self._outside:
            return rows, cutoff
        for _ in range(_TRIES * self._count):
            if cutoff == 0:
                return rows, cutoff
            # Only through one of these can the item be reached.
            near = (self._inputs[rows] == item).any(axis=1) & (self._answers[rows] == answer)
            new = self._fresh(1, np.concatenate([rows, own]), rng)
            if len(new) == 0:
                break
            rows[rng.choice(np.flatnonzero(near))] = new[0]
            cutoff = self._cutoff(rows, item, answer)
        return None

    def _draw_inside(
        self, item: np.ndarray, answer: int, own: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, int] | None:
        options = [
            (positions, partner)
            for positions in self._slot_sets
            for partner in self._partners(positions, item, answer, own)
        ]
        for place in rng.permutation(len(options)):
            for core in self._cores(*options[place], item, own, rng):
                rows = self._filled(core, own, rng)
                cutoff = self._cutoff(rows, item, answer)
                if cutoff >= self._inside:
                    return rows, cutoff
        return None

    def _partners(
        self, positions: tuple[int, ...], item: np.ndarray, answer: int, own: np.ndarray
    ) -> np.ndarray:
        """The training items with the same context at a slot set, and the same answer."""
        rows = self._index(_rest(positions, item)).rows(item)
        return np.setdiff1d(rows[self._answers[rows] == answer], own)

    def _cores(
        self,
        positions: tuple[int, ...],
        partner: int,
        item: np.ndarray,
        own: np.ndarray,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """Several draws of 2k + 1 rows that cover the item: the partner, and k agreements.

        An agreement is a context in which the training set holds the fragments of both, with the
        same answer. No draws if there are fewer than k.
        """
        rest = _rest(positions, item)
        rest_sizes = sizes_at(self._sizes, rest)
        sides = []
        for fragment in (item, self._inputs[partner]):
            rows = np.setdiff1d(self._index(positions).rows(fragment), own)
            sides.append((rows, encode_rows(self._inputs[rows][:, rest], rest_sizes)))
        (mine, contexts), (others, their_contexts) = sides
        _, a, b = np.intersect1d(contexts, their_contexts, return_indices=True)
        pairs = np.column_stack([mine[a], others[b]])
        pairs = pairs[self._answers[pairs[:, 0]] == self._answers[pairs[:, 1]]]
        if len(pairs) < self._inside:
            return
        for _ in range(_TRIES):
            chosen = rng.permutation(len(pairs))[: self._inside]
            yield np.append(pairs[chosen].reshape(-1), partner)

    def _filled(self, rows: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``rows`` and any others, so many as are wanted, in random order."""
        new = self._fresh(self._count - len(rows), np.concatenate([rows, own]), rng)
        return rng.permutation(np.concatenate([rows, new]))

    def _fresh(self, count: int, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Up to ``count`` rows that are not ``taken``."""
        total = len(self._inputs)
        drawn = distinct_integers(total, min(total, count + len(taken)), rng)
        return drawn[~np.isin(drawn, taken)][:count]

    def _cutoff(self, rows: np.ndarray, item: np.ndarray, answer: int) -> int:
        shots = self._inputs[rows], self._answers[rows]
        return shots_cutoff(*shots, item, answer, self._sizes, self._slot_sets)


class _Index:
    """Finds the rows of a training set by what they hold at some slots."""

    def __init__(
        self, inputs: np.ndarray, positions: tuple[int, ...], sizes: int | Sequence[int]
    ) -> None:
        self._positions, self._sizes = positions, sizes_at(sizes, positions)
        codes = encode_rows(inputs[:, positions], self._sizes)
        self._order = np.argsort(codes, kind="stable")
        self._codes = codes[self._order]

    def rows(self, item: np.ndarray) -> np.ndarray:
        """The rows that hold there what ``item`` ``(slots,)`` holds."""
        (code,) = encode_rows(item[None, self._positions], self._sizes)
        return self._order[slice(*np.searchsorted(self._codes, [code, code + 1]))]


def _rest(positions: tuple[int, ...], item: np.ndarray) -> tuple[int, ...]:
    """The slots of the context."""
    return tuple(slot for slot in range(len(item)) if slot not in positions)

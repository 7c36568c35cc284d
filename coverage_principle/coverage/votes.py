"""Which training items speak for an answer: those that become the query by swapping fragments.

At a slot set, a query splits into a fragment a and a context c. Every training item (a', c) whose
fragment agrees with a in some other context votes for its own answer (``Voters``). Where both parts
of a query can be substituted, so does (a', c') if c' agrees with c as well: one substitution at
each part of a bipartition of the slots (``joint_votes``). How often fragments agree, in how many
shared contexts, is what a vote weighs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.evidence import Agreements, Observations
from coverage_principle.coverage.pairing import within
from coverage_principle.data.space import encode_rows, opens, sizes_at
from coverage_principle.reprs import one_line

#: Cells of (fragment, context) of which tables may be held, to look training items up in.
MOST_CELLS = 1 << 26


@dataclass(frozen=True)
class Pairs:
    """Queries' fragments beside others that agree with them: ``(m,)`` arrays.

    ``query`` numbers the queries, ``other`` is a fragment; ``agreeing`` and ``shared`` count the
    contexts of the two. ``item`` is the training item with the other fragment in the query's
    context, -1 if there is none.
    """

    query: np.ndarray
    other: np.ndarray
    agreeing: np.ndarray
    shared: np.ndarray
    item: np.ndarray

    __repr__ = one_line

    def only(self, kept: np.ndarray) -> Pairs:
        columns = self.query, self.other, self.agreeing, self.shared, self.item
        return Pairs(*(column[kept] for column in columns))


@dataclass(frozen=True)
class Queries:
    """Compositions as one slot set sees them: fragments and contexts ``(n,)``; -1: not in training.

    ``own`` ``(n,)`` are the answers of training items that are left out, None for other queries.
    """

    fragment: np.ndarray
    context: np.ndarray
    own: np.ndarray | None = None

    __repr__ = one_line


class Voters:
    """The training items ``(n, slots)``, with ``answers`` ``(n,)``, as one slot set sees them."""

    def __init__(
        self,
        observations: Observations,
        answers: np.ndarray,
        sizes: tuple[int, ...],
        most_cells: int = MOST_CELLS,
    ) -> None:
        self.observations, self.answers = observations, answers
        inside = observations.positions
        self._outside = [slot for slot in range(len(sizes)) if slot not in inside]
        self._sizes = sizes_at(sizes, inside), sizes_at(sizes, self._outside)
        self.agreements = Agreements(observations)
        every = observations.num_fragments * observations.num_contexts
        cells = observations.fragment_of.astype(np.uint32 if every < 2**32 else np.int64)
        cells *= cells.dtype.type(observations.num_contexts)
        cells += observations.context_of.astype(cells.dtype)
        self._table = None
        if every <= most_cells:
            self._table = np.full(every, -1, dtype=np.int32)
            self._table[cells] = np.arange(len(cells))
        self._order = np.argsort(cells).astype(np.int32)
        self._cells = cells[self._order]
        repeats = np.bincount(observations.fragment_of, minlength=observations.num_fragments)
        self._begins = np.concatenate([[0], np.cumsum(repeats)])

    def queries(self, inputs: np.ndarray) -> Queries:
        """``inputs`` ``(n, slots)`` as this slot set sees them."""
        seen = self.observations
        fragment = _find(seen.codes, inputs[:, list(seen.positions)], self._sizes[0])
        return Queries(
            fragment, _find(seen.context_codes, inputs[:, self._outside], self._sizes[1])
        )

    def left_out(self, items: np.ndarray) -> Queries:
        """Training items (their numbers), each to be asked for as if it were not there."""
        seen = self.observations
        return Queries(seen.fragment_of[items], seen.context_of[items], self.answers[items])

    def items(self, fragment: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Numbers of the training items with these fragments and contexts; -1: there is none."""
        cells = fragment.astype(np.int64) * self.observations.num_contexts + context
        if self._table is not None:
            return np.where(context >= 0, self._table[cells], -1)
        cells = cells.astype(self._cells.dtype)
        place = np.searchsorted(self._cells, cells)
        place[place == len(self._cells)] = 0
        found = (self._cells[place] == cells) & (context >= 0)
        return np.where(found, self._order[place], -1)

    def pairs(self, queries: Queries, *, in_context: bool) -> Iterator[Pairs]:
        """Other fragments that agree with the queries' own, in blocks.

        ``in_context``: only those that training items have in the query's context. What an item
        that is left out says of its own fragment is taken back: one shared context less with the
        fragments that were seen in its context, and one agreement less with those of its answer.
        """
        fragment = queries.fragment
        asked = np.flatnonzero(fragment >= 0)
        asked = asked[np.argsort(fragment[asked], kind="stable")]
        chosen, begins = np.unique(fragment[asked], return_index=True)
        ends = np.append(begins[1:], len(asked))
        for first, second, agreeing in self.agreements.of(chosen):
            # Each pair of fragments serves every query with the first of them.
            row = np.searchsorted(chosen, first)
            repeats = ends[row] - begins[row]
            pair = np.repeat(np.arange(len(first)), repeats)
            query = asked[begins[row][pair] + within(repeats)]
            item = self.items(second[pair], queries.context[query])
            if in_context:
                query, pair, item = (array[item >= 0] for array in (query, pair, item))
            begun = opens(pair)
            used, place = pair[begun], np.cumsum(begun) - 1
            shared = self.agreements.shared(first[used], second[used])[place]
            found = Pairs(query, second[pair], agreeing[pair], shared, item)
            if queries.own is not None:
                alike = (item >= 0) & (self.answers[item] == queries.own[query])
                agreeing_still = found.agreeing - alike
                found = Pairs(query, found.other, agreeing_still, shared - (item >= 0), item)
            yield found.only(found.agreeing > 0)

    def of_fragments(self, fragments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every training item of each of ``fragments``: places in ``fragments``, item numbers."""
        begins = self._begins[fragments]
        repeats = self._begins[fragments + 1] - begins
        place = np.repeat(np.arange(len(fragments)), repeats)
        return place, self._order[begins[place] + within(repeats)]


def joint_votes(
    voters: tuple[Voters, Voters],
    queries: tuple[Queries, Queries],
    posterior: tuple[Callable[[Pairs], np.ndarray], Callable[[Pairs], np.ndarray]],
    least: float,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Votes of training items that differ from a query at both parts of a bipartition.

    ``voters`` and ``queries`` are those of the two parts; ``posterior`` tells for pairs how likely
    they are equal; pairs below ``least`` are left out. Blocks ``(query, item, probability)``, the
    probability that both parts are equal.
    """
    width = voters[1].observations.num_fragments
    codes, chances = [np.empty(0, np.int64)], [np.empty(0)]
    for pairs in voters[1].pairs(queries[1], in_context=False):
        chance = posterior[1](pairs)
        codes.append((pairs.query.astype(np.int64) * width + pairs.other)[chance >= least])
        chances.append(chance[chance >= least])
    codes, chances = np.concatenate(codes), np.concatenate(chances)
    order = np.argsort(codes)
    codes, chances = codes[order], chances[order]
    if len(codes) == 0:
        return
    for pairs in voters[0].pairs(queries[0], in_context=False):
        chance = posterior[0](pairs)
        pairs, chance = pairs.only(chance >= least), chance[chance >= least]
        place, item = voters[0].of_fragments(pairs.other)
        wanted = pairs.query[place].astype(np.int64) * width
        wanted += voters[1].observations.fragment_of[item]
        found = np.searchsorted(codes, wanted)
        found[found == len(codes)] = 0
        kept = codes[found] == wanted
        place, item, found = place[kept], item[kept], found[kept]
        yield pairs.query[place], item, chance[place] * chances[found]


def _find(known: np.ndarray, values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Places of rows of values among ``known`` codes; -1: not there."""
    codes = encode_rows(values, sizes)
    found = np.searchsorted(known, codes)
    found[found == len(known)] = 0
    return np.where(known[found] == codes, found, -1) if len(known) else np.full(len(codes), -1)

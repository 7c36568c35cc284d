"""Which training items speak for an answer: those in a query's context whose fragments act alike.

At a slot set, a query splits into a fragment a and a context c. Every training item (a', c) whose
fragment agrees with a in some other context votes for its own answer, and how often a and a' agree,
in how many shared contexts, is what the vote weighs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.evidence import ContextBits, Observations, agreeing_with
from coverage_principle.data.space import encode_rows, sizes_at

#: Cells of (fragment, context) of which a table may be held, to look training items up in.
_MOST_CELLS = 1 << 26


@dataclass(frozen=True)
class Votes:
    """Votes of training items: four ``(m,)`` arrays.

    ``query`` numbers the queries, ``answer`` is a value; ``agreeing`` and ``shared`` count contexts
    of the two fragments.
    """

    query: np.ndarray
    answer: np.ndarray
    agreeing: np.ndarray
    shared: np.ndarray

    def total(self, weights: np.ndarray, queries: int, answers: int) -> np.ndarray:
        """The sum of ``weights`` ``(m,)`` for each query and answer: ``(queries, answers)``."""
        cells = self.query.astype(np.int64) * answers + self.answer
        return np.bincount(cells, weights, queries * answers).reshape(queries, answers)


class Voters:
    """The training items ``(n, slots)``, with ``answers`` ``(n,)``, as one slot set sees them."""

    def __init__(
        self, observations: Observations, answers: np.ndarray, sizes: tuple[int, ...]
    ) -> None:
        self.observations, self._answers = observations, answers
        inside = observations.positions
        self._outside = [slot for slot in range(len(sizes)) if slot not in inside]
        self._sizes = sizes_at(sizes, inside), sizes_at(sizes, self._outside)
        self._bits = ContextBits(observations)
        cells = observations.fragment_of.astype(np.int64) * observations.num_contexts
        cells += observations.context_of
        every = observations.num_fragments * observations.num_contexts
        self._table = None
        if every <= _MOST_CELLS:
            self._table = np.full(every, -1, dtype=np.int32)
            self._table[cells] = np.arange(len(cells))
        self._order = np.argsort(cells, kind="stable")
        self._cells = cells[self._order]

    def of(self, queries: np.ndarray) -> Iterator[Votes]:
        """The votes for ``queries`` ``(q, slots)``, in blocks; an item never votes for itself."""
        yield from self._votes(self._find(queries, 0), self._find(queries, 1))

    def of_left_out(self, items: np.ndarray) -> Iterator[Votes]:
        """The votes for training items (their numbers), each as if it were not there.

        What it says of its own fragment is taken back: it is one shared context less with every
        voter, and one agreement less with those of its answer.
        """
        seen = self.observations
        for votes in self._votes(seen.fragment_of[items], seen.context_of[items]):
            own = self._answers[items][votes.query] == votes.answer
            agreeing = votes.agreeing - own
            kept = agreeing > 0
            yield Votes(
                votes.query[kept], votes.answer[kept], agreeing[kept], votes.shared[kept] - 1
            )

    def _find(self, queries: np.ndarray, part: int) -> np.ndarray:
        """Numbers of the queries' fragments (``part`` 0) or contexts (1); -1: not in training."""
        seen = self.observations
        slots = (list(seen.positions), self._outside)[part]
        known = (seen.codes, seen.context_codes)[part]
        codes = encode_rows(queries[:, slots], self._sizes[part])
        found = np.searchsorted(known, codes)
        found[found == len(known)] = 0
        return np.where(known[found] == codes, found, -1) if len(known) else found - 1

    def _votes(self, fragment: np.ndarray, context: np.ndarray) -> Iterator[Votes]:
        asked = np.flatnonzero((fragment >= 0) & (context >= 0))
        asked = asked[np.argsort(fragment[asked], kind="stable")]
        chosen, begins = np.unique(fragment[asked], return_index=True)
        ends = np.append(begins[1:], len(asked))
        for first, second, agreeing in agreeing_with(self.observations, chosen):
            # Each pair of fragments serves every query with the first of them.
            row = np.searchsorted(chosen, first)
            repeats = ends[row] - begins[row]
            pair = np.repeat(np.arange(len(first)), repeats)
            within = np.arange(len(pair)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            query = asked[begins[row][pair] + within]
            item = self._item(second[pair], context[query])
            kept = (item >= 0) & (first[pair] != second[pair])
            query, pair, item = query[kept], pair[kept], item[kept]
            if len(pair):
                shared = self._shared(first, second, pair)
                yield Votes(query, self._answers[item], agreeing[pair], shared)

    def _shared(self, first: np.ndarray, second: np.ndarray, pair: np.ndarray) -> np.ndarray:
        used, place = np.unique(pair, return_inverse=True)
        return self._bits.shared(first[used], second[used])[place]

    def _item(self, fragment: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Numbers of the training items with these fragments and contexts; -1: there is none."""
        cells = fragment.astype(np.int64) * self.observations.num_contexts + context
        if self._table is not None:
            return self._table[cells]
        place = np.searchsorted(self._cells, cells)
        place[place == len(self._cells)] = 0
        return np.where(self._cells[place] == cells, self._order[place], -1)

"""Chains of substitutions that cover an item, and the smallest set of items that breaks them.

``cuts.py`` tells what they are for. A chain is a training item at its end, and the pairs of
equivalent fragments that lead there. Evidence is counted here only where a search gets to, so that
a chain can be looked for thousands of times, each time without other training items.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sparse

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.scopes import Item
from coverage_principle.errors import InputError

#: Branches of one integer program.
_NODES = 2000
#: Inputs that a search visits before it gives up.
_MOST_VISITED = 500_000

#: A slot set by number, and two fragments of it by number, the smaller first.
Pair = tuple[int, int, int]


@dataclass(frozen=True)
class Chain:
    """What leads from the item to the training item ``end``: the pairs that must hold, in order."""

    end: int
    pairs: tuple[Pair, ...]


class View:
    """One slot set: the training items by fragment and by context."""

    def __init__(self, slot_set: SlotSet) -> None:
        seen = slot_set.observations
        self.positions = seen.positions
        self.fragment_of = seen.fragment_of.tolist()
        self.context_of, self.label_of = seen.context_of.tolist(), seen.label_of.tolist()
        self.rows_of = _groups(seen.fragment_of, seen.num_fragments)
        self.rows_in = _groups(seen.context_of, seen.num_contexts)
        self.values = list(map(tuple, slot_set.equivalence.fragments().tolist()))
        self._numbers = {values: number for number, values in enumerate(self.values)}

    def fragment(self, item: Item) -> int | None:
        """The number of an input's fragment; None if the training set has it not."""
        return self._numbers.get(tuple(item[i] for i in self.positions))

    def exchanged(self, item: Item, fragment: int) -> Item:
        """The input with another fragment in its context."""
        found = list(item)
        for position, value in zip(self.positions, self.values[fragment], strict=True):
            found[position] = value
        return tuple(found)

    def equivalent(self, fragment: int, removed: Collection[int], k: int) -> list[int]:
        """The fragments that agree with one in at least ``k`` contexts and nowhere disagree."""
        rows = [row for row in self.rows_of[fragment] if row not in removed]
        agreeing: Counter[int] = Counter()
        contradicted = set()
        for row in rows if len(rows) >= k else ():
            for other in self.rows_in[self.context_of[row]]:
                if other == row or other in removed:
                    continue
                if self.label_of[other] == self.label_of[row]:
                    agreeing[self.fragment_of[other]] += 1
                else:
                    contradicted.add(self.fragment_of[other])
        return [f for f, count in agreeing.items() if count >= k and f not in contradicted]

    def shared(self, first: int, second: int) -> tuple[list[tuple], list[tuple]]:
        """The two training items in each shared context: where they agree, and where not."""
        there = {self.context_of[row]: row for row in self.rows_of[first]}
        agreeing, contradicting = [], []
        for row in self.rows_of[second]:
            other = there.get(self.context_of[row])
            if other is not None:
                same = self.label_of[row] == self.label_of[other]
                (agreeing if same else contradicting).append((other, row))
        return agreeing, contradicting


def _groups(of: np.ndarray, count: int) -> list[list[int]]:
    """The places of each number below ``count``."""
    order = np.argsort(of, kind="stable")
    bounds = np.cumsum(np.bincount(of, minlength=count))[:-1]
    return [part.tolist() for part in np.split(order, bounds)]


class _Class:
    """The fragments in the class of one, the nearest first, found as far as they are asked for.

    ``before`` has for each the one before it on the way there, and itself for the first.
    """

    def __init__(self, own: int, equivalent: Callable[[int], list[int]]) -> None:
        self.before, self._members, self._begun = {own: own}, [own], 0
        self._equivalent = equivalent

    def __iter__(self) -> Iterator[int]:
        given = 0
        while True:
            if given < len(self._members):
                yield self._members[given]
                given += 1
            elif self._begun < len(self._members):
                here = self._members[self._begun]
                self._begun += 1
                for fragment in self._equivalent(here):
                    if fragment not in self.before:
                        self.before[fragment] = here
                        self._members.append(fragment)
            else:
                return


class ChainSearch:
    """Chains of substitutions from one item, without some of the training items."""

    def __init__(self, coverage: Coverage, item: Item) -> None:
        train, scope = coverage.dataset.train, coverage.scope
        self.item, self._k = item, coverage.settings.min_evidence
        self.views = [View(slot_set) for slot_set in coverage.slot_sets]
        self._everywhere = scope.holds_domain
        joinable, self._tested = np.arange(len(train)), set()
        if scope.equal_answers:
            answer = scope.answer(item)
            joinable = np.flatnonzero(train.answers == answer)
            inputs, answers = (part[scope.test_nodes] for part in scope.items())
            self._tested = set(map(tuple, inputs[answers == answer].tolist()))
        inputs = map(tuple, train.inputs[joinable].tolist())
        self._row_of = dict(zip(inputs, joinable.tolist(), strict=True))

    def joined(self) -> list[int]:
        """The numbers of the slot sets at which the item can be exchanged for another node."""
        return [n for n in range(len(self.views)) if next(self._next(self.item, n, (), {}), None)]

    def chain(self, removed: Collection[int]) -> Chain | None:
        """A chain with the fewest substitutions; None if the item is not covered."""
        came: dict[Item, tuple[Item, int, int] | None] = {self.item: None}
        classes: dict[tuple[int, int], _Class] = {}
        queue = deque([self.item])
        while queue:
            here = queue.popleft()
            for number in range(len(self.views)):
                for there, fragment in self._next(here, number, removed, classes):
                    if there in came:
                        continue
                    came[there] = here, number, fragment
                    row = self._row_of.get(there)
                    if row is not None and row not in removed:
                        return self._unwound(there, row, came, classes)
                    queue.append(there)
            if len(came) > _MOST_VISITED:
                raise InputError(
                    f"`cut`: more than {_MOST_VISITED:,} inputs can be reached from the item; try "
                    "`scope` dataset, or a larger `min_evidence`"
                )
        return None

    def complete(
        self, chosen: Collection[int], most: int | None, *, weaken: bool
    ) -> tuple[list[Chain], set[int] | None]:
        """Chains that are left without ``chosen``, each broken before the next is looked for.

        Broken by removing its end or, with ``weaken``, an item of the item's own fragment that the
        first pair rests on. Also the cut that this leads to; None if it would have more than
        ``most`` items.
        """
        removed, chains = set(chosen), []
        while (chain := self.chain(removed)) is not None:
            chains.append(chain)
            row = chain.end
            if weaken:
                number, *ends = chain.pairs[0]
                agreeing, _ = self.views[number].shared(*ends)
                side = ends.index(self.views[number].fragment(self.item))
                row = next(pair[side] for pair in agreeing if removed.isdisjoint(pair))
            if len(removed) == most:
                return chains, None
            removed.add(row)
        return chains, removed

    def reduced(self, cut: Collection[int]) -> set[int]:
        """A part of a cut that is a cut and of which no single item can be left out."""
        kept, before = set(cut), None
        while kept != before:  # what was needed need not be once contradictions are back
            before = set(kept)
            for row in sorted(before):
                if self.chain(kept - {row}) is None:
                    kept.discard(row)
        return kept

    def _next(
        self, here: Item, number: int, removed: Collection[int], classes: dict
    ) -> Iterable[tuple[Item, int]]:
        """The nodes one substitution away at a slot set, with their fragments."""
        view = self.views[number]
        own = view.fragment(here)
        if own is None:
            return
        if (number, own) not in classes:
            equivalent = partial(view.equivalent, removed=removed, k=self._k)
            classes[number, own] = _Class(own, equivalent)
        for fragment in classes[number, own]:
            there = view.exchanged(here, fragment)
            row = self._row_of.get(there)
            trained = row is not None and row not in removed
            if there != here and (self._everywhere or trained or there in self._tested):
                yield there, fragment

    def _unwound(self, last: Item, row: int, came: dict, classes: dict) -> Chain:
        pairs: list[Pair] = []
        while came[last] is not None:
            last, number, fragment = came[last]
            before = classes[number, self.views[number].fragment(last)].before
            while before[fragment] != fragment:
                ends = sorted((fragment, before[fragment]))
                pairs.append((number, *ends))
                fragment = before[fragment]
        return Chain(row, tuple(pairs[::-1]))


class ChainBreaker:
    """The smallest set of training items that breaks every chain that was added.

    With y(i) = 1 for an item that is removed and b(p) = 1 for a pair that does not hold, a chain
    asks that y(end) + sum of b over its pairs >= 1. A pair agrees in s contexts, in each of which
    it rests on two items u and v, and contradicts itself in others. It does not hold if at least
    s - k + 1 of the agreeing contexts are gone, w(c) <= y(u) + y(v), or one contradiction is left,
    z(c) <= 1 - y(u) and z(c) <= 1 - y(v):

        sum of w(c) + (s - k + 1) * sum of z(c) >= (s - k + 1) * b(p)

    Any cut gives values to the variables that fulfil this. So the optimum is a lower bound.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._numbers: dict[tuple, int] = {}
        self._rows: list[dict[int, float]] = []  # each: sum of coefficient * variable >= least
        self._least: list[float] = []

    def add(self, chain: Chain, views: Sequence[View]) -> None:
        """Ask that a chain be broken."""
        broken = {self._item(chain.end): 1.0}
        for pair in dict.fromkeys(chain.pairs):
            if ("pair", pair) not in self._numbers:
                self._add_pair(pair, views[pair[0]])
            broken[self._numbers["pair", pair]] = 1.0
        self._require(broken, 1)

    def _add_pair(self, pair: Pair, view: View) -> None:
        agreeing, contradicting = view.shared(*pair[1:])
        needed = len(agreeing) - self._k + 1
        fewer = {self._number("pair", pair): -float(needed)}
        for place, items in enumerate(agreeing):
            gone = self._number("gone", (pair, place))
            fewer[gone] = 1.0
            self._require({gone: -1.0, **{self._item(row): 1.0 for row in items}}, 0)
        for place, items in enumerate(contradicting):
            left = self._number("left", (pair, place))
            fewer[left] = float(needed)
            for row in items:
                self._require({left: -1.0, self._item(row): -1.0}, -1)
        self._require(fewer, 0)

    def _item(self, row: int) -> int:
        return self._number("item", row)

    def _number(self, kind: str, what: object) -> int:
        return self._numbers.setdefault((kind, what), len(self._numbers))

    def _require(self, coefficients: dict[int, float], least: float) -> None:
        self._rows.append(coefficients)
        self._least.append(least)

    def solve(self) -> tuple[set[int] | None, int]:
        """A smallest set of items, and a lower bound of its size.

        The set is None if it was not found within the limits.
        """
        if not self._rows:
            return set(), 0
        from scipy.optimize import Bounds, LinearConstraint, milp

        kinds = np.array([kind for kind, _ in self._numbers])
        place, column, value = zip(
            *((i, n, c) for i, row in enumerate(self._rows) for n, c in row.items()), strict=True
        )
        shape = (len(self._rows), len(kinds))
        matrix = sparse.csr_array((value, (place, column)), shape=shape)
        found = milp(
            (kinds == "item").astype(float),
            integrality=np.isin(kinds, ("item", "pair")).astype(int),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(matrix, lb=np.array(self._least)),
            options={"node_limit": _NODES, "mip_rel_gap": 0.0},
        )
        dual = found.mip_dual_bound
        bound = 0 if dual is None or not math.isfinite(dual) else math.ceil(dual - 1e-6)
        if found.x is None or found.status != 0:
            return None, bound
        return {
            what
            for (kind, what), value in zip(self._numbers, found.x, strict=True)
            if kind == "item" and value > 0.5
        }, bound

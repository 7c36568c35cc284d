"""Cuts: training items whose removal uncovers an item, and as many others as a control.

Without the items of a cut, the item is no longer covered at k. What covers an item is a *chain*: a
training item at its end, and pairs of fragments, each of which the training set shows to be
equivalent. A chain is broken if its end is removed, or if one of its pairs no longer holds: fewer
than k of the contexts in which the two agree are left. Removal can also *make* chains: once the
items are gone in which two fragments contradict each other, these may be equivalent.

The search for a smallest cut S goes back and forth between two parts.

1. Given S, find chains that are left. Evidence is counted anew, only where it is needed: from the
   item outwards, fragment by fragment (``_Search``).
2. Given all chains found so far, find a smallest S that breaks them: an integer program
   (``_Program``), solved by HiGHS through scipy.

Every condition of the program holds for every cut, so its optimum is at most the size of the
smallest cut, whatever chains are still to be found. When a solution leaves no chain, it is a
smallest cut. Each S of part 2 is also completed to a cut greedily, so that there is one however
early the search has to end; the bound then says by how much it may be too large. What is proven is
about the given scope and k alone, and about sets of items, not about any model.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.sparse as sparse

from coverage_principle.coverage.dataset import Coverage, SlotSet, dataset_coverage
from coverage_principle.coverage.explanation import item_node
from coverage_principle.coverage.scopes import EVERY_K, Item
from coverage_principle.data import Dataset
from coverage_principle.errors import InputError

#: Programs that are solved at most, and branches of each.
_ROUNDS, _NODES = 60, 2000
#: Inputs that a search visits before it gives up.
_MOST_VISITED = 500_000
#: Items that are tried in the place of one item of a cut.
_TRIES = 200

#: A slot set by number, and two fragments of it by number, the smaller first.
Pair = tuple[int, int, int]


@dataclass(frozen=True)
class Cut:
    """Training items without which ``item`` is not covered at ``k``.

    ``rows`` are their places among the training compositions, ascending. No cut at all has fewer
    than ``lower_bound`` items. ``joined`` are the slot sets at which the item can be exchanged for
    another node while nothing is removed.
    """

    item: Item
    k: int
    rows: tuple[int, ...]
    lower_bound: int
    joined: tuple[SlotSet, ...]

    @property
    def smallest(self) -> bool:
        """Whether it is proven that no cut has fewer items."""
        return len(self.rows) == self.lower_bound


@dataclass(frozen=True)
class Control:
    """As many training items as cuts have, without which the items stay covered.

    ``rows`` as for ``Cut``. ``matched`` counts those that hold the same fragment as the item of a
    cut that they stand for, at a slot set by which the cut's item is joined.
    """

    rows: tuple[int, ...]
    matched: int


def find_cut(coverage: Coverage, item: Sequence[int]) -> Cut:
    """A small cut of ``item`` (values of its slots) at ``coverage.settings.min_evidence``.

    The same call gives the same cut. ``InputError`` if the item is no node of the scope, is a
    training item, is not covered, or if too many inputs would have to be visited.
    """
    item, k = tuple(map(int, item)), coverage.settings.min_evidence
    cutoff = int(coverage.node_cutoffs[item_node(coverage, item, "cut")])
    text = coverage.dataset.text(item)
    if cutoff == EVERY_K:
        raise InputError(f"`cut` {text}: it is a training item, covered whatever else is removed")
    if cutoff < k:
        raise InputError(f"`cut` {text}: it is not covered at `min_evidence` {k}, nothing to cut")
    search, program = _Search(coverage, item), _Program(k)
    joined = tuple(coverage.slot_sets[number] for number in search.joined())
    best, bound = None, 0
    for _ in range(_ROUNDS):
        chosen, least = program.solve()
        bound = max(bound, least)
        if chosen is None:
            break
        if search.chain(chosen) is None:
            best = chosen
            break
        for weaken in (True, False):
            most = None if best is None else len(best)
            chains, whole = search.complete(chosen, most, weaken=weaken)
            for chain in chains:
                program.add(chain, search.views)
            if whole is not None:
                best = _smaller(best, search.reduced(whole))
        if bound >= len(best):
            break
    rows = tuple(sorted(best))
    if covered_without(coverage, rows, [item])[0]:
        raise AssertionError(f"the cut of {text} does not uncover it")
    return Cut(item, k, rows, min(bound, len(rows)), joined)


def _smaller(best: set[int] | None, other: set[int]) -> set[int]:
    return other if best is None or len(other) < len(best) else best


def without(dataset: Dataset, rows: Collection[int]) -> Dataset:
    """The data set without some of its training compositions (places among them)."""
    kept = np.setdiff1d(np.arange(len(dataset.train)), np.array(sorted(rows), dtype=np.int64))
    train = dataset.train
    arrays = {
        name: getattr(train, name)[kept]
        for name in ("inputs", "targets", "answers", "types", "numbers")
    }
    records = [train.records[row] for row in kept]
    return replace(dataset, train=replace(train, **arrays, records=records))


def covered_without(coverage: Coverage, rows: Collection[int], items: Iterable[Item]) -> list[bool]:
    """Whether each of ``items`` is covered without some training items, by all of coverage anew."""
    settings = coverage.settings
    anew = dataset_coverage(without(coverage.dataset, rows), settings)
    nodes = [anew.scope.node(item) for item in items]
    return (anew.node_cutoffs[nodes] >= settings.min_evidence).tolist()


def matched_control(coverage: Coverage, cuts: Sequence[Cut], seed: int) -> Control:
    """Random training items to remove in the place of those of ``cuts``, for comparison.

    For each item of a cut, one that holds the same fragment at a slot set by which the cut's item
    is joined; failing that, one that is equal to it in as many slots as possible. Uniform among
    those without which all the cuts' items stay covered. An item that several cuts remove is
    replaced once. ``InputError`` if so many cannot be removed without uncovering an item.
    """
    rng, removed, matched = np.random.default_rng(seed), set(), 0
    replaced = {row: cut for cut in cuts for row in cut.rows}
    searches = [_Search(coverage, cut.item) for cut in cuts]

    def stays(row: int) -> bool:
        return all(search.chain(removed | {row}) is not None for search in searches)

    for row, cut in replaced.items():
        for level, candidates in enumerate(_alike(coverage, cut, row)):
            free = [other for other in candidates if other not in removed | replaced.keys()]
            order = rng.permutation(len(free))[:_TRIES].tolist()
            found = next((free[i] for i in order if stays(free[i])), None)
            if found is not None:
                removed.add(found)
                matched += level == 0
                break
        else:
            raise InputError(
                f"there are no {len(replaced):,} other training items that can be removed and "
                "leave the item covered: no control; omit `cut_file`"
            )
    rows = tuple(sorted(removed))
    if not all(covered_without(coverage, rows, [cut.item for cut in cuts])):
        raise AssertionError("the control uncovers an item")
    return Control(rows, matched)


def _alike(coverage: Coverage, cut: Cut, row: int) -> Iterator[list[int]]:
    """Training items like ``row``: those of a fragment that matters, then by equal slots."""
    fragments = (slot_set.observations.fragment_of for slot_set in cut.joined)
    yield np.flatnonzero(np.any([of == of[row] for of in fragments], axis=0)).tolist()
    inputs = coverage.dataset.train.inputs
    equal = (inputs == inputs[row]).sum(axis=1)
    for count in range(inputs.shape[1] - 1, -1, -1):
        yield np.flatnonzero(equal == count).tolist()


@dataclass(frozen=True)
class _Chain:
    """What leads from the item to the training item ``end``: the pairs that must hold, in order."""

    end: int
    pairs: tuple[Pair, ...]


class _View:
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


class _Search:
    """Chains of substitutions from one item, without some of the training items."""

    def __init__(self, coverage: Coverage, item: Item) -> None:
        train, scope = coverage.dataset.train, coverage.scope
        self.item, self._k = item, coverage.settings.min_evidence
        self.views = [_View(slot_set) for slot_set in coverage.slot_sets]
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

    def chain(self, removed: Collection[int]) -> _Chain | None:
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
    ) -> tuple[list[_Chain], set[int] | None]:
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
        kept = set(cut)
        for row in sorted(cut):
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

    def _unwound(self, last: Item, row: int, came: dict, classes: dict) -> _Chain:
        pairs: list[Pair] = []
        while came[last] is not None:
            last, number, fragment = came[last]
            before = classes[number, self.views[number].fragment(last)].before
            while before[fragment] != fragment:
                ends = sorted((fragment, before[fragment]))
                pairs.append((number, *ends))
                fragment = before[fragment]
        return _Chain(row, tuple(pairs[::-1]))


class _Program:
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

    def add(self, chain: _Chain, views: Sequence[_View]) -> None:
        """Ask that a chain be broken."""
        broken = {self._item(chain.end): 1.0}
        for pair in dict.fromkeys(chain.pairs):
            if ("pair", pair) not in self._numbers:
                self._add_pair(pair, views[pair[0]])
            broken[self._numbers["pair", pair]] = 1.0
        self._require(broken, 1)

    def _add_pair(self, pair: Pair, view: _View) -> None:
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


def cut_lines(coverage: Coverage, cut: Cut) -> list[str]:
    """The cut in sentences, for a terminal."""
    dataset = coverage.dataset
    text, size = dataset.text(cut.item), len(cut.rows)
    count = f"{size:,} training item" + ("" if size == 1 else "s")
    least = "no smaller set does" if cut.smallest else f"at least {cut.lower_bound:,} are needed"
    lines = [f"{text} is not covered at k = {cut.k} without {count}; {least}:", ""]
    for row in cut.rows:
        given, answer = dataset.train.inputs[row], dataset.train.answers[row : row + 1]
        answer = dataset.text(answer, [dataset.graph.answer])
        lines.append(f"  {dataset.text(given)} -> {answer}: {_role(coverage, cut, row)}")
    return lines


def _role(coverage: Coverage, cut: Cut, row: int) -> str:
    """What an item of a cut is to the cut's item."""
    dataset, names = coverage.dataset, coverage.dataset.graph.inputs
    given = dataset.train.inputs[row].tolist()
    roles = []
    for slot_set in cut.joined:
        inside = slot_set.equivalence.positions
        rest = [i for i in range(len(names)) if i not in inside]
        if all(given[i] == cut.item[i] for i in rest):
            roles.append(f"one substitution away, at ({', '.join(slot_set.slots)})")
        elif all(given[i] == cut.item[i] for i in inside):
            short = dataset.short([given[i] for i in rest], [names[i] for i in rest])
            where = " ".join(f"{names[i]}={v}" for i, v in zip(rest, short, strict=True))
            roles.append(f"evidence of its ({', '.join(slot_set.slots)}), at {where}")
    return "; ".join(roles) or "evidence of a fragment, or an end, further along"

"""Cuts: training items whose removal uncovers an item, and as many others as a control.

Without the items of a cut, the item is no longer covered at k. What covers an item is a *chain*: a
training item at its end, and pairs of fragments, each of which the training set shows to be
equivalent. A chain is broken if its end is removed, or if one of its pairs no longer holds: fewer
than k of the contexts in which the two agree are left. Removal can also *make* chains: once the
items are gone in which two fragments contradict each other, these may be equivalent.

The search for a smallest cut S goes back and forth between two parts.

1. Given S, find chains that are left. Evidence is counted anew, only where it is needed: from the
   item outwards, fragment by fragment (``ChainSearch``).
2. Given all chains found so far, find a smallest S that breaks them: an integer program
   (``ChainBreaker``), solved by HiGHS through scipy.

Every condition of the program holds for every cut, so its optimum is at most the size of the
smallest cut, whatever chains are still to be found. When a solution leaves no chain, it is a
smallest cut. Each S of part 2 is also completed to a cut greedily, so that there is one however
early the search has to end; the bound then says by how much it may be too large. What is proven is
about the given scope and k alone, and about sets of items, not about any model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from coverage_principle.coverage.chains import ChainBreaker, ChainSearch
from coverage_principle.coverage.dataset import Coverage, SlotSet, dataset_coverage
from coverage_principle.coverage.explanation import item_node
from coverage_principle.coverage.scopes import EVERY_K, Item
from coverage_principle.data import Dataset, records_at
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.words import counted

#: Programs that are solved at most.
_ROUNDS = 60
#: Items that are tried in the place of one item of a cut.
_TRIES = 200


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

    __repr__ = one_line

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
    search, program = ChainSearch(coverage, item), ChainBreaker(k)
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
        raise RuntimeError(f"the cut of {text} does not uncover it")
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
    records = records_at(train.records, kept)
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
    searches = [ChainSearch(coverage, cut.item) for cut in cuts]

    def stays(row: int) -> bool:
        return all(search.chain(removed | {row}) is not None for search in searches)

    for row, cut in replaced.items():
        taken = removed | replaced.keys()
        for level, candidates in enumerate(_alike(coverage, cut, row)):
            free = [other for other in candidates if other not in taken]
            order = rng.permutation(len(free))[:_TRIES].tolist()
            found = next((free[i] for i in order if stays(free[i])), None)
            if found is not None:
                removed.add(found)
                matched += level == 0
                break
        else:
            raise InputError(
                f"too few other training items (of {len(replaced):,} needed) can be removed and "
                "leave the item covered: there is no control; omit `cut_file`"
            )
    rows = tuple(sorted(removed))
    if not all(covered_without(coverage, rows, [cut.item for cut in cuts])):
        raise RuntimeError("the control uncovers an item")
    return Control(rows, matched)


def _alike(coverage: Coverage, cut: Cut, row: int) -> Iterator[list[int]]:
    """Training items like ``row``: those of a fragment that matters, then by equal slots."""
    fragments = (slot_set.observations.fragment_of for slot_set in cut.joined)
    yield np.flatnonzero(np.any([of == of[row] for of in fragments], axis=0)).tolist()
    inputs = coverage.dataset.train.inputs
    equal = (inputs == inputs[row]).sum(axis=1)
    for count in range(inputs.shape[1] - 1, -1, -1):
        yield np.flatnonzero(equal == count).tolist()


def cut_lines(coverage: Coverage, cut: Cut) -> list[str]:
    """The cut in sentences, for a terminal."""
    dataset = coverage.dataset
    text, size = dataset.text(cut.item), len(cut.rows)
    count = counted(size, "training item")
    least = "removing fewer is not enough"
    if not cut.smallest:
        least = f"at least {cut.lower_bound:,} must be removed"
    lines = [f"{text} is not covered at k = {cut.k} without {count} ({least}):", ""]
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
    return "; ".join(roles) or "evidence of a fragment, or the training item, further along a path"

"""Which further training items raise coverage most.

Coverage is counted as in ``counting.py``: in ground-truth mode, for the fragment of one
intermediate value, over all in-domain items. New items are chosen among the in-domain ones, so the
domain stays as it is, and items with different true values never meet: the search splits into one
group a value, each a 0/1 matrix of fragments and contexts.

The choice is a heuristic; nothing is guaranteed of it. It takes the best of two kinds of moves,
again and again, by newly covered items for each item added:

* fill: one item of a class in a context that the class has not been seen in. This covers every
  in-domain member of the class there. For fixed classes these gains are exact and independent.
* merge: the items that two fragments of different classes still lack to share k contexts. Both
  classes then have the contexts of both. As an item may help several merges at once, contexts that
  many other fragments have are preferred.

In a tree, fragments of one value never contradict each other, so a gain is at least what it is
counted as. Where slots are read twice they may; only pairs and contexts that agree are then merged,
but an item may still part fragments of the same class. Merging makes the objective supermodular in
places (the k-th shared context counts, those before it do not), which is why the usual guarantee of
greedy choice does not hold.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage.counting import fragment_of_value
from coverage_principle.coverage.linking import components
from coverage_principle.data import CompositionSpace, Dataset, evaluate
from coverage_principle.data.space import decode_rows, encode_rows, is_member, sizes_at
from coverage_principle.data.tables import node_sizes, seen_calls
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TRAIN_INFERRED, TaskGraph
from simpletransformers.words import counted

#: In-domain items, and cells of all matrices together, that are held at once.
_MOST = 1 << 27


@dataclass(frozen=True)
class Selection:
    """Items to add to a training set, in the order in which they were chosen.

    ``items`` is ``(m, slots)`` int32. ``in_domain`` counts the in-domain items that were unseen
    before. ``covered`` ``(m + 1,)`` is how many of those are covered (or added) after 0, 1, ... m
    items; the items of a merge count when its last one is there.
    """

    items: np.ndarray
    in_domain: int
    covered: np.ndarray

    __repr__ = one_line


def suggest(
    dataset: Dataset,
    amount: int,
    *,
    k: int,
    value: str | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> Selection:
    """Up to ``amount`` items that raise the data set's coverage at ``k``; fewer if fewer suffice.

    ``InputError`` if there are no tables, or they lack facts.
    """
    dataset.graph.require_bridges("`suggest` chooses items by true")
    if dataset.noisy:
        raise InputError(
            f"`suggest` counts by true answers, but {dataset.name} has wrong ones at "
            f"{counted(len(dataset.noisy), 'training item')} (label noise)"
        )
    tables = dataset.tables()
    if not dataset.lists_all_facts:
        raise InputError(
            f"`suggest` needs every fact of {dataset.name}, but its atomic_facts files list only "
            "some; generate it with --atomic_facts full"
        )
    return select(
        dataset.graph,
        tables,
        dataset.train.inputs,
        amount,
        k,
        value=value,
        progress=lambda share: progress(share, "choosing items"),
    )


def count_tested(dataset: Dataset, items: np.ndarray) -> int:
    """How many of ``items`` ``(n, slots)`` are unseen test items of the data set."""
    test = dataset.test
    tested = set(map(tuple, test.inputs[test.types != TRAIN_INFERRED].tolist()))
    return len(tested.intersection(map(tuple, items.tolist())))


def select(
    graph: TaskGraph,
    tables: Sequence[np.ndarray],
    train: np.ndarray,
    amount: int,
    k: int,
    *,
    value: str | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Selection:
    """Choose up to ``amount`` items; ``train`` is ``(n, slots)``, ``value`` as for required data.

    ``InputError`` if there are too many in-domain items to be held.
    """
    groups, size = _groups(graph, tables, train, k, value)
    by_node = node_sizes(graph, tables)
    sizes = [by_node[slot] for slot in graph.inputs]
    count = sum(group.covered() - int(group.trained.sum()) for group in groups)
    items, covered = [np.empty((0, len(graph.inputs)), dtype=np.int32)], [count]
    # Groups do not touch each other, so only the one that was changed needs a new best move.
    queue: list[tuple[float, int, _Move]] = []

    def offer(number: int, left: int) -> None:
        move = groups[number].best_move(left)
        if move is not None:
            heapq.heappush(queue, (-move.gain / move.cost, number, move))

    for number in range(len(groups)):
        offer(number, amount)
    left = amount
    while queue and left:
        _, number, move = heapq.heappop(queue)
        if move.cost <= left:
            before = groups[number].covered()
            codes = groups[number].apply(move)
            items.append(decode_rows(codes, sizes, len(graph.inputs)))
            left -= move.cost
            count += groups[number].covered() - before
            covered += [covered[-1]] * (move.cost - 1) + [count]
            progress(1 - left / amount)
        offer(number, left)
    return Selection(
        np.concatenate(items, dtype=np.int32, casting="same_kind"),
        size - len(train),
        np.array(covered),
    )


@dataclass(frozen=True, order=True)
class _Move:
    """Cells ``(fragment, context)`` of a group to add, and how many items that covers."""

    gain: int
    cells: tuple[tuple[int, int], ...]

    @property
    def cost(self) -> int:
        return len(self.cells)


class _Group:
    """The in-domain items of one true value: fragments x contexts.

    ``codes`` holds each cell's input (``encode_rows``; -1: not in the domain), ``answers`` what it
    gives, ``trained`` marks the training items.
    """

    def __init__(
        self,
        codes: np.ndarray,
        answers: np.ndarray,
        trained: np.ndarray,
        k: int,
    ) -> None:
        self.codes, self.trained, self._k = codes, trained, k
        self.allowed = codes >= 0
        # A column for each answer of a context: fragments agree where they meet in a column.
        contexts = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
        pairs = np.stack([contexts, answers], axis=-1).reshape(-1, 2)
        _, columns = np.unique(pairs, axis=0, return_inverse=True)
        self._columns = columns.reshape(codes.shape)
        self._width = int(columns.max()) + 1
        self._weigh()

    def _by_answer(self, marks: np.ndarray) -> np.ndarray:
        """Marks of cells, ``(fragments, contexts)``, as ``(fragments, contexts and answers)``."""
        spread = np.zeros((len(marks), self._width), dtype=np.float32)
        np.put_along_axis(spread, self._columns, marks.astype(np.float32), axis=1)
        return spread

    def _weigh(self) -> None:
        """Count shared contexts of all pairs; -1 for those that contradict each other."""
        rows, trained = self._by_answer(self.trained), self.trained.astype(np.float32)
        agreeing = rows @ rows.T
        self._evidence = np.where(trained @ trained.T == agreeing, agreeing, -1).astype(np.int32)

    def _classes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class of each fragment; contexts each class reaches; its in-domain members by context."""
        classes = components(len(self.codes), *np.nonzero(self._evidence >= self._k))
        of_class = np.zeros((int(classes.max()) + 1, len(classes)), dtype=np.float32)
        of_class[classes, np.arange(len(classes))] = 1
        reached = of_class @ self.trained > 0
        return classes, reached, of_class @ self.allowed

    def covered(self) -> int:
        """In-domain items in a (class, context) that training items reach, themselves included."""
        _, reached, members = self._classes()
        return int(members[reached].sum())

    def best_move(self, most: int) -> _Move | None:
        """The move with the largest gain for each item, of those that need at most ``most``.

        Two fragments, a and b, in four contexts; both are trained in context 0, a in 1 and b in 2.
        At k = 2 they lack one more shared context. Any fill covers its own item alone, but with
        (b, 1) added the two are one class, which covers (a, 2) as well: 2 items for one.

        >>> trained = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
        >>> codes, answers = np.arange(8).reshape(2, 4), np.tile(np.arange(4), (2, 1))
        >>> group = _Group(codes, answers, trained, 2)
        >>> group.covered(), group.best_move(most=9)
        (4, _Move(gain=2, cells=((1, 1),)))

        Now one item of the joint class fills context 3 for both:

        >>> _ = group.apply(group.best_move(most=9))
        >>> group.covered(), group.best_move(most=9)
        (6, _Move(gain=2, cells=((0, 3),)))
        """
        if most < 1:
            return None
        classes, reached, members = self._classes()
        moves = [self._best_fill(classes, reached, members)]
        if len(reached) > 1:
            moves.append(self._best_merge(classes, reached, members, most))
        return max(
            (move for move in moves if move is not None),
            # Of equal ones a merge, as it makes later fills worth more.
            key=lambda move: (move.gain / move.cost, move.cost),
            default=None,
        )

    def _best_fill(self, classes, reached, members) -> _Move | None:
        gains = np.where(reached, 0, members)
        number, context = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[number, context] < 1:
            return None  # every in-domain item is covered
        fragment = int(np.flatnonzero((classes == number) & self.allowed[:, context])[0])
        return _Move(int(gains[number, context]), ((fragment, int(context)),))

    def _best_merge(self, classes, reached, members, most: int) -> _Move | None:
        # Gain of joining classes A and B: A's members in contexts that only B has, and vice versa.
        missing = np.where(reached, 0, members)
        gain = missing @ reached.T
        gain = gain + gain.T
        # Items that two fragments lack: one where only one of them has been seen in a context, two
        # where neither has.
        lacks = self._by_answer(self.allowed & ~self.trained)
        singles = self._by_answer(self.trained) @ lacks.T
        singles = singles + singles.T
        need = self._k - self._evidence
        cost = need + np.maximum(need - singles, 0)
        never = (need > singles + lacks @ lacks.T) | (self._evidence < 0) | (cost > most)
        cost[never | (classes[:, None] == classes[None, :])] = np.inf
        ratio = gain[classes[:, None], classes[None, :]] / np.maximum(cost, 1)
        first, second = np.unravel_index(int(ratio.argmax()), ratio.shape)
        if not np.isfinite(cost[first, second]) or ratio[first, second] <= 0:
            return None
        cells = self._lacking(int(first), int(second), int(need[first, second]))
        return _Move(int(gain[classes[first], classes[second]]), cells)

    def _lacking(self, first: int, second: int, need: int) -> tuple[tuple[int, int], ...]:
        """Cells that make two fragments share ``need`` more contexts, the popular ones first."""
        has, free = self.trained, self.allowed & ~self.trained
        popular = has.sum(axis=0)
        free = free & (self._columns[first] == self._columns[second])  # where the two agree
        one = (has[first] & free[second]) | (free[first] & has[second])
        both = free[first] & free[second]
        cells: list[tuple[int, int]] = []
        for candidates in (one, both):
            contexts = np.flatnonzero(candidates)
            contexts = contexts[np.argsort(-popular[contexts], kind="stable")][:need]
            need -= len(contexts)
            cells += [(f, int(c)) for c in contexts for f in (first, second) if free[f, c]]
        return tuple(cells)

    def apply(self, move: _Move) -> np.ndarray:
        """Add the move's items to the training set; returns their codes."""
        cells = tuple(np.array(axis) for axis in zip(*move.cells, strict=True))
        self.trained[cells] = True
        self._weigh()
        return self.codes[cells]


def _groups(
    graph: TaskGraph, tables: Sequence[np.ndarray], train: np.ndarray, k: int, value: str | None
) -> tuple[list[_Group], int]:
    """A group for each true value, and the number of in-domain items."""
    positions, value = fragment_of_value(graph, value)
    space = CompositionSpace(graph, tables, seen_calls(graph, tables, train))
    if space.size > _MOST:
        raise InputError(
            f"`suggest` looks at every in-domain item, but there are {space.size:,} and {_MOST:,} "
            "is the limit"
        )
    sizes = [space.sizes[slot] for slot in graph.inputs]
    rest = [slot for slot in range(len(graph.inputs)) if slot not in positions]
    inputs = np.concatenate(list(space.batches()))
    values = evaluate(graph, tables, inputs)
    true, answers = values[value], values[graph.answer]
    # A fragment that no training item has is in no class: nothing covers it but itself.
    inside = sizes_at(sizes, positions)
    fragments = encode_rows(inputs[:, list(positions)], inside)
    known = is_member(fragments, np.unique(encode_rows(train[:, list(positions)], inside)))
    inputs, true, answers, fragments = (
        array[known] for array in (inputs, true, answers, fragments)
    )
    codes = encode_rows(inputs, sizes)
    trained = is_member(codes, np.sort(encode_rows(train, sizes)))
    contexts = encode_rows(inputs[:, rest], sizes_at(sizes, rest))

    groups = []
    order = np.argsort(true, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(true[order])) + 1):
        found, row = np.unique(fragments[rows], return_inverse=True)
        seen_in, column = np.unique(contexts[rows], return_inverse=True)
        grids = []
        for of_input, elsewhere in ((codes, -1), (answers, -1), (trained, False)):
            grid = np.full((len(found), len(seen_in)), elsewhere, dtype=of_input.dtype)
            grid[row, column] = of_input[rows]
            grids.append(grid)
        groups.append(_Group(*grids, k))
    return groups, space.size

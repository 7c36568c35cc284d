"""The scopes of coverage: what the nodes of the substitution graph are, and what joins them.

``dataset``, as published: the nodes are the training items and the ``type_0`` test items; answers
of test items take part, as an edge needs equal answers. Items of the other types hold a call that
no training item makes and are not nodes. ``domain``, the formal definition: every input is a node
and no answer is used, so test items of all types have a k-cutoff.

A scope is a class: a further one is a subclass of ``Scope`` in ``SCOPES``, and a choice of the
setting ``scope``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np

from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.linking import cliques, components, stars
from coverage_principle.coverage.whole_domain import WholeDomain
from coverage_principle.data import Dataset, evaluate
from coverage_principle.data.space import (
    MOST_CODES,
    Places,
    distinct,
    encode_rows,
    sizes_at,
    strides,
    tokens_in_slots,
)
from coverage_principle.errors import InputError
from coverage_principle.tasks import TRAIN_INFERRED

#: The k-cutoff of training items: they are covered at every k.
EVERY_K = int(np.iinfo(np.int32).max)
#: Inputs that the domain scope holds at most.
MOST_INPUTS = 1 << 28
#: Training items that are looked at at once.
_CHUNK = 1 << 19
#: Edges of one slot set that are made one by one for a graph that is written out.
MOST_PAIRS = 1_000_000

Item = tuple[int, ...]
Edges = tuple[np.ndarray, np.ndarray]


class Scope(ABC):
    """The nodes of a data set's substitution graph, numbered from 0.

    ``count`` is the number of nodes, ``trained`` the numbers of those that are training items.
    ``test_rows`` are the places in ``test.json`` of the items that have a k-cutoff in this scope,
    ``test_nodes`` their nodes.
    """

    name: ClassVar[str]
    #: What file names of results carry.
    suffix: ClassVar[str]
    #: Whether two items are joined only if their answers are equal.
    equal_answers: ClassVar[bool]
    #: Whether every input is a node.
    holds_domain: ClassVar[bool]

    def __init__(
        self,
        dataset: Dataset,
        count: int,
        trained: np.ndarray | slice,
        test_rows: np.ndarray,
        test_nodes: np.ndarray,
    ) -> None:
        self.dataset, self.count, self.trained = dataset, count, trained
        self.test_rows, self.test_nodes = test_rows, test_nodes

    @abstractmethod
    def node(self, item: Item) -> int:
        """The number of an input's node; ``InputError`` if it is none."""

    @abstractmethod
    def answer(self, item: Item) -> int | None:
        """The answer of an input that is a node; None where it is not known."""

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs ``(count, slots)`` and answers ``(count,)`` of the nodes, for drawing the graph.

        ``InputError`` in a scope whose graph cannot be drawn.
        """
        raise InputError(
            f"the graph of `scope` {self.name} is not drawn or written; use `scope` dataset"
        )

    @abstractmethod
    def neighbours(self, equivalence: Equivalence, k: int) -> Callable[[Item], Iterator[Item]]:
        """A function of an item: the items that this slot set joins it to at k, and itself."""

    @abstractmethod
    def k_cutoffs(
        self,
        equivalences: Sequence[Equivalence],
        *,
        lowest: int = 1,
        progress: Callable[[float], None] = lambda _: None,
    ) -> np.ndarray:
        """The largest k at which each node is connected to a training item: ``(count,)`` int32.

        0 where there is no such k from ``lowest`` up, ``EVERY_K`` for training items.
        """


class DatasetScope(Scope):
    """Training items and ``type_0`` test items, joined only with equal answers.

    Nodes are distinct inputs: training items, then the other test items, in the order of their
    files. Two are joined when, for some slot set, they have the same class of fragment there, the
    same context and the same answer. The slot set is part of what makes such a bucket:
    <t_5><t_3><t_4> and <t_3><t_5><t_4> both hold 5 beside (3, 4), but at different slots, and
    nothing joins them.
    """

    name, suffix, equal_answers, holds_domain = "dataset", "", True, False

    def __init__(self, dataset: Dataset) -> None:
        train, test = dataset.train, dataset.test
        test_rows = np.flatnonzero(test.types == "type_0")
        inputs, answers = test.inputs[test_rows], test.answers[test_rows]
        self._sizes = dataset.slot_sizes
        found, first, number = np.unique(
            encode_rows(inputs, self._sizes), return_index=True, return_inverse=True
        )
        known = Places(found, prod(self._sizes), len(train))
        node = np.full(len(found), -1)
        for begin, rows in _chunks(train.inputs):
            place = known.of(encode_rows(rows, self._sizes))
            there = np.flatnonzero(place >= 0)
            node[place[there]] = begin + there
        others = np.sort(first[node < 0])  # in the order of the file
        node[number[others]] = len(train) + np.arange(len(others))
        self._others, self._answers = inputs[others], answers[others]
        count = len(train) + len(others)
        super().__init__(dataset, count, slice(len(train)), test_rows, node[number])

    @cached_property
    def inputs(self) -> np.ndarray:
        """The nodes' inputs: ``(count, slots)``."""
        return np.concatenate([self.dataset.train.inputs, self._others])

    @cached_property
    def answers(self) -> np.ndarray:
        """The nodes' answers: ``(count,)``."""
        return np.concatenate([self.dataset.train.answers, self._answers])

    @cached_property
    def _numbers(self) -> dict[Item, int]:
        return {item: node for node, item in enumerate(map(tuple, self.inputs.tolist()))}

    def node(self, item: Item) -> int:
        if item in self._numbers:
            return self._numbers[item]
        test = self.dataset.test
        kinds = test.types[(test.inputs == item).all(axis=1)].tolist()
        what = "is neither in train.json nor in test.json"
        if kinds:
            what = f"is of {self.dataset.graph.explained(kinds[0])}"
        raise InputError(
            f"it {what}, and the dataset scope looks at training items and type_0 items alone; use "
            "`scope` domain"
        )

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        return self.inputs, self.answers

    def answer(self, item: Item) -> int:
        return int(self.answers[self.node(item)])

    def k_cutoffs(
        self,
        equivalences: Sequence[Equivalence],
        *,
        lowest: int = 1,
        progress: Callable[[float], None] = lambda _: None,
    ) -> np.ndarray:
        """As every scope's.

        All training items count as one node, 0, beside the other test items: whatever is connected
        to one of them is covered. So only those that share a bucket with a test item matter.
        """
        beside = [self._beside_tests(equivalence) for equivalence in equivalences]
        component = np.arange(len(self._others) + 1)
        found = np.zeros(len(component), dtype=np.int32)
        for k, grown, share in falling_levels(equivalences, lowest):
            for number, classes in grown:
                nodes, bucket, fragment = beside[number]
                first, second = (nodes[side] for side in stars(bucket, classes[fragment]))
                edges = component[first], component[second]
                component = components(len(component), *edges)[component]
            found[(component == component[0]) & (found == 0)] = k
            progress(share)
        cutoffs = np.full(self.count, EVERY_K, dtype=np.int32)
        cutoffs[len(self.dataset.train) :] = found[1:]
        return cutoffs

    def _beside_tests(self, equivalence: Equivalence) -> tuple[np.ndarray, ...]:
        """Test items, and the training items with a context and an answer of theirs.

        Returns their nodes in ``k_cutoffs``, a number of their context and answer, and their
        fragments. Test items whose fragment the training set lacks are equivalent to nothing.
        """
        train = self.dataset.train
        rest = [slot for slot in range(len(self._sizes)) if slot not in equivalence.positions]
        sizes = sizes_at(self._sizes, rest)
        (answers,) = self.dataset.sizes([self.dataset.graph.answer])
        fragment = equivalence.fragment_ids(self._others)
        tests = np.flatnonzero(fragment >= 0)
        known, context = np.unique(
            encode_rows(self._others[tests][:, rest], sizes), return_inverse=True
        )
        bucket = context * answers + self._answers[tests]
        wanted = distinct(bucket)
        contexts = Places(known, prod(sizes), len(train))
        buckets = Places(wanted, len(known) * answers, len(train))
        found = [(tests + 1, bucket, fragment[tests])]
        for begin, inputs in _chunks(train.inputs):
            context = contexts.of(encode_rows(inputs[:, rest], sizes))
            rows = np.flatnonzero(context >= 0)
            own = context[rows].astype(np.int64) * answers + train.answers[begin + rows]
            kept = buckets.of(own) >= 0
            rows, own = rows[kept], own[kept]
            found.append((np.zeros_like(rows), own, equivalence.fragment_ids(inputs[rows])))
        return tuple(map(np.concatenate, zip(*found, strict=True)))

    def stars(self, equivalence: Equivalence, k: int) -> Edges:
        """Edges ``(first, second)`` that give this slot set's part of the graph its components.

        Every bucket is a star around its first node, a training item wherever it holds one.
        """
        nodes, *keys = self._buckets(equivalence, k)
        first, second = stars(*keys)
        return nodes[first], nodes[second]

    def pairs(self, equivalence: Equivalence, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every edge of this slot set at ``k``: ``(first, second, evidence)``, first < second.

        The evidence is the largest k at which the two fragments are in one class. ``InputError``
        if there are more than ``MOST_PAIRS``.
        """
        nodes, *keys = self._buckets(equivalence, k)
        found = cliques(*keys, most=MOST_PAIRS)
        if found is None:
            raise InputError(
                f"the substitution graph at k = {k} has more than {MOST_PAIRS:,} edges of one slot "
                "set, too many to write; raise `min_evidence`"
            )
        first, second = (nodes[side] for side in found)
        ids = equivalence.fragment_ids(self.inputs)
        return first, second, equivalence.joined_up_to(ids[first], ids[second], k)

    def _buckets(
        self, equivalence: Equivalence, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nodes, and two keys that tell their buckets at ``k`` apart.

        A node whose fragment the training set lacks is equivalent to nothing here, and left out.
        """
        ids = equivalence.fragment_ids(self.inputs)
        nodes = np.flatnonzero(ids >= 0)
        rest = [slot for slot in range(self.inputs.shape[1]) if slot not in equivalence.positions]
        sizes = sizes_at(self._sizes, rest)
        contexts = encode_rows(self.inputs[nodes][:, rest], sizes)
        (answers,) = self.dataset.sizes([self.dataset.graph.answer])
        if prod(sizes) * answers >= MOST_CODES:
            _, contexts = np.unique(contexts, return_inverse=True)
        keys = contexts * answers + self.answers[nodes]
        return nodes, keys, equivalence.classes(k)[ids[nodes]]

    def neighbours(self, equivalence: Equivalence, k: int) -> Callable[[Item], Iterator[Item]]:
        ids = equivalence.fragment_ids(self.inputs)
        classes = np.where(ids >= 0, equivalence.classes(k)[ids], -1)

        def of(item: Item) -> Iterator[Item]:
            node = self.node(item)
            if classes[node] < 0:
                return
            same = (classes == classes[node]) & (self.answers == self.answers[node])
            for slot, value in enumerate(item):
                if slot not in equivalence.positions:
                    same &= self.inputs[:, slot] == value
            # Training items come first, so a chain ends at the first chance.
            yield from map(tuple, self.inputs[same].tolist())

        return of


def _chunks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows, so many at a time that what is made of them is small: the number of the first, and all.

    There may be very many training items.
    """
    for begin in range(0, len(rows), _CHUNK):
        yield begin, rows[begin : begin + _CHUNK]


class DomainScope(Scope):
    """Every input, numbered by ``encode_rows``; what an input gives does not matter.

    Inputs that differ by a k-equivalent fragment are joined. As every input is a node, a chain of
    equivalent fragments can be walked in any context, so joining whole classes is the same as
    joining pairs. ``InputError`` if there are more than ``MOST_INPUTS`` inputs.
    """

    name, suffix, equal_answers, holds_domain = "domain", "_domain", False, True

    def __init__(self, dataset: Dataset) -> None:
        sizes = dataset.slot_sizes
        count = prod(sizes)
        if count > MOST_INPUTS:
            raise InputError(
                f"`scope` domain keeps every input in memory, but {tokens_in_slots(sizes)} make "
                f"{count:,} of them and {MOST_INPUTS:,} is the limit; use `scope` dataset"
            )
        test_rows = np.flatnonzero(dataset.test.types != TRAIN_INFERRED)
        self._strides = strides(sizes)
        super().__init__(
            dataset,
            count,
            encode_rows(dataset.train.inputs, sizes),
            test_rows,
            encode_rows(dataset.test.inputs[test_rows], sizes),
        )

    def node(self, item: Item) -> int:
        return int(np.array(item) @ self._strides)

    def answer(self, item: Item) -> int | None:
        if not self.dataset.graph.bridges:
            return None  # an answer that nothing was computed from: only the items' own are known
        try:
            values = evaluate(self.dataset.graph, self.dataset.tables(), np.array([item]))
        except InputError:
            return None
        answer = int(values[self.dataset.graph.answer][0])
        return None if answer < 0 else answer

    def k_cutoffs(
        self,
        equivalences: Sequence[Equivalence],
        *,
        lowest: int = 1,
        progress: Callable[[float], None] = lambda _: None,
    ) -> np.ndarray:
        cutoffs = np.zeros(self.count, dtype=np.int32)
        cutoffs[self.trained] = EVERY_K
        domain = WholeDomain(self.dataset.slot_sizes, self.trained)
        actions = [domain.action(e.positions, e.codes) for e in equivalences]
        for k, grown, share in falling_levels(equivalences, lowest):
            for number, classes in grown:
                actions[number].grow(classes)
            for nodes in domain.spread(actions):
                cutoffs[nodes] = k
            progress(share)
        return cutoffs

    def neighbours(self, equivalence: Equivalence, k: int) -> Callable[[Item], Iterator[Item]]:
        classes, fragments = equivalence.classes(k), equivalence.fragments()

        def of(item: Item) -> Iterator[Item]:
            own = equivalence.fragment_id(item)
            if own < 0:
                return
            found = list(item)
            for values in fragments[classes == classes[own]].tolist():
                for position, value in zip(equivalence.positions, values, strict=True):
                    found[position] = value
                yield tuple(found)

        return of


def falling_levels(
    equivalences: Sequence[Equivalence], lowest: int
) -> Iterator[tuple[int, list[tuple[int, np.ndarray]], float]]:
    """Every k from the firmest down to ``lowest`` at which classes grow, and the share done then.

    Between them stand the numbers of the slot sets whose classes do, with their classes.
    """
    falling = [equivalence.falling(lowest) for equivalence in equivalences]
    ahead = {n: found for n, one in enumerate(falling) if (found := next(one, None))}
    levels = np.concatenate([*(e.levels for e in equivalences), np.empty(0, np.int32)])
    total = len(distinct(levels[levels >= lowest]))
    done = 0
    while ahead:
        k, done = max(level for level, _ in ahead.values()), done + 1
        grown = [(n, classes) for n, (level, classes) in ahead.items() if level == k]
        yield k, grown, done / total
        for number, _ in grown:
            if (found := next(falling[number], None)) is None:
                del ahead[number]
            else:
                ahead[number] = found


#: Every scope by the name that the setting ``scope`` gives it.
SCOPES: dict[str, type[Scope]] = {scope.name: scope for scope in (DatasetScope, DomainScope)}

"""Coverage counted over unseen in-domain items, the true values of fragments being known.

Equivalent are two fragments that share k contexts in the training set, agree in all of them, and
have the same true value: what agrees only by coincidence never counts. With the fragment of one
value, a component of the substitution graph is a class of fragments in one context, and *all* items
are counted, class by class, without being held.

With the fragments of several values the graph is that of the formal definition: every input is a
node, and two are joined if they differ by an equivalent fragment of one of the values. A path from
an unseen item to a training item may so lead through inputs that make unseen or undefined calls; of
one value's fragments the components are the same without these, of several they are not.

In iterated coverage an item that is covered counts as evidence in the next round, with its true
answer, until a round covers nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from coverage_principle.coverage.canonical import connected
from coverage_principle.coverage.known_values import value_fragments
from coverage_principle.coverage.measured import Counts
from coverage_principle.coverage.pairing import within
from coverage_principle.data import CompositionSpace, evaluate
from coverage_principle.data.space import encode_rows, is_member
from coverage_principle.data.tables import call_arguments, node_sizes
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

#: Items that are looked at together where each must be evaluated.
_BATCH = 1 << 20
#: In-domain items that iterated coverage holds at most.
MOST_HELD = 1 << 23


def in_domain_coverage(
    graph: TaskGraph,
    tables: Sequence[np.ndarray],
    train: np.ndarray,
    ks: Sequence[int],
    *,
    value: str | None = None,
) -> Counts:
    """Count all unseen in-domain items, and those that the fragments of ``value`` cover.

    ``train`` is ``(n, slots)``, distinct. ``value`` is the intermediate value whose fragment is
    substituted, that of the first function by default; ``InputError`` if there is none such, or if
    its fragment is the whole input.
    """
    positions, value = fragment_of_value(graph, value)
    values, seen = _calls(graph, tables, train)
    in_domain = CompositionSpace(graph, tables, seen).size
    # Where nothing but the value itself reads these slots, equivalent fragments make the same
    # further calls: if one of them is in the domain, all are.
    alike = read_only_for(graph, value)
    fragments = value_fragments(graph, value, values, node_sizes(graph, tables), alike=alike)
    contexts = int(fragments.context_of.max(initial=0)) + 1
    covered = {}
    for k, classes in fragments.classes(ks).items():
        class_of = classes[fragments.fragment_of].astype(np.int64)
        # An item of each cell (class, context) that the training set reaches.
        cells = np.unique(class_of * contexts + fragments.context_of, return_index=True)[1]
        class_of = class_of[cells]
        if alike:
            count = int(np.bincount(classes)[class_of].sum())
        else:
            tokens = train[fragments.first][:, list(positions)]
            count = sum(
                int(_made(graph, tables, seen, items).sum())
                for items in _members(train[cells], class_of, classes, tokens, positions)
            )
        covered[int(k)] = count - len(train)
    return Counts(in_domain - len(train), covered)


def joint_coverage(
    graph: TaskGraph,
    tables: Sequence[np.ndarray],
    train: np.ndarray,
    ks: Sequence[int],
    *,
    values: Sequence[str] | None = None,
    sample: int | None = None,
    rng: np.random.Generator | None = None,
) -> Counts:
    """Count unseen in-domain items, and those that the fragments of ``values`` cover at each k.

    ``train`` is ``(n, slots)``, distinct; ``values`` are by default all that ``bridges_inside``
    gives. If there are more than ``sample`` unseen in-domain items, so many are drawn by ``rng``,
    uniform and without replacement, and looked at in their place. ``InputError`` if no fragment can
    be substituted, or their slots overlap too widely (``canonical.connected``).
    """
    evidence = _Evidence(graph, tables, train, values)
    space, count = evidence.space, evidence.space.size - len(train)
    if sample is not None and count > sample:
        items = space.sample_outside(sample, train, rng or np.random.default_rng())
    else:
        items, sample = evidence.unseen(), None
    covered = {k: int(mask.sum()) for k, mask in evidence.covered(items, ks).items()}
    return Counts(count, covered, sample)


def iterated_coverage(
    graph: TaskGraph,
    tables: Sequence[np.ndarray],
    train: np.ndarray,
    ks: Sequence[int],
    *,
    values: Sequence[str] | None = None,
) -> Counts:
    """The same when items that are covered are evidence in the next round, to the fixed point.

    ``InputError`` as in ``joint_coverage``, and if there are more than ``MOST_HELD`` in-domain
    items: all are held.
    """
    evidence = _Evidence(graph, tables, train, values)
    check_held(evidence.space.size)
    unseen, covered = evidence.unseen(), {}
    for k in ks:
        known, left = evidence, unseen
        while len(left):
            new = known.covered(left, (k,))[k]
            if not new.any():
                break
            items = np.concatenate([known.train, left[new]])
            known, left = _Evidence(graph, tables, items, values), left[~new]
        covered[k] = len(unseen) - len(left)
    return Counts(len(unseen), covered)


def check_held(items: int) -> None:
    """Refuse so many in-domain items as iterated coverage would have to hold."""
    if items > MOST_HELD:
        raise InputError(
            f"`iterate` keeps all in-domain items in memory: {items:,}, and {MOST_HELD:,} is the "
            "limit. Lower `num_tokens`, or omit `iterate`"
        )


def bridges_inside(graph: TaskGraph) -> tuple[str, ...]:
    """The intermediate values whose fragment leaves a context; ``InputError`` if there is none."""
    found = [v for v in graph.bridges if len(graph.fragment(v)) < len(graph.inputs)]
    if not found:
        raise InputError(
            f"task {graph.name} has no intermediate value whose fragment leaves a context, so "
            f"nothing can be substituted: all that is known of it is {graph.equations}"
        )
    return tuple(found)


def fragment_of_value(graph: TaskGraph, value: str | None) -> tuple[tuple[int, ...], str]:
    """Slots of an intermediate value's fragment, and its name: by default the first function's.

    ``InputError`` if there is no such value, or its fragment is the whole input.
    """
    value = value or graph.functions[0].output
    if value not in graph.bridges:
        raise InputError(
            f"`value` {value} is no intermediate value of task {graph.name}; it has "
            f"{', '.join(graph.bridges) or 'none'}"
        )
    positions = graph.fragment_positions(value)
    if len(positions) == len(graph.inputs):
        raise InputError(
            f"`value` {value} of task {graph.name} depends on every slot, which leaves no context "
            "to compare its fragments in"
        )
    return positions, value


def read_only_for(graph: TaskGraph, value: str) -> bool:
    """Whether everything that ``value`` is computed from reaches the answer only through it.

    Then fragments of equal value give equal answers, and make equal further calls, in any context.
    """
    inside, queue = set(graph.fragment(value)), [value]
    while queue:
        for source in graph.function_of(queue.pop()).sources:
            if source not in graph.inputs:
                queue.append(source)
            inside.add(source)
    return all(
        function.output == value
        or function.output in inside
        or not inside.intersection(function.sources)
        for function in graph.functions
    )


class _Evidence:
    """A training set as the fragments of its values show it; ``space`` are in-domain items."""

    def __init__(
        self,
        graph: TaskGraph,
        tables: Sequence[np.ndarray],
        train: np.ndarray,
        values: Sequence[str] | None,
    ) -> None:
        nodes = node_sizes(graph, tables)
        self.train, self._sizes = train, [nodes[slot] for slot in graph.inputs]
        evaluated, seen = _calls(graph, tables, train)
        self.space = CompositionSpace(graph, tables, seen)
        self._fragments = [
            value_fragments(graph, value, evaluated, nodes, alike=read_only_for(graph, value))
            for value in values or bridges_inside(graph)
        ]

    def unseen(self) -> np.ndarray:
        """All in-domain items outside of the training set."""
        banned = np.sort(encode_rows(self.train, self._sizes))
        left = [
            rows[~is_member(encode_rows(rows, self._sizes), banned)]
            for rows in self.space.batches()
        ]
        return np.concatenate([np.empty((0, len(self._sizes)), dtype=np.int32), *left])

    def covered(self, items: np.ndarray, ks: Sequence[int]) -> dict[int, np.ndarray]:
        """Which of ``items`` are covered at each k."""
        classes = [fragments.classes(ks) for fragments in self._fragments]
        return {
            k: connected(self.train, items, self._sizes, self._fragments, [c[k] for c in classes])
            for k in ks
        }


def _members(
    items: np.ndarray,
    class_of: np.ndarray,
    classes: np.ndarray,
    fragments: np.ndarray,
    positions: tuple[int, ...],
) -> Iterator[np.ndarray]:
    """Every input whose fragment is in its item's class and whose context is its item's.

    ``class_of`` are the classes of ``items``, ``classes`` those of the ``fragments``.
    """
    order = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes)
    starts = np.cumsum(sizes) - sizes
    counts = sizes[class_of]
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(items):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _BATCH, side="right")))
        part, repeats = slice(begin, end), counts[begin:end]
        members = order[np.repeat(starts[class_of[part]], repeats) + within(repeats)]
        found = np.repeat(items[part], repeats, axis=0)
        found[:, list(positions)] = fragments[members]
        yield found
        begin = end


def _made(
    graph: TaskGraph, tables: Sequence[np.ndarray], seen: Sequence[np.ndarray], items: np.ndarray
) -> np.ndarray:
    """Which items make only calls that are marked in ``seen``: ``(n,)`` bool."""
    values = evaluate(graph, tables, items)
    made = np.ones(len(items), dtype=bool)
    for function, mask in zip(graph.functions, seen, strict=True):
        made &= mask[call_arguments(function, values)]
    return made


def _calls(
    graph: TaskGraph, tables: Sequence[np.ndarray], train: np.ndarray
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Every value of the training items, and for each function a mask of the calls they make."""
    values = evaluate(graph, tables, train)
    seen = [np.zeros(table.shape, dtype=bool) for table in tables]
    for function, mask in zip(graph.functions, seen, strict=True):
        mask[call_arguments(function, values)] = True
    return values, seen

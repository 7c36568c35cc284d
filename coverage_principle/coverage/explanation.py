"""Why an item is covered, or what is missing: chains of substitutions and their evidence.

For a covered item: a shortest chain of substitutions to a training item, at the item's k-cutoff.
Every step exchanges one fragment for another of its class; why the two are in one class is shown by
pairs of fragments with enough shared contexts, a path along the maximum spanning forest, which is
the firmest there is. For the next k: which substitutions would lead to a training item, and how
much evidence they lack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from coverage_principle.coverage.dataset import Coverage, SlotSet
from coverage_principle.coverage.scopes import EVERY_K, Item
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.words import counted, listed

#: Inputs that a search visits before it gives up.
_MOST_VISITED = 2_000_000


@dataclass(frozen=True)
class Pair:
    """Two fragments of a slot set: in how many contexts they agree and disagree in training.

    ``shared`` are some of the contexts in which they agree, each with the answer. ``balance`` is
    what speaks for the pair (``PairNoise.balance``): its evidence, if positive; None if the two are
    not equivalent whatever else is seen. ``by_chance``: their true values are known, and differ.
    """

    first: Item
    second: Item
    agreeing: int
    disagreeing: int
    shared: list[tuple[Item, int]]
    balance: int | None
    by_chance: bool = False


@dataclass(frozen=True)
class Step:
    """One substitution: ``before`` becomes ``after`` at ``slot_set``, for the sake of ``pairs``."""

    slot_set: SlotSet
    before: Item
    after: Item
    pairs: list[Pair]

    __repr__ = one_line


@dataclass(frozen=True)
class Lacking:
    """A substitution that would reach the training item ``trained``, had ``pair`` more evidence."""

    slot_set: SlotSet
    trained: Item
    pair: Pair

    __repr__ = one_line


@dataclass(frozen=True)
class Explanation:
    """What is known of an item; ``steps`` hold at ``cutoff``, ``lacking`` is about ``cutoff + 1``.

    ``answer`` is None where it is not known. ``seen_fragments`` says for each slot set in how many
    training items the item's fragment stands.
    """

    item: Item
    answer: int | None
    cutoff: int
    steps: list[Step] = field(default_factory=list)
    lacking: list[Lacking] = field(default_factory=list)
    seen_fragments: list[tuple[SlotSet, int]] = field(default_factory=list)

    __repr__ = one_line


def explain(coverage: Coverage, item: Sequence[int], *, most: int = 3) -> Explanation:
    """Explain one input (values of its slots); ``most`` limits what is said to be lacking.

    ``InputError`` if it has the wrong number of slots, a value out of range, or is no node of the
    scope that ``coverage`` was determined in.
    """
    item, scope = tuple(int(value) for value in item), coverage.scope
    cutoff = int(coverage.node_cutoffs[item_node(coverage, item, "explain")])
    answer = scope.answer(item)
    if cutoff == EVERY_K:
        return Explanation(item, answer, cutoff)
    steps = _chain(coverage, item, cutoff) if cutoff else []
    lacking = _lacking(coverage, item, answer, cutoff + 1)[:most]
    seen = [
        (s, int((s.observations.fragment_of == s.equivalence.fragment_id(item)).sum()))
        for s in coverage.slot_sets
    ]
    return Explanation(item, answer, cutoff, steps, lacking, seen)


def item_node(coverage: Coverage, item: Item, setting: str) -> int:
    """The node of an input that ``setting`` gives; ``InputError`` as for ``explain``."""
    dataset = coverage.dataset
    slots, sizes = dataset.graph.inputs, dataset.slot_sizes
    if len(item) != len(slots) or not all(0 <= v < n for v, n in zip(item, sizes, strict=True)):
        wanted = " ".join(f"{slot} < {size}" for slot, size in zip(slots, sizes, strict=True))
        raise InputError(f"`{setting}` needs a value for each slot: {wanted}; found {item}")
    try:
        return coverage.scope.node(item)
    except InputError as error:
        raise InputError(f"`{setting}` {dataset.text(item)}: {error}") from error


def _chain(coverage: Coverage, item: Item, k: int) -> list[Step]:
    """The steps of a shortest chain from ``item`` to a training item at ``k``."""
    scope = coverage.scope
    through = [
        (s, s.equivalence.classes(k), scope.neighbours(s.equivalence, k))
        for s in coverage.slot_sets
    ]
    came: dict[Item, tuple[Item, SlotSet] | None] = {item: None}
    done: set[tuple] = set()  # buckets whose members have all been reached
    queue = deque([item])
    while queue:
        here = queue.popleft()
        for number, (slot_set, classes, neighbours) in enumerate(through):
            # What the members of a bucket have in common: slot set, class, context.
            own = slot_set.equivalence.fragment_id(here)
            rest = tuple(v for i, v in enumerate(here) if i not in slot_set.equivalence.positions)
            bucket = number, int(classes[own]) if own >= 0 else here, rest
            if bucket in done:
                continue
            done.add(bucket)
            for there in neighbours(here):
                if there in came:
                    continue
                came[there] = here, slot_set
                if coverage.node_cutoffs[scope.node(there)] == EVERY_K:
                    return _steps(coverage, came, there, k)
                queue.append(there)
        if len(came) > _MOST_VISITED:
            break
    raise InputError("the chain of substitutions is too long to be found; try `scope` dataset")


def _steps(coverage: Coverage, came: dict, last: Item, k: int) -> list[Step]:
    steps = []
    while came[last] is not None:
        before, slot_set = came[last]
        first, second = (slot_set.equivalence.fragment_id(end) for end in (before, last))
        path = _forest_path(slot_set, first, second, k)
        pairs = [_pair(coverage, slot_set, a, b) for a, b in zip(path[:-1], path[1:], strict=True)]
        steps.append(Step(slot_set, before, last, pairs))
        last = before
    return steps[::-1]


def _forest_path(slot_set: SlotSet, first: int, last: int, k: int) -> list[int]:
    """The fragments on the way from one to another along the spanning forest at ``k``."""
    import networkx

    equivalence = slot_set.equivalence
    firm = equivalence.evidence >= k
    edges = np.column_stack([equivalence.first, equivalence.second])[firm].tolist()
    return networkx.shortest_path(networkx.Graph(edges), first, last)


def _pair(coverage: Coverage, slot_set: SlotSet, a: int, b: int, *, most: int = 3) -> Pair:
    """Two fragments and what the training set shows of them; ``most`` contexts are listed."""
    observations, train = slot_set.observations, coverage.dataset.train
    values = slot_set.equivalence.fragments()
    of = [np.flatnonzero(observations.fragment_of == fragment) for fragment in (a, b)]
    labels = [
        dict(zip(observations.context_of[rows].tolist(), rows.tolist(), strict=True)) for rows in of
    ]
    shared = sorted(labels[0].keys() & labels[1].keys())
    label_of = observations.label_of
    agreeing = [c for c in shared if label_of[labels[0][c]] == label_of[labels[1][c]]]
    rest = [i for i in range(train.inputs.shape[1]) if i not in slot_set.equivalence.positions]
    listed = [
        (tuple(train.inputs[labels[0][c], rest].tolist()), int(train.answers[labels[0][c]]))
        for c in agreeing[:most]
    ]
    first, second = (tuple(values[fragment].tolist()) for fragment in (a, b))
    true = slot_set.true_values
    by_chance = true is not None and bool(true[a] != true[b])
    counts = len(agreeing), len(shared) - len(agreeing)
    balance = None if _barred(slot_set, a, b) else coverage.noise.balance(*counts)
    return Pair(first, second, *counts, listed, balance, by_chance)


def _barred(slot_set: SlotSet, a: int, b: int) -> bool:
    """Whether true values are to be equal, and those of the two fragments are not."""
    required = slot_set.required
    return required is not None and bool(required[a] != required[b])


def _lacking(coverage: Coverage, item: Item, answer: int | None, k: int) -> list[Lacking]:
    """Single substitutions that would reach a training item at ``k``, the nearest first.

    A pair that no evidence can mend comes after all others.
    """
    train, found = coverage.dataset.train, []
    for slot_set in coverage.slot_sets:
        own = slot_set.equivalence.fragment_id(item)
        if own < 0:
            continue
        same = np.ones(len(train), dtype=bool)
        for slot, value in enumerate(item):
            if slot not in slot_set.equivalence.positions:
                same &= train.inputs[:, slot] == value
        if coverage.scope.equal_answers:
            same &= train.answers == answer
        classes = slot_set.equivalence.classes(k)
        for row in np.flatnonzero(same):
            other = int(slot_set.observations.fragment_of[row])
            if classes[other] != classes[own]:
                pair = _pair(coverage, slot_set, own, other)
                found.append(Lacking(slot_set, tuple(train.inputs[row].tolist()), pair))
    return sorted(found, key=lambda near: _distance(near.pair))


def _distance(pair: Pair) -> tuple[bool, int, int, int]:
    """Sorts pairs by what they lack."""
    return pair.balance is None, -(pair.balance or 0), pair.disagreeing, -pair.agreeing


def explanation_lines(coverage: Coverage, explanation: Explanation) -> list[str]:
    """The explanation in sentences, for a terminal."""
    dataset = coverage.dataset
    text = dataset.text(explanation.item)
    if explanation.answer is not None:
        text += f" -> {dataset.text([explanation.answer], [dataset.graph.answer])}"
    if explanation.cutoff == EVERY_K:
        return [f"{text} is a training item: covered at every k."]
    k = explanation.cutoff
    lines = [f"{text} is covered up to k = {k}." if k else f"{text} is not covered at any k."]
    for number, step in enumerate(explanation.steps, start=1):
        lines += ["", *_step_lines(coverage, step, number, explanation)]
    return [*lines, "", *_lacking_lines(coverage, explanation), "", *_definition(coverage)]


def _definition(coverage: Coverage) -> list[str]:
    """What "covered" means, for who reads an explanation first."""
    never = "few enough different ones" if coverage.noise.rate else "never different ones"
    return [
        "Two fragments are interchangeable at k if training shows them giving equal answers in at",
        f"least k shared contexts and {never}, or if such pairs (~) link them. An item is",
        "covered at k if swaps of interchangeable fragments turn it into a training item.",
    ]


def _step_lines(coverage: Coverage, step: Step, number: int, explanation: Explanation) -> list[str]:
    dataset, names = coverage.dataset, coverage.dataset.graph.inputs
    last = number == len(explanation.steps)
    positions = step.slot_set.equivalence.positions
    inside = step.slot_set.slots
    old, new = (
        _values(dataset.short([item[i] for i in positions], inside))
        for item in (step.before, step.after)
    )
    lines = [
        f"{number}. At {_values(step.slot_set.slots)}, {old} is interchangeable with {new}:",
        f"   {dataset.text(step.before)} -> {dataset.text(step.after)}"
        + (" (a training item)" if last else ""),
    ]
    rest = [name for i, name in enumerate(names) if i not in positions]
    differ = f", only by coincidence: their true {listed(step.slot_set.determined)} differ"
    for pair in step.pairs:
        shared = [
            " ".join(f"{n}={v}" for n, v in zip(rest, dataset.short(context, rest), strict=True))
            + f" -> {dataset.short([answer], [dataset.graph.answer])[0]}"
            for context, answer in pair.shared
        ]
        lines.append(
            f"     {_values(dataset.short(pair.first, inside))} ~ "
            f"{_values(dataset.short(pair.second, inside))}: equal answers in "
            f"{_share_of_contexts(pair)} ({', '.join(shared)})"
            + (f", evidence {pair.balance}" if pair.disagreeing else "")
            + (differ if pair.by_chance else "")
        )
    return lines


def _lacking_lines(coverage: Coverage, explanation: Explanation) -> list[str]:
    dataset, k = coverage.dataset, explanation.cutoff + 1
    lines = [f"What is missing at k = {k}:"]
    for near in explanation.lacking:
        pair, slots = near.pair, near.slot_set.slots
        first, second = (_values(dataset.short(part, slots)) for part in (pair.first, pair.second))
        together = pair.agreeing + pair.disagreeing
        if pair.balance is not None:
            where = f"{pair.agreeing} of " if pair.disagreeing else ""
            where += counted(together, "shared context")
            state = f"agree in {where}, {k - pair.balance} more needed"
        elif pair.disagreeing and not coverage.noise.rate:
            state = (
                f"give different answers in {pair.disagreeing} of "
                f"{counted(together, 'shared context')}: never interchangeable"
            )
        else:  # `ground_truth`
            value = dataset.graph.functions[0].output
            state = f"have different true {value}: never interchangeable"
        lines.append(
            f"   {_values(slots)}: {second} in place of {first} would give the training item "
            f"{dataset.text(near.trained)}; they {state}"
        )
    if not explanation.lacking:
        lines.append("   no swap of one fragment would give a training item, whatever its evidence")
    if coverage.noise.rate:
        lines.append(
            f"   wrong labels: {coverage.noise.rate:.1%} of the training answers; a different "
            f"answer outweighs {coverage.noise.penalty:.2f} equal ones"
        )
    unseen = [_values(s.slots) for s, count in explanation.seen_fragments if count == 0]
    if unseen:
        lines.append(f"   never seen in training: its fragments at {', '.join(unseen)}")
    return lines


def _share_of_contexts(pair: Pair) -> str:
    if pair.disagreeing:
        together = counted(pair.agreeing + pair.disagreeing, "context")
        return f"{pair.agreeing} of {together} that they share"
    if pair.agreeing == 1:
        return "the only context that they share"
    return f"all {pair.agreeing:,} contexts that they share"


def _values(values: Sequence[object]) -> str:
    return f"({', '.join(map(str, values))})"

"""Worlds of random primitives, and the training and test compositions drawn in them.

A *world* is drawn from a task and its settings alone; how targets are written (direct answer, chain
of thought, filler) is decided afterwards, so all formats of one seed hold the same functions and
the same items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from coverage_principle.data.contents import Facts
from coverage_principle.data.settings import WorldSettings
from coverage_principle.data.space import CompositionSpace
from coverage_principle.data.tables import (
    Table,
    draw_seen,
    draw_values,
    evaluate,
    fold,
    seen_calls,
)
from coverage_principle.data.vocabulary import default_tokens
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import DEFAULT_ALPHABET, FACT_TYPES, TRAIN_INFERRED, TaskGraph
from simpletransformers.words import listed

# Independent random streams of one seed, so that a larger test or validation set leaves tables,
# training items and each other as they are.
_TABLES, _TRAIN, _TEST, _VALIDATION = range(4)
_NOISE = 6  # 4 and 7 are those of coverage.required, 5 is facts of entities


class Sampling(Protocol):
    """What the settings of a world say of the items that are drawn in it."""

    test_size_for_type: int
    validation_size: int
    seed: int
    facts: str
    label_noise: float

    def arguments(self) -> dict[str, object]:
        """The settings as metadata keep them."""


@dataclass(frozen=True)
class World:
    """Everything random about a data set.

    ``alphabets`` holds the tokens of each alphabet. ``seen`` marks the calls that training
    compositions make, ``known`` those that training facts give. ``train`` is ``(N, slots)`` int32;
    ``noisy`` maps rows of it to a wrong answer that they are given. ``test`` and ``validation`` map
    each type to such an array (``validation`` is empty if none was asked for); ``facts`` are the
    training facts, ``test_facts`` those that are test items. ``trainable`` is the number
    of compositions that the training set was drawn from; ``available`` maps each type to the number
    of compositions outside the training set.
    """

    graph: TaskGraph
    settings: Sampling
    alphabets: Mapping[str, Sequence[str]]
    tables: list[Table]
    seen: list[np.ndarray]
    known: list[np.ndarray]
    train: np.ndarray
    test: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    trainable: int
    available: dict[str, int]
    noisy: dict[int, int] = field(default_factory=dict)
    facts: list[Facts] = field(default_factory=list)
    test_facts: list[Facts] = field(default_factory=list)

    __repr__ = one_line

    def shortfalls(self) -> list[str]:
        """A sentence for each split in which types have fewer items than were asked for."""
        wanted = (
            ("test", self.test, self.settings.test_size_for_type),
            ("validation", self.validation, self.settings.validation_size),
        )
        sentences = []
        for kind, groups, size in wanted:
            few = [f"{len(r):,} of {label}" for label, r in groups.items() if len(r) < size]
            if few:
                asked = f"fewer {kind} items exist than the {size:,} of each type asked for"
                sentences.append(f"{asked}: {listed(few)}")
        return sentences


def generate_world(graph: TaskGraph, settings: WorldSettings) -> World:
    """Draw tables, a training set, and test and validation items of every coverage type.

    See ``sample_world``. Raises ``InputError`` for settings that do not fit the task and for more
    training items than exist.
    """
    settings.check_task(graph)
    tables, sizes = draw_tables(graph, settings), settings.sizes(graph)
    amount, allowed = settings.max_train_data_num, trainable_space(graph, tables)
    if amount > allowed.size:
        raise InputError(
            f"`max_train_data_num` {amount} is more than there are possible training compositions "
            f"(`num_tokens` {settings.num_tokens}, `default_seen_ratio` "
            f"{settings.default_seen_ratio}); give at most {allowed.size}"
        )
    alphabets = {
        name: default_tokens(size)
        if name == DEFAULT_ALPHABET
        else [f"<{name}_{i}>" for i in range(size)]
        for name, size in sizes.items()
    }
    train, trainable = training_items(allowed, amount, settings.seed), allowed.size
    del allowed  # its index of a large table is not needed any more
    return sample_world(graph, alphabets, tables, train, trainable, settings)


def trainable_space(graph: TaskGraph, tables: Sequence[Table]) -> CompositionSpace:
    """The possible training compositions: every call of them is expected seen."""
    values = [table.values for table in tables]
    return CompositionSpace(graph, values, [table.expected_seen for table in tables])


def training_items(allowed: CompositionSpace, amount: int, seed: int) -> np.ndarray:
    """The training items of a world, ``(amount, slots)`` int32.

    They are uniform without replacement among ``allowed`` (``trainable_space``).
    """
    return allowed.sample(amount, np.random.default_rng([seed, _TRAIN]))


def sample_world(
    graph: TaskGraph,
    alphabets: Mapping[str, Sequence[str]],
    tables: list[Table],
    train: np.ndarray,
    trainable: int,
    settings: Sampling,
) -> World:
    """Draw test and validation items for the training items ``train``, drawn of ``trainable`` ones.

    "Seen" means used by a training item, and each type's test items are uniform without replacement
    among the compositions of that type that are not training items, its validation items among
    those left; ``train_inferred`` items are training items. Undefined calls are in no type.
    """
    values = [table.values for table in tables]
    seen = seen_calls(graph, values, train)
    facts = _training_facts(graph, tables, seen, settings.facts)
    # Without facts a mask takes no memory.
    known = [np.zeros_like(m) if facts else np.broadcast_to(False, m.shape) for m in seen]
    for one in facts:
        for j, function in enumerate(graph.functions):
            if graph.alphabets_of(function.sources) == _signature(graph, one):
                known[j][tuple(one.calls.T)] = True
    test, validation, available = _draw_held_out(graph, settings, values, seen, known, train)
    return World(
        *(graph, settings, alphabets, tables, seen, known, train, test, validation),
        *(trainable, available),
        noisy=_wrong_answers(
            graph, values, train, len(alphabets[graph.alphabet(graph.answer)]), settings
        ),
        facts=facts,
        test_facts=_test_facts(graph, facts, seen, settings),
    )


def draw_tables(graph: TaskGraph, settings: WorldSettings) -> list[Table]:
    """Each function's table, every one from a stream of its own; a shared one is drawn once."""
    sizes, ratio = settings.sizes(graph), settings.default_seen_ratio

    def stream(*numbers: int) -> np.random.Generator:
        return np.random.default_rng([settings.seed, _TABLES, *numbers])

    def draw(nodes: Sequence[str], number: int) -> Table:
        *shape, outputs = (sizes[alphabet] for alphabet in graph.alphabets_of(nodes))
        shape, rng = tuple(shape), stream(number)
        values = draw_values(shape, outputs, settings.function_family, rng)
        return Table(values, draw_seen(shape, ratio, rng))

    if not settings.same_function:
        drawn: dict[str, Table] = {}
        for j, function in enumerate(graph.functions):
            if function.table not in drawn:
                drawn[function.table] = draw(function.nodes, j)
        return [drawn[function.table] for function in graph.functions]
    arities = [function.arity for function in graph.functions]
    narrowest, size = min(arities), max(sizes.values())
    by_arity = {narrowest: draw((graph.answer,) * (narrowest + 1), 0)}
    for arity in {*arities} - {narrowest}:
        seen = draw_seen((size,) * arity, ratio, stream(arity - narrowest))
        by_arity[arity] = Table(fold(by_arity[narrowest].values, arity), seen)
    tables = [by_arity[arity] for arity in arities]
    if settings.separate_seen:
        for j, arity in enumerate(arities[1:], start=1):
            tables[j] = Table(tables[j].values, draw_seen((size,) * arity, ratio, stream(j, 1)))
    return tables


def _draw_held_out(
    graph: TaskGraph,
    settings: Sampling,
    values: list[np.ndarray],
    seen: list[np.ndarray],
    known: list[np.ndarray],
    train: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """Test items, validation items, and how many compositions of each type are not in ``train``."""
    held_out: dict[int, dict[str, np.ndarray]] = {_TEST: {}, _VALIDATION: {}}
    sizes = {_TEST: settings.test_size_for_type, _VALIDATION: settings.validation_size}
    wanted = {kind: size for kind, size in sizes.items() if size}
    for kind, size in wanted.items():
        rng = np.random.default_rng([settings.seed, kind])
        chosen = rng.choice(len(train), min(size, len(train)), replace=False)
        held_out[kind][TRAIN_INFERRED] = train[np.sort(chosen)]
    available = {}
    trains_facts = settings.facts != "none"
    labels = graph.fact_type_labels if trains_facts else graph.type_labels
    for number, label in enumerate(labels):
        space = CompositionSpace(graph, values, calls_of_type(graph, label, seen, known))
        taken = train if label == "type_0" else train[:0]
        if trains_facts and space.size == 0:
            continue  # of the many types that facts make, only those that there are
        available[label] = space.size - len(taken)
        for kind, size in wanted.items():
            rng = np.random.default_rng([settings.seed, kind, number])
            held_out[kind][label] = space.sample_outside(size, taken, rng)
            taken = np.concatenate([taken, held_out[kind][label]])
    return held_out[_TEST], held_out[_VALIDATION], available


def calls_of_type(
    graph: TaskGraph, label: str, seen: Sequence[np.ndarray], known: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """For each function the calls that items of a type make: a bool array shaped like its table."""
    if not graph.bridges:  # a call is an input: whatever is no training item is of type_0
        return [np.ones_like(mask) for mask in seen]
    masks = []
    flags = zip(graph.type_seen(label), graph.type_known(label), seen, known, strict=True)
    for is_seen, is_known, seen_mask, known_mask in flags:
        mask = seen_mask
        if not is_seen:
            mask = ~seen_mask
            if is_known or known_mask.any():
                mask &= known_mask == is_known
        masks.append(mask)
    return masks


def _training_facts(
    graph: TaskGraph, tables: Sequence[Table], seen: Sequence[np.ndarray], which: str
) -> list[Facts]:
    """The single facts of the training set; functions of one signature are one function."""
    if which == "none":
        return []
    found = []
    for functions in graph.fact_signatures.values():
        members = [graph.functions.index(function) for function in functions]
        members = [j for j in members if tables[j].listed]
        if not members:
            continue
        masks = {
            "seen": [seen[j] for j in members],
            "in_domain": [tables[j].expected_seen for j in members],
            "all": [np.ones_like(seen[members[0]])],
        }[which]
        listed = np.logical_or.reduce(masks) & (tables[members[0]].values >= 0)
        found.append(Facts(members[0], np.argwhere(listed).astype(np.int32)))
    return [one for one in found if len(one)]


def _signature(graph: TaskGraph, facts: Facts) -> tuple[str, ...]:
    return graph.alphabets_of(graph.functions[facts.function].sources)


def _test_facts(
    graph: TaskGraph, facts: Sequence[Facts], seen: Sequence[np.ndarray], settings: Sampling
) -> list[Facts]:
    """Training facts that are test items too, by whether a training composition uses them."""
    found = []
    masks = [_used(graph, one, seen) for one in facts]
    first = len(graph.fact_type_labels)  # a random stream for each type, compositions' first
    for outside, label in enumerate(FACT_TYPES):
        for number, (one, used) in enumerate(zip(facts, masks, strict=True), start=first):
            rows = np.flatnonzero(used != bool(outside))
            rng = np.random.default_rng([settings.seed, _TEST, number, outside])
            size = min(settings.test_size_for_type, len(rows))
            chosen = np.sort(rng.choice(rows, size, replace=False))
            if size:
                found.append(Facts(one.function, one.calls[chosen], label))
    return found


def _used(graph: TaskGraph, facts: Facts, seen: Sequence[np.ndarray]) -> np.ndarray:
    """Which facts some training composition uses: ``(n,)`` bool."""
    used = np.zeros(len(facts), dtype=bool)
    for function in graph.fact_signatures[_signature(graph, facts)]:
        used |= seen[graph.functions.index(function)][tuple(facts.calls.T)]
    return used


def _wrong_answers(
    graph: TaskGraph, tables: list[np.ndarray], train: np.ndarray, answers: int, settings: Sampling
) -> dict[int, int]:
    """Rows of ``train`` that get a wrong answer, uniform among the others, and which."""
    if not settings.label_noise:
        return {}
    if answers < 2:
        raise InputError("`label_noise` needs at least two answers that an item could have")
    rng = np.random.default_rng([settings.seed, _NOISE])
    count = round(settings.label_noise * len(train))
    rows = np.sort(rng.choice(len(train), count, replace=False))
    true = evaluate(graph, tables, train[rows])[graph.answer]
    wrong = (true + rng.integers(1, answers, size=count)) % answers
    return dict(zip(rows.tolist(), wrong.tolist(), strict=True))


def bridge_counts(world: World, value: str) -> Mapping[str, np.ndarray]:
    """How often each token is the value ``value``: counts of its alphabet by what is counted.

    ``"table"`` counts the function's facts, ``"train"`` the training items.
    """
    graph, tables = world.graph, [table.values for table in world.tables]
    of_table = tables[graph.functions.index(graph.function_of(value))].reshape(-1)
    values = {
        "table": of_table[of_table >= 0],
        "train": evaluate(graph, tables, world.train)[value],
    }
    size = len(world.alphabets[graph.alphabet(value)])
    return {counted: np.bincount(of, minlength=size) for counted, of in values.items()}

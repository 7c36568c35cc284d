"""Worlds of random primitives, and the training and test compositions drawn in them.

A *world* is drawn from a task and its settings alone; how targets are written (direct answer, chain
of thought, filler) is decided afterwards, so all formats of one seed hold the same functions and
the same items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coverage_principle.data.settings import WorldSettings
from coverage_principle.data.space import CompositionSpace
from coverage_principle.data.tables import Table, draw_seen, draw_values, evaluate, fold, seen_calls
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

TRAIN_INFERRED = "train_inferred"

# Independent random streams of one seed, so that a larger test or validation set leaves tables,
# training items and each other as they are.
_TABLES, _TRAIN, _TEST, _VALIDATION = range(4)


@dataclass(frozen=True)
class World:
    """Everything random about a data set.

    ``seen`` marks the calls that training items make. ``train`` is ``(N, slots)`` int32; ``test``
    and ``validation`` map each type to such an array (``validation`` is empty if none was asked
    for). ``trainable`` is the number of compositions that the training set was drawn from;
    ``available`` maps each type to the number of compositions outside the training set.
    """

    graph: TaskGraph
    settings: WorldSettings
    tables: list[Table]
    seen: list[np.ndarray]
    train: np.ndarray
    test: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    trainable: int
    available: dict[str, int]

    def shortfalls(self) -> list[str]:
        """One sentence for every type that has fewer items than were asked for."""
        wanted = (
            ("test", self.test, self.settings.test_size_for_type),
            ("validation", self.validation, self.settings.validation_size),
        )
        return [
            f"{label} has {len(rows):,} {kind} items instead of {size:,}: only that many "
            + ("training items exist" if label == TRAIN_INFERRED else "such compositions are left")
            for kind, groups, size in wanted
            for label, rows in groups.items()
            if len(rows) < size
        ]


def generate_world(graph: TaskGraph, settings: WorldSettings) -> World:
    """Draw tables, a training set, and test and validation items of every coverage type.

    Training items are uniform without replacement among the compositions whose every call is
    expected seen. "Seen" then means used by a training item, and each type's test items are uniform
    without replacement among the compositions of that type that are not training items, its
    validation items among those left; ``train_inferred`` items are training items.

    Raises ``InputError`` for settings that do not fit the task and for more training items than
    exist.
    """
    settings.check_task(graph)
    seed = settings.seed
    tables = draw_tables(graph, settings)
    values = [table.values for table in tables]
    allowed = CompositionSpace(graph, values, [table.expected_seen for table in tables])
    if settings.max_train_data_num > allowed.size:
        raise InputError(
            f"`max_train_data_num` {settings.max_train_data_num} is more than the {allowed.size} "
            f"compositions whose every call is expected seen (`num_tokens` {settings.num_tokens}, "
            f"`default_seen_ratio` {settings.default_seen_ratio}); give at most {allowed.size}"
        )
    trainable = allowed.size
    train = allowed.sample(settings.max_train_data_num, np.random.default_rng([seed, _TRAIN]))
    del allowed  # its index of a large table is not needed any more
    seen = seen_calls(graph, values, train)
    test, validation, available = _draw_held_out(graph, settings, values, seen, train)
    return World(graph, settings, tables, seen, train, test, validation, trainable, available)


def draw_tables(graph: TaskGraph, settings: WorldSettings) -> list[Table]:
    """Each function's table, every one from a stream of its own."""
    size, ratio = settings.num_tokens, settings.default_seen_ratio

    def stream(*numbers: int) -> np.random.Generator:
        return np.random.default_rng([settings.seed, _TABLES, *numbers])

    def draw(arity: int, number: int) -> Table:
        rng = stream(number)
        values = draw_values(size, arity, settings.function_family, rng)
        return Table(values, draw_seen(size, arity, ratio, rng))

    arities = [function.arity for function in graph.functions]
    if not settings.same_function:
        return [draw(arity, j) for j, arity in enumerate(arities)]
    narrowest = min(arities)
    by_arity = {narrowest: draw(narrowest, 0)}
    for arity in {*arities} - {narrowest}:
        seen = draw_seen(size, arity, ratio, stream(arity - narrowest))
        by_arity[arity] = Table(fold(by_arity[narrowest].values, arity), seen)
    tables = [by_arity[arity] for arity in arities]
    if settings.separate_seen:
        for j, arity in enumerate(arities[1:], start=1):
            tables[j] = Table(tables[j].values, draw_seen(size, arity, ratio, stream(j, 1)))
    return tables


def _draw_held_out(
    graph: TaskGraph, settings: WorldSettings, values: list, seen: list, train: np.ndarray
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
    for number, label in enumerate(graph.type_labels):
        bits = graph.type_seen(label)
        masks = [mask if bit else ~mask for mask, bit in zip(seen, bits, strict=True)]
        space = CompositionSpace(graph, values, masks)
        taken = train if label == "type_0" else train[:0]
        available[label] = space.size - len(taken)
        for kind, size in wanted.items():
            rng = np.random.default_rng([settings.seed, kind, number])
            held_out[kind][label] = space.sample_outside(size, taken, rng)
            taken = np.concatenate([taken, held_out[kind][label]])
    return held_out[_TEST], held_out[_VALIDATION], available


def bridge_counts(world: World, value: str) -> Mapping[str, np.ndarray]:
    """How often each token is the value ``value``: ``(|X|,)`` counts by what is counted.

    ``"table"`` counts the function's facts, ``"train"`` the training items.
    """
    graph, tables = world.graph, [table.values for table in world.tables]
    values = {
        "table": tables[graph.functions.index(graph.function_of(value))].reshape(-1),
        "train": evaluate(graph, tables, world.train)[value],
    }
    size = world.settings.num_tokens
    return {counted: np.bincount(of, minlength=size) for counted, of in values.items()}

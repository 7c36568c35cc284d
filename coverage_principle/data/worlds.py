"""Worlds of random primitives, and the training and test compositions drawn in them.

A *world* is drawn from a task and its settings alone; how targets are written (direct answer, chain
of thought, filler) is decided afterwards, so all formats of one seed hold the same functions and
the same items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coverage_principle.data.space import CompositionSpace
from coverage_principle.data.tables import (
    FUNCTION_FAMILIES,
    MOST_FACTS,
    Table,
    draw_seen,
    draw_values,
    evaluate,
    fold,
    seen_calls,
)
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

TRAIN_INFERRED = "train_inferred"

# Independent random streams of one seed, so that a larger test or validation set leaves tables,
# training items and each other as they are.
_TABLES, _TRAIN, _TEST, _VALIDATION = range(4)


@dataclass(frozen=True)
class WorldSettings:
    """What a world is drawn from, beside its task; named as the generators' flags.

    ``validation_size`` items of each type are drawn apart from the test items. With
    ``same_function`` all functions are one: those of equal arity share a table and its seen split,
    and wider ones are the left fold of the narrowest (``f2(b, x2, x3) = f1(f1(b, x2), x3)``) with a
    seen split of their own; with ``separate_seen`` each function has a seen split of its own, so
    that a fact may be seen at one place only. ``check`` raises ``InputError`` for values out of
    range.
    """

    num_tokens: int
    max_train_data_num: int
    default_seen_ratio: float = 0.7
    test_size_for_type: int = 2000
    seed: int = 42
    validation_size: int = 0
    function_family: str = "random"
    same_function: bool = False
    separate_seen: bool = False

    def check(self, graph: TaskGraph) -> None:
        """Raise ``InputError`` for a value that is out of range or does not fit the task."""
        for name, low in (
            ("num_tokens", 2),
            ("max_train_data_num", 1),
            ("test_size_for_type", 1),
            ("validation_size", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise InputError(
                    f"--{name} {getattr(self, name)} is too small; it must be at least {low}"
                )
        if not 0 <= self.default_seen_ratio <= 1:
            raise InputError(
                f"--default_seen_ratio {self.default_seen_ratio} is not a share between 0 and 1"
            )
        if self.function_family not in FUNCTION_FAMILIES:
            raise InputError(
                f"--function_family {self.function_family} is not one of "
                f"{', '.join(FUNCTION_FAMILIES)}"
            )
        widest = max(graph.functions, key=lambda function: function.arity)
        if self.num_tokens**widest.arity > MOST_FACTS:
            raise InputError(
                f"--num_tokens {self.num_tokens} gives function {widest.name} of task {graph.name} "
                f"{self.num_tokens**widest.arity:,} facts, and a table may have {MOST_FACTS:,}; "
                f"give at most {_largest_base(MOST_FACTS, widest.arity)}"
            )
        if self.separate_seen and not self.same_function:
            raise InputError(
                "--separate_seen is about one function at several places (--same_f12, "
                "--same_f123); different functions have separate seen splits anyway"
            )
        arities = {function.arity for function in graph.functions}
        if self.same_function and len(arities) > 1 and min(arities) != 2:
            shown = ", ".join(f"{f.name}: {f.arity}" for f in graph.functions)
            raise InputError(
                f"task {graph.name}: functions of different arity ({shown}) can only be the same "
                "function if the narrowest has two arguments, which the others then fold"
            )


def _largest_base(most: int, exponent: int) -> int:
    """The largest n with n ** exponent <= most."""
    base = round(most ** (1 / exponent))
    return base if base**exponent <= most else base - 1


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

    Raises ``InputError`` for settings out of range and for more training items than exist.
    """
    settings.check(graph)
    seed = settings.seed
    tables = draw_tables(graph, settings)
    values = [table.values for table in tables]
    allowed = CompositionSpace(graph, values, [table.expected_seen for table in tables])
    if settings.max_train_data_num > allowed.size:
        raise InputError(
            f"--max_train_data_num {settings.max_train_data_num} is more than the {allowed.size} "
            f"compositions whose every call is expected seen (--num_tokens {settings.num_tokens}, "
            f"--default_seen_ratio {settings.default_seen_ratio}); give at most {allowed.size}"
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
    if not settings.same_function:
        tables = []
        for j, function in enumerate(graph.functions):
            rng = np.random.default_rng([settings.seed, _TABLES, j])
            values = draw_values(size, function.arity, settings.function_family, rng)
            tables.append(Table(values, draw_seen(size, function.arity, ratio, rng)))
        return tables
    by_arity: dict[int, Table] = {}
    narrowest = min(function.arity for function in graph.functions)
    for arity in sorted({function.arity for function in graph.functions}):
        rng = np.random.default_rng([settings.seed, _TABLES, arity - narrowest])
        if arity == narrowest:
            values = draw_values(size, arity, settings.function_family, rng)
        else:
            values = fold(by_arity[narrowest].values, arity)
        by_arity[arity] = Table(values, draw_seen(size, arity, ratio, rng))
    tables = [by_arity[function.arity] for function in graph.functions]
    if settings.separate_seen:
        for j, function in enumerate(graph.functions[1:], start=1):
            rng = np.random.default_rng([settings.seed, _TABLES, j, 1])
            own = draw_seen(size, function.arity, ratio, rng)
            tables[j] = Table(tables[j].values, own)
    return tables


def _draw_held_out(
    graph: TaskGraph,
    settings: WorldSettings,
    values: list[np.ndarray],
    seen: list[np.ndarray],
    train: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """Test items, validation items, and how many compositions of each type are not in ``train``."""
    test, validation, available = {}, {}, {}
    for kind, size, into in (
        (_TEST, settings.test_size_for_type, test),
        (_VALIDATION, settings.validation_size, validation),
    ):
        rng = np.random.default_rng([settings.seed, kind])
        count = min(size, len(train))
        if size:
            into[TRAIN_INFERRED] = train[np.sort(rng.choice(len(train), count, replace=False))]
    for number, label in enumerate(graph.type_labels):
        bits = graph.type_seen(label)
        masks = [mask if bit else ~mask for mask, bit in zip(seen, bits, strict=True)]
        space = CompositionSpace(graph, values, masks)
        known = train if label == "type_0" else train[:0]
        rng = np.random.default_rng([settings.seed, _TEST, number])
        test[label] = space.sample_outside(settings.test_size_for_type, known, rng)
        available[label] = space.size - len(known)
        if settings.validation_size:
            rng = np.random.default_rng([settings.seed, _VALIDATION, number])
            taken = np.concatenate([known, test[label]])
            validation[label] = space.sample_outside(settings.validation_size, taken, rng)
    return test, validation, available


def bridge_counts(world: World, value: str) -> Mapping[str, np.ndarray]:
    """How often each token is the value ``value``: ``(|X|,)`` counts by what is counted.

    ``"table"`` counts the function's facts, ``"train"`` the training items.
    """

    index = [function.output for function in world.graph.functions].index(value)
    table = world.tables[index].values
    in_train = evaluate(world.graph, [t.values for t in world.tables], world.train)[value]
    size = world.settings.num_tokens
    return {
        "table": np.bincount(table.reshape(-1), minlength=size),
        "train": np.bincount(in_train, minlength=size),
    }

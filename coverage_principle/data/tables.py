"""Primitive functions as tables, and evaluation of a task graph on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import Function, TaskGraph


@dataclass(frozen=True)
class Table:
    """A primitive function over the alphabets of its arguments.

    ``values`` has an axis for each argument, int32: the output for each call, -1 where the call is
    undefined. ``expected_seen`` has the same shape, bool: the calls that training compositions may
    use. ``listed``: whether its calls may be items, as single facts.
    """

    values: np.ndarray
    expected_seen: np.ndarray
    listed: bool = True

    __repr__ = one_line


def draw_values(
    shape: tuple[int, ...], outputs: int, family: str, rng: np.random.Generator
) -> np.ndarray:
    """One function's table, int32 below ``outputs``, of one of ``FUNCTION_FAMILIES``.

    ``shape`` holds the size of each argument's alphabet. ``InputError`` for a commutative function
    of arguments from different alphabets.
    """
    if family not in _DRAW:
        raise InputError(f"`function_family` {family} is not one of {', '.join(_DRAW)}")
    if family == "commutative" and len({*shape}) > 1:
        sizes = " and ".join(map(str, shape))
        raise InputError(
            f"`function_family` commutative needs arguments of one alphabet, not of {sizes} tokens"
        )
    return _DRAW[family](shape, outputs, rng).astype(np.int32, copy=False)


def _random(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, outputs, size=shape, dtype=np.int32)


def _commutative(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> np.ndarray:
    values = _random(shape, outputs, rng)
    return values[tuple(np.sort(np.indices(shape, dtype=np.int32), axis=0))]


def _modular(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> np.ndarray:
    constant = int(rng.integers(0, outputs))
    total = reduce(np.add, np.indices(shape, dtype=np.int32, sparse=True), constant)
    return total % outputs


def _balanced(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> np.ndarray:
    """Every output as often as any other, to within one."""
    return rng.permutation(np.arange(prod(shape)) % outputs).reshape(shape)


#: The function that draws a table of each of ``settings.FUNCTION_FAMILIES``.
_DRAW = dict(random=_random, commutative=_commutative, modular=_modular, balanced=_balanced)


def draw_seen(shape: tuple[int, ...], ratio: float, rng: np.random.Generator) -> np.ndarray:
    """``round(ratio * calls)`` random calls of a table of this shape, as a bool array."""
    size = prod(shape)
    seen = np.zeros(size, dtype=bool)
    seen[rng.permutation(size)[: round(ratio * size)]] = True
    return seen.reshape(shape)


def fold(values: np.ndarray, arity: int) -> np.ndarray:
    """A two-argument table applied from the left to ``arity`` arguments: f(f(a, b), c) ..."""
    arguments = np.indices((len(values),) * arity, sparse=True)
    return reduce(lambda left, right: values[left, right], arguments)


def node_sizes(graph: TaskGraph, tables: Sequence[np.ndarray]) -> dict[str, int]:
    """The number of tokens of every slot and intermediate value, as the tables' axes tell."""
    return {
        source: size
        for function, table in zip(graph.functions, tables, strict=True)
        for source, size in zip(function.sources, table.shape, strict=True)
    }


def call_arguments(function: Function, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The arguments of one function's calls: an index into its table."""
    return tuple(values[source] for source in function.sources)


def evaluate(
    graph: TaskGraph, tables: Sequence[np.ndarray], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Every value of the task for a batch of inputs.

    ``inputs`` is ``(n, number of slots)``; ``tables`` holds each function's values in the graph's
    order. Returns ``{slot or value name: (n,) array}``. A call that is undefined or unknown
    (-1) gives -1, and so does everything computed from it.
    """
    values = dict(zip(graph.inputs, inputs.T, strict=True))
    for function, table in zip(graph.functions, tables, strict=True):
        arguments = call_arguments(function, values)
        output = table[arguments]
        for argument in arguments:
            output = np.where(argument < 0, -1, output)
        values[function.output] = output
    return values


def seen_calls(
    graph: TaskGraph, tables: Sequence[np.ndarray], inputs: np.ndarray
) -> list[np.ndarray]:
    """For each function, a bool array shaped like its table: calls that ``inputs`` make.

    A call with an argument that the tables do not tell is left out.
    """
    values = evaluate(graph, tables, inputs)
    masks = [np.zeros(table.shape, dtype=bool) for table in tables]
    for function, mask in zip(graph.functions, masks, strict=True):
        arguments = call_arguments(function, values)
        known = np.logical_and.reduce([argument >= 0 for argument in arguments])
        # As an index an unknown argument, -1, would be the last token.
        mask[arguments if known.all() else tuple(a[known] for a in arguments)] = True
    return masks

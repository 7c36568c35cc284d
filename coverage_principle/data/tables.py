"""Primitive functions as tables, and evaluation of a task graph on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph


@dataclass(frozen=True)
class Table:
    """A primitive function over X = {0..n-1}.

    ``values`` has shape ``(n,) * arity``, int32: the output for each call. ``expected_seen`` has
    the same shape, bool: the calls that training compositions may use.
    """

    values: np.ndarray
    expected_seen: np.ndarray


def draw_values(num_tokens: int, arity: int, family: str, rng: np.random.Generator) -> np.ndarray:
    """One function's table, ``(num_tokens,) * arity`` int32, of one of ``FUNCTION_FAMILIES``."""
    if family not in _DRAW:
        raise InputError(f"`function_family` {family} is not one of {', '.join(_DRAW)}")
    return _DRAW[family]((num_tokens,) * arity, rng).astype(np.int32, copy=False)


def _random(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, shape[0], size=shape, dtype=np.int32)


def _commutative(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = _random(shape, rng)
    return values[tuple(np.sort(np.indices(shape, dtype=np.int32), axis=0))]


def _modular(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    constant = int(rng.integers(0, shape[0]))
    total = reduce(np.add, np.indices(shape, dtype=np.int32, sparse=True), constant)
    return total % shape[0]


def _balanced(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Every output as often as any other, to within one."""
    return rng.permutation(np.arange(prod(shape)) % shape[0]).reshape(shape)


#: The function that draws a table of each of ``settings.FUNCTION_FAMILIES``.
_DRAW = dict(random=_random, commutative=_commutative, modular=_modular, balanced=_balanced)


def draw_seen(num_tokens: int, arity: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """``round(ratio * |X|**arity)`` random calls as a bool array shaped like the table."""
    size = num_tokens**arity
    seen = np.zeros(size, dtype=bool)
    seen[rng.permutation(size)[: round(ratio * size)]] = True
    return seen.reshape((num_tokens,) * arity)


def fold(values: np.ndarray, arity: int) -> np.ndarray:
    """A two-argument table applied from the left to ``arity`` arguments: f(f(a, b), c) ..."""
    arguments = np.indices((len(values),) * arity, sparse=True)
    return reduce(lambda left, right: values[left, right], arguments)


def call_arguments(function: Function, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The arguments of one function's calls: an index into its table."""
    return tuple(values[source] for source in function.sources)


def evaluate(
    graph: TaskGraph, tables: Sequence[np.ndarray], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Every value of the task for a batch of inputs.

    ``inputs`` is ``(n, number of slots)``; ``tables`` holds each function's values in the graph's
    order. Returns ``{slot or value name: (n,) array}``. A call whose entry is unknown (-1) gives
    -1, and so does everything computed from it.
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
    """For each function, a bool array shaped like its table: calls that ``inputs`` make."""
    values = evaluate(graph, tables, inputs)
    masks = [np.zeros(table.shape, dtype=bool) for table in tables]
    for function, mask in zip(graph.functions, masks, strict=True):
        mask[call_arguments(function, values)] = True
    return masks

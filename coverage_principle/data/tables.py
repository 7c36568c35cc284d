"""Primitive functions as tables, and evaluation of a task graph on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from coverage_principle.errors import InputError
from coverage_principle.tasks import Function, TaskGraph

#: Facts that one table may have. Tables are held whole, and a generator needs about 90 bytes a fact
#: at its peak, so this is 24 GiB: beyond it a refusal is better than a machine that swaps.
MOST_FACTS = 2**28

#: How a function's table is drawn; the docstring of ``draw_values`` says what each means.
FUNCTION_FAMILIES = ("random", "commutative", "modular", "balanced")


@dataclass(frozen=True)
class Table:
    """A primitive function over X = {0..n-1}.

    ``values`` has shape ``(n,) * arity``, int32: the output for each call. ``expected_seen`` has
    the same shape, bool: the calls that training compositions may use.
    """

    values: np.ndarray
    expected_seen: np.ndarray


def draw_values(num_tokens: int, arity: int, family: str, rng: np.random.Generator) -> np.ndarray:
    """One function's table, ``(num_tokens,) * arity`` int32, of a family:

    ``random``       every output uniform and independent;
    ``commutative``  the same, but equal for all orders of the arguments;
    ``modular``      the sum of the arguments and a random constant, modulo |X|;
    ``balanced``     random, but every output occurs equally often (to within one).
    """
    shape = (num_tokens,) * arity
    if family == "random":
        return rng.integers(0, num_tokens, size=shape, dtype=np.int32)
    if family == "commutative":
        values = rng.integers(0, num_tokens, size=shape, dtype=np.int32)
        return values[tuple(np.sort(np.indices(shape, dtype=np.int32), axis=0))]
    if family == "modular":
        constant = int(rng.integers(0, num_tokens))
        total = reduce(np.add, np.indices(shape, dtype=np.int32, sparse=True), constant)
        return (total % num_tokens).astype(np.int32)
    if family == "balanced":
        values = np.arange(num_tokens**arity, dtype=np.int64) % num_tokens
        return rng.permutation(values).astype(np.int32).reshape(shape)
    raise InputError(f"--function_family {family} is not one of {', '.join(FUNCTION_FAMILIES)}")


def draw_seen(
    num_tokens: int, arity: int, seen_ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """``round(seen_ratio * |X|**arity)`` random calls as a bool array shaped like the table."""
    size = num_tokens**arity
    seen = np.zeros(size, dtype=bool)
    seen[rng.permutation(size)[: round(seen_ratio * size)]] = True
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
    values: dict[str, np.ndarray] = {
        slot: inputs[:, position] for position, slot in enumerate(graph.inputs)
    }
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
    masks = []
    for function, table in zip(graph.functions, tables, strict=True):
        mask = np.zeros(table.shape, dtype=bool)
        mask[call_arguments(function, values)] = True
        masks.append(mask)
    return masks

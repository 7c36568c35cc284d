"""What a notebook's user gives, as arrays and numbers: items, layers, positions."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

import numpy as np

from coverage_principle.data import Dataset
from coverage_principle.errors import InputError


def read_values(dataset: Dataset, items: str | Iterable[str] | np.ndarray) -> np.ndarray:
    """Values ``(n, slots)`` int32 of `items`: a text, several, or an integer array of values.

    ``InputError`` names the first that is no input of the task, counted from 0.
    """
    given = items if np.iterable(items) and not isinstance(items, str) else [items]
    if not isinstance(given, np.ndarray):
        given = list(given)
    if not len(given):
        raise InputError("`items` is empty")
    if all(isinstance(one, str) for one in given):
        return np.stack([_parsed(dataset, place, one) for place, one in enumerate(given)])
    return _checked(dataset, given)


def _parsed(dataset: Dataset, place: int, text: str) -> np.ndarray:
    try:
        return dataset.parse(text)
    except InputError as error:
        raise InputError(f"`items` [{place}]: {error}") from None


def _checked(dataset: Dataset, given: Sequence | np.ndarray) -> np.ndarray:
    slots, sizes = dataset.graph.inputs, dataset.slot_sizes
    try:
        values = np.asarray(given)
    except ValueError:  # rows of different lengths
        values = np.asarray(given, dtype=object)
    if values.ndim != 2 or values.shape[1] != len(slots) or values.dtype.kind not in "iu":
        wanted = f"texts such as {dataset.text(np.zeros(len(slots), int))!r}"
        array = f"an integer array (n, {len(slots)}) of values of {', '.join(slots)}"
        found = f"found {values.dtype} {values.shape}"
        raise InputError(f"`items` must be {wanted}, or {array}; {found}")
    outside = (values < 0) | (values >= np.array(sizes))
    if outside.any():
        row, slot = np.argwhere(outside)[0]
        last, value = sizes[slot] - 1, values[row, slot]
        there = f"{slots[slot]}, where values go from 0 to {last}"
        raise InputError(f"`items` [{row}] has the value {value} at {there}")
    return values.astype(np.int32)


def read_layer(layers: Sequence[int], layer: int, stream: str) -> int:
    """A `layer` that is one of ``layers``, else ``InputError``."""
    if (number := _whole(layer)) not in layers:
        ends = f"layer {layers[0]}"
        if len(layers) > 1:
            ends = f"layers {layers[0]} to {layers[-1]}"
        raise InputError(f"`layer` {layer!r} does not exist: `stream` {stream} has {ends}")
    return number


def read_position(names: Sequence[str], position: int | str, setting: str = "position") -> int:
    """A `position` by its number, from 0, or its name, else ``InputError``."""
    if position in names and names.count(position) == 1:
        return names.index(position)
    if (number := _whole(position)) not in range(len(names)):
        there = ", ".join(f"{place} ({name})" for place, name in enumerate(names))
        raise InputError(f"`{setting}` {position!r} does not exist: positions are {there}")
    return number


def read_pairs(
    names: Sequence[str], pairs: Iterable[tuple[int, int | str]] | None
) -> tuple[tuple[int, int], ...] | None:
    """`pairs` of layer and position as numbers; ``InputError`` for what is no such pair."""
    if pairs is None:
        return None
    found = []
    for pair in pairs if isinstance(pairs, Iterable) else [pairs]:
        if not isinstance(pair, Iterable) or len(pair := tuple(pair)) != 2:
            wanted = "pairs of layer and position, such as [(1, 'x2')]"
            raise InputError(f"`pairs` must be {wanted}, not {pair!r}")
        if (layer := _whole(pair[0])) is None:
            raise InputError(f"`pairs`: layer {pair[0]!r} is not a whole number")
        found.append((layer, read_position(names, pair[1], "pairs")))
    if not found:
        raise InputError("`pairs` is empty; None stands for all layers and positions")
    return tuple(found)


def _whole(value: object) -> int | None:
    """A whole number, of numpy too; None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None

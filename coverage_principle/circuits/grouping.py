"""What states are grouped by, and the token sequences that states are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.data import FILLER, Dataset, evaluate
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph


@dataclass(frozen=True)
class Grouping:
    """Group items by the joint value of ``keys``: intermediate values, the answer, input slots.

    ``fragment`` are the input slots that determine the key; one item is used for each. ``unseen``
    are the coverage types in which the calls behind all of the keys' values are unseen.
    """

    keys: tuple[str, ...]
    fragment: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def name(self) -> str:
        return ",".join(self.keys)

    def codes(self, dataset: Dataset, inputs: np.ndarray) -> np.ndarray:
        """The group of each input (n, slots): (n,) int64, the value itself for a single key.

        ``InputError`` if the data set's atomic facts do not give a value.
        """
        values = evaluate(dataset.graph, dataset.tables(), inputs)
        columns = np.stack([values[key] for key in self.keys], axis=1)
        unknown = int((columns < 0).any(axis=1).sum())
        if unknown:
            raise InputError(
                f"{dataset.path}: the atomic facts do not give {self.name!r} of {unknown} test "
                "items"
            )
        return encode_rows(columns, dataset.num_tokens)


def grouping_of(graph: TaskGraph, wanted: int | str) -> Grouping:
    """A grouping by the output of function ``wanted`` (from 1), or by keys such as ``"b,x2"``.

    A key of input slots alone keeps every item. ``InputError`` lists what there is.
    """
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(graph.functions):
            raise InputError(
                f"--atomic_idx {wanted} does not exist: task {graph.name} has the functions "
                f"{', '.join(f.name for f in graph.functions)} (1 to {len(graph.functions)})"
            )
        wanted = graph.functions[wanted - 1].output
    keys = tuple(part.strip() for part in wanted.split(","))
    known = (*graph.inputs, *graph.bridges, graph.answer)
    for key in keys:
        if key not in known or keys.count(key) > 1:
            raise InputError(
                f"--group_by {wanted}: task {graph.name} can be grouped by {', '.join(known)}, or "
                "several of them with a comma between"
            )
    values = [key for key in keys if key not in graph.inputs]
    slots = set(graph.inputs) if not values else set(keys) - set(values)
    for value in values:
        slots |= set(graph.fragment(value))
    own = [graph.functions.index(graph.function_of(value)) for value in values]
    unseen = tuple(
        label
        for label in graph.type_labels[1:]
        if not any(graph.type_seen(label)[index] for index in own)
    )
    return Grouping(keys, tuple(s for s in graph.inputs if s in slots), unseen)


@dataclass(frozen=True)
class Layout:
    """What the tokens of a data set's sequences are: inputs, then bridges or filler, then answer.

    ``names`` has a name for every token up to and including the answer; ``inputs`` is the number of
    input slots; ``emitted`` are the values that a model emits after the prompt, the answer last;
    ``prompt`` is the number of tokens before the first of them (filler is part of the prompt: no
    value depends on it).
    """

    names: tuple[str, ...]
    inputs: int
    prompt: int
    emitted: tuple[str, ...]


def layout_of(dataset: Dataset) -> Layout:
    """The layout of a data set with the answer alone, with bridges, or with filler.

    ``InputError`` if the targets have another length than any of these.
    """
    graph, targets = dataset.graph, dataset.train.targets
    slots, width = len(graph.inputs), targets.shape[1]
    if width == 1:
        return Layout((*graph.inputs, graph.answer), slots, slots, (graph.answer,))
    if FILLER in dataset.codec.vocabulary:
        filler = dataset.codec.encode(FILLER)[0]
        if (targets[:, :-1] == filler).all():
            names = (*graph.inputs, *[FILLER] * (width - 1), graph.answer)
            return Layout(names, slots, slots + width - 1, (graph.answer,))
    if width != len(graph.bridges) + 1:
        raise InputError(
            f"{dataset.name}: targets of {width} tokens are neither the answer alone nor the "
            f"{len(graph.bridges)} bridges of task {graph.name} and the answer"
        )
    emitted = (*graph.bridges, graph.answer)
    return Layout((*graph.inputs, *emitted), slots, slots, emitted)


def sequences(dataset: Dataset, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """The tokens of test items ``rows``, input and target without the end: (n, tokens) int32."""
    return np.concatenate([dataset.test.inputs[rows], dataset.test.targets[rows]], axis=1)

"""Which test items an analysis looks at, grouped by what, and the tokens they are made of.

The same items serve every analysis: splits, k-cutoff groups, one item for each fragment.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.data import (
    ANNOTATED,
    FILLER,
    Dataset,
    Split,
    annotated_records,
    evaluate,
    record_column,
)
from coverage_principle.data.space import check_domain, encode_rows
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TRAIN_INFERRED, TaskGraph, base_type
from simpletransformers.words import counted

logger = logging.getLogger(__name__)

#: k-cutoff groups of the paper's figures, used when the data set has k-cutoffs.
PAPER_K_GROUPS = "0-2,3+"
#: One group for each k-cutoff that there is.
EACH = "each"


@dataclass(frozen=True)
class Grouping:
    """Group items by the joint value of ``keys``: intermediate values, the answer, input slots.

    ``fragment`` are the input slots that determine the key; one item is used for each. ``unseen``
    are the coverage types in which the calls behind all of the keys' values are unseen; these are
    calls of ``functions``.
    """

    keys: tuple[str, ...]
    fragment: tuple[str, ...]
    unseen: tuple[str, ...]
    functions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ",".join(self.keys)

    def out_of_domain(self, present: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Splits of the types in ``unseen``, of which a data set has those that are ``present``.

        ``ood``, and where there are such items ``ood_fact``: all of these calls are known as facts.
        """
        with_facts = [t for t in present if base_type(t) != t and base_type(t) in self.unseen]
        known = [t for t in with_facts if {*self.functions} <= {*t.split("+")}]
        splits = {"ood": (*self.unseen, *(t for t in with_facts if t not in known))}
        return splits | ({"ood_fact": tuple(known)} if known else {})

    def codes(self, dataset: Dataset, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """The group of each input (n, slots): (n,) int64, the value itself for a single key.

        ``answers`` (n,) are the inputs' own.

        ``InputError`` if the data set's atomic facts do not give a value.
        """
        values = dataset.values(inputs, answers)
        columns = np.stack([values[key] for key in self.keys], axis=1)
        unknown = int((columns < 0).any(axis=1).sum())
        if unknown:
            lack = f"do not give {self.name!r} of {counted(unknown, 'test item')}"
            raise InputError(f"{dataset.path}: the atomic facts {lack}")
        sizes = dataset.sizes(self.keys)
        check_domain(sizes, f"`group_by` {self.name} has too many keys")
        return encode_rows(columns, sizes)


def grouping_of(graph: TaskGraph, wanted: int | str) -> Grouping:
    """A grouping by the output of function ``wanted`` (1, ``"1"``), or by keys such as ``"b,x2"``.

    A key of input slots alone keeps every item. ``InputError`` lists what there is.
    """
    if str(wanted).isdecimal():
        if not 1 <= int(wanted) <= len(graph.functions):
            raise InputError(
                f"`group_by` {wanted} does not exist: task {graph.name} has the functions "
                f"{', '.join(f.name for f in graph.functions)} (1 to {len(graph.functions)})"
            )
        wanted = graph.functions[int(wanted) - 1].output
    keys = tuple(part.strip() for part in wanted.split(","))
    known = (*graph.inputs, *graph.bridges, graph.answer)
    for key in keys:
        if key not in known or keys.count(key) > 1:
            raise InputError(
                f"`group_by` {wanted}: task {graph.name} can be grouped by {', '.join(known)}, or "
                "several of them with a comma between"
            )
    values = [key for key in keys if key not in graph.inputs]
    slots = set(keys if values else graph.inputs).union(*map(graph.fragment, values))
    own = [graph.functions.index(graph.function_of(value)) for value in values]
    seen = {label: graph.type_seen(label) for label in graph.type_labels[1:]}
    unseen = tuple(label for label in seen if not any(seen[label][index] for index in own))
    fragment = tuple(s for s in graph.inputs if s in slots)
    return Grouping(keys, fragment, unseen, tuple(graph.functions[j].name for j in own))


@dataclass(frozen=True)
class Layout:
    """What the tokens of a data set's sequences are: inputs, then bridges or filler, then answer.

    ``names`` has a name for every token up to and including the answer; ``inputs`` is the number of
    input slots; ``emitted`` are the values that a model emits after the prompt, the answer last;
    ``prompt`` is the number of tokens before the first of them, filler included.
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
            f"{dataset.name}: targets of {counted(width, 'token')} are neither the answer alone "
            f"nor the {counted(len(graph.bridges), 'bridge')} of task {graph.name} and the answer"
        )
    emitted = (*graph.bridges, graph.answer)
    return Layout((*graph.inputs, *emitted), slots, slots, emitted)


def can_be_known(
    graph: TaskGraph, names: Sequence[str], keys: Sequence[str], layer: int, position: int
) -> bool:
    """Whether the state at a layer and position can hold the joint value of ``keys`` at all.

    ``names`` say what each token is (``Layout.names``): a slot, or an emitted value. Attention
    looks back only, so a state knows the tokens up to its own, at layer 0 (an embedding) its own
    alone, and what follows from these by the functions of the task.

    For 2-hop, b = f1(x1, x2) cannot be in a state at x1:

    >>> from coverage_principle.tasks import TASKS
    >>> [can_be_known(TASKS["twohop"], ("x1", "x2", "x3"), ("b",), 1, p) for p in range(3)]
    [False, True, True]
    """
    known = set(names[0 if layer else position : position + 1])
    for function in graph.functions:  # in evaluation order
        if known.issuperset(function.sources):
            known.add(function.output)
    return known.issuperset(keys)


def sequences(
    dataset: Dataset, rows: Sequence[int] | np.ndarray, split: Split | None = None
) -> np.ndarray:
    """Ids of items ``rows``, input and target without the end: (n, tokens) int32.

    The items are the data set's test items, or those of ``split``.
    """
    items = dataset.test if split is None else split
    inputs = dataset.ids(items.inputs[rows], dataset.graph.inputs)
    return np.concatenate([inputs, items.targets[rows]], axis=1)


def token_ids(dataset: Dataset, inputs: np.ndarray, length: int) -> np.ndarray:
    """Ids of the first ``length`` tokens of any compositions ``(n, slots)``: (n, length) int32.

    What comes after the input is filler, or the bridges and the answer by the tables.
    ``InputError`` if these are asked for and the tables do not give them.
    """
    layout, graph = layout_of(dataset), dataset.graph
    values = evaluate(graph, dataset.tables(), inputs) if length > layout.prompt else {}
    columns = [dataset.ids(inputs, graph.inputs)[:, :length]]
    for name in layout.names[layout.inputs : length]:
        if name == FILLER:
            columns.append(np.full((len(inputs), 1), dataset.codec.encode(FILLER)[0]))
            continue
        if (unknown := values[name] < 0).any():
            first = dataset.text(inputs[np.argmax(unknown)])
            raise InputError(f"the atomic facts of {dataset.name} do not give {name} of {first}")
        columns.append(dataset.ids(values[name][:, None], [name]))
    return np.concatenate(columns, axis=1, dtype=np.int32)


@dataclass(frozen=True)
class KGroup:
    """k-cutoffs from ``low`` to ``high``, both included; ``high`` is None for no upper bound."""

    name: str
    low: int
    high: int | None

    def holds(self, cutoffs: np.ndarray) -> np.ndarray:
        inside = cutoffs >= self.low
        return inside if self.high is None else inside & (cutoffs <= self.high)


def parse_k_groups(text: str) -> list[KGroup]:
    """``"1-2,3,4+"`` as groups. ``InputError`` for anything else, and for ``2-1``."""
    groups = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)|(\+))?\s*", part)
        low = int(match[1]) if match else 0
        high = None if match and match[3] else int(match[2] or low) if match else -1
        if high is not None and high < low:
            raise InputError(f"`k_groups` {text!r} are no k-cutoffs; write them like 1-2,3,4+")
        groups.append(KGroup(part.strip(), low, high))
    return groups


def read_k_cutoffs(dataset: Dataset) -> np.ndarray | None:
    """The k-cutoff of each test item, ``(n,)`` int64, -1 for items that have none.

    None if ``determine_coverage.py --k_sweep`` has not annotated the data set. ``InputError`` if
    the annotations are not those of its test items.
    """
    if not (dataset.path / ANNOTATED).exists():
        return None
    records = annotated_records(dataset)[: len(dataset.test)]  # single facts come after
    cutoffs, numbers = record_column(records, "k_cutoff")
    if all(cutoff is None for cutoff in cutoffs):  # annotated at one k only
        return None
    held = np.array([-1 if cutoff is None else cutoff for cutoff in cutoffs], dtype=np.int64)
    return held[numbers]


def k_groups_of(dataset: Dataset, wanted: str | None) -> tuple[list[KGroup], np.ndarray | None]:
    """The k-cutoff groups to use and every test item's k-cutoff.

    ``wanted`` is the setting `k_groups`: ``none``, ``each``, groups, or None for those of the
    paper if the data set has k-cutoffs. ``InputError`` if groups are asked for and it has none.
    """
    if wanted == "none":
        return [], None
    cutoffs = read_k_cutoffs(dataset)
    if cutoffs is None and wanted is not None:
        needed = f"k-cutoffs in {dataset.path / ANNOTATED}; run determine_coverage.py --k_sweep"
        raise InputError(f"`k_groups` {wanted} needs {needed} first")
    if cutoffs is None:
        return [], None
    if wanted == EACH:
        wanted = ",".join(str(k) for k in np.unique(cutoffs[cutoffs >= 0])) or "0+"
    groups = parse_k_groups(wanted or PAPER_K_GROUPS)
    if wanted is None:  # a default must not stand in anybody's way
        type_0 = cutoffs[dataset.test.types == "type_0"]
        groups = groups if any(group.holds(type_0).any() for group in groups) else []
    return groups, cutoffs


@dataclass(frozen=True)
class ItemSplit:
    """Some test items: ``rows`` into the test split, out of ``available`` before deduplication.

    ``explained`` are its ``types`` with their words, for a reader.
    """

    types: tuple[str, ...]
    explained: tuple[str, ...]
    rows: np.ndarray
    available: int

    __repr__ = one_line

    def about(self, **more: object) -> dict[str, object]:
        """What a result file says of the split."""
        types = {"types": list(self.types), "explained": list(self.explained)}
        return types | {"items": self.available, **more}


def item_splits(
    dataset: Dataset,
    grouping: Grouping,
    *,
    out_of_domain: bool,
    k_groups: Sequence[KGroup] = (),
    cutoffs: np.ndarray | None = None,
    max_items: int | None = None,
    every_item: bool = False,
) -> dict[str, ItemSplit]:
    """Test items by split, one for each fragment of the grouping's key (the first in the file).

    With ``every_item``, one for each input.

    Splits: ``id_train`` (``train_inferred``); ``id_test`` (``type_0``); with ``out_of_domain``,
    ``ood``: the types in which the calls behind the key are unseen, and, if there are such items,
    ``ood_fact``: those in which they are known as facts only; and ``id_test/k_cutoff=<group>`` for
    each k-cutoff group. A k-cutoff belongs to an item and not to
    its fragment, so a group keeps its own first item of each fragment. A group without items gives
    a warning; ``InputError`` if all of them are empty.
    """
    graph, test = dataset.graph, dataset.test
    types = {"id_train": (TRAIN_INFERRED,), "id_test": ("type_0",)}
    if out_of_domain:
        types |= grouping.out_of_domain(np.unique(test.types).tolist())
    masks = {name: np.isin(test.types, own) for name, own in types.items()}
    for group in k_groups:
        name = f"id_test/k_cutoff={group.name}"
        types[name], masks[name] = ("type_0",), masks["id_test"] & group.holds(cutoffs)
    _refuse_empty(k_groups, cutoffs[masks["id_test"]] if k_groups else None)
    fragment = graph.inputs if every_item else grouping.fragment
    columns = [graph.inputs.index(slot) for slot in fragment]
    codes = encode_rows(test.inputs[:, columns], dataset.sizes(fragment))
    splits = {}
    for name, mask in masks.items():
        rows = np.flatnonzero(mask)
        _, first = np.unique(codes[rows], return_index=True)
        words = tuple(map(graph.explained, types[name]))
        splits[name] = ItemSplit(types[name], words, rows[np.sort(first)][:max_items], len(rows))
    return splits


def _refuse_empty(k_groups: Sequence[KGroup], cutoffs: np.ndarray | None) -> None:
    """Say which k-cutoff groups hold no type_0 item, and which k-cutoffs there are."""
    empty = [group.name for group in k_groups if not group.holds(cutoffs).any()]
    if not empty:
        return
    there = ", ".join(str(k) for k in np.unique(cutoffs[cutoffs >= 0])) or "none"
    say = f"no type_0 item has a k-cutoff in {' or '.join(empty)} (there are: {there})"
    if len(empty) == len(k_groups):
        raise InputError(f"`k_groups` {','.join(empty)}: {say}")
    logger.warning("warning: %s; the group is left empty", say)


def union_of(splits: Mapping[str, ItemSplit]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All rows that occur, ascending, and for each split its places among them."""
    rows = np.unique(np.concatenate([split.rows for split in splits.values()]))
    return rows, {name: np.searchsorted(rows, split.rows) for name, split in splits.items()}

"""A world of entities in the files that GrokkedTransformer's code reads.

``train.json`` holds facts, then compositions. Test items are those of our own format that have a
type there: facts in and out of domain, training items, unseen compositions whose every call is
seen, and compositions of facts that are all out of domain; ``valid.json`` holds the last. The
vocabulary ends in six special tokens. A comparison is ``<attr_3><q><e_1><mask><e_2>``, and each
attribute has three answers of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np

from coverage_principle.data.contents import Facts, Items
from coverage_principle.data.files import Content, dump_json
from coverage_principle.data.formats import RecordWriter, versions
from coverage_principle.data.grokked import ANSWERS
from coverage_principle.data.line_texts import json_list
from coverage_principle.data.tables import call_arguments, evaluate
from coverage_principle.data.vocabulary import END, Codec
from coverage_principle.data.worlds import World
from coverage_principle.errors import InputError
from coverage_principle.tasks import TRAIN_INFERRED, Function, TaskGraph

_SPECIAL = ("<mask>", "<sep>", "<a>", END, "<q>", "</q>")
#: A comparison with its constants, each an alphabet of one token.
_COMPARISON = TaskGraph(
    "comparison",
    ("a", "q", "e1", "mask", "e2"),
    (Function("f", "t", ("a", "q", "e1", "mask", "e2")),),
    (
        *(("a", "attribute"), ("q", "<q>"), ("e1", "entity")),
        *(("mask", "<mask>"), ("e2", "entity"), ("t", "answer")),
    ),
)


def layout_dataset(world: World) -> tuple[dict[str, Content], dict]:
    """The files of a world of entities, name -> content, and its metadata.

    ``InputError`` for a world with wrong labels, since nothing there could tell them.
    """
    if world.noisy:
        raise InputError(
            "`layout` grokked has no place to say which labels are wrong; omit `label_noise`"
        )
    layout = _Layout(world)
    test = [*_facts(world), *_held_out(world, world.test)]
    valid = [*_held_out(world, world.validation)] or [
        part for part in test if part.label == "test_inferred_ood"
    ]
    train = [*world.facts, Items(world.train)]
    files: dict[str, Content] = {"vocab.json": dump_json(layout.codec.vocabulary)}
    for name, parts in {"train": train, "test": test, "valid": valid}.items():
        files[f"{name}.json"] = json_list(chain.from_iterable(map(layout.lines, parts)))
    counts: Counter = Counter()
    for part in test:
        counts[part.label] += len(part)
    return files, {
        "layout": "grokked",
        "arguments": dict(world.settings.arguments()),
        "counts": {
            "train": len(world.train),
            "atomic_facts_in_train": sum(map(len, world.facts)),
            "test": dict(counts),
        },
        "versions": versions(),
    }


class _Layout:
    """Turns compositions and facts into lines."""

    def __init__(self, world: World) -> None:
        self._graph = world.graph
        self._tables = [table.values for table in world.tables]
        alphabets = {n: list(t) for n, t in world.alphabets.items() if n != "answer"}
        # Entities come first there.
        alphabets = {"entity": alphabets.pop("entity"), **alphabets}
        alphabets |= {token: [token] for token in _SPECIAL}
        self._compares = "attribute" in alphabets
        if self._compares:
            alphabets["answer"] = [
                f"{attribute[:-1]}_{number}>"
                for attribute in alphabets["attribute"]
                for number in range(len(ANSWERS))
            ]
        vocabulary = [token for tokens in alphabets.values() for token in tokens]
        self.codec = Codec(vocabulary, {name: len(t) for name, t in alphabets.items()})
        self._facts = RecordWriter(world.graph, self._tables, "inf", self.codec)
        self._comparisons = RecordWriter(_COMPARISON, None, "inf", self.codec)

    def lines(self, part: Items | Facts) -> Iterator[bytes]:
        if isinstance(part, Facts):
            return self._facts.facts(part)
        if not self._compares:
            return self._facts.items(part)
        attribute, first, second = part.inputs.T
        constant = np.zeros_like(attribute)
        inputs = np.stack([attribute, constant, first, constant, second], axis=1)
        answers = evaluate(self._graph, self._tables, part.inputs)[self._graph.answer]
        own = attribute * len(ANSWERS) + answers
        return self._comparisons.items(Items(inputs, own, part.label))


def _facts(world: World) -> Iterator[Facts]:
    """The facts that are test items, in and out of domain."""
    for inside, label in ((True, "id_atomic"), (False, "ood_atomic")):
        for one in world.test_facts:
            mask = world.tables[one.function].expected_seen[tuple(one.calls.T)]
            if (mask == inside).any():
                yield Facts(one.function, one.calls[mask == inside], label)


def _held_out(world: World, items: Mapping[str, np.ndarray]) -> Iterator[Items]:
    """The compositions among test or validation items that have a type in this layout."""
    for own, label in ((TRAIN_INFERRED, TRAIN_INFERRED), ("type_0", "test_inferred_iid")):
        if len(items.get(own, ())):
            yield Items(items[own], label=label)
    for own, rows in items.items():
        if own in (TRAIN_INFERRED, "type_0"):
            continue
        outside = rows[_outside(world, rows)]
        if len(outside):
            yield Items(outside, label="test_inferred_ood")


def _outside(world: World, rows: np.ndarray) -> np.ndarray:
    """Which compositions are made of facts that are all out of domain: ``(n,)`` bool."""
    graph = world.graph
    values = evaluate(graph, [table.values for table in world.tables], rows)
    outside = np.ones(len(rows), dtype=bool)
    for function, table in zip(graph.functions, world.tables, strict=True):
        if table.listed:
            outside &= ~table.expected_seen[call_arguments(function, values)]
    return outside

"""The files of a data set, in the format of ``data/README.md``."""

from __future__ import annotations

import io
import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import prod

import numpy as np

import coverage_principle
from coverage_principle.data.contents import Contents, Facts, Items
from coverage_principle.data.files import Content, dump_json
from coverage_principle.data.line_texts import TextTable, ending_text, json_list, record_rows
from coverage_principle.data.settings import FormatSettings
from coverage_principle.data.tables import Table, evaluate
from coverage_principle.data.vocabulary import FILLER, Codec, build_vocabulary
from coverage_principle.data.worlds import World
from coverage_principle.tasks import TaskGraph

#: Facts of a table beyond which ``atomic_format`` ``auto`` means ``npz``.
LARGE_TABLE = 1_000_000

_CHUNK = 16_000  # records that are turned into text at once


def dataset_files(world: World, form: FormatSettings) -> tuple[dict[str, Content], dict]:
    """The files of a generated data set, name -> content, and its metadata.

    Long files come as chunks of text that are made while they are written, so each mapping can be
    written once. ``InputError`` if the format does not fit the world.
    """
    form.check_task(world.graph, world.settings)
    contents = world_contents(world, include_atomic=form.include_atomic)
    seen = world.seen if form.atomic_facts == "seen" else None
    files = contents_files(contents, form.target_format)
    if form.atomic_facts != "none":
        files |= table_files(contents, form.atomic_format, seen)
    return files, _metadata(world, form, contents)


def world_contents(world: World, *, include_atomic: bool = False) -> Contents:
    """A world's items as the files of a data set hold them.

    ``include_atomic``: training facts are those that every function uses in training; where that is
    asked for, the functions are one.
    """
    tables = [table.values for table in world.tables]
    answers = None
    if world.noisy:
        answers = evaluate(world.graph, tables, world.train)[world.graph.answer]
        answers[list(world.noisy)] = list(world.noisy.values())
    train: list[Items | Facts] = [Items(world.train, answers)]
    if include_atomic:
        train.append(Facts(0, np.argwhere(np.logical_and.reduce(world.seen))))
    train += world.facts
    test: list[Items | Facts] = [Items(rows, label=label) for label, rows in world.test.items()]
    test += world.test_facts
    splits = {"train": train, "test": test}
    if world.validation:
        splits["valid"] = [Items(rows, label=label) for label, rows in world.validation.items()]
    return Contents(world.graph, world.alphabets, tables, splits)


def contents_files(contents: Contents, target_format: str) -> dict[str, Content]:
    """``vocab.json`` and the files of the splits; ``target_format`` as in ``RecordWriter``."""
    vocabulary = build_vocabulary(contents.alphabets, filler=target_format == "fakebridge")
    codec = Codec(vocabulary, contents.sizes())
    writer = RecordWriter(contents.graph, contents.tables, target_format, codec)
    files: dict[str, Content] = {"vocab.json": dump_json(vocabulary)}
    for name, parts in contents.splits.items():
        lines = (writer.items(p) if isinstance(p, Items) else writer.facts(p) for p in parts)
        files[f"{name}.json"] = json_list(chain.from_iterable(lines))
    return files


def table_files(
    contents: Contents, kind: str = "auto", listed: Sequence[np.ndarray] | None = None
) -> dict[str, Content]:
    """The tables of facts as files, one for each table that functions read.

    ``kind`` is one of ``FormatSettings.atomic_format``. ``listed``, a bool array for each function,
    says which facts; None: all.
    """
    codec = Codec(build_vocabulary(contents.alphabets), contents.sizes())
    writer = RecordWriter(contents.graph, contents.tables, "inf", codec)
    graph, files = contents.graph, {}
    for number, (function, table) in enumerate(zip(graph.functions, contents.tables, strict=True)):
        if any(function.table == before.table for before in graph.functions[:number]):
            continue
        mask = table >= 0
        if listed is not None:
            own = [j for j, f in enumerate(graph.functions) if f.table == function.table]
            mask = np.logical_or.reduce([listed[j] for j in own])
        auto = "npz" if table.size > LARGE_TABLE else "json"
        chosen = auto if kind == "auto" else kind
        name = f"atomic_facts_{function.table}.{chosen}"
        if chosen == "npz":
            files[name] = _npz(table, mask)
        else:
            files[name] = json_list(writer.facts(Facts(number, _Listed(mask))))
    return files


class _Listed:
    """The calls that a mask marks, in lexicographic order, made a part at a time."""

    def __init__(self, mask: np.ndarray) -> None:
        self._flat, self._shape = np.flatnonzero(mask), mask.shape

    def __len__(self) -> int:
        return len(self._flat)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.stack(np.unravel_index(self._flat[part], self._shape), axis=1)


class RecordWriter:
    """Turns items and facts into the lines of JSON records, UTF-8.

    ``target_format`` is ``inf``, ``cot`` or ``fakebridge`` (``FormatSettings.target_format``). What
    is given is chunks of many lines, with a comma and a line break between lines, but not after
    the last.
    """

    def __init__(
        self,
        graph: TaskGraph,
        tables: Sequence[np.ndarray] | None,
        target_format: str,
        codec: Codec,
    ) -> None:
        self._graph, self._tables = graph, tables
        self._format, self._codec = target_format, codec
        self._texts = TextTable.of_tokens(codec.vocabulary)

    def items(self, items: Items) -> Iterator[bytes]:
        """A line for each composition, with its type if there is one."""
        graph, codec = self._graph, self._codec
        slots = graph.alphabets_of(graph.inputs)
        for begin in range(0, len(items), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            rows, values = items.inputs[part], {}
            if items.answers is None or self._format == "cot":
                values = evaluate(graph, self._tables, rows)
            if items.answers is not None:
                values[graph.answer] = items.answers[part]
            targets = target_ids(graph, values, self._format, codec)
            yield self._lines(codec.ids(rows, slots), targets, items)

    def facts(self, facts: Facts) -> Iterator[bytes]:
        """A line for each fact."""
        function, codec = self._graph.functions[facts.function], self._codec
        sources = self._graph.alphabets_of(function.sources)
        output = [self._graph.alphabet(function.output)]
        for begin in range(0, len(facts), _CHUNK):
            calls = facts.calls[begin : begin + _CHUNK]
            results = self._tables[facts.function][tuple(calls.T)][:, None]
            yield self._lines(codec.ids(calls, sources), codec.ids(results, output), facts)

    def _lines(self, inputs: np.ndarray, targets: np.ndarray, of: Items | Facts) -> bytes:
        named = {"type": of.label, "source_type": of.source_type}
        further = {key: value for key, value in named.items() if value is not None}
        end = np.full((len(targets), 1), self._codec.end_id)
        whole = np.concatenate([targets, end], axis=1)
        ending = TextTable([ending_text(further)]), np.zeros(len(inputs), dtype=int)
        return record_rows(self._texts, inputs, whole, *ending)


def target_ids(
    graph: TaskGraph, values: Mapping[str, np.ndarray], target_format: str, codec: Codec
) -> np.ndarray:
    """``(n, m)`` ids that targets hold between input and end: bridges or filler, then the answer.

    ``values`` is what ``evaluate`` gives; what is unknown there is -1 here too.
    """
    nodes = [*graph.bridges, graph.answer] if target_format == "cot" else [graph.answer]
    columns = np.stack([values[node] for node in nodes], axis=1)
    ids = np.where(columns < 0, -1, codec.ids(columns, graph.alphabets_of(nodes)))
    if target_format == "fakebridge":
        filler = np.full((len(ids), len(graph.bridges)), codec.vocabulary.index(FILLER))
        ids = np.concatenate([filler.astype(ids.dtype), ids], axis=1)
    return ids


def _npz(table: np.ndarray, listed: np.ndarray) -> bytes:
    """The bytes of a function's ``.npz``; facts that are not listed are -1."""
    buffer = io.BytesIO()
    values = np.where(listed, table, np.int32(-1))
    np.savez_compressed(buffer, values=values)
    return buffer.getvalue()


def _metadata(world: World, form: FormatSettings, contents: Contents) -> dict:
    graph = world.graph
    written = ("target_format", "atomic_facts", "atomic_format", "include_atomic")
    sizes = contents.sizes()
    metadata = {
        "format_version": 1,
        "task": graph.to_dict(),
        "target_format": form.target_format,
        "arguments": {
            **world.settings.arguments(),
            **{name: getattr(form, name) for name in written},
        },
        **contents.alphabets_of_metadata(),
        "counts": contents.counts(),
        "compositions": {
            "domain": prod(sizes[alphabet] for alphabet in graph.alphabets_of(graph.inputs)),
            "trainable": world.trainable,
            "in_domain": world.available["type_0"] + len(world.train),
            "outside_train": world.available,
        },
        "primitives": primitives(graph, contents.tables, world.seen, world.tables),
    }
    if world.noisy:
        answers = evaluate(graph, contents.tables, world.train[list(world.noisy)])[graph.answer]
        tokens = world.alphabets[graph.alphabet(graph.answer)]
        true = [tokens[answer] for answer in answers.tolist()]
        # By record of train.json, counted from 1: what the answer would have been.
        records = (row + 1 for row in world.noisy)
        metadata["label_noise"] = dict(zip(map(str, records), true, strict=True))
    return metadata | {"versions": versions()}


def primitives(
    graph: TaskGraph,
    tables: Sequence[np.ndarray],
    seen: Sequence[np.ndarray],
    drawn: Sequence[Table] | None = None,
) -> list[dict]:
    """What metadata say of each function: its facts, and how many of them training items use.

    ``drawn`` are the tables of a generated world, which tell what was expected to be seen.
    """
    found = []
    for j, (function, table, mask) in enumerate(zip(graph.functions, tables, seen, strict=True)):
        one = {"name": function.name, "facts": int((table >= 0).sum())}
        if drawn is not None:
            one["expected_seen"] = int(drawn[j].expected_seen.sum())
        found.append(one | {"seen_in_train": int(mask.sum())})
    return found


def versions() -> dict[str, str]:
    """What a data set was made with."""
    return {
        "coverage_principle": coverage_principle.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }

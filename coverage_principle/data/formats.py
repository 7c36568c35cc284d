"""The files of a world's data set, in the format of ``data/README.md``."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain

import numpy as np

import coverage_principle
from coverage_principle.data.files import Content, dump_json
from coverage_principle.data.settings import FormatSettings
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import END, FILLER, Codec, build_vocabulary
from coverage_principle.data.worlds import World
from coverage_principle.tasks import TaskGraph

#: Facts of a table beyond which ``atomic_format`` ``auto`` means ``npz``.
LARGE_TABLE = 1_000_000

_CHUNK = 50_000  # records that are turned into text at once


def dataset_files(world: World, form: FormatSettings) -> tuple[dict[str, Content], dict]:
    """The files of a data set, name -> content, and its metadata.

    Long files come as chunks of text that are made while they are written, so each mapping can be
    written once. ``InputError`` if the format does not fit the world.
    """
    form.check_task(world.graph, world.settings)
    filler = form.target_format == "fakebridge"
    vocabulary = build_vocabulary(world.settings.num_tokens, filler=filler)
    tables = [table.values for table in world.tables]
    writer = RecordWriter(world.graph, tables, form.target_format, Codec(vocabulary))
    # Facts that every function has used in training; where they are wanted, the tables are one.
    shared = np.logical_and.reduce(world.seen) if form.include_atomic else None
    train = writer.items(world.train)
    if shared is not None:
        train = chain(train, writer.facts(tables[0], shared))
    files: dict[str, Content] = {
        "vocab.json": dump_json(vocabulary),
        "train.json": _json_list(train),
        "test.json": _json_list(_typed(writer, world.test)),
    }
    if world.validation:
        files["valid.json"] = _json_list(_typed(writer, world.validation))
    if form.atomic_facts != "none":
        for function, table, seen in zip(world.graph.functions, tables, world.seen, strict=True):
            listed = seen if form.atomic_facts == "seen" else None
            auto = "npz" if table.size > LARGE_TABLE else "json"
            kind = auto if form.atomic_format == "auto" else form.atomic_format
            as_text = kind == "json"
            content = _json_list(writer.facts(table, listed)) if as_text else _npz(table, listed)
            files[f"atomic_facts_{function.name}.{kind}"] = content
    return files, _metadata(world, form, None if shared is None else int(shared.sum()))


class RecordWriter:
    """Turns arrays of items into the lines of JSON records.

    ``target_format`` is ``inf``, ``cot`` or ``fakebridge`` (``FormatSettings.target_format``).
    """

    def __init__(
        self, graph: TaskGraph, tables: Sequence[np.ndarray], target_format: str, codec: Codec
    ) -> None:
        self._graph, self._tables = graph, tables
        self._format, self._codec = target_format, codec

    def items(self, inputs: np.ndarray, label: str | None = None) -> Iterator[str]:
        """A line for each composition, with its type if ``label`` is given."""
        ending = "" if label is None else f', "type": {json.dumps(label)}'
        for begin in range(0, len(inputs), _CHUNK):
            rows = inputs[begin : begin + _CHUNK]
            values = evaluate(self._graph, self._tables, rows)
            targets = target_rows(self._graph, values, self._format, self._codec)
            yield from self._lines(rows, targets, ending)

    def facts(self, table: np.ndarray, listed: np.ndarray | None = None) -> Iterator[str]:
        """A line for each fact of a table, in lexicographic order of its arguments.

        ``listed``, bool and shaped like the table, says which; None: all.
        """
        flat = np.arange(table.size) if listed is None else np.flatnonzero(listed)
        for begin in range(0, len(flat), _CHUNK):
            part = flat[begin : begin + _CHUNK]
            calls = np.stack(np.unravel_index(part, table.shape), axis=1)
            yield from self._lines(calls, table.reshape(-1)[part][:, None])

    def _lines(self, inputs: np.ndarray, targets: np.ndarray, ending: str = "") -> Iterator[str]:
        prompts, answers = self._codec.decode_rows(inputs), self._codec.decode_rows(targets)
        for prompt, answer in zip(prompts, answers, strict=True):
            yield f'{{"input_text": "{prompt}", "target_text": "{prompt}{answer}{END}"{ending}}}'


def target_rows(
    graph: TaskGraph, values: Mapping[str, np.ndarray], target_format: str, codec: Codec
) -> np.ndarray:
    """``(n, m)`` ids that targets hold between input and end: bridges or filler, then the answer.

    ``values`` is what ``evaluate`` gives.
    """
    answer, columns = values[graph.answer], []
    if target_format == "cot":
        columns = [values[bridge] for bridge in graph.bridges]
    elif target_format == "fakebridge":
        columns = [np.full_like(answer, codec.vocabulary.index(FILLER)) for _ in graph.bridges]
    return np.stack([*columns, answer], axis=1)


def _typed(writer: RecordWriter, groups: Mapping[str, np.ndarray]) -> Iterator[str]:
    return chain.from_iterable(writer.items(rows, label) for label, rows in groups.items())


def _json_list(lines: Iterator[str]) -> Iterator[str]:
    """A JSON list with a record a line, as chunks of text."""
    before = "[\n"
    for line in lines:
        yield before + line
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _npz(table: np.ndarray, listed: np.ndarray | None) -> bytes:
    """The bytes of a function's ``.npz``; facts that are not listed are -1."""
    buffer = io.BytesIO()
    values = table if listed is None else np.where(listed, table, np.int32(-1))
    np.savez_compressed(buffer, values=values)
    return buffer.getvalue()


def _metadata(world: World, form: FormatSettings, atomic_in_train: int | None) -> dict:
    graph = world.graph
    counts: dict[str, object] = {"train": len(world.train), "test": _lengths(world.test)}
    if atomic_in_train is not None:
        counts["atomic_facts_in_train"] = atomic_in_train
    if world.validation:
        counts["valid"] = _lengths(world.validation)
    written = ("target_format", "atomic_facts", "atomic_format", "include_atomic")
    primitives = []
    for function, table, seen in zip(graph.functions, world.tables, world.seen, strict=True):
        sums = {"expected_seen": int(table.expected_seen.sum()), "seen_in_train": int(seen.sum())}
        primitives.append({"name": function.name, "facts": int(table.values.size), **sums})
    return {
        "format_version": 1,
        "task": graph.to_dict(),
        "target_format": form.target_format,
        "arguments": {**asdict(world.settings), **{name: getattr(form, name) for name in written}},
        "counts": counts,
        "compositions": {
            "domain": world.settings.num_tokens ** len(graph.inputs),
            "trainable": world.trainable,
            "in_domain": world.available["type_0"] + len(world.train),
            "outside_train": world.available,
        },
        "primitives": primitives,
        "versions": {
            "coverage_principle": coverage_principle.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }


def _lengths(groups: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {label: len(rows) for label, rows in groups.items()}

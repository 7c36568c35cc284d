"""The files of a world's data set, in the format of ``data/README.md``."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

import coverage_principle
from coverage_principle.data.files import Content, dump_json
from coverage_principle.data.space import domain_size
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import END, FILLER, Codec, build_vocabulary
from coverage_principle.data.worlds import World
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

#: What a target holds after the input: the answer; bridges, answer; filler, answer.
TARGET_FORMATS = ("inf", "cot", "fakebridge")

#: Which facts of the tables are written: all, those that training items use, or no files at all.
ATOMIC_FACTS = ("full", "seen", "none")

#: How they are written; ``auto`` is ``npz`` for tables of more than ``LARGE_TABLE`` facts.
ATOMIC_FORMATS = ("auto", "json", "npz")
LARGE_TABLE = 1_000_000

_CHUNK = 50_000  # records that are turned into text at once


@dataclass(frozen=True)
class FormatSettings:
    """How a world is written down.

    ``include_atomic`` adds single facts to the training file, as records of their own. Only facts
    that every function has used in training are added, so that no type changes its meaning, and
    only where all functions are the same table and no fact could be taken for a composition; else
    ``check`` raises ``InputError``.
    """

    target_format: str = "inf"
    atomic_facts: str = "full"
    atomic_format: str = "auto"
    include_atomic: bool = False

    def check(self, world: World) -> None:
        """Raise ``InputError`` for a value out of range or one that does not fit the world."""
        for flag, value, allowed in (
            ("target format", self.target_format, TARGET_FORMATS),
            ("--atomic_facts", self.atomic_facts, ATOMIC_FACTS),
            ("--atomic_format", self.atomic_format, ATOMIC_FORMATS),
        ):
            if value not in allowed:
                raise InputError(f"{flag} {value!r} is not one of {', '.join(allowed)}")
        check_include_atomic(world.graph, self.include_atomic, world.settings.same_function)


def check_include_atomic(graph: TaskGraph, include_atomic: bool, same_function: bool) -> None:
    """Raise ``InputError`` if single facts cannot stand beside the task's compositions."""
    if not include_atomic:
        return
    arities = {function.arity for function in graph.functions}
    if not same_function or len(arities) > 1:
        raise InputError(
            "--include_atomic needs one function for all hops (--same_f12, --same_f123): the facts "
            "of different functions with the same arguments contradict each other"
        )
    if len(graph.inputs) in arities:
        raise InputError(
            f"--include_atomic cannot be used with task {graph.name}: its facts are as long as its "
            f"compositions ({len(graph.inputs)} tokens) and would contradict them"
        )


def dataset_files(world: World, form: FormatSettings) -> tuple[dict[str, Content], dict]:
    """The files of a data set, name -> content, and its metadata.

    Long files come as chunks of text that are made while they are written, so each mapping can be
    written once.
    """
    form.check(world)
    vocabulary = build_vocabulary(
        world.settings.num_tokens, filler=form.target_format == "fakebridge"
    )
    tables = [table.values for table in world.tables]
    writer = RecordWriter(world.graph, tables, form.target_format, Codec(vocabulary))
    atomic = _common_facts(world) if form.include_atomic else None
    files: dict[str, Content] = {
        "vocab.json": dump_json(vocabulary),
        "train.json": _json_list(
            _chain(writer.items(world.train), () if atomic is None else writer.facts(*atomic))
        ),
        "test.json": _json_list(_typed(writer, world.test)),
    }
    if world.validation:
        files["valid.json"] = _json_list(_typed(writer, world.validation))
    if form.atomic_facts != "none":
        for j, function in enumerate(world.graph.functions):
            files.update(_table_file(world, writer, form, j, f"atomic_facts_{function.name}"))
    return files, _metadata(world, form, 0 if atomic is None else len(atomic[0]))


class RecordWriter:
    """Turns arrays of items into the lines of JSON records."""

    def __init__(
        self, graph: TaskGraph, tables: Sequence[np.ndarray], target_format: str, codec: Codec
    ) -> None:
        self._graph, self._codec, self._format = graph, codec, target_format
        self._tables = tables

    def items(self, inputs: np.ndarray, label: str | None = None) -> Iterator[str]:
        """A line for each composition, with its type if ``label`` is given."""
        ending = "" if label is None else f', "type": {json.dumps(label)}'
        for begin in range(0, len(inputs), _CHUNK):
            rows = inputs[begin : begin + _CHUNK]
            prompts = self._codec.decode_rows(rows)
            answers = self._codec.decode_rows(self._target_rows(rows))
            yield from (
                f'{{"input_text": "{prompt}", "target_text": "{prompt}{answer}"{ending}}}'
                for prompt, answer in zip(prompts, answers, strict=True)
            )

    def facts(self, arguments: np.ndarray, results: np.ndarray) -> Iterator[str]:
        """A line for each single fact: arguments ``(n, arity)``, results ``(n,)``."""
        for begin in range(0, len(results), _CHUNK):
            calls = self._codec.decode_rows(arguments[begin : begin + _CHUNK])
            answers = self._codec.decode_rows(results[begin : begin + _CHUNK, None])
            yield from (
                f'{{"input_text": "{call}", "target_text": "{call}{answer}{END}"}}'
                for call, answer in zip(calls, answers, strict=True)
            )

    def _target_rows(self, inputs: np.ndarray) -> np.ndarray:
        """``(n, bridges + 2)`` ids of what follows the input: bridges or filler, answer, end."""
        graph = self._graph
        values = evaluate(graph, self._tables, inputs)
        columns = []
        if self._format == "cot":
            columns += [values[bridge] for bridge in graph.bridges]
        elif self._format == "fakebridge":
            filler = self._codec.vocabulary.index(FILLER)
            columns += [np.full(len(inputs), filler) for _ in graph.bridges]
        columns += [values[graph.answer], np.full(len(inputs), self._codec.end_id)]
        return np.stack(columns, axis=1)


def _typed(writer: RecordWriter, groups: Mapping[str, np.ndarray]) -> Iterator[str]:
    return _chain(*(writer.items(rows, label) for label, rows in groups.items()))


def _chain(*parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        yield from part


def _json_list(lines: Iterator[str]) -> Iterator[str]:
    """A JSON list with a record a line, as chunks of text."""
    first = next(lines, None)
    if first is None:
        yield "[]\n"
        return
    yield "[\n" + first
    for line in lines:
        yield ",\n" + line
    yield "\n]\n"


def _table_file(
    world: World, writer: RecordWriter, form: FormatSettings, j: int, stem: str
) -> dict[str, Content]:
    """The file of one function's facts."""
    table = world.tables[j].values
    known = world.seen[j] if form.atomic_facts == "seen" else None
    large = table.size > LARGE_TABLE
    if form.atomic_format == "npz" or (form.atomic_format == "auto" and large):
        values = table if known is None else np.where(known, table, np.int32(-1))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, values=values)
        return {f"{stem}.npz": buffer.getvalue()}
    return {f"{stem}.json": _json_list(_fact_lines(writer, table, known))}


def _fact_lines(writer: RecordWriter, table: np.ndarray, known: np.ndarray | None) -> Iterator[str]:
    """The facts of a table in lexicographic order of their arguments."""
    flat = np.arange(table.size) if known is None else np.flatnonzero(known)
    for begin in range(0, len(flat), _CHUNK):
        part = flat[begin : begin + _CHUNK]
        arguments = np.stack(np.unravel_index(part, table.shape), axis=1)
        yield from writer.facts(arguments, table.reshape(-1)[part])


def _common_facts(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Arguments and results of the facts that every function has used in training."""
    shared = np.logical_and.reduce(world.seen)
    arguments = np.stack(np.nonzero(shared), axis=1)
    return arguments, world.tables[0].values[shared]


def _metadata(world: World, form: FormatSettings, atomic_in_train: int) -> dict:
    graph = world.graph
    size = world.settings.num_tokens
    counts: dict[str, object] = {
        "train": len(world.train),
        "test": {label: len(rows) for label, rows in world.test.items()},
    }
    if form.include_atomic:
        counts["atomic_facts_in_train"] = atomic_in_train
    if world.validation:
        counts["valid"] = {label: len(rows) for label, rows in world.validation.items()}
    return {
        "format_version": 1,
        "task": graph.to_dict(),
        "target_format": form.target_format,
        "arguments": {**asdict(world.settings), **asdict(form)},
        "counts": counts,
        "compositions": {
            "domain": domain_size(size, len(graph.inputs)),
            "trainable": world.trainable,
            "in_domain": world.available["type_0"] + len(world.train),
            "outside_train": world.available,
        },
        "primitives": [
            {
                "name": function.name,
                "facts": int(table.values.size),
                "expected_seen": int(table.expected_seen.sum()),
                "seen_in_train": int(seen.sum()),
            }
            for function, table, seen in zip(graph.functions, world.tables, world.seen, strict=True)
        ],
        "versions": {
            "coverage_principle": coverage_principle.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }

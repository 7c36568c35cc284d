"""Data sets read from disk and checked while they are read.

The format, field by field, is in ``data/README.md``. Data sets in the published generators' layout,
which have no ``metadata.json``, are read too: the task is then known from the folder's name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from coverage_principle.data.checks import Problem, Report, Split, check_pairs
from coverage_principle.data.files import METADATA, digests, read_arrays, read_json, sha256
from coverage_principle.data.formats import RecordWriter
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import END, FILLER, Codec
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, Function, TaskGraph, task_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set read by ``load_dataset``; ``valid`` is None if it has no validation split."""

    path: Path
    graph: TaskGraph
    codec: Codec
    train: Split
    test: Split
    valid: Split | None
    metadata: dict | None

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by file name."""
        valid = {} if self.valid is None else {"valid.json": self.valid}
        return {"train.json": self.train, "test.json": self.test, **valid}

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def num_tokens(self) -> int:
        return self.codec.num_tokens

    @property
    def target_format(self) -> str:
        """What targets hold after the input, as training items show: ``inf``, ``cot`` ..."""
        bridges = self.train.targets[:, :-1]
        if bridges.shape[1] == 0:
            return "inf"
        fillers = [i for i, token in enumerate(self.codec.vocabulary) if token == FILLER]
        return "fakebridge" if np.isin(bridges, fillers).all() else "cot"

    def records(self, inputs: np.ndarray) -> list[dict]:
        """Further compositions ``(n, slots)`` as records for ``train.json``, by the tables."""
        writer = RecordWriter(self.graph, self.tables(), self.target_format, self.codec)
        return [json.loads(line) for line in writer.items(inputs)]

    def tables(self) -> list[np.ndarray]:
        """Each function's table, ``(|X|,) * arity`` int32, -1 for facts that are not listed.

        Read from ``atomic_facts_f{j}.json`` or ``.npz``. ``InputError`` if a file is missing or
        malformed, or if they do not give the answers of the training items.
        """
        return self._tables

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        report = refuse(self.path)
        tables = [read_table(self.path, f, self.codec, report) for f in self.graph.functions]
        given = evaluate(self.graph, tables, self.train.inputs)[self.graph.answer]
        wrong = (given >= 0) & (given != self.train.answers)
        if wrong.any():
            item = self.train.records[int(wrong.argmax())]["target_text"]
            raise InputError(
                f"{self.path}: the tables atomic_facts_*.json or .npz are not those of train.json: "
                f"they give other answers for {wrong.sum():,} of {len(wrong):,} training items, "
                f"such as {item}"
            )
        return tables

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the files that results depend on: training and test items, tables."""
        tables = sorted(self.path.glob("atomic_facts_*"))
        return digests([self.path / "train.json", self.path / "test.json", *tables])


def read_task(file: Path) -> TaskGraph:
    """A task graph from a user's JSON file (docs/custom_tasks.md).

    ``InputError`` if it is no valid graph, or has the name of another task.
    """
    description = read_json(file)
    if not isinstance(description, Mapping):
        raise InputError(f"{file} must hold a JSON object that describes a task graph")
    graph = _described(description, file)
    if graph.name in TASKS:
        raise InputError(f"{file}: {graph.name} is a task that is there already; choose a new name")
    return graph


def _described(description: Mapping, file: Path) -> TaskGraph:
    """The task graph that a file describes."""
    try:
        return TaskGraph.from_dict(description)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def find_task(name: str) -> TaskGraph:
    """A built-in task by name, or the graph in a user's ``FILE.json``; ``InputError`` otherwise."""
    if task_name(name) in TASKS:
        return TASKS[task_name(name)]
    if not Path(name).is_file():
        raise InputError(f"`task` {name} is neither a file nor one of {', '.join(TASKS)}")
    return read_task(Path(name))


def refuse(path: Path) -> Report:
    """A report that raises ``InputError`` at a problem, or only warns of a tolerable one."""

    def report(problem: Problem) -> None:
        if not problem.tolerable:
            raise InputError(f"{path / problem.file}{str(problem).removeprefix(problem.file)}")
        logger.warning("warning: %s: %s", path.name, problem)

    return report


def load_dataset(path: str | Path) -> Dataset:
    """Read and check the data set in folder ``path``.

    Raises ``InputError`` naming file, record number (from 1) and reason for: a missing or
    malformed file, a token outside the vocabulary, a wrong number of tokens, a target that does not
    repeat its input and end in ``</a>``, the same input twice, the same input with two targets.
    Test items that are also training items without being ``train_inferred`` only give a warning
    with their count, because the published 3-hop and parallel sets hold some; so do files that
    were changed since they were generated.
    """
    report = refuse(Path(path))
    dataset = read_dataset(Path(path), report)
    for problem in changed_files(dataset):
        report(replace(problem, tolerable=True))
    return dataset


def changed_files(dataset: Dataset) -> Iterator[Problem]:
    """Those of a data set's files that are not what ``metadata.json`` was written with."""
    for name, digest in (dataset.metadata or {}).get("sha256", {}).items():
        if not (dataset.path / name).exists():
            yield Problem(name, f"it is named in {METADATA}, but not there")
        elif sha256(dataset.path / name) != digest:
            yield Problem(name, f"it was changed: its SHA-256 is not that in {METADATA}")


def read_dataset(path: Path, report: Report) -> Dataset:
    """Read a data set and report its problems; records with problems of their own are left out.

    ``InputError`` if it cannot be read at all.
    """
    metadata = _read_metadata(path / METADATA)
    graph = _graph_of(path, metadata)
    codec = Codec(_read_vocabulary(path / "vocab.json"))
    fact_lengths = _fact_lengths(path, graph, metadata)
    train = _read_split(path / "train.json", graph, codec, report, fact_lengths)
    if len(train) == 0:
        raise InputError(f"{path / 'train.json'} has no records; at least one is needed")
    test = _read_split(path / "test.json", graph, codec, report)
    file = path / "valid.json"
    valid = _read_split(file, graph, codec, report) if file.exists() else None
    dataset = Dataset(path, graph, codec, train, test, valid, metadata)
    check_pairs(dataset.splits, codec, report)
    return dataset


def _read_metadata(file: Path) -> dict | None:
    """The metadata, with objects wherever a reader looks into them; None if there is no file."""
    if not file.exists():
        return None
    metadata = read_json(file)
    if not isinstance(metadata, dict):
        raise InputError(f"{file} must be a JSON object, found {type(metadata).__name__}")
    for key in ("task", "arguments", "counts", "sha256"):
        if not isinstance(metadata.get(key, {}), dict):
            found = type(metadata[key]).__name__
            raise InputError(f"{file}: {key!r} must be a JSON object, found {found}")
    return metadata


def _read_vocabulary(file: Path) -> list[str]:
    """The tokens: ``<t_0>``, ``<t_1>`` ... in order, so that ids are values, then any others."""
    vocabulary = read_json(file)
    if not (isinstance(vocabulary, list) and all(isinstance(t, str) for t in vocabulary)):
        raise InputError(f"{file} must be a list of token strings")
    if END not in vocabulary:
        raise InputError(f"{file} lacks the end token {END}")
    values = [token for token in vocabulary if token.startswith("<t_")]
    for place, token in enumerate(vocabulary[: len(values)]):
        if token != f"<t_{place}>":
            found = f"token {place + 1} is {token}"
            raise InputError(f"{file} must begin with <t_0>, <t_1> ... in order, but {found}")
    if len(set(vocabulary)) < len(vocabulary):
        raise InputError(f"{file} lists a token twice")
    return vocabulary


def _graph_of(path: Path, metadata: dict | None) -> TaskGraph:
    if metadata is not None and "task" in metadata:
        return _described(metadata["task"], path / METADATA)
    name = task_name(path.name.split(".")[0])
    if name in TASKS:
        return TASKS[name]
    unknown = f"its name does not begin with a known one ({', '.join(TASKS)})"
    lack = f"{path} has no {METADATA} that names its task"
    raise InputError(f"{lack}, and {unknown}, so its task graph is unknown")


def _fact_lengths(path: Path, graph: TaskGraph, metadata: dict | None) -> set[int]:
    """Numbers of input tokens at which a training record is a single fact, not a composition."""
    declared = path.name.endswith(".include-atomic")
    if metadata is not None:
        declared = bool(metadata.get("arguments", {}).get("include_atomic"))
    return {function.arity for function in graph.functions} if declared else set()


def _read_split(
    file: Path, graph: TaskGraph, codec: Codec, report: Report, fact_lengths: Set[int] = frozenset()
) -> Split:
    records = read_json(file)
    if not isinstance(records, list):
        raise InputError(f"{file} must be a JSON list of records, found {type(records).__name__}")
    typed = file.name != "train.json"
    slots = len(graph.inputs)
    kept, facts, numbers, inputs, targets, width = [], [], [], [], [], None
    for number, record in enumerate(records, start=1):
        try:
            given, answer = _parse(record, codec, typed)
            if len(given) in fact_lengths:
                facts.append(record)
                continue
            width = width or len(answer)
            if len(given) != slots:
                has = f"{record['input_text']!r} has {len(given)} tokens"
                raise InputError(f"{has}, but task {graph.name} has {slots} input slots")
            if len(answer) != width:
                has = f"{len(answer)} tokens between input and {END}"
                raise InputError(f"{has}, but others have {width}")
        except InputError as error:
            report(Problem(file.name, str(error), (number,)))
            continue
        kept.append(record)
        numbers.append(number)
        inputs.append(given)
        targets.append(answer)
    types = np.array([record["type"] if typed else "" for record in kept], dtype=str)
    arrays = (
        np.array(inputs, dtype=np.int32).reshape(-1, slots),
        np.array(targets, dtype=np.int32).reshape(-1, width or 1),
    )
    return Split(*arrays, types, kept, np.array(numbers, dtype=np.int64), facts)


def _parse(record: object, codec: Codec, typed: bool) -> tuple[list[int], list[int]]:
    """Ids of the input, and of what the target holds between it and the end token."""
    try:
        prompt, full = record["input_text"], record["target_text"]
        if typed and not isinstance(record["type"], str):
            raise TypeError("type, which is no string")
        given, whole = codec.encode(prompt), codec.encode(full)
    except (KeyError, TypeError, AttributeError) as error:
        strings = f"input_text, target_text{' and type' if typed else ''}"
        reason = f"it must be an object with the strings {strings}; problem with {error}"
        raise InputError(reason) from error
    if max(given) >= codec.num_tokens:
        raise InputError(f"input {prompt!r} may only hold <t_0> to <t_{codec.num_tokens - 1}>")
    if whole[: len(given)] != given or whole[-1] != codec.end_id or len(whole) < len(given) + 2:
        raise InputError(
            f"target_text {full!r} must repeat the input, then hold at least one token, then {END}"
        )
    return given, whole[len(given) : -1]


def read_table(path: Path, function: Function, codec: Codec, report: Report) -> np.ndarray:
    """A function's table in a data set's folder; -1 for facts that are not listed."""
    arity = function.arity
    shape = (codec.num_tokens,) * arity
    binary = path / f"atomic_facts_{function.name}.npz"
    if binary.exists():
        return _table_from_npz(binary, shape)
    file = binary.with_suffix(".json")
    facts = read_json(file)
    if not isinstance(facts, list):
        raise InputError(f"{file} must be a JSON list of facts, found {type(facts).__name__}")
    table = np.full(shape, -1, dtype=np.int32)
    for number, fact in enumerate(facts, start=1):
        try:
            call, result = _parse(fact, codec, typed=False)
            if len(call) != arity or len(result) != 1 or max(*call, *result) >= codec.num_tokens:
                raise InputError(
                    f"{fact['target_text']!r} must be {arity} argument tokens, the result and {END}"
                )
            if table[tuple(call)] not in (-1, result[0]):
                raise InputError(f"call {fact['input_text']} has two different results")
        except InputError as error:
            report(Problem(file.name, str(error), (number,)))
            continue
        table[tuple(call)] = result[0]
    return table


def _table_from_npz(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    values = read_arrays(file).get("values")
    if values is None:
        raise InputError(f"{file} has no array 'values'")
    good = values.shape == shape and values.dtype.kind == "i"
    if not good or values.min() < -1 or values.max() >= shape[0]:
        raise InputError(
            f"{file} must hold an array 'values' of shape {shape} with integers from -1 to "
            f"{shape[0] - 1}, found shape {values.shape} of {values.dtype}"
        )
    return values.astype(np.int32)

"""Data sets read from disk and checked while they are read.

The format, field by field, is in ``data/README.md``. Data sets in the published generators' layout,
which have no ``metadata.json``, are read too: the task is then known from the folder's name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from coverage_principle.data.checks import Split, check_pairs
from coverage_principle.data.contents import Items
from coverage_principle.data.files import METADATA, read_json, sha256
from coverage_principle.data.formats import RecordWriter
from coverage_principle.data.problems import Cause, Fault, Problem, Report
from coverage_principle.data.records import encode_input, outside, read_split, read_table
from coverage_principle.data.space import check_domain
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import END, FILLER, Codec
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder, importer_for
from coverage_principle.tasks import DEFAULT_ALPHABET, TASKS, TaskGraph, task_name
from simpletransformers.words import counted

logger = logging.getLogger(__name__)

_AGAIN = (
    'make the data set again, as its README.md tells (an import: "imported" in metadata.json); if '
    'the change is meant, remove the file from "sha256" in metadata.json'
)
_MISSING = Cause(f"files are named in {METADATA}, but not there", _AGAIN)
CHANGED = Cause(f"files were changed: their SHA-256 is not that in {METADATA}", _AGAIN)
_NONE_LEFT = Cause("files have no record that can be used", "correct what is wrong with them")


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

    def __repr__(self) -> str:
        held = ", ".join(f"{len(s):,} {file[:-5]}" for file, s in self.splits.items())
        return f"<Dataset {self.name}: {self.graph.equations}; {held} items>"

    @classmethod
    def from_records(
        cls,
        rows: Iterable[Mapping],
        task: TaskGraph | Mapping | str | Path,
        path: str | Path | None = None,
        *,
        test_ratio: float = 0.2,
        seed: int = 42,
        contradictions: str = "refuse",
    ) -> Dataset:
        """A data set of rows: dicts with the text (or number) of each slot and value of ``task``.

        They may also be a pandas DataFrame.

        ``task`` is a graph, the name of a built-in task, a file or dict that describes one
        (docs/custom_tasks.md), or equations, such as ``"b = f1(x1, x2), t = f2(b, x3)"``, where
        each slot and value has an alphabet of its own. A key ``split`` says ``train``, ``test`` or
        ``valid``; without it a share ``test_ratio`` of the inputs is drawn to be test items.
        Names hold letters, digits, ``_`` and ``-``: the value of a key ``Prix TTC`` is that of
        ``Prix_TTC``. ``contradictions`` are rows that give one call two results: ``refuse``,
        ``drop`` or ``majority`` (docs/own_data.md).

        The data set is written to the folder ``path``, where every command finds it; without one,
        to a folder that is gone when Python ends. ``InputError`` names the row that does not fit.
        """
        from coverage_principle.data.importing.rows import write_rows

        graph, folder = _given_task(task), None if path is None else Path(path)
        told = {"test_ratio": test_ratio, "seed": seed, "contradictions": contradictions}
        return load_dataset(write_rows(rows, graph, folder, **told))

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by file name."""
        valid = {} if self.valid is None else {"valid.json": self.valid}
        return {"train.json": self.train, "test.json": self.test, **valid}

    @property
    def name(self) -> str:
        return self.path.name

    def sizes(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """How many tokens each of these slots and values can be."""
        return self.codec.sizes(self.graph.alphabets_of(nodes))

    @property
    def slot_sizes(self) -> tuple[int, ...]:
        """How many tokens each input slot can hold."""
        return self.sizes(self.graph.inputs)

    def ids(self, values: np.ndarray, nodes: Sequence[str]) -> np.ndarray:
        """Vocabulary ids of values, whose last axis goes through ``nodes``."""
        return self.codec.ids(values, self.graph.alphabets_of(nodes))

    def text(self, values: Sequence[int], nodes: Sequence[str] | None = None) -> str:
        """The tokens of values of ``nodes``, by default of the input slots."""
        return self.codec.decode(self.ids(np.asarray(values), nodes or self.graph.inputs))

    def short(self, values: Sequence[int], nodes: Sequence[str]) -> list[str]:
        """The same, each as a person reads it (``Codec.short``)."""
        return [self.codec.short(token) for token in self.ids(np.asarray(values), nodes)]

    def parse(self, text: str) -> np.ndarray:
        """The values ``(slots,)`` of an input given as text; ``InputError`` if it is none."""
        try:
            return encode_input(text, self.graph, self.codec)
        except Fault as fault:  # of a record, for those who read files
            raise InputError(str(fault)) from None

    @cached_property
    def known(self) -> list[np.ndarray]:
        """For each function the calls that training facts give: a bool array like its table."""
        signatures = {}
        for alphabets in self.graph.fact_signatures:
            mask = np.zeros(self.codec.sizes(alphabets), dtype=bool)
            signatures[alphabets] = mask
            calls = [c for c in self.train.facts.calls if len(c) == len(alphabets)]
            if calls:
                ids = np.array(calls, dtype=np.int32)
                ids = ids[~outside(self.codec, ids, alphabets).any(axis=1)]
                mask[tuple(self.codec.values(ids, alphabets).T)] = True
        return [signatures[self.graph.alphabets_of(f.sources)] for f in self.graph.functions]

    @cached_property
    def noisy(self) -> frozenset[int]:
        """Numbers, from 1, of the training records whose answer metadata say to be wrong."""
        return _noisy_records(self.metadata)

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
        return json.loads(b"[%b]" % b",".join(writer.items(Items(inputs))))

    def values(self, inputs: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Every slot and value of inputs whose answers are known: ``{name: (n,)}``.

        Intermediate values are by the tables; a task without any needs none. ``InputError`` as
        ``tables``.
        """
        if not self.graph.bridges:
            slots = zip(self.graph.inputs, inputs.T, strict=True)
            return {**dict(slots), self.graph.answer: answers}
        return evaluate(self.graph, self.tables(), inputs)

    @property
    def lists_all_facts(self) -> bool:
        """Whether the tables hold every fact that there is, as far as metadata tell."""
        about = (self.metadata or {}).get("primitives", [])
        told = {one["name"]: one["facts"] for one in about}
        return all(
            int((table >= 0).sum()) == told.get(function.name, table.size)
            for function, table in zip(self.graph.functions, self.tables(), strict=True)
        )

    def tables(self) -> list[np.ndarray]:
        """Each function's table, an axis for each argument, int32; -1: undefined or not listed.

        Read from ``atomic_facts_<table>.json`` or ``.npz``. ``InputError`` if a file is missing or
        malformed, or if they do not give the answers of the training items.
        """
        return self._tables

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        report = refuse(self.path)
        read: dict[str, np.ndarray] = {}
        for function in self.graph.functions:
            if function.table not in read:
                read[function.table] = read_table(
                    self.path, self.graph, function, self.codec, report
                )
        tables = [read[function.table] for function in self.graph.functions]
        given = evaluate(self.graph, tables, self.train.inputs)[self.graph.answer]
        wrong = (given >= 0) & (given != self.train.answers)
        if self.noisy:
            wrong &= ~np.isin(self.train.numbers, list(self.noisy))
        if wrong.any():
            item = self.train.records[int(wrong.argmax())]["target_text"]
            raise InputError(
                f"{self.path}: the tables atomic_facts_*.json or .npz are not those of train.json: "
                f"they give other answers for {wrong.sum():,} of "
                f"{counted(len(wrong), 'training item')}, such as {item}"
            )
        return tables

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the files that results depend on: training and test items, tables."""
        tables = sorted(self.path.glob("atomic_facts_*"))
        files = [self.path / "train.json", self.path / "test.json", *tables]
        read = self.read_digests
        return {file.name: read.get(file.name) or sha256(file) for file in files if file.is_file()}

    @property
    def read_digests(self) -> dict[str, str]:
        """The SHA-256 of the splits' files as they were read, where it was taken then."""
        return {file: s.sha256 for file, s in self.splits.items() if s.sha256 is not None}


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


def _given_task(task: TaskGraph | Mapping | str | Path) -> TaskGraph:
    if isinstance(task, TaskGraph):
        return task
    if isinstance(task, Mapping):
        return TaskGraph.from_dict(task)
    if "=" in str(task):
        return TaskGraph.from_equations(str(task), shared=False)
    return find_task(str(task))


def refuse(path: Path) -> Report:
    """A report that raises ``InputError`` at a problem, or only warns of a tolerable one."""

    def report(problem: Problem) -> None:
        if not problem.tolerable:
            raise InputError(f"{path / problem.file}{str(problem).removeprefix(problem.file)}")
        logger.warning("warning: %s: %s", path.name, problem)

    return report


def load_dataset(path: str | Path) -> Dataset:
    """Read and check the data set in folder ``path``, or of that name in ``data/``.

    Raises ``InputError`` naming file, record number (from 1) and reason for: a missing or
    malformed file, a token outside the vocabulary, a wrong number of tokens, a target that does not
    repeat its input and end in ``</a>``, the same input twice, the same input with two targets.
    Test items that are also training items without being ``train_inferred`` only give a warning
    with their count, because the published 3-hop and parallel sets hold some; so do files that
    were changed since they were generated.
    """
    folder = find_folder(path, "path", also_in="data")
    report = refuse(folder)
    dataset = read_dataset(folder, report)
    for problem in changed_files(dataset.path, dataset.metadata, dataset.read_digests):
        report(replace(problem, tolerable=True))
    return dataset


def changed_files(
    path: Path, metadata: Mapping | None, read: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Problem]:
    """Those of a data set's files that are not what ``metadata.json`` was written with.

    ``read`` holds SHA-256 sums that are known already, by name.
    """
    for name, digest in (metadata or {}).get("sha256", {}).items():
        if not (path / name).exists():
            reason, cause = f"it is named in {METADATA}, but not there", _MISSING
        elif (read.get(name) or sha256(path / name)) != digest:
            reason, cause = f"it was changed: its SHA-256 is not that in {METADATA}", CHANGED
        else:
            continue
        yield Problem(name, reason, cause=cause, details=(name,))


def read_dataset(path: Path, report: Report) -> Dataset:
    """Read a data set and report its problems; records with problems of their own are left out.

    ``InputError`` if it cannot be read at all; a ``Fault`` if that is for the problems reported.
    """
    metadata = read_metadata(path / METADATA)
    graph = _graph_of(path, metadata)
    codec = _read_codec(path, graph, metadata)
    sizes = codec.sizes(graph.alphabets_of(graph.inputs))
    check_domain(sizes, f"{path} cannot be read")
    facts, given = _declares_facts(path, metadata), (graph, codec, report)
    if facts:
        _check_signatures(path, graph, metadata)
    train = read_split(path / "train.json", *given, with_facts=facts)
    if len(train) == train.left_out == 0:
        raise InputError(
            f"{path / 'train.json'} has no records of compositions; at least one is needed"
        )
    test = read_split(path / "test.json", *given, with_facts=facts)
    file = path / "valid.json"
    valid = read_split(file, *given, with_facts=facts) if file.exists() else None
    if len(train) == 0:
        raise Fault(f"{path / 'train.json'} has no record that can be used", _NONE_LEFT)
    dataset = Dataset(path, graph, codec, train, test, valid, metadata)
    check_pairs(dataset.splits, dataset.slot_sizes, dataset.noisy, report)
    return dataset


def read_metadata(file: Path) -> dict | None:
    """The metadata, with objects wherever a reader looks into them; None if there is no file."""
    if not file.exists():
        return None
    metadata = read_json(file)
    if not isinstance(metadata, dict):
        raise InputError(f"{file} must be a JSON object, found {type(metadata).__name__}")
    for key in ("task", "arguments", "counts", "sha256", "alphabets", "label_noise"):
        if not isinstance(metadata.get(key, {}), dict):
            found = type(metadata[key]).__name__
            raise InputError(f"{file}: {key!r} must be a JSON object, found {found}")
    for one in (
        primitives if isinstance(primitives := metadata.get("primitives", []), list) else [0]
    ):
        whole = isinstance(one, dict) and isinstance(one.get("facts"), int)
        if not (whole and isinstance(one.get("name"), str)):
            wanted = "a list of objects with the name of a function and its number of facts"
            raise InputError(f"{file}: 'primitives' must be {wanted}")
    return metadata


def _read_codec(path: Path, graph: TaskGraph, metadata: dict | None) -> Codec:
    """The vocabulary, with the alphabets that the metadata tell it to begin with.

    Without any: the tokens ``<t_0>``, ``<t_1>`` ... in order, so that ids are values.
    """
    file = path / "vocab.json"
    vocabulary = read_json(file)
    if not (isinstance(vocabulary, list) and all(isinstance(t, str) for t in vocabulary)):
        raise InputError(f"{file} must be a list of token strings")
    if END not in vocabulary:
        raise InputError(f"{file} lacks the end token {END}")
    alphabets = (metadata or {}).get("alphabets")
    if alphabets is None:
        values = [token for token in vocabulary if token.startswith("<t_")]
        for place, token in enumerate(vocabulary[: len(values)]):
            if token != f"<t_{place}>":
                found = f"token {place + 1} is {token}"
                raise InputError(f"{file} must begin with <t_0>, <t_1> ... in order, but {found}")
        alphabets = {DEFAULT_ALPHABET: len(values)}
    if len(set(vocabulary)) < len(vocabulary):
        raise InputError(f"{file} lists a token twice")
    for name in dict.fromkeys([*graph.alphabets_of(graph.nodes), *alphabets]):
        size = alphabets.get(name, 0)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            told = f"{file.parent}: alphabet {name!r} has {size!r} tokens"
            raise InputError(f"{told}; it must have at least one, by {METADATA} and {file.name}")
    count = sum(alphabets.values())
    if count > len(vocabulary) or not {END, FILLER}.isdisjoint(vocabulary[:count]):
        told = f"the {count} tokens of {', '.join(alphabets)} that {METADATA} names"
        raise InputError(f"{file} must begin with {told}")
    for token in vocabulary:
        inside = token[1:-1]
        if token[:1] + token[-1:] != "<>" or not inside or "<" in inside or ">" in inside:
            raise InputError(f"{file}: the token {token!r} is not a name between < and >")
    return Codec(vocabulary, alphabets)


def _graph_of(path: Path, metadata: dict | None) -> TaskGraph:
    if metadata is not None and "task" in metadata:
        return _described(metadata["task"], path / METADATA)
    name = task_name(path.name.split(".")[0])
    if name in TASKS:
        return TASKS[name]
    unknown = f"its name does not begin with a known one ({', '.join(TASKS)})"
    lack = f"{path} has no {METADATA} that names its task"
    raise InputError(
        f"{lack}, and {unknown}, so its task graph is unknown; data of another kind become a data "
        f"set by: {importer_for(path)}"
    )


def _declares_facts(path: Path, metadata: dict | None) -> bool:
    """Whether the data set may hold single facts: records of fewer tokens than its slots."""
    if metadata is None:
        return path.name.endswith(".include-atomic")
    told = metadata.get("arguments", {}).get("include_atomic")
    return bool(told or metadata.get("counts", {}).get("atomic_facts_in_train"))


def _check_signatures(path: Path, graph: TaskGraph, metadata: dict | None) -> None:
    """Refuse single facts of which it is not known whose they are."""
    told = (metadata or {}).get("arguments", {})
    if metadata is None or told.get("include_atomic") or told.get("same_function"):
        return
    for alphabets, functions in graph.fact_signatures.items():
        tables = {function.table for function in functions}
        if len(tables) > 1 and len(alphabets) != len(graph.inputs):
            names = " and ".join(function.name for function in functions)
            raise InputError(
                f"{path}: {METADATA} names single facts in training, but those of {names} have "
                "the same alphabets; they must share a table"
            )


def _noisy_records(metadata: dict | None) -> frozenset[int]:
    """The record numbers under ``label_noise``."""
    told = (metadata or {}).get("label_noise", {})
    return frozenset(int(number) for number in told if number.isdecimal())

"""Every problem of a data set, found by checking it against itself: files, tables, types."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coverage_principle.data.checks import Problem, Report, Split
from coverage_principle.data.files import sha256
from coverage_principle.data.reading import Dataset, read_dataset, read_table
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.data.vocabulary import FILLER
from coverage_principle.data.worlds import TRAIN_INFERRED
from coverage_principle.errors import InputError


def validate(path: Path) -> tuple[Dataset | None, list[Problem]]:
    """Check the data set in folder ``path``: what could be read of it, and all its problems.

    Beside what ``load_dataset`` refuses: targets and bridges that disagree with the tables of
    facts, type labels that disagree with the calls that training items make, counts and SHA-256
    sums that disagree with ``metadata.json``. The data set is None if it cannot be read at all.
    """
    problems: list[Problem] = []
    try:
        dataset = read_dataset(path, problems.append)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}").lstrip("/: ")
        return None, [*problems, Problem(path.name, (), reason)]
    _check_metadata(dataset, problems.append)
    tables = _tables(dataset, problems.append)
    if tables is not None:
        splits = {"train.json": dataset.train, "test.json": dataset.test}
        if dataset.valid is not None:
            splits["valid.json"] = dataset.valid
        for name, split in splits.items():
            _check_targets(name, split, dataset, tables, problems.append)
            if name != "train.json":
                _check_types(name, split, dataset, tables, problems.append)
    return dataset, problems


def _tables(dataset: Dataset, report: Report) -> list[np.ndarray] | None:
    """The tables of facts, or None (and a problem) if they are not all there."""
    tables = []
    for function in dataset.graph.functions:
        stem = dataset.path / f"atomic_facts_{function.name}"
        try:
            tables.append(read_table(stem, function.arity, dataset.codec, report))
        except InputError as error:
            reason = str(error).removeprefix(f"{dataset.path}/")
            report(
                Problem(
                    f"{stem.name}",
                    (),
                    f"{reason}; targets and types are not checked",
                    tolerable="does not exist" in reason,
                )
            )
            return None
    return tables


def _check_targets(
    name: str, split: Split, dataset: Dataset, tables: list[np.ndarray], report: Report
) -> None:
    """Bridges and answers against the tables; what these do not list is not judged."""
    graph = dataset.graph
    values = evaluate(graph, tables, split.inputs)
    expected = [values[graph.answer]]
    if split.targets.shape[1] > 1:
        filler = FILLER in dataset.codec.vocabulary
        names = list(graph.bridges)
        if split.targets.shape[1] != len(names) + 1:
            report(
                Problem(
                    name,
                    (),
                    f"targets hold {split.targets.shape[1]} tokens, but task "
                    f"{graph.name} has {len(names)} bridges and an answer",
                )
            )
            return
        if filler:
            token = dataset.codec.vocabulary.index(FILLER)
            expected = [np.full(len(split), token) for _ in names] + expected
        else:
            expected = [values[bridge] for bridge in names] + expected
    wanted = np.stack(expected, axis=1)
    for row in np.flatnonzero(((wanted >= 0) & (wanted != split.targets)).any(axis=1)):
        found = dataset.codec.decode(split.targets[row])
        report(
            Problem(
                name,
                (int(split.numbers[row]),),
                f"the target holds {found}, but the tables give {_shown(dataset, wanted[row])}",
            )
        )


def _shown(dataset: Dataset, ids: np.ndarray) -> str:
    return "".join("?" if i < 0 else dataset.codec.vocabulary[i] for i in ids)


def _check_types(
    name: str, split: Split, dataset: Dataset, tables: list[np.ndarray], report: Report
) -> None:
    """Type labels against "its call is made by a training item", function by function."""
    graph = dataset.graph
    seen = seen_calls(graph, tables, dataset.train.inputs)
    values = evaluate(graph, tables, split.inputs)
    flags, known = [], np.ones(len(split), dtype=bool)
    for j, function in enumerate(graph.functions):
        arguments = call_arguments(function, values)
        for argument in arguments:
            known &= argument >= 0
        flags.append(seen[j][arguments])
    labels = [graph.type_label(bits) for bits in np.stack(flags, axis=1).tolist()]
    allowed = {TRAIN_INFERRED, *graph.type_labels}
    for row, (given, label) in enumerate(zip(split.types.tolist(), labels, strict=True)):
        if given not in allowed:
            reason = f"type {given!r} is not one of {', '.join(sorted(allowed))}"
        elif known[row] and given != label and (given, label) != (TRAIN_INFERRED, "type_0"):
            reason = f"type is {given}, but by the tables and train.json it is {label}"
        else:
            continue
        report(Problem(name, (int(split.numbers[row]),), reason))


def _check_metadata(dataset: Dataset, report: Report) -> None:
    metadata = dataset.metadata
    if metadata is None:
        report(
            Problem(
                "metadata.json",
                (),
                "it is not there: the data set cannot be reproduced from its files",
                tolerable=True,
            )
        )
        return
    for name, digest in metadata.get("sha256", {}).items():
        if not (dataset.path / name).exists():
            report(Problem(name, (), "it is named in metadata.json, but not there"))
        elif sha256(dataset.path / name) != digest:
            report(Problem(name, (), "it was changed: its SHA-256 is not that in metadata.json"))
    counts = metadata.get("counts", {})
    if counts.get("train") not in (None, len(dataset.train)):
        report(
            Problem(
                "train.json",
                (),
                f"it holds {len(dataset.train)} compositions, but "
                f"metadata.json says {counts['train']}",
            )
        )

"""Every problem of a data set, found by checking it against itself: files, tables, types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from coverage_principle.data.annotations import ANNOTATED, annotated_records
from coverage_principle.data.checks import Split
from coverage_principle.data.files import METADATA
from coverage_principle.data.formats import target_ids
from coverage_principle.data.problems import Cause, Fault, Problem, Report
from coverage_principle.data.reading import (
    CHANGED,
    Dataset,
    changed_files,
    read_dataset,
    read_metadata,
)
from coverage_principle.data.records import read_table
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.data.vocabulary import FILLER, LACKING
from coverage_principle.errors import InputError
from coverage_principle.tasks import FACT_ONLY, FACT_SEEN, TRAIN_INFERRED, base_type
from simpletransformers.words import counted

_TABLES = "put the atomic_facts_* files back that were written with the data set"
_OTHER_TABLES = Cause("files have other targets than the tables give", _TABLES)
_TARGET = Cause(
    "records have another target than the tables give",
    "find out which is right, and correct the target or the fact in atomic_facts_*",
)
_TARGET_FORM = Cause(
    "files have targets of a length that the task has no format for",
    "write the answer alone, or all intermediate values before it; or correct the task in "
    f"{METADATA}",
)
_TYPE = Cause(
    "records have another type than train.json and the tables give",
    "correct the type of these records; if train.json was changed, make the data set again",
)
_UNKNOWN_TYPE = Cause("records have a type that the task does not have", "correct their type")
_FACT = Cause(
    "single facts have another result than the tables give",
    "find out which is right, and correct the record or the fact in atomic_facts_*",
)
_COUNT = Cause("files hold other numbers of records", f"correct counts in {METADATA}")
_NO_METADATA = Cause(
    "files are not there",
    f"nothing; the generators and script/import_dataset.py write a {METADATA}",
)


def validate(path: Path) -> tuple[Dataset | None, list[Problem]]:
    """Check the data set in folder ``path``: what could be read of it, and all its problems.

    Beside what ``load_dataset`` refuses: targets and bridges that disagree with the tables of
    facts, type labels that disagree with the calls that training items make, counts and SHA-256
    sums that disagree with ``metadata.json``, annotations of other data. The data set is None if it
    cannot be read at all. What cannot be checked because of these problems is a tolerable one.
    ``grouped`` puts those of one cause together.
    """
    problems: list[Problem] = []
    try:
        problems += changed_files(path, read_metadata(path / METADATA))
        dataset = read_dataset(path, problems.append)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}").lstrip("/: ")
        follows = isinstance(error, Fault)
        reason += ", for the problems above: nothing else is checked" if follows else ""
        return None, _explained([*problems, Problem(path.name, reason, tolerable=follows)])
    _check_metadata(dataset, problems.append)
    if not dataset.test.left_out:
        _check_annotations(dataset, problems.append)
    tables = _tables(dataset, problems.append)
    if tables is not None:
        _check_against_tables(dataset, tables, problems.append)
    _tell_what_was_left_out(dataset, problems.append)
    return dataset, _explained(problems)


def _explained(problems: list[Problem]) -> list[Problem]:
    """Problems, with files that were changed told together with what follows from the change."""
    for file, follows in (("vocab.json", LACKING), ("atomic_facts_", _OTHER_TABLES)):
        changed = [p for p in problems if p.cause is CHANGED and p.file.startswith(file)]
        if changed and any(p.cause is follows for p in problems):
            names = " and ".join(p.file for p in changed)
            todo = f"put the right {names} back: changed since the data set was made"
            cause = replace(follows, todo=todo)
            left = [p for p in problems if p not in changed]
            problems = [replace(p, cause=cause) if p.cause is follows else p for p in left]
    return problems


def _tell_what_was_left_out(dataset: Dataset, report: Report) -> None:
    """What could not be checked, as records have problems of their own: no further faults."""
    left = {name: split.left_out for name, split in dataset.splits.items() if split.left_out}
    if not left:
        return
    unchecked = ["whether they are duplicates of others or contradict them"]
    if "train.json" in left:
        unchecked.append("what depends on all training items (what is unseen, counts)")
    if "test.json" in left:
        unchecked.append("annotations")
    places = ", ".join(f"{count:,} of {name}" for name, count in left.items())
    told = f"records left out, for the problems above: {places}; so it is not checked "
    report(Problem(dataset.name, told + "; nor ".join(unchecked), tolerable=True))


def _check_annotations(dataset: Dataset, report: Report) -> None:
    for file in sorted(dataset.path.glob(f"{Path(ANNOTATED).stem}*.json")):
        try:
            annotated_records(dataset, file.name)
        except InputError as error:
            reason = str(error).removeprefix(f"{file}").lstrip(": ").removeprefix("is ")
            report(Problem(file.name, reason))


def _tables(dataset: Dataset, report: Report) -> list[np.ndarray] | None:
    """The tables of facts, or None (and a problem) if they are not all there.

    A task without intermediate values needs none.
    """
    if not dataset.graph.bridges and not any(dataset.path.glob("atomic_facts_*")):
        return None
    tables: dict[str, np.ndarray] = {}
    for function in dataset.graph.functions:
        if function.table in tables:
            continue
        found: list[Problem] = []
        try:
            given = dataset.path, dataset.graph, function, dataset.codec
            tables[function.table] = read_table(*given, found.append)
        except InputError as error:
            reason = str(error).removeprefix(f"{dataset.path}/")
            tolerable = not any(dataset.path.glob(f"atomic_facts_{function.table}.*"))
            if found:  # none is left
                reason, tolerable = f"{reason}, for the problems above", True
            reason += "; targets and types are not checked"
            report(Problem(f"atomic_facts_{function.table}", reason, tolerable=tolerable))
            return None
        finally:
            for problem in found:
                report(problem)
    return [tables[function.table] for function in dataset.graph.functions]


def _check_against_tables(dataset: Dataset, tables: list[np.ndarray], report: Report) -> None:
    """Targets, types and single facts, unless the tables are of other data altogether."""
    graph, train = dataset.graph, dataset.train
    seen = seen_calls(graph, tables, train.inputs)
    trained = evaluate(graph, tables, train.inputs)
    wrong = (trained[graph.answer] >= 0) & (trained[graph.answer] != train.answers)
    wrong &= ~np.isin(train.numbers, list(dataset.noisy))
    if 2 * wrong.sum() > len(train):
        told = f"the tables give other answers for {wrong.sum():,} of {len(train):,} items"
        told += ": they are of other data, and targets and types are not checked"
        report(Problem("train.json", told, cause=_OTHER_TABLES))
        return
    # Where some calls of training items are not known, any call may be seen.
    told = all((trained[bridge] >= 0).all() for bridge in graph.bridges)
    for name, split in dataset.splits.items():
        values = evaluate(graph, tables, split.inputs)
        _check_targets(name, split, dataset, values, report)
        if name != "train.json" and told:
            _check_types(name, split, dataset, values, seen, report)
        _check_facts(name, split, dataset, tables, seen, report)


def _check_targets(
    name: str, split: Split, dataset: Dataset, values: Mapping[str, np.ndarray], report: Report
) -> None:
    """Bridges and answers against the tables; what these do not list is not judged."""
    graph, vocabulary = dataset.graph, dataset.codec.vocabulary
    width = split.targets.shape[1]
    form = "inf" if width == 1 else "fakebridge" if FILLER in vocabulary else "cot"
    wanted = target_ids(graph, values, form, dataset.codec)
    if wanted.shape[1] != width:
        bridges = counted(len(graph.bridges), "bridge")
        told = f"task {graph.name} has {bridges} and an answer"
        reason = f"targets hold {counted(width, 'token')}, but {told}"
        report(Problem(name, reason, cause=_TARGET_FORM, details=(name,)))
        return
    wrong = ((wanted >= 0) & (wanted != split.targets)).any(axis=1)
    if name == "train.json":
        wrong &= ~np.isin(split.numbers, list(dataset.noisy))
    for row in np.flatnonzero(wrong):
        found = dataset.codec.decode(split.targets[row])
        given = "".join("?" if i < 0 else vocabulary[i] for i in wanted[row])
        reason = f"the target holds {found}, but the tables give {given}"
        report(Problem(name, reason, (int(split.numbers[row]),), cause=_TARGET))


def _check_types(
    name: str, split: Split, dataset: Dataset, values: Mapping, seen: list, report: Report
) -> None:
    """Type labels against what training items say of the calls, function by function.

    What is known as a fact only may be left out of a label where the metadata do not speak of
    ``facts``. Training records that were left out may make calls or know facts that others do not.
    """
    graph, metadata = dataset.graph, dataset.metadata
    names_facts = metadata is not None and not metadata.get("arguments", {}).get("include_atomic")
    calls = [call_arguments(function, values) for function in graph.functions]
    defined = np.logical_and.reduce([argument >= 0 for call in calls for argument in call])
    bits, known = (
        np.stack([m[call] for m, call in zip(masks, calls, strict=True)], axis=1).tolist()
        for masks in (seen, dataset.known)
    )
    allowed = {TRAIN_INFERRED, *graph.type_labels}
    for row, given in enumerate(split.types.tolist()):
        label = graph.type_label(bits[row], known[row])
        right, short = {label}, given
        if dataset.train.left_out:
            choices = product(*((True,) if bit else (False, True) for bit in bits[row]))
            right, short = {graph.type_label(choice) for choice in choices}, base_type(given)
        elif not names_facts:
            right.add(base_type(label))
        if "type_0" in right:
            right.add(TRAIN_INFERRED)
        if base_type(given) not in allowed:
            reason = f"type {given!r} is not one of {', '.join(sorted(allowed))}"
            cause, detail = _UNKNOWN_TYPE, given
        elif defined[row] and short not in right:
            reason = f"type is {given}, but by the tables and train.json it is {label}"
            cause, detail = _TYPE, f"{given} instead of {label}"
        else:
            continue
        number = int(split.numbers[row])
        report(Problem(name, reason, (number,), cause=cause, details=(detail,)))


def _check_facts(
    name: str, split: Split, dataset: Dataset, tables: list, seen: list, report: Report
) -> None:
    """Single facts against the tables; the types of test items against the training file."""
    graph, codec, facts = dataset.graph, dataset.codec, split.facts
    trained = set(dataset.train.facts.calls)
    for record, number, call, result in zip(
        facts.records, facts.numbers, facts.calls, facts.results, strict=True
    ):
        used = False
        for function, table, mask in zip(graph.functions, tables, seen, strict=True):
            ranges = [codec.alphabets[a] for a in graph.alphabets_of(function.sources)]
            if len(ranges) != len(call) or not all(map(range.__contains__, ranges, call)):
                continue
            place = tuple(t - r.start for t, r in zip(call, ranges, strict=True))
            used |= bool(mask[place])
            listed = codec.alphabets[graph.alphabet(function.output)].start + int(table[place])
            if table[place] >= 0 and listed != result:
                given, wanted = codec.vocabulary[result], codec.vocabulary[listed]
                reason = f"the fact gives {given}, but the tables give {wanted}"
                report(Problem(name, reason, (number,), cause=_FACT))
                break
        if name == "train.json" or dataset.train.left_out:
            continue
        label = (FACT_SEEN if used else FACT_ONLY) if call in trained else "no training fact"
        if record["type"] != label:
            reason = f"type is {record['type']}, but by train.json the fact is {label}"
            detail = f"{record['type']} instead of {label}"
            report(Problem(name, reason, (number,), cause=_TYPE, details=(detail,)))


def _check_metadata(dataset: Dataset, report: Report) -> None:
    if dataset.metadata is None:
        reason = "it is not there: the data set cannot be reproduced from its files"
        report(Problem(METADATA, reason, tolerable=True, cause=_NO_METADATA))
        return
    told, found = dataset.metadata.get("counts", {}).get("train"), len(dataset.train)
    if told not in (None, found) and not dataset.train.left_out:
        reason = f"it holds {counted(found, 'composition')}, but {METADATA} says {told}"
        report(Problem("train.json", reason, cause=_COUNT))

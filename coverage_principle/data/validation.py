"""Every problem of a data set, found by checking it against itself: files, tables, types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data.annotations import ANNOTATED, annotated_records
from coverage_principle.data.checks import Problem, Report, Split
from coverage_principle.data.files import METADATA
from coverage_principle.data.formats import target_ids
from coverage_principle.data.reading import Dataset, changed_files, read_dataset
from coverage_principle.data.records import read_table
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.data.vocabulary import FILLER
from coverage_principle.errors import InputError
from coverage_principle.tasks import FACT_ONLY, FACT_SEEN, TRAIN_INFERRED, base_type
from simpletransformers.words import counted


def validate(path: Path) -> tuple[Dataset | None, list[Problem]]:
    """Check the data set in folder ``path``: what could be read of it, and all its problems.

    Beside what ``load_dataset`` refuses: targets and bridges that disagree with the tables of
    facts, type labels that disagree with the calls that training items make, counts and SHA-256
    sums that disagree with ``metadata.json``, annotations of other data. The data set is None if it
    cannot be read at all.
    """
    problems: list[Problem] = []
    try:
        dataset = read_dataset(path, problems.append)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}").lstrip("/: ")
        return None, [*problems, Problem(path.name, reason)]
    _check_metadata(dataset, problems.append)
    for file in sorted(path.glob(f"{Path(ANNOTATED).stem}*.json")):
        try:
            annotated_records(dataset, file.name)
        except InputError as error:
            reason = str(error).removeprefix(f"{file}").lstrip(": ").removeprefix("is ")
            problems.append(Problem(file.name, reason))
    tables = _tables(dataset, problems.append)
    if tables is not None:
        seen = seen_calls(dataset.graph, tables, dataset.train.inputs)
        trained = evaluate(dataset.graph, tables, dataset.train.inputs)
        # Where some calls of training items are not known, any call may be seen.
        told = all((trained[bridge] >= 0).all() for bridge in dataset.graph.bridges)
        for name, split in dataset.splits.items():
            values = evaluate(dataset.graph, tables, split.inputs)
            _check_targets(name, split, dataset, values, problems.append)
            if name != "train.json" and told:
                _check_types(name, split, dataset, values, seen, problems.append)
            _check_facts(name, split, dataset, tables, seen, problems.append)
    return dataset, problems


def _tables(dataset: Dataset, report: Report) -> list[np.ndarray] | None:
    """The tables of facts, or None (and a problem) if they are not all there.

    A task without intermediate values needs none.
    """
    if not dataset.graph.bridges and not any(dataset.path.glob("atomic_facts_*")):
        return None
    tables = []
    for function in dataset.graph.functions:
        try:
            given = dataset.path, dataset.graph, function, dataset.codec
            tables.append(read_table(*given, report))
        except InputError as error:
            reason = str(error).removeprefix(f"{dataset.path}/")
            tolerable = not any(dataset.path.glob(f"atomic_facts_{function.table}.*"))
            reason += "; targets and types are not checked"
            report(Problem(f"atomic_facts_{function.table}", reason, tolerable=tolerable))
            return None
    return tables


def _check_targets(
    name: str, split: Split, dataset: Dataset, values: Mapping[str, np.ndarray], report: Report
) -> None:
    """Bridges and answers against the tables; what these do not list is not judged."""
    graph, vocabulary = dataset.graph, dataset.codec.vocabulary
    width = split.targets.shape[1]
    form = "inf" if width == 1 else "fakebridge" if FILLER in vocabulary else "cot"
    wanted = target_ids(graph, values, form, dataset.codec)
    if wanted.shape[1] != width:
        told = f"task {graph.name} has {counted(len(graph.bridges), 'bridge')} and an answer"
        report(Problem(name, f"targets hold {counted(width, 'token')}, but {told}"))
        return
    wrong = ((wanted >= 0) & (wanted != split.targets)).any(axis=1)
    if name == "train.json":
        wrong &= ~np.isin(split.numbers, list(dataset.noisy))
    for row in np.flatnonzero(wrong):
        found = dataset.codec.decode(split.targets[row])
        given = "".join("?" if i < 0 else vocabulary[i] for i in wanted[row])
        reason = f"the target holds {found}, but the tables give {given}"
        report(Problem(name, reason, (int(split.numbers[row]),)))


def _check_types(
    name: str, split: Split, dataset: Dataset, values: Mapping, seen: list, report: Report
) -> None:
    """Type labels against what training items say of the calls, function by function.

    What is known as a fact only may be left out of a label where the metadata do not speak of
    ``facts``.
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
        right = {label} if names_facts else {label, base_type(label)}
        if label == "type_0":
            right.add(TRAIN_INFERRED)
        if base_type(given) not in allowed:
            reason = f"type {given!r} is not one of {', '.join(sorted(allowed))}"
        elif defined[row] and given not in right:
            reason = f"type is {given}, but by the tables and train.json it is {label}"
        else:
            continue
        report(Problem(name, reason, (int(split.numbers[row]),)))


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
                report(Problem(name, reason, (number,)))
                break
        if name == "train.json":
            continue
        label = (FACT_SEEN if used else FACT_ONLY) if call in trained else "no training fact"
        if record["type"] != label:
            reason = f"type is {record['type']}, but by train.json the fact is {label}"
            report(Problem(name, reason, (number,)))


def _check_metadata(dataset: Dataset, report: Report) -> None:
    if dataset.metadata is None:
        reason = "it is not there: the data set cannot be reproduced from its files"
        report(Problem(METADATA, reason, tolerable=True))
        return
    for problem in changed_files(dataset):
        report(problem)
    told, found = dataset.metadata.get("counts", {}).get("train"), len(dataset.train)
    if told not in (None, found):
        reason = f"it holds {counted(found, 'composition')}, but {METADATA} says {told}"
        report(Problem("train.json", reason))

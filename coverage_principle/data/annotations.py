"""Test records with what the coverage stage found out about them, if it has run."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.data.files import dump_json, read_json, replacing_together, sha256
from coverage_principle.data.lazy_records import (
    LazyRecords,
    RecordPart,
    record_column,
    record_list,
    records_at,
)
from coverage_principle.data.lines import read_layout
from coverage_principle.data.reading import Dataset
from coverage_principle.errors import InputError

logger = logging.getLogger(__name__)

ANNOTATED = "test_annotated.json"
#: What graded coverage says of test items, in this order: numbers, and texts of tokens.
GRADED_FIELDS = {
    **{"support": float, "matcher_answer": str, "matcher_probability": float},
    **{"matcher_margin": float, "learner_answer": str},
    **{"learner_score": float, "learner_probability": float},
}


def write_annotations(dataset: Dataset, name: str, records: Sequence[dict]) -> Path:
    """Write annotated test records, and beside them which files they were made from.

    Annotations never stand beside what is about others.
    """
    file, digest = dataset.path / name, hashlib.sha256()
    with replacing_together(_source(file), file) as (source, own):
        with open(own, "wb") as lines:
            for chunk in record_list(records):
                digest.update(chunk)
                lines.write(chunk)
        about = {"sha256": digest.hexdigest(), "made_from": dataset.digests}
        source.write_text(dump_json(about), encoding="utf-8")
    return file


def _source(file: Path) -> Path:
    """What says of an annotated file which data it was made from."""
    return file.with_name(f"{file.name}.source")


def annotated_records(dataset: Dataset, name: str = ANNOTATED) -> Sequence[dict]:
    """The records of an annotated file: those of ``test.json`` with ``coverage`` and so on.

    Compositions come first, single facts after them.

    ``InputError`` if the file is missing, was made from other data, was changed since, or holds
    something else under ``coverage``, ``k_cutoff`` and ``GRADED_FIELDS`` than what is written
    there. A file that does not say what it was made from (a published one) gives a warning.
    """
    file = dataset.path / name
    command = f"with: python determine_coverage.py --data_dir {dataset.path} --k_sweep"
    command += "" if name == ANNOTATED else " and the flags that it was made with"
    if not file.exists():
        raise InputError(f"{file} does not exist; make it {command}")
    if not _source(file).exists():
        logger.warning("warning: %s does not say which data it was made from", file)
    else:
        source, now = read_json(_source(file), dict), {file.name: sha256(file), **dataset.digests}
        made_from = source.get("made_from")
        recorded = {**(made_from if isinstance(made_from, dict) else {})}
        recorded[file.name] = source.get("sha256")
        if differ := [name for name in now if recorded.get(name) != now[name]]:
            changed = f"{' and '.join(differ)} changed since it was made"
            raise InputError(f"{file} is out of date: {changed}; make it anew {command}")
    laid_out = _annotations_laid_out(dataset, file)
    if laid_out is not None:
        return laid_out
    records = read_json(file)
    keys = ("input_text", "target_text", "type")
    texts, own = (
        [[record.get(key) for key in keys] for record in one if isinstance(record, dict)]
        for one in (records if isinstance(records, list) else (), dataset.test.all_records)
    )
    if texts != own:
        raise InputError(f"{file} does not belong to test.json beside it; make it anew {command}")
    for number, record in enumerate(records, start=1):
        if wrong := _wrong_annotation(record):
            raise InputError(
                f"{file} record {number}: {wrong[0]}; make it anew {command}{wrong[1]}"
            )
    return records


def _annotations_laid_out(dataset: Dataset, file: Path) -> LazyRecords | None:
    """The same of a file that is laid out as ours are (``lines``); None if it is not, or wrong."""
    slots, ours = len(dataset.graph.inputs), dataset.test.all_records
    facts = {len(call) for call in dataset.test.facts.calls}
    lines, _ = read_layout(file, dataset.codec, slots, facts) or ({}, "")
    if not lines or not isinstance(ours, LazyRecords):
        return None
    records = LazyRecords([RecordPart.of_lines(dataset.codec, own) for own in lines.values()])
    numbers = np.concatenate([own.numbers for own in lines.values()])
    (names, types), (own_names, own_types) = (one.column("type") for one in (records, ours))
    same = [own_names.index(name) if name in own_names else -1 for name in names]
    good = (
        np.array_equal(numbers, np.arange(1, len(ours) + 1))
        and np.array_equal(np.array(same)[types], own_types)
        and records.has_texts_of(ours)
        and not any(map(_wrong_annotation, records.endings()))
    )
    return records if good else None


def _wrong_annotation(record: Mapping) -> tuple[str, str] | None:
    """What is wrong with what coverage says of a record, and a flag that it is made anew with."""
    cutoff = record.get("k_cutoff")
    whole = isinstance(cutoff, int) and not isinstance(cutoff, bool) and cutoff >= 0
    if not (cutoff is None or whole) or not isinstance(record.get("coverage", False), bool):
        return "k_cutoff must be a whole number or null, and coverage true or false", ""
    for name, kind in GRADED_FIELDS.items():
        if not (record.get(name) is None or _is_a(kind, record[name])):
            wanted = "a text" if kind is str else "a number"
            return f"{name} must be {wanted} or null", " --graded"
    return None


def _is_a(kind: type, value: object) -> bool:
    if kind is str:
        return isinstance(value, str)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def answered(items: Sequence[Mapping]) -> list[bool]:
    """Which test items with a ``model_output`` were answered as their ``target_text`` says."""
    return [item["model_output"] == item["target_text"] for item in items]


def text_records(file: Path, setting: str) -> list[dict]:
    """The records of a file of ``input_text``, ``target_text`` and, perhaps, ``type``.

    ``InputError``, naming the ``setting`` that gave the file, if it is no list of such records.
    """

    def has_texts(record: object) -> bool:
        return (
            isinstance(record, dict)
            and all(isinstance(record.get(key), str) for key in ("input_text", "target_text"))
            and isinstance(record.get("type", ""), str)
        )

    records = read_json(file)
    if not (isinstance(records, list) and records and all(map(has_texts, records))):
        raise InputError(
            f"`{setting.lstrip('-')}` {file} must be a JSON list of at least one record, each with "
            "the texts input_text and target_text, and type, if it is there, a text"
        )
    return records


def test_records(dataset: Dataset, types: Sequence[str] = ()) -> Sequence[dict]:
    """The annotated test records if they are there, else those of ``test.json``.

    ``types`` keeps only these types. ``InputError`` for one that the test set does not have, and
    for annotations that are not those of the data set as it is.
    """
    annotated = (dataset.path / ANNOTATED).exists()
    records = annotated_records(dataset) if annotated else dataset.test.all_records
    kinds, numbers = record_column(records, "type")
    present = sorted(kinds)
    for name in types:
        if name not in present:
            lack = f"the test set of {dataset.name} has no such type; it has {', '.join(present)}"
            raise InputError(f"`test_types` {name}: {lack}")
    if not types:
        return records
    chosen = np.array([kind in types for kind in kinds], dtype=bool)
    return records_at(records, np.flatnonzero(chosen[numbers]))

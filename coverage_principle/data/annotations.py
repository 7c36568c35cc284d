"""Test records with what the coverage stage found out about them, if it has run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from coverage_principle.data.files import read_json
from coverage_principle.data.reading import Dataset
from coverage_principle.errors import InputError

logger = logging.getLogger(__name__)

ANNOTATED = "test_annotated.json"


def annotated_records(dataset: Dataset, name: str = ANNOTATED) -> list[dict]:
    """The records of an annotated file: those of ``test.json`` with ``coverage`` and so on.

    ``InputError`` if the file is missing, or was made from another ``test.json``.
    """
    file = dataset.path / name
    command = f"with: python determine_coverage.py --data_dir {dataset.path} --k_sweep"
    if not file.exists():
        raise InputError(f"{file} does not exist; make it {command}")
    records = read_json(file)
    keys = ("input_text", "target_text", "type")
    texts, own = (
        [[record.get(key) for key in keys] for record in one]
        for one in (records if isinstance(records, list) else (), dataset.test.records)
    )
    if texts != own:
        raise InputError(f"{file} does not belong to test.json beside it; make it anew {command}")
    return records


def answered(items: Sequence[Mapping]) -> list[bool]:
    """Which test items with a ``model_output`` were answered as their ``target_text`` says."""
    return [item["model_output"] == item["target_text"] for item in items]


def text_records(file: Path, setting: str) -> list[dict]:
    """The records of a file of ``input_text`` and ``target_text``, whatever else they hold.

    ``InputError``, naming the ``setting`` that gave the file, if it is no list of such records.
    """

    def has_texts(record: object) -> bool:
        return isinstance(record, dict) and all(
            isinstance(record.get(key), str) for key in ("input_text", "target_text")
        )

    records = read_json(file)
    if not (isinstance(records, list) and records and all(map(has_texts, records))):
        raise InputError(
            f"`{setting.lstrip('-')}` {file} must be a JSON list of at least one record, each with "
            "the texts input_text and target_text"
        )
    return records


def test_records(dataset: Dataset, types: Sequence[str] = ()) -> list[dict]:
    """The annotated test records if they are there and up to date, else those of ``test.json``.

    ``types`` keeps only these types; ``InputError`` for one that the test set does not have.
    """
    records = dataset.test.records
    if (dataset.path / ANNOTATED).exists():
        try:
            records = annotated_records(dataset)
        except InputError as error:
            logger.warning("warning: no groups by k-cutoff: %s", error)
    present = sorted({record["type"] for record in records})
    for name in types:
        if name not in present:
            lack = f"the test set of {dataset.name} has no such type; it has {', '.join(present)}"
            raise InputError(f"`test_types` {name}: {lack}")
    return [record for record in records if not types or record["type"] in types]

"""Rows in memory as a data set: what ``Dataset.from_records`` does."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from coverage_principle.data.files import write_dataset
from coverage_principle.data.formats import contents_files, table_files
from coverage_principle.data.importing.columns import columns_of
from coverage_principle.data.importing.settings import TableSettings
from coverage_principle.data.importing.table import assembled, plain_name
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

_SPLIT = "split"


def write_rows(
    rows: Iterable[Mapping],
    graph: TaskGraph,
    folder: Path | None,
    *,
    test_ratio: float = TableSettings.test_ratio,
    seed: int = TableSettings.seed,
    contradictions: str = TableSettings.contradictions,
) -> Path:
    """Write rows as a data set of the task ``graph``; returns its folder.

    Arguments and errors are those of ``Dataset.from_records``. Without ``folder`` it is one that is
    removed when the process ends.
    """
    if hasattr(rows, "to_dict"):  # a DataFrame
        rows = rows.to_dict("records")
    rows = list(rows)
    if not rows:
        raise InputError("`rows` is empty; at least one row is needed")
    rows = _named(rows, graph)
    split = _SPLIT if isinstance(rows[0], Mapping) and _SPLIT in rows[0] else None
    drawn = {"test_ratio": test_ratio} if split is None else {}
    settings = TableSettings(
        inputs=graph.inputs,
        answer=graph.answer,
        split=split,
        seed=seed,
        contradictions=contradictions,
        **drawn,
    )
    columns = columns_of(rows, [*graph.nodes, *([split] if split else [])], "rows")
    node = {name: name for name in graph.nodes}
    imported = assembled(columns, graph, node, settings, dropped=Counter())
    contents, metadata = imported.contents, imported.metadata
    files = contents_files(contents, metadata["target_format"])
    files |= table_files(contents) if contents.tables is not None else {}
    if folder is None:
        temporary = tempfile.mkdtemp(prefix="coverage-principle-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        folder = Path(temporary) / graph.name
    write_dataset(folder, files, metadata, overwrite=False)
    return folder


def _named(rows: list[Mapping], graph: TaskGraph) -> list[Mapping]:
    """The rows with columns called as the graph does: ``Prix_TTC`` may be a column ``Prix TTC``."""
    if not isinstance(rows[0], Mapping):
        return rows
    others = {column for column in map(str, rows[0]) if column not in graph.nodes}
    plain = {column: plain_name(column) for column in others}
    meant = {c: name for c, name in plain.items() if name in graph.nodes and name not in rows[0]}
    if not meant:
        return rows
    return [{meant.get(column, column): value for column, value in row.items()} for row in rows]

"""Columns of a table file as numbers: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coverage_principle.data.files import text_lines
from coverage_principle.data.importing.common import (
    Numbers,
    csv_fault,
    in_use,
    too_many,
)
from coverage_principle.data.importing.settings import MOST_ROWS
from coverage_principle.data.vocabulary import name_of
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from simpletransformers.files import parse_json
from simpletransformers.words import counted

#: Texts that say that there is no value, in any kind of file.
MISSING = ("", "NaN", "nan", "null")
_TOKEN = re.compile(r"<[^<>]+>")
_CHUNK = 100_000  # rows that become numbers at once

#: Rows as they are read: their places in the file, and the cells of the columns that are wanted.
_Chunk = tuple[list[int], list[Sequence[str | None]]]


@dataclass(frozen=True)
class Columns:
    """Columns of a table: for each its names, and the number of each row's.

    ``places`` ``(n,)`` say where rows stand: at which ``unit`` of ``file``, a line or a row.
    ``spaced`` counts the cells whose value had white space around it, by column, where any had.
    """

    file: Path
    unit: str
    places: np.ndarray
    names: dict[str, list[str]]
    codes: dict[str, np.ndarray]
    spaced: dict[str, int] = field(default_factory=dict)

    __repr__ = one_line

    def place(self, row: int) -> str:
        return f"{self.file} {self.unit} {self.places[row]}"

    def take(self, rows: np.ndarray) -> Columns:
        """The rows that a mask or numbers choose, and the names that these use."""
        codes, names = {}, {}
        for name, own in self.codes.items():
            codes[name], names[name] = in_use(own[rows], self.names[name])
        return Columns(self.file, self.unit, self.places[rows], names, codes)

    def __len__(self) -> int:
        return len(self.places)


def read_columns(file: Path, wanted: Sequence[str], delimiter: str | None) -> Columns:
    """The columns ``wanted`` of a file, whose suffix tells its kind (CSV if no other).

    White space around values and around names of CSV columns is no part of them.
    ``InputError`` names a column that is not there with those that are, a value that is missing
    with row and column, a line that is broken, and a file without rows or with too many.
    """
    kind = {".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader: Callable[..., Iterator[_Chunk]] = kind.get(file.suffix.lower(), _csv)
    if file.is_dir():
        raise InputError(f"{file} is a folder, and a file is needed")
    unit = "row" if reader is _parquet else "line"
    wanted = list(dict.fromkeys(wanted))
    numbers = {name: Numbers() for name in wanted}
    places: list[np.ndarray] = []
    codes: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    count = 0
    for where, cells in reader(file, wanted, delimiter):
        count += len(where)
        if count > MOST_ROWS:
            raise too_many(file, "rows", MOST_ROWS)
        places.append(np.array(where, dtype=np.int64))
        for name, column in zip(wanted, cells, strict=True):
            codes[name].append(numbers[name].of(column))
    if not count:
        raise InputError(f"{file} has no rows; at least one is needed")
    columns = Columns(
        file,
        unit,
        np.concatenate(places),
        {name: own.names for name, own in numbers.items()},
        {name: np.concatenate(parts) for name, parts in codes.items()},
    )
    _refuse_missing(columns)
    _strip(columns)
    return columns


def columns_of(rows: Sequence[Mapping], wanted: Sequence[str], what: str) -> Columns:
    """The columns ``wanted`` of rows that are in memory; ``what`` is what messages call these.

    A value is named by its text. A token, such as ``<new york>``, is the name that stands in it.
    ``InputError`` names the row (from 1) of a value that is missing or is no name.
    """
    numbers = {name: Numbers() for name in wanted}
    cells: dict[str, list[str | None]] = {name: [] for name in wanted}
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            found = type(row).__name__
            raise InputError(f"{what} row {place} is a {found}; it must be a dict of columns")
        for name, column in cells.items():
            if place == 1 and name not in row:
                _refuse_unknown(Path(what), [name], list(row))
            text = _text(row.get(name), f"{what} row {place}", name)
            column.append(name_of(text) if text and _TOKEN.fullmatch(text) else text)
    codes = {name: numbers[name].of(column) for name, column in cells.items()}
    names = {name: own.names for name, own in numbers.items()}
    columns = Columns(Path(what), "row", np.arange(1, len(rows) + 1), names, codes)
    _refuse_missing(columns)
    _strip(columns)
    return columns


def _strip(columns: Columns) -> None:
    """Take white space from around values, and count where there was any."""
    for name, texts in columns.names.items():
        spaced = [text != text.strip() for text in texts]
        if any(spaced):
            numbers, codes = Numbers(), columns.codes[name]
            columns.spaced[name] = int(np.array(spaced)[codes].sum())
            columns.codes[name] = numbers.of(text.strip() for text in texts)[codes]
            columns.names[name] = numbers.names


def _refuse_missing(columns: Columns) -> None:
    found = []
    for name, texts in columns.names.items():
        lost = [i for i, text in enumerate(texts) if text is None or text.strip() in MISSING]
        if lost:
            found.append((int(np.isin(columns.codes[name], lost).argmax()), name))
    if found:
        row, name = min(found)
        raise InputError(
            f"{columns.place(row)}: column {name} has no value; fill it in, or leave the line out"
        )


def _refuse_unknown(file: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    for name in wanted:
        if there.count(name) > 1:
            raise InputError(f"{file} has two columns with the name {name!r}")
        if name not in there:
            shown = ", ".join(map(repr, there))
            other = [mark for mark in ";\t|," if len(there) == 1 and mark in str(there[0])]
            hint = f" (is `delimiter` {other[0]!r} what separates them?)" if other else ""
            raise InputError(f"{file} has no column {name!r}; it has {shown}{hint}")


def _csv(file: Path, wanted: Sequence[str], delimiter: str | None) -> Iterator[_Chunk]:
    delimiter = delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")
    if len(delimiter) != 1:
        raise InputError(f"`delimiter` {delimiter!r} must be one character")
    reader = csv.reader(text_lines(file), delimiter=delimiter, strict=True)
    places: list[int] = []
    rows: list[list[str]] = []
    try:
        header = next(reader, None)
        if header is None:
            raise InputError(f"{file} has no rows; at least one is needed")
        if file.suffix.lower() == ".json" or header[:1] == ["["]:
            raise InputError(f"{file} is JSON; give JSON lines, an object a line, as FILE.jsonl")
        header = [name.strip() for name in header]
        _refuse_unknown(file, wanted, header)
        chosen, width = [header.index(name) for name in wanted], len(header)
        for row in reader:
            if len(row) != width:
                if not row:
                    continue  # an empty line
                found = f"{file} line {reader.line_num} has {counted(len(row), 'field')}"
                raise InputError(f"{found}, and the header names {counted(width, 'column')}")
            places.append(reader.line_num)
            rows.append(row)
            if len(rows) == _CHUNK:
                yield places, _chosen(rows, chosen)
                places, rows = [], []
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {csv_fault(error)}") from error
    if rows:
        yield places, _chosen(rows, chosen)


def _chosen(rows: list[list[str]], chosen: Sequence[int]) -> list[Sequence[str]]:
    cells = list(zip(*rows, strict=True))
    return [cells[column] for column in chosen]


def _json_lines(file: Path, wanted: Sequence[str], _: str | None) -> Iterator[_Chunk]:
    places: list[int] = []
    columns: list[list[str | None]] = [[] for _ in wanted]
    known = False  # which columns there are: the first row tells
    for number, line in enumerate(text_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            raise InputError(f"{file} line {number} is no JSON object of a row: {error}") from error
        for name, column in zip(wanted, columns, strict=True):
            if not known and name not in row:
                _refuse_unknown(file, wanted, list(row))
            column.append(_text(row.get(name), f"{file} line {number}", name))
        known = True
        places.append(number)
        if len(places) == _CHUNK:
            yield places, columns
            places, columns = [], [[] for _ in wanted]
    if places:
        yield places, columns


def _parquet(file: Path, wanted: Sequence[str], _: str | None) -> Iterator[_Chunk]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            f"{file}: Parquet is read with pyarrow, which is not installed; "
            "pip install 'coverage-principle[parquet]', or give a CSV file"
        ) from error
    if not file.is_file():
        raise InputError(f"{file} does not exist")
    try:
        source = parquet.ParquetFile(file)
        _refuse_unknown(file, wanted, source.schema_arrow.names)
        first = 1
        for batch in source.iter_batches(_CHUNK, columns=list(wanted)):
            places = list(range(first, first + batch.num_rows))
            yield (
                places,
                [
                    [
                        _text(value, f"{file} row {place}", name)
                        for place, value in zip(places, batch.column(name).to_pylist(), strict=True)
                    ]
                    for name in wanted
                ],
            )
            first += batch.num_rows
    except ArrowException as error:
        raise InputError(f"{file} is not a readable Parquet file: {error}") from error


def _text(value: object, place: str, column: str) -> str | None:
    """A cell as the text that names it; None if it has no value."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, dict | list):
        raise InputError(
            f"{place}: column {column} holds {json.dumps(value)[:40]}, which is no name"
        )
    if value != value:  # NaN
        return None
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)

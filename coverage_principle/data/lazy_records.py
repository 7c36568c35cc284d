"""Records that are made where somebody reads them, from the arrays that hold what is in them.

Ten million records as Python objects take 5 GB and most of the time of reading them; hardly any
stage looks at one. ``LazyRecords`` is a sequence like the list of dicts that it stands for, and
says beside that what a loop over all of them would find out: the token ids of their texts, in
blocks, and the values under a key.

>>> codec = Codec(["<a>", "<b>", "<c>", "</a>"], {"letter": 3})
>>> texts = Texts(codec, np.array([[0, 1], [1, 2]]), np.array([[2], [0]]))
>>> records = LazyRecords([RecordPart(texts, ({"type": "type_0"},), np.zeros(2, dtype=int))])
>>> records[1]
{'input_text': '<b><c>', 'target_text': '<b><c><a></a>', 'type': 'type_0'}
>>> next(records.token_blocks()).ids.tolist()
[[0, 1, 2, 3], [1, 2, 0, 3]]
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from coverage_principle.data.line_texts import (
    BREAK,
    TextTable,
    ending_text,
    json_list,
    record_rows,
)
from coverage_principle.data.lines import Lines
from coverage_principle.data.vocabulary import END, Codec
from coverage_principle.reprs import one_line
from simpletransformers.token_rows import Labels, PairBlock, TokenRows

_BLOCK = 1 << 16  # records that are looked at together
_CHUNK = 1 << 14  # records that are written together
_TEXTS = ("input_text", "target_text")


@dataclass(frozen=True)
class TokenBlock:
    """The texts of successive records as ids in ``vocab.json``, all of one length.

    ``ids`` ``(n, width)`` int32 holds the whole targets: the input's ``given`` tokens, what follows
    it, the end token.
    """

    ids: np.ndarray
    given: int

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Texts:
    """The texts of records of one length.

    ``inputs`` ``(n, given)`` plus ``first`` ``(given,)`` are ids (values of slots, and where their
    alphabets begin); ``targets`` ``(n, m)`` are ids too: what stands between input and ``</a>``.
    """

    codec: Codec
    inputs: np.ndarray
    targets: np.ndarray
    first: np.ndarray | int = 0

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.inputs)

    @classmethod
    def of_values(
        cls, codec: Codec, inputs: np.ndarray, targets: np.ndarray, alphabets: Sequence[str]
    ) -> Texts:
        """Those of inputs given as values of slots of these ``alphabets``."""
        first = [codec.alphabets[name].start for name in alphabets]
        return cls(codec, inputs, targets, np.array(first, dtype=np.int32))

    def ids(self, rows: slice | np.ndarray) -> np.ndarray:
        """The ids of whole targets of some rows, with the end token: ``(n, width)`` int32."""
        inputs, targets = self.inputs[rows], self.targets[rows]
        given, width = inputs.shape[1], inputs.shape[1] + targets.shape[1] + 1
        ids = np.empty((len(inputs), width), dtype=np.int32)
        np.add(inputs, self.first, out=ids[:, :given], casting="same_kind")
        ids[:, given:-1] = targets
        ids[:, -1] = self.codec.end_id
        return ids

    def take(self, rows: np.ndarray) -> Texts:
        return Texts(self.codec, self.inputs[rows], self.targets[rows], self.first)


@dataclass(frozen=True)
class RecordPart:
    """Records of one length; the further keys of record i are ``endings[ending[i]]``."""

    texts: Texts
    endings: Sequence[Mapping[str, object]]
    ending: np.ndarray

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of_lines(cls, codec: Codec, lines: Lines) -> RecordPart:
        """Those that were read from a file."""
        texts = Texts(codec, lines.inputs, lines.targets)
        return cls(texts, lines.endings, lines.ending)

    def record(self, row: int) -> dict:
        """One record, made anew: as ``records``, but in a tenth of the time of a block of one."""
        decode, texts = self.texts.codec.decode, self.texts
        prompt = decode((texts.inputs[row] + texts.first).tolist())
        whole = (prompt, f"{prompt}{decode(texts.targets[row].tolist())}{END}")
        return {**dict(zip(_TEXTS, whole, strict=True)), **self.endings[self.ending[row]]}

    def records(self, rows: slice) -> Iterator[dict]:
        """These records, made anew."""
        decode, given = self.texts.codec.decode_rows, self.texts.inputs.shape[1]
        ids = self.texts.ids(rows)
        texts = zip(decode(ids[:, :given]), decode(ids[:, given:-1]), strict=True)
        for (prompt, target), ending in zip(texts, self.ending[rows].tolist(), strict=True):
            whole = (prompt, f"{prompt}{target}{END}")
            yield {**dict(zip(_TEXTS, whole, strict=True)), **self.endings[ending]}

    def take(self, rows: np.ndarray) -> RecordPart:
        return RecordPart(self.texts.take(rows), self.endings, self.ending[rows])

    def with_column(self, key: str, values: Sequence[object], numbers: np.ndarray) -> RecordPart:
        """The same records, record i with ``values[numbers[i]]`` under a key."""
        pairs = self.ending.astype(np.int64) * len(values) + numbers
        distinct, ending = np.unique(pairs, return_inverse=True)
        both = (divmod(pair, len(values)) for pair in distinct.tolist())
        endings = [{**self.endings[before], key: values[own]} for before, own in both]
        return RecordPart(self.texts, endings, ending.astype(np.uint32))


class LazyRecords(Sequence):
    """The records of some parts, one after the other; see above."""

    def __init__(self, parts: Sequence[RecordPart]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._bounds = list(accumulate(map(len, self.parts), initial=0))

    def __repr__(self) -> str:
        return f"<LazyRecords: {len(self):,} records>"

    def __len__(self) -> int:
        return self._bounds[-1]

    def __getitem__(self, row: int | slice) -> dict | Sequence[dict]:
        if isinstance(row, slice):
            rows = np.arange(len(self))[row]
            return [self[i] for i in rows] if (row.step or 1) < 0 else self.take(rows)
        row = range(len(self))[row]
        number = bisect_right(self._bounds, row) - 1
        return self.parts[number].record(row - self._bounds[number])

    def __iter__(self) -> Iterator[dict]:
        for part in self.parts:
            for begin in range(0, len(part), _BLOCK):
                yield from part.records(slice(begin, begin + _BLOCK))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | LazyRecords):
            return NotImplemented
        return len(self) == len(other) and all(map(dict.__eq__, self, other))

    __hash__ = None

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens that the ids of ``token_blocks`` count."""
        return self.parts[0].texts.codec.vocabulary if self.parts else ()

    def token_blocks(self, size: int = _BLOCK) -> Iterator[TokenBlock]:
        """The texts of all records, in order and at most ``size`` at once, as ids of tokens."""
        for part in self.parts:
            given = part.texts.inputs.shape[1]
            for begin in range(0, len(part), size):
                yield TokenBlock(part.texts.ids(slice(begin, begin + size)), given)

    def token_rows(self, keys: Sequence[str] = ()) -> TokenRows | list[dict]:
        """The records as a trainer takes them: ids, and what they hold under ``keys``."""
        if not self.parts:
            return []
        blocks = []
        for begin, part in zip(self._bounds, self.parts, strict=False):
            texts, places = part.texts, range(begin, begin + len(part))
            first = np.broadcast_to(texts.first, texts.inputs.shape[1]).tolist()
            blocks.append(PairBlock(texts.inputs, texts.targets, places, first))
        labels = {key: Labels.of(*self.column(key)) for key in keys}
        return TokenRows(self.vocabulary, END, blocks, labels)

    def column(self, key: str, default: object = None) -> tuple[list, np.ndarray]:
        """What all records hold under a key, ``default`` where it is not there.

        The distinct values, and for each record the number of its own among them: ``(n,)`` int64.
        """
        if key in _TEXTS:
            return numbered_values(record[key] for record in self)
        distinct: dict[tuple[type, object], int] = {}
        numbers = [np.empty(0, dtype=np.int64)]
        for part in self.parts:
            found = np.zeros(len(part.endings), dtype=np.int64)
            for code in np.flatnonzero(np.bincount(part.ending)).tolist():
                value = part.endings[code].get(key, default)
                found[code] = distinct.setdefault((type(value), value), len(distinct))
            numbers.append(found[part.ending])
        return [value for _, value in distinct], np.concatenate(numbers)

    def with_column(self, key: str, column: tuple[list, np.ndarray]) -> LazyRecords:
        """The same records with a further key, whose ``column`` is given as by ``column``."""
        values, numbers = column
        own = np.split(numbers, self._bounds[1:-1])
        parts = zip(self.parts, own, strict=False)
        return LazyRecords([part.with_column(key, values, one) for part, one in parts])

    def lines(self) -> Iterator[bytes]:
        """The records as lines of JSON, in chunks (``line_texts.json_list``)."""
        tokens = TextTable.of_tokens(self.vocabulary)
        for part in self.parts:
            given = part.texts.inputs.shape[1]
            endings = TextTable([ending_text(ending) for ending in part.endings])
            for begin in range(0, len(part), _CHUNK):
                rows = slice(begin, begin + _CHUNK)
                ids, ending = part.texts.ids(rows), part.ending[rows]
                yield record_rows(tokens, ids[:, :given], ids[:, given:], endings, ending)

    def endings(self) -> list[Mapping[str, object]]:
        """What records hold beside their texts, once for each that differs."""
        used = ((part, np.flatnonzero(np.bincount(part.ending))) for part in self.parts)
        return [part.endings[number] for part, numbers in used for number in numbers.tolist()]

    def has_texts_of(self, other: LazyRecords) -> bool:
        """Whether all texts are equal to those of the others, which are of the same vocabulary."""
        if [len(part) for part in self.parts] != [len(part) for part in other.parts]:
            return False
        blocks = zip(self.token_blocks(), other.token_blocks(), strict=True)
        return all(a.given == b.given and np.array_equal(a.ids, b.ids) for a, b in blocks)

    def take(self, rows: np.ndarray) -> LazyRecords:
        """The records at ``rows``, ``(n,)`` integers in ascending order."""
        if len(rows) and (np.diff(rows) < 0).any():
            raise ValueError("rows must be in ascending order")
        cuts = np.searchsorted(rows, self._bounds)
        taken = zip(self.parts, self._bounds, cuts[:-1], cuts[1:], strict=False)
        return LazyRecords([part.take(rows[a:b] - begin) for part, begin, a, b in taken])


def joined_records(first: Sequence[dict], second: Sequence[dict]) -> Sequence[dict]:
    """The records of both; lazy ones stay so."""
    filled = [records for records in (first, second) if len(records)] or [first]
    if all(isinstance(records, LazyRecords) for records in filled):
        return LazyRecords([part for records in filled for part in records.parts])
    return [*first, *second]


def records_at(records: Sequence[dict], rows: np.ndarray) -> Sequence[dict]:
    """The records at ``rows``, which ascend; lazy ones stay so."""
    if isinstance(records, LazyRecords):
        return records.take(np.asarray(rows, dtype=np.int64))
    return [records[row] for row in rows]


def record_column(
    records: Sequence[Mapping], key: str, default: object = None
) -> tuple[list, np.ndarray]:
    """``LazyRecords.column`` of any records."""
    if isinstance(records, LazyRecords):
        return records.column(key, default)
    return numbered_values([record.get(key, default) for record in records])


def keys_of(records: Sequence[Mapping]) -> set[str]:
    """The keys that some of the records have; of lazy ones those beside the texts."""
    if isinstance(records, LazyRecords):
        return set().union(*records.endings())
    return set().union(*records)


def numbered_values(values: Iterable[object]) -> tuple[list, np.ndarray]:
    """The distinct of some scalars, and the number of each among them: ``(n,)`` int64."""
    distinct: dict[tuple[type, object], int] = {}
    numbers = [distinct.setdefault((type(v), v), len(distinct)) for v in values]
    return [value for _, value in distinct], np.array(numbers, dtype=np.int64)


def records_with(
    records: Sequence[dict], columns: Mapping[str, tuple[list, np.ndarray]]
) -> Sequence[dict]:
    """The same records with further keys, whose columns are given as by ``record_column``."""
    if isinstance(records, LazyRecords):
        for key, column in columns.items():
            records = records.with_column(key, column)
        return records
    held = [[values[number] for number in numbers] for values, numbers in columns.values()]
    return [
        {**record, **dict(zip(columns, own, strict=True))}
        for record, *own in zip(records, *held, strict=True)
    ]


def record_list(records: Sequence[dict]) -> Iterator[bytes]:
    """The text of a file that holds these records, a JSON list with one a line, in chunks."""
    if isinstance(records, LazyRecords):
        return json_list(records.lines())
    parts = (records[begin : begin + _CHUNK] for begin in range(0, len(records), _CHUNK))
    texts = ((json.dumps(record, ensure_ascii=False) for record in part) for part in parts)
    return json_list(BREAK.join(lines).encode("utf-8") for lines in texts)

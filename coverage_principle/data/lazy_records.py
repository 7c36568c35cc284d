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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from coverage_principle.data.vocabulary import END, Codec
from coverage_principle.reprs import one_line

_BLOCK = 1 << 16  # records that are looked at together
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


class LazyRecords(Sequence):
    """The records of some parts, one after the other; see above."""

    def __init__(self, parts: Sequence[RecordPart]) -> None:
        self.parts = [part for part in parts if len(part)]
        self._bounds = list(accumulate(map(len, self.parts), initial=0))

    def __repr__(self) -> str:
        return f"<LazyRecords: {len(self):,} records>"

    def __len__(self) -> int:
        return self._bounds[-1]

    def __getitem__(self, row: int | slice) -> dict | LazyRecords:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        row = range(len(self))[row]
        number = int(np.searchsorted(self._bounds, row, side="right")) - 1
        place = row - self._bounds[number]
        return next(self.parts[number].records(slice(place, place + 1)))

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

    def column(self, key: str, default: object = None) -> tuple[list, np.ndarray]:
        """What all records hold under a key, ``default`` where it is not there.

        The distinct values, and for each record the number of its own among them: ``(n,)`` int64.
        Not for the texts themselves.
        """
        distinct: dict[tuple[type, object], int] = {}
        numbers = [np.empty(0, dtype=np.int64)]
        for part in self.parts:
            found = np.zeros(len(part.endings), dtype=np.int64)
            for code in np.flatnonzero(np.bincount(part.ending)).tolist():
                value = part.endings[code].get(key, default)
                found[code] = distinct.setdefault((type(value), value), len(distinct))
            numbers.append(found[part.ending])
        return [value for _, value in distinct], np.concatenate(numbers)

    def take(self, rows: np.ndarray) -> LazyRecords:
        """The records at ``rows``, ``(n,)`` integers in ascending order."""
        if len(rows) and (np.diff(rows) < 0).any():
            raise ValueError("rows must be in ascending order")
        cuts = np.searchsorted(rows, self._bounds)
        taken = zip(self.parts, self._bounds, cuts[:-1], cuts[1:], strict=False)
        return LazyRecords([part.take(rows[a:b] - begin) for part, begin, a, b in taken])


def joined_records(first: Sequence[dict], second: Sequence[dict]) -> Sequence[dict]:
    """The records of both; lazy ones stay so."""
    if all(isinstance(records, LazyRecords) for records in (first, second) if len(records)):
        parts = (records.parts for records in (first, second) if len(records))
        return LazyRecords([part for own in parts for part in own])
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
    distinct: dict[tuple[type, object], int] = {}
    values = (record.get(key, default) for record in records)
    numbers = [distinct.setdefault((type(v), v), len(distinct)) for v in values]
    return [value for _, value in distinct], np.array(numbers, dtype=np.int64)

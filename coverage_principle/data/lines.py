"""A split's file read by arithmetic on its bytes, where it is laid out as this library writes it.

That layout is one record a line, ``input_text`` first, ``target_text`` second::

    [
    {"input_text": "<t_3><t_9>", "target_text": "<t_3><t_9><t_17></a>", "type": "type_0"},
    ...
    ]

Every byte is accounted for: what stands between tokens is compared with the layout, a token with
the vocabulary, and what follows the texts (the *ending* of a record) is read as JSON once for each
that differs. A file with anything else in it is not read here at all but by ``records``, which
finds out what it is or what is wrong with it; so this module refuses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coverage_principle.data.vocabulary import END, Codec
from coverage_principle.reprs import one_line
from simpletransformers.files import parse_json

_BEFORE, _BETWEEN = (
    np.frombuffer(text, dtype=np.uint8) for text in (b'{"input_text": "', b'", "target_text": "')
)
_LAST, _MORE = b"}\n]\n", b"},\n"  # how the last record ends, and how the others do
_OPEN, _CLOSE, _NEWLINE = b"<>\n"
_BLOCK = 1 << 22  # bytes that are read at once: what is made of them stays in the cache
_MOST_ENDINGS = 5000
_OFTEN = 16  # endings of one length that are looked for in all lines at once
_WORD = 8  # bytes
_MOST_WORDS = 4  # of a name that is looked up


@dataclass(frozen=True)
class Lines:
    """The records of one length in a file.

    ``inputs`` ``(n, given)`` and ``targets`` ``(n, m)`` are int32 ids: the input, and what the
    target holds between it and ``</a>``. ``numbers`` ``(n,)`` int64 are the records' places in the
    file, from 1. Record i has the further keys ``endings[ending[i]]``; all values are scalars.
    """

    inputs: np.ndarray
    targets: np.ndarray
    numbers: np.ndarray
    endings: Sequence[dict]
    ending: np.ndarray

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def used(self) -> list[bool]:
        """Which of the endings these records have; the file may hold records of other lengths."""
        return (np.bincount(self.ending, minlength=len(self.endings)) > 0).tolist()


def read_layout(
    file: Path, codec: Codec, slots: int, facts: Collection[int] = ()
) -> tuple[dict[int, Lines], str] | None:
    """The records of a file by the number of tokens in their input, and the SHA-256 of its bytes.

    Records of compositions have ``slots`` input tokens and targets of one length, those of single
    facts have one of ``facts``. None if the file is laid out otherwise, cannot be read, or holds
    anything that a record must not.
    """
    reader, digest = _Reader(codec, slots, facts), hashlib.sha256()
    try:
        if not file.is_file():
            return None
        with open(file, "rb", buffering=0) as stream:
            for block, size in _blocks(stream, digest):
                reader.read(block, size)
    except (OSError, ValueError):
        return None
    return reader.lines(), digest.hexdigest()


class _Other(ValueError):
    """The file is laid out otherwise."""


def _expect(holds: bool | np.bool_) -> None:
    if not holds:
        raise _Other


def _blocks(stream, digest) -> Iterator[tuple[bytearray, int]]:
    """Whole lines as a buffer and the bytes of it that count, each time the same buffer.

    The lines are those of records, and all end as if another followed.
    """
    buffer = bytearray(2 * _BLOCK + _MOST_WORDS * _WORD)  # a name may be read at the last byte
    view = memoryview(buffer)
    head = stream.read(2)
    digest.update(head)
    _expect(head == b"[\n")
    filled = 0
    while count := stream.readinto(view[filled : filled + _BLOCK]):
        digest.update(view[filled : filled + count])
        filled += count
        end = buffer.rfind(b"\n", 0, max(filled - len(_LAST), 0)) + 1
        _expect(end or filled < _BLOCK)  # a line as long as a block is none of ours
        if end:
            yield buffer, end
            buffer[: filled - end] = buffer[end:filled]
            filled -= end
    _expect(buffer[:filled].endswith(_LAST))
    buffer[filled - len(_LAST) : filled] = _MORE + b" "
    yield buffer, filled - 1


class _Reader:
    """Collects the records of blocks of lines."""

    def __init__(self, codec: Codec, slots: int, facts: Collection[int]) -> None:
        self._names, self._inside = _Names(codec), codec.num_tokens
        self._slots = slots
        self._facts = {2 * given + 2: given for given in facts}  # by the tokens of a line
        self._width: int | None = None  # tokens of a line that holds a composition
        self._seen = 0
        self._codes: dict[bytes, int] = {}
        self._endings: list[dict] = []
        small = np.min_scalar_type(len(codec.vocabulary))
        self._dtype = small if small.itemsize < 4 else np.dtype(np.int32)
        self._found: dict[int, list[tuple[np.ndarray, ...]]] = {}

    def lines(self) -> dict[int, Lines]:
        """What was read by the tokens of the input, in the order of each one's first record."""
        found = {}
        for given in sorted(self._found, key=lambda given: self._found[given][0][2][0]):
            inputs, targets, numbers, ending = zip(*self._found.pop(given), strict=True)
            found[given] = Lines(
                np.concatenate(inputs, dtype=np.int32),
                np.concatenate(targets, dtype=np.int32),
                np.concatenate(numbers),
                self._endings,
                np.concatenate(ending),
            )
        return found

    def read(self, buffer: bytearray, size: int) -> None:
        """Take over the records of the first ``size`` bytes, or raise ``_Other``."""
        _expect(buffer.find(0, 0, size) < 0)
        block = np.frombuffer(buffer, dtype=np.uint8)
        text = block[:size]
        ends = np.flatnonzero(text == _NEWLINE)
        begins = np.concatenate([[0], ends[:-1] + 1])
        marks = np.flatnonzero((text | 2) == _CLOSE)  # < or >
        until = np.searchsorted(marks, ends)
        counts = np.diff(until, prepend=0)
        numbers = np.arange(self._seen + 1, self._seen + 1 + len(ends))
        self._seen += len(ends)
        for count in [counts[0]] if (counts == counts[0]).all() else np.unique(counts):
            own = slice(None) if len(marks) == count * len(ends) else counts == count
            places = (until[own] - count)[:, None] + np.arange(count)
            one = marks.reshape(-1, count) if isinstance(own, slice) else marks[places]
            self._read_alike(block, begins[own], ends[own], one, numbers[own])

    def _read_alike(
        self,
        block: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        marks: np.ndarray,
        numbers: np.ndarray,
    ) -> None:
        """Lines with equally many tokens, whose ``<`` and ``>`` are at ``marks``."""
        tokens = marks.shape[1] // 2
        given = self._given(tokens)
        _expect(marks.shape[1] == 2 * tokens and (block[marks] == [_OPEN, _CLOSE] * tokens).all())
        opens, closes = marks[:, ::2], marks[:, 1::2]
        gaps = np.ones(tokens - 1, dtype=np.int64)
        gaps[given - 1] += len(_BETWEEN)
        _expect((opens[:, 1:] - closes[:, :-1] == gaps).all())
        _expect((opens[:, 0] - begins == len(_BEFORE)).all())
        _expect((_at(block, begins, len(_BEFORE)) == _BEFORE).all())
        _expect((_at(block, closes[:, given - 1] + 1, len(_BETWEEN)) == _BETWEEN).all())
        words = self._names.words(block, opens + 1, closes - opens - 1)
        _expect((words[:, -1] == self._names.end).all())
        _expect((words[:, :given] == words[:, given : 2 * given]).all())
        inputs = self._names.ids(words[:, :given])
        _expect((inputs < self._inside).all())
        targets = self._names.ids(words[:, 2 * given : -1])
        found = (ids.astype(self._dtype) for ids in (inputs, targets))
        ending = self._ending(block, closes[:, -1] + 1, ends)
        self._found.setdefault(given, []).append((*found, numbers, ending))

    def _given(self, tokens: int) -> int:
        """How many tokens the inputs of lines with so many tokens have."""
        target = tokens - 2 * self._slots - 1
        if tokens in self._facts:
            _expect(target < 1)  # else it is not known what they are
            return self._facts[tokens]
        _expect(target >= 1 and self._width in (None, tokens))
        self._width = tokens
        return self._slots

    def _ending(self, block: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The numbers of what follows the texts in each line, ``(n,)`` of small integers."""
        found = np.zeros(len(begins), dtype=np.uint16)
        lengths = ends - begins
        same = (lengths == lengths[0]).all()
        for length in [lengths[0]] if same else np.unique(lengths):
            rows = np.arange(len(begins)) if same else np.flatnonzero(lengths == length)
            texts = _at(block, begins[rows], int(length))
            for _ in range(_OFTEN):
                if len(rows) == 0:
                    break
                alike = (texts == texts[0]).all(axis=1)
                found[rows[alike]] = self._code(texts[0].tobytes())
                rows, texts = rows[~alike], texts[~alike]
            found[rows] = [self._code(text.tobytes()) for text in texts]
        return found

    def _code(self, text: bytes) -> int:
        if text not in self._codes:
            _expect(text.startswith(b'"') and text.endswith(b"},"))
            _expect(len(self._codes) < _MOST_ENDINGS)
            record = '{"input_text": "", "target_text": "' + text[:-1].decode("utf-8")
            further = parse_json(record)
            del further["input_text"], further["target_text"]
            _expect(not any(isinstance(value, dict | list) for value in further.values()))
            self._codes[text] = len(self._codes)
            self._endings.append(further)
        return self._codes[text]


def _at(block: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """The ``length`` bytes from each of ``places`` on: ``(*places.shape, length)`` uint8."""
    _expect(length > 0 and len(block) >= length)
    every = np.ndarray(len(block) - length + 1, f"V{length}", block, strides=(1,))
    return every[places].view(np.uint8).reshape(*places.shape, length)


class _Names:
    """Finds the ids of names that are machine words, one or a few, their bytes from the lowest on.

    Names that are longer, or that JSON does not write as they are, are not found.
    """

    def __init__(self, codec: Codec) -> None:
        names = [token[1:-1].encode("utf-8") for token in codec.vocabulary]
        sizes = [len(name) if _is_plain(name) else 0 for name in names]
        fitting = [size for size in sizes if size <= _MOST_WORDS * _WORD]
        self._count = -(-max(fitting, default=1) // _WORD)
        most = self._count * _WORD
        # What is longer becomes nothing, and what is not found a word that no text can hold.
        kept = [n if 0 < s <= most else b"\0\1" for n, s in zip(names, sizes, strict=True)]
        masks = [b"\xff" * size for size in range(most + 1)] + [b""]
        self._masks, self._words, (self.end,) = (
            np.frombuffer(b"".join(text.ljust(most, b"\0") for text in texts), dtype="<u8").reshape(
                -1, self._count
            )
            for texts in (masks, kept, [END[1:-1].encode()])
        )
        keys = self._keys(self._words)
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]
        # Most names are found at once; those whose place another one has are searched for.
        bits = min(max(len(keys).bit_length() + 6, 10), 20)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, dtype=np.int32)
        self._table[self._place(keys)] = np.arange(len(keys), dtype=np.int32)

    def words(self, block: np.ndarray, places: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The names of these ``lengths`` at ``places``: ``(*places.shape, words)`` uint64."""
        most = self._count * _WORD
        masks = self._masks.take(np.minimum(lengths, most + 1), axis=0)
        return _at(block, places, most).view("<u8") & masks

    def ids(self, words: np.ndarray) -> np.ndarray:
        """The ids of names, int32 without the last axis; ``_Other`` if one is unknown."""
        keys = self._keys(words)
        found = self._table.take(self._place(keys))
        wrong = np.nonzero(self._differ(found, words))
        if len(wrong[0]):
            where = np.minimum(np.searchsorted(self._sorted, keys[wrong]), len(self._sorted) - 1)
            found[wrong] = self._order[where]
            _expect(not self._differ(found[wrong], words[wrong]).any())
        return found

    def _keys(self, words: np.ndarray) -> np.ndarray:
        """Names as one number each, which hardly any share."""
        keys = words[..., 0]
        for number in range(1, self._count):
            keys = keys * np.uint64(0xD6E8FEB86659FD93) + words[..., number]
        return keys

    def _place(self, keys: np.ndarray) -> np.ndarray:
        return (keys * np.uint64(0x9E3779B97F4A7C15) >> self._shift).view(np.int64)

    def _differ(self, ids: np.ndarray, words: np.ndarray) -> np.ndarray:
        wrong = np.zeros(ids.shape, dtype=bool)
        for number in range(self._count):
            wrong |= self._words[:, number].take(ids) != words[..., number]
        return wrong


def _is_plain(name: bytes) -> bool:
    """Whether JSON writes a name, given in UTF-8, as it is."""
    return all(byte >= 32 and byte not in b'"\\' for byte in name)

"""Text pairs whose tokens are known as numbers: no text is made of them unless somebody reads it.

Who holds items as arrays describes them so to the trainer, which then neither writes nor splits a
text for any of them.

>>> pair = PairBlock(np.array([[1, 0]]), np.array([[2]]), range(1))
>>> rows = TokenRows(["<a>", "<b>", "<c>", "</a>"], "</a>", [pair])
>>> next(rows.records())
{'input_text': '<b><a>', 'target_text': '<b><a><c></a>'}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simpletransformers.words import counted

#: Rows whose text is made at once.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class PairBlock:
    """Pairs of one shape.

    ``inputs`` is ``(n, a)`` integers; ``first[c]`` is to be added to column c of them to get places
    in the vocabulary (nothing, if it is empty). ``targets`` ``(n, m)`` are such places already, of
    what follows the input up to the end token. ``places`` are the pairs' numbers among all, from 0:
    a ``range``, or ``(n,)`` integers.
    """

    inputs: np.ndarray
    targets: np.ndarray
    places: range | np.ndarray
    first: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def rows(self) -> slice | np.ndarray:
        """``places``, as what arrays of all pairs are indexed by."""
        own = self.places
        return slice(own.start, own.stop) if isinstance(own, range) else own

    @property
    def width(self) -> int:
        """Tokens of a pair, the end left aside."""
        return self.inputs.shape[1] + self.targets.shape[1]

    def column(self, position: int) -> np.ndarray:
        """``(n,)`` places in the vocabulary of the tokens at a position, the end left aside."""
        width = self.inputs.shape[1]
        if position >= width:
            return self.targets[:, position - width]
        own = self.inputs[:, position]
        return own.astype(np.int32) + np.int32(self.first[position]) if self.first else own

    def select(self, rows: np.ndarray, places: np.ndarray) -> PairBlock:
        """The pairs of ``rows``, as those of these ``places``."""
        return PairBlock(self.inputs[rows], self.targets[rows], places, self.first)


@dataclass(frozen=True)
class Labels:
    """What all pairs have under one key: ``codes`` ``(n,)`` integers, places in ``names``.

    -1 is no value.
    """

    codes: np.ndarray
    names: Sequence[str]

    @classmethod
    def of(cls, values: Sequence[object], numbers: np.ndarray | None = None) -> Labels:
        """Labels of values as texts, None being none; ``values[numbers]`` if numbers are given."""
        known: dict[str, int] = {}
        codes = np.fromiter(
            (-1 if v is None else known.setdefault(str(v), len(known)) for v in values),
            np.int32,
            len(values),
        )
        return cls(codes if numbers is None else codes[numbers], list(known))


@dataclass(frozen=True)
class TokenRows:
    """Pairs as blocks of arrays, ended by the token ``end`` of the ``vocabulary``.

    ``labels`` are those of the keys by which pairs are scored in groups.
    """

    vocabulary: Sequence[str]
    end: str
    blocks: Sequence[PairBlock]
    labels: Mapping[str, Labels] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<TokenRows: {counted(len(self), 'pair')} of {len(self.vocabulary):,} tokens>"

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def records(self) -> Iterator[dict[str, str]]:
        """``input_text`` and ``target_text`` of every pair, in order."""
        tokens = np.array(self.vocabulary, dtype=object)
        where = np.empty((len(self), 2), dtype=np.int32)  # block and row
        for number, block in enumerate(self.blocks):
            where[block.rows] = np.stack(
                [np.full(len(block), number), np.arange(len(block))], axis=1
            )
        for begin in range(0, len(self), _CHUNK):
            chunk = where[begin : begin + _CHUNK]
            texts: list[tuple[str, str]] = [("", "")] * len(chunk)
            for number in np.unique(chunk[:, 0]):
                mine = np.flatnonzero(chunk[:, 0] == number)
                block = self.blocks[number].select(chunk[mine, 1], mine)
                width = block.inputs.shape[1]
                columns = [tokens[block.column(p)] for p in range(block.width)]
                inputs = sum(columns[1:width], columns[0])
                targets = sum(columns[width:], inputs) + self.end
                for place, pair in zip(mine, zip(inputs, targets, strict=True), strict=True):
                    texts[place] = pair
            for before, whole in texts:
                yield {"input_text": before, "target_text": whole}

"""Training items, a chunk at a time: of a data set in memory, or of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coverage_principle.coverage.in_parts.spill import telling_where

#: Inputs ``(n, slots)`` and answers ``(n,)``.
Chunk = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class HeldRows:
    """Training items in memory: inputs ``(n, slots)`` and answers ``(n,)``."""

    inputs: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.answers)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """All of them, ``size`` at a time."""
        for begin in range(0, len(self), size):
            part = slice(begin, begin + size)
            yield self.inputs[part], self.answers[part]

    def store(self, file: Path) -> None:
        """Write them where ``StoredRows`` reads them, as int32."""
        with telling_where(file), open(file, "wb") as out:
            for inputs, answers in self.chunks(1 << 16):
                out.write(np.column_stack([inputs, answers]).astype("<i4").tobytes())


@dataclass(frozen=True)
class StoredRows:
    """Training items of ``slots`` slots in a file that ``HeldRows.store`` wrote."""

    file: Path
    slots: int

    def __len__(self) -> int:
        return self.file.stat().st_size // (4 * (self.slots + 1))

    def chunks(self, size: int) -> Iterator[Chunk]:
        """All of them, ``size`` at a time."""
        width = self.slots + 1
        with open(self.file, "rb") as file:
            while len(found := np.fromfile(file, "<i4", size * width)):
                found = found.reshape(-1, width)
                yield found[:, :-1], found[:, -1]

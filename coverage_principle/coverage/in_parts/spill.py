"""Rows of numbers that wait on disk, sorted into cells."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np


class Spill:
    """Rows of ``columns`` int32 numbers in a file of ``folder``, each in one of ``cells`` cells.

    The file has no name: however the process ends, its space is free again.
    """

    def __init__(self, folder: Path, columns: int, cells: int) -> None:
        self._folder, self._columns, self._cells = folder, columns, cells
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close
        self._begins: list[np.ndarray] = []
        self._rows = 0

    def close(self) -> None:
        self._file.close()

    def append(self, rows: np.ndarray, cell: np.ndarray) -> None:
        """Add ``rows`` ``(n, columns)``, which go to ``cell`` ``(n,)``; their order stays."""
        counts = np.bincount(cell, minlength=self._cells)
        self._begins.append(self._rows + np.concatenate([[0], np.cumsum(counts)]))
        self._rows += len(rows)
        with telling_where(self._folder):
            ordered = rows[np.argsort(cell, kind="stable")]
            self._file.write(memoryview(ordered.astype(np.int32, copy=False)).cast("B"))

    def read(self, cells: Sequence[range]) -> np.ndarray:
        """The rows in some cells, which are given as ranges: ``(m, columns)`` int32."""
        pieces = [(b[cell.start], b[cell.stop]) for b in self._begins for cell in cells]
        found = np.empty((sum(int(end - begin) for begin, end in pieces), self._columns), np.int32)
        filled = 0
        with telling_where(self._folder):
            for begin, end in pieces:
                if begin < end:
                    self._file.seek(4 * self._columns * int(begin))
                    part = found[filled : filled + int(end - begin)]
                    self._file.readinto(memoryview(part).cast("B"))
                    filled += len(part)
        return found


@contextmanager
def telling_where(folder: Path):
    """Name the folder where a disk is full: what is written to has no name of its own."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise

"""Counts and lists as a person writes them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 item``, ``2,000 items``.

    ``plural`` is of nouns that take more than an s: ``counted(2, "process", "processes")``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """``f1, f2 and f3``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def count_lines(rows: Sequence[tuple[str, int | None, str]]) -> list[str]:
    """A line for each name, count (``-`` for None) and what follows; the counts are a column."""
    cells = [(name, "-" if n is None else f"{n:,}", rest) for name, n, rest in rows]
    width = max((len(name) for name, _, _ in cells), default=0)
    digits = max((len(cell) for _, cell, _ in cells), default=0)
    return [f"{name:<{width}}  {cell:>{digits}} {rest}".rstrip() for name, cell, rest in cells]

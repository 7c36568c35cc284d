"""What objects that hold arrays say of themselves: one line, whatever their size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sized
from pathlib import Path

from simpletransformers.words import counted

_LONGEST = 60


def one_line(thing: object) -> str:
    """A dataclass as ``Name(field=..., ...)`` in which arrays are shapes and collections lengths.

    For ``__repr__ = one_line`` in a class, which the decorator then leaves alone.

    >>> @dataclasses.dataclass
    ... class Items:
    ...     inputs: list
    ...     label: str
    ...     __repr__ = one_line
    >>> Items([[1, 2], [3, 4], [5, 6]], "type_0")
    Items(inputs=3 items, label='type_0')
    """
    shown = (f.name for f in dataclasses.fields(thing) if f.repr)
    inside = ", ".join(f"{name}={_short(getattr(thing, name))}" for name in shown)
    return f"{type(thing).__name__}({inside})"


def _short(value: object) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, str | Path):
        text = repr(str(value))
    elif isinstance(value, Mapping):
        text = counted(len(value), "entry", "entries")
    elif isinstance(value, Sized) and not dataclasses.is_dataclass(value):
        few = len(value) <= 4 and all(isinstance(one, str | int | float) for one in value)
        text = repr(value) if few else counted(len(value), "item")
    else:
        text = repr(value)
    return text if len(text) <= _LONGEST and "\n" not in text else type(value).__name__

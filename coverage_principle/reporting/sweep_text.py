"""The points of a sweep (``experiments.sweep_points``) as text: names, numbers, a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

#: What ``x`` may be beside settings, scores and numbers of runs, and how an axis names it.
PLACES = {"k_cutoff": "k-cutoff", "step": "step", "group": "group"}


def is_share(y: str) -> bool:
    """Whether a score is a share of items, from 0 to 1."""
    return y.endswith(("accuracy", "match"))


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_text(value: object) -> str:
    """A setting's value in words: ``0.1``, ``true``, ``b,x2``; ``-`` for none."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ",".join(map(as_text, value))
    return "-" if value is None else json.dumps(value)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Settings by the last part of their names, where that says which they are."""
    ends = [name.rpartition(".")[2] for name in names]
    return {
        name: end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)
    }


def points_table(content: Mapping) -> tuple[list[str], list[list[str]]]:
    """The points of ``sweep_points`` as text: the header and a row for each."""
    names = list(content["points"][0]["series"])
    short = short_names(names)
    panels = [content["panels"]] if content["panels"] else []
    rows = []
    for point in content["points"]:
        row = [x_text(point["panel"])] if panels else []
        row += [x_text(value) for value in point["series"].values()]
        row += [x_text(point["x"]), as_number(point["mean"], content["y"])]
        row += [interval(point, content["y"]) or "-", str(len(point["runs"]))]
        rows.append(row + ([] if point["items"] is None else [f"{point['items']:,}"]))
    header = [*panels, *short.values(), PLACES.get(content["x"], content["x"]), content["y"]]
    items = [] if content["points"][0]["items"] is None else ["items"]
    return [*header, "95 % interval", "runs", *items], rows


def as_number(value: float, y: str) -> str:
    """A value of a score as tables show it."""
    if is_share(y):
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def as_key(value: object) -> object:
    """A setting's value as something to group and to sort by: a number, else words."""
    return value if is_number(value) else as_text(value)


def interval(point: Mapping, y: str) -> str:
    """A point's interval; empty if it has none."""
    if point["low"] is None:
        return ""
    return f"{as_number(point['low'], y)} to {as_number(point['high'], y)}"


def with_interval(point: Mapping, y: str) -> str:
    """A point's mean, and its interval in brackets."""
    found = interval(point, y)
    return f"{as_number(point['mean'], y)} ({found})" if found else as_number(point["mean"], y)


def x_text(x: object) -> str:
    """A place on x, or a value of a line, as tables and axes show it."""
    if isinstance(x, float):
        return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.6g}"
    return f"{x:,}" if is_number(x) else str(x)

"""A sweep as a file: settings, and a grid of what varies between its runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.data import read_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.settings import RunSettings

#: Names that stay in their folder.
_NAME = re.compile(r"[\w+-][\w .+-]*")
_KEYS = {"name", "base", "grid", "runs"}


@dataclass(frozen=True)
class Spec:
    """A named list of distinct runs."""

    name: str
    runs: tuple[RunSettings, ...]


def read_spec(file: Path) -> Spec:
    """The sweep in a JSON file, see ``make_spec``; its name is the file's if it gives none."""
    return make_spec(read_json(file), Path(file).stem, str(file))


def make_spec(content: Mapping[str, object], name: str, source: str = "the spec") -> Spec:
    """The sweep that ``content`` describes.

    ``base`` holds settings as ``RunSettings.resolve`` takes them. ``grid`` maps settings, such as
    ``"seed"`` or ``"train.n_layer"``, to lists of values, all of whose combinations are run.
    ``runs`` is a list of further settings, each laid over ``base`` and combined with the grid. A
    value of null takes a setting or section of ``base`` away.

    ``InputError`` names the ``source``, the run and what is wrong with it.
    """
    if not isinstance(content, dict) or (unknown := sorted(set(content) - _KEYS)):
        found = f"it has {', '.join(unknown)}" if isinstance(content, dict) else "it has not"
        keys = ", ".join(sorted(_KEYS))
        raise InputError(f"{source} must be a JSON object with some of {keys}; {found}")
    name = content.get("name", name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{source}: the name {name!r} must be that of a folder: letters, digits, spaces and "
            "._+- only, no dot first"
        )
    shapes = {"base": dict, "grid": dict, "runs": list}
    for key, kind in shapes.items():
        if not isinstance(content.get(key, kind()), kind):
            raise InputError(f"{source}: {key} must be a {'list' if kind is list else 'object'}")
    if not all(isinstance(extra, dict) for extra in content.get("runs", [])):
        raise InputError(f"{source}: runs must be a list of objects")
    grid = content.get("grid", {})
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{source}: grid {key!r} must be a list of values")
    runs: dict[str, RunSettings] = {}
    for extra in content.get("runs", [{}]):
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            settings = _overlay(content.get("base", {}), extra)
            for key, value in point.items():
                for part in reversed(key.split(".")):  # {"train": {"n_layer": value}}
                    value = {part: value}
                settings = _overlay(settings, value)
            varied = {**dotted(extra), **point}.items()
            label = " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in varied)
            try:
                run = RunSettings.resolve(settings, label)
            except InputError as error:
                raise InputError(f"{source}, run {label or 'of the base'}: {error}") from error
            runs.setdefault(run.id, run)
    return Spec(name, tuple(runs.values()))


def _overlay(base: Mapping, extra: Mapping) -> dict:
    """``extra`` laid over ``base``, object by object; null takes away."""
    result = dict(base)
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _overlay(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def dotted(settings: Mapping, prefix: str = "") -> dict[str, object]:
    """Nested settings as ``{"train.n_layer": 2}``."""
    found = {}
    for key, value in settings.items():
        inside = isinstance(value, Mapping) and value
        found |= dotted(value, f"{prefix}{key}.") if inside else {prefix + key: value}
    return found

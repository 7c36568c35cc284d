"""The types of model that there are: one file of this folder each, and what other code registers.

A type's file holds all that is particular to it, as a subclass of ``architecture.Architecture``
that it calls ``ARCHITECTURE``. ``names`` imports none of them, so that a command can offer them at
once.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from simpletransformers.errors import InputError

#: The type of models that a user's own file makes: it is named by the file, and not offered here.
OF_FILE = "model_file"
#: Subclasses of ``architecture.Architecture`` by the name of their type.
_registered: dict[str, type] = {}


def names() -> tuple[str, ...]:
    """The types that can be trained: those of this folder, then the registered ones."""
    found = {file.name for file in pkgutil.iter_modules(__path__)} - {OF_FILE}
    return (*sorted(found), *_registered)


def register(name: str, architecture: type) -> None:
    """Offer a type of model from outside this package.

    ``name`` is the ``model_type`` of its configuration, by which the auto classes of transformers
    know it. ``ValueError`` if there is one of that name.
    """
    if name in (OF_FILE, *names()):
        raise ValueError(f"there is a model type {name} already")
    _registered[name] = architecture


def find(name: object) -> type:
    """The ``Architecture`` of a type; ``InputError`` if there is none."""
    if name not in (OF_FILE, *names()):
        raise InputError(f"`model_type` {name} is not offered; it is one of {', '.join(names())}")
    if name in _registered:
        return _registered[name]
    return importlib.import_module(f"{__name__}.{name}").ARCHITECTURE


def switches() -> dict[str, str]:
    """Every switch that changes an architecture, with the type that it is for."""
    return {switch: name for name in names() for switch in find(name).switches}


def loops_of(config: object) -> int:
    """How often a model runs its stack of blocks: by its configuration, or a ``config.json``."""
    entries = config if isinstance(config, Mapping) else vars(config)
    twice = "add_recurrence" in (entries.get("architecture_switches") or ())
    return entries.get("architecture_loops", 2 if twice else 1)

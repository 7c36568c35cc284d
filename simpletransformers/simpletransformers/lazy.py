"""Packages that import their modules when a name is first used, so that ``--help`` is instant."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def exports(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose ``__name__`` is ``package``.

    ``names`` maps each module of the package to the names that it gives, separated by spaces. A
    name must not be that of a module, since an imported module hides it (``ValueError``).
    """
    home = {name: module for module, given in names.items() for name in given.split()}
    if hidden := sorted(set(home) & set(names)):
        raise ValueError(f"{package} exports {', '.join(hidden)}, which is also a module's name")

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(home), sorted(home)

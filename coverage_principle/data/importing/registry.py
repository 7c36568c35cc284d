"""The importers by name. The standard library is enough here."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.data.importing.settings import (
    GrokkedSettings,
    ImportSettings,
    TableSettings,
    TriplesSettings,
)
from coverage_principle.errors import InputError

if TYPE_CHECKING:
    from coverage_principle.data.importing.common import Imported


@dataclass(frozen=True)
class Importer:
    """One kind of source. Its module ``importing/NAME.py`` has ``read(sources, settings)``.

    ``source`` is what the command is given, and ``many`` whether it may be several.
    """

    about: str
    source: str
    settings: type[ImportSettings]
    many: bool = False


#: The importers by name.
IMPORTERS = {
    "grokked": Importer("a folder of GrokkedTransformer's files", "DIR", GrokkedSettings),
    "triples": Importer(
        "files of triples: head, relation, tail, separated by tabs or commas",
        "FILE",
        TriplesSettings,
        many=True,
    ),
    "table": Importer(
        "a table with a row for each item: CSV, TSV, JSON lines, Parquet", "FILE", TableSettings
    ),
}


def folder_name(sources: Sequence[Path], settings: ImportSettings, name: str | None = None) -> str:
    """The name of an import's folder: ``name``, or after the source and the settings.

    ``InputError`` if it is none.
    """
    if name is None:
        source = sources[0].resolve()
        if len(sources) > 1:
            source = source.parent
        name = (source.name if source.is_dir() else source.stem) + settings.suffix
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InputError(f"`name` {name!r} is no name of a folder")
    return name


def import_source(kind: str, sources: Sequence[Path], settings: ImportSettings) -> Imported:
    """What the importer ``kind`` reads from files or a folder.

    ``InputError`` names what keeps it from being a data set, with file and line or record.
    """
    module = importlib.import_module(f"{__package__}.{kind}")
    return module.read(sources, settings)

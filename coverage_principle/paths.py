"""Where things are: the repository root, and paths that a user may give from any folder."""

from __future__ import annotations

from pathlib import Path

from coverage_principle.errors import InputError


def repository_root() -> Path:
    """The checkout that this library runs from, or the working directory if it is not in one."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "dataset_generation").is_dir() else Path.cwd()


def find_folder(given: str | Path, setting: str, also_in: str | None = None) -> Path:
    """An existing folder named by a user: from the working directory, then the repository root.

    ``also_in`` is a folder (such as ``data``) in which a bare name is looked for as well.

    Raises ``InputError`` that names the ``setting`` and lists what lies where the path stops
    existing.
    """
    named = f"`{setting.lstrip('-')}` {given}"
    if not isinstance(given, str | Path):
        raise InputError(f"{named} is not the path of a folder")
    path = Path(given)
    bases = [Path.cwd(), repository_root()]
    if also_in is not None:
        bases += [base / also_in for base in bases]
    candidates = [base / path for base in bases]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate.resolve()
    if candidates[0].exists():
        hint = f"; it becomes a data set by: {importer_for(path)}" if also_in == "data" else ""
        raise InputError(f"{named} is a file, but a folder is needed{hint}")
    # Describe the most promising miss: the candidate of which most exists already.
    parents = [_nearest_existing(candidate) for candidate in candidates[:2]]
    nearest = max(parents, key=lambda parent: len(parent.parts))
    raise InputError(f"{named} does not exist; {nearest} holds {_listing(nearest)}")


def importer_for(path: Path) -> str:
    """The command that makes a data set of a file or folder of another kind, as it is typed."""
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    command = "python script/import_dataset.py"
    if {"train.json", "vocab.json"} <= {*names}:
        return f"{command} grokked {path}"
    file = path if path.is_file() else "FILE"
    for endings, kind in (((".tsv", ".txt"), "triples"), ((".csv", ".jsonl", ".parquet"), "table")):
        if any(name.endswith(endings) for name in names):
            return f"{command} {kind} {file}"
    return f"{command} table FILE, triples FILE or grokked DIR"


def _nearest_existing(path: Path) -> Path:
    while not path.is_dir():
        path = path.parent
    return path.resolve()


def _listing(folder: Path, limit: int = 12) -> str:
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
    names = [name for name in names if not name.startswith(".")]
    if not names:
        return "nothing"
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def relative_to_root(path: Path) -> str:
    """``path`` as recorded in files: relative inside the repository, absolute elsewhere."""
    path = path.resolve()
    root = repository_root()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

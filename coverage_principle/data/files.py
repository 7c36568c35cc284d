"""Files read and written whole or not at all: JSON, text, arrays, and the folder of a data set."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.errors import InputError

if TYPE_CHECKING:
    import numpy as np

METADATA = "metadata.json"

#: What one file of a data set may be given as: text, chunks of text, or bytes.
Content = str | bytes | Iterable[str]


def read_json(path: Path) -> object:
    """The content of a JSON file; ``InputError`` names the file and what is wrong with it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def dump_json(content: object, *, one_per_line: bool = False) -> str:
    """JSON text; with ``one_per_line``, the records of a list stand on a line each."""
    if not one_per_line:
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in content)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def write_json(path: Path, content: object, *, one_per_line: bool = False) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never a part."""
    write_text(path, dump_json(content, one_per_line=one_per_line))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed ``.npz`` (states do not compress) whole or not at all.

    A path that ends in ``.safetensors`` gets that format instead, whose files can be read in parts.
    """
    import numpy as np

    with _replacing(path) as temporary, open(temporary, "wb") as file:
        if Path(path).suffix == ".safetensors":
            from safetensors.numpy import save

            file.write(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
        else:
            np.savez(file, **arrays)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place by rename, if all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide results from a group
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_dataset(
    folder: Path,
    files: Mapping[str, Content],
    metadata: Mapping[str, object],
    *,
    overwrite: bool,
    extras: Mapping[str, Content] | None = None,
) -> bool:
    """Put a data set's files in place together, or leave what was there.

    ``files`` maps file names to their content; they are what the data set is. ``metadata`` is
    written as ``metadata.json`` with the SHA-256 of each file under ``"sha256"``. ``extras`` (a
    card, a figure) are written too, but do not count as data. All go to a temporary folder beside
    ``folder``, which then takes its place by rename. Returns False if ``folder`` holds the same
    data already (nothing is touched); raises ``InputError`` if it holds other data and
    ``overwrite`` is false.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for name, content in {**files, **(extras or {})}.items():
            _write(temporary / name, content)
        digests = {name: sha256(temporary / name) for name in files}
        _write(temporary / METADATA, dump_json({**metadata, "sha256": digests}))
        if _same_data(folder, digests):
            return False
        if folder.exists() and not overwrite:
            other = "already holds a data set with other contents"
            raise InputError(f"{folder} {other}; give `overwrite` to replace it")
        os.chmod(temporary, 0o755)
        _swap(temporary, folder)
        return True
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    with open(path, "w", encoding="utf-8") as file:
        file.writelines([content] if isinstance(content, str) else content)


def _same_data(folder: Path, digests: Mapping[str, str]) -> bool:
    return (folder / METADATA).exists() and all(
        (folder / name).exists() and sha256(folder / name) == digest
        for name, digest in digests.items()
    )


def _swap(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; an old folder is moved aside first and then removed."""
    old = new.with_name(f"{new.name}.old")
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    except BaseException:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)

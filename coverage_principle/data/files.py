"""Arrays, and the folder of a data set, through the one door to files (``simpletransformers``)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coverage_principle.errors import InputError
from simpletransformers.files import (
    check_place,
    digests,
    dump_json,
    looking_into,
    one_writer,
    read_json,
    read_lines,
    read_text,
    replacing,
    replacing_folder,
    replacing_together,
    sha256,
    text_lines,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import numpy as np

# Re-exported: what reads and writes data need not know where the door stands.
__all__ = ["check_place", "digests", "dump_json", "looking_into", "one_writer", "read_arrays"]
__all__ += ["read_json", "read_lines", "read_text", "replacing", "sha256", "text_lines"]
__all__ += ["write_arrays", "write_dataset", "write_json", "write_text", "write_together"]

METADATA = "metadata.json"

#: What one file of a data set may be given as: text, bytes, or chunks of bytes.
Content = str | bytes | Iterable[bytes]


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` or ``.safetensors`` file by name.

    ``InputError`` if it does not exist or is not a whole file of its kind.
    """
    import numpy as np
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is a folder")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # numpy, zip and safetensors have no common base for this
        # What numpy says of a file that is no archive is about pickles, which nobody wrote here.
        raise InputError(f"{path} is not a readable {path.suffix} file") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed ``.npz`` (states do not compress) whole or not at all.

    A path that ends in ``.safetensors`` gets that format instead, whose files can be read in parts.
    """
    write_together({path: arrays})


def write_together(contents: Mapping[Path, Content | Mapping[str, np.ndarray]]) -> None:
    """Write files of one result, texts and arrays (``write_arrays``): all or none.

    The last is what readers look for: it is never there beside others of another result.
    """
    import numpy as np

    with replacing_together(*contents) as places:
        for (path, content), place in zip(contents.items(), places, strict=True):
            if not isinstance(content, Mapping):
                _write(place, content)
                continue
            with open(place, "wb") as file:
                if path.suffix == ".safetensors":
                    from safetensors.numpy import save

                    arrays = {name: np.ascontiguousarray(a) for name, a in content.items()}
                    file.write(save(arrays))
                else:
                    np.savez(file, **content)


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
    with replacing_folder(folder) as new:
        for name, content in {**files, **(extras or {})}.items():
            _write(new / name, content)
        own = {name: sha256(new / name) for name in files}
        _write(new / METADATA, dump_json({**metadata, "sha256": own}))
        there = digests(folder / name for name in (METADATA, *files))
        if METADATA in there and there.items() >= own.items():
            shutil.rmtree(new)  # there already: nothing takes its place
            return False
        if folder.exists() and not overwrite:
            other = "already holds a data set with other contents"
            raise InputError(f"{folder} {other}; give `overwrite` to replace it")
    return True


def _write(path: Path, content: Content) -> None:
    if isinstance(content, str):
        content = content.encode("utf-8")
    with open(path, "wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)

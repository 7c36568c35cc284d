"""Arrays on disk, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed ``.npz`` (states do not compress) and rename it into place.

    A path that ends in ``.safetensors`` gets that format instead, whose files can be read in parts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.suffix == ".safetensors":
                whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
                file.write(safetensors.numpy.save(whole))
            else:
                np.savez(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

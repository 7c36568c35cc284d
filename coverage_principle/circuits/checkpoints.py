"""Finding what a user names: a checkpoint, a run, its data set.

A *run* is a folder that holds ``checkpoint-<step>/`` folders and usually a ``final_checkpoint/``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from coverage_principle.data import sha256
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder, repository_root
from simpletransformers.seq2seq.run_folder import (
    FINAL,
    SETTINGS,
    RunFolder,
    checkpoint_name,
    is_checkpoint,
)

logger = logging.getLogger(__name__)

# ------------------------------------------------------------------------- runs and checkpoints


def find_checkpoint(given: str | Path) -> Path:
    """The checkpoint folder that `ckpt` names, from the working directory or the repository.

    ``InputError`` lists what is there if it does not exist or holds no model.
    """
    folder = find_folder(given, "ckpt")
    if not is_checkpoint(folder):
        held = ", ".join(path.name for path in RunFolder(folder).checkpoints())
        hint = f"it is a run that holds {held}" if held else "it has no config.json"
        raise InputError(f"`ckpt` {given} is not a checkpoint: {hint}")
    return folder


def find_run(given: str | Path) -> Path:
    """The run folder that `model_dir` names; ``InputError`` if it holds no checkpoint."""
    folder = find_folder(given, "model_dir")
    if not RunFolder(folder).checkpoints():
        what = (
            "is a checkpoint, give the folder above it"
            if is_checkpoint(folder)
            else f"holds no checkpoint-STEP or {FINAL} folder with a model"
        )
        raise InputError(f"`model_dir` {given} {what}")
    return folder


def list_checkpoints(run: Path, steps: Sequence[str] | None = None) -> list[Path]:
    """Checkpoint folders of a run, by step, the final one last.

    ``steps`` names them as ``250``, ``checkpoint-250`` or ``final_checkpoint``; all by default.
    ``InputError`` names every one that does not exist, and those that do.
    """
    present = RunFolder(run).checkpoints()
    if steps is None:
        return present
    names = {checkpoint_name(step) for step in steps}
    missing = sorted(names - {path.name for path in present})
    if missing:
        raise InputError(
            f"`step_list`: {run.name} has no {', '.join(missing)}; "
            f"it has {', '.join(path.name for path in present)}"
        )
    return [path for path in present if path.name in names]


# ---------------------------------------------------------------------------- a run's data set


def find_dataset(run: Path, data_dir: str | Path | None = None) -> Path:
    """The folder of the data set that a run was trained on.

    Without ``data_dir``, the one recorded in the run's ``run_config.json``, else ``data/<name>``
    with the run folder's name up to the first ``_``. ``data_dir`` may be the data set itself, or a
    folder that holds it or holds ``data/<name>``; if no such folder exists, a warning says so and
    the default is used. Contents that differ from those recorded by the run give a warning.
    """
    recorded, digests = _recorded_dataset(run)
    name = recorded.name if recorded is not None else run.name.split("_")[0]
    folder = _given_dataset(data_dir, name) if data_dir is not None else None
    if folder is None:
        folder = recorded if recorded is not None else repository_root() / "data" / name
        if not _is_dataset(folder):
            source = "run_config.json" if recorded is not None else "the run's name"
            raise InputError(
                f"the data set of {run.name} is not at {folder} (from {source}); "
                "name it by `data_dir`"
            )
    changed = [f for f, digest in digests.items() if _digest_or_none(folder / f) != digest]
    if changed:
        logger.warning(
            "warning: %s of %s is not what %s was trained on",
            " and ".join(changed),
            folder,
            run.name,
        )
    return folder


def _recorded_dataset(run: Path) -> tuple[Path | None, dict[str, str]]:
    """The data set that ``run_config.json`` names, and the SHA-256 of its files."""
    settings = RunFolder(run).settings()
    if not settings:
        return None, {}
    try:
        about = settings["dataset"]
        return repository_root() / about["path"], dict(about.get("sha256", {}))
    except (KeyError, TypeError, ValueError):
        logger.warning("warning: %s names no data set", run / SETTINGS)
        return None, {}


def _digest_or_none(file: Path) -> str | None:
    return sha256(file) if file.is_file() else None


def _given_dataset(given: str | Path, name: str) -> Path | None:
    """What `data_dir` means; None, with a warning, if it does not exist."""
    try:
        folder = find_folder(given, "data_dir")
    except InputError:
        logger.warning("warning: `data_dir` %s does not exist; using the run's own data set", given)
        return None
    for candidate in (folder, folder / name, folder / "data" / name):
        if _is_dataset(candidate):
            if candidate.name != name:
                logger.warning(
                    "warning: `data_dir` is %s, but the run is of %s", candidate.name, name
                )
            return candidate
    raise InputError(
        f"`data_dir` {given} is no data set and holds neither {name}/ nor data/{name}/"
    )


def _is_dataset(folder: Path) -> bool:
    return (folder / "vocab.json").is_file() and (folder / "train.json").is_file()

"""Finding what a user names: a checkpoint, a run, its data set.

A *run* is a folder that holds ``checkpoint-<step>/`` folders and usually a ``final_checkpoint/``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from coverage_principle.data import digests
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
        what = f"holds no checkpoint-STEP or {FINAL} folder with a model"
        if is_checkpoint(folder):
            what = "is a checkpoint, give the folder above it"
        raise InputError(f"`model_dir` {given} {what}")
    return folder


def list_checkpoints(run: Path, steps: Sequence[str] | None = None) -> list[Path]:
    """Checkpoint folders of a run, by step, the final one last.

    ``steps`` names them as ``250``, ``checkpoint-250`` or ``final_checkpoint``; all by default.
    ``InputError`` names every one that does not exist, and those that do.
    """
    present = RunFolder(run).checkpoints()
    if not steps:
        return present
    names = {checkpoint_name(step) for step in steps}
    missing = sorted(names - {path.name for path in present})
    if missing:
        held = ", ".join(path.name for path in present)
        raise InputError(f"`step_list`: {run.name} has no {', '.join(missing)}; it has {held}")
    return [path for path in present if path.name in names]


def find_dataset(run: Path, data_dir: str | Path | None = None) -> Path:
    """The folder of the data set that a run was trained on.

    Without ``data_dir``, the one recorded in the run's ``run_config.json``, else ``data/<name>``
    with the run folder's name up to the first ``_``. ``data_dir`` may be the data set itself, or a
    folder that holds it or holds ``data/<name>``; if no such folder exists, a warning says so and
    the default is used. Contents that differ from those recorded by the run give a warning if
    ``data_dir`` names them, and else ``InputError``.
    """
    recorded, name = _recorded_dataset(run)[0], dataset_name(run)
    folder = None if data_dir is None else _given_dataset(data_dir, name)
    if not (named := folder is not None):
        folder = recorded or repository_root() / "data" / name
        if not _is_dataset(folder):
            source = "run_config.json" if recorded else "the run's name"
            lack = f"the data set of {run.name} is not at {folder} (from {source})"
            raise InputError(f"{lack}; name it by `data_dir`")
    if changed := changed_since(run, folder):
        told = f"{' and '.join(changed)} of {folder} changed since {run.name} was trained"
        if not named:
            advice = "train again, or give the folder as `data_dir` to go on with what it holds now"
            raise InputError(f"{told}; {advice}")
        logger.warning("warning: %s", told)
    return folder


def dataset_name(run: Path) -> str:
    """The name of the data set that a run was trained on, whether it is still there or not."""
    recorded, _ = _recorded_dataset(run)
    return recorded.name if recorded else run.name.split("_")[0]


def changed_since(run: Path, dataset: Path) -> list[str]:
    """Files of a data set that are not what the run recorded of its own; none if it did not."""
    _, recorded = _recorded_dataset(run)
    now = digests(dataset / name for name in recorded)
    return [name for name in recorded if now.get(name) != recorded[name]]


def weights_of(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of a checkpoint's files of weights."""
    return digests(sorted(checkpoint.glob("*.safetensors")))


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


def _given_dataset(given: str | Path, name: str) -> Path | None:
    """What `data_dir` means; None, with a warning, if it does not exist."""
    try:
        folder = find_folder(given, "data_dir")
    except InputError:
        logger.warning("warning: `data_dir` %s does not exist; using the run's own data set", given)
        return None
    found = next(filter(_is_dataset, (folder, folder / name, folder / "data" / name)), None)
    if found is None:
        neither = f"is no data set and holds neither {name}/ nor data/{name}/"
        raise InputError(f"`data_dir` {given} {neither}")
    if found.name != name:
        logger.warning("warning: `data_dir` is %s, but the run is of %s", found.name, name)
    return found


def _is_dataset(folder: Path) -> bool:
    return (folder / "vocab.json").is_file() and (folder / "train.json").is_file()

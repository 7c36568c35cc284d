"""Finding what a user names: a checkpoint, a run, its data set.

A *run* is a folder that holds ``checkpoint-<step>/`` folders and usually a ``final_checkpoint/``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from coverage_principle.data import digests, read_json
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder, repository_root
from simpletransformers.seq2seq.architectures import OF_FILE
from simpletransformers.seq2seq.run_folder import (
    FINAL,
    SETTINGS,
    RunFolder,
    checkpoint_name,
    is_checkpoint,
)

logger = logging.getLogger(__name__)

#: What stands in `step_list` for every checkpoint.
ALL = "all"


def find_checkpoints(
    model_dir: str | Path | None = None,
    ckpt: str | Path | None = None,
    steps: Sequence[str] | None = None,
) -> tuple[Path, list[Path]]:
    """A run's folder, and the checkpoints of it that the settings of these names mean.

    `model_dir` is a run, and means all of its checkpoints; `ckpt` is one checkpoint. Each also
    takes what the other is for: a checkpoint given as `model_dir` means itself, a run given as
    `ckpt` its last checkpoint, which a line of the log says. ``steps`` chooses from what there is
    (see ``list_checkpoints``). Paths are looked for from the working directory and the repository.

    ``InputError`` for both or neither of the two, for a folder that does not exist or holds no
    model, and for steps that are not there.
    """
    if (model_dir is None) == (ckpt is None):
        raise InputError("give a run as `model_dir`, or a checkpoint as `ckpt`, and not both")
    given, setting = (ckpt, "ckpt") if model_dir is None else (model_dir, "model_dir")
    folder = find_folder(given, setting)
    held = RunFolder(folder).checkpoints()
    # A folder may be both: the published trainer leaves its last model beside the checkpoints.
    if is_checkpoint(folder) and not (held and (steps or setting == "model_dir")):
        if {checkpoint_name(step) for step in steps or ()} - {folder.name, ALL}:
            advice = f"`step_list` chooses from a run: {folder.parent}"
            raise InputError(f"`{setting}` {given} is one checkpoint; {advice}")
        return folder.parent, [folder]
    if not held:
        no_run = f"it holds no checkpoint-STEP or {FINAL} folder with a model"
        raise InputError(f"`{setting}` {given} is no checkpoint (no config.json), and {no_run}")
    if setting == "ckpt" and not steps:
        logger.info("`ckpt` %s is a run; taking its %s", given, held[-1].name)
        return folder, held[-1:]
    return folder, list_checkpoints(folder, steps)


def find_checkpoint(given: str | Path) -> Path:
    """The checkpoint folder that `ckpt` names (see ``find_checkpoints``)."""
    return find_checkpoints(ckpt=given)[1][-1]


def find_run(given: str | Path) -> Path:
    """The run folder that `model_dir` names (see ``find_checkpoints``)."""
    return find_checkpoints(given)[0]


def list_checkpoints(run: Path, steps: Sequence[str] | None = None) -> list[Path]:
    """Checkpoint folders of a run, by step, the final one last.

    ``steps`` names them as ``250``, ``checkpoint-250`` or ``final_checkpoint``; ``all``, or no
    steps, means all of them. ``InputError`` names every one that does not exist, and those that do.
    """
    present = RunFolder(run).checkpoints()
    if not steps or ALL in steps:
        return present
    names = {checkpoint_name(step) for step in steps}
    missing = sorted(names - {path.name for path in present})
    if missing:
        held = ", ".join(path.name for path in present)
        raise InputError(f"`step_list`: {run.name} has no {', '.join(missing)}; it has {held}")
    return [path for path in present if path.name in names]


def find_dataset(run: Path, data_dir: str | Path | None = None, *, any_name: bool = False) -> Path:
    """The folder of the data set that a run was trained on.

    Without ``data_dir``, the one recorded in the run's ``run_config.json``, else ``data/<name>``
    with the run folder's name up to the first ``_``. ``data_dir`` may be the data set itself, or a
    folder that holds it or holds ``data/<name>``; if no such folder exists, a warning says so and
    the default is used. Contents that differ from those recorded by the run give a warning if
    ``data_dir`` names them, and else ``InputError``. With ``any_name`` the name of a run that
    records no data set says nothing of its data.
    """
    recorded, name = _recorded_dataset(run)[0], dataset_name(run)
    folder = None
    if data_dir is not None and any_name and recorded is None:
        folder = find_folder(data_dir, "data_dir")
        if not _is_dataset(folder):
            raise InputError(f"`data_dir` {data_dir} is no data set (vocab.json and train.json)")
    elif data_dir is not None:
        folder = _given_dataset(data_dir, name)
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
    """The SHA-256 of a checkpoint's files of weights, and of a model file that makes its model."""
    code = read_json(checkpoint / "config.json", dict).get("model_file_sha256")
    own = {f"{OF_FILE}.py": code} if code else {}
    return digests(sorted(checkpoint.glob("*.safetensors"))) | own


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

"""Folders on disk: weights-only checkpoints, and the state that a stopped run goes on from.

Everything is written beside its place and renamed into it, so a folder under its final name is
complete however the process ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError

from simpletransformers.errors import InputError

FINAL = "final_checkpoint"
_RESUME = "resume_state"
_DISCARDED = ".discarded"


def checkpoint_name(step: int) -> str:
    return f"checkpoint-{step}"


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a temporary folder, then put that in the place of ``folder``.

    An old ``folder`` stays whole until the new one is; ``recover`` mends a crash in between. What
    cannot be written is an ``OSError`` or ``InputError``.
    """
    folder = Path(folder)
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    recover(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        try:
            fill(new)
        except (RuntimeError, SafetensorError) as error:  # how torch and safetensors say OSError
            raise InputError(
                f"{folder} could not be written, with {shutil.disk_usage(new).free >> 20:,} MiB "
                f"free on its disk; what was complete before is intact, and --resume goes on from "
                f"it ({' '.join(str(error).split())})"
            ) from error
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        recover(folder)


def recover(folder: Path) -> None:
    """Undo a replacement cut off between its two renames, finish one cut off after them."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        os.rename(old, folder)


def clear_run(folder: Path) -> None:
    """Remove what a run wrote into ``folder``, and nothing else."""
    for path in list(folder.iterdir()):
        name = path.name.removeprefix(".")
        for suffix in (".new", ".old", _DISCARDED):
            name = name.removesuffix(suffix)
        if path.is_dir() and (name in {FINAL, _RESUME} or name.startswith("checkpoint-")):
            _discard(path)
    for name in ("metrics.jsonl", "training_progress_scores.csv"):
        (folder / name).unlink(missing_ok=True)


def remove(run: Path, step: int) -> None:
    """Remove the checkpoint of a step, if it is there."""
    for left in run.glob(f".checkpoint-*{_DISCARDED}"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    _discard(run / checkpoint_name(step))


def _discard(folder: Path) -> None:
    """Remove a folder if it is there; under its own name it is whole or gone at any moment."""
    aside = folder.with_name(f".{folder.name.removeprefix('.')}{_DISCARDED}")
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def save_resume_state(run: Path, state: Mapping[str, object]) -> None:
    """Keep everything that the next step depends on (tensors and plain values)."""
    write_folder(run / _RESUME, lambda folder: torch.save(dict(state), folder / "state.pt"))


def load_resume_state(run: Path) -> dict | None:
    """What ``save_resume_state`` kept, on the CPU; None if the run left nothing."""
    recover(run / _RESUME)
    file = run / _RESUME / "state.pt"
    if not file.exists():
        return None
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common base for unreadable files
        raise InputError(f"{file} cannot be read ({error}); train without --resume") from error

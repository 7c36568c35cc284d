"""The folder of a training run: what is in it, how it is written, and the one way to read it.

    run_config.json               settings, device, versions, and what the caller adds (run_info)
    metrics.jsonl                 the history: an event a line
    training_progress_scores.csv  its evaluations, as published
    checkpoint-STEP/              weights and tokenizer after so many steps
    final_checkpoint/             the same at the end: a run that has it is done
    resume_state/                 what a stopped run goes on from

Folders are written beside their place and renamed into it, so one under its final name is complete
however the process ended. Nothing but the standard library is needed until a state is read or
written, so that whoever only wants to know about a run need not import torch.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from simpletransformers.errors import InputError

FINAL, SETTINGS, HISTORY = "final_checkpoint", "run_config.json", "metrics.jsonl"
_CSV, _RESUME = "training_progress_scores.csv", "resume_state"
_PREFIX, _DISCARDED = "checkpoint-", ".discarded"


class RunFolder:
    """A run's folder at ``path``, which need not exist yet.

    An event of the history is ``{"step", "epoch", "train_loss", "lr", "elapsed_s", ...}``; an
    evaluation has ``"eval": {group: {"n", "loss", "answer_accuracy", "exact_match"}}`` as well.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def settings(self) -> dict:
        """What ``run_config.json`` holds; empty if there is none."""
        file = self.path / SETTINGS
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        try:
            return json.loads(text or "{}")
        except ValueError as error:
            raise InputError(f"{file} is not valid JSON: {error}") from error

    def events(self) -> list[dict]:
        """The history so far; a last line that is being written, or never was, is left out."""
        file, found = self.path / HISTORY, []
        if file.exists():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    break
        return found

    def evaluations(self) -> list[dict]:
        """The events that are evaluations, in order. ``InputError`` if there are none."""
        found = [event for event in self.events() if "eval" in event]
        if not found:
            file, advice = self.path / HISTORY, "train the model with `evaluate_during_training`"
            raise InputError(f"{file} does not exist or holds no evaluation; {advice}")
        return found

    def checkpoints(self) -> list[Path]:
        """The checkpoints that hold a model, by step, the final one last."""
        steps = {path: _step(path.name) for path in self.path.iterdir() if is_checkpoint(path)}
        return sorted((p for p, step in steps.items() if step is not None), key=steps.get)

    @property
    def final(self) -> Path:
        """The checkpoint of a run that is done."""
        return self.path / FINAL

    @property
    def done(self) -> bool:
        """Whether training has come to its end, by its last step or by a stop rule."""
        return self.final.is_dir()

    @property
    def started(self) -> bool:
        """Whether a run has left anything here, settings aside."""
        return self.done or (self.path / HISTORY).exists() or any(self.path.glob(f"{_PREFIX}*"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out meanwhile; ``InputError`` if one is in this folder already.

        A file system without locks gives none.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / SETTINGS, "a", encoding="utf-8") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {self.path}; wait for its end, or give "
                    "another `output_dir`"
                ) from None
            except OSError:
                pass
            yield

    def write_settings(self, content: Mapping[str, object]) -> None:
        """Write ``run_config.json``."""
        text = json.dumps(content, indent=2, default=str) + "\n"
        (self.path / SETTINGS).write_text(text, encoding="utf-8")

    def rewind(self, step: int) -> None:
        """Drop from the history what a lost process wrote beyond a step."""
        kept = [event for event in self.events() if event["step"] <= step]
        lines = "".join(json.dumps(event) + "\n" for event in kept)
        (self.path / HISTORY).write_text(lines, encoding="utf-8")
        (self.path / _CSV).unlink(missing_ok=True)
        for event in kept:
            self._add_row(event)

    def add(self, event: Mapping[str, object]) -> None:
        """Append an event to the history, and to the CSV if it is an evaluation."""
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._add_row(event)

    def _add_row(self, event: Mapping[str, object]) -> None:
        if "eval" not in event:
            return
        step, epoch, loss = event["step"], event["epoch"], event["train_loss"]
        row = {"global_step": step, "epoch": epoch, "train_loss": loss}
        names = {"loss": "loss", "acc": "answer_accuracy", "em": "exact_match"}
        for group, scores in event["eval"].items():
            row |= {f"eval_{short}-{group}": scores[name] for short, name in names.items()}
        with open(self.path / _CSV, "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def write_checkpoint(self, step: int | None, save: Callable[[Path], None]) -> None:
        """Let ``save`` write the checkpoint of a step (None: the final one) into a folder."""
        write_folder(self.path / (FINAL if step is None else f"{_PREFIX}{step}"), save)

    def remove_checkpoint(self, step: int) -> None:
        """Remove the checkpoint of a step, if it is there."""
        for left in self.path.glob(f".{_PREFIX}*{_DISCARDED}"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        _discard(self.path / f"{_PREFIX}{step}")

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else."""
        for path in list(self.path.iterdir()):
            name = path.name.removeprefix(".")
            for suffix in (".new", ".old", _DISCARDED):
                name = name.removesuffix(suffix)
            if path.is_dir() and (name in {FINAL, _RESUME} or name.startswith(_PREFIX)):
                _discard(path)
        for name in (HISTORY, _CSV):
            (self.path / name).unlink(missing_ok=True)

    def save_state(self, state: Mapping[str, object]) -> None:
        """Keep everything that the next step depends on (tensors and plain values)."""
        import torch

        kept = dict(state)
        write_folder(self.path / _RESUME, lambda folder: torch.save(kept, folder / "state.pt"))

    def load_state(self) -> dict | None:
        """What ``save_state`` kept, on the CPU; None if the run left nothing."""
        import torch

        recover(self.path / _RESUME)
        file = self.path / _RESUME / "state.pt"
        if not file.exists():
            return None
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch names no common base for unreadable files
            raise InputError(f"{file} cannot be read ({error}); train without `resume`") from error


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a model."""
    return (folder / "config.json").is_file()


def checkpoint_name(given: str) -> str:
    """The folder's name of what a user calls ``250``, ``checkpoint-250`` or another name."""
    return f"{_PREFIX}{given}" if given.isdigit() else given


def _step(name: str) -> float | None:
    """The step of a checkpoint's folder, infinity for the final one; None if it is another."""
    step = name.removeprefix(_PREFIX)
    return float("inf") if name == FINAL else int(step) if step.isdigit() else None


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write into a temporary folder, then put that in the place of ``folder``.

    An old ``folder`` stays whole until the new one is; ``recover`` mends a crash in between. What
    cannot be written is an ``OSError`` or ``InputError``.
    """
    from safetensors import SafetensorError

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
                f"free on its disk; what was complete before is intact, and `resume` goes on from "
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


def _discard(folder: Path) -> None:
    """Remove a folder if it is there; under its own name it is whole or gone at any moment."""
    aside = folder.with_name(f".{folder.name.removeprefix('.')}{_DISCARDED}")
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)

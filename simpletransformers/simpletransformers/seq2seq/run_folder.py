"""The folder of a training run: what is in it, how it is written, and the one way to read it.

    run_config.json               settings, device, versions, and what the caller adds (run_info)
    metrics.jsonl                 the history: an event a line
    training_progress_scores.csv  its evaluations, as published
    checkpoint-STEP/              weights and tokenizer after so many steps
    final_checkpoint/             the same at the end: a run that has it is done
    resume_state/                 what a stopped run goes on from
    README.md, curves.png ...     the card of a run that has ended, by whoever trained it

What has its final name is complete, however the process ended (see ``files``). Nothing but the
standard library is needed until a state is read or written, so that whoever only wants to know
about a run need not import torch.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from simpletransformers import files
from simpletransformers.errors import InputError

FINAL, SETTINGS, HISTORY = "final_checkpoint", "run_config.json", "metrics.jsonl"
_CSV, _RESUME = "training_progress_scores.csv", "resume_state"
_PREFIX = "checkpoint-"
_CARD = ("README.md", *(f"{k}curves.{kind}" for k in ("", "k_cutoff_") for kind in ("png", "pdf")))


class RunFolder:
    """A run's folder at ``path``, which need not exist yet.

    An event of the history is ``{"step", "epoch", "train_loss", "lr", "elapsed_s", ...}``; an
    evaluation has ``"eval": {group: {"n", "loss", "answer_accuracy", "exact_match"}}`` as well.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def settings(self) -> dict:
        """What ``run_config.json`` holds; empty if there is none."""
        file = self.path / SETTINGS
        found = files.read_json(file, dict) if file.exists() else {}
        for key in ("args", "dataset", "versions"):
            if not isinstance(found.get(key, {}), dict):
                raise InputError(f"{file}: {key} must be a JSON object, found {found[key]!r}")
        return found

    def events(self) -> list[dict]:
        """The history so far; a last line that is being written, or never was, is left out."""
        return files.read_lines(self.path / HISTORY, _check_event)

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
        """Keep other trainings out meanwhile; ``InputError`` if one is in this folder already."""
        with files.one_writer(self.path, "training"):
            for old in self.path.glob(".*.old"):
                files.recover(old.with_name(old.name[1 : -len(".old")]))
            yield

    def begin(self, step: int | None, settings: Mapping[str, object]) -> None:
        """Make the folder that of a run which goes on from ``step``; None: of a new one.

        What is final of a run that goes on is so no more: its last checkpoint becomes that of its
        step, and its card goes. A new run finds nothing of an old one.
        """
        for name in (HISTORY, _CSV, SETTINGS):
            files.try_place(self.path / name)
        files.remove_leftovers(self.path)
        for name in _CARD if self.started else ():
            (self.path / name).unlink(missing_ok=True)
        if step is None:
            for path in list(self.path.iterdir()):
                if path.name in {FINAL, _RESUME} or path.name.startswith(_PREFIX):
                    files.discard(path)
        elif self.final.exists() and not (self.path / f"{_PREFIX}{step}").exists():
            self.final.rename(self.path / f"{_PREFIX}{step}")
        files.discard(self.final)
        # Beyond the step stands what a lost process wrote.
        kept = [event for event in self.events() if step is not None and event["step"] <= step]
        files.write_text(self.path / HISTORY, "".join(json.dumps(e) + "\n" for e in kept))
        self._write_scores(kept)
        files.write_json(self.path / SETTINGS, settings)

    def add(self, event: Mapping[str, object]) -> None:
        """Append an event to the history, and to the CSV if it is an evaluation."""
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        if "eval" not in event:
            return
        file, row = self.path / _CSV, _row(event)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if next(csv.reader(text.splitlines()), None) == list(row):
            files.append_text(file, _csv_text([row], list(row), header=False))
        else:  # first, or other groups than before
            self._write_scores(self.events())

    def _write_scores(self, events: Iterable[Mapping]) -> None:
        """The CSV of these events, with a column for everything that any of them has."""
        rows = [_row(event) for event in events if "eval" in event]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            files.write_text(self.path / _CSV, _csv_text(rows, columns))
        else:
            (self.path / _CSV).unlink(missing_ok=True)

    def write_checkpoint(self, step: int | None, save: Callable[[Path], None]) -> None:
        """Let ``save`` write the checkpoint of a step (None: the final one) into a folder."""
        _fill(self.path / (FINAL if step is None else f"{_PREFIX}{step}"), save)

    def remove_checkpoint(self, step: int) -> None:
        """Remove the checkpoint of a step, if it is there."""
        files.remove_leftovers(self.path)  # of a process that was killed
        files.discard(self.path / f"{_PREFIX}{step}")

    def save_state(self, state: Mapping[str, object]) -> None:
        """Keep everything that the next step depends on (tensors and plain values)."""
        import torch

        kept = dict(state)
        _fill(self.path / _RESUME, lambda folder: torch.save(kept, folder / "state.pt"))

    def load_state(self) -> dict | None:
        """What ``save_state`` kept, on the CPU; None if the run left nothing."""
        import torch

        file = self.path / _RESUME / "state.pt"
        if not file.exists():
            return None
        try:
            with zipfile.ZipFile(file) as parts:  # torch does not look at its checksums
                if broken := parts.testzip():
                    raise ValueError(f"{broken} in it was changed")
            state = torch.load(file, map_location="cpu", weights_only=True)
            state["settings"], state["step"]
            return state
        except Exception as error:  # torch names no common base for unreadable files
            raise InputError(
                f"{file} is not a whole state of a training; replace the run with "
                "`overwrite_output_dir` and without `resume`"
            ) from error


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


def _check_event(event: Mapping) -> None:
    """Raise what ``files.looking_into`` catches if it is no event of a history."""
    every = [event["step"], event["epoch"], event["train_loss"] or 0.0]
    for groups in (event.get("eval", {}), event.get("valid", {})):
        every += (score for scores in groups.values() for score in scores.values())
    numbers = all(isinstance(n, (int, float)) and math.isfinite(n) for n in every)
    if not numbers or event["step"] != int(event["step"]):
        raise TypeError("steps, losses and scores must be numbers")
    if "eval" in event:
        _row(event)


def _row(event: Mapping) -> dict[str, object]:
    """An evaluation as a row of the CSV."""
    row = {"global_step": event["step"], "epoch": event["epoch"], "train_loss": event["train_loss"]}
    names = {"loss": "loss", "acc": "answer_accuracy", "em": "exact_match"}
    for group, scores in event["eval"].items():
        row |= {f"eval_{short}-{group}": scores[name] for short, name in names.items()}
    return row


def _csv_text(rows: Iterable[Mapping], columns: list[str], *, header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fill(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write what takes the place of ``folder``.

    What cannot be written is an ``OSError`` or ``InputError``.
    """
    from safetensors import SafetensorError

    with files.replacing_folder(folder) as new:
        try:
            fill(new)
        except (RuntimeError, SafetensorError) as error:  # how torch and safetensors say OSError
            raise InputError(
                f"{folder} could not be written, with {shutil.disk_usage(new).free >> 20:,} MiB "
                f"free on its disk; what was complete before is intact, and `resume` goes on from "
                f"it ({' '.join(str(error).split())})"
            ) from error

"""Experiment trackers that a run reports to besides its own files; imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from simpletransformers.errors import InputError


class Trackers:
    """Sends every event of a run (``training.Trainer``) to wandb, TensorBoard, both or neither.

    ``InputError`` if a package that is asked for is not installed. ``config`` is shown beside the
    curves; ``wandb`` may hold wandb's ``project``, ``entity`` and ``name``.
    """

    def __init__(
        self,
        run: Path,
        config: Mapping[str, object],
        *,
        tensorboard: bool = False,
        **wandb: str | None,
    ) -> None:
        self._wandb = self._board = None
        #: What the first event opens: a training that is refused leaves nothing anywhere.
        self._opening: list[tuple] = []
        if tensorboard:
            board = _import("torch.utils.tensorboard", "`tensorboard`")
            place = {"log_dir": str(run / "tensorboard")}
            self._opening.append(("_board", board.SummaryWriter, place))
        if wandb.get("project"):
            wandb["name"] = wandb.get("name") or run.name
            options = {**wandb, "dir": str(run), "config": dict(config), "resume": "allow"}
            init = _import("wandb", "`wandb_project`").init
            self._opening.append(("_wandb", init, options))

    def log(self, event: Mapping[str, object]) -> None:
        """Report one event; scores are named ``eval/type_0/answer_accuracy``."""
        while self._opening:
            name, start, options = self._opening.pop()
            setattr(self, name, start(**options))
        step, values = int(event["step"]), {}
        for key, value in event.items():
            if isinstance(value, Mapping):
                for group, scores in value.items():
                    values |= {f"{key}/{group}/{name}": v for name, v in scores.items()}
            elif key != "step" and isinstance(value, (int, float)):
                values[key] = value
        if self._wandb:
            self._wandb.log(values, step=step)
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and end; the run's own files do not depend on it."""
        if self._wandb:
            self._wandb.finish()
        if self._board:
            self._board.close()


def _import(module: str, flag: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = "tensorboard" if "tensorboard" in module else module
        advice = f"pip install {package}, or omit {flag}"
        raise InputError(
            f"{flag} needs the package {package}, which is not installed; {advice}"
        ) from error

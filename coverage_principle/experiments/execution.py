"""Carry out one run: its stages in order, each once, and what came of it as one record."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from coverage_principle.data import ANNOTATED, read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.commands import has_ended, start_command, stop_command
from coverage_principle.experiments.settings import RunSettings, StageCommand, dataset_in

RESULT, STAGES, SETTINGS = "result.json", "stages.json", "settings.json"

#: How often a waiting thread looks whether it should stop.
_LOOK_S = 0.25


class Interrupted(Exception):
    """A run was stopped from outside (a signal, the end of the runner); it can be gone on with."""


class StageFailed(Exception):
    """A command ended with an error of its own."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass
class Workplace:
    """Where and how runs are carried out.

    ``root`` holds ``worlds/ID/`` and ``runs/ID/``. ``environment`` is added to each command's.
    ``threads`` limits torch in a command. Setting ``stop`` interrupts what is running.
    """

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run_folder(self, run: RunSettings) -> Path:
        return self.root / "runs" / run.id

    def world_folder(self, run: RunSettings) -> Path:
        return self.root / "worlds" / run.world

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """Wait until no other run, of this process or any other, works in ``folder``.

        ``Interrupted`` if ``stop`` is set meanwhile. Machines that share a folder need a file
        system on which ``flock`` holds for all of them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "busy.lock", "w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self.stop.wait(_LOOK_S):
                        raise Interrupted("it waited for another run") from None
            yield


def execute(
    run: RunSettings, place: Workplace, told: Callable[[str], None] = lambda _: None
) -> dict:
    """Do what of a run is not done yet; its record, also written to ``runs/ID/result.json``.

    ``told`` hears the name of each stage as it begins. A stage that fails makes a record with
    ``status`` ``failed``, its stage and the command's last line; ``Interrupted`` leaves none.
    """
    # Two jobs of a cluster may have the same run, if a runner died before it noted the first one.
    with place.alone_in(place.run_folder(run)):
        return _carry_out(run, place, told)


def _carry_out(run: RunSettings, place: Workplace, told: Callable[[str], None]) -> dict:
    folder, world = place.run_folder(run), place.world_folder(run)
    write_json(folder / SETTINGS, {"label": run.label, **run.as_dict()})
    record: dict[str, object] = {"run": run.id, "world": run.world, "label": run.label}
    try:
        # Runs that share a world make it once: whoever comes second finds its stages done.
        with place.alone_in(world):
            # A later command names the data set's folder, which the first one makes.
            for number in range(len(run.world_commands(world))):
                _do(run.world_commands(world)[number], world, place, told)
        for command in run.run_commands(folder, world):
            _do(command, folder, place, told)
        record |= {"status": "done", **_outcome(run, folder, world)}
    except StageFailed as failure:
        record |= {"status": "failed", "stage": failure.stage, "error": str(failure)}
    record["seconds"] = {**_finished(world), **_finished(folder)}
    record["ended"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    record["settings"] = run.as_dict()
    write_json(folder / RESULT, record)
    return record


def _finished(folder: Path) -> dict[str, float]:
    file = folder / STAGES
    return read_json(file) if file.exists() else {}


def _do(command: StageCommand, folder: Path, place: Workplace, told: Callable[[str], None]) -> None:
    """Run one stage unless it is done; note that it is."""
    if place.stop.is_set():
        raise Interrupted
    if command.name in _finished(folder):
        return
    told(command.name)
    log = folder / "logs" / f"{command.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"$ {command.shown()}\n", encoding="utf-8")
    started = time.monotonic()
    process = start_command(
        command.script,
        command.arguments,
        out=log,
        environment=place.environment,
        threads=place.threads,
        lock=folder / "lock",
    )
    while not has_ended(process, _LOOK_S):
        if place.stop.is_set():
            stop_command(process)
    if process.exitcode and (place.stop.is_set() or process.exitcode < 0):
        raise Interrupted(f"{command.name} was ended by signal {-process.exitcode}")
    if process.exitcode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines[-1].startswith("stopped by SIG"):  # the trainer's word that it can go on
            raise Interrupted(lines[-1])
        raise StageFailed(command.name, lines[-1] if len(lines) > 1 else "it said nothing")
    seconds = round(time.monotonic() - started, 2)
    # Read anew: another run may have done another stage of this world in the meantime.
    write_json(folder / STAGES, {**_finished(folder), command.name: seconds})


def _outcome(run: RunSettings, folder: Path, world: Path) -> dict[str, object]:
    """What a finished run says: of its data, its coverage and its model."""
    data = dataset_in(world)
    metadata = read_json(data / "metadata.json")
    outcome: dict[str, object] = {
        "dataset": data.name,
        "counts": metadata["counts"],
        "compositions": metadata["compositions"],
    }
    if run.coverage is not None:
        sweeps = sorted((world / "k_sweep_results").glob("*.json"))
        outcome["k_sweep"] = read_json(sweeps[0]) if sweeps else None
        outcome["annotated"] = (data / ANNOTATED).exists()
    if run.train is not None:
        last = evaluations(folder)[-1]
        config = read_json(folder / "model" / "run_config.json")
        outcome |= {
            "steps": last["step"],
            "epochs": last["epoch"],
            "train_loss": last["train_loss"],
            "scores": last["eval"],
            "parameters": config["parameters"],
            "device": config["device"],
            "versions": config["versions"],
        }
        if "valid" in last:
            outcome["valid"] = last["valid"]
    return outcome


def evaluations(folder: Path) -> list[dict]:
    """The evaluations of a run's training so far, in order; ``folder`` is ``runs/ID``.

    ``InputError`` if there are none.
    """
    found = [event for event in events(folder) if "eval" in event]
    if not found:
        raise InputError(f"{folder} holds no evaluation; training needs evaluate_during_training")
    return found


def events(folder: Path) -> list[dict]:
    """The lines of a run's ``metrics.jsonl``; a line that is being written is left out."""
    file = folder / "model" / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]

"""Carry out one run: its stages in order, each once, and what came of it as one record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from coverage_principle.data import looking_into, read_json, write_json
from coverage_principle.experiments.commands import has_ended, start_command, stop_command
from coverage_principle.experiments.ledger import check_record
from coverage_principle.experiments.settings import RunSettings, StageCommand
from simpletransformers.words import counted

RESULT, NOTES, SETTINGS = "result.json", "stages.json", "settings.json"

Report = Callable[[StageCommand, bool], None]

#: How often a waiting thread looks whether it should stop.
_LOOK_S = 0.25


class Interrupted(CancelledError):
    """A run was stopped from outside (a signal, the end of the runner); it can be gone on with."""


class StageFailed(Exception):
    """A command ended with an error of its own: the stage, and the error."""


@dataclass
class Progress:
    """A run in progress: since when (``time.monotonic``), and the stage it is at."""

    run: RunSettings
    started: float
    stage: str = "waiting"


@dataclass
class Workplace:
    """Where and how runs are carried out.

    ``root`` holds ``runs/ID/``, and in ``worlds/ID/`` the data sets and coverage that runs share.
    ``environment`` is added to each command's, ``threads`` limits torch. Setting ``stop``
    interrupts what is running.
    """

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run_folder(self, run: RunSettings) -> Path:
        return self.root / "runs" / run.id

    def shared_folder(self, run: RunSettings) -> Path:
        return self.root / "worlds" / run.shared_id

    def note(self, run: RunSettings) -> None:
        """Write down what a run is, so that its folder tells of it before it has ended."""
        write_json(self.run_folder(run) / SETTINGS, {"label": run.label, **run.as_dict()})

    def record(self, run: RunSettings) -> dict | None:
        """What came of a run that has ended."""
        file = self.run_folder(run) / RESULT
        if not file.exists():
            return None
        record = read_json(file, dict)
        with looking_into(file, "a run's record"):
            check_record(record)
        return record

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


def execute(run: RunSettings, place: Workplace, report: Report = lambda *_: None) -> dict:
    """Do what of a run is not done yet; its record, also written to ``runs/ID/result.json``.

    ``report`` is called with each command as its turn comes, and whether it is done already. A
    stage that fails makes a record with ``status`` ``failed``, its stage and the command's last
    line; ``Interrupted`` leaves none.
    """
    folder, shared = place.run_folder(run), place.shared_folder(run)
    record: dict[str, object] = {"run": run.id, "world": run.shared_id, "label": run.label}
    # Two jobs of a cluster may have the same run, if a runner died before it noted the first one.
    with place.alone_in(folder):
        place.note(run)
        try:
            # Whoever comes second finds the stages that runs share done.
            with place.alone_in(shared):
                for stage in run.stages(shared=True):
                    _do(run.command(stage, folder, shared), shared, place, report)
            for stage in run.stages(shared=False):
                _do(run.command(stage, folder, shared), folder, place, report)
            record["status"] = "done"
            for stage in run.stages():
                record |= stage.result(shared if stage.shared else folder)
        except StageFailed as failure:
            stage, error = failure.args
            record |= {"status": "failed", "stage": stage, "error": error}
        ended = datetime.now(UTC).isoformat(timespec="milliseconds")
        record |= {"seconds": noted(shared) | noted(folder), "ended": ended}
        record["machine"] = this_machine()
        record["settings"] = run.as_dict()
        write_json(folder / RESULT, record)
    return record


def this_machine() -> str:
    """This computer's processor, as far as the system tells, and its cores: ``CPU X, 2 cores``."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(named, platform.processor() or platform.machine())
    return f"{processor}, {counted(os.cpu_count(), 'core')}"


def noted(folder: Path) -> dict[str, float]:
    """The stages that are done in a run's or a shared folder, with the seconds that they took."""
    file = folder / NOTES
    done = read_json(file, dict) if file.exists() else {}
    with looking_into(file, "the stages that are done"):
        sum(done.values())
    return done


def _do(command: StageCommand, folder: Path, place: Workplace, report: Report) -> None:
    """Run one stage unless it is done; note that it is."""
    if place.stop.is_set():
        raise Interrupted
    name = command.stage.name
    done = name in noted(folder)
    report(command, done)
    if done:
        return
    log = folder / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"$ {command.shown()}\n", encoding="utf-8")
    started = time.monotonic()
    how = {"out": log, "environment": place.environment, "threads": place.threads}
    process = start_command(command.script, command.arguments, **how, lock=folder / "lock")
    while not has_ended(process, _LOOK_S):
        if place.stop.is_set():
            stop_command(process)
    if process.exitcode and (place.stop.is_set() or process.exitcode < 0):
        signal = f"ended by signal {-process.exitcode}" if process.exitcode < 0 else "stopped"
        raise Interrupted(f"{name} was {signal}")
    if process.exitcode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines[-1].startswith("stopped by SIG"):  # the trainer's word that it can go on
            raise Interrupted(lines[-1])
        raise StageFailed(name, lines[-1] if len(lines) > 1 else "it said nothing")
    # Read anew: another run may have done another of the stages that it shares in the meantime.
    write_json(folder / NOTES, noted(folder) | {name: round(time.monotonic() - started, 2)})

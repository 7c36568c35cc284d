"""The slot sets of one data set shared over processes of this machine, or over jobs of a cluster.

Whoever weighs one writes it to a folder that all see (``coverage/in_parts/stored.py``). On a
machine that folder is a temporary one. For a cluster it is kept until the whole is done, so that
what ends too early goes on when the command is given again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from coverage_principle.coverage import CoverageSettings
from coverage_principle.coverage.in_parts import InParts, SlotSetFolder, weigh_stored
from coverage_principle.data import Dataset
from coverage_principle.errors import InputError
from coverage_principle.experiments.commands import end_with_parent, has_ended, stop_command
from coverage_principle.experiments.launchers import cluster_launcher
from coverage_principle.experiments.settings import LauncherSettings
from simpletransformers.files import discard, scratch_folder
from simpletransformers.memory import available, held

#: What a process that weighs slot sets needs.
_PRELOADED = ["coverage_principle.experiments._server", __name__]
#: How often it is looked whether jobs have ended.
_LOOK_S = 1.0


@contextmanager
def way_in_parts(
    dataset: Dataset,
    settings: CoverageSettings,
    launcher: LauncherSettings,
    memory: int | None,
    folder: Path,
) -> Iterator[InParts]:
    """How a data set's slot sets are weighed in parts, as ``launcher`` says.

    All processes of this machine together take at most ``memory`` bytes (None: what there is), and
    each job of a cluster may take as many. Files go to ``folder`` or beside it; when this ends
    well they are gone. ``InputError`` for settings that look at all items at once.
    """
    _refuse_whole(settings)
    budget = memory or available() + held()
    if launcher.launcher == "slurm":
        place = folder / f"{dataset.name}_slot-sets_{_digest(dataset, settings)}"
        jobs = _Jobs(launcher, place, memory)
        try:
            yield InParts(budget, place, jobs.carry, own=True)
        finally:
            jobs.close()
        discard(place)
    elif (count := launcher.jobs or 1) > 1:
        with _asked_to_stop(), scratch_folder(folder / f"{dataset.name}_slot-sets") as place:
            yield InParts(budget, place, _Processes(count).carry, count)
    else:
        yield InParts(budget, folder)


def _refuse_whole(settings: CoverageSettings) -> None:
    """Refuse what looks at all items at once, however the slot sets are weighed."""
    given = [
        name
        for name in ("explain", "suggest", "cut", "visualise", "export_graph", "graded")
        if getattr(settings, name)
    ]
    if settings.scope == "domain":
        given.append("scope")
    if settings.noise == "auto":
        given.append("noise")
    if given:
        raise InputError(
            f"`{given[0]}` {getattr(settings, given[0])} needs all items at once; omit `memory`, "
            "`jobs` and `launcher`"
        )


def _digest(dataset: Dataset, settings: CoverageSettings) -> str:
    """Letters that tell what was weighed of which data from everything else."""
    asked = {name: getattr(settings, name) for name in ("ground_truth", "fragments", "noise")}
    asked |= {"lowest_k": settings.lowest_k, "sha256": dict(dataset.digests)}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """SIGTERM is taken as Ctrl-C, so that what was made for the time being is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Processes:
    """Weighs ``count`` slot sets at a time, each in a process of its own."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)

    def carry(
        self,
        folder: SlotSetFolder,
        names: Sequence[str],
        memory: int,
        progress: Callable[[float, str], None],
    ) -> None:
        waiting, running = list(names)[::-1], {}
        try:
            while waiting or running:
                while waiting and len(running) < self._count:
                    name = waiting.pop()
                    ours, theirs = self._context.Pipe(duplex=False)
                    how = {"target": _weigh, "args": (folder.path, name, memory, theirs)}
                    process = self._context.Process(**how)
                    process.start()
                    theirs.close()
                    running[process.sentinel] = process, ours, name
                for sentinel in wait(list(running)):
                    process, ours, name = running.pop(sentinel)
                    has_ended(process)
                    _settle(process.exitcode, ours, name)
                left = len(waiting) + len(running)
                progress(1 - left / len(names), "evidence of slot sets")
        finally:
            for process, *_ in running.values():
                stop_command(process)


def _settle(status: int, ours, name: str) -> None:
    """``InputError`` unless the process of a slot set has ended well."""
    if status == 0 and ours.poll() and (sentence := ours.recv()) is None:
        return
    if status == 0:
        raise InputError(sentence)
    how = f"by signal {-status}" if status < 0 else "with an error"
    why = "; where memory ran out, give `memory` or fewer `jobs`" if status == -9 else ""
    raise InputError(f"slot set {name} was ended {how}{why}")


def _weigh(path: Path, name: str, memory: int, theirs) -> None:
    """A process's work: what is to be said of its failure, or None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    theirs.send(weigh_stored(path, name, memory))


@dataclass(frozen=True)
class SlotSetRun:
    """A slot set as a job of the cluster: its name, and the memory that it may take.

    None: what its machine has.
    """

    id: str
    memory: int | None

    @property
    def label(self) -> str:
        return self.id


@dataclass(frozen=True)
class SlotSetJob:
    """What such a job calls; a job that is requeued begins anew."""

    path: Path

    def __call__(self, run: SlotSetRun) -> dict:
        if self.record(run) is None and (why := weigh_stored(self.path, run.id, run.memory)):
            return {"status": "failed", "error": why}
        return {"status": "done"}

    def record(self, run: SlotSetRun) -> dict | None:
        return {"status": "done"} if SlotSetFolder(self.path).is_weighed(run.id) else None

    def checkpoint(self, run: SlotSetRun):
        import submitit

        return submitit.helpers.DelayedSubmission(self, run)


class _Jobs:
    """Weighs slot sets as jobs of a cluster; without ``memory`` each takes what its machine has."""

    def __init__(self, settings: LauncherSettings, path: Path, memory: int | None) -> None:
        self._memory = memory
        self._launcher = cluster_launcher(settings, path, SlotSetJob(path.resolve()))
        self._done = False

    def carry(
        self,
        folder: SlotSetFolder,
        names: Sequence[str],
        _memory: int,
        progress: Callable[[float, str], None],
    ) -> None:
        runs = [SlotSetRun(name, self._memory) for name in names]
        futures = self._launcher.submit_all(runs)
        left = set(futures)
        while left:
            _, left = wait_for(left, _LOOK_S)
            progress(1 - len(left) / len(names), "jobs of slot sets")
        for run, future in zip(runs, futures, strict=True):
            if (error := future.exception()) is not None:
                raise InputError(
                    f"slot set {run.id}: {error}; what is done is kept in {folder.path}, and the "
                    "same command goes on"
                )
            if future.result()["status"] == "failed":
                raise InputError(future.result()["error"])
        self._done = True

    def close(self) -> None:
        self._launcher.close(cancel=not self._done)

"""Who carries runs out: processes on this machine (``slurm.py`` has the jobs of a cluster).

A launcher has ``submit_all(runs)`` (a ``Future`` of each run's record), ``running()`` with the runs
in progress, and ``close()``. ``Interrupted`` in a future means that the run can be gone on with.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from coverage_principle.errors import InputError
from coverage_principle.experiments.execution import Progress, Workplace, execute
from coverage_principle.experiments.settings import LauncherSettings, RunSettings, StageCommand

Report = Callable[[RunSettings, StageCommand, bool], None]


def make_launcher(settings: LauncherSettings, root: Path, report: Report | None = None):
    """The launcher that settings ask for, working in ``root``; ``report`` is a local one's."""
    gpus = [gpu.strip() for gpu in settings.gpus.split(",") if gpu.strip()]
    if settings.launcher == "local":
        jobs = settings.jobs or len(gpus) or os.cpu_count() or 1
        return LocalLauncher(root, jobs, gpus=gpus, report=report)
    return cluster_launcher(settings, root)


def cluster_launcher(settings: LauncherSettings, root: Path, job=None):
    """Jobs of a cluster, working in ``root``; ``job`` is what each calls, by default with a run."""
    from coverage_principle.experiments.slurm import SlurmLauncher

    options = {}
    for text in settings.slurm:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InputError(f"`slurm` {text} is not of the form KEY=VALUE")
        options[key] = value
    return SlurmLauncher(root, settings.jobs or 16, options, settings.cluster, job)


class LocalLauncher:
    """``jobs`` runs at a time on this machine, in turn on ``gpus`` if there are any.

    Each run gets an equal share of the cores; with fewer GPUs than jobs, runs share a GPU.
    ``report`` is called with the run and what ``execute`` reports, by the run's own thread.
    ``InputError`` where the program's file is only imported, by a run's process: it would wait for
    the run that its parent holds, and both without end.
    """

    def __init__(
        self, root: Path, jobs: int, *, gpus: Sequence[str] = (), report: Report | None = None
    ) -> None:
        if jobs < 1:
            raise InputError(f"`jobs` {jobs} is not at least 1")
        # What multiprocessing itself looks at, when a process is started where it must not be.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise InputError(
                "runs are processes that import the file that starts them: put what starts runs "
                'under `if __name__ == "__main__":`'
            )
        self._report = report or (lambda *_: None)
        threads = max(1, (os.cpu_count() or 1) // jobs)
        self._place = Workplace(Path(root).resolve(), threads=threads)
        self._free = [gpus[i % len(gpus)] if gpus else None for i in range(jobs)]
        self._running: dict[str, Progress] = {}
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="run")

    def submit_all(self, runs: Sequence[RunSettings]) -> list[Future]:
        return [self._pool.submit(self._carry_out, run) for run in runs]

    def running(self) -> list[Progress]:
        """The runs in progress, the longest first."""
        return sorted(list(self._running.values()), key=lambda progress: progress.started)

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all; with ``cancel`` interrupt what is running and drop what is queued."""
        if cancel:
            self._place.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=cancel)

    def _carry_out(self, run: RunSettings) -> dict:
        progress = self._running[run.id] = Progress(run, time.monotonic())
        gpu = self._free.pop(0)
        seen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}

        def report(command: StageCommand, done: bool) -> None:
            if not done:
                progress.stage = command.stage.name
            self._report(run, command, done)

        try:
            return execute(run, replace(self._place, environment=seen), report)
        finally:
            self._free.append(gpu)
            del self._running[run.id]

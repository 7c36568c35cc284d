"""Who carries runs out: processes on this machine, or jobs of a SLURM cluster.

A launcher has ``submit(run) -> Future`` of the run's record, ``running()`` with the runs in
progress, and ``close()``. ``Interrupted`` in a future means that the run can be gone on with.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from coverage_principle.data import read_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.execution import RESULT, Interrupted, Workplace, execute
from coverage_principle.experiments.settings import RunSettings


@dataclass
class Progress:
    """A run in progress: since when (``time.monotonic``), and the stage it is at."""

    run: RunSettings
    started: float
    stage: str = "waiting"


class LocalLauncher:
    """``jobs`` runs at a time on this machine, in turn on ``gpus`` if there are any.

    Each run gets an equal share of the cores; with fewer GPUs than jobs, runs share a GPU.
    """

    def __init__(
        self, root: Path, jobs: int, *, gpus: Sequence[str] = (), threads: int | None = None
    ) -> None:
        if jobs < 1:
            raise InputError(f"--jobs {jobs} is not at least 1")
        threads = threads or max(1, (os.cpu_count() or 1) // jobs)
        self._place = Workplace(Path(root).resolve(), threads=threads)
        self._free = [gpus[i % len(gpus)] if gpus else None for i in range(jobs)]
        self._guard = threading.Lock()
        self._running: dict[str, Progress] = {}
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="run")

    def submit(self, run: RunSettings) -> Future:
        """Queue a run."""
        return self._pool.submit(self._carry_out, run)

    def running(self) -> list[Progress]:
        """The runs in progress, the longest first."""
        with self._guard:
            return sorted(self._running.values(), key=lambda progress: progress.started)

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all; with ``cancel`` interrupt what is running and drop what is queued."""
        if cancel:
            self._place.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=cancel)

    def _carry_out(self, run: RunSettings) -> dict:
        progress = Progress(run, time.monotonic())
        with self._guard:
            gpu = self._free.pop(0)
            self._running[run.id] = progress
        place = self._place
        if gpu is not None:
            place = replace(place, environment={"CUDA_VISIBLE_DEVICES": gpu})
        try:
            return execute(run, place, lambda stage: setattr(progress, "stage", stage))
        finally:
            with self._guard:
                self._free.append(gpu)
                del self._running[run.id]


class SlurmLauncher:
    """Runs as jobs of one SLURM array each time ``submit_all`` is called (needs ``submitit``).

    ``options`` are submitit's, such as ``slurm_partition``; ``cluster`` is ``slurm``, or ``local``
    for processes on this machine that behave like jobs. A job that is preempted or runs out of time
    keeps its training state, is requeued and goes on from there.
    """

    def __init__(
        self, root: Path, jobs: int, *, options: Mapping[str, object], cluster: str = "slurm"
    ) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise InputError(
                "--launcher slurm needs submitit: pip install -e '.[slurm]', or pip install "
                "submitit"
            ) from error
        self._root = Path(root).resolve()
        self._executor = submitit.AutoExecutor(
            folder=self._root / "jobs" / "%j", cluster=cluster, slurm_max_num_timeout=100
        )
        shared = {"name": self._root.name, **options}
        if cluster == "slurm":
            shared.setdefault("slurm_array_parallelism", jobs)
        try:
            self._executor.update_parameters(**shared)
        except NameError as error:  # how submitit says that it does not know an option
            raise InputError(f"--slurm: {' '.join(str(error).split())}") from error
        self._jobs: dict[str, tuple[RunSettings, object, float]] = {}
        self._waiting: dict[str, Future] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, run: RunSettings) -> Future:
        """One run as a job of its own."""
        return self.submit_all([run])[0]

    def submit_all(self, runs: Sequence[RunSettings]) -> list[Future]:
        """Several runs as one job array."""
        futures = [Future() for _ in runs]
        jobs = self._executor.map_array(Job(self._root), runs)
        for run, job, future in zip(runs, jobs, futures, strict=True):
            self._jobs[run.id] = run, job, time.monotonic()
            self._waiting[run.id] = future
        return futures

    def running(self) -> list[Progress]:
        """The jobs that have not ended, with their state in SLURM's words."""
        return [
            Progress(run, since, f"job {job.job_id} {job.state.lower()}")
            for run, job, since in list(self._jobs.values())
            if run.id in self._waiting
        ]

    def close(self, *, cancel: bool = False) -> None:
        """Stop watching; with ``cancel`` cancel the jobs as well."""
        if cancel:
            for identity in list(self._waiting):
                self._jobs[identity][1].cancel()
        self._closing.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._closing.wait(1.0):
            for identity, future in list(self._waiting.items()):
                run, job, _ = self._jobs[identity]
                if job.done():
                    del self._waiting[identity]
                    self._settle(run, job, future)

    def _settle(self, run: RunSettings, job, future: Future) -> None:
        """What a job that has ended came to: its record, or why there is none."""
        error = job.exception()
        if error is None:
            future.set_result(job.result())
        else:
            file = self._root / "runs" / run.id / RESULT
            if file.exists() and read_json(file)["status"] == "done":
                future.set_result(read_json(file))
            else:
                last = str(error).strip().splitlines()[-1:]
                future.set_exception(Interrupted(f"job {job.job_id}: {' '.join(last)}"))


@dataclass
class Job:
    """What a job of the cluster calls; submitit calls ``checkpoint`` before a requeue."""

    root: Path

    def __call__(self, run: RunSettings) -> dict:
        self._place = Workplace(self.root, threads=_cores())
        return execute(run, self._place)

    def checkpoint(self, run: RunSettings):
        """Have the running command keep its state, and ask for the same job once more."""
        import submitit

        self._place.stop.set()
        stop_running()
        return submitit.helpers.DelayedSubmission(Job(self.root), run)


def stop_running() -> None:
    """End the commands that this process has started, each after it has kept its state."""
    import multiprocessing

    from coverage_principle.experiments.commands import stop_command

    for process in multiprocessing.active_children():
        stop_command(process)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

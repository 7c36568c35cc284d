"""Runs as jobs of a SLURM cluster, by submitit.

What a job came to is in the sweep's folder, and whether it is still there is asked of ``squeue``,
so clusters without accounting (``sacct``) will do. ``jobs/runs.json`` names the job of each run: a
runner that was killed finds its jobs again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from coverage_principle.data import read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.commands import stop_command
from coverage_principle.experiments.execution import Interrupted, Progress, Workplace, execute
from coverage_principle.experiments.settings import RunSettings

#: How often the scheduler is asked; results are seen at once, as files.
_ASK_S = 10.0
#: SLURM's own limit of an array (MaxArraySize 1001), unless a cluster has another.
_ARRAY = 1000
#: A job whose time is over is requeued so many times.
_TURNS = 1000
#: How long a job that was asked to end waits for it: SLURM requeues what it ended itself.
_END_S = 1800.0
_LISTS = {"slurm_setup", "slurm_teardown", "slurm_srun_args"}


class SlurmLauncher:
    """Runs as job arrays, one for each call of ``submit_all`` (needs ``submitit``).

    ``options`` are submitit's, such as ``slurm_partition``, and those that are not words in JSON
    (``true``, ``1.5``, ``["--gpu-bind=none"]``); ``jobs`` of an array run at a time.
    ``cluster`` is ``slurm``, or ``local`` for processes on this machine that behave like jobs. A
    job that is preempted, requeued or runs out of time keeps its training state and goes on from
    there. A run whose job is still queued or running is not submitted again. ``job`` is what a job
    calls with its run, by default ``Job``. ``InputError`` says what submitit or SLURM refuses.
    """

    def __init__(
        self, root: Path, jobs: int, options: Mapping, cluster: str = "slurm", job=None
    ) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            how = "pip install -e '.[slurm]', or pip install submitit"
            raise InputError(f"`launcher` slurm needs submitit: {how}") from error
        missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
        if cluster == "slurm" and missing:
            instead = "`cluster` local runs the jobs as processes on this machine"
            raise InputError(f"`launcher` slurm needs SLURM's {', '.join(missing)}; {instead}")
        self._root = Path(root).resolve()
        self._job = job or Job(self._root)
        self._folder, self._known = self._root / "jobs" / "%j", self._root / "jobs" / "runs.json"
        self._local = cluster == "local"
        own = {"cluster": cluster, "slurm_max_num_timeout": _TURNS}
        self._executor = submitit.AutoExecutor(folder=self._folder, **own)
        try:
            self._executor.update_parameters(**self._parameters(jobs, options))
        # How submitit says that it does not know an option, or not its value.
        except (NameError, AssertionError, TypeError, ValueError) as error:
            raise InputError(f"`slurm`: {str(error).splitlines()[0]}") from error
        self._jobs: dict[str, tuple[RunSettings, object, float]] = {}
        self._waiting: dict[str, Future] = {}
        self._states: dict[str, str] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit_all(self, runs: Sequence[RunSettings]) -> list[Future]:
        """The runs as one job array; those that have a job already keep it."""
        jobs = self._found_again(runs)
        fresh = [run for run in runs if run.id not in jobs]
        for first in range(0, len(fresh), _ARRAY):
            part = fresh[first : first + _ARRAY]
            jobs |= zip((run.id for run in part), self._submitted(part), strict=True)
            known = read_json(self._known, dict) if self._known.exists() else {}
            write_json(self._known, known | {run.id: jobs[run.id].job_id for run in part})
        for run in runs:
            self._jobs[run.id] = run, jobs[run.id], time.monotonic()
            self._waiting[run.id] = Future()
        return [self._waiting[run.id] for run in runs]

    def running(self) -> list[Progress]:
        """The jobs that have not ended, with their state in SLURM's words."""
        unknown = "running" if self._local else "submitted"
        return [
            Progress(run, since, f"job {job.job_id} {self._states.get(job.job_id, unknown)}")
            for run, job, since in list(self._jobs.values())
            if run.id in self._waiting
        ]

    def close(self, *, cancel: bool = False) -> None:
        """Stop watching; with ``cancel`` cancel the jobs as well, which keep their state."""
        self._closing.set()
        self._watcher.join()
        if not (cancel and self._waiting):
            return
        jobs = [self._jobs[identity][1] for identity in self._waiting]
        if self._local:
            for job in (job for job in jobs if not job.done()):
                os.kill(int(job.job_id), signal.SIGTERM)  # submitit's SIGINT shows a traceback
            while not all(job.done() for job in jobs):
                time.sleep(0.1)
        else:
            subprocess.run(["scancel", *(job.job_id for job in jobs)], check=False)
        for identity, future in self._waiting.items():  # whoever waits for one is to end as well
            future.set_exception(Interrupted(f"job {self._jobs[identity][1].job_id}: cancelled"))
        self._waiting.clear()

    def _parameters(self, jobs: int, options: Mapping[str, object]) -> dict[str, object]:
        """Options for submitit, with what holds unless they say otherwise."""
        chosen = {"name": self._root.name, "timeout_min": 7 * 24 * 60 if self._local else 60}
        chosen |= {name: _value(given) for name, given in options.items()}
        for name in _LISTS & set(chosen):
            chosen[name] = [chosen[name]] if isinstance(chosen[name], str) else chosen[name]
        if not isinstance(chosen.get("slurm_time", 0), int):
            raise InputError("slurm_time is not a number of minutes")
        if not self._local:
            chosen.setdefault("slurm_array_parallelism", jobs)
            # Since SLURM 22.05 a step no longer gets the cores that its job asked for.
            cores = "SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
            cores = f'if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export {cores}; fi'
            chosen["slurm_setup"] = [cores, *chosen.get("slurm_setup", [])]
        return chosen

    def _submitted(self, runs: Sequence[RunSettings]) -> list:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            return self._executor.map_array(self._job, runs)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            lines = [line for line in str(error).splitlines() if re.search("error:|fatal:", line)]
            raise InputError(f"the jobs were not submitted: {(lines or [error])[-1]}") from error

    def _found_again(self, runs: Sequence[RunSettings]) -> dict[str, object]:
        """Jobs that an earlier runner submitted for these runs and that have not ended."""
        import submitit

        if self._local or not self._known.exists():
            return {}
        known = read_json(self._known, dict)
        if (states := queue()) is None:
            raise InputError("squeue does not answer, so whether jobs still run is not known")
        # One that is completing was cancelled or has just ended; a new one waits for it.
        return {
            run.id: submitit.SlurmJob(self._folder, known[run.id])
            for run in runs
            if states.get(known.get(run.id), "completing") != "completing"
        }

    def _watch(self) -> None:
        asked, gone = float("-inf"), set()
        while not self._closing.wait(1.0):
            missing = set()
            if not self._local and self._waiting and time.monotonic() - asked > _ASK_S:
                asked, states = time.monotonic(), queue()
                if states is not None:
                    self._states = states
                    waiting = {self._jobs[identity][1].job_id for identity in list(self._waiting)}
                    missing = waiting - set(states)
                    # A shared file system may show a result later than SLURM knows the end.
                    missing, gone = missing & gone, missing
            for identity, future in list(self._waiting.items()):
                run, job, _ = self._jobs[identity]
                ended = job.done() if self._local else job.job_id in missing
                if ended or job.paths.result_pickle.exists():
                    try:
                        self._settle(run, job, future)
                    except Exception as error:  # a broken file must not end the watch of others
                        future.set_exception(error)
                    del self._waiting[identity]

    def _settle(self, run: RunSettings, job, future: Future) -> None:
        """What a job that has ended came to: its record, or why there is none."""
        from submitit.core.utils import pickle_load

        log = job.paths.stderr.relative_to(self._root)
        outcome, value = "error", f"it ended without a result (log: {log})"
        if job.paths.result_pickle.exists():
            outcome, value = pickle_load(job.paths.result_pickle)
        record = self._job.record(run)
        if outcome == "success":
            future.set_result(value)
        elif record and record["status"] == "done":
            future.set_result(record)  # it was ended between its last write and its last word
        else:
            last = str(value).strip().splitlines()[-1]
            future.set_exception(Interrupted(f"job {job.job_id}: {last}"))


@dataclass
class Job:
    """What a job of the cluster calls; submitit calls ``checkpoint`` before it requeues the job."""

    root: Path
    _place: Workplace | None = field(default=None, init=False, repr=False)

    def __call__(self, run: RunSettings) -> dict:
        """The run's record; ``Interrupted`` if the job was asked to end."""
        place = self._place = Workplace(self.root, threads=_cores())
        signal.signal(signal.SIGTERM, lambda *_: place.stop.set())
        try:
            return execute(run, place)
        except Interrupted:
            # After the end of its grace a preempted job is requeued, but not if it has left before.
            if place.stop.is_set() and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                time.sleep(_END_S)
            raise

    def record(self, run: RunSettings) -> dict | None:
        """What came of a run that has ended."""
        return Workplace(self.root).record(run)

    def checkpoint(self, run: RunSettings):
        """Have the running command keep its state, and ask for the same job once more."""
        import submitit

        if self._place is not None:
            self._place.stop.set()
        for process in multiprocessing.active_children():
            stop_command(process)
        return submitit.helpers.DelayedSubmission(Job(self.root), run)


def queue() -> dict[str, str] | None:
    """The user's jobs that have not ended, by id (``12`` or ``12_3``): ``pending``, ``running``...

    None if the scheduler does not answer.
    """
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = map(str.split, asked.stdout.splitlines())
    return None if asked.returncode else {job: state.lower() for job, state in lines}


def _value(given: object) -> object:
    """What a word of the command line stands for: JSON, or itself."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except json.JSONDecodeError:
        return given


def _cores() -> int:
    """The cores that this process may use, as the job asked for them."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

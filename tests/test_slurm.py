"""Sweeps on a cluster: jobs by submitit, and against real SLURM daemons (``pytest -m slurm``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from coverage_principle.experiments.claims.base import side_by_side
from coverage_principle.experiments.execution import Interrupted
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.slurm import SlurmLauncher
from simpletransformers.seq2seq.run_folder import RunFolder
from tests.conftest import ROOT

pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")

MISSING = [
    name
    for name in ("slurmctld", "slurmd", "munged", "sbatch")
    if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
]
slurm = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Runner:
    """``script/run_sweep.py`` in a process of its own, on one sweep."""

    def __init__(self, folder, environment=None, *flags):
        self.root, self.flags = folder / "sweep", flags
        self.spec = folder / "spec.json"
        self._environment = {**os.environ, **(environment or {})}

    def write(self, *, train=True, steps=1500, seeds=(1,)):
        base = {"task": "twohop", "data": {"num_tokens": 8, "max_train_data_num": 120}}
        if train:
            base["train"] = {
                "n_layer": 2,
                "n_head": 2,
                "n_embd": 16,
                "max_steps": steps,
                "eval_steps": steps,
                "train_batch_size": 64,
                "device": "cpu",
            }
        self.spec.write_text(json.dumps({"base": base, "grid": {"seed": list(seeds)}}))
        return self

    def words(self, *more):
        """The command: its script and its arguments."""
        place = ("--output_dir", str(self.root), "--launcher", "slurm")
        return "script/run_sweep.py", str(self.spec), *place, *self.flags, *more

    def start(self, *more):
        return subprocess.Popen(
            [sys.executable, *self.words(*more)],
            cwd=ROOT,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *more):
        return finish(self.start(*more))

    def command(self, *words):
        return subprocess.run(
            words, env=self._environment, capture_output=True, text=True, check=True
        ).stdout

    def records(self):
        lines = (self.root / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def jobs(self):
        return json.loads((self.root / "jobs" / "runs.json").read_text(encoding="utf-8"))

    def folder(self):
        return next((self.root / "runs").iterdir())

    def until_it_trains(self, process):
        """The job's id, once the run has done a few steps; ``process`` is the runner's."""
        while not any(RunFolder(run).events() for run in self.root.glob("runs/*/model")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        return next(iter(self.jobs().values()))

    def went_on(self):
        """That training was stopped, kept its state and went on from there, each step once."""
        log = (self.folder() / "logs" / "train.log").read_text(encoding="utf-8")
        steps = [
            event["step"]
            for event in RunFolder(self.folder() / "model").events()
            if "eval" not in event
        ]
        return "resuming" in log and steps == sorted(set(steps))


def finish(process):
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_jobs_of_submitits_local_executor_bring_their_records(tmp_path, run_command):
    runner = Runner(tmp_path, None, "--cluster", "local").write(train=False)
    finished = run_command(*runner.words())
    assert finished.returncode == 0, finished.stderr
    assert [record["status"] for record in runner.records()] == ["done"]
    again = run_command(*runner.words())
    assert again.returncode == 0 and len(runner.records()) == 1
    assert len(list(runner.root.glob("jobs/*/*_result.pkl"))) == 1  # no second job


class SleepingJob:
    """A job that takes longer than any test."""

    def __call__(self, _run):
        time.sleep(600)

    def record(self, _run):
        return None


def test_whoever_waits_for_a_job_ends_with_a_launcher_that_is_cancelled(tmp_path):
    """Else its thread would keep a command that was told to end from ending."""
    launcher = SlurmLauncher(tmp_path, 1, {}, cluster="local", job=SleepingJob())
    runs = [
        RunSettings.resolve({"seed": seed, "data": {"num_tokens": 8, "max_train_data_num": 60}})
        for seed in (1, 2)
    ]
    futures = launcher.submit_all(runs)
    (waiting,) = side_by_side([futures[1].result])
    launcher.close(cancel=True)
    for future in (*futures, waiting):
        with pytest.raises(Interrupted, match="cancelled"):
            future.result(timeout=5)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("slurm_bogus=1", "bogus"),
        ("mem_gb=lots", "mem_gb"),
        ("slurm_time=1:00", "slurm_time"),
        ("partition", "KEY=VALUE"),
    ],
)
def test_options_that_submitit_does_not_know_are_refused(
    tmp_path, option, words, refused, run_command
):
    runner = Runner(tmp_path, None, "--cluster", "local").write(train=False)
    refused(run_command(*runner.words("--slurm", option)), words)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment in which sbatch and its kin talk to a cluster of this one machine."""
    folder = tmp_path_factory.mktemp("slurm")
    script = ["bash", str(ROOT / "tests" / "slurm" / "cluster.sh")]
    started = subprocess.run(
        [*script, "start", str(folder)], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    yield {"SLURM_CONF": started.stdout.strip()}
    subprocess.run([*script, "stop", str(folder)], check=True)


@pytest.fixture
def runner(cluster, tmp_path):
    yield (runner := Runner(tmp_path, cluster, "--slurm", "cpus_per_task=1"))
    runner.command("scancel", f"--user={os.getuid()}")
    while runner.command("squeue", "--noheader"):
        time.sleep(0.2)


class TestRealDaemons:
    pytestmark = slurm

    def test_an_array_with_options(self, runner):
        runner.write(steps=30, seeds=(1, 2))
        finished = runner.run("--slurm", "slurm_comment=two runs", "--slurm", "timeout_min=5")
        assert finished.returncode == 0, finished.stderr
        assert {record["status"] for record in runner.records()} == {"done"}
        array = {job.partition("_")[0] for job in runner.jobs().values()}
        assert len(array) == 1 and len(runner.jobs()) == 2
        shown = runner.command("scontrol", "show", "job", array.pop())
        assert shown.count("Comment=two runs") == 2 and shown.count("TimeLimit=00:05:00") == 2

    @pytest.mark.parametrize("how", ["scontrol requeue", "scancel --signal=USR2", "preemption"])
    def test_a_job_that_is_cut_off_goes_on_by_itself(self, runner, how):
        process = runner.write(steps=4000).start()
        job = runner.until_it_trains(process)
        if how == "preemption":
            everything = f"--cpus-per-task={len(os.sched_getaffinity(0))}"
            runner.command(
                "sbatch", "--partition=urgent", everything, "--output=/dev/null", "--wrap=true"
            )
        else:
            runner.command(*how.split(), job)
        finished = finish(process)
        assert finished.returncode == 0, finished.stderr
        assert len(runner.records()) == 1 and set(runner.jobs().values()) == {job}
        assert runner.went_on()

    def test_a_cancelled_job_is_an_interrupted_run(self, runner):
        process = runner.write().start()
        runner.command("scancel", runner.until_it_trains(process))
        finished = finish(process)
        assert finished.returncode == 1 and "Traceback" not in finished.stderr
        assert "interrupted:" in finished.stderr and runner.records() == []
        assert runner.run().returncode == 0
        assert len(runner.records()) == 1 and runner.went_on()

    def test_a_runner_that_is_stopped_cancels_its_jobs(self, runner):
        process = runner.write().start()
        job = runner.until_it_trains(process)
        process.terminate()
        assert "Traceback" not in finish(process).stderr
        # It may be started again at once: the new job waits until the old one has left the folder.
        assert runner.run().returncode == 0
        assert len(runner.records()) == 1 and runner.went_on()
        assert set(runner.jobs().values()) != {job}

    def test_a_killed_runner_finds_its_jobs_again(self, runner):
        process = runner.write(seeds=(1, 2)).start()
        runner.until_it_trains(process)
        process.kill()
        process.communicate()
        jobs = runner.jobs()
        assert runner.run().returncode == 0
        assert runner.jobs() == jobs and len(runner.records()) == 2

    def test_what_sbatch_refuses_is_one_sentence(self, runner, refused):
        runner.write(train=False)
        refused(runner.run("--slurm", "slurm_partition=nowhere"), "Invalid partition")

"""Killed at any moment, and out of space: nothing lost, nothing twice, nothing left behind.

A command runs in a process that dies at its n-th step on disk (a file opened for writing, a rename,
a removal), with half of the content where it was a file; then the same command is run to its end,
and what it leaves is compared with that of one that never died. The suite does so a few times each,
``pytest -n 0 -m fuzz_long tests/test_kills.py`` many times, and at random moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch

from coverage_principle.data import write_together
from coverage_principle.experiments.commands import start_command
from simpletransformers.files import one_writer
from simpletransformers.seq2seq.run_folder import RunFolder
from tests.test_trainer import pairs, tiny_model

#: Runs a command that dies, or finds the disk full, at a step on disk below a folder.
DRIVER = """
import errno, mmap, os, resource, runpy, signal, sys

how, at, root, note, script = sys.argv[1:6]
at, runner, counter, inside = int(at), os.getpid(), mmap.mmap(-1, 8), False
steps = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def look(event, arguments):
    global inside
    if event not in steps or inside or not isinstance(arguments[0], (str, os.PathLike)):
        return
    path = os.fspath(arguments[0])
    if not path.startswith(root) and (event == "open" or path.startswith("/")):
        return  # what is removed with a folder has a relative name
    if event == "open" and not arguments[2] & writing:
        return
    if (how == "stage") is (os.getpid() == runner):
        return
    seen = int.from_bytes(counter[:], "little")
    counter[:] = (seen + 1).to_bytes(8, "little")
    if how == "full":
        if seen >= at and event == "open":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    elif seen == at and how != "small":
        inside = True
        if event == "open":
            file = os.open(path, arguments[2] & ~os.O_ACCMODE | os.O_WRONLY, 0o666)
            os.write(file, b'{"half')
        os.kill(os.getpid(), signal.SIGKILL)

if how == "small":
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
if how == "stage" or "run_sweep" in script:
    # Stages are forked from here: to import everything again takes longer than they do.
    import multiprocessing
    from coverage_principle.experiments import commands
    fork = multiprocessing.get_context("fork")
    fork.set_forkserver_preload = lambda names: None
    commands.multiprocessing.get_context = lambda kind: fork
sys.path.insert(0, os.path.dirname(script))
sys.argv = [script, *sys.argv[6:]]
sys.addaudithook(look)
try:
    runpy.run_path(script, run_name="__main__")
finally:
    if os.getpid() == runner:
        inside = True
        with open(note, "wb") as file:
            file.write(counter[:])
"""
#: What differs between two runs of one command: times.
TIMES = {"elapsed_s", "items_per_s", "seconds", "ended"}
ROOT = Path(__file__).resolve().parent.parent
EVAL = {"evaluate_during_training": True, "evaluate_during_training_steps": 2, "logging_steps": 2}


def untimed(record):
    return {key: value for key, value in record.items() if key not in TIMES}


def content(folder):
    """What is in a folder, hidden files too, by name; without times and logs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("lock", "busy.lock") or "logs/" in name:
            continue
        found[name] = path.read_bytes()
        if path.suffix == ".jsonl":
            lines = found[name].decode().splitlines()
            found[name] = [untimed(json.loads(line)) for line in lines]
            if path.name == "results.jsonl":  # in the order in which they ended
                found[name] = sorted(found[name], key=lambda record: record["run"])
        elif path.name in ("run_config.json", "model_args.json"):
            settings = json.loads(found[name])
            settings.get("args", settings).pop("resume")
            found[name] = settings
        elif path.name == "result.json":
            found[name] = untimed(json.loads(found[name]))
        elif path.name == "stages.json":
            found[name] = list(json.loads(found[name]))
        elif path.name == "results.csv":
            found[name] = len(found[name].splitlines())
        elif path.name == "state.pt":
            found[name] = torch.load(path, weights_only=True)["step"]
    return found


def hidden(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def users(folder):
    """The processes, but this, that have a file below a folder open."""
    found = set()
    for one in Path("/proc").glob("[0-9]*"):
        try:
            opened = [os.readlink(link) for link in (one / "fd").iterdir()]
        except OSError:
            continue
        if int(one.name) != os.getpid() and any(p.startswith(f"{folder}/") for p in opened):
            found.add(int(one.name))
    return found


@dataclass
class Job:
    """A command that is killed: ``before`` is what its folder ``root`` holds when it begins.

    ``again`` is the command that goes on, if it is another one. ``moment`` looks at what a kill or
    a full disk has left, before it goes on.
    """

    folder: Path
    command: tuple
    again: tuple = ()
    before: Callable[[Path], object] = lambda root: root.mkdir(parents=True)
    moment: Callable[[Path], object] = lambda _: None
    how: str = "die"

    def __post_init__(self):
        self.root, self.old, self.whole = (self.folder / n for n in ("root", "old", "whole"))
        (self.folder / "driver.py").write_text(DRIVER)
        self.kills = self.filled = 0
        self.name = self.folder.name.rstrip("0123456789")

    def start(self, how, at, command):
        out, note = self.folder / "out", self.folder / "note"
        out.write_bytes(b"")
        script, *arguments = command
        driven = [how, at, self.root, note, ROOT / script, *arguments]
        return start_command(str(self.folder / "driver.py"), driven, out=out, threads=1)

    def run(self, how, at, command):
        process = self.start(how, at, command)
        process.join(120)
        assert process.exitcode is not None, (self.folder / "out").read_text()
        return process.exitcode, (self.folder / "out").read_text()

    @cached_property
    def steps(self):
        """How many steps on disk the command takes, undisturbed; keeps what it leaves."""
        self.before(self.root)
        shutil.copytree(self.root, self.old, symlinks=True)
        began = time.monotonic()
        status, said = self.run(self.how, -1, self.command)
        assert status == 0, said
        self.seconds = time.monotonic() - began
        assert not hidden(self.root)
        self.root.rename(self.whole)
        self.left = content(self.whole)
        return int.from_bytes((self.folder / "note").read_bytes(), "little")

    def afresh(self):
        assert self.steps > 0
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.old, self.root, symlinks=True)

    def finish(self, why):
        """Go on to the end; all must be as if nothing had happened."""
        status, said = self.run("go", -1, self.again or self.command)
        assert status == 0, (why, said)
        assert not hidden(self.root), (why, hidden(self.root))
        assert not users(self.root), (why, users(self.root))  # no orphan of the killed one
        now = content(self.root)
        differ = [n for n in {*now, *self.left} if now.get(n) != self.left.get(n)]
        assert not differ, (why, differ)

    def kill_at(self, step):
        self.afresh()
        status, said = self.run(self.how, step, self.command)
        assert self.how == "stage" or status == -9, (step, status, said)
        self.moment(self.root)
        self.finish(f"killed at step {step}")
        self.kills += 1

    def kill_after(self, seconds):
        """SIGKILL so many seconds after its start."""
        self.afresh()
        process = self.start("go", -1, self.command)
        process.join(seconds)
        process.kill()
        process.join()
        self.moment(self.root)
        self.finish(f"killed after {seconds:.3f} s")
        self.kills += 1

    def fill_at(self, step):
        """The disk is full from a step on; at that very moment nothing hidden is left."""
        self.afresh()
        status, said = self.run("full", step, self.command)
        if status == 0:  # only a removal came after
            return
        assert status == 1 and "error: No space left on device" in said, (step, said)
        assert "Traceback" not in said, (step, said)
        assert not hidden(self.root), (step, hidden(self.root))
        self.moment(self.root)
        self.finish(f"full at step {step}")
        self.filled += 1


def some(job, number, seed):
    """A few steps of all, drawn evenly: seeded."""
    steps, chance = job.steps, random.Random(seed)
    number = min(number, steps)
    return [chance.randrange(i * steps // number, (i + 1) * steps // number) for i in range(number)]


# --------------------------------------------------------------------------------------- the jobs

GENERATE = ("dataset_generation/twohop.py", "--num_tokens", 6, "--max_train_data_num", 60)
GENERATE += ("--test_size_for_type", 20, "--output_dir")
NAME = "twohop.6.60.diff-f12.inf"
TRAIN = ("--do_train", "--init_weights", "--n_layer", 1, "--n_head", 1, "--n_embd", 8)
TRAIN += ("--device", "cpu", "--train_batch_size", 16, "--logging_steps", 1, "--eval_steps", 2)
TRAIN += ("--evaluate_during_training", "--warmup_steps", 0, "--scheduler", "constant_schedule")


@pytest.fixture(scope="module")
def data(tmp_path_factory, run_command):
    """A data set with annotations, and the folder of one with another seed."""
    folders = [tmp_path_factory.mktemp("data") for _ in range(2)]
    for seed, folder in enumerate(folders):
        assert run_command(*GENERATE, folder, "--seed", seed).returncode == 0
    made = folders[0] / NAME
    sweep = ("--data_dir", made, "--k_sweep", "--output_dir", folders[0] / "sweep")
    assert run_command("determine_coverage.py", *sweep).returncode == 0
    return made, folders[1] / NAME


def generation(folder, data, *, again):
    """The first generation of a data set, or its replacement by one with another seed."""
    root, other = folder / "root", data[1]

    def before(root):
        root.mkdir()
        if again:
            shutil.copytree(other, root / NAME)

    def moment(root):
        place, aside = root / NAME, root / f".{NAME}.old"
        there = place if place.exists() else aside
        if again or there.exists():
            allowed = [content(other), job.new]
            assert content(there) in allowed[not again :]

    flags = ("--seed", 0, *(["--overwrite"] if again else []))
    job = Job(folder, (*GENERATE, root, *flags), before=before, moment=moment)
    assert job.steps
    job.new = content(job.whole / NAME)
    return job


def training(folder, data, *flags):
    """A run with checkpoints, states and evaluations at every second step, and its card."""
    run = ("--data_dir", data[0], "--output_dir", folder / "root" / "run", "--max_steps", 4)
    often = ("--save_step", 2, "--resume_state_minutes", 0.00001)
    command = ("main.py", *TRAIN, *run, *often, *flags)
    return Job(folder, command, (*command, "--resume"), before=Path.mkdir)


def extension(folder, data, run_command):
    """A finished run of four steps that is made longer."""
    run = ("--data_dir", data[0], "--output_dir", folder / "root" / "run")
    command = ("main.py", *TRAIN, *run, "--resume", "--max_steps")

    def before(root):
        root.mkdir()
        assert run_command(*command, 4).returncode == 0

    def moment(root):
        run, old = RunFolder(root / "run"), RunFolder(job.old / "run")
        if not run.done:
            assert not (run.path / "README.md").exists()
        elif run.events()[-1]["step"] == 4:  # nothing has been done yet: it stands
            now, kept = content(run.path), content(old.path)
            assert all(kept[name] == now.get(name) for name in kept if "/" in name)
            assert run.settings() == old.settings()
        else:
            new = RunFolder(job.whole / "run")
            assert run.settings() == new.settings()
            weights = [(r.final / "model.safetensors").read_bytes() for r in (run, new)]
            assert weights[0] == weights[1]

    job = Job(folder, (*command, 8), before=before, moment=moment)
    return job


def coverage(folder, data):
    """Annotations, a k-sweep and figures, in the place of those of other settings."""
    root = folder / "root"
    sweep = root / "sweep"

    def before(root):
        shutil.copytree(data[0], root / NAME)
        shutil.copytree(data[0].parent / "sweep", sweep)
        for file in [*sweep.iterdir(), *(root / NAME).glob("test_annotated*")]:
            if file.suffix in (".json", ".source"):
                file.write_text('{"old": true}')

    def moment(root):
        both = [(root / NAME, "test_annotated.json", "test_annotated.json.source")]
        both.append((sweep, f"{NAME}.json", f"{NAME}_diagnostics.json"))
        for place, last, first in both:
            if (place / last).exists():
                old = ["old" in json.loads((place / n).read_text()) for n in (last, first)]
                assert old[0] == old[1], (last, old)

    command = ("determine_coverage.py", "--data_dir", root / NAME, "--k_sweep")
    return Job(folder, (*command, "--output_dir", sweep), before=before, moment=moment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data, run_command):
    run = tmp_path_factory.mktemp("run") / "run"
    flags = ("--data_dir", data[0], "--output_dir", run, "--max_steps", 2)
    finished = run_command("main.py", *TRAIN, *flags)
    assert finished.returncode == 0, finished.stderr
    return run


def analysis(folder, data, trained, name):
    """An analysis of a run, in the place of one that is marked as old."""
    root = folder / "root"
    model = {"cluster": ("--ckpt", trained / "final_checkpoint", "--overwrite")}
    model = model.get(name, ("--model_dir", trained))
    command = (f"circuit_analysis/{name}.py", *model, "--data_dir", data[0], "--save_dir", root)

    def before(root):
        root.mkdir()
        status, said = job.run("go", -1, command)
        assert status == 0, said
        for file in root.rglob("*"):
            if file.suffix in (".json", ".npz"):
                file.write_text('{"old": 1}')

    def moment(root):
        for last in root.rglob("*.json"):
            arrays = last.with_name("vectors.npz" if name == "cluster" else f"{last.stem}.npz")
            if arrays.exists():
                ages = [file.read_bytes().startswith(b'{"old"') for file in (last, arrays)]
                assert ages[0] == ages[1], (last, ages)

    job = Job(folder, command, before=before, moment=moment)
    return job


def sweep(folder, how):
    """A sweep of two runs that share a data set; who is killed is the runner or a stage."""
    spec = folder / "spec.json"
    numbers = dict(zip(("num_tokens", "max_train_data_num"), (6, 60), strict=True))
    flags = {"n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu", "train_batch_size": 16}
    flags |= {"eval_steps": 2, "warmup_steps": 0, "save_step": 2}
    base = {"task": "twohop", "data": {**numbers, "test_size_for_type": 20}, "train": flags}
    spec.write_text(json.dumps({"base": base, "grid": {"train.max_steps": [4, 6]}}))
    command = ("script/run_sweep.py", spec, "--output_dir", folder / "root" / "out", "--jobs", 1)

    return Job(folder, command, before=Path.mkdir, how=how)


JOBS = {
    "generation": lambda f, request: generation(f, data_of(request), again=False),
    "regeneration": lambda f, request: generation(f, data_of(request), again=True),
    "training": lambda f, request: training(f, data_of(request)),
    "extension": lambda f, request: extension(
        f, data_of(request), request.getfixturevalue("run_command")
    ),
    "coverage": lambda f, request: coverage(f, data_of(request)),
    "cluster": lambda f, request: analysis(
        f, data_of(request), request.getfixturevalue("trained"), "cluster"
    ),
    "trace": lambda f, request: analysis(
        f, data_of(request), request.getfixturevalue("trained"), "trace"
    ),
    "runner": lambda f, _: sweep(f, "die"),
    "stage": lambda f, _: sweep(f, "stage"),
}


def data_of(request):
    return request.getfixturevalue("data")


@pytest.fixture(scope="module", params=JOBS)
def job(request, tmp_path_factory):
    return JOBS[request.param](tmp_path_factory.mktemp(request.param), request)


#: How often each is killed in the suite, within its time; tests/test_sweep.py kills a stage too.
FEW = {"generation": 1, "regeneration": 2, "training": 3, "extension": 2}
FEW |= {"coverage": 1, "cluster": 1, "runner": 1}


@pytest.mark.parametrize("job", FEW, indirect=True, scope="module")
def test_what_is_killed_at_any_step_goes_on_as_if_nothing_had_happened(job):
    for step in some(job, FEW[job.name], 1):
        job.kill_at(step)


@pytest.mark.parametrize("job", [name for name in FEW if name != "runner"], indirect=True)
def test_a_full_disk_leaves_the_old_state_and_nothing_hidden(job):
    for step in some(job, 1, 4):
        job.fill_at(step)


@pytest.mark.fuzz_long
def test_many_kills_of_each(job, capsys):
    """``FUZZ_COUNT`` kills (20) at steps and as many at random moments; 1000: at every step."""
    count, seed = (int(os.environ.get(f"FUZZ_{k}", n)) for k, n in (("COUNT", 20), ("SEED", 2)))
    alone = job.name not in ("runner", "stage")
    for step in some(job, count, seed):
        job.kill_at(step)
        if alone:
            job.fill_at(step)
    chance = random.Random(seed)
    for _ in range(min(count, 20)):
        job.kill_after(chance.uniform(0, job.seconds))
    with capsys.disabled():
        counts = f"{job.kills} kills, {job.filled} times a full disk"
        sys.stdout.write(f"\n{job.name}: {counts}, of {job.steps} steps on disk\n")


def test_a_file_that_grows_too_big_is_a_sentence(tmp_path, data):
    """As with a quota; what writes weights is not Python's own."""
    job = training(tmp_path, data)
    job.before(job.root)
    for size in (2_000, 10_000):
        status, said = job.run("small", size, job.again)
        assert status == 1 and "Traceback" not in said, said
        sentence = said.splitlines()[-1]  # a checkpoint's, or one of a single file
        named = f"File too large: {job.root / 'run'}"
        assert "could not be written" in sentence or named in sentence, said
        assert not hidden(job.root)
    status, said = job.run("go", -1, job.again)
    assert status == 0 and RunFolder(job.root / "run").done, said


@pytest.mark.parametrize("what", ["training", "clustering"])
def test_the_second_writer_of_a_folder_is_told_who_the_first_is(
    tmp_path, data, trained, run_command, refused, what
):
    if what == "training":
        folder, flag = tmp_path / "run", "--output_dir"
        command = ("main.py", *TRAIN, "--data_dir", data[0], flag, folder, "--max_steps", 1)
    else:
        flag, model = "--save_dir", trained / "final_checkpoint"
        command = ("circuit_analysis/cluster.py", "--ckpt", model, "--data_dir", data[0])
        command = (*command, flag, tmp_path)
        folder = tmp_path / "residual" / NAME / "f1" / "final_checkpoint"
    with one_writer(folder, "something"):
        finished = run_command(*command)
        refused(finished, f"process {os.getpid()} is {what} in {folder};", f"another {flag}")
        assert [p.name for p in folder.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []
    assert run_command(*command).returncode == 0


# --------------------------------------------------------------------------------------- by hand


def test_an_extension_that_was_cut_off_can_be_given_up(tmp_path):
    """Back to the old number of steps, the record and the history are those of the old run."""
    tiny_model(**EVAL).train_model(pairs(30), pairs(30), tmp_path)
    before, run = content(tmp_path), RunFolder(tmp_path)

    def dies(event):
        if event["step"] == 12:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tiny_model(**EVAL, resume=True, max_steps=14).train_model(
            pairs(30), pairs(30), tmp_path, report=dies
        )
    assert not run.done and run.settings()["args"]["max_steps"] == 14
    result = tiny_model(**EVAL, resume=True).train_model(pairs(30), pairs(30), tmp_path)
    assert (result.step, run.done) == (10, True)
    now = content(tmp_path)
    assert {n: c for n, c in now.items() if not n.startswith("checkpoint-10/")} == before


def test_a_checkpoint_cut_off_between_its_renames_is_there_again(tmp_path):
    tiny_model(**EVAL, save_steps=5).train_model(pairs(30), pairs(30), tmp_path)
    before = content(tmp_path)
    (tmp_path / "checkpoint-5").rename(tmp_path / ".checkpoint-5.old")
    tiny_model(**EVAL, save_steps=5, resume=True).train_model(pairs(30), pairs(30), tmp_path)
    assert content(tmp_path) == before


def test_results_that_cannot_be_written_together_are_not_written(tmp_path):
    arrays, summary = tmp_path / "a.npz", tmp_path / "a.json"
    write_together({arrays: {"x": np.zeros(2)}, summary: "old"})
    summary.chmod(0o600)
    before = content(tmp_path)
    with pytest.raises(TypeError):  # None is neither: as a disk that fills up at the second
        write_together({arrays: {"x": np.ones(2)}, summary: None})
    assert content(tmp_path) == before
    write_together({arrays: {"x": np.ones(2)}, summary: "new"})
    assert (summary.read_text(), summary.stat().st_mode & 0o777) == ("new", 0o600)
    assert not hidden(tmp_path)


def test_writers_of_one_folder_do_not_meet_between_their_renames(tmp_path):
    probe = (
        "import sys, time\n"
        "from simpletransformers.files import replacing_folder\n"
        "until = time.monotonic() + 1.5\n"
        "while time.monotonic() < until:\n"
        "    with replacing_folder(sys.argv[1]) as new:\n"
        "        (new / 'file').write_text('x')\n"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "set")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert said == ["", ""] and content(tmp_path) == {"set/file": b"x"}


def test_a_refused_sweep_of_coverage_leaves_the_annotations(tmp_path, data, run_command, refused):
    folders = [tmp_path / name for name in "ab"]
    for source, folder in zip(data, folders, strict=True):
        shutil.copytree(source, folder / NAME)
    command = ("determine_coverage.py", "--k_sweep", "--output_dir", tmp_path / "out", "--data_dir")
    assert run_command(*command, folders[0] / NAME).returncode == 0
    before = content(tmp_path)
    refused(run_command(*command, folders[1] / NAME), "is about another data set of this name")
    assert content(tmp_path) == before


# -------------------------------------------------------------------------------- two processes


def ranks(out, data, run, *flags):
    """Two processes of one training, started as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [*TRAIN, "--data_dir", data[0], "--output_dir", run, *flags]
    started = []
    for rank in "01":
        own = {**where, "RANK": rank, "LOCAL_RANK": rank}
        file = out.with_name(f"{out.name}{rank}")
        file.write_bytes(b"")
        started.append(start_command("main.py", command, out=file, threads=1, environment=own))
    return started


def ends(out, started):
    """Exit codes, and what each process said."""
    for process in started:
        process.join(60)
        process.kill()
    said = [out.with_name(f"{out.name}{rank}").read_text() for rank in "01"]
    return [process.exitcode for process in started], said


def test_what_two_processes_cannot_do_is_a_sentence_of_each(tmp_path, data):
    out, run = tmp_path / "out", tmp_path / "run"
    status, said = ends(out, ranks(out, data, run, "--max_steps", 1, "--train_batch_size", 1))
    assert status == [1, 1] and not run.exists()
    for words in said:
        assert words.count("\n") == 1 and "2 processes, but only 1 item in a step" in words, words
    with one_writer(run, "something"):
        status, said = ends(out, ranks(out, data, run, "--max_steps", 1))
        assert status == [1, 1] and "Traceback" not in "".join(said), said
        assert f"process {os.getpid()} is training" in said[0]
        assert "the first process cannot go on" in said[1]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_one_of_two_processes_stops_both_and_they_go_on(tmp_path, data, number):
    out, run = tmp_path / "out", RunFolder(tmp_path / "run")
    started = ranks(out, data, run.path, "--max_steps", 100_000)
    while not run.events():
        assert all(process.is_alive() for process in started), ends(out, started)
        time.sleep(0.01)
    os.kill(started[1].pid, number)
    status, said = ends(out, started)
    assert status == [1, 0], said
    step = run.load_state()["step"]
    assert f"stopped by a signal to another rank after step {step}" in said[0]
    assert not run.done and run.events()[-1]["step"] == step
    flags = ("--max_steps", step + 2, "--resume")
    status, said = ends(out, ranks(out, data, run.path, *flags))
    assert status == [0, 0] and run.done and run.events()[-1]["step"] == step + 2, said
    assert not hidden(run.path)

"""Slot sets weighed in parts, by processes and by jobs: the same to the bit as all at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from coverage_principle.coverage import CoverageSettings, dataset_coverage, diagnose
from coverage_principle.coverage.in_parts import InParts, SlotSetFolder, budget, weigh_stored
from coverage_principle.coverage.pairing import agreeing_pairs
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from coverage_principle.experiments import shared_coverage
from simpletransformers import memory
from tests.conftest import ROOT
from tests.test_coverage import random_world

SETTINGS = [
    CoverageSettings(k_sweep=True),
    CoverageSettings(k_sweep=True, noise=0.1, fragments="1;2"),
    CoverageSettings(min_evidence=2, ground_truth=True),
]
PLENTY = 1 << 40


def found(dataset, settings, way=None):
    """All that a run writes, but for figures; or why it refuses."""
    try:
        coverage = dataset_coverage(dataset, settings, way=way)
    except InputError as refusal:
        return str(refusal)
    sweep = coverage.sweep() if settings.k_sweep else None
    return json.dumps([diagnose(coverage), coverage.annotated(), sweep])


@pytest.mark.parametrize("seed", range(12))
def test_parts_of_any_size_find_the_same(seed, tmp_path, monkeypatch):
    rng = np.random.default_rng(seed)
    parts = budget.Parts(*(int(rng.integers(low, 40)) for low in (2, 1, 1)))
    monkeypatch.setattr(budget, "split_up", lambda *_: parts)
    monkeypatch.setattr(budget, "CHUNK", int(rng.integers(1, 60)))
    dataset = random_world(seed, wrong=seed % 2 * 0.2)[-1]
    for settings in SETTINGS:
        assert found(dataset, settings, InParts(PLENTY, tmp_path)) == found(dataset, settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_pairs_of_two_blocks_are_those_across_them(seed):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(12 * 9)[:70]
    items = cells // 9, cells % 9, rng.integers(0, 3, len(cells))
    split = int(rng.integers(1, 12))
    (whole,) = agreeing_pairs(*items)
    across = (whole[0] < split) & (whole[1] >= split)
    some = [
        np.concatenate(part)
        for part in zip(*agreeing_pairs(*items, split=split, shrink=1 << 20), strict=True)
    ]
    for one, other in zip(whole, some, strict=True):
        assert one[across].tolist() == other.tolist()


def test_what_fits_is_not_taken_apart_and_what_cannot_fit_is_told():
    assert budget.split_up(PLENTY, 10**8, 10**6, 10**3) == budget.Parts(10**8, 10**8, 1)
    assert budget.split_up(1 << 20, 10, 10, 10) is None
    sizes = (1000, 1000, 1000)
    for items in (10**6, 10**8):
        for positions in ((0,), (0, 1)):
            least = budget.least(items, sizes, positions)
            some = budget.bounds(items, sizes, positions)
            assert budget.split_up(least - 2 * budget.SPARE, items, *some) is None
            for more in (0, 100 << 20, 1 << 30):
                parts = budget.split_up(least + more, items, *some)
                taken = budget.TABLES // parts.shrink + parts.compared * budget.COMPARED
                assert taken <= least + more and parts.shrink <= budget.MOST_SHRINK


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from coverage_principle.coverage.in_parts import HeldRows, SlotSetTask, budget, weigh_slot_set
from coverage_principle.coverage.noise import NO_NOISE
from coverage_principle.tasks import TASKS
from simpletransformers.memory import held

tokens, items, room = 100, 500_000, int(sys.argv[1])
cells = np.random.default_rng(0).permutation(tokens**3)[:items]
inputs = np.stack(np.unravel_index(cells, (tokens,) * 3), axis=1).astype(np.int32)
rows = HeldRows(inputs, (inputs.prod(axis=1) % 97).astype(np.int32))
del cells
task = SlotSetTask((0, 1), TASKS["twohop"], (tokens,) * 3, None, NO_NOISE, 1)
before = held()
found = weigh_slot_set(task, rows, room, Path(sys.argv[2]))
# Of this program alone: ``ru_maxrss`` begins with what the one held that started it.
most = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
print(int(most[1]) * 1024 - before, found.equivalence.pairs)
print(budget.split_up(room, items, tokens**2, tokens).compared)
"""


def test_the_memory_that_was_stated_is_all_that_is_taken(tmp_path):
    def run(room):
        words = [sys.executable, "-c", MEASURED, str(room), str(tmp_path)]
        told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        taken, pairs, compared = re.fullmatch(r"(\d+) \[(.*)\]\n(\d+)\n", told, re.DOTALL).groups()
        return int(taken), pairs, int(compared)

    room = 64 << 20
    taken, pairs, compared = run(room)
    assert taken <= room and compared < 500_000, taken
    most, same, everything = run(PLENTY)
    assert same == pairs and everything == 500_000 and most > room


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the repository's data set, and what a run without a budget wrote of it."""
    place = tmp_path_factory.mktemp("parts")
    shutil.copytree(ROOT / "data" / "twohop.20.1500.diff-f12.inf", place / "data")
    return place


def results(place):
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def test_processes_and_jobs_write_the_same_bytes_and_leave_nothing(folder, run_command):
    given = ("--data_dir", folder / "data", "--k_sweep", "--fragments", "1,2;3", "--output_dir")
    ways = {
        "whole": (),
        "parts": ("--memory", "1G"),
        "processes": ("--memory", "2G", "--jobs", "2"),
        "jobs": ("--launcher", "slurm", "--cluster", "local"),
    }
    if "submitit" not in sys.modules and not _has_submitit():
        del ways["jobs"]
    seen = {}
    for name, flags in ways.items():
        finished = run_command("determine_coverage.py", *given, folder / name, *flags)
        assert finished.returncode == 0, finished.stderr
        written = results(folder / name)
        said = finished.stdout.replace(str(folder / name), "")
        seen[name] = said, written, (folder / "data" / "test_annotated_x1x2+x3.json").read_bytes()
    assert all(one == seen["whole"] for one in seen.values())


def _has_submitit():
    from importlib.util import find_spec

    return find_spec("submitit") is not None


class Shared:
    """A data set's slot sets in a folder, weighed by a way that counts what it is asked for."""

    def __init__(self, place):
        self.dataset = load_dataset(ROOT / "data" / "twohop.20.1500.diff-f12.inf")
        self.path, self.asked = place / "shared", []

    def carry(self, folder, names, memory, progress):
        for name in names:
            self.asked.append(name)
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            assert weigh_stored(folder.path, name, memory) is None
            progress(0.5, name)

    def coverage(self):
        way = InParts(PLENTY, self.path, self.carry, own=True)
        return dataset_coverage(self.dataset, CoverageSettings(k_sweep=True), way=way)


def test_slot_sets_that_are_weighed_are_not_weighed_again(tmp_path):
    shared = Shared(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        shared.coverage()
    assert shared.asked == ["x1", "x2", "x3"]
    again = diagnose(shared.coverage())
    assert shared.asked == ["x1", "x2", "x3", "x3", "x1,x2", "x1,x3", "x2,x3"]
    assert again == diagnose(dataset_coverage(shared.dataset, CoverageSettings(k_sweep=True)))


def weigh(path, name):
    SlotSetFolder(path).weigh(name, None)


class Trap:
    """What runs if somebody's pickle is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_files_of_others_are_refused_and_nothing_in_them_is_run(tmp_path):
    shared = Shared(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        shared.coverage()
    mark = tmp_path / "mark"
    planted = np.empty((), dtype=object)
    planted[()] = Trap(mark)
    unread, other = r"not a readable \.npz file", "no slot set that this version wrote; remove"
    for name, read in (("x1", shared.coverage), ("tasks", lambda: weigh(shared.path, "x3"))):
        file = shared.path / f"{name}.npz"
        good = file.read_bytes()
        file.write_bytes(pickle.dumps(Trap(mark)))
        with pytest.raises(InputError, match=unread):
            read()
        np.savez(file, about=planted)
        with pytest.raises(InputError, match=unread):
            read()
        np.savez(file, about=np.array('{"slots": ["x1"]}'))
        with pytest.raises(InputError, match=other):
            read()
        file.write_bytes(good)
    assert not mark.exists()


def test_another_data_set_or_question_has_another_folder():
    dataset = load_dataset(ROOT / "data" / "twohop.20.1500.diff-f12.inf")
    digest = shared_coverage._digest
    every = {digest(dataset, settings) for settings in SETTINGS}
    assert len(every) == len(SETTINGS)
    # What says nothing of the slot sets does not matter.
    assert digest(dataset, CoverageSettings(k_sweep=True, max_k=3, output_dir="x")) in every


def test_why_a_process_failed_is_told(tmp_path, monkeypatch):
    shared = Shared(tmp_path)
    shared.carry = lambda *_: None
    with pytest.raises(InputError, match=r"x1\.npz does not exist"):
        shared.coverage()  # nothing was weighed
    processes = shared_coverage._Processes(2)
    names = ["x1,x2", "x1"]
    with pytest.raises(InputError, match=r"slot set x1(, x2)?, which needs .* however"):
        processes.carry(SlotSetFolder(shared.path), names, 60 << 20, lambda *_: None)
    monkeypatch.setattr(shared_coverage, "_weigh", _die)
    with pytest.raises(InputError, match=r"slot set x1(,x2)? was ended by signal 9; where memory"):
        processes.carry(SlotSetFolder(shared.path), names, PLENTY, lambda *_: None)
    assert not multiprocessing.active_children()


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_nothing(number, folder, tmp_path):
    # A process that weighs nothing for a minute, as a large slot set would take.
    script = (
        "import sys, time\n"
        "from coverage_principle.coverage.in_parts import stored\n"
        "from coverage_principle.experiments import shared_coverage\n"
        "from tests import test_coverage_in_parts as slow\n"
        "shared_coverage._weigh = slow.wait_a_minute\n"
        "sys.argv = ['determine_coverage.py', *sys.argv[1:]]\n"
        "import determine_coverage as command\n"
        "command.run(command.build_parser(), command.main)\n"
    )
    words = ["--data_dir", folder / "data", "--output_dir", tmp_path / "out", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WAITING": str(tmp_path / "waiting")},
    )
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and told.endswith("interrupted\n") and "Trace" not in told
    assert not any((tmp_path / "out").iterdir())


def wait_a_minute(*_):
    Path(os.environ["WAITING"]).touch()
    time.sleep(60)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--memory", "some"), "is not a size"),
        (("--memory", "90M"), "--memory 90 MiB is too little"),
        (("--memory", "1G", "--graded"), "--graded True needs all items at once"),
        (("--jobs", "2", "--scope", "domain"), "--scope domain needs all items at once"),
        (("--memory", "1G", "--noise", "auto"), "--noise auto needs all items at once"),
        (("--launcher", "slurm", "--cluster", "local", "--slurm", "x"), "--slurm x is not of"),
    ],
)
def test_refusals(flags, words, folder, tmp_path, run_command):
    given = ("--data_dir", folder / "data", "--output_dir", tmp_path / "out", *flags)
    status = 2 if "not a size" in words else 1
    finished = run_command("determine_coverage.py", *given)
    assert finished.returncode == status and words in finished.stderr, finished.stderr
    assert "Traceback" not in finished.stderr and not (tmp_path / "out").exists()


def test_a_machine_or_disk_that_is_too_small_is_told_before_the_work(tmp_path, monkeypatch):
    dataset = random_world(1)[-1]
    monkeypatch.setattr(memory, "available", lambda: 1 << 20)
    with pytest.raises(InputError, match=r"training items needs about .* give `memory` less"):
        dataset_coverage(dataset)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"temporary files go to .*, where 10 bytes are free"):
        dataset_coverage(dataset, way=InParts(PLENTY, tmp_path / "none"))

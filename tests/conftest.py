"""Shared by all tests: running a command as a user does, and small data sets."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

# Before torch is imported: the suite runs a worker on each core, and these models are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

#: What commands import after parsing. Loaded once, in the process that theirs are forked from.
PRELOADED = [
    "simpletransformers.seq2seq",
    "coverage_principle.circuits",
    "coverage_principle.coverage",
    "coverage_principle.reporting.quickstart",
]


@pytest.fixture(scope="session")
def run_command(tmp_path_factory):
    """``run_command("determine_coverage.py", "--data_dir", ...)``; asserts nothing by itself.

    The script runs as ``__main__`` in a process of its own, forked from one that has imported the
    heavy packages already: starting a fresh interpreter takes five seconds, most of them imports.
    The README's and the quickstart's commands are run in fresh interpreters.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder = tmp_path_factory.mktemp("outputs")

    def run(script, *arguments, cwd=ROOT, env=None):
        files = [folder / "out", folder / "err"]
        argv = [str(ROOT / script), *map(str, arguments)]
        process = context.Process(target=_run_script, args=(argv, str(cwd), env or {}, files))
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(argv, 300)
        out, err = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess(argv, process.exitcode, out, err)

    return run


def _run_script(argv: list[str], cwd: str, env: dict[str, str], files: list[Path]) -> None:
    """In the new process: be ``python script arguments``."""
    for stream, file in zip((sys.stdout, sys.stderr), files, strict=True):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    status = 1
    try:
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
        status = 1 if isinstance(stop.code, str) else int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@pytest.fixture
def refused():
    """Asserts that a finished command refused its input in one sentence that says ``words``."""

    def check(finished, *words, status=1):
        assert finished.returncode == status, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        last = finished.stderr.strip().splitlines()[-1]
        for word in words:
            assert word in last, last

    return check


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory, run_command):
    """A generated 2-hop data set of 10 tokens: its folder. Read it, do not write to it."""
    folder = tmp_path_factory.mktemp("data")
    finished = run_command(
        "dataset_generation/twohop.py", "--num_tokens", 10, "--max_train_data_num", 200,
        "--test_size_for_type", 60, "--output_dir", folder,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return folder / "twohop.10.200.diff-f12.inf"

"""Shared by all tests: running a command as a user does, and small data sets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Before torch is imported: the suite runs a worker on each core, and these models are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from coverage_principle.experiments.commands import start_command  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


#: Files whose tests take longest, the longest first: begun last, one would keep one worker busy
#: after the others have ended.
_LONG = ("readme", "sweep", "quickstart", "circuit_tasks", "trainer", "generators", "claims")


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def run_command(tmp_path_factory):
    """``run_command("determine_coverage.py", "--data_dir", ...)``; asserts nothing by itself.

    The script runs as ``__main__`` in a process of its own (``start_command``), which spares the
    five seconds of a fresh interpreter. The README's and the quickstart's commands are run in
    fresh interpreters.
    """
    folder = tmp_path_factory.mktemp("outputs")

    def run(script, *arguments, cwd=ROOT, env=None):
        files = [folder / "out", folder / "err"]
        for file in files:
            file.write_bytes(b"")
        process = start_command(
            script, arguments, out=files[0], err=files[1], cwd=cwd, environment=env
        )
        process.join(300)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([script, *map(str, arguments)], 300)
        out, err = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess([script], process.exitcode, out, err)

    return run


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
        "dataset_generation/twohop.py",
        "--num_tokens",
        10,
        "--max_train_data_num",
        200,
        "--test_size_for_type",
        60,
        "--output_dir",
        folder,
    )
    assert finished.returncode == 0, finished.stderr
    return folder / "twohop.10.200.diff-f12.inf"

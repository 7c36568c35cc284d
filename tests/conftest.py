"""Shared by all tests: running a command as a user does, and small data sets."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Before torch is imported: the suite runs a worker on each core, and these models are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Commands are started often, and compiling what they import takes each a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell's background jobs ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

from coverage_principle.experiments.commands import PRELOADED, start_command  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PRELOADED.append("tests.preloaded")

#: What replaces a command that needs a GPU or too long a time: the same command, made smaller.
SMALLER = {
    " 8 12 0 42": " 8 12 cpu 42 --n_embd 48 --max_steps 2",
    " --atomic_idx 1 --mode residual": " --atomic_idx 1 --mode residual --max_items 100",
    " --batch_size 1024 --metric_type rank": " --batch_size 1024 --max_items 100",
    "quickstart.sh": "quickstart.sh --no-install --preset tiny",
}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the files that git would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    copy = tmp_path_factory.mktemp("checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


def run_shell(parts: list[str], checkout) -> list[str]:
    """Run the blocks of a page in a checkout, all in one shell; what each prints.

    The shell begins in the repository's folder, as a reader does, and each command runs in a fresh
    interpreter.
    """
    end = "=== the end of a block ==="
    said = f"\necho '{end}'; echo '{end}' >&2\n"
    typed = said.join(parts)
    for long, short in SMALLER.items():
        typed = typed.replace(long, short)
    # As after activating the environment that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = f"{checkout}{os.pathsep}{checkout / 'simpletransformers'}"  # not what is installed
    finished = subprocess.run(
        ["bash", "-euc", typed],
        cwd=checkout,
        env={**os.environ, "PATH": path, "PYTHONPATH": own, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.returncode == 0, f"{typed}\n{finished.stdout}\n{finished.stderr}"
    streams = (stream.split(f"{end}\n") for stream in (finished.stdout, finished.stderr))
    return ["".join(printed) for printed in zip(*streams, strict=True)]


#: Files whose tests take longest, the longest first: begun last, one would keep one worker busy
#: after the others have ended.
_LONG = ("readme", "kills", "sweep", "same_bytes", "fuzz_files", "quickstart", "fuzz_flags")
_LONG += ("circuit_tasks", "trainer", "generators", "claims")


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def run_command(tmp_path_factory):
    """``run_command("determine_coverage.py", "--data_dir", ...)``; asserts nothing by itself.

    The script runs as ``__main__`` in a process of its own (``start_command``), which spares the
    seconds of a fresh interpreter's imports. The README's and the quickstart's commands are run in
    fresh interpreters.
    """
    folder = tmp_path_factory.mktemp("outputs")

    def run(script, *arguments, cwd=ROOT, env=None, seconds=300):
        files = [folder / "out", folder / "err"]
        for file in files:
            file.write_bytes(b"")
        process = start_command(
            script, arguments, out=files[0], err=files[1], cwd=cwd, environment=env
        )
        process.join(seconds)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([script, *map(str, arguments)], seconds)
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

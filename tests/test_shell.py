"""The shell scripts: what their help needs, and where it may be asked for."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted(
    path
    for folder in ("script", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".sh", ".slurm")
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A PATH that holds what prints a help text: no Python, no pip, no git."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in ("dirname", "sed"):
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "-h",
        "--help 0.1 8 12",
        "name 0.1 8 12 cpu 42 --help",
        "--no-install -h --seed 1",
    ],
)
def test_help_is_shown_at_once_wherever_it_is_asked_for(script, arguments, bare, tmp_path):
    finished = subprocess.run(
        [shutil.which("bash"), script, *arguments.split()],
        cwd=tmp_path,
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = script.read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if line.startswith("# "))
    assert finished.stdout.startswith(first[2:] + "\n")
    assert "SBATCH" not in finished.stdout and "set -" not in finished.stdout
    if script.name != "setup_env.sh":  # which is no command
        assert f" {script.relative_to(ROOT)} " in finished.stdout
    assert not list(tmp_path.iterdir())


def test_a_job_finds_the_help_of_its_script_from_where_it_was_submitted(bare, tmp_path):
    copy = shutil.copy(ROOT / "script" / "train.slurm", tmp_path / "slurm_script")
    finished = subprocess.run(
        [shutil.which("bash"), copy, "--help"],
        env={"PATH": str(bare), "SLURM_SUBMIT_DIR": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.startswith("A SLURM job") and not finished.stderr

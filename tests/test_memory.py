"""Memory: sizes as people write them, what is available, and the refusal."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletransformers import memory
from simpletransformers.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("24G", 24 << 30), ("1500M", 1500 << 20), ("2k", 2048), (" 0.5 GiB ", 1 << 29), ("7", 7)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert memory.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "-3G", "0", "3 X", "1e9", "0.0001", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="is not a size"):
        memory.parse_bytes(text)


@given(st.integers(1, 1 << 45))
def test_words_are_within_a_percent_of_the_number(number):
    words = memory.in_words(number).replace(" bytes", "")
    assert memory.parse_bytes(words) == pytest.approx(number, rel=0.01)


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        (1 << 30, [(-3, 64 << 20), (-1, (1 << 31) - 1)]),
        (32 << 20, [(-3, 64 << 20), (-3, 32 << 20), (-1, (1 << 31) - 1)]),
        (0, [(-3, 64 << 20), (-3, 32 << 20)]),
    ],
)
def test_freed_memory_is_kept_as_far_as_the_c_library_lets_it(monkeypatch, most, asked):
    """Older ones refuse a threshold above 32 MiB; half of the two would slow everything down."""
    calls = []

    def mallopt(option, size):
        calls.append((option, size))
        return int(option != -3 or size <= most)

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    memory.keep_freed()
    assert calls == asked


def test_where_the_c_library_is_another_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    memory.keep_freed()


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8 GiB available; its folders, to put control groups into."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    write(proc, meminfo="MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_GROUPS", groups)
    return proc, groups


@pytest.mark.usefixtures("machine")
def test_the_system_says_what_is_available():
    assert memory.available() == 8 << 30


def test_the_tightest_control_group_counts_and_caches_of_files_are_free(machine):
    proc, groups = machine
    write(proc / "self", cgroup="0::/job/step\n")
    write(groups / "job", memory__max=f"{4 << 30}\n", memory__current=f"{3 << 30}\n")
    write(groups / "job", memory__stat=f"anon 5\ninactive_file {1 << 30}\n")
    write(groups / "job" / "step", memory__max="max\n", memory__current="5\n")
    assert memory.available() == 2 << 30


def test_control_groups_of_the_first_version_count_too(machine):
    proc, groups = machine
    write(proc / "self", cgroup="8:pids:/\n4:cpu,memory:/box\n0::/\n")
    write(groups / "memory" / "box", memory__limit_in_bytes=str(1 << 30))
    write(groups / "memory" / "box", memory__usage_in_bytes=str(1 << 28))
    write(groups / "memory", memory__limit_in_bytes="9223372036854771712")
    write(groups / "memory", memory__usage_in_bytes="1")
    assert memory.available() == (1 << 30) - (1 << 28)


@pytest.mark.usefixtures("machine")
def test_too_much_work_is_refused_with_what_it_needs_and_what_helps():
    memory.require(8 << 30, "the sweep", "wait")
    with pytest.raises(InputError) as caught:
        memory.require(12 << 30, "the sweep", "give a budget")
    expected = "the sweep needs about 12 GiB of memory, and 8 GiB are available; give a budget"
    assert str(caught.value) == expected


def test_memory_that_was_freed_is_used_again():
    """No page of a block that was there before is asked of the system again."""
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    code = """
import resource, sys
from simpletransformers.memory import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [bytearray(4 << 20) for _ in range(8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    run = [sys.executable, "-c", code]
    kept, freed = (
        int(subprocess.run([*run, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "freed")
    )
    assert kept < 1000 < freed


def test_what_a_process_holds_grows_with_what_it_takes():
    before = memory.held()
    taken = bytearray(64 << 20)
    taken[:: 1 << 12] = b"1" * (len(taken) >> 12)
    assert 60 << 20 <= memory.held() - before <= 80 << 20

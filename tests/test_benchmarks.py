"""The frame of the benchmarks: what a process took, ratios of pairs, the code before, files."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys

import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("benchmark_frame", ROOT / "benchmarks" / "common.py")
common = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = common  # dataclasses look their module up
SPEC.loader.exec_module(common)


def test_a_process_is_measured():
    work = "import os; x = bytearray(64 << 20); print(os.environ['OMP_NUM_THREADS'])"
    used = common.measure("-c", work, threads=3)
    assert used.said == "3" and not used.failed
    assert 64 < used.mib < 128 and 0 < used.cpu_s < 5 and used.wall_s > 0
    used = common.measure("-c", "import os; open(os.path.join(r'{out}', 'file'), 'w')")
    assert not used.failed  # a folder for the run


@pytest.mark.parametrize(
    ("work", "limits", "why"),
    [
        ("raise ValueError('no')", {}, "exit status 1: ValueError: no"),
        ("import os; os.abort()", {}, "ended by signal 6"),
        ("import time; time.sleep(60)", {"seconds": 0.2}, "not done after 0 s"),
        ("x = bytearray(1 << 30)", {"gib": 0.5}, "too little memory: exit status 1: MemoryError"),
    ],
)
def test_how_a_process_failed_is_told(work, limits, why):
    assert common.measure("-c", work, **limits).failed.startswith(why)


def usages(*cpu, **more):
    return [common.Usage(one, one, 10.0, **more) for one in cpu]


def test_ratios_are_of_pairs():
    runs = {"now": usages(1, 2, 4), "before": usages(3, 4, 20), "bound": usages(0.5, 1, 1)}
    found = common.figures_of(runs, "work")
    assert found["now"]["cpu_s"] == 2 and found["now"]["cpu_s_range"] == [1, 4]
    assert found["before"]["over_now"] == 3 and found["before"]["over_now_range"] == [2, 5]
    assert (found["bound_s"], found["times_bound"], found["bound_is"]) == (1, 2, "work")
    shown = common.cells(found, items=2_000_000)
    assert shown["CPU time"] == "2.00 s" and shown["us an item"] == "1.00"
    assert shown["before / now"] == "3.00 (2.00 to 5.00)" and shown["times the bound"] == "2.00"


def test_a_code_that_fails_is_a_figure_and_ours_an_error():
    broken = usages(7, failed="ended by signal 6: Aborted")
    found = common.figures_of({"now": usages(1), "before": broken})
    assert found["before"]["failed"] == "ended by signal 6: Aborted"
    assert common.cells(found)["before: CPU time"] == "ended by signal 6"
    flags = argparse.Namespace(repeats=1, row_seconds=60, threads=1)
    with pytest.raises(RuntimeError, match="now: ended by signal 6"):
        common.Bench(flags, {}).row({"now": lambda: broken[0]})
    found = common.Bench(flags, {}).row({"now": lambda: broken[0]}, may_fail=True)
    assert common.cells(found, items=5) == {"CPU time": "ended by signal 6", "MiB": "10"}


def test_ways_take_turns_until_the_row_has_had_its_time():
    called = []
    flags = argparse.Namespace(repeats=3, row_seconds=60, threads=1)
    ways = {
        name: lambda name=name: called.append(name) or common.Usage(1, 1, 1)
        for name in ("now", "before")
    }
    assert common.Bench(flags, {}).row(ways)["now"]["runs"] == 3
    assert called == ["now", "before", "before", "now", "now", "before"]
    flags.row_seconds = 0
    assert common.Bench(flags, {}).row(ways)["now"]["runs"] == 1


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a checkout is needed")
def test_a_benchmark_compares_with_a_commit(run_command, tmp_path):
    file = tmp_path / "importing_cpu.json"
    flags = ("--rows", 200, "--repeats", 1, "--before", "HEAD", "--output", file)
    finished = run_command("benchmarks/importing.py", *flags)
    assert finished.returncode == 0, finished.stderr
    content = json.loads(file.read_text())
    assert content["command"] == (
        "python benchmarks/importing.py --rows 200 --repeats 1 --before HEAD"
    )
    assert re.fullmatch("[0-9a-f]{12}", content["before"]) and content["threads"] == 1
    (table,) = content["tables"]
    assert len(table["rows"]) == len(table["figures"]) == 4
    for figures in table["figures"]:
        assert figures["before"]["over_now"] > 0 and figures["now"]["mib"] > 10
    refused = run_command("benchmarks/importing.py", "--before", "no such commit")
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1

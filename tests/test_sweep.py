"""Sweeps: settings, launchers and the ledger; runners and workers that are killed."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverage_principle.errors import InputError
from coverage_principle.experiments import (
    Interrupted,
    Ledger,
    RunSettings,
    Sweep,
    Workplace,
    analyses,
    execute,
    read_spec,
    start_command,
)
from coverage_principle.experiments.commands import has_ended
from coverage_principle.experiments.settings import _digest
from tests.conftest import ROOT

DATA = {"num_tokens": 6, "max_train_data_num": 60, "test_size_for_type": 20}
TRAIN = {
    "n_layer": 1,
    "n_head": 1,
    "n_embd": 8,
    "device": "cpu",
    "train_batch_size": 16,
    "max_steps": 40,
    "eval_steps": 20,
    "logging_steps": 5,
    "warmup_steps": 0,
    "resume_state_minutes": 0.001,
}
BASE = {"task": "twohop", "data": DATA, "coverage": {"k_sweep": True}, "train": TRAIN}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def lines(root):
    return [json.loads(line) for line in (root / "results.jsonl").read_text().splitlines()]


# --------------------------------------------------------------------------------------- settings


def test_a_run_is_known_by_its_settings_alone():
    one = RunSettings.resolve({**BASE, "seed": 3}, "one")
    same = RunSettings.resolve(
        {"seed": 3, **BASE, "train": dict(reversed(TRAIN.items()))}, "another label"
    )
    assert one.id == same.id and one.shared_id == same.shared_id
    longer = RunSettings.resolve({**BASE, "seed": 3, "train": {**TRAIN, "max_steps": 41}})
    assert longer.id != one.id and longer.shared_id == one.shared_id
    other = RunSettings.resolve({**BASE, "seed": 4})
    assert other.id != one.id and other.shared_id != one.shared_id
    assert one.data["seed"] == one.train["manual_seed"] == 3


def test_settings_can_be_made_in_many_threads():
    streams = sys.stdout, sys.stderr
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: RunSettings.resolve({**BASE, "seed": n % 3}), range(60)))
    assert len({run.id for run in runs}) == 3
    assert (sys.stdout, sys.stderr) == streams


def test_a_grid_gives_every_combination_once(tmp_path):
    spec = read_spec(
        write(
            tmp_path / "sizes.json",
            {
                "base": BASE,
                "grid": {"data.max_train_data_num": [60, 80], "seed": [1, 2]},
                "runs": [{}, {"train": {"n_layer": 2}}, {"data": {"num_tokens": 6}}],
            },
        )
    )
    assert spec.name == "sizes"
    assert len(spec.runs) == 8  # the third of "runs" says nothing new
    assert len({run.id for run in spec.runs}) == 8
    assert {run.label for run in spec.runs} >= {
        "max_train_data_num=60 seed=1",
        "n_layer=2 max_train_data_num=80 seed=2",
    }
    assert len({run.shared_id for run in spec.runs}) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "sixhop"}, "task 'sixhop' is not one of custom, fivehop"),
        ({"trainn": {}}, "settings hold 'trainn'; known are analyse, coverage"),
        ({"train": {**TRAIN, "n_layers": 2}}, "train are not those of main.py: unrecognized"),
        ({"train": {**TRAIN, "max_steps": "many"}}, "--max_steps: invalid int value: 'many'"),
        ({"train": {**TRAIN, "output_dir": "x"}}, "train holds output_dir, which the runner sets"),
        ({"analyse": {"dance": {}}}, f"analyse holds 'dance'; known are {', '.join(analyses())}"),
        ({"train": None, "analyse": {"lens": {}}}, "evaluate and analyse need a model"),
        ({"data": [1]}, "data must be an object of flags"),
        (
            {"train": {**TRAIN, "help": True}},
            "train holds 'help', which is no flag that a sweep can set",
        ),
        ({"data": {**DATA, "output_dir=/x": 1}}, "data holds 'output_dir=/x', which is no flag"),
        ({"coverage": {"suggest": 5}}, "coverage holds 'suggest', which is no flag"),
        ({"coverage": {"explain": "<t_1>"}}, "coverage holds 'explain', which is no flag"),
        ({"coverage": {"cut": "<t_1>"}}, "coverage holds 'cut', which is no flag"),
    ],
)
def test_settings_that_no_command_would_take_are_refused_before_anything_runs(
    tmp_path, change, words
):
    file = write(tmp_path / "s.json", {"runs": [{**BASE, **change}]})
    with pytest.raises(InputError) as refusal:
        read_spec(file)
    assert words in str(refusal.value) and str(file) in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "must be a JSON object with some of base, grid, name, runs; it has not"),
        ({"grids": {}}, "it has grids"),
        ({"base": BASE, "grid": {"seed": 3}}, "grid 'seed' must be a list"),
        ({"name": "../../x", "base": BASE}, "the name '../../x' must be that of a folder"),
        ({"name": "/x", "base": BASE}, "the name '/x' must be that of a folder"),
        ({"name": "", "base": BASE}, "the name '' must be that of a folder"),
        ({"name": ".x", "base": BASE}, "the name '.x' must be that of a folder"),
        ({"base": BASE, "runs": [1]}, "runs must be a list of objects"),
        ({"base": [BASE]}, "base must be a object"),
    ],
)
def test_a_malformed_spec_is_refused(tmp_path, run_command, refused, content, words):
    file = write(tmp_path / "s.json", content)
    refused(run_command("script/run_sweep.py", file, "--output_dir", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- the ledger


@given(cut=st.integers(0, 400))
def test_a_torn_last_line_of_the_ledger_is_cut_off(tmp_path_factory, cut):
    root = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(root)
    rest = {"world": "w", "label": "", "status": "done", "seconds": {}}
    rest["settings"] = {"task": "é" * 20, "data": {}, "train": None}
    for number in range(3):
        ledger.add({"run": f"r{number}", **rest})
        ledger.add({"run": f"r{number}", **rest})
    content = (root / "results.jsonl").read_bytes()
    assert content.count(b"\n") == 3
    (root / "results.jsonl").write_bytes(content[: len(content) - cut])
    # A line that lacks its end only is whole.
    whole = content[: max(0, len(content) - cut + 1)].count(b"\n")
    again = Ledger(root)
    assert list(again.records) == [f"r{number}" for number in range(whole)]
    again.add({"run": "new", **rest})
    assert [record["run"] for record in lines(root)] == [*again.records]


@pytest.mark.parametrize("key", ["run", "world", "label", "status", "settings", "seconds"])
def test_a_line_that_lacks_what_pages_read_is_left_out(tmp_path, key):
    whole = json.loads((ROOT / "docs/tutorial/results.jsonl").read_text().splitlines()[0])
    lacking = {name: value for name, value in whole.items() if name != key}
    text = "".join(json.dumps(one) + "\n" for one in (lacking, {**whole, "run": "other"}))
    (tmp_path / "results.jsonl").write_text(text)
    assert list(Ledger(tmp_path).records) == ["other"]


# -------------------------------------------------------------------------------------- the runner


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_command):
    """A sweep of two runs with everything in it: its spec, folder and output. Read it only."""
    folder = tmp_path_factory.mktemp("sweep")
    spec = write(
        folder / "spec.json",
        {
            "base": {
                **BASE,
                "evaluate": {},
                "analyse": {
                    "cluster": {"group_by": ["b", "b,x2"], "permutations": 2},
                    "trace": {},
                    "lens": {},
                    "probe": {"layer_pos_pairs": "(1,1)", "folds": 3},
                },
            },
            "grid": {"train.max_steps": [40, 20]},
        },
    )
    root = folder / "out"
    done = run_command("script/run_sweep.py", spec, "--output_dir", root, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return spec, root, done.stdout


def test_a_sweep_carries_out_every_stage_of_every_run(finished):
    spec, root, output = finished
    records = lines(root)
    assert sorted(record["run"] for record in records) == sorted(
        run.id for run in read_spec(spec).runs
    )
    for record in records:
        assert record["status"] == "done"
        assert set(record["seconds"]) == {
            "generate",
            "coverage",
            "train",
            "evaluate",
            "cluster",
            "trace",
            "lens",
            "probe",
        }
        folder = root / "runs" / record["run"]
        items = json.loads((folder / "all_items.json").read_text())
        kinds = [item for item in items if item["type"] == "type_0"]
        share = sum(i["model_output"] == i["target_text"] for i in kinds) / len(kinds)
        assert record["scores"]["type_0"]["exact_match"] == pytest.approx(share)
        assert len(list(folder.rglob("cluster/**/metrics.json"))) == 2
        assert record["k_sweep"]["1"][0] > 0
    assert len(list((root / "worlds").iterdir())) == 1  # both have the same data
    table = list(csv.DictReader((root / "results.csv").open()))
    assert {row["train.max_steps"] for row in table} == {"20", "40"}
    for record, row in zip(records, table, strict=True):
        accuracy = record["scores"]["type_0"]["answer_accuracy"]
        assert float(row["answer_accuracy.type_0"]) == accuracy
        assert f"{record['run']}" in output and f"{accuracy:.3f}" in output


def test_a_finished_sweep_is_not_run_again(finished, run_command):
    spec, root, output = finished
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*.log")}
    again = run_command("script/run_sweep.py", spec, "--output_dir", root)
    assert again.returncode == 0, again.stderr
    assert again.stdout == output
    assert before == {file: file.stat().st_mtime_ns for file in root.rglob("*.log")}
    assert len(lines(root)) == 2


def test_print_shows_commands_that_do_the_same(finished, run_command, tmp_path):
    spec, root, _ = finished
    shown = run_command(
        "script/run_sweep.py", spec, "--launcher", "print", "--output_dir", root
    ).stdout.splitlines()
    assert sum(line.startswith("python dataset_generation/twohop.py") for line in shown) == 1
    logged = {file.read_text().splitlines()[0][2:] for file in root.rglob("*.log")}
    same = {line for line in shown if not line.startswith("#")}
    # The data set's own folder is known only once it has been generated, so compare the rest.
    assert {line for line in logged if "main.py" in line} <= same
    assert not (tmp_path / "new").exists()


def test_the_ledger_has_a_record_before_anybody_is_given_it(tmp_path):
    asked = [Future(), Future()]

    class Launcher:
        def submit_all(self, runs):
            return asked[: len(runs)]

    sweep = Sweep(tmp_path, Launcher())
    runs = [RunSettings.resolve({"seed": seed, "data": DATA}) for seed in (1, 2)]
    done, stopped = sweep.submit_all(runs)
    seen = []
    add = sweep.ledger.add
    sweep.ledger.add = lambda record: (seen.append(done.done()), add(record))
    record = {"run": runs[0].id, "world": "w", "label": "one", "status": "done", "seconds": {}}
    asked[0].set_result({**record, "settings": runs[0].as_dict()})
    assert seen == [False]
    assert done.result(timeout=0) == sweep.ledger.records[runs[0].id]
    asked[1].cancel()
    with pytest.raises(CancelledError):
        stopped.result(timeout=0)
    assert sweep.tally() == {"done": 1, "failed": 0, "interrupted": 1, "open": 0}


def test_a_failed_run_is_reported_and_retried_only_on_request(run_command, tmp_path):
    spec = write(
        tmp_path / "s.json",
        {
            "base": {**BASE, "train": {**TRAIN, "max_steps": 5}},
            "grid": {"data.max_train_data_num": [60, 9000]},
        },
    )
    root = tmp_path / "out"
    command = ("script/run_sweep.py", spec, "--output_dir", root, "--jobs", 1)
    first = run_command(*command)
    assert first.returncode == 1
    assert "at generate: twohop.py: error: --max_train_data_num 9000 is more than" in first.stderr
    assert "not done: 1 of 2 runs" in first.stderr.splitlines()[-1]
    log = re.search(r"\(log: (.*)\)", first.stderr)[1]
    assert "--max_train_data_num 9000" in Path(log).read_text()
    assert [record["status"] for record in lines(root)] == ["done", "failed"]
    (log,) = (file for file in root.rglob("generate.log") if "9000" in file.read_text())
    stamp = log.stat().st_mtime_ns
    assert run_command(*command).returncode == 1
    assert log.stat().st_mtime_ns == stamp
    assert run_command(*command, "--retry_failed").returncode == 1
    assert log.stat().st_mtime_ns > stamp
    assert len(lines(root)) == 3  # the retry is on record; the run that was done is there once


def test_a_command_is_forked_with_what_takes_long_to_import(tmp_path):
    """Else a sweep of many small runs spends most of its time on imports."""
    script = tmp_path / "loaded.py"
    script.write_text("import sys; print(*sys.modules)")
    process = start_command(str(script), [], out=tmp_path / "out")
    process.join()
    loaded = (tmp_path / "out").read_text().split()
    heavy = {"torch", "transformers.models.gpt2.modeling_gpt2", "matplotlib.figure", "plotly"}
    assert not heavy - set(loaded)


def test_threads_get_the_statuses_of_their_own_commands(tmp_path):
    """Statuses are collected once each, whichever thread starts or waits for what."""

    def status(number):
        arguments = ["--help"] if number % 3 else ["--no_such_flag"]
        process = start_command("script/make_report.py", arguments, out=tmp_path / str(number))
        while not has_ended(process, 0.25):
            pass
        return process.exitcode

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(status, range(90)))
    assert statuses == [0 if number % 3 else 2 for number in range(90)]


def test_a_worker_that_is_killed_leaves_its_run_to_be_gone_on_with(tmp_path):
    run = RunSettings.resolve({**BASE, "train": {**TRAIN, "max_steps": 800}})
    place = Workplace(tmp_path, threads=1)
    outcome = []

    def work():
        try:
            outcome.append(execute(run, place))
        except Interrupted as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    state = place.run_folder(run) / "model" / "resume_state"
    while thread.is_alive() and not state.exists():
        time.sleep(0.05)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    thread.join()
    assert "train was ended by signal 9" in str(outcome[0])
    assert not (place.run_folder(run) / "result.json").exists()
    place.stop.set()
    with pytest.raises(Interrupted):  # a place that is being left begins nothing
        execute(run, place)
    assert "resuming" not in (place.run_folder(run) / "logs" / "train.log").read_text()
    record = execute(run, Workplace(tmp_path, threads=1))
    assert record["status"] == "done" and record["steps"] == 800
    assert "resuming" in (place.run_folder(run) / "logs" / "train.log").read_text()


def test_a_changed_task_file_makes_another_run(tmp_path):
    """Runs whose settings name no file keep the ids that they always had."""
    file = tmp_path / "diamond.json"
    text = (ROOT / "docs" / "tasks" / "diamond.json").read_text(encoding="utf-8")
    settings = {"task": "custom", "data": {"task": str(file), "num_tokens": 8}}
    ids = []
    for description in (text, text, text.replace("diamond", "jewel")):
        file.write_text(description, encoding="utf-8")
        run = RunSettings.resolve(settings)
        ids.append((run.id, run.shared_id))
    assert ids[0] == ids[1] and {*ids[0]}.isdisjoint(ids[2])
    plain = RunSettings.resolve({"task": "twohop", "data": {"num_tokens": 8}})
    whole = json.dumps(plain.as_dict(), sort_keys=True, separators=(",", ":"))
    assert plain.id == hashlib.sha256(whole.encode()).hexdigest()[:12]


def test_a_setting_may_be_longer_than_a_file_name():
    assert len(_digest({"description": "x" * 5000})) == 12


UNGUARDED = """
import multiprocessing

from coverage_principle.experiments import LocalLauncher

LocalLauncher(".", 1).close()
child = multiprocessing.get_context("spawn").Process(target=print)
child.start()
child.join()
print("a child ended with", child.exitcode)
"""


def test_a_program_that_runs_import_is_told_to_guard_what_starts_them(tmp_path):
    (tmp_path / "mine.py").write_text(UNGUARDED)
    where = {
        "cwd": tmp_path,
        "env": os.environ | {"PYTHONPATH": f"{ROOT}/simpletransformers:{ROOT}"},
    }
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, **where)
    assert done.stdout == "a child ended with 1\n", done.stderr
    assert 'put what starts runs under `if __name__ == "__main__":`' in done.stderr

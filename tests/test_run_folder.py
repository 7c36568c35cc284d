"""The folder of a training run: a history that was cut off, checkpoints by step, one at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverage_principle.errors import InputError
from coverage_principle.experiments import STAGES, RunSettings, Stage
from simpletransformers.seq2seq.run_folder import RunFolder, checkpoint_name

SCORES = {"n": 2, "loss": 1.0, "answer_accuracy": 0.5, "exact_match": 0.5}


def event(step, **more):
    return {"step": step, "epoch": step / 10, "train_loss": 2.0, **more}


@given(cut=st.integers(0, 600))
def test_a_history_that_was_cut_off_is_read_up_to_there(tmp_path_factory, cut):
    run = RunFolder(tmp_path_factory.mktemp("run"))
    events = [event(1), event(2, eval={"type_0": SCORES}), event(3), event(4, eval={})]
    for one in events:
        run.add(one)
    file = run.path / "metrics.jsonl"
    content = file.read_bytes()
    left = content[: max(0, len(content) - cut)]
    file.write_bytes(left)
    found, lines = run.events(), left.split(b"\n")
    # What is left of the last line counts if it is whole but for its newline.
    assert found == events[: len(found)]
    assert len(found) == len(lines) - 1 + (lines[-1] in content.split(b"\n")[:-1])


def test_rewinding_drops_what_came_later_from_history_and_csv(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match="holds no evaluation"):
        run.evaluations()
    for step in (1, 2, 3):
        run.add(event(step, eval={"type_0": SCORES}))
    run.begin(2, {})
    assert [e["step"] for e in run.evaluations()] == [1, 2]
    rows = (tmp_path / "training_progress_scores.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("global_step,epoch,train_loss,eval_loss-type_0")


def test_checkpoints_are_in_order_and_the_final_one_makes_a_run_done(tmp_path):
    run = RunFolder(tmp_path)
    assert not run.started and not run.done and run.settings() == {}
    for step in (100, 20):
        run.write_checkpoint(step, lambda folder: (folder / "config.json").write_text("{}"))
    (tmp_path / "checkpoint-7").mkdir()  # holds no model
    assert [path.name for path in run.checkpoints()] == ["checkpoint-20", "checkpoint-100"]
    assert run.started and not run.done
    run.write_checkpoint(None, lambda folder: (folder / "config.json").write_text("{}"))
    assert run.done and run.checkpoints()[-1] == run.final
    assert [checkpoint_name(name) for name in ("20", "final_checkpoint")] == [
        "checkpoint-20",
        "final_checkpoint",
    ]
    run.begin(None, {"a": 1})
    assert not run.events() and run.checkpoints() == [] and run.settings() == {"a": 1}


def test_two_trainings_do_not_share_a_folder(tmp_path):
    probe = (
        "import sys\n"
        "from simpletransformers.seq2seq.run_folder import RunFolder\n"
        "assert 'torch' not in sys.modules\n"
        "with RunFolder(sys.argv[1]).locked():\n"
        "    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", probe, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match=f"process {other.pid} is training in"):  # noqa: SIM117
        with RunFolder(tmp_path).locked():
            pass
    other.kill()
    other.communicate()
    with RunFolder(tmp_path).locked():
        assert RunFolder(tmp_path).settings() == {}


def test_a_stage_is_one_entry_of_the_table(tmp_path, monkeypatch):
    script = tmp_path / "probe.py"
    script.write_text(
        "import argparse\n"
        "def build_parser():\n"
        "    parser = argparse.ArgumentParser()\n"
        "    for flag in ('--model_dir', '--save_dir', '--depth'):\n"
        "        parser.add_argument(flag)\n"
        "    return parser\n"
    )
    words = "--model_dir {model} {flags} --save_dir {folder}/probe"
    stage = Stage("probe", "analyse", str(script), words, "probe/*.json", {"depth": 1})
    monkeypatch.setitem(STAGES, "probe", stage)
    data = {"num_tokens": 6, "max_train_data_num": 60}
    settings = {"data": data, "train": {}, "analyse": {"probe": {"depth": 2}}}
    run = RunSettings.resolve(settings)
    *_, last = run.commands(tmp_path / "run", tmp_path / "shared")
    model, folder = tmp_path / "run" / "model", tmp_path / "run" / "probe"
    wanted = ["--model_dir", str(model), "--depth", "2", "--save_dir", str(folder)]
    assert last.stage.name == "probe" and list(last.arguments) == wanted
    with pytest.raises(InputError, match="probe holds save_dir, which the runner sets itself"):
        RunSettings.resolve({**settings, "analyse": {"probe": {"save_dir": "x"}}})

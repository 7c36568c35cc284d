"""main.py and script/train.sh as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from coverage_principle.data import check_training_memory
from coverage_principle.errors import InputError
from main import build_parser, main
from simpletransformers import memory
from tests.conftest import ROOT

SMALL = (
    "--model_name_or_path",
    "gpt2",
    "--init_weights",
    "--n_layer",
    1,
    "--n_head",
    2,
    "--n_embd",
    16,
    "--train_batch_size",
    64,
    "--device",
    "cpu",
    "--max_steps",
    2,
)


def train_sh(*arguments):
    return subprocess.run(
        ["bash", str(ROOT / "script" / "train.sh"), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_train_then_evaluate_and_predict_from_the_checkpoint(tmp_path, small_dataset, run_command):
    run = tmp_path / "run"
    finished = run_command(
        "main.py",
        "--data_dir",
        small_dataset,
        "--output_dir",
        run,
        "--do_train",
        *SMALL,
        "--evaluate_during_training",
        "--max_length",
        10,
    )
    assert finished.returncode == 0, finished.stderr
    assert "--max_length has no effect" in finished.stderr
    assert "2 steps done" in finished.stdout
    config = json.loads((run / "run_config.json").read_text())
    assert config["dataset"]["name"] == small_dataset.name
    # Whatever a person reads says what a type is; groups in files keep their plain names.
    for text in (finished.stdout, (run / "README.md").read_text()):
        assert "type_0 (every call seen)" in text and "type_2 (f1 unseen)" in text
    assert config["args"]["n_layer"] == 1
    trained = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["eval"]

    finished = run_command(
        "main.py",
        "--data_dir",
        small_dataset,
        "--do_eval",
        "--do_predict",
        "--device",
        "cpu",
        "--model_name_or_path",
        run / "final_checkpoint",
        "--prediction_dir",
        tmp_path / "out",
    )
    assert finished.returncode == 0, finished.stderr
    assert (
        "one of " in finished.stdout and "intervals of answer_accuracy: Wilson's" in finished.stdout
    )
    assert "type_2 (f1 unseen)" in finished.stdout
    table = {line.split()[0]: line.split()[1:] for line in finished.stdout.splitlines()}
    items = json.loads((tmp_path / "out" / "all_items.json").read_text())
    test = json.loads((small_dataset / "test.json").read_text())
    assert [item["input_text"] for item in items] == [item["input_text"] for item in test]
    for kind, scores in trained.items():
        right = [i["model_output"] == i["target_text"] for i in items if i["type"] == kind]
        assert scores["n"] == len(right)
        assert scores["exact_match"] == pytest.approx(sum(right) / len(right))
        assert table[kind][-2] == f"{scores['exact_match']:.4f}"


def test_k_cutoffs_of_an_annotated_test_set_become_groups(tmp_path, small_dataset, run_command):
    data = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, data)
    test = json.loads((data / "test.json").read_text())
    for number, record in enumerate(test):
        record["k_cutoff"] = number % 2 if record["type"] == "type_0" else None
    (data / "test_annotated.json").write_text(json.dumps(test))
    common = ["main.py", "--data_dir", data, "--do_train", *SMALL, "--output_dir"]
    assert run_command(*common, tmp_path / "run").returncode == 0
    scores = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["eval"]
    inner = [scores[f"type_0/k_cutoff={k}"]["n"] for k in (0, 1)]
    assert sum(inner) == scores["type_0"]["n"]
    # An annotation of some other test set is refused, with the command that makes it anew.
    (data / "test_annotated.json").write_text(json.dumps(test[1:]))
    finished = run_command(*common, tmp_path / "other")
    assert finished.returncode == 1 and not (tmp_path / "other").exists()
    assert "does not belong to test.json" in finished.stderr
    assert f"determine_coverage.py --data_dir {data} --k_sweep" in finished.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--do_train"], ["--do_train needs --output_dir"]),
        ([], ["nothing to do"]),
        (["--do_eval", "--re_embed"], ["--re_embed", "not offered"]),
        (
            ["--do_train", "--output_dir", "OUT", "--stop_when", "type_0>=0.9"],
            ["--stop_when", "need", "--evaluate_during_training"],
        ),
        (
            [
                "--do_train",
                "--output_dir",
                "OUT",
                "--evaluate_during_training",
                "--stop_when",
                "type_0>=0.9",
            ],
            ["validation split", "--validation_size", "--stop_on_test"],
        ),
        (
            [
                "--do_train",
                "--output_dir",
                "OUT",
                "--evaluate_during_training",
                "--stop_when",
                "0.9",
                "--stop_on_test",
            ],
            ["stop_when '0.9'", "GROUP>=ACCURACY"],
        ),
        (
            [
                "--do_train",
                "--output_dir",
                "OUT",
                "--evaluate_during_training",
                "--stop_when",
                "type_9>=0.9",
                "--stop_on_test",
            ],
            ["type_9", "type_0"],
        ),
        (["--do_eval", "--fp16", "--do_train", "--output_dir", "OUT"], ["fp16 needs a GPU"]),
        (["--do_train", "--output_dir", "OUT", "--n_embd", "17"], ["17", "n_head"]),
        (["--do_eval", "--custom_test", "nowhere.json"], ["nowhere.json does not exist"]),
        (["--do_eval", "--test_types", "type_0", "type_9"], ["--test_types type_9", "type_0"]),
        (["--do_eval", "--test_types", "type_0", "--custom_test", "x.json"], ["--custom_test"]),
    ],
)
def test_flags_that_cannot_be_obeyed_are_refused(
    tmp_path, small_dataset, run_command, refused, flags, words
):
    out = tmp_path / "out"
    flags = [str(out) if flag == "OUT" else flag for flag in flags]
    refused(run_command("main.py", "--data_dir", small_dataset, *SMALL, *flags), *words)
    assert not out.exists()


def test_paths_that_do_not_exist_are_refused_with_what_is_there(
    tmp_path, small_dataset, run_command, refused
):
    finished = run_command("main.py", "--data_dir", tmp_path / "no", "--do_eval", *SMALL)
    refused(finished, "--data_dir", "does not exist")
    (tmp_path / "run" / "checkpoint-5").mkdir(parents=True)
    finished = run_command(
        "main.py",
        "--data_dir",
        small_dataset,
        "--do_eval",
        "--device",
        "cpu",
        "--model_name_or_path",
        tmp_path / "run" / "checkpoint-6",
    )
    refused(finished, "--model_name_or_path", "does not exist", "checkpoint-5/")


def test_train_sh_obeys_its_gpu_argument(tmp_path, small_dataset):
    run = tmp_path / "run"
    common = [small_dataset.name, 0.1, 1, 2]
    more = ["--data_dir", small_dataset, "--n_embd", 16, "--max_steps", 2, "--output_dir", run]
    finished = train_sh(*common, "cpu", 7, *more)
    assert finished.returncode == 0, finished.stderr
    args = json.loads((run / "run_config.json").read_text())["args"]
    assert (args["n_layer"], args["n_head"], args["manual_seed"]) == (1, 2, 7)
    assert (args["learning_rate"], args["train_batch_size"]) == (8e-4, 4096)
    import torch

    if not torch.cuda.is_available():
        finished = train_sh(*common, "0", 7, *more)
        assert finished.returncode == 1
        assert finished.stderr.strip().endswith("but torch sees no GPU; use cpu")


@pytest.mark.parametrize("gpu", ["gpu0", "0;1", "0,", "-1"])
def test_train_sh_refuses_what_is_no_gpu_list(gpu):
    finished = train_sh("name", 0.1, 1, 2, gpu, 7)
    assert finished.returncode == 2
    assert f"GPU is '{gpu}'" in finished.stderr


def test_train_sh_says_which_arguments_it_needs():
    finished = train_sh("name", 0.1)
    assert finished.returncode == 2
    assert "6 arguments are needed, 2 given" in finished.stderr


def test_data_that_memory_does_not_hold_are_refused_before_they_are_read(
    small_dataset, monkeypatch, tmp_path
):
    files = [small_dataset / name for name in ("train.json", "test.json")]
    length = sum(file.stat().st_size for file in files)
    words = ["--data_dir", str(small_dataset), "--init_weights", "--do_train"]
    arguments = build_parser().parse_args([*words, "--output_dir", str(tmp_path / "run")])
    monkeypatch.setattr(memory, "available", lambda: length)
    refused = r"training on .* needs about .* available; take .*--max_train_data_num"
    with pytest.raises(InputError, match=refused):
        main(arguments)
    monkeypatch.setattr(memory, "available", lambda: 2 * length)
    check_training_memory(small_dataset, [])
    arguments.custom_train = str(files[0])
    with pytest.raises(InputError, match=refused):
        main(arguments)
    assert not (tmp_path / "run").exists()

"""Results know the data that they came from, and tables, groups and names are checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from coverage_principle import circuits, data
from coverage_principle.errors import InputError
from simpletransformers.files import dump_json
from simpletransformers.seq2seq.architecture import load_model
from simpletransformers.seq2seq.encoding import as_records
from simpletransformers.seq2seq.evaluation import group_items
from simpletransformers.seq2seq.run_folder import RunFolder
from tests.test_main import SMALL
from tests.test_trust_training import content

TRAIN = ("--do_train", *SMALL, "--device", "cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory, run_command):
    """An annotated data set, its k-sweep, a run on it and what circuits say of the run."""
    folder = tmp_path_factory.mktemp("world")
    size = ("--num_tokens", 8, "--max_train_data_num", 100, "--test_size_for_type", 30)
    made = run_command("dataset_generation/twohop.py", *size, "--output_dir", folder)
    assert made.returncode == 0, made.stderr
    (dataset,) = folder.iterdir()
    swept = ("--data_dir", dataset, "--k_sweep", "--output_dir", folder / "sweep")
    assert run_command("determine_coverage.py", *swept).returncode == 0
    run = folder / "run"
    trained = run_command("main.py", "--data_dir", dataset, *TRAIN, "--output_dir", run)
    assert trained.returncode == 0, trained.stderr
    return folder, dataset, run


@pytest.fixture
def changed(world, tmp_path):
    """The same with an item less in ``train.json``."""
    folder = tmp_path / "world"
    shutil.copytree(world[0], folder)
    dataset, run = folder / world[1].name, folder / "run"
    settings = json.loads((run / "run_config.json").read_text())
    settings["dataset"]["path"] = str(dataset)
    (run / "run_config.json").write_text(json.dumps(settings))
    records = json.loads((dataset / "train.json").read_text())
    (dataset / "train.json").write_text(dump_json(records[1:], one_per_line=True))
    return dataset, run


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("main.py", *TRAIN, "--output_dir", "{out}"), "test_annotated.json is out of date"),
        (
            ("main.py", "--do_eval", "--model_name_or_path", "{run}/final_checkpoint"),
            "test_annotated.json is out of date",
        ),
        (
            ("circuit_analysis/cluster.py", "--ckpt", "{run}/final_checkpoint"),
            "test_annotated.json is out of date",
        ),
        (("circuit_analysis/trace.py", "--model_dir", "{run}"), "is out of date"),
        (("circuit_analysis/lens.py", "--model_dir", "{run}"), "is out of date"),
        (("script/validate_dataset.py",), "out of date: train.json changed since it was made"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_annotations_of_other_training_items_are_refused(
    changed, run_command, tmp_path, command, words
):
    dataset, run = changed
    given = [word.format(run=run, out=tmp_path / "out") for word in map(str, command[1:])]
    script = command[0]
    if script.startswith("circuit"):
        given += ["--save_dir", tmp_path / "out"]
    before = content(tmp_path)
    where = (dataset,) if script.startswith("script") else ("--data_dir", dataset)
    finished = run_command(script, *given, *where)
    assert finished.returncode == 1
    told = finished.stdout + finished.stderr
    assert words in told and "Traceback" not in told
    assert f"python determine_coverage.py --data_dir {dataset} --k_sweep" in told
    assert content(tmp_path) == before


def test_without_a_sweep_k_cutoffs_of_other_training_items_are_not_kept(changed, run_command):
    dataset, _ = changed
    assert run_command("determine_coverage.py", "--data_dir", dataset).returncode == 0
    records = json.loads((dataset / "test_annotated.json").read_text())
    assert all("coverage" in record and "k_cutoff" not in record for record in records)


def test_data_that_changed_since_the_training_is_refused_unless_it_is_named(
    changed, run_command, refused, tmp_path
):
    dataset, run = changed
    for file in dataset.glob("test_annotated*"):
        file.unlink()
    trace = ("circuit_analysis/trace.py", "--model_dir", run, "--save_dir", tmp_path / "out")
    told = f"train.json of {dataset} changed since run was trained"
    refused(run_command(*trace), told, "--data_dir")
    assert not (tmp_path / "out").exists()
    finished = run_command(*trace, "--data_dir", dataset)
    assert finished.returncode == 0 and f"warning: {told}" in finished.stderr


def test_a_model_that_scores_items_of_another_task_is_told_of(world, run_command, tmp_path):
    _, dataset, run = world
    score = ("--do_eval", "--model_name_or_path", run / "final_checkpoint")
    own = run_command("main.py", "--data_dir", dataset, *score)
    assert own.returncode == 0 and "warning" not in own.stderr
    size = ("--num_tokens", 8, "--max_train_data_num", 100, "--test_size_for_type", 30)
    assert run_command("dataset_generation/threehop.py", *size, "--output_dir", tmp_path)
    (other,) = tmp_path.iterdir()
    finished = run_command("main.py", "--data_dir", other, *score)
    assert finished.returncode == 0
    assert "was trained on other items than those in train.json of" in finished.stderr


def test_results_name_the_data_and_the_weights_that_they_came_from(world, tmp_path):
    _, path, run = world
    checkpoint = run / "final_checkpoint"
    weights = {"model.safetensors": data.sha256(checkpoint / "model.safetensors")}
    of_data = {p.name: data.sha256(p) for p in path.glob("*.json") if p.name.startswith("atomic")}
    of_data |= {name: data.sha256(path / name) for name in ("train.json", "test.json")}
    options = {"device": "cpu", "save_dir": tmp_path}
    _, traced = circuits.run_trace(circuits.TraceSettings(model_dir=run, **options))
    _, lens = circuits.run_lens(circuits.LensSettings(model_dir=run, **options))
    _, clustered = circuits.run_cluster(circuits.ClusterSettings(ckpt=checkpoint, **options))
    for results in (traced, lens, clustered):
        assert results["weights"] == {"final_checkpoint": weights}
        assert results["dataset"]["sha256"] == of_data
    assert json.loads((run / "run_config.json").read_text())["dataset"]["sha256"] == of_data
    (diagnostics,) = (path.parent / "sweep").glob("*_diagnostics.json")
    assert json.loads(diagnostics.read_text())["sha256"] == of_data


def test_two_data_sets_of_one_name_do_not_replace_each_others_sweeps(
    changed, world, run_command, refused, tmp_path
):
    dataset, _ = changed
    sweep = ("--k_sweep", "--output_dir", tmp_path / "sweep")
    assert run_command("determine_coverage.py", "--data_dir", world[1], *sweep).returncode == 0
    before = content(tmp_path)
    finished = run_command("determine_coverage.py", "--data_dir", dataset, *sweep)
    refused(finished, "is about another data set of this name", str(world[1]), "--output_dir")
    assert content(tmp_path) == before
    assert run_command("determine_coverage.py", "--data_dir", world[1], *sweep).returncode == 0


def test_measured_vectors_are_drawn_from_the_files_that_were_measured(world, tmp_path, run_command):
    vectors = tmp_path / "vectors"
    cluster = ("--ckpt", world[2] / "final_checkpoint", "--save_dir", vectors)
    assert run_command("circuit_analysis/cluster.py", *cluster).returncode == 0
    (file,) = vectors.rglob("vectors.npz")
    files = {f"{split}_file": file for split in ("id_train", "id_test", "ood")}
    settings = circuits.MeasureSettings(**files, output_dir=tmp_path / "(1,1)", pca_n=1)
    report = circuits.run_measure(settings).report
    drawn = replace(settings, draw_only=True)
    assert circuits.run_measure(drawn).report == report
    arrays = data.read_arrays(file)
    data.write_arrays(file, {**arrays, "groups": arrays["groups"][::-1]})
    with pytest.raises(InputError, match="was measured from other files"):
        circuits.run_measure(drawn)


@pytest.mark.parametrize("kind", ["json", "npz"])
def test_tables_of_another_seed_are_refused_by_all_who_use_them(
    world, run_command, refused, tmp_path, kind
):
    dataset = tmp_path / world[1].name
    shutil.copytree(world[1], dataset)
    size = ("--num_tokens", 8, "--max_train_data_num", 100, "--test_size_for_type", 30)
    other = ("--seed", 7, "--output_dir", tmp_path / "other")
    assert run_command("dataset_generation/twohop.py", *size, *other).returncode == 0
    (source,) = (tmp_path / "other").iterdir()
    if kind == "json":
        shutil.copy(source / "atomic_facts_f1.json", dataset)
    else:
        data.write_arrays(
            dataset / "atomic_facts_f1.npz", {"values": data.load_dataset(source).tables()[0]}
        )
    for flags in (("--ground_truth",), ("--suggest", 5, "--output_dir", tmp_path / "out")):
        finished = run_command("determine_coverage.py", "--data_dir", dataset, *flags)
        refused(finished, "are not those of train.json", "training items")
    trace = ("--model_dir", world[2], "--data_dir", dataset, "--save_dir", tmp_path / "out")
    refused(run_command("circuit_analysis/trace.py", *trace), "out of date: atomic_facts_f1")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_the_generated_one_is_told_of(world, tmp_path, caplog):
    dataset = tmp_path / world[1].name
    shutil.copytree(world[1], dataset)
    data.load_dataset(dataset)
    assert not caplog.records
    (dataset / "train.json").write_text((dataset / "train.json").read_text() + "\n")
    data.load_dataset(dataset)
    assert "train.json: it was changed: its SHA-256 is not that in metadata.json" in caplog.text


@pytest.mark.parametrize("value", ["1", "<b>", 1.5, True, -1, [1], {"k": 1}])
def test_an_edited_k_cutoff_is_no_group(world, tmp_path, value):
    dataset = tmp_path / world[1].name
    shutil.copytree(world[1], dataset)
    records = json.loads((dataset / "test_annotated.json").read_text())
    records[3]["k_cutoff"] = value
    (dataset / "test_annotated.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match="test_annotated.json changed since it was made"):
        data.test_records(data.load_dataset(dataset))
    (dataset / "test_annotated.json.source").unlink()  # as published: nothing tells of the change
    with pytest.raises(InputError, match="record 4: k_cutoff must be a whole number or null"):
        data.test_records(data.load_dataset(dataset))


@pytest.mark.parametrize("kind", [3, ["type_0"], None, {}])
def test_a_type_that_is_no_text_is_no_group(world, tmp_path, kind):
    records = json.loads((world[1] / "test.json").read_text())
    records[3]["type"] = kind
    (tmp_path / "mine.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match="type, if it is there, a text"):
        data.text_records(tmp_path / "mine.json", "custom_test")


def test_a_history_of_numbers_beyond_all_floats_is_left_out(world, tmp_path, caplog):
    shutil.copy(world[2] / "metrics.jsonl", tmp_path)
    events = RunFolder(tmp_path).events()
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({**events[-1], "train_loss": 10**4000}) + "\n")
    assert RunFolder(tmp_path).events() == events and "is left out" in caplog.text


class Frame:
    """What ``pandas.DataFrame.to_dict("records")`` gives of a column of 0, 1 and nothing."""

    def to_dict(self, orient):
        assert orient == "records"
        cutoffs = [0.0, 1.0, float("nan"), 1.0]
        return [{"type": "type_0", "k_cutoff": cutoff, "share": 0.5} for cutoff in cutoffs]


def test_groups_of_a_data_frame_are_those_of_a_list():
    records = as_records(Frame())
    assert [r["k_cutoff"] for r in records] == [0, 1, None, 1] and records[0]["share"] == 0.5
    groups = group_items(records, ("type", "k_cutoff"))
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "type_0": [0, 1, 2, 3],
        "type_0/k_cutoff=0": [0],
        "type_0/k_cutoff=1": [1, 3],
    }


# ---------------------------------------------------------------------------------------- cards


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--model_type", "llama"),
        ("--model_type", "mamba"),
        ("--no_ln",),
        ("--add_recurrence",),
        ("--share_mlp",),
    ],
    ids=" ".join,
)
def test_the_card_has_code_that_loads_the_model_of_this_run(
    world, run_command, tmp_path, monkeypatch, flags
):
    run = tmp_path / "run"
    given = ("--data_dir", world[1], *TRAIN, *flags, "--evaluate_during_training")
    finished = run_command("main.py", *given, "--output_dir", run)
    assert finished.returncode == 0, finished.stderr
    assert "transformers" not in finished.stderr  # nor has it anything to say of a new model
    card = (run / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(run)
    scope: dict = {}
    exec(code, scope)
    ids = torch.tensor([[0, 1, 2]])
    expected = load_model(run / "final_checkpoint").eval()(ids).logits
    torch.testing.assert_close(scope["model"].eval()(ids).logits, expected)
    vocabulary = json.loads((world[1] / "vocab.json").read_text())
    assert scope["tokenizer"].convert_ids_to_tokens([0, 1, 2]) == vocabulary[:3]
    # A checkpoint is what it is: its flags need not be given again, and none of it is "new".
    given = ("--data_dir", world[1], "--model_name_or_path", run / "final_checkpoint")
    scored = run_command("main.py", *given, "--do_eval", "--device", "cpu")
    assert scored.returncode == 0 and not scored.stderr, scored.stderr

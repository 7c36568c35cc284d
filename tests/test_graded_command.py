"""determine_coverage.py --graded and script/pattern_matcher.py as a user runs them."""

from __future__ import annotations

import json
import re
import shutil

import pytest

import determine_coverage
from coverage_principle.coverage import (
    FIELDS,
    CoverageSettings,
    LearnerSettings,
    graded_coverage,
    slot_sets,
)
from coverage_principle.data import annotated_records, load_dataset, write_annotations
from coverage_principle.errors import InputError
from coverage_principle.predictions import (
    MISSING,
    UNPARSABLE,
    ideal_predictions,
    read_predictions,
)
from tests.open_worlds import sample, write
from tests.oracles.worlds_bruteforce import draw_world

COMMAND, MATCHER = "determine_coverage.py", "script/pattern_matcher.py"


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / "data" / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


@pytest.fixture(scope="module")
def graded(small_dataset, tmp_path_factory, run_command):
    """Graded by the command: what it printed, the data's folder, that of results, the library's."""
    base = tmp_path_factory.mktemp("graded")
    copy = base / small_dataset.name
    shutil.copytree(small_dataset, copy)
    finished = run_command(COMMAND, "--data_dir", copy, "--graded", "--output_dir", base / "out")
    assert finished.returncode == 0, finished.stderr
    return finished, copy, base / "out", graded_coverage(load_dataset(copy), slot_sets(3))


def test_the_fields_stand_beside_coverage(graded):
    finished, folder, out, found = graded
    records = read(folder / "test_annotated.json")
    assert [{name: record[name] for name in FIELDS} for record in records] == found.fields()
    assert all({"coverage", "input_text"} <= record.keys() for record in records)
    assert finished.stderr == ""
    assert "graded coverage" in finished.stdout


def test_the_summary_and_the_figure_are_written(graded):
    finished, folder, out, found = graded
    summary = read(out / f"{folder.name}_graded.json")
    assert summary == json.loads(json.dumps(found.summary()))
    names = {
        f"{folder.name}_graded.json",
        *(f"{folder.name}_calibration.{e}" for e in ("png", "pdf")),
    }
    assert {file.name for file in out.iterdir()} == names
    for name in names:
        assert str(out / name) in finished.stdout
    for label, own in summary["by_type"].items():
        assert f"{own['matcher']['right'] / own['items']:.1%}" in finished.stdout
        assert label in finished.stdout


def test_a_later_run_keeps_what_it_does_not_tell(graded, tmp_path, run_command):
    """A k-sweep keeps the graded fields, and grading keeps the k-cutoffs."""
    _, folder, _, found = graded
    where = ("--data_dir", folder, "--output_dir", tmp_path)
    swept = run_command(COMMAND, *where, "--k_sweep")
    assert swept.returncode == 0, swept.stderr
    after = read(folder / "test_annotated.json")
    assert [{name: record[name] for name in FIELDS} for record in after] == found.fields()
    cutoffs = [record["k_cutoff"] for record in after]
    assert any(cutoffs)
    assert run_command(COMMAND, *where, "--graded", "--min_evidence", 2).returncode == 0
    last = read(folder / "test_annotated.json")
    assert [record["k_cutoff"] for record in last] == cutoffs
    assert [{name: record[name] for name in FIELDS} for record in last] == found.fields()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ground_truth"], "--ground_truth looks at one fragment only; omit --graded"),
        (["--explain", "<t_1><t_2><t_3>"], "--explain writes nothing"),
        (["--suggest", 3], "--suggest chooses training items"),
    ],
)
def test_what_graded_would_be_ignored_beside(small_dataset, run_command, refused, flags, words):
    before = {file.name: file.stat().st_mtime_ns for file in small_dataset.iterdir()}
    finished = run_command(COMMAND, "--data_dir", small_dataset, "--graded", *flags)
    refused(finished, words, "--graded")
    assert before == {file.name: file.stat().st_mtime_ns for file in small_dataset.iterdir()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("support", "many"),
        ("support", True),
        ("learner_score", [1.0]),
        ("matcher_probability", "0.5"),
        ("matcher_answer", 3),
        ("learner_answer", ["<t_1>"]),
    ],
)
def test_nonsense_in_a_field_is_refused(folder, name, value):
    dataset = load_dataset(folder)
    records = [
        {**record, "support": None, "matcher_answer": None} for record in dataset.test.records
    ]
    write_annotations(dataset, "test_annotated.json", records)
    assert annotated_records(dataset) == records
    records[3][name] = value
    write_annotations(dataset, "test_annotated.json", records)
    kind = "text" if name.endswith("_answer") else "number"
    with pytest.raises(InputError, match=rf"record 4: {name} must be a {kind} or null.*--graded"):
        annotated_records(dataset)


def test_a_learner_that_is_left_out_is_told(graded, folder, tmp_path, monkeypatch, capsys):
    """A warning, and no field of it in the files; what asks for it alone is refused."""
    monkeypatch.setattr("coverage_principle.coverage.graded.MOST_UNKNOWNS", 100)

    def run(*flags):
        texts = map(str, ("--data_dir", folder, "--output_dir", tmp_path / "out", *flags))
        determine_coverage.main(determine_coverage.build_parser().parse_args([*texts]))

    run("--graded")
    said = capsys.readouterr().out
    assert said.split("written:")[0].count("learner") == 1
    items = f"{len(graded[-1].dataset.train):,} training items times"
    assert f"\nwarning: the learner is left out: {items}" in said
    expected = [{n: v for n, v in r.items() if n[:7] != "learner"} for r in graded[-1].fields()]
    records = read(folder / "test_annotated.json")
    assert [{name: r[name] for name in r.keys() & FIELDS} for r in records] == expected
    assert read(tmp_path / "out" / f"{folder.name}_graded.json")["learner"] is None
    with pytest.raises(InputError, match="`fit` asks for the learner, but .* omit it"):
        run("--graded", "--fit", "all_items.json")
    with pytest.raises(InputError, match="`learner` asks for the learner, but .* omit it"):
        ideal_predictions(graded[-1].dataset, CoverageSettings(), learner=LearnerSettings())


# -------------------------------------------------------------------------------- pattern_matcher


@pytest.mark.parametrize("flags", [[], ["--learner", "--noise", 0.05], ["--fragments", "1,2"]])
def test_predictions_are_those_of_the_annotations(small_dataset, tmp_path, run_command, flags):
    file, dataset = tmp_path / "new" / "all_items.json", load_dataset(small_dataset)
    finished = run_command(MATCHER, "--data_dir", small_dataset, "--output", file, *flags)
    assert finished.returncode == 0, finished.stderr
    sets = [(0, 1)] if "--fragments" in flags else slot_sets(3)
    found = graded_coverage(dataset, sets, noise=0.05 if "--noise" in flags else 0.0)
    name = "learner" if "--learner" in flags else "matcher"
    (outputs,) = read_predictions(dataset, [file]).outputs
    assert outputs.tolist() == found.columns[f"{name}_answer"].tolist()  # ids are values here
    for record, own in zip(read(file), dataset.test.records, strict=True):
        assert {**own, "model_output": record["model_output"]} == record
    for label, own in found.summary()["by_type"].items():
        share = f"{own[name]['right'] / own['items']:.1%}"
        assert re.search(rf"^{label} \(.*\) +{own['items']} +{share}$", finished.stdout, re.M)
    assert (", noise 0.05\n" in finished.stdout) == ("--noise" in flags)
    assert str(file) in finished.stdout


def test_single_facts_are_answered_as_training_gave_them(tmp_path, run_command):
    seeds = (seed for seed in range(200) if draw_world(seed).facts == "all")
    dataset = write(sample(draw_world(seed := next(seeds)), seed), tmp_path / "data")
    records = dataset.train.all_records
    facts = {record["input_text"] for record in dataset.train.facts.records}
    left_out = dataset.test.facts.records[0]["input_text"]
    kept = [record for record in records if record["input_text"] != left_out]
    (dataset.path / "train.json").write_text(json.dumps(kept), encoding="utf-8")
    file, changed = tmp_path / "all_items.json", load_dataset(dataset.path)
    finished = run_command(MATCHER, "--data_dir", dataset.path, "--output", file)
    assert finished.returncode == 0, finished.stderr
    (outputs,) = read_predictions(changed, [file]).outputs
    assert (outputs != MISSING).all()
    for record, output, result in zip(
        changed.test.facts.records,
        outputs[len(changed.test) :].tolist(),
        changed.test.facts.results,
        strict=True,
    ):
        assert record["input_text"] in facts
        assert output == (UNPARSABLE if record["input_text"] == left_out else result)


def test_what_the_matcher_refuses(folder, tmp_path, run_command, refused):
    data = ("--data_dir", folder)
    file, digest = folder / "test.json", (folder / "test.json").read_bytes()
    inside = run_command(MATCHER, *data, "--output", file)
    refused(inside, "--output", "lie outside the data set's folder")
    refused(run_command(MATCHER, *data, "--output", tmp_path / "a.txt"), "must end in .json")
    refused(run_command(MATCHER, *data, "--fragments", "1,2,3"), "--fragments")
    refused(run_command(MATCHER, *data, "--noise", 0.6), "--noise", status=2)
    refused(run_command(MATCHER, "--data_dir", tmp_path / "none"), "--data_dir", "does not exist")
    assert file.read_bytes() == digest
    assert not (tmp_path / "a.txt").exists()

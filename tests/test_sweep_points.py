"""A sweep's answers: flat records, means and intervals, the figure's command, the report's page."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import Future

import numpy as np
import pytest
from scipy import stats

from coverage_principle.errors import InputError
from coverage_principle.experiments.points import place_of, sweep_points
from coverage_principle.experiments.report import make_report
from coverage_principle.experiments.results import read_results
from coverage_principle.experiments.settings import PlotSettings, RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting.sweep_text import points_table
from tests.conftest import ROOT

TUTORIAL = ROOT / "docs" / "tutorial" / "results.jsonl"


def record(number, accuracy=0.5, *, seed=42, n=100, by_k=None, failed=None, **train):
    """A run's line of results.jsonl: its accuracy on ``n`` type_0 items, and by k-cutoff."""
    groups = {
        "type_0": (accuracy, n),
        **{f"type_0/k_cutoff={k}": v for k, v in (by_k or {}).items()},
    }
    train = {"manual_seed": seed, **train}
    data = {"seed": seed, "num_tokens": 20}
    found = {
        "run": f"run{number}",
        "world": f"world{seed}",
        "label": f"number {number}",
        "status": "failed" if failed else "done",
        "settings": {
            **{"task": "twohop", "data": data, "coverage": {"k_sweep": True}, "train": train},
            **{"evaluate": None, "analyse": {}},
        },
        "seconds": {"generate": 10.0, "coverage": 5.0, "train": 100.0},
        "ended": f"2026-11-25T00:{number:02d}:00.000+00:00",
    }
    if failed:
        return found | {"stage": failed, "error": "it broke"}
    scores = {
        group: {"n": items, "loss": 2 - right, "answer_accuracy": right, "exact_match": right}
        for group, (right, items) in groups.items()
    }
    found |= {"dataset": "twohop.20.400.diff-f12.inf", "k_sweep": {"1": [9, 9.0]}, "device": "cpu"}
    return found | {
        "steps": 40,
        "epochs": 2.0,
        "train_loss": 0.1,
        "parameters": 7,
        "scores": scores,
    }


@pytest.fixture
def sweep(tmp_path):
    """Writes records into a folder as a sweep leaves them, and reads them."""

    def write(*records, folder="sweep"):
        (tmp_path / folder).mkdir(exist_ok=True)
        text = "".join(json.dumps(one) + "\n" for one in records)
        (tmp_path / folder / "results.jsonl").write_text(text)
        return read_results(tmp_path / folder)

    return write


def points(results, **settings):
    return sweep_points(results, PlotSettings(**settings))


# ------------------------------------------------------------------------------------ flat records


def test_results_are_flat_and_the_last_line_of_a_run_counts(sweep):
    found = sweep(record(1, 0.2), record(2, failed="train", n_embd=8), record(1, 0.3, n_embd=16))
    assert [one["run"] for one in found] == ["run1", "run2"]
    one, other = found.to_records()
    assert one["type_0.answer_accuracy"] == 0.3 and one["type_0.n"] == 100
    assert one["train.n_embd"] == 16 and one["data.num_tokens"] == 20 and one["seed"] == 42
    assert one["seconds.train"] == 100 and one["seconds"] == 115 and one["covered.1"] == 9
    assert one["chance"] == pytest.approx(1 / 20)
    assert other["stage"] == "train" and "type_0.n" not in other
    assert repr(found) == ("<Results of sweep: 1 run done, 1 failed; they differ in train.n_embd>")
    assert found.to_frame().loc[0, "type_0.answer_accuracy"] == 0.3


def test_without_pandas_a_frame_is_refused_in_words(sweep, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match=r"pandas, which is not installed.*to_records"):
        sweep(record(1)).to_frame()


def test_a_setting_that_only_some_runs_name_has_the_commands_default(sweep):
    found = sweep(record(1), record(2, weight_decay=0.7), record(3, preset="paper"))
    assert [one["train.weight_decay"] for one in found][1] == 0.7
    from coverage_principle.experiments.settings import command_parser

    words = ["--data_dir", "d", "--preset", "paper"]
    parser = command_parser("main.py")
    assert found[0]["train.weight_decay"] == parser.get_default("weight_decay")
    assert found[2]["train.weight_decay"] == parser.parse_args(words).weight_decay


def test_runs_that_have_not_ended_are_known(sweep, tmp_path):
    sweep(record(1))
    for name, label in (("run1", "one"), ("run7", "seven"), ("run8", "eight")):
        folder = tmp_path / "sweep" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps({"label": label}))
    own = record(8, 0.9)  # its runner died before it wrote the line
    (tmp_path / "sweep/runs/run8/result.json").write_text(json.dumps(own))
    found = read_results(tmp_path / "sweep")
    assert [one["run"] for one in found] == ["run1", "run8"]
    assert found.unfinished == {"run7": "seven"}
    (note,) = [note for note in points(found)["notes"] if "not finished" in note]
    assert note == "1 of 3 runs not finished, left out: seven"


def test_a_run_that_waits_for_its_turn_is_known(tmp_path):
    class Busy:
        def submit_all(self, runs):
            return [Future() for _ in runs]

    data = {"num_tokens": 6, "max_train_data_num": 60}
    runs = [RunSettings.resolve({"seed": seed, "data": data}) for seed in (1, 2)]
    Sweep(tmp_path, Busy()).submit_all(runs)
    with pytest.raises(InputError, match="no finished run yet; not finished: 2 runs"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", ["", "{}\n"])
def test_a_folder_without_results_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"holds no results.jsonl"):
        read_results(tmp_path)
    (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(InputError, match="no finished run"):
        read_results(tmp_path)


# -------------------------------------------------------------------------- means and intervals


def test_a_mean_over_seeds_has_students_interval(sweep):
    values = [0.30, 0.42, 0.36]
    runs = [record(i, v, seed=i, n_embd=8) for i, v in enumerate(values, start=1)]
    runs.append(record(4, 0.9, seed=1, n_embd=16, n=50))
    found = points(sweep(*runs))
    assert found["x"] == "train.n_embd" and found["vary"] == []
    narrow, wide = found["points"]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert narrow["mean"] == pytest.approx(0.36) and narrow["interval"] == "t"
    assert (narrow["low"], narrow["high"]) == pytest.approx((low, high))
    assert narrow["runs"] == ["run1", "run2", "run3"] and narrow["items"] == 300
    # One run: Wilson's, as scipy has it.
    right = stats.binomtest(45, 50).proportion_ci(0.95, method="wilson")
    assert wide["interval"] == "Wilson" and wide["items"] == 50
    assert (wide["low"], wide["high"]) == pytest.approx((right.low, right.high), abs=1e-4)
    note, chance = found["notes"]
    assert chance == "Chance is 0.05" and found["chance"] == 0.05
    assert note.startswith("Each point is the mean of 1 to 3 runs; 95 % intervals: Student's t")


def test_runs_that_agree_wholly_are_not_called_certain(sweep):
    runs = [record(i, 1.0, seed=i, n=10) for i in (1, 2)]
    (point,) = points(sweep(*runs), x="group")["points"]
    # The two may have been asked for the same ten items.
    right = stats.binomtest(10, 10).proportion_ci(0.95, method="wilson")
    assert (point["low"], point["high"]) == pytest.approx((right.low, 1.0), abs=1e-4)
    (point,) = points(sweep(*runs), x="group", y="loss")["points"]
    assert point["mean"] == 1 and point["interval"] is None and point["low"] is None


def test_by_k_cutoff_each_group_counts_its_own_runs_and_items(sweep):
    runs = [
        record(1, 0.5, seed=1, by_k={1: (0.0, 5), 2: (0.5, 30)}),
        record(2, 0.5, seed=2, by_k={2: (0.7, 10), 10: (1.0, 40)}),
    ]
    found = points(sweep(*runs), x="k_cutoff")
    assert [(p["x"], p["mean"], len(p["runs"]), p["items"]) for p in found["points"]] == [
        (1, 0.0, 1, 5),
        (2, pytest.approx(0.6), 2, 40),
        (10, 1.0, 1, 40),
    ]
    assert [p["drawn"] for p in found["points"]] == [False, True, True]
    assert found["notes"][-1] == "1 point of fewer than 20 items not drawn: at x = 1"
    few = points(sweep(*runs), x="k_cutoff", min_items=41)
    assert all(p["drawn"] for p in few["points"])
    assert few["notes"][-1] == "No point has 41 items: all are drawn"
    header, rows = points_table(found)
    assert header == ["k-cutoff", "answer_accuracy", "95 % interval", "runs", "items"]
    assert rows[1] == ["2", "0.600", "0.000 to 1.000", "2", "40"]


def test_lines_are_what_tells_runs_apart_and_no_more(sweep):
    runs = [
        record(i, i / 10, seed=seed, n_embd=width, n_head=width // 4, n_layer=depth)
        for i, (seed, width, depth) in enumerate(
            [(s, w, d) for w in (8, 16) for d in (1, 2) for s in (1, 2)]
        )
    ]
    found = points(sweep(*runs), x="n_embd")
    # n_head follows from n_embd: it makes no lines of its own.
    assert found["vary"] == ["train.n_layer"] and len(found["points"]) == 4
    assert [p["mean"] for p in found["points"]] == pytest.approx([0.05, 0.45, 0.25, 0.65])
    mixed = points(sweep(*runs), x="n_embd", vary=("none",))
    assert len(mixed["points"]) == 2 and len(mixed["points"][0]["runs"]) == 4
    assert any("average over train.n_layer (1, 2)" in note for note in mixed["notes"])
    panels = points(sweep(*runs), x="n_embd", panels="n_layer")
    assert panels["vary"] == [] and {p["panel"] for p in panels["points"]} == {1, 2}
    one = points(sweep(*runs), x="n_embd", where=("n_layer=2.0", "train.n_embd=8,16"))
    assert one["vary"] == [] and [p["mean"] for p in one["points"]] == pytest.approx([0.25, 0.65])


def test_a_measured_x_is_averaged_as_y_is(sweep):
    runs = [
        record(i, v, seed=i % 2, n_embd=8 * (1 + i // 2)) for i, v in enumerate([0.2, 0.4, 0.6, 1])
    ]
    found = points(sweep(*runs), x="loss")
    assert found == points(sweep(*runs), x="type_0.loss", y="type_0.answer_accuracy")
    assert [(p["x"], p["mean"]) for p in found["points"]] == [
        (pytest.approx(1.2), pytest.approx(0.8)),
        (pytest.approx(1.7), pytest.approx(0.3)),
    ]
    (seconds,) = points(sweep(*runs), x="parameters", y="seconds", where=("n_embd=8",))["points"]
    assert (seconds["x"], seconds["mean"], seconds["items"]) == (7, 115, None)


def test_what_is_left_out_is_named(sweep):
    runs = [
        record(1, 0.5, by_k={3: (0.5, 50)}, n_embd=8),
        record(2, 0.5, n_embd=16),
        record(3, failed="train", n_embd=32),
    ]
    notes = points(sweep(*runs), x="k_cutoff")["notes"]
    assert "1 of 3 ended runs failed, left out: number 3 (at train)" in notes
    by_k = "answer_accuracy of type_0 by k-cutoff"
    assert f"1 of 3 ended runs without {by_k}, left out: number 2" in notes
    more = record(4, 0.5, n_embd=8)
    more["scores"]["type_1"] = more["scores"]["type_0"]
    notes = points(sweep(*runs, more), group=("type_0", "type_1"))["notes"]
    both = "answer_accuracy of type_0 or type_1"
    names = "number 1 (type_1), number 2 (type_1)"
    assert f"2 of 4 ended runs without {both}, left out: {names}" in notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"x": "n_layers"}, "`x` n_layers is not k_cutoff, step, group or a setting"),
        ({"vary": ("depth",)}, "`vary` depth is not a setting of this sweep; its runs differ in"),
        ({"y": "f1"}, "`y` f1 is not a score or number.*scores loss, answer_accuracy"),
        ({"group": ("type_9",)}, "`group` type_9 is not a group.*groups are type_0"),
        ({"where": ("n_embd",)}, "`where` n_embd is not of the form SETTING=VALUE"),
        ({"where": ("n_embd=9",)}, "selects no run; train.n_embd is 16, 8"),
        ({"x": "n_embd", "vary": ("train.n_embd",)}, "name one twice"),
        ({"x": "k_cutoff"}, "no run has answer_accuracy of type_0 by k-cutoff.*k_sweep"),
        ({"x": "loss", "group": ("type_0", "type_0/k_cutoff=3")}, "`x` loss is of which group"),
        ({"x": "step"}, "needs the evaluations of runs"),
        ({"x": "step", "y": "seconds"}, "seconds is one number a run"),
    ],
)
def test_what_a_sweep_has_not_is_refused_with_what_it_has(sweep, settings, words):
    by_k = {} if settings.get("x") == "k_cutoff" else {3: (0.5, 50)}
    results = sweep(record(1, n_embd=8, by_k=by_k), record(2, n_embd=16))
    with pytest.raises(InputError, match=words):
        points(results, **settings)


def test_a_short_name_of_two_settings_is_refused(sweep):
    results = sweep(record(1, num_tokens=5), record(2, num_tokens=6))
    with pytest.raises(InputError, match="num_tokens may be data.num_tokens or train.num_tokens"):
        points(results, x="num_tokens")


def test_over_training(sweep, tmp_path):
    runs = [record(1, 0.5, seed=1), record(2, 0.5, seed=2), record(3, 0.5, seed=3)]
    results = sweep(*runs)
    for number, scores in ((1, (0.1, 0.3)), (2, (0.2,))):
        folder = tmp_path / "sweep" / "runs" / f"run{number}" / "model"
        folder.mkdir(parents=True)
        with open(folder / "metrics.jsonl", "w") as file:
            for at, right in enumerate(scores, start=1):
                event = {"step": 10 * at, "epoch": at, "train_loss": 1.0}
                group = {"n": 100, "loss": 1.0, "answer_accuracy": right, "exact_match": right}
                file.write(json.dumps(event | {"eval": {"type_0": group}}) + "\n")
    found = points(results, x="step")
    seen = [(p["x"], p["mean"], len(p["runs"])) for p in found["points"]]
    assert seen == [(10, pytest.approx(0.15), 2), (20, 0.3, 1)]
    assert any(
        "1 of 3 ended runs without" in note and "number 3" in note for note in found["notes"]
    )


# ------------------------------------------------------------------------------------- the command


def test_the_command_draws_the_tutorials_sweep(run_command, tmp_path):
    words = [TUTORIAL, "--x", "k_cutoff", "--vary", "train.weight_decay", "--output", "a/b.png"]
    finished = run_command("script/plot_sweep.py", *words, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    made = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert made == ["b.pdf", "b.png", "b.points.json"]
    content = json.loads((tmp_path / "a/b.points.json").read_text())
    lines = [json.loads(line) for line in TUTORIAL.read_text().splitlines()]
    for point in content["points"]:
        values = [
            one["scores"][f"type_0/k_cutoff={point['x']}"]["answer_accuracy"]
            for one in lines
            if one["run"] in point["runs"]
            and one["settings"]["train"]["weight_decay"] == point["series"]["train.weight_decay"]
        ]
        assert point["values"] == values and point["mean"] == pytest.approx(np.mean(values))
    assert re.search(r"^1 +5 +0\.651 +0\.594 to 0\.708 +2 +628$", finished.stdout, re.MULTILINE)
    assert "9 points of fewer than 20 items not drawn: at x = 1, 9, 10" in finished.stdout


@pytest.mark.parametrize(
    "words",
    [
        "--kind bars --x n_embd",
        "--x train.weight_decay --panels n_embd --log_x yes",
        "--x type_0.loss --y type_0.loss",
    ],
)
def test_every_kind_of_figure_is_drawn(sweep, run_command, tmp_path, words):
    sizes = [(w, d, s) for w in (8, 16) for d in (0, 0.01, 1) for s in (1, 2)]
    sweep(
        *(
            record(i, (i + 1) / 20, seed=seed, n_embd=width, weight_decay=decay)
            for i, (width, decay, seed) in enumerate(sizes)
        )
    )
    finished = run_command("script/plot_sweep.py", "sweep", *words.split(), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (png,) = (tmp_path / "sweep").glob("*.png")
    assert png.with_suffix(".pdf").exists() and png.with_suffix(".points.json").exists()


def test_a_refused_figure_leaves_nothing(run_command, refused, tmp_path):
    words = [TUTORIAL, "--output", tmp_path / "figure", "--x"]
    refused(run_command("script/plot_sweep.py", *words, "depth"), "--x depth", "train.weight_decay")
    refused(run_command("script/plot_sweep.py", tmp_path), "DIR", "no results.jsonl")
    again = run_command("script/plot_sweep.py", *words, "task", "--kind", "lines")
    refused(again, "--kind lines needs numbers")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- the page


def text_of(page):
    return re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))


def test_the_page_of_a_sweep_has_means_k_cutoffs_and_the_time_it_took(sweep, tmp_path):
    values = {(8, 1): 0.30, (8, 2): 0.42, (16, 1): 0.5, (16, 2): 0.7}
    sweep(
        *(
            record(i, v, seed=seed, n_embd=width, by_k={3: (v, 50)})
            for i, ((width, seed), v) in enumerate(values.items())
        ),
        record(9, failed="train", seed=1, n_embd=32),
    )
    page = text_of(make_report(tmp_path / "sweep"))
    # Five trainings of 100 s, and of two worlds 15 s each; from 0:00 less 115 s to 9:00.
    assert "4 runs done, 1 failed; 8.8 minutes of computing, 10.9 minutes from the first" in page
    half = stats.t.ppf(0.975, 1) * np.std([0.3, 0.42], ddof=1) / math.sqrt(2)
    cell = f"0.360 ({max(0, 0.36 - half):.3f} to {min(1, 0.36 + half):.3f})"
    assert cell in page and f"{cell}, n = 100" in page
    assert "n_embd 8" in page and "they differ in seed, train.n_embd" in page
    assert "1 of 5 ended runs failed, left out: number 9 (at train)" in page
    figures = tmp_path / "sweep" / "report_figures"
    assert {"accuracy.png", "accuracy_by_k_cutoff.png"} <= {p.name for p in figures.iterdir()}


def test_the_page_of_one_run_or_of_none_that_trained_is_sensible(sweep, tmp_path):
    sweep(record(1))
    page = text_of(make_report(tmp_path / "sweep"))
    assert "Accuracy by type" in page and "k-cutoff" not in page
    assert "1 run done, 0 failed; 1.9 minutes of computing, 1.9 minutes from" in page
    untrained = record(1)
    for key in ("scores", "steps", "parameters", "train_loss", "epochs", "device"):
        untrained.pop(key)
    untrained["settings"]["train"] = None
    sweep(untrained)
    page = text_of(make_report(tmp_path / "sweep"))
    assert "Accuracy" not in page and "1 run done" in page


def test_a_setting_that_is_a_list_is_a_place_on_x(sweep):
    runs = [record(i, 0.5, seed=i, n=30) for i in (1, 2)]
    for run in runs:
        run["settings"]["analyse"] = {"cluster": {"group_by": ["b", "x2"]}}
    (point,) = points(sweep(*runs), x="analyse.cluster.group_by")["points"]
    assert point["x"] == "b,x2" and len(point["runs"]) == 2


def test_other_files_than_that_of_the_results_are_refused_in_words(tmp_path):
    for name in ("results.csv", "spec.json"):
        (tmp_path / name).write_text("run,label\n1,2\n", encoding="utf-8")
        with pytest.raises(InputError, match="is no results.jsonl; give the sweep's folder, or"):
            read_results(tmp_path / name)


def test_groups_side_by_side_are_all_types_and_names_tell_figures_apart(tmp_path):
    results = read_results(ROOT / "docs" / "tutorial" / "results.jsonl")
    beside = sweep_points(results, PlotSettings(x="group", where=("seed=42",)))
    assert beside["groups"] == ["train_inferred", "type_0", "type_1", "type_2", "type_3"]
    names = []
    for x, options in (
        ("k_cutoff", {}),
        ("k_cutoff", {"where": ("seed=42",)}),
        ("train.weight_decay", {"group": ("type_1",)}),
        ("k_cutoff", {"panels": "seed"}),
    ):
        content = sweep_points(results, PlotSettings(x=x, **options))
        names.append(place_of(content, results, tmp_path, str(tmp_path)).name)
    assert len({*names}) == 4 and names[1].endswith("_seed_42") and names[2].endswith("_type_1")

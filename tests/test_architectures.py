"""Claim i: its arithmetic by hand, and the whole of it on models whose required N is known."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import Future

import pytest
from scipy import special, stats

from coverage_principle.errors import InputError
from coverage_principle.experiments import OwnModelSettings, Sweep
from coverage_principle.experiments.claims import CLAIMS, SCALES, architectures, write_result
from coverage_principle.experiments.claims.architectures import LEARNER, MATCHER, MODELS, compare
from coverage_principle.statistics import mean_of, mean_of_groups
from tests.conftest import blocks

#: The file of docs/extending.md.
(PAGE,) = (one for one in blocks("docs/extending.md", "python") if "def build(config)" in one)


def accuracy_of(amount: int, needed: float, slope: float = 12.0) -> float:
    """Of a model that is right about 99 % of the unseen items after ``needed`` training items."""
    return float(special.expit(math.log(99) + slope * math.log(amount / needed)))


def searched(needed: float, amounts=(), items: int = 10**6) -> dict:
    """A search in a world in which a model needs so many items; by default around these."""
    amounts = amounts or [round(needed * times) for times in (0.75, 0.93, 1.17)]
    trials = {
        str(n): {
            **{"run": "r", "items": items, "accuracy": accuracy_of(n, needed)},
            **{"train_accuracy": 1.0, "steps": 10, "epochs": 1.0},
        }
        for n in amounts
    }
    enough = [n for n in amounts if n >= needed]
    return {"required": min(enough, default=None), "most": 10**5, "trials": trials}


def matched(matcher: dict, learner: dict) -> dict:
    covered = dict.fromkeys(matcher, 100)
    by_name = {MATCHER: matcher, LEARNER: learner}
    return by_name | dict.fromkeys(("coverage at k = 2", "coverage at k = 3"), covered)


# -------------------------------------------------------------------------------------- arithmetic


def test_a_mean_of_groups_has_the_interval_of_a_pooled_spread():
    whole, (first, second) = mean_of_groups([[1, 3], [10, 14, 12]])
    # Squared deviations 2 and 8 with 3 degrees of freedom; means 2 and 12.
    sd, t = math.sqrt(10 / 3), stats.t.ppf(0.975, 3)
    assert (first.mean, second.mean, whole.mean, whole.n) == (2, 12, 7, 5)
    assert first.high - 2 == pytest.approx(t * sd / math.sqrt(2))
    assert 12 - second.low == pytest.approx(t * sd / math.sqrt(3))
    assert whole.high - 7 == pytest.approx(t * sd * math.sqrt(1 / 2 + 1 / 3) / 2)
    one, alone = mean_of_groups([[0.2, 0.5, 0.9]])[0], mean_of([0.2, 0.5, 0.9])
    assert (one.mean, one.low, one.n) == pytest.approx((alone.mean, alone.low, alone.n))
    assert mean_of_groups([[1], [2]])[0].low is None
    with pytest.raises(ValueError, match="no values"):
        mean_of_groups([[1], []])


def test_factors_are_geometric_means_over_seeds_and_worlds():
    worlds = {
        "A": matched({"1": 100, "2": 400}, {"1": 200, "2": 400}),
        "B": matched({"1": 250, "2": 250}, {"1": 1000, "2": 1000}),
    }
    # Twice the matcher's data in A, whatever the seed, and 4.5 times in B: 3 times in all.
    needs = {"A": {"1": 200, "2": 800}, "B": {"1": 1125, "2": 1125}}
    models = {
        "far": {"at": {w: {s: searched(n) for s, n in by.items()} for w, by in needs.items()}},
        "never": {"at": {"A": {"1": searched(1e6, (100, 200)), "2": searched(1e6, (100, 800))}}},
    }
    rows = compare(worlds, models, 0.99)
    assert list(rows)[-4:] == [MATCHER, LEARNER, "far", "never"]
    far = rows["far"]
    assert [far["times"][w]["mean"] for w in "AB"] == pytest.approx([2, 4.5], rel=0.01)
    assert far["amounts"]["A"]["mean"] == pytest.approx(400, rel=0.02)  # of 200 and 800
    assert far["whole"]["mean"] == pytest.approx(3, rel=0.01)
    assert far["amount"]["mean"] == pytest.approx(math.sqrt(400 * 1125), rel=0.02)
    # What lies between seeds is the matcher's as well: it widens the amounts, not the factor.
    assert far["times"]["A"]["high"] / far["times"]["A"]["low"] < 1.2
    assert far["amounts"]["A"]["high"] / far["amounts"]["A"]["low"] > 3
    # By hand: the learner 2 and 1 times in A, 4 in B: sqrt(sqrt(2) * 4).
    assert rows[LEARNER]["whole"]["mean"] == pytest.approx(math.sqrt(math.sqrt(2) * 4), rel=1e-3)
    assert rows[MATCHER]["whole"] == {"mean": 1, "low": 1, "high": 1}
    assert not far["least"] and rows["never"]["least"]
    assert rows["never"]["whole"] == {"mean": 2, "low": None, "high": None}  # 200/100, 800/400


def test_an_n_that_is_nearly_all_that_a_world_has_is_told():
    searches = {"1": searched(900, (600, 960), 40), "2": searched(900, (600, 960), 52)}
    searches["3"] = searched(500, (400, 600), 700)
    for one in searches.values():
        one["most"] = 1000
    never = searched(2000, (600, 1000)) | {"most": 1000}  # told of as a lower bound
    models = {"near": {"at": {"A": searches}}, "never": {"at": {"A": {"1": never}}}}
    (told,) = architectures._few_left(models)
    assert told.endswith("asked: near in A (2 of 3 seeds; 40 to 52 items left).")
    assert not architectures._few_left({"far": {"at": {"A": {"3": searches["3"]}}}})


def test_worlds_without_a_matcher_do_not_count():
    worlds = {"A": matched({"1": None}, {"1": None}), "B": matched({"1": 50}, {"1": None})}
    models = {"one": {"at": {w: {"1": searched(100)} for w in worlds}}}
    rows = compare(worlds, models, 0.99)
    assert list(rows["one"]["times"]) == ["B"] and LEARNER not in rows
    assert rows["one"]["whole"]["mean"] == pytest.approx(2, rel=0.05)
    none = {"A": worlds["A"]}
    assert compare(none, {"one": {"at": {"A": {"1": searched(100)}}}}, 0.99) == {}


# ------------------------------------------------------------------------------ the whole of it


class Known:
    """In place of a launcher: models that are trained at once, and need known amounts."""

    def __init__(self, needed):
        self.needed, self.asked = needed, []

    def running(self):
        return []

    def submit_all(self, runs):
        return [self.carried_out(run) for run in runs]

    def carried_out(self, run):
        self.asked.append(run)
        right = accuracy_of(run.data["max_train_data_num"], self.needed(run))
        score = {"answer_accuracy": right, "n": 1000, "loss": 0.1, "exact_match": right}
        record = {
            **{"run": run.id, "world": "w", "label": run.label, "status": "done"},
            "settings": run.as_dict(),
            **{"steps": 100, "epochs": 10.0, "parameters": 1000, "seconds": {"train": 60.0}},
            "scores": {"type_0": score, "train_inferred": {**score, "answer_accuracy": 1.0}},
        }
        done = Future()
        done.set_result(json.loads(json.dumps(record)))
        return done


@pytest.fixture
def plan(monkeypatch):
    """Worlds of the tiny scale in which the matcher has something to go by: 2-hop, 10 tokens."""
    monkeypatch.setitem(architectures._WORLDS, "tiny", {"twohop": (10, 2)})


def needed(run):
    """Of trials at 10 tokens: by architecture."""
    by_type = {"llama": 400, "mamba": 440}
    if "model_file" in run.train:
        return 350
    return by_type.get(run.train.get("model_type"), 380)


@pytest.mark.usefixtures("plan")
def test_a_model_file_is_a_row_and_costs_its_own_trials_alone(tmp_path):
    claim, root = CLAIMS["architectures"], tmp_path / "sweep"
    before = Known(needed)
    numbers = claim.collect(Sweep(root, before), "tiny")
    assert [name for name in numbers["rows"] if name in MODELS] == list(MODELS)
    (tmp_path / "mine.py").write_text(PAGE, encoding="utf-8")
    after = Known(needed)
    own = OwnModelSettings(model_file=(str(tmp_path / "mine.py"),), learning_rate=0.003)
    sweep = Sweep(root, after)
    numbers = claim.collect(sweep, "tiny", own)
    assert before.asked and {run.train.get("learning_rate") for run in after.asked} == {0.003}
    assert all(run.train["model_file"] == str(tmp_path / "mine.py") for run in after.asked)
    models = [name for name in numbers["rows"] if name in numbers["models"]]
    assert models == ["mine", *MODELS]
    matcher = [n for n in numbers["matched"]["2-hop, 10 tokens"][MATCHER].values()]
    for name, amount in (("mine", 350), ("Mamba", 440)):
        times = math.prod(amount / n for n in matcher) ** 0.5
        assert numbers["rows"][name]["whole"]["mean"] == pytest.approx(times, rel=0.03)
    file = tmp_path / "mine.py"
    assert numbers["models"]["mine"]["sha256"] == architectures.sha256(file)
    assert len(json.dumps(numbers)) < 20_000
    result = write_result(
        claim, numbers, tmp_path / "out", scale="tiny", command="command", sweep=sweep
    )
    first, *_, last = result["findings"]
    times = numbers["rows"]["mine"]["whole"]
    assert first == (
        f"The best of these architectures, mine, needs {times['mean']:.2f} ({times['low']:.2f} to "
        f"{times['high']:.2f}) times the data that suffices for a pattern matcher."
    )
    assert any("2-hop, 10 tokens (2 seeds)" in one for one in result["findings"])
    page = (tmp_path / "out" / "README.md").read_text()
    row = re.search(r"^\| mine \|.*", page, re.MULTILINE).group()
    assert "| 1,000 | 0.003 |" in row and str(tmp_path) not in page
    assert (tmp_path / "out" / "figure.png").stat().st_size > 0
    text = (tmp_path / "mine.py").read_text() + "\n"
    file.write_text(text, encoding="utf-8")
    again = Known(needed)
    claim.collect(Sweep(root, again), "tiny", own)
    assert len(again.asked) == len(after.asked)  # another file of that name is another model


@pytest.mark.usefixtures("plan")
def test_what_does_not_learn_and_what_never_suffices_is_said(tmp_path):
    def hard(run):
        return 10**5 if run.train.get("model_type") == "mamba" else needed(run)

    claim = CLAIMS["architectures"]
    numbers = claim.collect(Sweep(tmp_path, Known(hard)), "tiny")
    assert numbers["rows"]["Mamba"]["least"]
    shown = " ".join(claim.findings(numbers))
    assert "Mamba: in 2 of 2 searches no N was enough, so that its factor is a lower bound" in shown
    assert f"Mamba > {numbers['rows']['Mamba']['whole']['mean']:.2f}" in shown
    for search in numbers["models"]["Mamba"]["at"]["2-hop, 10 tokens"].values():
        for trial in search["trials"].values():
            trial["train_accuracy"] = 0.5
    shown = " ".join(claim.findings(numbers))
    assert "Mamba does not even learn its training items in any trial." in shown
    nothing = {**numbers, "rows": {}}
    assert (
        "nothing is compared" in claim.findings(nothing)[0] and claim.tables(nothing)[0].rows == []
    )


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_asks_for_trainings_that_the_command_takes(scale):
    """Settings are checked by the commands' own parsers when they are resolved."""
    series = architectures.planned(scale, MODELS)
    runs = {key: architectures.first_trial(one, scale) for key, one in series.items()}
    assert len({run.id for run in runs.values()}) == len(runs)
    for (name, _), run in runs.items():
        assert name != "GPT-2, 1 block looped 4 times" or run.train["loops"] == 4


def test_files_that_cannot_be_a_row_are_refused(tmp_path, run_command, refused):
    for name in ("Llama.py", "mine.py", "other/mine.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(PAGE, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("Llama.py", "mine.py", "other/mine.py")]
    for given in (files[:1], files[1:]):
        with pytest.raises(InputError, match="another row is named"):
            architectures.own_models(OwnModelSettings(model_file=tuple(given)))
    words = [
        "--scale",
        "tiny",
        "--output_dir",
        tmp_path / "out",
        "--model_file",
        tmp_path / "no.py",
    ]
    refused(run_command("script/reproduce/architectures.py", *words), "no.py is not a file")
    assert not list((tmp_path / "out").glob("*/*"))
    refused(run_command("script/reproduce/data_scaling.py", *words), "--model_file", status=2)


def test_a_model_file_is_trained_by_the_command(tmp_path, run_command, refused):
    """All other runs are there already, of made-up models: only the file's are made."""
    root = tmp_path / "sweep"
    CLAIMS["architectures"].collect(Sweep(root, Known(lambda _: 25)), "tiny")
    lines = len((root / "results.jsonl").read_text().splitlines())
    (tmp_path / "mine.py").write_text(PAGE, encoding="utf-8")
    words = ["--scale", "tiny", "--output_dir", root, "--model_file", tmp_path / "mine.py"]
    finished = run_command("script/reproduce/architectures.py", *words)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^mine +3,488 +0.002", finished.stdout, re.MULTILINE)
    result = json.loads((root / "architectures" / "numbers.json").read_text())
    assert f"--model_file {tmp_path / 'mine.py'}" in result["command"]
    records = [json.loads(line) for line in (root / "results.jsonl").read_text().splitlines()]
    assert all("mine.py" in one["settings"]["train"]["model_file"] for one in records[lines:])
    (tmp_path / "broken.py").write_text("def build(config):\n    return 1\n", encoding="utf-8")
    words[-1] = tmp_path / "broken.py"
    finished = run_command("script/reproduce/architectures.py", *words)
    refused(finished, "failed at train", "broken.py: build(config) gave a int")

"""The learner fitted to a model, and the data that matcher and learner need, by brute force."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from coverage_principle.coverage import LearnerSettings, PredictedData, PredictedSettings, fitting
from coverage_principle.coverage.evidence import slot_sets
from coverage_principle.coverage.fitting import fit_learner
from coverage_principle.coverage.learner import DEFAULT, Learner
from coverage_principle.coverage.matcher import Matcher
from coverage_principle.coverage.predicted import predicted_name
from coverage_principle.coverage.required import GrowingWorld
from coverage_principle.data import WorldSettings, dump_json, load_dataset
from coverage_principle.errors import InputError
from coverage_principle.reporting.predicted_data import summarise_predicted
from coverage_principle.tasks import TASKS, Function, TaskGraph
from tests.oracles.task_bruteforce import answer_of, calls_of, used_calls

#: A graph with alphabets of two sizes.
MINE = TaskGraph(
    "mine",
    ("h", "r", "x"),
    (Function("f1", "b", ("h", "r")), Function("f2", "t", ("b", "x"))),
    alphabets=(("r", "relation"),),
)


def unseen_in_domain(graph, num_tokens, seed, amount, **world):
    """Training items and answers, and the unseen in-domain ones, from the definition.

    And the keyword arguments of a matcher or learner.
    """
    settings = WorldSettings(num_tokens, 1, seed=seed, **world)
    growing = GrowingWorld(graph, settings)
    named = {f.name: t for f, t in zip(graph.functions, growing.tables, strict=True)}
    alphabets = settings.sizes(graph)
    *sizes, answers = [alphabets[a] for a in graph.alphabets_of([*graph.inputs, graph.answer])]
    train = [tuple(row) for row in growing.train(amount).tolist()]
    used, trained = used_calls(graph, named, train), set(train)
    unseen = [
        item
        for item in itertools.product(*map(range, sizes))
        if item not in trained
        and all(call in used[name] for name, (call, _) in calls_of(graph, named, item).items())
    ]
    both = [
        (np.array(items).reshape(-1, len(sizes)), [answer_of(graph, named, i) for i in items])
        for items in (train, unseen)
    ]
    how = {"num_answers": answers, "sizes": tuple(sizes)}
    return *((inputs, np.array(given, dtype=int)) for inputs, given in both), how


# ------------------------------------------------------------------------------------------ fitting


@pytest.fixture(scope="module")
def small():
    return unseen_in_domain(TASKS["twohop"], 8, 3, 100)


def scored(scores, true, outputs):
    """Mean log-probability, share of equal answers and AUC, by loops."""
    nats, same, pairs = [], 0, []
    for row, own, output in zip(scores.tolist(), true, outputs, strict=True):
        nats.append(row[output] - math.log(sum(map(math.exp, row))))
        same += row.index(max(row)) == output
        pairs.append((row[own], own == output))
    right = [score for score, is_right in pairs if is_right]
    wrong = [score for score, is_right in pairs if not is_right]
    counted = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    auc = sum(counted) / len(counted) if counted else None
    return sum(nats) / len(nats), same / len(nats), auc


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_what_loops_count(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, size=(30, 5)) / 2  # with ties
    true, outputs = rng.integers(0, 5, size=(2, 30))
    if seed == 4:
        outputs = true  # all right: no AUC
    nats, same, auc = scored(scores, true, outputs)
    found = fitting._score(scores, true, outputs)
    assert (found.nats, found.same) == (pytest.approx(nats), pytest.approx(same))
    assert found.auc == (None if auc is None else pytest.approx(auc))
    assert (auc is None) == (seed == 4)


def test_numbers_of_a_learner_or_likelier_ones_are_found(small):
    (train, answers), (inputs, true), how = small
    settings = LearnerSettings(ridge=10.0, shrinkage=1.0)
    model = Learner(train, answers, settings=settings, **how).scores(inputs).argmax(axis=1)
    shares = []
    fit = fit_learner((train, answers), inputs, true, model, progress=shares.append, **how)
    assert sum(fit.items) == len(inputs) and abs(fit.items[0] - fit.items[1]) <= 1
    assert fit.chosen_by["fitted"].nats > fit.chosen_by["default"].nats
    fitted, default = fit.others["fitted"], fit.others["default"]
    assert fitted.nats > default.nats and fitted.same > default.same
    # As likely as the model's own numbers, which are among those that are tried.
    alone = {"ridge": (10.0,) * 3, "shrinkage": (1.0,) * 2, "overlap": (1.0,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "GRID", {**alone, "background": (0.5,)})
        patch.setattr(fitting, "DEFAULT", settings)
        own = fit_learner((train, answers), inputs, true, model, **how)
    assert own.settings == settings and own.others["fitted"].same == 1.0
    assert fit.chosen_by["fitted"].nats >= own.chosen_by["fitted"].nats
    # The share that is done grows by equal steps over the scan, and stays below 1.
    assert len(shares) == fit.tried and shares == sorted(shares) and shares[-1] < 1
    assert shares[10] - shares[9] == pytest.approx(shares[1] - shares[0])


def test_the_half_that_tests_does_not_choose(small, monkeypatch):
    """Another answer to an item changes either what was chosen, or what tests it."""
    (train, answers), (inputs, true), how = small
    inputs, true = inputs[:40], true[:40]
    grid = {"ridge": (0.3, 1.0, 1.0), "shrinkage": (8.0, 8.0)}
    monkeypatch.setattr(fitting, "GRID", {**grid, "overlap": (1.0,), "background": (0.5,)})

    def fit(outputs):
        return fit_learner((train, answers), inputs, true, outputs, **how)

    before, chosen, tested = fit(true), 0, 0
    for row in range(40):
        outputs = true.copy()
        outputs[row] = (outputs[row] + 1) % how["num_answers"]
        after = fit(outputs)
        kept = after.chosen_by == before.chosen_by and after.settings == before.settings
        # Same answers, however sharp, on the half that has the old ones.
        alike = after.others["default"].auc == before.others["default"].auc
        assert kept != alike
        chosen, tested = chosen + alike, tested + kept
    assert (chosen, tested) == before.items == (20, 20)
    with pytest.raises(InputError, match="`fit` needs at least 40 type_0 items.* there are 39"):
        fit_learner((train, answers), inputs[:39], true[:39], true[:39], **how)


# -------------------------------------------------------------------------------- predicted amounts


def measured(predictor, graph, num_tokens, seed, amount, **world):
    """``[right, items]`` of all unseen in-domain items."""
    (train, answers), (inputs, true), how = unseen_in_domain(
        graph, num_tokens, seed, amount, **world
    )
    if not len(inputs):
        return [0, 0]
    if predictor == "matcher":
        every = slot_sets(len(how["sizes"]))
        found = Matcher(train, answers, positions=every, **how).match(inputs).answer
    else:
        found = Learner(train, answers, **how).scores(inputs).argmax(axis=1)
    return [int((found == true).sum()), len(true)]


def search(graph, file, *, learner=DEFAULT, **settings):
    return PredictedData(graph, PredictedSettings(**settings), learner, file)


@pytest.mark.parametrize(
    ("graph", "num_tokens", "world"),
    [
        (TASKS["twohop"], 6, {}),
        (TASKS["nontree"], 5, {"default_seen_ratio": 0.9}),
        (MINE, 7, {"alphabets": ("relation=3",)}),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_amounts_are_the_smallest_measured_ones_that_are_enough(graph, num_tokens, world, tmp_path):
    settings = {"num_tokens": (num_tokens,), "seeds": (1,), "accuracy": 0.7, "tolerance": 0.2}
    found = search(graph, tmp_path / "kept.json", **settings, **world)
    told = []
    amounts = found.find(num_tokens, 1, lambda *one: told.append(one))
    by_predictor = found.measured[str(num_tokens)]["1"]
    assert any(amounts.values())
    for predictor, amount in amounts.items():
        by_amount = {int(n): counts for n, counts in by_predictor[predictor].items()}
        assert sorted(n for who, n in told if who == predictor) == sorted(by_amount)
        for n, counts in by_amount.items():
            assert counts == measured(predictor, graph, num_tokens, 1, n, **world)
        enough = {n for n, (right, items) in by_amount.items() if items and right >= 0.7 * items}
        if amount is None:
            assert not enough
            continue
        assert amount in enough
        below = max(n for n in by_amount if n < amount)
        assert below not in enough and amount <= max(below + 1, 1.2 * below)


def test_measurements_are_kept_and_a_search_goes_on_with_them(tmp_path):
    graph, file = TASKS["twohop"], tmp_path / "kept.json"
    settings = {"num_tokens": (5,), "seeds": (0,), "accuracy": 0.6, "sample": 10}
    first = search(graph, file, **settings)
    amounts, kept = first.find(5, 0), file.read_bytes()
    assert all(items <= 10 for by in first.measured["5"]["0"].values() for _, items in by.values())
    again, told = search(graph, file, **settings), []
    assert again.find(5, 0, lambda *one: told.append(one)) == amounts
    assert told == [] and file.read_bytes() == kept
    # Another accuracy, other sizes and seeds go on from it too.
    search(graph, file, **{**settings, "accuracy": 0.9, "seeds": (0, 1), "num_tokens": (5, 6)})
    for change in (
        {"learner": LearnerSettings(ridge=2.0)},
        {"sample": 11},
        {"default_seen_ratio": 0.8},
        {"function_family": "modular"},
    ):
        with pytest.raises(InputError, match="move it away"):
            search(graph, file, **{**settings, **change})
    with pytest.raises(InputError, match="move it away"):
        search(TASKS["nontree"], file, **settings)
    content = json.loads(kept)
    content["measured"]["5"]["0"]["learner"]["9"] = [7, 3]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="kept.json"):
        search(graph, file, **settings)


def test_what_nothing_reaches_is_none(tmp_path):
    graph = TASKS["twohop"]
    nothing = search(graph, tmp_path / "a.json", num_tokens=(5,), default_seen_ratio=0.0)
    assert nothing.find(5, 0) == {"matcher": None, "learner": None}
    assert not (tmp_path / "a.json").exists()
    # Here not even all trainable items but one are enough.
    found = search(graph, tmp_path / "b.json", num_tokens=(6,), by=("learner",), accuracy=0.7)
    assert found.find(6, 43) == {"learner": None}
    by_amount = found.measured["6"]["43"]["learner"]
    most = GrowingWorld(graph, WorldSettings(6, 1, seed=43)).trainable - 1
    right, items = by_amount[str(most)]
    assert right < 0.7 * items and max(map(int, by_amount)) == most
    with pytest.raises(InputError, match="`alphabets` relation=3"):
        search(graph, tmp_path / "c.json", alphabets=("relation=3",))


def test_settings_and_names():
    for settings, words in (
        ({"by": ("matcher", "oracle")}, "`by`"),
        ({"accuracy": 1.0}, "`accuracy` 1.0"),
        ({"tolerance": 0.0}, "`tolerance` 0.0"),
    ):
        with pytest.raises(InputError, match=words):
            PredictedSettings(**settings)
    assert predicted_name(TASKS["twohop"], PredictedSettings()) == "twohop_seen-0.7"
    for name in ("overlap", "background", "shrinkage", "ridge"):
        with pytest.raises(InputError, match=f"`{name}`"):
            LearnerSettings(**{name: 1e200})
    with pytest.raises(InputError, match="`background`"):  # with overlap 0 nothing would be alike
        LearnerSettings(background=0.0)
    own = PredictedSettings(function_family="modular", alphabets=("relation=3",))
    assert predicted_name(MINE, own) == "mine_seen-0.7_modular_relation-3"


def test_what_a_model_should_need_by_hand(tmp_path):
    """At 5 tokens the model needs 1.5 times the matcher's 40: so it should need 1.5 times 90."""
    found = search(TASKS["twohop"], tmp_path / "kept.json", num_tokens=(5, 6), seeds=(0, 1))
    found.amounts = {
        5: {0: {"matcher": 30, "learner": 80}, 1: {"matcher": 50, "learner": None}},
        6: {0: {"matcher": 90, "learner": 70}, 1: {"matcher": 90, "learner": 90}},
    }
    summary = summarise_predicted(found, {5: 60, 6: 180})
    first, second = summary["predicted"]["5"], summary["predicted"]["6"]
    assert first["matcher"] == {
        "by_seed": {"0": 30, "1": 50},
        "mean": 40,
        "sd": pytest.approx(200**0.5),
        "model_needs_times": 1.5,
        "expected": 60.0,
    }
    assert second["matcher"]["model_needs_times"] == 2.0 and second["matcher"]["expected"] == 135
    # Where one world is not reached there is no mean, and no ratio to go by.
    assert first["learner"]["mean"] is None and first["learner"]["model_needs_times"] is None
    assert second["learner"]["model_needs_times"] == 2.25
    assert second["learner"]["expected"] is None
    alone = summarise_predicted(found, {})
    assert alone["needed"] is None and alone["predicted"]["6"]["matcher"]["expected"] is None


# ----------------------------------------------------------------------------------------- commands


def test_predicted_data_command(run_command, refused, tmp_path):
    def command(*words, folder="out"):
        words = [*words, "--output_dir", tmp_path / folder]
        return run_command("script/predicted_data.py", *words)

    sizes = ("--num_tokens", "6,5", "--seeds", "0,1", "--accuracy", 0.6, "--tolerance", 0.3)
    finished = command(*sizes, "--needed", 90, 60)
    assert finished.returncode == 0 and "Warning" not in finished.stderr, finished.stderr
    stem = tmp_path / "out" / "predicted_twohop_seen-0.7"
    names = (".json", "_measured.json", ".png", ".pdf")
    assert sorted(stem.parent.iterdir()) == sorted(Path(f"{stem}{name}") for name in names)
    summary = json.loads(Path(f"{stem}.json").read_text())
    assert summary["needed"] == {"6": 90, "5": 60} and summary["seeds"] == [0, 1]
    for size, by_predictor in summary["predicted"].items():
        (line,) = [one for one in finished.stdout.splitlines() if one.startswith(f"{size} ")]
        assert f"  {summary['needed'][size]}  " in line
        for one in by_predictor.values():
            shown = f"{one['mean']:,.0f} ± {one['sd']:,.0f}" if one["mean"] else "not reached"
            assert shown in line
    assert Path(f"{stem}.png").stat().st_size > 10_000
    # Once more: nothing is measured anew. With other flags of the learner: refused, nothing lost.
    kept = {path: path.read_bytes() for path in stem.parent.iterdir()}
    assert command(*sizes, "--needed", 90, 60).stdout == finished.stdout
    assert kept == {path: path.read_bytes() for path in stem.parent.iterdir()}
    refused(command(*sizes, "--ridge", 3), "_measured.json", "another learner", "move it away")
    assert kept == {path: path.read_bytes() for path in stem.parent.iterdir()}

    # Without anything to train on there is still a table and a figure, and no file that is not.
    none = command("--num_tokens", 5, "--seeds", 0, "--default_seen_ratio", 0, folder="none")
    assert none.returncode == 0 and "Warning" not in none.stderr, none.stderr
    assert "not reached" in none.stdout and "_measured" not in none.stdout

    def wrong(*words):
        return command(*words, folder="no")

    refused(wrong(*sizes, "--needed", 90), "--needed gives 1 amount for the 2 sizes")
    refused(wrong("--needed", "0", "1", "2"), "--needed", "at least 1", status=2)
    refused(wrong("--by", "matcher,oracle"), "--by", "matcher, learner", status=2)
    refused(wrong("--accuracy", 1), "--accuracy 1.0 is not between 0 and 1")
    refused(wrong("--tolerance", 0), "--tolerance 0.0 is not between 0 and 1")
    refused(wrong("--sample", 1), "--sample", "at least 2", status=2)
    refused(wrong("--overlap", 1e200), "--overlap", status=2)
    assert not (tmp_path / "no").exists()


def test_fit_command(run_command, refused, small_dataset, tmp_path):
    folder, out = tmp_path / small_dataset.name, tmp_path / "out"
    shutil.copytree(small_dataset, folder)
    (folder / "test_annotated.json").unlink(missing_ok=True)
    predictions = tmp_path / "model.json"

    def command(*words):
        words = ["--data_dir", folder, "--output_dir", out, *words]
        return run_command("determine_coverage.py", *words)

    # A model that is a learner with other numbers, and gives no answer to one item.
    dataset = load_dataset(folder)
    (train, test), sizes = (dataset.train, dataset.test), dataset.slot_sizes
    model = Learner(
        *(train.inputs, train.answers),
        **{"num_answers": sizes[0], "sizes": sizes},
        settings=LearnerSettings(ridge=10.0, shrinkage=1.0),
    )
    answers = model.scores(test.inputs).argmax(axis=1)
    pairs = zip(test.numbers.tolist(), answers, strict=True)
    said = [{"id": n, "model_output": f"<t_{a}>"} for n, a in pairs]
    said[int(np.flatnonzero(test.types == "type_0")[0])]["model_output"] = None
    predictions.write_text(dump_json(said))
    fit = ("--graded", "--fit", predictions)

    few = tmp_path / "few.json"
    few.write_text(dump_json(said[:3]))
    refused(command("--graded", "--fit", few), "--fit needs at least 40 type_0 items")
    refused(command("--graded", "--fit", tmp_path / "no.json"), "no.json")
    refused(command("--fit", predictions), "--fit", "give --graded with it")
    refused(command("--ridge", 2), "--graded")
    name = f"{dataset.name}_fit.json"
    assert not out.exists() and not (folder / "test_annotated.json").exists()
    out.mkdir()
    (out / name).write_text(dump_json({"path": "elsewhere", "sha256": {}}))
    refused(command(*fit), name, "another data set of this name", "--output_dir")
    assert [path.name for path in out.iterdir()] == [name]
    assert not (folder / "test_annotated.json").exists()
    (out / name).unlink()

    finished = command(*fit)
    assert finished.returncode == 0, finished.stderr
    found = json.loads((out / name).read_text())
    assert found["sha256"] == dataset.digests and found["predictions"]["unparsable"] == 1
    items = int((test.types == "type_0").sum()) - 1
    assert sum(found["items"]) == items
    assert found["chosen_by"]["fitted"]["nats"] >= found["chosen_by"]["default"]["nats"]
    flags = " ".join(f"--{key} {value:g}" for key, value in found["settings"].items())
    assert f"as flags: {flags}" in finished.stdout
    row = f"{found['others']['fitted']['nats']:.3f}  "
    assert row in finished.stdout
    # The flags are the command's own.
    assert command("--graded", *flags.split()).returncode == 0


def test_fit_with_single_facts_and_wrong_labels(run_command, tmp_path):
    world = "--num_tokens 8 --max_train_data_num 150 --test_size_for_type 60 --label_noise 0.1"
    made = run_command(
        "dataset_generation/twohop.py",
        *(*world.split(), "--atomic_facts", "seen", "--output_dir", tmp_path),
    )
    assert made.returncode == 0, made.stderr
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    dataset = load_dataset(folder)
    numbers = range(len(dataset.test.all_records))  # single facts too
    said = [{"id": n, "model_output": f"<t_{n * 7 % 8}>"} for n in numbers]
    (tmp_path / "model.json").write_text(dump_json(said))
    words = ["--data_dir", folder, "--graded", "--fit", tmp_path / "model.json", "--noise", 0.1]
    finished = run_command("determine_coverage.py", *words, "--output_dir", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    (file,) = (tmp_path / "out").glob("*_noise-0.1_fit.json")
    assert json.loads(file.read_text())["items"] == [30, 30]

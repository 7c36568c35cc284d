"""script/evaluate_predictions.py: formats, counts, and numbers against plain Python."""

from __future__ import annotations

import doctest
import json
import math
import shutil
from itertools import permutations

import numpy as np
import pytest

from coverage_principle import data
from coverage_principle.coverage import make_prompts, write_prompts
from coverage_principle.data import PromptSettings, load_dataset
from coverage_principle.data.annotations import write_annotations
from coverage_principle.errors import InputError
from coverage_principle.predictions import (
    CONTRADICTING,
    MISSING,
    UNPARSABLE,
    accuracy,
    agreement,
    evaluate_predictions,
    evaluation,
    prediction_of_answers,
    prediction_records,
    read_predictions,
)
from coverage_principle.statistics import auc_influence

COMMAND = "script/evaluate_predictions.py"


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def answer_of(record):
    return f"<{record['target_text'][1:-1].split('><')[-2]}>"


# ------------------------------------------------------------------------- numbers, by brute force


def plain_auc(scores, positive):
    pairs = [
        (a > b) + (a == b) / 2
        for a, good in zip(scores, positive, strict=True)
        for b, other in zip(scores, positive, strict=True)
        if good and not other
    ]
    return sum(pairs) / len(pairs) if pairs else None


def delong(scores, others, positive):
    """The covariance of two AUCs as DeLong et al. write it, from the components of each class."""

    def components(own):
        good = [s for s, p in zip(own, positive, strict=True) if p]
        bad = [s for s, p in zip(own, positive, strict=True) if not p]
        psi = [[(a > b) + (a == b) / 2 for b in bad] for a in good]
        return [sum(row) / len(bad) for row in psi], [
            sum(column) / len(good) for column in zip(*psi, strict=True)
        ]

    total = 0.0
    for first, second in zip(components(scores), components(others), strict=True):
        m, a, b = len(first), sum(first) / len(first), sum(second) / len(second)
        total += sum((x - a) * (y - b) for x, y in zip(first, second, strict=True)) / (m - 1) / m
    return total


@pytest.mark.parametrize("seed", range(20))
def test_the_influence_of_items_gives_delongs_variances(seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(25) < 0.4
    positive[:4] = [True, True, False, False]
    scores, others = rng.integers(0, 6, (2, 25)) + positive * rng.random()
    (value, pulls), (_, other_pulls) = (auc_influence(s, positive) for s in (scores, others))
    assert value == pytest.approx(plain_auc(scores, positive))
    assert (pulls**2).sum() == pytest.approx(delong(scores, scores, positive))
    assert (pulls * other_pulls).sum() == pytest.approx(delong(scores, others, positive))


def test_there_is_no_auc_where_all_items_are_alike():
    assert auc_influence([1, 2, 3], [True] * 3) is None


def test_aucs_of_several_files_are_means_and_their_ceiling_is_that_of_ordered_pairs():
    rng = np.random.default_rng(3)
    hard = rng.random(60)
    correct = rng.random((3, 60)) < hard
    scores = {"k_cutoff": rng.integers(0, 4, 60), "support": np.round(hard + rng.random(60), 1)}
    found = prediction_of_answers(correct, scores)
    for name, score in scores.items():
        per_file = [plain_auc(score, own) for own in correct]
        assert found["auc"][name]["per_file"] == pytest.approx(per_file)
        assert found["auc"][name]["mean"] == pytest.approx(sum(per_file) / 3)
    pairs = [plain_auc(a, b) for a, b in permutations(correct.astype(int), 2)]
    assert found["auc"]["another_seed"]["mean"] == pytest.approx(sum(pairs) / 6)
    rest = [sum(correct[j].astype(int) for j in range(3) if j != i) for i in range(3)]
    others = [plain_auc(rest[i], correct[i]) for i in range(3)]
    assert found["auc"]["others"]["mean"] == pytest.approx(sum(others) / 3)
    gap = found["differences"]["support - k_cutoff"]
    means = [found["auc"][name]["mean"] for name in ("support", "k_cutoff")]
    assert gap["mean"] == pytest.approx(means[0] - means[1])
    assert set(found["differences"]) == {"support - k_cutoff", "support - another_seed"}
    logs = np.log(rng.random((3, 60)))
    pair = ("others_probability", "another_probability")
    found = prediction_of_answers(correct, scores, [pair], logs)
    one = np.mean([plain_auc(logs[j], correct[i]) for i, j in permutations(range(3), 2)])
    mean = np.mean([plain_auc(np.delete(logs, i, 0).sum(0), correct[i]) for i in range(3)])
    assert [found["auc"][name]["mean"] for name in pair] == pytest.approx([mean, one])
    assert found["differences"]["others_probability - another_probability"]["mean"] == (
        pytest.approx(mean - one)
    )


def test_intervals_of_a_mean_over_files_are_those_of_a_bootstrap_over_items():
    rng = np.random.default_rng(5)
    hard = rng.random(400)
    correct = rng.random((3, 400)) < hard
    scores = {"k_cutoff": (4 * hard).astype(int), "support": hard + rng.random(400)}
    found = prediction_of_answers(correct, scores)
    drawn = []
    for _ in range(300):
        rows = rng.integers(0, 400, 400)
        again = prediction_of_answers(correct[:, rows], {n: s[rows] for n, s in scores.items()})
        gap = again["differences"]["support - k_cutoff"]["mean"]
        drawn.append((again["auc"]["support"]["mean"], again["auc"]["another_seed"]["mean"], gap))
    shown = [found["auc"]["support"], found["auc"]["another_seed"]]
    shown.append(found["differences"]["support - k_cutoff"])
    for one, spread in zip(shown, np.std(drawn, axis=0), strict=True):
        assert (one["high"] - one["low"]) / 2 / 1.96 == pytest.approx(spread, rel=0.15)


def test_accuracy_of_one_file_has_wilsons_interval_and_says_both_shares():
    outputs = np.array([[1, 2, 3, MISSING, UNPARSABLE, 1, 7]])
    answers = np.array([1, 2, 4, 5, 6, 1, 7])
    found = accuracy(outputs, answers, np.arange(7))
    assert (found["items"], found["answered"], found["right"]) == (7, [5], [4])

    def wilson(p, n, z=1.96):
        middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    for key, n in (("accuracy", 7), ("of_answered", 5)):
        low, high = wilson(4 / n, n)
        assert found[key] == pytest.approx({"mean": 4 / n, "low": low, "high": high})


def test_accuracy_of_several_files_has_students_interval_over_them():
    answers = np.zeros(10, dtype=int)
    outputs = np.array([[0] * right + [1] * (10 - right) for right in (4, 5, 9)])
    found = accuracy(outputs, answers, answers == 0)["accuracy"]
    half = 4.302653 * np.std([0.4, 0.5, 0.9], ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom
    assert found["mean"] == pytest.approx(0.6)
    assert (found["low"], found["high"]) == (0.0, pytest.approx(min(1, 0.6 + half)))


@pytest.mark.parametrize("seed", range(20))
def test_agreement_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 3, 40)
    outputs, matcher = rng.integers(-2, 3, (3, 40)), rng.integers(-1, 3, 40)

    def compared(own, other):
        same = sum(a == b and a >= 0 for a, b in zip(own, other, strict=True))
        both = [
            (a, b)
            for a, b, right in zip(own, other, answers, strict=True)
            if a >= 0 and b >= 0 and a != right and b != right
        ]
        return same / 40, sum(a == b for a, b in both) / len(both), len(both)

    found = agreement(outputs, answers, {"matcher": matcher}, 3)
    assert found["chance"] == 0.5
    pairs = {
        "matcher": [compared(own, matcher) for own in outputs],
        "another_seed": [compared(a, b) for a, b in permutations(outputs, 2)],
    }
    for name, rows in pairs.items():
        same, wrong, both = zip(*rows, strict=True)
        assert found[name]["same"]["mean"] == pytest.approx(sum(same) / len(same))
        assert found[name]["same_wrong"]["mean"] == pytest.approx(sum(wrong) / len(wrong))
        assert found[name]["both_wrong"] == list(both)


def test_examples_in_the_docstrings():
    assert doctest.testmod(evaluation) == (0, 3)


# ------------------------------------------------------------------------------------------ formats


def test_outputs_of_main_are_read_and_every_loss_is_counted(dataset, tmp_path):
    records = dataset.test.records
    told = [{**r, "model_output": r["target_text"]} for r in records]
    told[0]["model_output"] = told[1]["model_output"][: -len("</a>")]  # another item's: too long
    told[1] = {**told[1], "model_output": answer_of(records[1])}
    told[2]["model_output"] = f"{records[2]['input_text']}</a>"
    told[3]["model_output"] = None
    told[4]["model_output"] = f"{records[4]['input_text']}<t_99></a>"
    told += [told[5], {**told[6], "model_output": "I do not know"}]
    told.append({"input_text": "<t_0>", "type": "type_0", "model_output": "<t_1>"})
    told.append({**told[8], "type": "type_9"})
    del told[7]
    file = tmp_path / "all_items.json"
    file.write_text(json.dumps(told))
    read = read_predictions(dataset, [file])
    right = dataset.test.targets[:, -1]
    expected = right.copy().astype(int)
    expected[[0, 2, 3, 4]], expected[6], expected[7] = UNPARSABLE, CONTRADICTING, MISSING
    assert read.outputs.tolist() == [expected.tolist()]
    (about,) = read.files
    assert {key: about[key] for key in list(about)[2:]} == {
        **{"records": len(told), "unknown": 2, "double": 2},
        **{"contradicting": 1, "missing": 1, "unparsable": 4},
    }
    # The same as JSON lines, in another order, under another name.
    plain = [{**r, "text": r["model_output"]} for r in told[::-1]]
    for record in plain:
        del record["model_output"]
    again = read_predictions(dataset, [lines(tmp_path / "p.jsonl", plain)])
    assert again.outputs.tolist() == read.outputs.tolist()


def test_an_item_of_two_types_is_told_apart_by_type(small_dataset, tmp_path):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    test = json.loads((folder / "test.json").read_text())
    number = next(i for i, r in enumerate(test) if r["type"] == "type_0")
    test.append({**test[number], "type": "another"})
    (folder / "test.json").write_text(json.dumps(test))
    dataset = load_dataset(folder)
    one = {"input_text": test[number]["input_text"]}
    told = [{**one, "type": "another", "output": "<t_3>"}, {**one, "type": "type_0", "output": "4"}]
    outputs = read_predictions(dataset, [lines(tmp_path / "two.jsonl", told)]).outputs[0]
    assert (outputs[-1], outputs[number]) == (3, UNPARSABLE)
    outputs = read_predictions(dataset, [lines(tmp_path / "one.jsonl", [told[0] | {"type": None}])])
    assert outputs.outputs[0, [number, -1]].tolist() == [3, 3]


def test_chains_of_thought_are_judged_by_their_answers(run_command, tmp_path):
    finished = run_command(
        *("dataset_generation/twohop.py", "--num_tokens", 6, "--max_train_data_num", 60),
        *("--test_size_for_type", 10, "--cot", "--output_dir", tmp_path),
    )
    assert finished.returncode == 0, finished.stderr
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    dataset = load_dataset(folder)
    ends = ["<t_0><t_3></a>", "<t_3>", "<t_0><t_1><t_3></a>", "</a>", "t_3.", "<t_1><t_3>"]
    records = dataset.test.records[: len(ends)]
    told = [
        {"id": int(n), "model_output": end}
        for n, end in zip(dataset.test.numbers, ends, strict=False)
    ]
    told[5] = {**records[5], "model_output": records[5]["input_text"] + ends[5]}
    (outputs,) = read_predictions(dataset, [lines(tmp_path / "p.jsonl", told)]).outputs
    assert outputs[:6].tolist() == [3, 3, UNPARSABLE, UNPARSABLE, 3, 3]


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    """Prompts of 12 items of each type, by template and flags: ``(path, lines)``."""

    def export(template, **settings):
        path = tmp_path_factory.mktemp("prompts") / "p.jsonl"
        prompts = make_prompts(
            dataset, PromptSettings(template=template, max_items=12, output=str(path), **settings)
        )
        write_prompts(prompts, path)
        return path, prompts.lines

    return export


def test_answers_to_exported_prompts_are_read_by_their_names(dataset, exported, tmp_path):
    path, prompts = exported("The child of {x1} and {x2} married {x3}. {}Their child is {t}.")
    names = [line["answer_name"] for line in prompts]
    texts = [names[0], f" {names[1]}.", f"Their child is {names[2]}, of course", f"{names[3]}x"]
    texts += [
        f"The answer is {names[4]}",
        f"{names[5]}\n\nThe child of",
        prompts[6]["completion"],
    ]
    told = [{"id": p["id"], "text": text} for p, text in zip(prompts, texts, strict=False)]
    read = read_predictions(dataset, [lines(tmp_path / "answers.jsonl", told)], path)
    rows = [p["id"] - 1 for p in prompts[: len(texts)]]
    expected = [dataset.codec.encode(p["answer"])[0] for p in prompts[: len(texts)]]
    expected[3] = expected[4] = UNPARSABLE
    assert read.outputs[0, rows].tolist() == expected
    assert read.files[0]["missing"] == len(dataset.test) - len(texts)


def test_a_chain_in_words_is_read_up_to_its_answer(dataset, exported, tmp_path):
    template = "{x1}, {x2}, {x3}: {}by {b} it is {t}."
    path, prompts = exported(template, cot=True)
    first, second = prompts[:2]
    told = [
        {"id": first["id"], "output": first["completion"]},
        # Only a name: it could be the bridge's as well.
        {"id": second["id"], "output": second["answer_name"]},
    ]
    (outputs,) = read_predictions(dataset, [lines(tmp_path / "a.jsonl", told)], path).outputs
    assert outputs[first["id"] - 1] == dataset.codec.encode(first["answer"])[0]
    assert outputs[second["id"] - 1] == UNPARSABLE


def test_records_of_answers_are_read_back(dataset, tmp_path):
    answers = [answer_of(record) for record in dataset.test.records]
    answers[3] = None
    file = lines(tmp_path / "p.jsonl", prediction_records(dataset, answers))
    (outputs,) = read_predictions(dataset, [file]).outputs
    right = dataset.test.targets[:, -1].tolist()
    assert outputs.tolist() == [*right[:3], UNPARSABLE, *right[4:]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"id": 1, "model_output": "<t_1>"}\n{"id": 2', ["line 2 is not valid JSON"]),
        ("[1]", ["record 1 is no JSON object"]),
        ('{"model_output": "<t_1>"}', ["line 1 has neither input_text", "nor id"]),
        ('{"id": true, "model_output": "<t_1>"}', ["line 1 has neither"]),
        ('{"input_text": "<t_1>", "type": [1], "output": ""}', ["has the type [1]", "no text"]),
        ('{"id": 1, "completion": "<t_1>"}', ["line 1 lacks", "model_output, prediction, output"]),
        ('{"id": 1, "model_output": 5}', ["line 1 holds 5 under model_output"]),
        ('{"id": 100000, "model_output": "<t_1>"}', ["of its 1 record none is about"]),
        ("", ["of its 0 records none is"]),
    ],
)
def test_files_that_are_no_predictions_are_refused(dataset, tmp_path, content, words):
    file = tmp_path / "p.json"
    file.write_text(content)
    with pytest.raises(InputError) as refusal:
        read_predictions(dataset, [file])
    for word in (str(file), *words):
        assert word in str(refusal.value)


def test_prompts_of_other_items_are_refused(dataset, exported, tmp_path):
    path, prompts = exported("{x1} {x2} {x3} {t}")
    file = lines(tmp_path / "p.jsonl", [{"id": 1, "text": "a"}])
    with pytest.raises(InputError, match="what they were made from is not beside it"):
        read_predictions(dataset, [file], tmp_path / "none.jsonl")
    about = path.with_suffix(".about.json")
    content = json.loads(about.read_text())
    for key, value, words in (
        ("sha256", {"test.json": "0"}, "of other items"),
        ("settings", {**content["settings"], "split": "train"}, "of train.json, not test.json"),
        ("names", {}, "is not what prompts were made from"),
        ("names", dict.fromkeys(content["names"], 5), "a name is no text"),
    ):
        about.write_text(json.dumps({**content, key: value}))
        with pytest.raises(InputError, match=words):
            read_predictions(dataset, [file], path)


# -------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def graded(small_dataset, tmp_path_factory):
    """A data set whose test items say what coverage makes of them, and predictions of two seeds."""
    base = tmp_path_factory.mktemp("graded")
    folder = base / small_dataset.name
    shutil.copytree(small_dataset, folder)
    dataset, rng, records = load_dataset(folder), np.random.default_rng(1), []
    for record in dataset.test.records:
        k, token = int(rng.integers(0, 4)), f"<t_{rng.integers(10)}>"
        answer = answer_of(record) if rng.random() < k / 3 else token
        own = {"coverage": k > 0, "k_cutoff": k, "support": k + rng.random()}
        own |= {"matcher_answer": answer if k else None, "matcher_probability": k / 4}
        records.append({**record, **own, "learner_answer": answer, "learner_score": rng.random()})
    write_annotations(dataset, "test_annotated.json", records)
    files = []
    for seed in (1, 2):
        answers = [
            one["learner_answer"] if rng.random() < 0.7 else f"<t_{rng.integers(10)}>"
            for one in records
        ]
        files.append(lines(base / f"seed_{seed}.jsonl", prediction_records(dataset, answers)))
    return folder, files


def test_the_command_writes_what_the_library_finds(graded, run_command, tmp_path):
    folder, files = graded
    finished = run_command(
        COMMAND, "--data_dir", folder, "--predictions", *files, "--output_dir", tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    written = json.loads((tmp_path / "evaluation.json").read_text())
    dataset = load_dataset(folder)
    found = evaluate_predictions(
        dataset, read_predictions(dataset, files), data.test_records(dataset)
    )
    assert written == found and found["absent"] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"evaluation.{kind}" for kind in ("html", "json", "pdf", "png")
    ]
    page = (tmp_path / "evaluation.html").read_text()
    for shown in ("mean of the others", "score \N{MINUS SIGN} support", "same wrong answer"):
        assert shown in finished.stdout and shown in page
    assert "http" not in page.split("<body")[1]
    by_hand = [
        json.loads(line)["model_output"] == record["target_text"]
        for line, record in zip(files[0].open(), dataset.test.records, strict=True)
        if record["type"] == "type_0"
    ]
    assert found["accuracy"]["by_type"]["type_0"]["right"][0] == sum(by_hand)
    bins = found["accuracy"]["by_support"]
    assert sum(one["items"] for one in bins) == len(by_hand)
    assert all(a["to"] < b["from"] for a, b in zip(bins, bins[1:], strict=False))
    assert max(one["items"] for one in bins) - min(one["items"] for one in bins) <= 1


def test_annotations_of_another_name_are_read_where_they_are_named(graded, run_command, tmp_path):
    """And items that are all of one kind are shown once: without other types, no 'all unseen'."""
    folder = tmp_path / graded[0].name
    shutil.copytree(graded[0], folder)
    test = json.loads((folder / "test.json").read_text())
    test = [record for record in test if record["type"] in ("train_inferred", "type_0")]
    (folder / "test.json").write_text(json.dumps(test))
    (folder / "test_annotated.json").unlink()
    dataset, name = load_dataset(folder), "test_annotated_noise-0.1.json"
    noted = [{**r, "coverage": True, "k_cutoff": 7 + n % 2} for n, r in enumerate(test)]
    write_annotations(dataset, name, noted)
    file = lines(
        tmp_path / "p.jsonl", [{"id": n, "output": "t_1"} for n in range(1, 1 + len(test))]
    )
    command = (COMMAND, "--data_dir", folder, "--predictions", file, "--output_dir", tmp_path / "o")
    finished = run_command(*command)
    assert f"Not read is what other runs wrote: --annotated {name}." in finished.stdout
    assert "Accuracy by k-cutoff" not in finished.stdout
    finished = run_command(*command, "--annotated", name)
    assert finished.returncode == 0 and "Not read" not in finished.stdout
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())
    assert set(found["accuracy"]["by_k_cutoff"]) == {"7", "8"} and name in found["sha256"]
    assert "type_0 items" in finished.stdout and "all unseen items" not in finished.stdout
    noted[0]["input_text"] = noted[1]["input_text"]
    write_annotations(dataset, name, noted)
    finished = run_command(*command, "--annotated", folder / name)
    assert finished.returncode == 1 and f"{name} does not belong to test.json" in finished.stderr


def test_one_file_of_some_items_without_annotations(small_dataset, run_command, tmp_path):
    test = json.loads((small_dataset / "test.json").read_text())
    told = [{"id": n, "output": "t_1"} for n, r in enumerate(test, 1) if r["type"] == "type_0"]
    file = lines(tmp_path / "p.jsonl", told[:30])
    out = tmp_path / "out"
    finished = run_command(
        COMMAND, "--data_dir", small_dataset, "--predictions", file, "--output_dir", out
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads((out / "evaluation.json").read_text())
    assert found["groups"]["type_0"]["items"] == 30
    assert found["groups"]["type_0"]["left_out"] == len(told) - 30
    assert "are of the 30 of which every file has a prediction" in finished.stdout
    assert "of those answered" in finished.stdout
    assert "Without k_cutoff, support" in finished.stdout
    assert "determine_coverage.py --k_sweep --graded" in finished.stdout
    assert "another_seed" not in found["groups"]["type_0"]["auc"]


def test_outputs_that_name_no_answer_give_a_warning(small_dataset, run_command, tmp_path):
    file = lines(tmp_path / "p.jsonl", [{"id": 1, "output": "Bede"}, {"id": 2, "output": "Gasa"}])
    finished = run_command(
        COMMAND, "--data_dir", small_dataset, "--predictions", file, "--output_dir", tmp_path / "o"
    )
    assert finished.returncode == 0, finished.stderr
    assert "most outputs name no answer, such as line 1: 'Bede'; give --prompts" in finished.stderr


def test_refusals_name_the_flag(small_dataset, run_command, refused, tmp_path):
    file = lines(tmp_path / "p.jsonl", [{"id": 1, "output": "t_1"}])
    command = (COMMAND, "--data_dir", small_dataset, "--output_dir", tmp_path / "out")
    finished = run_command(*command, "--predictions", file, file)
    refused(finished, f"--predictions {file} is given twice")
    finished = run_command(*command, "--predictions", file, "--prompts", tmp_path / "q.jsonl")
    refused(finished, f"--prompts {tmp_path / 'q.jsonl'}")
    finished = run_command(*command, "--predictions", tmp_path / "none.json")
    refused(finished, "none.json does not exist")
    finished = run_command(*command, "--predictions", file, "--annotated", "test.json")
    refused(finished, "--annotated test.json", "it has none: run determine_coverage.py on it")
    finished = run_command(*command, "--predictions", file, "--annotated", file)
    refused(finished, f"--annotated {file} lies in another folder")
    assert not (tmp_path / "out").exists()

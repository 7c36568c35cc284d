"""The generators, the data-set card and script/validate_dataset.py as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from coverage_principle.data import evaluate, load_dataset, validate
from coverage_principle.data.tables import seen_calls
from coverage_principle.experiments.settings import command_parser
from coverage_principle.tasks import TASKS
from tests.conftest import ROOT

SMALL = ("--num_tokens", 6, "--max_train_data_num", 60, "--test_size_for_type", 20)
TWOHOP = ("dataset_generation/twohop.py", *SMALL)


@pytest.mark.parametrize(
    ("command", "flags", "name"),
    [
        ("twohop", (), "twohop.6.60.diff-f12.inf"),
        ("twohop", ("--cot", "--fake_bridge"), "twohop.6.60.diff-f12.fakebridge"),
        ("twohop", ("--same_f12", "--debug"), "twohop.6.60.same-f12.inf"),
        ("twohop", ("--same_f12", "--separate_seen"), "twohop.6.60.same-f12.inf.separate-seen"),
        ("threehop", ("--cot",), "threehop.6.60.diff-f123.cot"),
        ("threehop", ("--fake_bridge", "--same_f123"), "threehop.6.60.same-f123.fakebridge"),
        ("fivehop", (), "fivehop.6.60.cot"),
        ("fivehop", ("--no-cot", "--validation_size", 5), "fivehop.6.60.inf"),
        ("nontree", ("--cot",), "nontree.6.60.diff-f12.cot"),
        ("nontree", ("--same_f12", "--atomic_format", "npz"), "nontree.6.60.same-f12.inf"),
        ("parallel-twohop", (), "parallel2hop.6.60.diff-f123.inf"),
        (
            "parallel-twohop",
            ("--same_f123", "--include_atomic"),
            "parallel2hop.6.60.same-f123.include-atomic",
        ),
        (
            "parallel-twohop",
            ("--same_f123", "--include_atomic", "--cot"),
            "parallel2hop.6.60.same-f123.include-atomic-cot",
        ),
        (
            "twohop",
            ("--function_family", "commutative", "--atomic_facts", "seen"),
            "twohop.6.60.diff-f12.inf.commutative",
        ),
    ],
)
def test_flags_and_folder_names(run_command, tmp_path, command, flags, name):
    finished = run_command(
        f"dataset_generation/{command}.py", *SMALL, *flags, "--output_dir", tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    assert [p.name for p in tmp_path.iterdir()] == [name]
    dataset, problems = validate(tmp_path / name)
    assert problems == []
    assert dataset.graph == TASKS[name.split(".")[0]]
    assert len(dataset.train) == 60
    values = evaluate(dataset.graph, dataset.tables(), dataset.train.inputs)
    targets = {"cot": [*dataset.graph.bridges, dataset.graph.answer]}.get(
        name.split(".")[-1], [dataset.graph.answer]
    )
    for column, value in enumerate(reversed(targets), start=1):
        assert np.array_equal(dataset.train.targets[:, -column], values[value])
    if "--same_f12" in flags and command == "twohop":
        assert np.array_equal(*dataset.tables())
    if "--include_atomic" in flags:
        assert len(dataset.train.facts) == dataset.metadata["counts"]["atomic_facts_in_train"] > 0
    if "--validation_size" in flags:
        assert len(dataset.valid) == 5 * 33


def test_published_defaults(run_command):
    """Defaults of REFERENCE 1.3, read from --help."""
    for command, sizes in {
        "twohop": (382000, 2000),
        "threehop": (382000, 3000),
        "parallel-twohop": (382000, 3000),
        "nontree": (382000, 2000),
        "fivehop": (600000, 2000),
    }.items():
        shown = re.sub(
            r"\s+", " ", run_command(f"dataset_generation/{command}.py", "--help").stdout
        )
        for words in (
            f"(default: {sizes[0]})",
            f"(default: {sizes[1]})",
            "(default: 0.7)",
            "(default: 42)",
        ):
            assert words in shown, (command, words)


_COMMON = (
    "num_tokens max_train_data_num default_seen_ratio test_size_for_type validation_size seed "
    "label_noise function_family atomic_facts atomic_format output_dir overwrite"
)


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("twohop", "cot fake_bridge same_f12 separate_seen facts"),
        ("threehop", "cot fake_bridge same_f123 separate_seen facts"),
        ("fivehop", "cot no-cot"),
        ("nontree", "cot same_f12"),
        ("parallel-twohop", "cot same_f123 separate_seen include_atomic facts"),
        (
            "custom",
            "task cot fake_bridge same_function separate_seen include_atomic facts alphabets",
        ),
    ],
)
def test_a_generator_has_the_flags_of_all_and_its_own(command, own):
    parser = command_parser(f"dataset_generation/{command}.py")
    flags = {option for action in parser._actions for option in action.option_strings}
    assert flags - {"-h", "--help"} == {f"--{name}" for name in f"{_COMMON} {own}".split()}
    needed = {action.dest for action in parser._actions if action.required}
    assert needed == {"num_tokens"} | ({"task"} & {*own.split()})


def test_same_arguments_give_the_same_bytes(run_command, tmp_path):
    for sub, hash_seed in (("a", "1"), ("b", "2")):
        run_command(*TWOHOP, "--output_dir", tmp_path / sub, env={"PYTHONHASHSEED": hash_seed})
    name = "twohop.6.60.diff-f12.inf"
    files = sorted(p.name for p in (tmp_path / "a" / name).iterdir())
    assert files == [
        "README.md",
        "atomic_facts_f1.json",
        "atomic_facts_f2.json",
        "bridges.png",
        "metadata.json",
        "test.json",
        "train.json",
        "vocab.json",
    ]
    for file in files:
        assert (tmp_path / "a" / name / file).read_bytes() == (
            tmp_path / "b" / name / file
        ).read_bytes(), file


def test_other_contents_are_only_overwritten_on_request(run_command, refused, tmp_path):
    out = ("--output_dir", tmp_path)
    run_command(*TWOHOP, *out)
    train = tmp_path / "twohop.6.60.diff-f12.inf" / "train.json"
    before = train.read_bytes()
    annotated = train.with_name("test_annotated.json")
    annotated.write_text("[]")
    again = run_command(*TWOHOP, *out)
    assert again.returncode == 0
    assert "unchanged" in again.stdout
    assert annotated.exists()
    refused(run_command(*TWOHOP, *out, "--seed", 1), "--overwrite")
    assert train.read_bytes() == before
    assert run_command(*TWOHOP, *out, "--seed", 1, "--overwrite").returncode == 0
    assert train.read_bytes() != before
    assert not annotated.exists()  # it described the replaced data
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("twohop", ("--max_train_data_num", 500), ("--max_train_data_num 500", "give at most")),
        ("twohop", ("--default_seen_ratio", 0), ("give at most 0",)),
        ("parallel-twohop", ("--include_atomic",), ("--include_atomic needs one function",)),
        ("fivehop", ("--num_tokens", 2, "--default_seen_ratio", 0.3), ("give at most",)),
    ],
)
def test_refusals_write_nothing(run_command, refused, tmp_path, command, flags, words):
    finished = run_command(
        f"dataset_generation/{command}.py", *SMALL, *flags, "--output_dir", tmp_path / "out"
    )
    refused(finished, *words)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_seed_below_zero_is_a_usage_error_and_writes_nothing(run_command, refused, tmp_path):
    finished = run_command(*TWOHOP, "--seed", -3, "--output_dir", tmp_path / "out")
    refused(finished, "--seed: -3 is too small", status=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(run_command, refused, tmp_path):
    (tmp_path / "file").write_text("")
    refused(run_command(*TWOHOP, "--output_dir", tmp_path / "file"), "file")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        finished = run_command(*TWOHOP, "--output_dir", tmp_path / "locked")
        refused(finished, "Permission denied")


def test_a_world_that_does_not_fit_is_one_sentence(refused, tmp_path):
    """A limit on address space stands for a small machine: nontree's f2 has 64 million facts."""
    limited = (
        "import resource, runpy, sys\n"
        "import numpy, coverage_principle.reporting.dataset_card\n"
        "with open('/proc/self/statm') as file:\n"
        "    used = int(file.read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))\n"
        f"sys.path.insert(0, {str(ROOT / 'dataset_generation')!r})\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("the used address space is read from /proc")
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            limited,
            str(ROOT / "dataset_generation/nontree.py"),
            "--num_tokens",
            "400",
            "--max_train_data_num",
            "10",
            "--output_dir",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    refused(finished, "does not fit into memory", "ask for something smaller")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_the_old_data(run_command, refused, tmp_path):
    """A limit on file size stands for a full disk: writing fails in the middle of train.json."""
    run_command(*TWOHOP, "--output_dir", tmp_path)
    folder = tmp_path / "twohop.6.60.diff-f12.inf"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        f"sys.path.insert(0, {str(ROOT / 'dataset_generation')!r})\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            limited,
            str(ROOT / TWOHOP[0]),
            *map(str, TWOHOP[1:]),
            "--seed",
            "5",
            "--overwrite",
            "--output_dir",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    refused(finished, "File too large")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_card_tells_what_the_files_hold(run_command, tmp_path):
    run_command(*TWOHOP, "--validation_size", 3, "--output_dir", tmp_path)
    folder = tmp_path / "twohop.6.60.diff-f12.inf"
    card = (folder / "README.md").read_text()
    metadata = json.loads((folder / "metadata.json").read_text())
    command = re.search(r"^    (python .*)$", card, flags=re.MULTILINE)[1]
    assert "--output_dir" not in command
    for split in ("test", "valid"):
        for label, count in metadata["counts"][split].items():
            assert f"| {split}, {TASKS['twohop'].explained(label)} | {count} |" in card
    for primitive in metadata["primitives"]:
        assert f"| {primitive['name']} | 36 | {primitive['expected_seen']} |" in card
    # Its command makes the same data set again.
    again = tmp_path / "again"
    subprocess.run(
        f"{command.replace('python', sys.executable, 1)} --output_dir {again}",
        shell=True,
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for file in folder.iterdir():
        assert file.read_bytes() == (again / folder.name / file.name).read_bytes()


# ------------------------------------------------------------------------------- tasks of one's own


@pytest.mark.parametrize("task", ["diamond", "ternary", "recall", "family"])
def test_a_task_from_a_file_goes_through_every_stage(run_command, tmp_path, task):
    own, end = {"family": (("--alphabets", "relation=7", "--facts", "all"), ".facts-all")}.get(
        task, ((), "")
    )

    def run(script, *arguments):
        finished = run_command(script, *arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    run(
        "dataset_generation/custom.py",
        "--task",
        ROOT / "docs" / "tasks" / f"{task}.json",
        "--num_tokens",
        5,
        "--max_train_data_num",
        40,
        "--test_size_for_type",
        30,
        "--output_dir",
        tmp_path,
        *own,
    )
    data = tmp_path / f"{task}.5.40.diff.inf{end}"
    assert validate(data)[1] == []
    assert "k-sweep" in run(
        "determine_coverage.py", "--data_dir", data, "--k_sweep", "--output_dir", tmp_path / "sweep"
    )
    trained = tmp_path / "run"
    run(
        "main.py",
        "--data_dir",
        data,
        "--output_dir",
        trained,
        "--do_train",
        "--max_steps",
        2,
        "--model_name_or_path",
        "gpt2",
        "--init_weights",
        "--n_layer",
        2,
        "--n_head",
        2,
        "--n_embd",
        16,
        "--device",
        "cpu",
    )
    for script in ("trace.py", "lens.py"):
        run(
            f"circuit_analysis/{script}",
            "--model_dir",
            trained,
            "--save_dir",
            tmp_path / script,
            "--device",
            "cpu",
            "--step_list",
            "final_checkpoint",
        )
    read, dataset = np.load(tmp_path / "lens.py" / "run.npz"), load_dataset(data)
    for row, wanted in zip(read["test_rows"], read["wanted"], strict=True):
        answer = dataset.codec.vocabulary[wanted[-1]]
        assert dataset.test.records[row]["target_text"].endswith(f"{answer}</a>")
    run(
        "circuit_analysis/cluster.py",
        "--ckpt",
        trained / "final_checkpoint",
        "--save_dir",
        tmp_path / "cosine",
        "--device",
        "cpu",
    )


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ((), "diff.inf"),
        (("--same_function", "--fake_bridge"), "same.fakebridge"),
        (("--same_function", "--include_atomic"), "same.include-atomic-inf"),
        (("--same_function", "--include_atomic", "--cot"), "same.include-atomic-cot"),
    ],
)
def test_folder_names_of_a_task_from_a_file(run_command, tmp_path, flags, kind):
    task = ("--task", ROOT / "docs" / "tasks" / "diamond.json")
    finished = run_command(
        "dataset_generation/custom.py", *task, *SMALL, *flags, "--output_dir", tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    assert [p.name for p in tmp_path.iterdir()] == [f"diamond.6.60.{kind}"]
    assert validate(tmp_path / f"diamond.6.60.{kind}")[1] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {
                "functions": [
                    {"name": "f1", "output": "b", "sources": ["x1", "c"]},
                    {"name": "f2", "output": "c", "sources": ["b", "x2"]},
                ]
            },
            "cycle",
        ),
        ({"functions": [{"name": "f1", "output": "b", "sources": ["x1"]}]}, "'x2' is never used"),
        ({"functions": [{"name": "f1", "output": "b", "sources": ["x1", "q"]}]}, "'q'"),
        ({"functions": []}, "nothing gives the answer"),
        (
            {
                "functions": [
                    {"name": "f1", "output": "b", "sources": ["x1"]},
                    {"name": "f2", "output": "c", "sources": ["x2"]},
                ]
            },
            "'b' is never used",
        ),
        ({"functions": [{"name": "f1", "output": "b", "sources": "x1"}]}, "list of names"),
        ({"answer": "x1"}, "the answer is said to be 'x1'"),
        ({"name": "my task"}, "'my task'"),
        ({"functions": [{"name": "a/b", "output": "b", "sources": ["x1", "x2"]}]}, "name 'a/b'"),
        ({"functions": [{"name": "f1", "output": "", "sources": ["x1", "x2"]}]}, "name ''"),
        ({"inputs": ["x1", "x,2"]}, "name 'x,2'"),
        ({"name": "twohop"}, "twohop"),
        ({"inputs": None}, "'inputs'"),
    ],
)
def test_an_invalid_task_is_refused_with_its_node(run_command, refused, tmp_path, change, words):
    task = {
        "name": "mine",
        "inputs": ["x1", "x2"],
        "functions": [{"name": "f1", "output": "b", "sources": ["x1", "x2"]}],
    }
    file = tmp_path / "task.json"
    file.write_text(json.dumps({**task, **change}))
    finished = run_command(
        "dataset_generation/custom.py", "--task", file, *SMALL, "--output_dir", tmp_path / "out"
    )
    refused(finished, words)
    assert not (tmp_path / "out").exists()


def test_functions_may_come_in_any_order(run_command, tmp_path):
    task = json.loads((ROOT / "docs" / "tasks" / "diamond.json").read_text())
    task["functions"] = task["functions"][::-1]
    (tmp_path / "task.json").write_text(json.dumps(task))
    finished = run_command(
        "dataset_generation/custom.py",
        "--task",
        tmp_path / "task.json",
        "--num_tokens",
        4,
        "--max_train_data_num",
        20,
        "--test_size_for_type",
        10,
        "--output_dir",
        tmp_path / "out",
        "--cot",
    )
    assert finished.returncode == 0, finished.stderr
    dataset = load_dataset(tmp_path / "out" / "diamond.4.20.diff.cot")
    assert set(dataset.graph.bridges) == {"b", "c", "d"}
    assert dataset.graph.bridges[0] == "b"
    assert dataset.graph.answer == "t"


# ------------------------------------------------------------------------------------- validation


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


def test_every_problem_is_listed_with_file_and_record(run_command, folder):
    def edit(name, change):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    def spoil_train(records):
        records[3]["input_text"] = "<t_99><t_0><t_0>"
        records[5].pop("target_text")
        records.append(dict(records[7]))
        right = records[9]["target_text"]
        wrong = "<t_0></a>" if not right.endswith("<t_0></a>") else "<t_1></a>"
        records[9]["target_text"] = records[9]["input_text"] + wrong

    def spoil_test(records):
        first = next(i for i, r in enumerate(records) if r["type"] == "type_2")
        records[first]["type"] = "type_1"
        records[first + 1]["type"] = "type_9"
        spoilt.append(first + 1)
        leaked = json.loads((folder / "train.json").read_text())[20]
        records.append({**leaked, "type": "type_0"})

    spoilt: list[int] = []
    edit("test.json", spoil_test)
    edit("train.json", spoil_train)
    finished = run_command("script/validate_dataset.py", folder)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    out = finished.stdout
    for words in (
        "problem: train.json record 4: token <t_99>",
        "problem: train.json record 6: it must be an object",
        "problem: train.json records 8 and 201: input",
        "problem: train.json record 10: the target holds",
        f"problem: test.json record {spoilt[0]}: type is type_1, but by the tables and train.json "
        "it is type_2",
        f"problem: test.json record {spoilt[0] + 1}: type 'type_9' is not one of",
        "items that should be unseen are training items, this one first",
        "problem: 2 files were changed: their SHA-256 is not that in metadata.json: train.json, "
        "test.json\n",
        "records left out, for the problems above: 2 of train.json; so it is not checked whether",
    ):
        assert words in out, out
    assert "\n7 problems, 2 notes\n" in out


@pytest.mark.parametrize("change_is_known", [True, False])
def test_a_wrong_vocabulary_is_one_problem(run_command, folder, change_is_known):
    """Counted by hand: which records of which file hold the two tokens that are lacking."""
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps([t for t in vocabulary if t[3:4] not in "89"]))
    if not change_is_known:
        metadata = json.loads((folder / "metadata.json").read_text())
        del metadata["sha256"]
        (folder / "metadata.json").write_text(json.dumps(metadata))
    texts = {
        file.name: [record["target_text"] for record in json.loads(file.read_text())]
        for file in (*folder.glob("t*.json"), *folder.glob("atomic_facts_*.json"))
    }
    lacking = {name: [("8>" in t, "9>" in t) for t in own] for name, own in texts.items()}
    total = sum(map(any, chain.from_iterable(lacking.values())))
    finished = run_command("script/validate_dataset.py", folder, "--all")
    out = finished.stdout
    assert finished.returncode == 1 and "has no records" not in out
    assert out.count("problem: ") == 1 and "\n1 problem, 1 note\n" in out
    assert f"problem: {total:,} records hold tokens that vocab.json lacks: " in out
    for place, token in enumerate(("<t_8>", "<t_9>")):
        times = sum(pair[place] for pair in chain.from_iterable(lacking.values()))
        assert f"{token} ({times:,} times)" in out
    for name, own in lacking.items():
        numbers = [str(number) for number, pair in enumerate(own, start=1) if any(pair)]
        assert f"\n  {name}: {len(numbers)} (records {', '.join(numbers)})\n" in out
    told = "put the right vocab.json back" + ("" if change_is_known else ", or add the tokens")
    assert f"  what to do: {told}" in out
    short = run_command("script/validate_dataset.py", folder).stdout
    assert len(short.splitlines()) == len(out.splitlines()) < 12
    first = [n for n, pair in enumerate(lacking["train.json"], start=1) if any(pair)][:3]
    assert f"\n  train.json: {sum(map(any, lacking['train.json']))} (records {first[0]}, " in short
    assert f" {first[2]} ...)\n" in short


def test_what_follows_from_a_problem_is_no_problem_of_its_own(run_command, folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["task"]["inputs"].append("x4")
    metadata["task"]["functions"][1]["sources"].append("x4")
    (folder / "metadata.json").write_text(json.dumps(metadata))
    out = run_command("script/validate_dataset.py", folder).stdout
    total = sum(
        len(json.loads((folder / f"{name}.json").read_text())) for name in ("train", "test")
    )
    assert out.startswith(f"problem: {total} records have another number of input tokens than ")
    assert "has no record that can be used, for the problems above: nothing else is checked" in out
    assert out.endswith("\n1 problem, 1 note\n")


def test_tables_of_other_data_are_one_problem(run_command, folder):
    facts = json.loads((folder / "atomic_facts_f1.json").read_text())
    for fact in facts:
        fact["target_text"] = f"{fact['input_text']}<t_0></a>"
    (folder / "atomic_facts_f1.json").write_text(json.dumps(facts))
    out = run_command("script/validate_dataset.py", folder).stdout
    assert "problem: train.json: the tables give other answers for " in out
    assert "what to do: put the right atomic_facts_f1.json back: changed since" in out
    assert out.endswith("\n1 problem, 0 notes\n")


def test_a_type_is_wrong_unless_records_left_out_may_explain_it(folder):
    def wrong_types(train):
        (folder / "train.json").write_text(json.dumps(train))
        _, problems = validate(folder)
        return [p.records for p in problems if p.file == "test.json" and "type is" in p.reason]

    train, test = (json.loads((folder / f"{name}.json").read_text()) for name in ("train", "test"))
    unseen = next(i for i, record in enumerate(test) if record["type"] == "type_1")
    test[unseen]["type"] = "type_2"  # f2 unseen too, it says, unless a damaged record shows it
    seen = {**train[-1], "type": "type_3"}  # its calls are seen, whatever the others show
    (folder / "test.json").write_text(json.dumps([*test, seen]))
    assert wrong_types(train) == [(unseen + 1,), (len(test) + 1,)]
    damaged = [{**record, "target_text": "<t_0>"} for record in train[:-1]]
    assert wrong_types([*damaged, train[-1]]) == [(len(test) + 1,)]


def test_the_data_set_that_comes_with_the_repository_is_in_order():
    dataset, problems = validate(ROOT / "data" / "twohop.20.1500.diff-f12.inf")
    assert problems == []
    assert len(dataset.train) == 1500


def test_a_good_data_set_has_no_problem(run_command, folder):
    finished = run_command("script/validate_dataset.py", folder)
    assert finished.returncode == 0, finished.stdout
    assert "0 problems, 0 notes" in finished.stdout
    (folder / "metadata.json").unlink()
    finished = run_command("script/validate_dataset.py", folder)
    assert finished.returncode == 0, finished.stdout
    assert "note: metadata.json: it is not there" in finished.stdout
    (folder / "vocab.json").write_text("{")
    finished = run_command("script/validate_dataset.py", folder)
    assert finished.returncode == 1
    assert f"problem: {folder.name}: vocab.json is not valid JSON" in finished.stdout


def test_one_function_can_have_a_seen_split_for_each_place(run_command, tmp_path, refused):
    """The same facts, but some are seen in one hop only, and f1 is seen as without the flag."""
    seen = {}
    for flags in ((), ("--separate_seen",)):
        finished = run_command(
            "dataset_generation/twohop.py",
            "--num_tokens",
            8,
            "--max_train_data_num",
            200,
            "--same_f12",
            *flags,
            "--output_dir",
            tmp_path,
        )
        assert finished.returncode == 0, finished.stderr
        name = "twohop.8.200.same-f12.inf" + (".separate-seen" if flags else "")
        dataset = load_dataset(tmp_path / name)
        first, second = dataset.tables()
        assert (first == second).all()
        seen[flags] = seen_calls(dataset.graph, dataset.tables(), dataset.train.inputs)
    shared, separate = seen.values()
    together = shared[0] | shared[1]
    assert together.sum() <= round(0.7 * 64)  # one split
    assert (separate[0] & ~separate[1]).sum() > 5 < (separate[1] & ~separate[0]).sum()
    finished = run_command(*TWOHOP, "--separate_seen", "--output_dir", tmp_path)
    refused(finished, "--separate_seen", "--same_f12")

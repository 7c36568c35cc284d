"""Every refusal is a sentence, before the work; names are text; consoles may lack letters."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from coverage_principle.cli import command_parser, positive
from coverage_principle.data import validate
from coverage_principle.errors import InputError
from coverage_principle.experiments import read_spec
from coverage_principle.experiments.claims.scaling import _has_unseen
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.reporting.html import as_markdown
from coverage_principle.reporting.run_card import write_run_card
from simpletransformers.seq2seq import Seq2SeqModel
from simpletransformers.seq2seq.run_folder import RunFolder
from tests.conftest import ROOT
from tests.test_trainer import TOKENS, pairs, tiny_model

LONG = "n" * 300
GENERATE = ("dataset_generation/twohop.py", "--num_tokens", 5, "--max_train_data_num", 30)


def new_model(model_type="gpt2", **sizes):
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, **sizes}
    return Seq2SeqModel(model_type, "gpt2", sizes, TOKENS, init_weights=True, device="cpu")


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mamba"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_embd", 10**8),
        ("n_embd", 10**12),
        ("n_layer", 10**9),
        ("n_inner", 8 * 10**12),
        ("pad_vocab_to", 10**12),
    ],
)
def test_a_model_beyond_memory_is_refused_before_it_is_made(model_type, name, value):
    with pytest.raises(InputError, match="a model of `n_layer` .* has .*; ask for a smaller one"):
        new_model(model_type, **{name: value})


def test_looking_at_a_models_size_does_not_change_its_weights():
    first = next(new_model(manual_seed=3).model.parameters())
    torch.manual_seed(3)
    torch.manual_seed(3)
    assert torch.equal(first, next(new_model(manual_seed=3).model.parameters()))


def test_a_refused_value_with_a_line_break_is_one_line(capsys):
    parser = command_parser("about")
    parser.add_argument("--number", type=positive)
    parser.add_argument("--choice", choices=("a",))
    for flag in ("--number", "--choice"):
        with pytest.raises(SystemExit):
            parser.parse_args([flag, "1\n2"])
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"error: argument {flag}: " in last and "1\\n2" in last


def test_a_gpu_out_of_memory_is_a_sentence(capsys):
    from coverage_principle.cli import run

    def main(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has ...")

    with pytest.raises(SystemExit) as left:
        run(command_parser(""), main, [])
    said = capsys.readouterr().err
    assert left.value.code == 1 and "does not fit into memory (CUDA out of memory)" in said


def test_what_is_predicted_may_be_nothing_too_long_or_no_token():
    model = new_model(pad_vocab_to=40)
    assert model.predict([], 2) == []
    with pytest.raises(InputError, match="a prompt of 2000 tokens and 2 more do not fit into the"):
        model.predict(["<t_1>" * 2000], 2)
    with torch.no_grad():
        body = model.model.transformer
        body.ln_f.weight.zero_()
        body.ln_f.bias.fill_(10)
        body.wte.weight[39] = 1.0  # the best, whatever the prompt
    assert model.predict(["<t_1>"], 2) == ["<t_1><row_39><row_39></a>"]


@pytest.mark.parametrize("seed", ["-1", str(2**64), "9" * 5000])
@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("dataset_generation/twohop.py", "--seed"),
        ("main.py", "--manual_seed"),
        ("circuit_analysis/trace.py", "--seed"),
        ("circuit_analysis/cluster.py", "--seed"),
        ("circuit_analysis/measure.py", "--seed"),
        ("script/quickstart.py", "--seed"),
    ],
)
def test_seeds_are_refused_by_parsers(script, flag, seed):
    from coverage_principle.experiments.settings import command_parser

    with pytest.raises(InputError, match=f"{flag}: (invalid|.*too (small|large))"):
        command_parser(script).parse_args([flag, seed])


def test_a_sweep_refuses_what_its_commands_would_and_keeps_nothing(tmp_path, run_command, refused):
    data = {"num_tokens": 5, "max_train_data_num": 30}
    for bad, words in (
        ({"data": {**data, "seed": -1}}, "-1 is too small"),
        ({"data": data, "coverage": {"suggest": 5}}, "suggest"),
        ({"data": data, "coverage": 5}, "coverage must be an object"),
        ({"data": data, "train": {"learning_rate": -1}}, "-1.0 is too small"),
    ):
        (tmp_path / "spec.json").write_text(json.dumps({"base": bad}))
        with pytest.raises(InputError, match=words):
            read_spec(tmp_path / "spec.json")
        refused(run_command("script/run_sweep.py", "spec.json", "--output_dir", "s", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]


@pytest.mark.parametrize("place", [LONG, "loop/x", "file/x"])
def test_places_are_refused_before_the_work(tmp_path, run_command, refused, small_dataset, place):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    for command in (
        (*GENERATE, "--output_dir", place),
        ("determine_coverage.py", "--data_dir", small_dataset, "--k_sweep", "--output_dir", place),
        (
            "determine_coverage.py",
            "--data_dir",
            small_dataset,
            "--suggest",
            3,
            "--output_dir",
            place,
        ),
        ("script/required_data.py", "--num_tokens", 4, "--output_dir", place),
        ("script/coverage_by_phi.py", "--num_entities", 50, "--output_dir", place),
        ("dataset_generation/grokked.py", "--num_entities", 50, "--output_dir", place),
        ("script/quickstart.py", "--preset", "tiny", "--output_dir", place),
        ("script/reproduce/mechanisms.py", "--scale", "tiny", "--output_dir", place),
    ):
        finished = run_command(*command, cwd=tmp_path)
        refused(finished, "and a file or folder may have" if place == LONG else "cannot be written")
        assert finished.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not list(small_dataset.glob("*annotated*"))


def test_a_generator_uses_its_own_common_whatever_else_has_that_name(tmp_path):
    (tmp_path / "common.py").write_text("raise AssertionError('another common')")
    probe = (
        "import sys, types\n"
        "sys.modules['common'] = types.ModuleType('common')\n"
        "from coverage_principle.experiments.settings import command_parser\n"
        "command_parser('dataset_generation/twohop.py')\n"
        "command_parser('circuit_analysis/trace.py')\n"
    )
    own = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for words in (["-c", probe], ["-P", str(ROOT / "dataset_generation/nontree.py"), "--help"]):
        finished = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **own},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr


def test_a_console_that_lacks_a_letter_shows_its_number(tmp_path):
    """± of the spread over seeds, and é of a folder."""
    (tmp_path / "é").mkdir()
    command = [sys.executable, ROOT / "script/required_data.py", "--num_tokens", "4,5", "--k", "1"]
    finished = subprocess.run(
        [*command, "--seeds", "0,1", "--output_dir", "é"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert b" \\xb1 " in finished.stdout and b"\\xe9/required_twohop" in finished.stdout


def test_a_problem_is_reported_once(small_dataset, tmp_path):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    items = json.loads((folder / "test.json").read_text())
    first = next(item for item in items if item["type"] == "type_0")
    target = first["target_text"].replace("</a>", "")
    last = target.rsplit("<", 1)[1]
    other = "t_1>" if last != "t_1>" else "t_2>"
    again = {**first, "target_text": f"{target.removesuffix(last)}{other}</a>"}
    (folder / "test.json").write_text(json.dumps([*items, again]))
    found = [str(p) for p in validate(folder)[1] if first["input_text"] in str(p)]
    assert len([words for words in found if "target" in words and "different" in words]) == 1
    assert not [words for words in found if "has another target" in words]


def test_a_missing_table_is_a_note_and_a_broken_one_a_problem(small_dataset, tmp_path):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    (table,) = folder.glob("atomic_facts_f1.*")
    table.write_text('["does not exist"]')
    assert [p for p in validate(folder)[1] if "atomic_facts_f1" in p.file and not p.tolerable]
    table.unlink()
    (note,) = (p for p in validate(folder)[1] if p.file == "atomic_facts_f1")
    assert note.tolerable


def test_names_are_text_in_a_run_card(tmp_path):
    name, group = "a|b_*<script>_$x$", "type_0`|<b>"
    records = [{**record, "type": group} for record in pairs(30)]
    model = tiny_model(evaluate_during_training=True, evaluate_during_training_steps=5)
    about = {"dataset": {"name": name}}
    model.train_model(pairs(30), records, tmp_path, run_info=about)
    write_run_card(tmp_path, "all done", 5)
    card = (tmp_path / "README.md").read_text()
    assert f"# {as_markdown(name)}\n" in card and f"| {as_markdown(group)} |" in card
    assert not re.search(r"(?<!\\)[<|`$](script|b>|type|x)", card)
    assert RunFolder(tmp_path).settings()["dataset"]["name"] == name


def test_what_is_markup_is_escaped_and_plain_names_stay():
    assert as_markdown("type_0/k_cutoff=2") == "type_0/k_cutoff=2"
    assert as_markdown("_a_ |*`[b]($c\n# d") == r"\_a\_ \|\*\`\[b\](\$c # d"


def test_a_search_sees_that_there_is_nothing_to_generalise_to():
    assert not _has_unseen("fivehop", 3, 42, 2)
    assert _has_unseen("twohop", 6, 42, 60)


def test_a_setting_that_a_claim_tries_is_one_that_its_commands_take():
    settings = {"data": {"num_tokens": 3, "max_train_data_num": 2, "seed": 2**63}}
    with pytest.raises(InputError, match="too large"):
        RunSettings.resolve(settings)

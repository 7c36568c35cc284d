"""Checkpoints of ours without transformers: the same numbers, and commands that start at once."""

from __future__ import annotations

import shutil
import subprocess
import sys

import matplotlib
import pytest
import torch
from scipy import stats
from transformers import AutoTokenizer, GPT2LMHeadModel

from coverage_principle.circuits import open_checkpoint
from coverage_principle.data import load_dataset, read_json, write_json
from coverage_principle.reporting.style import _STYLE, new_figure, save_figure
from coverage_principle.statistics import _most_heads
from simpletransformers.errors import InputError
from simpletransformers.files import digests
from simpletransformers.seq2seq import Seq2SeqArgs, Seq2SeqModel
from simpletransformers.seq2seq.architecture import architecture_of, load_model
from simpletransformers.seq2seq.light import LightGPT2, LightTokenizer
from simpletransformers.seq2seq.tokenizer import encode, load_tokenizer
from tests.conftest import ROOT

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "max_steps": 2, "train_batch_size": 32}
#: Modules that take long to import and that no command needs which only runs a model.
LATE = {"transformers", "torch._dynamo", "torch.distributed.tensor", "scipy.stats", "networkx"}
LATE |= {"pandas", "sympy"}


def fresh(vocabulary, **changes) -> Seq2SeqModel:
    options = {"init_weights": True, "device": "cpu", "new_tokens": vocabulary}
    return Seq2SeqModel("gpt2", "gpt2", args={**SIZES, **changes}, **options)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, small_dataset):
    """A run of two steps on the small data set."""
    folder, dataset = tmp_path_factory.mktemp("runs") / "short", load_dataset(small_dataset)
    about = {"name": dataset.name, "path": str(small_dataset), "sha256": dataset.digests}
    records = dataset.train.all_records[:64], dataset.test.all_records[:8]
    model = fresh(dataset.codec.vocabulary)
    model.train_model(*records, folder, run_info={"dataset": about})
    return folder


@pytest.fixture
def checkpoint(tmp_path, run_dir):
    """A copy of the run's last checkpoint, to be changed."""
    return shutil.copytree(run_dir / "final_checkpoint", tmp_path / "checkpoint")


def note_files(folder) -> None:
    """Let ``model_args.json`` say that the files are what was saved."""
    file = folder / "model_args.json"
    saved = read_json(file)
    write_json(file, {**saved, "sha256": digests(folder / name for name in saved["sha256"])})


@pytest.mark.parametrize(
    "script", ["cluster", "trace", "lens", "interchange", "do_eval", "do_predict"]
)
def test_a_command_that_runs_a_model_of_ours_imports_no_transformers(
    script, run_dir, small_dataset, tmp_path
):
    if script.startswith("do_"):
        command = ["main.py", f"--{script}", "--data_dir", small_dataset]
        command += ["--model_name_or_path", run_dir / "final_checkpoint"]
        command += ["--prediction_dir", tmp_path] if script == "do_predict" else []
    else:
        command = [f"circuit_analysis/{script}.py", "--save_dir", tmp_path / "out"]
        name = "--ckpt" if script == "cluster" else "--model_dir"
        command += [name, run_dir / "final_checkpoint"]
    probe = (
        "import runpy, sys\n"
        "sys.path.insert(0, '.')\n"
        f"sys.argv = {list(map(str, command))!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"print('loaded:', sorted({LATE!r} & set(sys.modules)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    "switches",
    [(), ("no_ln",), ("no_mlp", "add_recurrence"), ("share_mlp",), ("n_inner", "no_dropout")],
)
def test_a_light_model_is_the_one_that_transformers_loads(tmp_path, switches):
    changes = {name: 24 if name == "n_inner" else True for name in switches}
    model = fresh([f"<t_{i}>" for i in range(9)] + ["</a>"], **changes)
    with torch.no_grad():
        for parameter in model.model.parameters():  # biases and norms that do something
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save(tmp_path)
    ids = torch.randint(0, 10, (7, 5), generator=torch.Generator().manual_seed(1))
    theirs, light = load_model(tmp_path).eval(), load_model(tmp_path, to_run=True).eval()
    assert isinstance(theirs, GPT2LMHeadModel) and isinstance(light, LightGPT2)
    own = light.state_dict()
    stored = {k: v for k, v in theirs.state_dict().items() if k != "lm_head.weight"}
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in stored.items())
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
        assert torch.allclose(light(ids).logits, expected.logits, atol=1e-5)
        plain, here = architecture_of(theirs), architecture_of(light)
        here.check(ids)
        places = [("residual", layer) for layer in range(here.layers + 1)]
        places += [("post_mlp", here.layers), ("post_attention", 1), ("embedding", 0)]
        states, again = here.run(ids, places), plain.run(ids, places)
        assert all(torch.equal(states[place], again[place]) for place in places)
        for layer in range(here.layers):
            assert torch.allclose(
                states["residual", layer], expected.hidden_states[layer], atol=1e-5
            )
        logits = here.logits_at(ids, range(5))
        assert torch.equal(logits, plain.logits_at(ids, range(5)))
        assert torch.allclose(logits, expected.logits, atol=1e-5)


def test_a_light_tokenizer_is_the_one_that_transformers_loads(run_dir):
    folder = run_dir / "final_checkpoint"
    config = load_model(folder, to_run=True).config
    light, theirs = (
        load_tokenizer(folder, config, to_run=True),
        AutoTokenizer.from_pretrained(folder),
    )
    assert isinstance(light, LightTokenizer)
    assert len(light) == len(theirs) and light.get_vocab() == theirs.get_vocab()
    for name in ("eos_token", "eos_token_id", "pad_token", "pad_token_id"):
        assert getattr(light, name) == getattr(theirs, name)
    texts, ids = ["<t_1><t_2></a>", "<t_9>", "", "<pad><t_0>"], list(range(len(theirs) + 2))
    own, plain = (t(texts, add_special_tokens=False)["input_ids"] for t in (light, theirs))
    assert own == plain
    assert light.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert light.convert_ids_to_tokens(3) == theirs.convert_ids_to_tokens(3)
    for tokenizer in (light, theirs):
        with pytest.raises(InputError, match="'<t_77>' in '<t_1><t_77>' is not in the vocabulary"):
            encode(tokenizer, ["<t_1>", "<t_1><t_77>"])


def test_scores_and_answers_are_those_of_the_model_that_can_be_trained(run_dir, small_dataset):
    records = load_dataset(small_dataset).test.all_records
    models = [
        Seq2SeqModel("gpt2", run_dir / "final_checkpoint", device="cpu", to_train=to_train)
        for to_train in (True, False)
    ]
    assert isinstance(models[1].model, LightGPT2) and models[0].args == models[1].args
    assert models[0].eval_model(records) == models[1].eval_model(records)
    prompts = [record["input_text"] for record in records]
    assert models[0].predict(prompts) == models[1].predict(prompts)
    with pytest.raises(InputError, match="loaded without `to_train`"):
        models[1].train_model(records, None, run_dir.with_name("none"))
    assert not run_dir.with_name("none").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"reorder_and_upcast_attn": True},
        {"activation_function": "relu"},
    ],
)
def test_what_has_another_meaning_is_left_to_transformers(checkpoint, small_dataset, change):
    file = checkpoint / "config.json"
    write_json(file, {**read_json(file), **change})
    note_files(checkpoint)
    loaded = open_checkpoint(checkpoint, load_dataset(small_dataset).codec)
    assert isinstance(loaded.model, GPT2LMHeadModel)
    assert loaded.network.layers == 2  # its blocks are checked against transformers here


def test_what_is_not_as_it_was_saved_is_left_to_transformers(checkpoint, small_dataset, caplog):
    codec = load_dataset(small_dataset).codec
    assert isinstance(open_checkpoint(checkpoint, codec).model, LightGPT2)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        content = (checkpoint / name).read_text()
        (checkpoint / name).write_text(content + "\n")
        caplog.clear()
        model = load_model(checkpoint, to_run=True)
        tokenizer = load_tokenizer(checkpoint, model.config, to_run=True)
        assert isinstance(model, LightGPT2) == (name != "config.json")
        assert isinstance(tokenizer, LightTokenizer) == (name == "config.json")
        assert f"{name} of {checkpoint} changed since the model was saved" in caplog.text
        (checkpoint / name).write_text(content)
    (checkpoint / "model_args.json").unlink()  # as in checkpoints that others saved
    assert Seq2SeqArgs.saved_files(checkpoint) == {}
    assert isinstance(open_checkpoint(checkpoint, codec).model, GPT2LMHeadModel)


@pytest.mark.parametrize("change", [{"n_layer": 3}, {"n_layer": 1}, {"n_inner": 8}])
def test_a_config_that_its_weights_do_not_fit_is_refused_as_ever(checkpoint, change):
    file = checkpoint / "config.json"
    write_json(file, {**read_json(file), **change})
    note_files(checkpoint)
    said = []
    for to_run in (False, True):
        with pytest.raises(InputError) as refusal:
            load_model(checkpoint, to_run=to_run)
        said.append(str(refusal.value))
    assert said[0] == said[1]


def test_a_quantile_of_fair_coins_is_that_of_scipy():
    for n in (*range(1, 200), 1001, 10**6, 123_456_789):
        for share in (0.025, 0.3):
            assert _most_heads(n, share) == stats.binom.ppf(share, n, 0.5)


def test_a_figure_is_laid_out_once_and_saved_as_matplotlib_saves_it(tmp_path):
    figures = []
    for _ in range(2):
        figure, axes = new_figure(4, 3, 1, 2)
        figure.colorbar(axes[0].imshow([[0, 1], [2, 3]]), ax=list(axes))
        axes[1].set_title("a title that is wider than its axes")
        figure.legend(handles=[], title="a note", loc="outside lower left")
        figures.append(figure)
    engine, dpi = figures[0].get_layout_engine(), figures[0].dpi
    png, _pdf = save_figure(figures[0], tmp_path / "ours")
    with matplotlib.rc_context(_STYLE):
        figures[1].savefig(tmp_path / "theirs.png", dpi=160)
    assert png.read_bytes() == (tmp_path / "theirs.png").read_bytes()
    assert (figures[0].get_layout_engine(), figures[0].dpi) == (engine, dpi)

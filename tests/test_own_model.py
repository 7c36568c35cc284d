"""A model of a user's own file: everything that GPT-2 can, its trust, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import coverage_principle as cp
from coverage_principle import circuits
from coverage_principle.data import load_dataset, read_json
from coverage_principle.experiments import LocalLauncher, Sweep, make_spec, start_command
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel
from simpletransformers.seq2seq.architecture import load_model
from tests.conftest import blocks

#: The file of docs/extending.md.
(PAGE,) = (one for one in blocks("docs/extending.md", "python") if "def build(config)" in one)
#: Without a part of the contract; with blocks that look ahead; with parts that are not the model.
BARE = PAGE.replace("self.blocks", "self.layers")
AHEAD = PAGE.replace("self.norm(state))[0]", "self.norm(state).flip(1))[0].flip(1)")
UNLIKE = PAGE.replace("readout(self.norm(state))", "readout(self.norm(state)) + 1")
SIZES = ["--n_layer", 2, "--n_embd", 16, "--n_head", 3]
TRAINED = ["--init_weights", "--do_train", "--evaluate_during_training", "--max_steps", 20]
TRAINED += ["--train_batch_size", 16, "--learning_rate", 0.01, "--warmup_steps", 0]
TRAINED += ["--scheduler", "constant_schedule", "--device", "cpu", *SIZES]


def written(folder, text: str = PAGE, name: str = "my_model.py"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def of_the_file(checkpoint, **sizes):
    """The module as anybody would make it who has the folder and torch alone."""
    scope: dict = {}
    exec((checkpoint / "model_file.py").read_text(encoding="utf-8"), scope)
    config = read_json(checkpoint / "config.json")
    module = scope["build"](types.SimpleNamespace(**{**config, **sizes}))
    module.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return module.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_dataset, run_command):
    """A run of 20 steps, checkpoints at 10 and 20: its folder, and the model file."""
    folder = tmp_path_factory.mktemp("own")
    file = written(folder)
    words = ["--data_dir", small_dataset, "--model_file", file, *TRAINED, "--save_step", 10]
    finished = run_command("main.py", *words, "--output_dir", folder / "run")
    assert finished.returncode == 0, finished.stderr
    return folder / "run", file


def test_what_a_checkpoint_keeps_is_enough_to_make_the_model(trained, small_dataset):
    run, file = trained
    checkpoint = run / "final_checkpoint"
    assert (checkpoint / "model_file.py").read_bytes() == file.read_bytes()
    saved = read_json(checkpoint / "model_args.json")["sha256"]
    assert saved["model_file.py"] == read_json(checkpoint / "config.json")["model_file_sha256"]
    module, ids = of_the_file(checkpoint), torch.tensor([[1, 2, 3], [4, 5, 6]])
    model = load_model(checkpoint, trust_code=True).eval()
    with torch.no_grad():
        assert torch.equal(model(ids).logits, module(ids))
    card = (run / "README.md").read_text(encoding="utf-8")
    assert 'load_model("final_checkpoint", trust_code=True)' in card
    assert read_json(run / "run_config.json")["model_file_sha256"] == saved["model_file.py"]
    # The loss that was written down is that of the module on the data, by torch's own function.
    items = [one for one in load_dataset(small_dataset).test.records if one["type"] == "type_0"]
    rows = torch.tensor([[int(t[2:]) for t in _tokens(one)[:4]] for one in items])
    with torch.no_grad():
        logits = module(rows[:, :3])[:, -1]
    loss = torch.nn.functional.cross_entropy(logits, rows[:, 3]).item()
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["eval"]["type_0"]["loss"] == pytest.approx(loss, abs=1e-5)


def _tokens(record) -> list[str]:
    return record["target_text"].strip("<>").split("><")


def test_it_is_resumed_to_the_bit_and_not_with_another_file(
    trained, tmp_path, small_dataset, run_command, refused
):
    run, file = trained
    words = ["--data_dir", small_dataset, *TRAINED, "--output_dir", tmp_path / "run"]
    for steps in (10, 20):
        more = ["--model_file", written(tmp_path / f"{steps}"), "--max_steps", steps, "--resume"]
        finished = run_command("main.py", *words, *more)
        assert finished.returncode == 0, finished.stderr
    halves = load_file(tmp_path / "run" / "final_checkpoint" / "model.safetensors")
    for name, tensor in load_file(run / "final_checkpoint" / "model.safetensors").items():
        assert torch.equal(tensor, halves[name]), name
    other = written(tmp_path, PAGE.replace("0.02", "0.03"))
    finished = run_command("main.py", *words, "--model_file", other, "--resume")
    refused(finished, "cannot be resumed with other settings: model_file_sha256 was")


def test_two_processes_train_it_as_one_does(tmp_path, small_dataset, trained):
    _, file = trained
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    words = ["--data_dir", small_dataset, "--model_file", file, *TRAINED, "--no_dropout"]
    two = [{**place, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"} for rank in "01"]
    weights, out = [], tmp_path / "out"
    for name, ranks in {"one": [{}], "two": two}.items():
        started = [
            start_command("main.py", [*words, "--output_dir", tmp_path / name], **options)
            for rank in ranks
            for options in [{"out": out, "threads": 1, "environment": rank}]
        ]
        for process in started:
            process.join(120)
        assert not any(process.exitcode for process in started), out.read_text()
        weights.append(load_file(tmp_path / name / "final_checkpoint" / "model.safetensors"))
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-5), name


def test_patches_are_those_of_a_loop_with_hooks(trained, small_dataset, tmp_path):
    run, file = trained
    where = {"ckpt": run / "final_checkpoint", "data_dir": small_dataset, "save_dir": tmp_path}
    settings = circuits.TraceSettings(**where, trust_code=True, device="cpu", max_items=8)
    written, results = circuits.run_trace(settings)
    raw, code = np.load(written.with_suffix(".npz")), hashlib.sha256(file.read_bytes()).hexdigest()
    assert results["weights"]["final_checkpoint"]["model_file.py"] == code
    module, states = of_the_file(run / "final_checkpoint"), {}
    names = "originals", "sources", "wanted"
    originals, sources, wanted = (torch.as_tensor(raw[name]).long() for name in names)
    tokens = len(load_dataset(small_dataset).codec.vocabulary)

    def put(layer, position):
        def hook(_module, _inputs, output):
            output[:, position] = states[layer][:, position]

        return hook

    with torch.no_grad():
        state = module.embed(sources)
        for layer, block in enumerate(module.blocks):
            states[layer] = state = block(state)
        for layer, position in np.ndindex(2, 3):
            handle = module.blocks[layer].register_forward_hook(put(layer, position))
            logits = module(originals)[:, -1, :tokens]
            handle.remove()
            own = logits.gather(1, wanted[:, 0])
            expected = (logits[:, None] > own[..., None]).sum(-1).numpy()
            found = raw["final_checkpoint/t/rank/after"][layer, position]
            assert np.array_equal(found, expected), (layer, position)


@pytest.mark.parametrize("kind", ["Trace", "Lens", "Cluster", "Interchange"])
def test_an_analysis_runs_the_code_of_a_checkpoint_only_if_told_to(
    kind, trained, small_dataset, tmp_path
):
    run, _ = trained
    place, made = tmp_path / "results", getattr(circuits, f"{kind}Settings")
    where = {"ckpt": run / "checkpoint-10", "data_dir": small_dataset, "save_dir": place}
    analyse = getattr(circuits, f"run_{kind.lower()}")
    with pytest.raises(InputError, match=r"model_file\.py, that is run when .*`trust_code`"):
        analyse(made(**where, device="cpu"))
    assert not place.exists()
    analyse(made(**where, device="cpu", max_items=30, trust_code=True))
    assert place.exists()


def test_random_weights_are_what_the_file_draws(trained, small_dataset):
    """The baseline of probes: other weights than the trained ones, of the seed."""
    checkpoint, codec = trained[0] / "final_checkpoint", load_dataset(small_dataset).codec
    loaded = circuits.open_checkpoint(checkpoint, codec, trust_code=True)
    fresh = circuits.with_fresh_weights(loaded, 7).model.own.tokens.weight
    torch.manual_seed(7)
    table = torch.nn.Embedding(*fresh.shape)  # draws its own first
    assert torch.equal(fresh, torch.nn.init.normal_(table.weight, std=0.02))


def test_a_notebook_reads_it_if_told_to(trained, small_dataset):
    run, _ = trained
    items = ["<t_3><t_9><t_1>", "<t_3><t_2><t_1>"]
    with pytest.raises(InputError, match="trust_code"):
        cp.load_run(run, data_dir=small_dataset, device="cpu").predict(items)
    opened = cp.load_run(run, data_dir=small_dataset, device="cpu", trust_code=True)
    with torch.no_grad():
        state = of_the_file(run / "final_checkpoint").embed(torch.tensor([[3, 9, 1], [3, 2, 1]]))
    assert np.allclose(opened.hidden_states(items, 0, "x2"), state[:, 1])


def test_code_that_is_not_what_was_saved_is_not_run(
    trained, tmp_path, small_dataset, run_command, refused
):
    run, file = trained
    shutil.copytree(run / "final_checkpoint", tmp_path / "changed")
    written(
        tmp_path / "changed", PAGE + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n", "model_file.py"
    )
    words = ["--data_dir", small_dataset, "--do_eval", "--device", "cpu"]
    changed = ["--model_name_or_path", tmp_path / "changed"]
    finished = run_command("main.py", *words, *changed, "--trust_code")
    refused(finished, "is not the code that the model was saved with")
    finished = run_command("main.py", *words, *changed, "--model_file", file)
    refused(finished, "is not the code that the model was saved with")
    assert not (tmp_path / "ran").exists()
    # The file itself is consent for checkpoints of just this file.
    own = ["--model_name_or_path", run / "final_checkpoint"]
    assert run_command("main.py", *words, *own, "--model_file", file).returncode == 0
    other = written(tmp_path, PAGE + "\n")
    refused(run_command("main.py", *words, *own, "--model_file", other), "is not what made")
    refused(run_command("main.py", *words, *own), "give --trust_code")


def test_without_the_parts_it_trains_and_every_instrument_says_what_is_missing(
    tmp_path, small_dataset, run_command, refused
):
    file = written(tmp_path, BARE)
    words = ["--data_dir", small_dataset, "--model_file", file, *TRAINED, "--max_steps", 2]
    finished = run_command("main.py", *words, "--do_predict", "--output_dir", tmp_path / "run")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "run" / "all_items.json").exists()
    items = read_json(tmp_path / "run" / "all_items.json")[:40]
    opened = cp.load_run(tmp_path / "run", data_dir=small_dataset, device="cpu", trust_code=True)
    inputs = [one["input_text"] for one in items]  # it can still be asked
    found, chances = opened.predict(inputs, probabilities=True)
    rows = torch.tensor([[int(token[2:]) for token in _tokens(one)[:3]] for one in items])
    with torch.no_grad():
        own = of_the_file(tmp_path / "run" / "final_checkpoint")(rows)[:, -1].softmax(-1)
    ids = torch.tensor([[int(answer[3:-1])] for answer in found])
    assert np.allclose(chances, own.gather(1, ids)[:, 0], atol=1e-6)
    for prompt, answer, one in zip(inputs, found, items, strict=True):
        assert f"{prompt}{answer}</a>" == one["model_output"]
    place = tmp_path / "results"
    words = ["--ckpt", tmp_path / "run" / "final_checkpoint", "--data_dir", small_dataset]
    words += ["--trust_code", "--save_dir", place]
    missing = "has no blocks; analyses need embed, blocks, norm, readout"
    for name in ("cluster", "heads", "interchange", "lens", "probe", "subspace", "trace"):
        refused(run_command(f"circuit_analysis/{name}.py", *words), missing)
        assert not place.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (AHEAD, "states of layer 1 depend on later tokens"),
        (UNLIKE, "do not give the logits that the model gives"),
    ],
    ids=["ahead", "unlike"],
)
def test_parts_that_are_not_the_model_or_look_ahead_are_not_analysed(
    text, says, tmp_path, small_dataset, run_command, refused
):
    tokens, folder = load_dataset(small_dataset).codec.vocabulary, tmp_path / "model"
    made = {"model_file": written(tmp_path, text), "init_weights": True, "device": "cpu"}
    args = {"n_layer": 1, "n_embd": 8}
    Seq2SeqModel("gpt2", "gpt2", args, tokens, **made).save(folder)
    words = ["--ckpt", folder, "--data_dir", small_dataset, "--trust_code"]
    place = tmp_path / "results"
    refused(run_command("circuit_analysis/trace.py", *words, "--save_dir", place), says)
    assert not place.exists()


#: What is no model, and what is said of it.
NO_MODELS = {
    "import torch\nimport my_layers\n": "ModuleNotFoundError in line 2: No module named 'my_la",
    "def build(config:\n": "SyntaxError in line 1",
    "import sys\n\nsys.exit('bye')\n": "SystemExit in line 3: bye",
    "import torch\n": "has no build(config)",
    "def build(config):\n    return 1 / 0\n": "build(config) failed: ZeroDivisionError in line 2",
    "def build(config):\n    config.n_layer = 1\n": "FrozenInstanceError",
    "def build(config):\n    return 3\n": "gave a int, not a torch.nn.Module",
    "from torch import nn\nbuild = lambda config: nn.Identity()\n": "no parameters to train",
    "from torch import nn\nbuild = lambda c: nn.Embedding(c.vocab_size, 3)\n": (
        "must give logits (2, 4, 16) of floats, it gives (2, 4, 3) float32"
    ),
    PAGE.replace("self.readout(self.norm(state))", "self.readout(self.norm(state)).long()"): (
        "it gives (2, 4, 16) int64"
    ),
    PAGE.replace("block(state)", "block(ids)"): "the model cannot be run: RuntimeError in line",
    BARE + "\n\nStack.blocks = 3\n": "embed and blocks are not as analyses need them: TypeError",
    PAGE.replace("std=0.02", "std=float('inf')"): "not finite numbers, such as tokens.weight",
}


@pytest.mark.parametrize("text", NO_MODELS, ids=range(len(NO_MODELS)))
def test_what_is_no_model_is_refused_before_anything_is_written(text, tmp_path):
    arguments = {"args": {"n_layer": 1, "n_embd": 8}, "init_weights": True, "device": "cpu"}
    tokens = [*(f"<t_{i}>" for i in range(10)), "</a>"]
    with pytest.raises(InputError) as refusal:
        file = written(tmp_path, text)
        Seq2SeqModel("gpt2", "gpt2", new_tokens=tokens, model_file=file, **arguments)
    assert "my_model.py: " in str(refusal.value) or "my_model.py has" in str(refusal.value)
    assert NO_MODELS[text] in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model_file", "nowhere.py"], "nowhere.py does not exist"),
        (["--model_file", __file__], "has no build(config)"),
        (["--model_file", "FILE", "--no_ln"], "--no_ln: of a gpt2 only; omit with --model_file"),
        (["--model_file", "FILE", "--model_type", "llama"], "omit --model_type"),
        (["--model_file", "FILE", "--model_type", "gpt2"], "omit --model_type"),
    ],
    ids=["missing", "no build", "switch", "type", "default type"],
)
def test_a_refused_command_leaves_nothing(
    words, says, tmp_path, small_dataset, run_command, refused
):
    words = [str(written(tmp_path)) if word == "FILE" else word for word in words]
    place = tmp_path / "run"
    finished = run_command(
        "main.py", "--data_dir", small_dataset, *TRAINED, *words, "--output_dir", place
    )
    refused(finished, says)
    assert not place.exists()


def test_a_model_that_reads_what_it_is_to_produce_is_refused(tmp_path, run_command, refused):
    """With loss at one position a model may look at the whole input; with several it may not."""
    make = ["--num_tokens", 10, "--max_train_data_num", 100, "--cot", "--output_dir", tmp_path]
    assert run_command("dataset_generation/twohop.py", *make).returncode == 0
    (data,) = tmp_path.glob("twohop*")
    words = ["--data_dir", data, *TRAINED, "--output_dir", tmp_path / "run"]
    finished = run_command("main.py", *words, "--model_file", written(tmp_path, AHEAD))
    refused(finished, "logits at a position depend on later tokens")
    assert not (tmp_path / "run").exists()


def test_a_state_dict_from_elsewhere_is_scored_asked_trained_and_analysed(
    trained, tmp_path, small_dataset, run_command, refused
):
    run, file = trained
    weights = load_file(run / "final_checkpoint" / "model.safetensors")
    torch.save(weights, tmp_path / "weights.pt")
    words = ["--data_dir", small_dataset, "--model_file", file, *SIZES, "--device", "cpu"]
    words += ["--model_name_or_path", tmp_path / "weights.pt"]
    place = tmp_path / "elsewhere" / "final_checkpoint"
    asked = ["--do_predict", "--prediction_dir", tmp_path, "--save_model", place]
    finished = run_command("main.py", *words, *asked)
    assert finished.returncode == 0, finished.stderr
    with torch.no_grad():
        logits = of_the_file(run / "final_checkpoint")
        for item in read_json(tmp_path / "all_items.json")[:50]:
            ids = torch.tensor([[int(token[2:]) for token in _tokens(item)[:3]]])
            said = f"{item['input_text']}<t_{int(logits(ids)[0, -1].argmax())}></a>"
            assert item["model_output"] == said
    for name, tensor in load_file(place / "model.safetensors").items():
        assert torch.equal(tensor, weights[name])
    analysed = ["--ckpt", place, "--data_dir", small_dataset, "--trust_code", "--max_items", 20]
    finished = run_command("circuit_analysis/lens.py", *analysed, "--save_dir", tmp_path / "lens")
    assert finished.returncode == 0, finished.stderr
    refused(run_command("main.py", *words, *asked), "exists already; give another folder")
    more = ["--do_train", "--max_steps", 1, "--output_dir", tmp_path / "run"]
    finished = run_command("main.py", *words, *more)
    assert finished.returncode == 0, finished.stderr


def test_a_state_dict_with_ids_of_its_own_is_read_through_a_map(
    trained, tmp_path, small_dataset, run_command, refused
):
    """The same model with its rows dealt out anew answers as before, and is analysed as before."""
    run, file = trained
    weights = load_file(run / "final_checkpoint" / "model.safetensors")
    vocabulary = load_dataset(small_dataset).codec.vocabulary
    ids = np.random.default_rng(0).permutation(20)[: len(vocabulary)].tolist()
    rows = torch.randn(20, 16)
    rows[ids] = weights["tokens.weight"][: len(ids)]
    save_file({**weights, "tokens.weight": rows}, tmp_path / "other.safetensors")
    mapped = dict(zip(vocabulary, ids, strict=True))
    del mapped["</a>"]  # which a model need not have
    (tmp_path / "map.json").write_text(json.dumps(mapped))
    words = ["--data_dir", small_dataset, "--model_file", file, *SIZES, "--device", "cpu"]
    words += ["--model_name_or_path", tmp_path / "other.safetensors"]
    words += ["--token_map", tmp_path / "map.json"]
    refused(run_command("main.py", *words, "--do_eval"), "how many ids it has")
    place = tmp_path / "other" / "final_checkpoint"
    asked = ["--pad_vocab_to", 20, "--do_predict", "--prediction_dir", tmp_path]
    finished = run_command("main.py", *words, *asked, "--save_model", place)
    assert finished.returncode == 0, finished.stderr
    module = of_the_file(run / "final_checkpoint")
    items = read_json(tmp_path / "all_items.json")
    texts = torch.tensor([[int(token[2:]) for token in _tokens(item)[:3]] for item in items])
    with torch.no_grad():
        logits = module(texts)[:, -1, : len(vocabulary) - 1]
        answers = [item["model_output"].removeprefix(item["input_text"]) for item in items]
        module.tokens.weight = torch.nn.Parameter(rows)
        own = module(torch.tensor(ids)[texts])[:, -1]
    names = {own: token for token, own in mapped.items()}
    for answer, best in zip(answers, own.argmax(-1).tolist(), strict=True):
        assert best not in names or answer == f"{names[best]}</a>"
    assert torch.allclose(own[:, ids[:-1]], logits, atol=1e-5)
    found = cp.load_run(place, data_dir=small_dataset, device="cpu", trust_code=True)
    asked = [item["input_text"] for item in items[:20]]
    best = [vocabulary[i] for i in logits.argmax(-1).tolist()]
    assert found.predict(asked) == best[:20]


STATE_DICTS = {
    "lacks": (lambda w: w.pop("norm.weight"), "lack norm.weight, which build(config) of"),
    "has": (lambda w: w.update(x=torch.ones(2)), "have x, which build(config) of"),
    "shape": (lambda w: w.update({"norm.bias": torch.ones(2)}), "norm.bias (2,) and not (16,)"),
    "kind": (lambda w: w.update({"norm.bias": torch.ones(16).char()}), "norm.bias in int8"),
    "nan": (lambda w: w["norm.bias"].fill_(float("nan")), "not finite numbers, such as norm.bias"),
    "code": (lambda w: w.update(run=print), "is not a state dict"),
    "other": (lambda w: w.update(epoch=3), "something else than tensors"),
}


@pytest.mark.parametrize("fault", STATE_DICTS)
def test_a_state_dict_that_does_not_fit_is_refused(fault, trained, tmp_path):
    run, file = trained
    weights = load_file(run / "final_checkpoint" / "model.safetensors")
    change, says = STATE_DICTS[fault]
    change(weights)
    torch.save(weights, tmp_path / "weights.pt")
    arguments = {"args": {"n_layer": 2, "n_embd": 16}, "device": "cpu", "model_file": file}
    tokens = [*(f"<t_{i}>" for i in range(10)), "</a>"]
    with pytest.raises(InputError) as refusal:
        Seq2SeqModel("gpt2", tmp_path / "weights.pt", new_tokens=tokens, **arguments)
    assert says in str(refusal.value)


def test_parameters_that_are_shared_are_stored_once_and_stay_shared(tmp_path):
    tied = PAGE.replace(
        "self.norm = nn.LayerNorm(width)\n\n    def embed",
        "self.norm = nn.LayerNorm(width)\n        self.head = nn.Linear(width, config.vocab_size)\n"
        "        self.head.weight = self.tokens.weight\n\n    def embed",
    ).replace("state @ self.tokens.weight.T", "self.head(state)")
    # The weights lie column by column, as a transposed matrix does.
    turned = "        self.tokens.weight.data = self.tokens.weight.data.T.contiguous().T\n"
    tied = tied.replace("        self.blocks", turned + "        self.blocks", 1)
    # Run as Python runs it: annotations are values, not texts.
    tied = tied.replace("build(config)", "build(config: dict)")
    tied += "\nassert build.__annotations__['config'] is dict\n"
    arguments = {"args": {"n_layer": 1, "n_embd": 8}, "init_weights": True, "device": "cpu"}
    tokens = [*(f"<t_{i}>" for i in range(10)), "</a>"]
    file = written(tmp_path, tied)
    made = Seq2SeqModel("gpt2", "gpt2", new_tokens=tokens, model_file=file, **arguments)
    made.save(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert "tokens.weight" in stored and "head.weight" not in stored
    own = load_model(tmp_path / "saved", trust_code=True).own
    assert own.head.weight is own.tokens.weight
    assert made.model.num_parameters() == sum(tensor.numel() for tensor in stored.values())
    # A plain state dict has it under both names; two that differ are not one tensor.
    save_file(
        {**stored, "head.weight": stored["tokens.weight"] + 1}, tmp_path / "apart.safetensors"
    )
    arguments = {"new_tokens": tokens, "model_file": file, **arguments, "init_weights": False}
    with pytest.raises(InputError, match=r"different tokens.weight and head.weight"):
        Seq2SeqModel("gpt2", tmp_path / "apart.safetensors", **arguments)


def test_a_sweep_passes_trust_on_to_the_stages_of_a_file_that_it_names(tmp_path):
    file = written(tmp_path)
    data = {"num_tokens": 8, "max_train_data_num": 60}
    sizes = {"n_layer": 1, "n_embd": 8, "n_head": 1, "max_steps": 2, "device": "cpu"}
    base = {"task": "twohop", "data": data, "analyse": {"lens": {}}}
    spec = {"base": {**base, "train": {**sizes, "model_file": str(file)}}}
    (run,) = make_spec(spec, "own").runs
    launcher = LocalLauncher(tmp_path / "sweep", 1)
    sweep = Sweep(tmp_path / "sweep", launcher)
    (future,) = sweep.submit_all([run])
    record = future.result()
    launcher.close()
    assert record["status"] == "done", record
    # Another text of the file is another run, and a run without one is not trusted.
    written(tmp_path, PAGE + "\n")
    assert make_spec(spec, "own").runs[0].id != run.id
    base["evaluate"] = {}
    for train, trusted in (({"model_file": str(file)}, 2), ({}, 0)):
        (one,) = make_spec({"base": {**base, "train": {**sizes, **train}}}, "both").runs
        typed = [command.shown() for command in one.commands(tmp_path, tmp_path)]
        assert sum("--trust_code" in command for command in typed) == trusted

"""Every type of model that is analysed, against transformers' own modules and hooks on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from coverage_principle import circuits
from coverage_principle.circuits.states import Site
from coverage_principle.data import load_dataset, read_json
from coverage_principle.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel, architectures
from simpletransformers.seq2seq.architecture import Architecture, architecture_of
from simpletransformers.seq2seq.architectures import llama
from simpletransformers.seq2seq.layered import Attending, Blockwise, Layered
from tests.oracles import circuits_bruteforce as slow

SIZES = {"num_hidden_layers": 3, "hidden_size": 16}
HEADS = {"num_attention_heads": 4, "intermediate_size": 24, "max_position_embeddings": 16}
#: A Llama with all that its configuration can ask for.
FULL = {"num_key_value_heads": 2, "head_dim": 6, "attention_bias": True, "mlp_bias": True}
FULL |= {"tie_word_embeddings": True, "rope_theta": 50.0}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 8}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "gpt2": ("gpt2", {"n_layer": 3, "n_embd": 16, "n_head": 4, "n_positions": 16}),
    "llama": ("llama", {**SIZES, **HEADS}),
    "llama, all options": ("llama", {**SIZES, **HEADS, **FULL}),
    "mamba": ("mamba", SIZES),
}
ATTENDING = [name for name, (kind, _) in MODELS.items() if kind != "mamba"]
TOKENS, OUTPUTS = 11, 24


def random_model(kind, **config):
    """Weights are large enough that rounding decides nothing, and no norm is plain."""
    torch.manual_seed(1)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    options = {"vocab_size": OUTPUTS, "initializer_range": 0.4, **special, **config}
    attention = {} if kind == "mamba" else {"attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options), **attention)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name or name.endswith("proj.bias"):
            torch.nn.init.normal_(parameter, 0.8, 0.4)
    return model.eval()


def loaded_model(name):
    kind, config = MODELS[name]
    # Ids are a shuffled part of the outputs, so nothing works by equal ids.
    ids = torch.randperm(OUTPUTS, generator=torch.Generator().manual_seed(7))[:TOKENS]
    return circuits.LoadedModel(random_model(kind, **config).requires_grad_(False), ids)


@pytest.fixture(scope="module", params=MODELS)
def loaded(request):
    return loaded_model(request.param)


@pytest.fixture(scope="module", params=ATTENDING)
def attending(request):
    return loaded_model(request.param)


@pytest.fixture(scope="module")
def pairs():
    """Originals, sources that differ in the second token, and values (w, w') twice over."""
    rows = np.random.default_rng(0).integers(0, 10, size=(3, 4))
    sources = rows.copy()
    sources[:, 1] = (rows[:, 1] + 3) % 10
    wanted = np.stack([rows[:, :2], (rows[:, :2] + 1) % 10], axis=2)
    return rows, sources, wanted


def inside(model, layer):
    """The modules of a block whose outputs are, or give, streams by name."""
    block = slow.blocks_of(model)[layer - 1]
    attention = getattr(block, "attn", None) or getattr(block, "self_attn", None)
    return {"residual": block, "post_mlp": getattr(block, "mlp", None), "attention": attention}


def streams(loaded):
    return [stream for stream in circuits.PATCHED if stream in loaded.network.streams]


# ------------------------------------------------------------------------------- what is promised


def test_every_type_that_is_shipped_can_be_analysed():
    kinds = {name: architectures.find(name) for name in ("gpt2", "llama", "mamba")}
    assert all(issubclass(kind, Layered) for kind in kinds.values())
    assert [name for name, kind in kinds.items() if issubclass(kind, Attending)] == [
        "gpt2",
        "llama",
    ]
    assert not issubclass(kinds["mamba"], Blockwise)


def test_streams_are_what_the_modules_hand_on(loaded, pairs):
    rows, model, network = pairs[0], loaded.model, loaded.network
    places = [(s, layer) for s in network.streams[1:] for layer in range(1, network.layers + 1)]
    run = loaded.run(rows, [("embedding", 0), ("residual", 0), *places])
    for sample, ids in enumerate(loaded.encode(rows).tolist()):
        token = slow.output_of(model, model.get_input_embeddings(), ids)
        torch.testing.assert_close(run["embedding", 0][sample], token)
        below = run["residual", 0][sample]
        for layer in range(1, network.layers + 1):
            given = {
                name: slow.output_of(model, module, ids)
                for name, module in inside(model, layer).items()
                if module is not None
            }
            if given.keys() >= {"attention"}:
                given["post_attention"] = below + given.pop("attention")
            for stream, expected in given.items():
                torch.testing.assert_close(run[stream, layer][sample], expected)
            below = given["residual"]


def test_own_states_change_nothing_and_all_of_the_sources_states_give_its_output(loaded, pairs):
    network = loaded.network
    keep = [("residual", layer) for layer in range(network.layers + 1)]
    for inputs in pairs[:2]:
        output = loaded.model(loaded.encode(inputs)).logits[:, -1, loaded.token_ids]
        states = loaded.run(inputs, keep)
        for place in keep:
            torch.testing.assert_close(
                loaded.logits(network.finish(states[place], place[1])), output
            )


def test_patching_a_run_with_its_own_states_changes_nothing(loaded, pairs):
    rows, _, wanted = pairs
    # The last item's source differs, so no position is skipped as the same in both runs.
    sources = rows.copy()
    sources[-1] = (rows[-1] + 1) % 10
    for stream in streams(loaded):
        for found in circuits.patch_runs(loaded, rows, sources, wanted, stream=stream):
            after, before = found.after["logit"][:, :, :-1], found.before["logit"][:-1]
            assert np.abs(found.after["logit"][..., -1, :] - found.before["logit"][-1]).max() > 0.01
            np.testing.assert_allclose(after, np.broadcast_to(before, after.shape), atol=1e-5)


def test_patched_runs_are_one_hooked_forward_a_cell(loaded, pairs):
    """Also of a second token, after the run's own first one."""
    model, ids = loaded.model, loaded.token_ids.tolist()
    for stream in streams(loaded):
        if stream == "post_attention":  # what the MLP then makes of it is the source's own
            continue
        traces = circuits.patch_runs(loaded, *pairs, stream=stream)
        for i, layer in enumerate(traces[0].layers):
            module = model.get_input_embeddings()
            module = module if layer == 0 else inside(model, layer)[stream]
            for position in traces[0].positions:
                for sample, (mine, theirs, wanted) in enumerate(zip(*pairs, strict=True)):
                    mine, theirs = ([ids[token] for token in row] for row in (mine, theirs))
                    for found, values in zip(traces, wanted.tolist(), strict=True):
                        logits = slow.patched_output(model, module, mine, theirs, position)
                        expected = logits[[ids[value] for value in values]]
                        after = found.after["logit"][i, position, sample]
                        np.testing.assert_allclose(after, expected, atol=1e-5)
                        mine = [*mine, ids[int(logits[loaded.token_ids].argmax())]]


def test_the_stream_after_attention_is_patched_as_that_after_the_block(attending, pairs):
    found = [
        circuits.patch_runs(attending, *pairs, stream=stream)[0].after["logit"]
        for stream in ("post_attention", "residual")
    ]
    np.testing.assert_array_equal(*found)


def test_a_stream_that_a_type_does_not_have_is_refused_in_one_sentence(pairs):
    loaded = loaded_model("mamba")
    with pytest.raises(InputError, match="a mamba has no `stream` post_mlp; it has residual, emb"):
        circuits.collect_states(loaded, pairs[0], [Site(1, 0)], stream="post_mlp")
    with pytest.raises(InputError, match="post_mlp cannot be patched; give residual, emb"):
        circuits.patch_runs(loaded, *pairs, stream="post_mlp")


# -------------------------------------------------------------------------------------- attention


def test_heads_and_patterns_are_those_of_transformers(attending, pairs):
    rows, model, network = pairs[0], attending.model, attending.network
    ids, layers = attending.encode(rows), range(network.layers)
    run = attending.run(rows, [("residual", 0), *(("residual", i + 1) for i in layers)])
    weights = model(ids, output_attentions=True).attentions
    for index in layers:
        state, attention = run["residual", index], inside(model, index + 1)["attention"]
        torch.testing.assert_close(network.pattern(index, state), weights[index])
        given = []
        last = getattr(attention, "c_proj", None) or attention.o_proj
        handle = last.register_forward_pre_hook(
            lambda _, given_, kept=given: kept.append(given_[0])
        )
        model(ids)
        handle.remove()
        gathered, memory = network.attend(index, state, None, None)
        assert gathered.shape[:3] == (*rows.shape, network.heads)
        torch.testing.assert_close(gathered.flatten(2), given[0])
        torch.testing.assert_close(network.project(index, gathered), last(given[0]))
        # From a position on, with several runs of each sequence, and some queries only.
        for first, wanted in ((1, None), (2, [0]), (2, [1]), (3, None)):
            part = torch.cat([state, state])[:, first:]
            own, _ = network.attend(index, part, network.before(memory, first), wanted)
            whole = torch.cat([gathered, gathered])[:, first:]
            expected = whole if wanted is None else whole[:, wanted]
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("columns", [(3,), (0, 2), (0, 1, 2, 3)], ids=str)
def test_training_has_the_numbers_of_transformers(name, columns):
    kind, config = MODELS[name]
    model, ids = random_model(kind, **config).train(), torch.randint(0, OUTPUTS, (5, 4))
    for module in model.modules():  # what dropout draws is another matter
        module.p = 0.0 if isinstance(module, torch.nn.Dropout) else None
    ways = architecture_of(model).logits_at, lambda *given: Architecture.logits_at(by_them, *given)
    by_them, found = architecture_of(model), []
    for way in ways:
        model.zero_grad()
        logits = way(ids, columns)
        logits.logsumexp(-1).sum().backward()
        found.append([logits, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scaling", [{"rope_type": "linear"}, {"rope_type": "yarn"}, LLAMA3])
def test_llamas_positions_are_scaled_as_the_configuration_says(scaling, monkeypatch):
    monkeypatch.setattr(llama, "_POSITIONS", 3)  # longer sequences need longer tables
    scaling = {"factor": 4.0, **scaling}
    model = random_model("llama", **SIZES, **HEADS, rope_scaling=scaling)
    ids = torch.randint(0, OUTPUTS, (4, 12))
    network = architecture_of(model)
    network.check(ids)
    with torch.no_grad():
        torch.testing.assert_close(network.logits_at(ids, range(12)), model(ids).logits)
        plain = random_model("llama", **SIZES, **HEADS)(ids).logits
    assert (plain - model(ids).logits).abs().max() > 0.1


def test_llamas_positions_that_depend_on_the_sequence_are_refused_and_trained_by_transformers():
    longrope = {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 8}
    longrope |= {"short_factor": [1.0, 1.0], "long_factor": [2.0, 3.0]}
    ids = torch.randint(0, OUTPUTS, (4, 12))
    for scaling in ({"rope_type": "dynamic", "factor": 2.0}, longrope):
        network = architecture_of(random_model("llama", **SIZES, **HEADS, rope_scaling=scaling))
        with pytest.raises(InputError, match=f"has rope_type {scaling['rope_type']}, whose angles"):
            network.check(ids)
        with pytest.raises(InputError, match="one of default, linear, llama3, yarn"):
            network.pattern(0, network.embed(ids))
        torch.testing.assert_close(network.logits_at(ids, [11]), network.model(ids).logits[:, 11:])


@pytest.mark.parametrize("in_float32", [True, False])
def test_mambas_residual_stream_is_kept_in_the_type_that_it_asks_for(in_float32):
    model = random_model("mamba", **SIZES, residual_in_fp32=in_float32).bfloat16()
    network, ids = architecture_of(model), torch.randint(0, OUTPUTS, (3, 4))
    with torch.no_grad():
        state = network.run(ids, [("residual", 3)])["residual", 3]
        assert state.dtype == (torch.float32 if in_float32 else torch.bfloat16)
        torch.testing.assert_close(network.logits(state).float(), model(ids).logits)


# ------------------------------------------------------------------------------------- as a user


@pytest.mark.parametrize(
    ("kind", "commands", "stream", "missing"),
    [("llama", ("lens", "interchange"), "post_mlp", "heads")]
    + [("mamba", ("trace", "cluster"), "embedding", "post_mlp")],
)
def test_a_type_is_trained_continued_and_analysed(
    kind, commands, stream, missing, small_dataset, run_command, tmp_path
):
    run, sizes = tmp_path / "run", {"n_layer": 2, "n_head": 2, "n_embd": 16}

    def call(script, *arguments):
        finished = run_command(script, *arguments, "--device", "cpu")
        assert finished.returncode == 0, finished.stderr
        assert "falling back" not in finished.stderr.lower()  # what transformers says of kernels

    flags = f"--do_train --model_type {kind} --init_weights --data_dir {small_dataset}".split()
    flags += [text for name, size in sizes.items() for text in (f"--{name}", size)]
    flags += ["--save_step", 2, "--scheduler", "constant_schedule", "--output_dir", run]
    for arguments in (("--max_steps", 2), ("--max_steps", 4, "--resume")):
        call("main.py", *flags, *arguments)
    dataset = load_dataset(small_dataset)
    args = {**sizes, "max_steps": 4, "scheduler": "constant_schedule"}
    vocabulary = dataset.codec.vocabulary
    whole = Seq2SeqModel(kind, "gpt2", args, vocabulary, init_weights=True, device="cpu")
    whole.train_model(dataset.train.all_records, dataset.test.records, tmp_path / "whole")
    for name, tensor in load_file(run / "final_checkpoint" / "model.safetensors").items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name

    where = {"model_dir": str(run), "step_list": ("final_checkpoint",)}
    settings = {"trace": circuits.TraceSettings, "lens": circuits.LensSettings}
    settings |= {"interchange": circuits.InterchangeSettings, "cluster": circuits.ClusterSettings}
    for analysis, of in settings.items():
        folder = tmp_path / analysis
        if analysis in commands:
            named = "--model_dir", run, "--step_list", "final_checkpoint", "--save_dir", folder
            call(f"circuit_analysis/{analysis}.py", *named)
            results = read_json(next(folder.rglob("*.json")))
        else:
            given = of(**where, save_dir=str(folder), device="cpu")
            _, results = getattr(circuits, f"run_{analysis}")(given)
        assert results["num_layers"] == 2
    few = {**where, "max_items": 20, "device": "cpu", "save_dir": str(tmp_path / "few")}
    circuits.run_lens(circuits.LensSettings(**few, tuned=True))
    circuits.run_subspace(circuits.SubspaceSettings(**few))
    if kind == "mamba":
        circuits.run_probe(circuits.ProbeSettings(**few, folds=3, permutations=1))
    for of, function in (
        (circuits.TraceSettings, circuits.run_trace),
        (circuits.ClusterSettings, circuits.run_cluster),
    ):
        given = {**where, "save_dir": str(tmp_path / of.__name__), "device": "cpu"}
        function(of(**given, stream=stream))
        given["save_dir"] += "-refused"
        with pytest.raises(InputError, match=f"`stream` {missing}"):
            function(of(**given, stream=missing))
        assert not (tmp_path / f"{of.__name__}-refused").exists()

    # The tracing's unpatched run is the checkpoint's own, as transformers reads it.
    loaded = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec)
    theirs = AutoModelForCausalLM.from_pretrained(run / "final_checkpoint")
    raw = np.load(next((tmp_path / "trace").glob("*.npz")))
    logits = theirs(loaded.encode(dataset.test.inputs[raw["test_rows"]])).logits[:, -1]
    before = raw["final_checkpoint/t/logit/before"][:, 0]
    own = loaded.token_ids[torch.from_numpy(dataset.test.answers[raw["test_rows"]])]
    expected = logits.gather(1, own[:, None])[:, 0].detach()
    np.testing.assert_allclose(before, expected, atol=1e-5)

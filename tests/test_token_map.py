"""Checkpoints trained elsewhere, analysed by a map of tokens: as the same weights saved our way."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from coverage_principle import circuits
from coverage_principle.circuits.token_map import TokenMap
from coverage_principle.data import load_dataset, read_json, sha256, write_json
from coverage_principle.errors import InputError
from tests.test_circuit_commands import save_checkpoint

SIZE = 40  # of the foreign vocabulary
GPT2 = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 8}
LIKE_LLAMA = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
#: Models as others configure them.
MODELS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2 with a head of its own, relu": (
        "gpt2",
        {**GPT2, "tie_word_embeddings": False, "activation_function": "relu"},
    ),
    "gpt2 with the exact gelu, upcast attention": (
        "gpt2",
        {
            **GPT2,
            "activation_function": "gelu",
            "scale_attn_by_inverse_layer_idx": True,
            "reorder_and_upcast_attn": True,
        },
    ),
    "llama": ("llama", {**LIKE_LLAMA, "num_key_value_heads": 1, "intermediate_size": 24}),
    "mamba": ("mamba", {"num_hidden_layers": 2, "hidden_size": 16}),
}


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


@pytest.fixture(scope="module")
def tokens(dataset):
    """The foreign model's id of each token of the data set."""
    order = np.random.default_rng(5).permutation(SIZE)
    return dict(zip(dataset.codec.vocabulary, order.tolist(), strict=False))


def build(kind, sizes):
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = AutoConfig.for_model(kind, vocab_size=SIZE, initializer_range=0.4, **sizes, **ends)
    # In 4.50 the fused attention of GPT-2 does not scale by layer.
    plain = {} if kind == "mamba" else {"attn_implementation": "eager"}
    return AutoModelForCausalLM.from_config(config, **plain).eval()


def save_foreign(folder, name="gpt2", dtype=torch.bfloat16, shard="8KB"):
    """A checkpoint as others leave it, and its model in float32, with the same rounded weights."""
    model = build(*MODELS[name]).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    whole = build(*MODELS[name])  # its buffers were never rounded
    whole.load_state_dict(model.state_dict())
    return whole


def save_tokenizer(folder):
    """Byte pairs: their tokens are not the texts that they stand for."""
    known = {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<unk>": 5}
    pairs = models.BPE(known, [("a", "b"), ("Ġ", "ab")], unk_token="<unk>")
    backend = Tokenizer(pairs)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(folder)


@pytest.fixture
def foreign(tmp_path, tokens):
    """A GPT-2 of another's, in 16 bits and several files, without a tokenizer, and its map."""
    folder, file = tmp_path / "their_model", tmp_path / "map.json"
    model = save_foreign(folder)
    assert len([*folder.glob("model-*-of-*.safetensors")]) > 2
    write_json(file, tokens)
    return SimpleNamespace(folder=folder, map=file, model=model)


@pytest.mark.parametrize("name", MODELS)
def test_states_and_logits_are_those_that_transformers_gives(name, tmp_path, dataset, tokens):
    model = save_foreign(tmp_path / "theirs", name)
    given = TokenMap(tmp_path, tuple(dataset.codec.vocabulary), tokens)
    loaded = circuits.open_checkpoint(tmp_path / "theirs", dataset.codec, token_map=given)
    rows = np.random.default_rng(0).integers(0, 10, size=(5, 3))
    ids = torch.tensor([[tokens[dataset.codec.vocabulary[i]] for i in row] for row in rows])
    state = loaded.run(rows, [("residual", 2)])["residual", 2]
    with torch.no_grad():
        expected = model(ids, use_cache=False).logits[..., [*tokens.values()]]
    torch.testing.assert_close(loaded.logits(state), expected, atol=2e-4, rtol=2e-4)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_analyses_are_those_of_the_same_weights_saved_our_way(
    foreign, dataset, tokens, tmp_path, run_command
):
    """Our way: ids in the order of a tokenizer of the data set's own tokens, in one file.

    Their model has a tokenizer of other words, which the map gives.
    """
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(SIZE)}))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(foreign.folder)
    write_json(foreign.map, {token: f"w{i}" for token, i in tokens.items()})
    ours = tmp_path / "run" / "final_checkpoint"
    save_checkpoint(ours, dataset.codec.vocabulary, 0)
    own = PreTrainedTokenizerFast.from_pretrained(ours).get_vocab()
    model = AutoModelForCausalLM.from_pretrained(ours)
    rows = torch.tensor([tokens[token] for token in sorted(own, key=own.get)])
    state = dict(foreign.model.state_dict())
    for name in ("transformer.wte.weight", "lm_head.weight"):
        state[name] = torch.cat([state[name][rows], torch.zeros(16 - len(rows), 16)])
    model.load_state_dict(state)
    model.save_pretrained(ours)
    write_json(tmp_path / "run" / "run_config.json", {"dataset": {"path": str(dataset.path)}})
    first = {"ckpt": ours, "save_dir": tmp_path / "ours", "device": "cpu"}
    second = {"ckpt": foreign.folder, "data_dir": dataset.path, "token_map": foreign.map}
    second |= {"save_dir": tmp_path / "theirs", "device": "cpu"}
    command = ["--save_dir", tmp_path / "theirs", "--device", "cpu", "--data_dir", dataset.path]
    command += ["--ckpt", foreign.folder, "--token_map", foreign.map]
    finished = run_command("circuit_analysis/trace.py", *command)
    assert finished.returncode == 0 and "warning" not in finished.stderr, finished.stderr
    _, traced = circuits.run_trace(circuits.TraceSettings(**first))
    found = read_json(tmp_path / "theirs" / "their_model_residual_diff_f1_rank.json")
    assert found["run"] == "their_model" and [*found["checkpoints"]] == ["their_model"]
    assert found["token_map"] == {"path": str(foreign.map), "sha256": sha256(foreign.map)}
    assert "token_map" not in traced
    same(found["checkpoints"]["their_model"], traced["checkpoints"]["final_checkpoint"])
    runs = [
        circuits.run_interchange(circuits.InterchangeSettings(**one))[1] for one in (second, first)
    ]
    same(*(next(iter(run["checkpoints"].values())) for run in runs))
    raw = [
        np.load(circuits.run_lens(circuits.LensSettings(**one))[0].with_suffix(".npz"))
        for one in (second, first)
    ]
    np.testing.assert_array_equal(raw[0]["their_model/rank"], raw[1]["final_checkpoint/rank"])
    for one in (first, second):
        one["vectors"] = "none"
    metrics = [circuits.run_cluster(circuits.ClusterSettings(**one))[1] for one in (second, first)]
    same(metrics[0]["cells"], metrics[1]["cells"])


def same(found, expected):
    """Equal but for rounding: sums over the vocabulary go in another order."""
    if isinstance(expected, dict):
        assert [*found] == [*expected]
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == (pytest.approx(expected, abs=1e-5) if expected is not None else None)


def test_a_text_is_a_token_of_the_tokenizer_or_what_it_makes_one_token_of(foreign, dataset, tokens):
    save_tokenizer(foreign.folder)
    given = {**tokens, "<t_0>": "ab", "<t_1>": " ab", "<t_2>": "Ġ"}
    taken = {3: "<t_0>", 4: "<t_1>", 2: "<t_2>"}
    given |= {
        token: i
        for i, token in enumerate(
            (token for token in tokens if token not in taken.values()), start=10
        )
    }
    write_json(foreign.map, given)
    found = TokenMap.read(foreign.map, dataset).ids(foreign.folder, SIZE)
    expected = {**given, **{token: i for i, token in taken.items()}}
    assert found == [expected[token] for token in dataset.codec.vocabulary]


def refusal(foreign, dataset):
    with pytest.raises(InputError) as caught:
        TokenMap.read(foreign.map, dataset).ids(foreign.folder, SIZE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"<t_3>": 1.5}, "gives <t_3> 1.5; a token is given an id (a whole number) or a text"),
        ({"<t_3>": True}, "gives <t_3> True; a token is given an id"),
        ({"<t_3>": None}, "gives <t_3> None; a token is given an id"),
        ({"<t_3>": SIZE}, f"gives <t_3> the id {SIZE}, but the model in"),
        ({"<t_3>": -1}, "has ids from 0 to 39"),
        ({"<t_3>": "a b"}, "gives the text 'a b', but the tokenizer of"),
        ({"<t_3>": "ba"}, "makes 2 tokens of it"),
        ({"<t_3>": "z"}, "makes 0 tokens of it"),
        ({"<t_3>": ""}, "makes 0 tokens of it"),
        ({"<t_3>": 7, "<t_5>": 7}, "gives <t_5> the same id as <t_3>, 7; each token needs one"),
    ],
)
def test_each_fault_of_a_map_is_one_sentence(change, words, foreign, dataset, tokens):
    save_tokenizer(foreign.folder)
    write_json(foreign.map, {**tokens, **change})
    said = refusal(foreign, dataset)
    assert said.startswith(f"`token_map` {foreign.map} gives ") and words in said


def test_a_map_must_have_every_token_of_an_item_and_no_other(foreign, dataset, tokens):
    used = dict(tokens)
    del used["</a>"]  # ends targets, and is never asked for
    write_json(foreign.map, used | {"<of another data set>": "?"})
    loaded = circuits.open_checkpoint(
        foreign.folder, dataset.codec, token_map=TokenMap.read(foreign.map, dataset)
    )
    (end,) = loaded.unmapped
    assert dataset.codec.vocabulary[end] == "</a>"
    state = torch.randn(6, 16)
    logits, others = loaded.logits(state), [*used.values()]
    expected = foreign.model.lm_head(foreign.model.transformer.ln_f(state))[:, others]
    torch.testing.assert_close(logits[:, :end], expected)
    assert (logits[:, end] < -1e38).all()
    wanted = torch.arange(6)[:, None]
    read = loaded.read(state, wanted, ["rank", "prob"])
    ranks = (expected > expected.gather(1, wanted)).sum(1)
    np.testing.assert_array_equal(read["rank"][:, 0], ranks)
    site = circuits.Site(2, 2)
    for stream in ("logit", "prob"):
        found = circuits.collect_states(loaded, np.zeros((1, 3), int), [site], stream=stream)
        assert found[site].shape == (1, len(used)) and (abs(found[site]) < 1e3).all()
    del used["<t_3>"], used["<t_4>"]
    write_json(foreign.map, used)
    words = f"lacks 2 of the 10 tokens that stand in the items of {dataset.name}, such as <t_3>"
    assert words in refusal(foreign, dataset)


def test_texts_need_a_tokenizer(foreign, dataset, tokens):
    write_json(foreign.map, {**tokens, "<t_0>": "ab"})
    said = refusal(foreign, dataset)
    assert "gives texts, such as 'ab', but" in said and said.endswith("give ids in their place")


def test_what_is_refused_before_any_work(foreign, dataset, tmp_path, run_command, refused):
    command = ["--ckpt", foreign.folder, "--token_map", foreign.map, "--save_dir", tmp_path / "out"]
    finished = run_command("circuit_analysis/lens.py", *command, "--data_dir", tmp_path)
    refused(finished, f"--data_dir {tmp_path} is no data set")
    foreign.map.write_text(json.dumps([1]))
    finished = run_command("circuit_analysis/lens.py", *command, "--data_dir", dataset.path)
    refused(finished, "must be a JSON object, found a list")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------ scores and answers


@pytest.mark.parametrize("end", [True, False], ids=["its end", "another end"])
def test_scores_and_answers_are_those_of_the_model(
    end, foreign, dataset, tokens, tmp_path, run_command
):
    names = {i: token for token, i in tokens.items()}
    if not end:  # an id that no other token has stands for it
        tokens = {token: i for token, i in tokens.items() if token != "</a>"}
        names[min(set(range(SIZE)) - {*tokens.values()})] = "</a>"
        write_json(foreign.map, tokens)
    command = ["--data_dir", dataset.path, "--do_eval", "--do_predict", "--device", "cpu"]
    command += ["--model_name_or_path", foreign.folder, "--token_map", foreign.map]
    finished = run_command("main.py", *command, "--prediction_dir", tmp_path / "out")
    assert finished.returncode == 0, finished.stderr
    items = read_json(tmp_path / "out" / "all_items.json")
    ids = torch.tensor(
        [[tokens[f"{part}>"] for part in item["input_text"].split(">")[:-1]] for item in items]
    )
    with torch.no_grad():
        logits = foreign.model(ids).logits[:, -1]
    best = [names.get(i, f"<row_{i}>") for i in logits.argmax(-1).tolist()]
    expected = [f"{item['input_text']}{own}</a>" for item, own in zip(items, best, strict=True)]
    stopped = [f"{item['input_text']}</a>" for item in items]  # the end itself was the best
    for item, own, none in zip(items, expected, stopped, strict=True):
        assert item["model_output"] == (own if not own.endswith("</a></a>") else none)
    type_0 = [i for i, item in enumerate(items) if item["type"] == "type_0"]
    targets = [tokens[f"{items[i]['target_text'].split('>')[3]}>"] for i in type_0]
    loss = torch.nn.functional.cross_entropy(logits[type_0], torch.tensor(targets)).item()
    line = next(line for line in finished.stdout.splitlines() if line.startswith("type_0 "))
    assert f" {loss:.4f} " in line


@pytest.mark.parametrize("flag", ["--do_train", "--init_weights", "--save_model x"])
def test_a_map_is_for_models_that_are_only_run(flag, foreign, dataset, run_command, refused):
    command = ["--data_dir", dataset.path, "--output_dir", foreign.folder / "out", "--do_eval"]
    command += ["--model_name_or_path", foreign.folder, "--token_map", foreign.map]
    finished = run_command("main.py", *command, *flag.split())
    refused(finished, f"to score and ask it; omit {flag.split()[0]}")

"""A trained model in a notebook, against transformers itself and against what commands write."""

from __future__ import annotations

import inspect
import json
import re
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import coverage_principle as cp
from coverage_principle import circuits
from coverage_principle.data import read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.notebook import Run
from simpletransformers.seq2seq.run_folder import RunFolder
from simpletransformers.settings import fields_of
from tests.conftest import ROOT
from tests.test_circuit_commands import LAYERS, save_checkpoint

WIDTH = 16


def make_run(folder, dataset_dir, names):
    """A run of untrained models: their ids are not the data set's, and they have outputs to spare.

    Its history has two evaluations.
    """
    vocabulary = read_json(dataset_dir / "vocab.json")
    for seed, name in enumerate(names):
        save_checkpoint(folder / name, vocabulary, seed)
    about = {"name": dataset_dir.name, "path": str(dataset_dir)}
    write_json(folder / "run_config.json", {"dataset": about, "args": {"seed": 42}})
    scores = {"type_0": {"n": 60, "loss": 2.5, "answer_accuracy": 0.1, "exact_match": 0.1}}
    event = {"epoch": 1.0, "train_loss": 2.0, "lr": 0.001, "elapsed_s": 1.0, "eval": scores}
    lines = [json.dumps({"step": step, **event}) for step in (20, 100)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, small_dataset):
    folder = tmp_path_factory.mktemp("runs") / f"{small_dataset.name}_seed-42"
    return make_run(folder, small_dataset, ("checkpoint-20", "checkpoint-100", "final_checkpoint"))


@pytest.fixture(scope="module")
def run(run_dir):
    return cp.load_run(run_dir)


@pytest.fixture(scope="module")
def texts(small_dataset):
    records = read_json(small_dataset / "test.json")
    return [record["input_text"] for record in records[:40]]


@pytest.fixture(scope="module")
def bridged(tmp_path_factory, run_command):
    """A run of a data set with bridges in its targets."""
    folder = tmp_path_factory.mktemp("bridged")
    finished = run_command(
        *("dataset_generation/twohop.py", "--num_tokens", 8, "--max_train_data_num", 100),
        *("--test_size_for_type", 20, "--cot", "--output_dir", folder),
    )
    assert finished.returncode == 0, finished.stderr
    (data,) = folder.iterdir()
    return cp.load_run(make_run(folder / "run", data, ("final_checkpoint",)))


def of_transformers(checkpoint, texts):
    """What transformers alone makes of texts: hidden states by layer, and logits."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    ids = AutoTokenizer.from_pretrained(checkpoint)(texts, return_tensors="pt").input_ids
    with torch.no_grad():
        found = model(ids, output_hidden_states=True)
    return [state.numpy() for state in found.hidden_states], found.logits


def best_tokens(checkpoint, vocabulary, logits):
    """Of logits (n, outputs) the most probable token of ``vocabulary`` and its probability."""
    own = AutoTokenizer.from_pretrained(checkpoint).convert_tokens_to_ids(list(vocabulary))
    chances = logits.softmax(-1)[:, own]
    best = chances.max(-1)
    return [vocabulary[i] for i in best.indices.tolist()], best.values.numpy()


# ------------------------------------------------------------------------------ what a run knows


def test_a_run_tells_what_its_folder_holds(run, run_dir, small_dataset):
    assert run.settings == read_json(run_dir / "run_config.json")
    assert [event["step"] for event in run.history] == [20, 100]
    assert run.history == RunFolder(run_dir).evaluations()
    assert run.checkpoints == ["checkpoint-20", "checkpoint-100", "final_checkpoint"]
    assert run.dataset.path == small_dataset and run.dataset is run.dataset


def test_a_run_is_found_by_name_path_and_checkpoint(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.parent)
    assert cp.load_run(run_dir.name) == cp.load_run(run_dir) == cp.load_run(str(run_dir))
    early = cp.load_run(run_dir / "checkpoint-20")
    assert (early.path, early.checkpoint) == (run_dir, "checkpoint-20")


def test_a_run_and_what_it_gives_describe_themselves_in_a_line(run, run_dir, small_dataset):
    data, size = small_dataset.name, "gpt2 of 2 layers, 2 heads, width 16"
    steps = "checkpoint-20, checkpoint-100, final_checkpoint"
    assert repr(run) == f"<Run {data}_seed-42: trained on {data}, {size}; {steps}; done>"
    early = repr(cp.load_run(run_dir / "checkpoint-20"))
    assert f"{steps} (used: checkpoint-20); done>" in early
    loaded = circuits.open_checkpoint(run_dir / "final_checkpoint", run.dataset.codec)
    assert repr(loaded) == "<LoadedModel gpt2 of 2 layers, width 16, for 11 tokens, on cpu>"
    assert repr(RunFolder(run_dir)) == f"RunFolder({str(run_dir)!r})"
    settings = circuits.TraceSettings(model_dir=run_dir, save_dir="x", device="cpu")
    subject = circuits.Subject.find(settings)
    assert repr(subject) == f"<Subject {data}_seed-42: {steps}; {data}; cpu>"
    family = circuits.family_of(run.dataset.graph, "diff_f1")
    splits = subject.splits(circuits.grouping_of(run.dataset.graph, "b"))
    plan = circuits.plan_trace(run.dataset, family, splits, seed=0)
    (trace,) = circuits.patch_runs(loaded, plan.originals, plan.sources, plan.wanted)
    count = len(plan.rows)
    assert repr(trace) == f"<Trace of {count} samples at 2 layers and 3 positions>"
    for thing in (plan, splits["id_test"]):
        assert "\n" not in repr(thing) and "array" not in repr(thing) and len(repr(thing)) < 400


def test_a_long_run_and_one_that_goes_on_are_described_in_a_line(run_dir, tmp_path):
    copy = tmp_path / "model"
    for step in (1, 2, 3, 4, 50):
        shutil.copytree(run_dir / "checkpoint-20", copy / f"checkpoint-{step}")
    found = repr(cp.load_run(copy))
    assert found.startswith(f"<Run {tmp_path.name}/model: trained on model, gpt2 of")
    assert found.endswith("; 5 checkpoints from checkpoint-1 to checkpoint-50; not done>")
    # The published trainer leaves its last model beside the checkpoints: still a run.
    shutil.copy(run_dir / "checkpoint-20" / "config.json", copy)
    assert cp.load_run(copy).checkpoint == "checkpoint-50"


# ------------------------------------------------------------------------------- states, answers


def test_hidden_states_are_those_of_transformers(run, run_dir, texts):
    for name in ("checkpoint-20", "final_checkpoint"):
        states, _ = of_transformers(run_dir / name, texts)
        for layer in range(LAYERS):  # transformers norms what it calls the last state
            for position, slot in enumerate(("x1", "x2", "x3")):
                found = run.hidden_states(texts, layer, position, checkpoint=name)
                assert found.shape == (len(texts), WIDTH) and found.dtype == np.float32
                np.testing.assert_allclose(found, states[layer][:, position], atol=1e-5)
                again = run.hidden_states(texts, layer, slot, checkpoint=name)
                np.testing.assert_array_equal(found, again)
        normed = run.hidden_states(texts, LAYERS, "x3", after_ln_f=True, checkpoint=name)
        np.testing.assert_allclose(normed, states[LAYERS][:, 2], atol=1e-5)
    middle, mlp, after = (
        run.hidden_states(texts, 1, "x2", stream=stream)
        for stream in ("post_attention", "post_mlp", "residual")
    )
    np.testing.assert_allclose(middle + mlp, after, atol=1e-5)


def test_answers_are_the_most_probable_tokens(run, run_dir, texts):
    vocabulary = read_json(run.dataset.path / "vocab.json")
    for given, name in ((100, "checkpoint-100"), (None, "final_checkpoint")):
        _, logits = of_transformers(run_dir / name, texts)
        answers, chances = best_tokens(run_dir / name, vocabulary, logits[:, -1])
        found, probabilities = run.predict(texts, probabilities=True, checkpoint=given)
        assert found == answers == run.predict(texts, checkpoint=given)
        np.testing.assert_allclose(probabilities, chances, atol=1e-6)
    loaded = cp.load_run(run_dir / "checkpoint-100")
    assert loaded.predict(texts) == run.predict(texts, checkpoint="checkpoint-100")
    assert loaded.predict(texts) != run.predict(texts)


def test_items_are_texts_or_values(run, texts):
    values = run.dataset.test.inputs[: len(texts)]
    assert run.predict(values) == run.predict(texts) == run.predict(values.tolist())
    assert run.predict(texts[0]) == run.predict(iter(texts[:1])) == run.predict(texts)[:1]
    states = [run.hidden_states(one, 1, 2) for one in (np.array(texts), values)]
    np.testing.assert_array_equal(*states)


def test_a_model_that_writes_bridges_reads_its_own_and_is_shown_the_true_ones(bridged):
    """``predict`` goes on with what it wrote; states at b are after the b of the data set."""
    records = read_json(bridged.dataset.path / "test.json")[:15]
    texts = [record["input_text"] for record in records]
    checkpoint, vocabulary = bridged.path / "final_checkpoint", bridged.dataset.codec.vocabulary
    own = texts
    for _ in range(2):  # b, then t
        _, logits = of_transformers(checkpoint, own)
        tokens, chances = best_tokens(checkpoint, vocabulary, logits[:, -1])
        own = [text + token for text, token in zip(own, tokens, strict=True)]
    found, probabilities = bridged.predict(texts, probabilities=True)
    assert found == tokens
    np.testing.assert_allclose(probabilities, chances, atol=1e-6)
    true = ["".join(re.findall("<[^>]*>", r["target_text"])[:4]) for r in records]
    assert true != [text[: len(t)] for text, t in zip(own, true, strict=True)]
    states, _ = of_transformers(checkpoint, true)
    found = bridged.hidden_states(texts, 1, "b")
    np.testing.assert_allclose(found, states[1][:, 3], atol=1e-5)
    np.testing.assert_array_equal(found, bridged.hidden_states(texts, 1, 3))


# --------------------------------------------------------------------------------------- tracing


def test_tracing_is_what_the_command_writes(run, run_dir, run_command, tmp_path):
    few = {"metric": "prob", "max_items": 9, "out_of_domain": True, "checkpoint": 20}
    two = {"pairs": [(1, "x2"), [2, 2]], "stream": "post_mlp", "checkpoint": 20}
    for name, settings, flags in (
        ("all", {}, ("--step_list", "final_checkpoint")),
        ("few", few, ("--step_list", 20, "--metric_type", "prob", "--max_items", 9, "--ood")),
        ("two", two, ("--step_list", 20, "--layer_pos_pairs", "[(1,1),(2,2)]", "--mode=post_mlp")),
    ):
        command = ["circuit_analysis/trace.py", "--model_dir", run_dir, "--family", "diff_f1"]
        finished = run_command(*command, "--save_dir", tmp_path / name, *flags)
        assert finished.returncode == 0, finished.stderr
        (file,) = (tmp_path / name).glob("*.json")
        assert run.trace("diff_f1", **settings).results == read_json(file)


def test_records_of_tracing_are_its_cells(run, bridged):
    traced = run.trace(max_items=12)
    (splits,) = traced.results["checkpoints"].values()
    records = traced.to_records(subset="unfiltered", effect="logit_shift")
    assert len(records) == len(splits) * LAYERS * 3
    for record in records:
        (cell,) = (
            cell
            for cell in splits[record["split"]]["cells"]
            if (cell["layer"], cell["position"]) == (record["layer"], record["position"])
        )
        found = cell["unfiltered"]["logit_shift"]
        assert record["n"] == cell["unfiltered"]["n"] and record["slot"] == cell["slot"]
        assert [record["low"], record["high"]] == found["interval"]
        assert record["mean"] == found["mean"] and record["value"] == "t"
    rates = traced.to_records()
    assert {record["effect"] for record in rates} == {"both"}
    at_x1 = next(r for r in rates if r["slot"] == "x1")  # the same token in both runs
    n, z2 = at_x1["n"], 1.96**2
    assert (at_x1["mean"], at_x1["low"]) == (0, 0) and n > 3
    assert at_x1["high"] == pytest.approx(z2 / (n + z2))  # Wilson's, of none among n
    assert list(traced.to_frame().columns) == list(rates[0])
    sizes = ", ".join(f"{name} {part['samples']['n']}" for name, part in splits.items())
    assert repr(traced) == (
        f"<Tracing of diff_f1 in {run.name}, final_checkpoint: rank at 6 states (residual); "
        f"samples: {sizes}>"
    )
    assert {record["value"] for record in bridged.trace().to_records()} == {"b", "t"}


def test_tracing_is_drawn_as_a_figure_that_a_notebook_shows(run):
    traced = run.trace("diff_f1", metric="prob", max_items=12)
    figure = traced.plot(subset="unfiltered")
    drawn = {text.get_position(): float(text.get_text()) for text in figure.axes[0].texts}
    cells = [r for r in traced.to_records(subset="unfiltered") if r["split"] == "id_train"]
    assert len(drawn) == len(cells) == LAYERS * 3
    for record in cells:
        shown = drawn[record["position"], record["layer"] - 1]
        assert shown == pytest.approx(record["mean"], abs=0.0051)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_signatures_show_the_defaults_of_the_settings():
    elsewhere = {"data_dir", "device", "trust_code", "model_dir", "ckpt", "step_list", "save_dir"}
    elsewhere |= {"eval_loops", "token_map"}  # the run's, and of commands alone
    wanted = {name for name in fields_of(circuits.TraceSettings) if name not in elsewhere}
    found = inspect.signature(Run.trace).parameters
    assert set(found) - {"self", "checkpoint", "progress"} == wanted
    for name in wanted:
        assert found[name].default == getattr(circuits.TraceSettings, name), name


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: cp.load_run("nowhere"), "`path` nowhere does not exist; .* holds "),
        (lambda _: cp.load_run(3), "`path` 3 is not the path of a folder"),
        (lambda r: cp.load_run(r.path.parent), "is no run itself; runs in it: twohop.10.200.*42$"),
        (lambda r: cp.load_run(r.dataset.path), "holds no checkpoint-STEP or final_checkpoint"),
        (lambda r: cp.load_run(r.path, device="tpu"), "`device` tpu is not known; use auto, cpu"),
        (lambda r: r.predict([]), "`items` is empty"),
        (lambda r: r.predict("<t_1>"), r"`items` \[0\]: '<t_1>' has 1 token, but task twohop has"),
        (lambda r: r.predict(["<t_1><t_2><t_3>", "x"]), r"`items` \[1\]: 'x' is not a sequence"),
        (lambda r: r.predict([[1, 2, 10]]), r"`items` \[0\] has the value 10 at x3, .* 0 to 9"),
        (lambda r: r.predict([[1, 2]]), r"or an integer array \(n, 3\) of values of x1, x2, x3"),
        (lambda r: r.predict(np.ones((2, 3))), r"found float64 \(2, 3\)"),
        (lambda r: r.predict([[1, 2], [1, 2, 3]]), "`items` must be texts such as '<t_0><t_0>"),
        (lambda r: r.predict(None), "`items` must be texts such as"),
        (lambda r: r.predict(np.array(3)), "`items` must be texts such as"),
        (lambda r: state(r, 3, 0), "`layer` 3 does not exist: `stream` residual has layers 0 to 2"),
        (lambda r: state(r, "1", 0), "`layer` '1' does not exist"),
        (lambda r: state(r, 1, -1), "`position` -1 does not exist: positions are 0 .x1., 1 .x2., "),
        (lambda r: state(r, 1, "b"), "`position` 'b' does not exist: positions are 0"),
        (lambda r: state(r, 1, 0, stream="mlp"), "`stream` mlp is not one of residual, post_att"),
        (lambda r: state(r, 1, 0, stream="logit"), "`stream` logit has layer 2"),
        (lambda r: state(r, 1, 0, after_ln_f=True), "`after_ln_f` is of layer 2 of the residual"),
        (lambda r: state(r, 1, 0, checkpoint=30), "`checkpoint` 30 .* checkpoint-20, checkpoint-1"),
        (lambda r: r.trace("diff_f2"), "`family` diff_f2 does not exist: task twohop has diff_f1"),
        (lambda r: r.trace(metric="p"), "`metric` p is not one of rank, prob, logit"),
        (lambda r: r.trace(stream="logit"), "`stream` logit cannot be patched; give residual, "),
        (lambda r: r.trace(pairs=[(3, 1)]), r"`pairs` \(3,1\) does not exist: there are layers 1"),
        (lambda r: r.trace(pairs=[(1, "t")]), "`pairs` 't' does not exist: positions are 0"),
        (lambda r: r.trace(pairs=(1, 2)), "`pairs` must be pairs of layer and position, such as"),
        (lambda r: r.trace(pairs=[]), "`pairs` is empty"),
        (lambda r: r.trace(pairs=[("1", 2)]), "`pairs`: layer '1' is not a whole number"),
        (lambda r: r.trace(k_groups="1+"), "`k_groups` 1. needs k-cutoffs in "),
        (lambda r: r.trace(max_items=0), "`max_items` 0 is too small"),
        (lambda r: r.trace(max_items=5).to_records(subset="all"), "`subset` all is not one of pub"),
        (lambda r: r.trace(max_items=5).to_records(effect="n"), "`effect` n is not one of changed"),
        (lambda r: r.trace(max_items=5).plot(subset="all"), "`subset` all is not one of published"),
    ],
)
def test_wrong_arguments_get_a_sentence(run, call, words):
    with pytest.raises(InputError, match=words):
        call(run)


def state(run, layer, position, **options):
    return run.hidden_states("<t_1><t_2><t_3>", layer, position, **options)


def test_a_model_outside_a_run_and_a_run_without_its_data_get_a_sentence(run_dir, tmp_path):
    shutil.copytree(run_dir / "checkpoint-20", tmp_path / "best")
    with pytest.raises(InputError, match="best holds a model, but a checkpoint of a run is called"):
        cp.load_run(tmp_path / "best")
    (tmp_path / "best").rename(tmp_path / "final_checkpoint")
    with pytest.raises(InputError, match="is not at .*; name it by `data_dir`"):
        cp.load_run(tmp_path).dataset  # noqa: B018
    with pytest.raises(InputError, match="holds no evaluation"):
        cp.load_run(tmp_path).history  # noqa: B018


def test_the_python_of_the_page_works(run_dir):
    text = (ROOT / "docs" / "circuit_analysis.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    named = re.search(r'load_run\("(.*?)"\)', block)[1]
    found: dict[str, object] = {}
    exec(compile(block.replace(named, str(run_dir)), "docs/circuit_analysis.md", "exec"), found)
    assert found["states"].shape == (2, WIDTH)

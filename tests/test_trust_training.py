"""A run's records say what happened, its good state stays, and a model is what was saved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel
from simpletransformers.seq2seq.run_folder import RunFolder
from tests.test_trainer import TOKENS, pairs, tiny_model

EVAL = {"evaluate_during_training": True, "evaluate_during_training_steps": 2, "logging_steps": 2}


def content(folder):
    """Everything in a folder, byte by byte, hidden files too."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    tiny_model(**EVAL).train_model(pairs(30), pairs(30), folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A run of 10 steps that has ended, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "data", "words"),
    [
        ({"resume": True, "learning_rate": 0.5}, 30, "learning_rate was 0.01, is 0.5"),
        ({"resume": True}, 29, "training data was"),
        ({"resume": True, "max_steps": 4}, 30, "it has done 10 steps, more than the 4"),
        ({}, 30, "already holds a run"),
        ({"overwrite_output_dir": True, "stop_when": "type_9>=0.9"}, 30, "evaluated groups are"),
        ({"overwrite_output_dir": True, "stop_when": "type_0:x>=0.9"}, 30, "looks at x"),
    ],
)
def test_a_refused_training_changes_nothing(run, changes, data, words):
    before = content(run)
    with pytest.raises(InputError, match=words):
        tiny_model(**{**EVAL, **changes}).train_model(pairs(data), pairs(30), run)
    assert content(run) == before


def test_a_refused_training_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="evaluated groups are"):
        tiny_model(**EVAL, stop_when="type_9>=0.9").train_model(
            pairs(30), pairs(30), tmp_path / "run"
        )
    assert list(tmp_path.iterdir()) == []


def test_the_record_is_of_the_model_that_was_trained(run, tmp_path):
    args = RunFolder(run).settings()["args"]
    assert (args["n_layer"], args["n_head"], args["n_embd"], args["n_inner"]) == (2, 2, 16, 64)
    assert RunFolder(run).settings()["model_type"] == "gpt2"
    loaded = run / "final_checkpoint"
    for name, value in {"n_layer": 7, "no_ln": True, "n_embd": 32, "no_mlp": True}.items():
        with pytest.raises(InputError, match=f"`{name}` {value} is not what .* holds"):
            Seq2SeqModel("gpt2", loaded, {name: value}, device="cpu")
    model = Seq2SeqModel("gpt2", loaded, {"n_layer": 2, "max_steps": 3}, device="cpu")
    model.train_model(pairs(30), output_dir=tmp_path / "more")
    recorded = RunFolder(tmp_path / "more").settings()["args"]
    assert (recorded["n_layer"], recorded["max_steps"], recorded["no_ln"]) == (2, 3, False)
    with pytest.raises(InputError, match="`model_type` llama is not what .* holds \\(gpt2\\)"):
        Seq2SeqModel("llama", loaded, device="cpu")


@pytest.mark.parametrize("switch", ["no_ln", "no_mlp", "share_mlp", "add_recurrence"])
def test_a_switched_model_is_loaded_and_described_as_it_was_saved(tmp_path, switch):
    model = tiny_model(**{switch: True})
    model.save(tmp_path / "model")
    loaded = Seq2SeqModel("gpt2", tmp_path / "model", device="cpu")
    assert getattr(loaded.args, switch) and loaded.args.n_layer == 2
    with pytest.raises(InputError, match=f"`{switch}` False is not what .* holds"):
        Seq2SeqModel("gpt2", tmp_path / "model", {switch: False}, device="cpu")
    prompt = torch.tensor([[0, 1, 2]])
    with torch.no_grad():
        expected, found = (m.model.eval()(prompt).logits for m in (model, loaded))
    assert torch.equal(expected, found)


def test_while_a_run_is_extended_nothing_of_it_stands_as_final(run):
    (run / "README.md").write_text("a card")
    seen = {}

    def report(event):
        if event["step"] > 10:
            seen.setdefault("final", (run / "final_checkpoint").exists())
            seen.setdefault("card", (run / "README.md").exists())
            seen.setdefault("old", (run / "checkpoint-10" / "config.json").exists())

    longer = tiny_model(**EVAL, resume=True, max_steps=14)
    longer.train_model(pairs(30), pairs(30), run, report=report)
    assert seen == {"final": False, "card": False, "old": True}
    assert RunFolder(run).done and RunFolder(run).events()[-1]["step"] == 14
    assert RunFolder(run).settings()["args"]["max_steps"] == 14


def test_a_run_that_has_ended_is_left_as_it_is(run):
    before = content(run)
    result = tiny_model(**EVAL, resume=True).train_model(pairs(30), pairs(30), run)
    assert (result.step, result.reason, result.complete) == (10, "finished", True)
    assert content(run) == before


def test_a_run_without_a_state_is_not_gone_on_with(run):
    shutil.rmtree(run / "resume_state")
    before = content(run)
    with pytest.raises(InputError, match="ended and kept no state to go on from; give `overwr"):
        tiny_model(**EVAL, resume=True, max_steps=20).train_model(pairs(30), pairs(30), run)
    assert content(run) == before


def test_scores_that_cannot_be_written_are_refused_before_anything_is(run):
    scores = run / "training_progress_scores.csv"
    scores.unlink()
    scores.symlink_to("/proc/self/mem")
    before = sorted(run.rglob("*"))
    with pytest.raises(OSError, match="mem"):
        tiny_model(**EVAL, resume=True, max_steps=14).train_model(pairs(30), pairs(30), run)
    assert sorted(run.rglob("*")) == before


def test_an_early_stop_is_the_end_unless_more_is_asked_for(tmp_path):
    rules = {**EVAL, "stop_when": "type_0>=0.0", "max_steps": 20}
    first = tiny_model(**rules).train_model(pairs(30), pairs(30), tmp_path)
    assert (first.step, first.reason) == (2, "type_0 >= 0")
    before = content(tmp_path)
    again = tiny_model(**rules, resume=True).train_model(pairs(30), pairs(30), tmp_path)
    assert (again.step, again.reason) == (2, "type_0 >= 0")
    assert content(tmp_path) == before
    other = {**rules, "stop_when": "type_0>=1.0", "max_steps": 8}
    assert tiny_model(**other, resume=True).train_model(pairs(30), pairs(30), tmp_path).step == 8


def test_a_longer_run_needs_a_schedule_that_allows_it(tmp_path):
    linear = {"scheduler": "linear_schedule_with_warmup"}
    tiny_model(**linear).train_model(pairs(30), output_dir=tmp_path)
    with pytest.raises(InputError, match="number of steps was 10, is 12; only with a constant"):
        tiny_model(**linear, max_steps=12, resume=True).train_model(pairs(30), output_dir=tmp_path)


def test_a_run_that_ended_before_its_final_checkpoint_was_written_gets_it(run):
    shutil.rmtree(run / "final_checkpoint")
    weights = torch.load(run / "resume_state" / "state.pt", weights_only=True)["model"]
    result = tiny_model(**EVAL, resume=True).train_model(pairs(30), pairs(30), run)
    assert result.complete and RunFolder(run).done
    assert torch.equal(
        load_file(run / "final_checkpoint" / "model.safetensors")["transformer.wte.weight"],
        weights["transformer.wte.weight"],
    )


def test_a_run_killed_before_its_first_state_begins_again(run, tmp_path):
    for name in ("resume_state", "final_checkpoint"):
        shutil.rmtree(run / name)
    with pytest.raises(InputError, match="cannot be resumed.*learning_rate"):
        tiny_model(**EVAL, resume=True, learning_rate=0.5).train_model(pairs(30), pairs(30), run)
    tiny_model(**EVAL, resume=True).train_model(pairs(30), pairs(30), run)
    whole = tmp_path / "whole"
    tiny_model(**EVAL).train_model(pairs(30), pairs(30), whole)
    assert [e["train_loss"] for e in RunFolder(run).events()] == [
        e["train_loss"] for e in RunFolder(whole).events()
    ]


@pytest.mark.parametrize("logging_steps", [1, 50])
def test_a_broken_step_is_noticed_before_anything_is_written_of_it(tmp_path, logging_steps):
    model = tiny_model(
        **{**EVAL, "logging_steps": logging_steps, "evaluate_during_training_steps": 4},
        save_steps=2,
        max_steps=8,
    )

    def breaks(event):
        if event["step"] == 4:
            with torch.no_grad():
                next(model.model.parameters()).fill_(float("nan"))

    with pytest.raises(InputError, match="not finite any more at step 4.*overwrite_output_dir"):
        model.train_model(pairs(30), pairs(30), tmp_path, report=breaks)
    run = RunFolder(tmp_path)
    assert [path.name for path in run.checkpoints()] == ["checkpoint-2"]
    weights = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert run.load_state()["step"] == 2 and run.events()[-1]["step"] == 4 and not run.done


def test_a_learning_rate_that_blows_up_is_refused_with_advice_that_works(tmp_path):
    wild = {**EVAL, "learning_rate": 1e30, "max_steps": 8, "save_steps": 1}
    with pytest.raises(InputError, match="not finite") as refusal:
        tiny_model(**wild).train_model(pairs(30), pairs(30), tmp_path)
    assert "`overwrite_output_dir`" in str(refusal.value)
    for path in RunFolder(tmp_path).checkpoints():
        assert all(t.isfinite().all() for t in load_file(path / "model.safetensors").values())
    tame = {**EVAL, "overwrite_output_dir": True}
    assert tiny_model(**tame).train_model(pairs(30), pairs(30), tmp_path).complete


def edit(checkpoint, **changes):
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def weights(change):
    def apply(checkpoint):
        file = checkpoint / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return apply


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            weights(lambda w: w.pop("transformer.h.1.mlp.c_fc.weight")),
            "do not have transformer.h.1",
        ),
        (
            weights(lambda w: w.update(more=torch.ones(2))),
            "beside what its config.json asks for, m",
        ),
        (weights(lambda w: w["transformer.wpe.weight"].fill_(float("nan"))), "not finite"),
        (
            weights(lambda w: w.update({n: t.char() for n, t in w.items() if ".wpe." in n})),
            "have as integers, and not as the floats that are needed, transformer.wpe",
        ),
        (lambda c: edit(c, n_embd=32), "cannot be loaded|in another shape"),
        (lambda c: edit(c, n_layer=1), "beside what its config.json asks for"),
        (lambda c: edit(c, n_layer=3), "do not have transformer.h.2"),
        (lambda c: edit(c, model_type="bert"), "holds a bert"),
        (lambda c: (c / "config.json").write_text("{"), "not valid JSON"),
        (lambda c: (c / "config.json").write_text("[1]"), "must be a JSON object"),
        (
            lambda c: (c / "model.safetensors").write_bytes(b"version https://git-lfs"),
            "not a whole",
        ),
        (
            lambda c: (c / "model.safetensors").write_bytes(
                (c / "model.safetensors").read_bytes()[:-40]
            ),
            "is not a whole file of weights",
        ),
        (lambda c: (c / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda c: (c / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda c: (c / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda c: (c / "model_args.json").write_text("{"), "model_args.json is not valid JSON"),
        (lambda c: (c / "model_args.json").write_text('{"n_layer": "x"}'), "model_args.json: "),
    ],
)
def test_a_model_that_is_not_what_was_saved_is_refused(run, damage, words):
    checkpoint = run / "final_checkpoint"
    damage(checkpoint)
    with pytest.raises(InputError, match=words):
        Seq2SeqModel("gpt2", checkpoint, device="cpu")


def test_another_models_tokenizer_is_refused(run, tmp_path):
    tokens, sizes = ["<t_9>", *TOKENS], {"n_layer": 1, "n_head": 1, "n_embd": 8}
    other = Seq2SeqModel("gpt2", "gpt2", sizes, tokens, init_weights=True, device="cpu")
    other.save(tmp_path / "other")
    checkpoint = run / "final_checkpoint"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "other" / name, checkpoint / name)
    with pytest.raises(InputError, match="is another model's"):
        Seq2SeqModel("gpt2", checkpoint, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_of_16_bits_is_loaded_and_trained_in_32(run, tmp_path, dtype):
    checkpoint = run / "final_checkpoint"
    weights(lambda w: w.update({n: t.to(dtype) for n, t in w.items()}))(checkpoint)
    edit(checkpoint, torch_dtype=str(dtype).removeprefix("torch."))
    edit(checkpoint, dtype=str(dtype).removeprefix("torch."))
    model = Seq2SeqModel("gpt2", checkpoint, {"max_steps": 2}, device="cpu")
    assert {p.dtype for p in model.model.parameters()} == {torch.float32}
    model.train_model(pairs(30), output_dir=tmp_path / "more")
    saved = load_file(tmp_path / "more" / "final_checkpoint" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_scores_stand_under_their_headings_when_groups_change(run):
    """--test_types given at the resumption: the CSV has a column for every group of either part."""
    more = [{**record, "type": "type_7"} for record in pairs(30)]
    tiny_model(**EVAL, resume=True, max_steps=14).train_model(pairs(30), more, run)
    import csv

    rows = list(csv.DictReader((run / "training_progress_scores.csv").open()))
    events = [event for event in RunFolder(run).events() if "eval" in event]
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        assert None not in row and row["global_step"] == str(event["step"])
        for column, value in row.items():
            group = column.partition("eval_acc-")[2]
            if group:
                scores = event["eval"].get(group)
                assert value == ("" if scores is None else str(scores["answer_accuracy"]))

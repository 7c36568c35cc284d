"""Stop rules, which checkpoints stay, schedules, architectures, and runs that die."""

from __future__ import annotations

import errno
import json
import math
import sys
import types

import pytest
import torch
from transformers import GPT2LMHeadModel

from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel, operations, trackers
from simpletransformers.seq2seq.architecture import architecture_of
from tests.test_trainer import TOKENS, losses, pairs, tiny_model

# ---------------------------------------------------------------------------------- stop rules


def learnable(count: int) -> list[dict]:
    """Items whose answer is their first token."""
    return [
        {
            "input_text": r["input_text"],
            "target_text": r["input_text"] + r["input_text"][:5] + "</a>",
            "type": kind,
        }
        for r, kind in zip(pairs(count), ["train_inferred", "type_0"] * count, strict=False)
    ]


STOPPING = {
    "max_steps": 400,
    "evaluate_during_training": True,
    "learning_rate": 3e-2,
    "evaluate_during_training_steps": 5,
    "train_batch_size": 64,
}


def evaluations(run, key="eval"):
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(event["step"], event[key]) for event in events if key in event]


def test_a_run_stops_at_the_first_evaluation_of_the_validation_items_that_is_good_enough(tmp_path):
    items = learnable(120)
    hopeless = [{**item, "target_text": item["input_text"] + "<t_6></a>"} for item in items]
    model = tiny_model(**STOPPING, stop_when="type_0>=0.9, train_inferred>=0.9")
    result = model.train_model(items, hopeless, tmp_path / "run", stop_data=items)
    assert result.complete and "type_0 >= 0.9 and train_inferred >= 0.9" in result.reason
    assert (tmp_path / "run" / "final_checkpoint").is_dir()
    reached = [
        (step, all(groups[g]["answer_accuracy"] >= 0.9 for g in ("type_0", "train_inferred")))
        for step, groups in evaluations(tmp_path / "run", "valid")
    ]
    assert [good for _, good in reached] == [False] * (len(reached) - 1) + [True]
    assert reached[-1][0] == result.step < 400
    # The same rule on the test items, which are never right, lets the run go on.
    model = tiny_model(**{**STOPPING, "max_steps": 30}, stop_when="type_0>=0.9")
    assert model.train_model(items, hopeless, tmp_path / "test").reason == "finished"


def test_patience_counts_epochs_since_the_training_items_were_fit(tmp_path):
    items = learnable(64)
    unlearnable = [r for r in pairs(40, seed=9)]
    unlearnable = [{**r, "type": "type_0"} for r in unlearnable]
    evaluated = items + unlearnable
    model = tiny_model(**STOPPING, patience_epochs_after_fit=10)
    result = model.train_model(items, evaluated, tmp_path / "run")
    fit = next(
        step
        for step, groups in evaluations(tmp_path / "run")
        if groups["train_inferred"]["answer_accuracy"] >= 0.99
    )
    assert "10 epochs since train_inferred" in result.reason
    assert result.step == fit + 15  # one step is an epoch; looked at every five, more than ten
    # Resumed in between, the count goes on.
    changes = {**STOPPING, "patience_epochs_after_fit": 10, "scheduler": "constant_schedule"}
    whole = tiny_model(**changes).train_model(items, evaluated, tmp_path / "whole")
    half = {**changes, "max_steps": whole.step - 6}
    tiny_model(**half).train_model(items, evaluated, tmp_path / "half")
    again = tiny_model(**changes, resume=True)
    assert again.train_model(items, evaluated, tmp_path / "half").step == whole.step


def test_a_rule_may_look_at_any_score(tmp_path):
    items = learnable(120)
    model = tiny_model(**STOPPING, stop_when="type_0:exact_match>=0.9")
    result = model.train_model(items, items, tmp_path / "run")
    assert result.reason == "type_0 exact_match >= 0.9"
    scores = [groups["type_0"]["exact_match"] >= 0.9 for _, groups in evaluations(tmp_path / "run")]
    assert scores == [False] * (len(scores) - 1) + [True]
    model = tiny_model(**STOPPING, stop_when="type_0:beauty>=0.9")
    with pytest.raises(
        InputError, match="looks at beauty, but the scores are answer_accuracy, exact"
    ):
        model.train_model(items, items, tmp_path / "other")


def test_rules_about_groups_that_are_not_there_are_refused(tmp_path):
    for changes in ({"stop_when": "type_7>=0.5"}, {"patience_epochs_after_fit": 1}):
        with pytest.raises(InputError, match="the evaluated groups are type_0"):
            tiny_model(**changes).train_model(pairs(8), pairs(8), tmp_path / "run")
    for text in ("type_0", "type_0>0.5", "type_0>=1.5", ">=0.5", "type_0>=x"):
        with pytest.raises(InputError, match="GROUP>=ACCURACY"):
            tiny_model(stop_when=text).train_model(pairs(8), pairs(8), tmp_path / "other")


# --------------------------------------------------------------------------------- checkpoints


def test_which_checkpoints_are_written_and_which_stay(tmp_path):
    model = tiny_model(
        max_steps=30,
        save_steps=5,
        keep=2,
        save_log_spaced=3,
        save_step_dense=4,
        save_step_dense_interval=2,
    )
    model.train_model(pairs(40), None, tmp_path / "run")
    steps = {int(p.name.split("-")[1]) for p in (tmp_path / "run").glob("checkpoint-*")}
    # log-spaced: 10^(0, 1/3, 2/3, 1, 4/3) = 1, 2, 5, 10, 22; dense: 2, 4; the last two regular.
    assert steps == {1, 2, 4, 5, 10, 22, 25, 30}


def test_a_full_disk_ends_the_run_and_leaves_earlier_checkpoints_whole(tmp_path, monkeypatch):
    model, save = tiny_model(max_steps=10, save_steps=2), Seq2SeqModel.save

    def full(self, folder):
        save(self, folder)
        if "checkpoint-4" in str(folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(Seq2SeqModel, "save", full)
    with pytest.raises(OSError, match="No space left"):
        model.train_model(pairs(40), None, tmp_path / "run")
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert not list((tmp_path / "run").glob(".checkpoint-*"))
    assert not (tmp_path / "run" / "checkpoint-4").exists()
    monkeypatch.undo()  # with space again, the run goes on from what it kept
    resumed = tiny_model(max_steps=10, save_steps=2, resume=True)
    assert resumed.train_model(pairs(40), None, tmp_path / "run").step == 10


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("constant_schedule", lambda _: 1.0),
        ("constant_schedule_with_warmup", lambda s: min(1, s / 4)),
        ("linear_schedule_with_warmup", lambda s: s / 4 if s < 4 else (20 - s) / 16),
        (
            "cosine_schedule_with_warmup",
            lambda s: s / 4 if s < 4 else (1 + math.cos(math.pi * (s - 4) / 16)) / 2,
        ),
        (
            "cosine_with_hard_restarts_schedule_with_warmup",  # one cycle, which ends at 0
            lambda s: s / 4 if s < 4 else (s < 20) * (1 + math.cos(math.pi * (s - 4) / 16)) / 2,
        ),
        (
            "polynomial_decay_schedule_with_warmup",  # power 1, down to 1e-7
            lambda s: s / 4 if s < 4 else (1e-2 - 1e-7) / 1e-2 * (1 - (s - 4) / 16) + 1e-5,
        ),
    ],
)
def test_learning_rates_follow_their_schedule(tmp_path, name, at):
    model = tiny_model(scheduler=name, warmup_steps=4, max_steps=20)
    model.train_model(pairs(40), None, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rates = {event["step"]: event["lr"] for event in map(json.loads, lines)}
    assert rates == pytest.approx({s: 1e-2 * at(s) for s in range(1, 21)}, abs=1e-12)


# -------------------------------------------------------------------------------- architectures


def reference(model: GPT2LMHeadModel, inputs, switches) -> torch.Tensor:
    """Logits of a switched GPT-2, block by block."""
    body = model.transformer
    hidden = body.wte(inputs) + body.wpe(torch.arange(inputs.shape[1]))
    blocks = list(body.h)
    if "add_recurrence" in switches:
        blocks = blocks[: len(blocks) // 2] * 2

    length = inputs.shape[1]
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]

    def norm(module, x):
        return x if "no_ln" in switches else module(x)

    for block in blocks:
        hidden = hidden + block.attn(norm(block.ln_1, hidden), attention_mask=mask)[0]
        owner = body.h[0] if "share_mlp" in switches else block
        if "no_mlp" not in switches:
            hidden = hidden + owner.mlp(norm(owner.ln_2, hidden))
    return model.lm_head(norm(body.ln_f, hidden))


@pytest.mark.parametrize(
    "switches",
    [
        ["no_ln"],
        ["no_mlp"],
        ["share_mlp"],
        ["add_recurrence"],
        ["share_mlp", "add_recurrence"],
        ["no_ln", "no_mlp", "add_recurrence"],
    ],
    ids="+".join,
)
def test_switches_act_and_their_checkpoints_load_again(tmp_path, switches):
    model = tiny_model(**dict.fromkeys(switches, True), no_dropout=True, save_steps=5)
    plain = tiny_model(no_dropout=True)
    inputs = torch.randint(0, 7, (5, 3), generator=torch.Generator().manual_seed(0))
    before = sum(p.numel() for p in model.model.parameters())
    ordinary = sum(p.numel() for p in plain.model.parameters())
    assert (before == ordinary) == (switches == ["add_recurrence"])
    model.train_model(pairs(40), pairs(20), tmp_path / "run")
    logits = model.model.eval()(inputs).logits
    assert torch.allclose(logits, reference(model.model, inputs, switches), atol=1e-5)
    ours = architecture_of(model.model).logits_at(inputs, range(3))
    assert torch.allclose(ours, logits, atol=1e-5)
    again = Seq2SeqModel("gpt2", tmp_path / "run" / "final_checkpoint", device="cpu")
    assert torch.equal(again.model.eval()(inputs).logits, logits)
    assert sum(p.numel() for p in again.model.parameters()) == before
    # Training goes on from a stopped run as it does without a switch.
    longer = {"no_dropout": True, "save_steps": 5, "max_steps": 15, **dict.fromkeys(switches, True)}
    tiny_model(**longer).train_model(pairs(40), pairs(20), tmp_path / "whole")
    tiny_model(**longer, resume=True).train_model(pairs(40), pairs(20), tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_switched_checkpoint_is_analysed_as_it_was_trained(tmp_path, small_dataset):
    from coverage_principle.circuits import open_checkpoint
    from coverage_principle.data import load_dataset

    dataset = load_dataset(small_dataset)
    model = Seq2SeqModel(
        "gpt2",
        "gpt2",
        new_tokens=dataset.codec.vocabulary,
        init_weights=True,
        device="cpu",
        args={"n_layer": 2, "n_head": 2, "n_embd": 16, "add_recurrence": True, "no_ln": True},
    )
    model.save(tmp_path)
    loaded = open_checkpoint(tmp_path, dataset.codec)
    inputs = torch.randint(0, 10, (5, 3))
    # Another attention kernel, the same function.
    expected = model.model.eval()(inputs).logits
    assert torch.allclose(loaded.model(inputs).logits, expected, atol=1e-6)
    assert loaded.model.config.n_layer == 4


@pytest.mark.parametrize("model_type", ["llama", "mamba"])
def test_other_model_types_train_and_load_again(tmp_path, model_type):
    def fresh(**changes):
        args = {
            "n_layer": 2,
            "n_head": 2,
            "n_embd": 16,
            "train_batch_size": 32,
            "max_steps": 20,
            "learning_rate": 1e-2,
            "scheduler": "constant_schedule",
            **changes,
        }
        return Seq2SeqModel(
            model_type, "gpt2", args=args, new_tokens=TOKENS, init_weights=True, device="cpu"
        )

    model = fresh()
    model.train_model(learnable(60), learnable(20), tmp_path / "run")
    seen = losses(tmp_path / "run")
    assert seen[-1] < 0.8 * seen[0]
    checkpoint = tmp_path / "run" / "final_checkpoint"
    again = Seq2SeqModel(None, checkpoint, device="cpu")
    assert again.model.config.model_type == model_type
    inputs = torch.randint(0, 7, (5, 3))
    assert torch.equal(again.model.eval()(inputs).logits, model.model.eval()(inputs).logits)
    assert again.predict(["<t_1><t_2><t_3>"])[0].endswith("</a>")
    with pytest.raises(InputError, match="of a gpt2 only"):
        fresh(no_mlp=True)
    with pytest.raises(InputError, match=f"`model_type` gpt2 is not what .* holds .{model_type}"):
        Seq2SeqModel("gpt2", checkpoint, device="cpu")


# ------------------------------------------------------------------------ what else a run tells


@pytest.mark.parametrize("changes", [{}, {"loops": 3, "inject_input": True}])
def test_flops_are_those_that_torch_counts(changes):
    from torch.utils.flop_counter import FlopCounterMode

    ours = architecture_of(tiny_model(no_dropout=True, **changes).model)
    # Attention over fewer tokens is no matrix product on a CPU, and so is not counted by torch.
    inputs = torch.randint(0, 7, (6, operations.FEW + 2))
    for columns in ((5,), (1, 4), (0, 1, 2, 3, 4, 5)):
        with FlopCounterMode(display=False) as counter:
            ours.logits_at(inputs, columns).sum().backward()
        # The first layer's inputs are embeddings, which have gradients too: three passes in all.
        assert 6 * ours.flops(columns) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_trackers_get_every_event_and_missing_ones_are_named(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, values, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finished")

    def init(**settings):
        calls.append(settings)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    tracker = trackers.Trackers(tmp_path / "r", {"a": 1}, project="p", entity="e")
    tracker.log({"step": 3, "lr": 0.5, "train_loss": None, "eval": {"type_0": {"loss": 2.0}}})
    tracker.close()
    assert (calls[0]["project"], calls[0]["entity"], calls[0]["name"]) == ("p", "e", "r")
    assert calls[0]["config"] == {"a": 1}
    assert calls[1:] == [(3, {"lr": 0.5, "eval/type_0/loss": 2.0}), "finished"]
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(InputError, match="`wandb_project` needs the package wandb"):
        trackers.Trackers(tmp_path, {}, project="p")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="`tensorboard` needs the package tensorboard"):
        trackers.Trackers(tmp_path, {}, tensorboard=True)


def test_a_finished_run_has_curves_and_a_card(tmp_path, small_dataset, run_command):
    from tests.test_main import SMALL

    run = tmp_path / "run"
    finished = run_command(
        "main.py",
        "--data_dir",
        small_dataset,
        "--do_train",
        *SMALL,
        "--output_dir",
        run,
        "--stop_when",
        "type_0>=0.0",
        "--stop_on_test",
        "--evaluate_during_training",
        "--eval_steps",
        1,
    )
    assert finished.returncode == 0, finished.stderr
    assert "stopped early: type_0 >= 0" in finished.stdout and "1 step done" in finished.stdout
    card = (run / "README.md").read_text()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    config = json.loads((run / "run_config.json").read_text())
    for group, scores in last["eval"].items():
        name = config["dataset"]["types"].get(group, group)
        assert f"| {name} | {scores['n']:,} | {scores['loss']:.4f} |" in card
    assert last["items_per_s"] > 0 and "mfu" not in last  # a CPU's peak is not guessed
    assert "stopped early: type_0 >= 0" in card and "![curves](curves.png)" in card
    assert (run / "curves.png").stat().st_size > 5_000


def test_the_gpu_benchmark_runs_where_there_is_none(run_command, tmp_path):
    file = tmp_path / "figures.json"
    finished = run_command(
        "benchmarks/training_gpu.py",
        "--device",
        "cpu",
        "--quick",
        "--steps",
        2,
        "--curve_steps",
        3,
        "--output",
        file,
    )
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(file.read_text())
    assert all(case["mfu"] is None for case in figures["cases"])
    failed = {case["case"]: case["failed"] for case in figures["cases"] if "failed" in case}
    assert len(figures["cases"]) - len(failed) == 9
    assert all("CUDA graph" in name and "needs a GPU" in why for name, why in failed.items())
    assert [point["step"] for point in figures["curves"]["fp32"]] == [1, 2, 3]
    assert len(figures["curves"]) == 4 and file.with_suffix(".png").exists()


def test_a_model_type_from_outside_is_offered_by_its_name(monkeypatch):
    from simpletransformers.seq2seq import architectures
    from simpletransformers.seq2seq.architectures.gpt2 import GPT2

    class Toy(GPT2):
        pass

    monkeypatch.setattr(architectures, "_registered", {})
    with pytest.raises(ValueError, match="gpt2 already"):
        architectures.register("gpt2", Toy)
    assert architectures.names() == ("gpt2", "llama", "mamba")
    architectures.register("toy", Toy)
    assert architectures.names()[-1] == "toy" and architectures.find("toy") is Toy
    with pytest.raises(InputError, match="`model_type` rnn .* gpt2, llama, mamba, toy"):
        architectures.find("rnn")
    model = Seq2SeqModel(
        "toy", "gpt2", args=tiny_model().args, new_tokens=TOKENS, init_weights=True
    )
    assert isinstance(architecture_of(model.model), GPT2)

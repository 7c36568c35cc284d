"""What a step costs the host, runs that are stopped or fail, flags of the published code."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2LMHeadModel

from coverage_principle.experiments.commands import PRELOADED
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel, graphs
from simpletransformers.seq2seq.distributed import Ranks
from simpletransformers.seq2seq.encoding import encode_pairs
from simpletransformers.seq2seq.order import DataOrder
from simpletransformers.seq2seq.training import Trainer
from tests.conftest import ROOT
from tests.test_main import SMALL
from tests.test_trainer import TOKENS, losses, pairs, tiny_model

# -------------------------------------------------------------------------------- what a step does


class Operations(TorchDispatchMode):
    """Collects the names of all operators."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bridges", [0, 2])
@pytest.mark.parametrize("padded", [False, True], ids=["equal", "padded"])
def test_a_step_reads_no_value_back_and_sends_none(tmp_path, bridges, padded):
    """Neither .item() and the like, nor Python lists as indices, for which a GPU's host waits."""
    records = pairs(30, bridges=bridges)
    if padded:  # loss at columns that are not next to each other
        records += [{"input_text": "<t_1>", "target_text": "<t_1><t_2></a>"}]
    model = tiny_model()
    data = encode_pairs(records, model.tokenizer)
    assert (data.columns == tuple(range(data.columns[0], data.length))) != padded
    ranks = Ranks(0, 1, torch.device("cpu"))
    trainer = Trainer(model.model, data, model.args, ranks, tmp_path, model.save)
    trainer._step(0)  # the first one makes the order of the epoch
    with Operations() as seen:
        trainer._step(1)
    assert "_fused_adamw_" in seen.names
    waiting = {
        "_local_scalar_dense",
        "nonzero",
        "is_nonzero",
        "lift_fresh",
        "equal",
        "masked_select",
    }
    assert not waiting & seen.names


def test_recorded_steps_are_those_of_the_usual_loop(tmp_path, monkeypatch):
    """On a CPU a recording can only be played by calling; the rest of its path is the real one:
    fixed row buffer, learning rates in tensors, resuming."""
    settings = {"max_steps": 12, "no_dropout": True, "scheduler": "linear_schedule_with_warmup"}
    tiny_model(**settings).train_model(pairs(30), None, tmp_path / "usual")
    recorded = []

    def record(compute, rows):
        recorded.append(rows)
        return lambda: compute(rows)

    monkeypatch.setattr(graphs, "check", lambda *_: None)
    monkeypatch.setattr(graphs, "on_side_stream", lambda compute, rows: compute(rows))
    monkeypatch.setattr(graphs, "record", record)
    tiny_model(**settings, cuda_graphs=True).train_model(pairs(30), None, tmp_path / "recorded")
    assert len(recorded) == 1
    assert losses(tmp_path / "recorded") == pytest.approx(losses(tmp_path / "usual"), abs=1e-5)
    longer = {**settings, "scheduler": "constant_schedule_with_warmup", "cuda_graphs": True}
    tiny_model(**longer).train_model(pairs(30), None, tmp_path / "whole")
    tiny_model(**{**longer, "max_steps": 7}).train_model(pairs(30), None, tmp_path / "parts")
    tiny_model(**longer, resume=True).train_model(pairs(30), None, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_recording_is_refused_where_it_cannot_work(tmp_path):
    with pytest.raises(InputError, match="`cuda_graphs` needs a GPU"):
        tiny_model(cuda_graphs=True).train_model(pairs(30), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    gpu = torch.device("cuda", 0)
    for world, precision, words in ((2, "bf16", "single process"), (1, "fp16", "bf16 or fp32")):
        with pytest.raises(InputError, match=words):
            graphs.check(gpu, world, precision)
    graphs.check(gpu, 1, "bf16")


# ------------------------------------------------------------------------------- length of a run


def test_epochs_decide_the_length_where_max_steps_does_not(tmp_path):
    model = tiny_model(max_steps=0, num_train_epochs=2.5)
    assert model.train_model(pairs(30), None, tmp_path / "run").step == 10  # 75 items of 8 a step
    assert DataOrder(30, 8, 0).epoch(10) >= 2.5 > DataOrder(30, 8, 0).epoch(9)


def test_fine_steps_are_all_saved(tmp_path):
    model = tiny_model(max_steps=8, save_fine_step_list=(6,))
    model.train_model(pairs(30), None, tmp_path / "run")
    names = {p.name for p in (tmp_path / "run").glob("checkpoint-*")}
    assert names == {"checkpoint-6", "checkpoint-7", "checkpoint-8"}


# ----------------------------------------------------------------- signals, a disk that is full


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_that_comes_twice_still_keeps_the_state(tmp_path, name):
    """torchrun and SLURM pass on signals that a process may have been sent already."""

    def report(event):
        if event["step"] == 4:
            for _ in range(2):
                os.kill(os.getpid(), signal.Signals[name])

    before = signal.getsignal(signal.Signals[name])
    result = tiny_model().train_model(pairs(30), None, tmp_path / "run", report=report)
    assert (result.step, result.reason, result.complete) == (4, name, False)
    assert signal.getsignal(signal.Signals[name]) is before
    whole, rest = tiny_model(), tiny_model(resume=True)
    whole.train_model(pairs(30), None, tmp_path / "whole")
    assert rest.train_model(pairs(30), None, tmp_path / "run").complete
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_second_ctrl_c_ends_a_single_process(tmp_path):
    def report(event):
        if event["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tiny_model().train_model(pairs(30), None, tmp_path / "run", report=report)


def _train_with_little_space(folder: str, answers) -> None:
    for limit in (40_000, 150_000):  # less than the weights; less than the optimiser's state
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            tiny_model(save_steps=2).train_model(pairs(30), None, f"{folder}/{limit}")
        except Exception as error:
            answers.put((type(error).__name__, str(error)))


def test_what_cannot_be_written_is_said_in_a_sentence(tmp_path):
    """The writers of torch and safetensors, at a real limit: no file may grow beyond so much."""
    context = multiprocessing.get_context("forkserver")  # that of commands (``run_command``)
    context.set_forkserver_preload(PRELOADED)
    answers = context.Queue()
    process = context.Process(target=_train_with_little_space, args=(str(tmp_path), answers))
    process.start()
    for folder, limit in (("checkpoint-2", 40_000), ("resume_state", 150_000)):
        kind, said = answers.get(timeout=120)
        assert kind == "InputError"
        assert f"{folder} could not be written, with" in said and "MiB free on its disk" in said
        left = {p.name for p in (tmp_path / str(limit)).iterdir()}
        complete = {"checkpoint-2"} if folder == "resume_state" else set()
        assert left == complete | {"metrics.jsonl", "run_config.json"}
    process.join()
    assert GPT2LMHeadModel.from_pretrained(tmp_path / "150000" / "checkpoint-2")


# ------------------------------------------------------------------------------- flags and sizes

#: Every flag of the published main.py, with a value where it took one.
PUBLISHED = """
--data_dir=D --model_name_or_path=gpt2 --output_dir=O --model_type=gpt2 --n_layer=8 --n_head=12
--n_inner=3072 --no_dropout --no_ln --no_mlp --share_mlp --add_recurrence --add_memory
--memory_dim=1536 --re_embed --re_embed_temp=1.0 --relation_mean_shift --init_weights --add_tokens
--max_seq_length=10 --max_length=10 --max_gen_length=10 --block_size=10 --train_batch_size=4096
--eval_batch_size=4096 --gradient_accumulation_steps=1 --learning_rate=8e-4 --weight_decay=0.1
--scheduler=constant_schedule_with_warmup --warmup_steps=2000 --max_steps=62500
--num_train_epochs=20 --save_step=2500 --save_step_dense=5000 --save_step_dense_interval=250
--save_best_model --do_train --do_eval --do_predict --custom_test=F --prediction_dir=P
--prediction_cutoff=5 --evaluate_during_training --predict_during_training --eval_steps=25
--dataloader_num_workers=0 --manual_seed=42 --fp16 --overwrite_output_dir --wandb_project=p
--wandb_entity=e --wandb_exp=x --gpu=0 --world_size=4 --rank=0 --local-rank=0 --dist-url=env://
--dist-backend=nccl --save_fine_step_list 100 200
"""


def test_every_published_flag_is_known():
    from main import REFUSED, WITHOUT_EFFECT, build_parser

    arguments = vars(build_parser().parse_args(PUBLISHED.split()))
    for flag in (*REFUSED, *WITHOUT_EFFECT):
        assert arguments[flag.lstrip("-").replace("-", "_")] is not None


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("llama", {"n_embd": 6, "n_head": 2}, "heads of 3 dimensions"),
        ("mamba", {"n_inner": 100}, "`n_inner` 100 is not a multiple of `n_embd` 16"),
        ("gpt2", {"learning_rate": float("nan")}, "`learning_rate` nan is not a finite"),
        ("gpt2", {"weight_decay": float("inf")}, "`weight_decay` inf is not a finite"),
    ],
)
def test_sizes_that_a_model_cannot_have_are_refused(model_type, changes, words):
    args = {"n_layer": 1, "n_head": 2, "n_embd": 16, **changes}
    with pytest.raises(InputError, match=words):
        Seq2SeqModel(
            model_type, "gpt2", args=args, new_tokens=TOKENS, init_weights=True, device="cpu"
        )


def test_custom_items_take_the_place_of_the_test_set(tmp_path, small_dataset, run_command, refused):
    items = json.loads((small_dataset / "test.json").read_text())[:7]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([{**item, "type": "mine"} for item in items]))
    command = [
        "main.py",
        "--data_dir",
        small_dataset,
        *SMALL,
        "--do_eval",
        "--do_predict",
        "--prediction_dir",
        tmp_path / "out",
        "--custom_test",
        file,
    ]
    run = tmp_path / "run"
    finished = run_command(*command, "--do_train", "--output_dir", run)
    assert finished.returncode == 0, finished.stderr
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {group: s["n"] for group, s in events[-1]["eval"].items()} == {"mine": 7}
    assert len(json.loads((tmp_path / "out" / "mine.json").read_text())) == 7
    for bad in (
        "[]",
        "{}",
        '[{"input_text": "<t_1>"}]',
        '[{"input_text": "<t_1>", "target_text": 5}]',
    ):
        file.write_text(bad)
        refused(run_command(*command), "--custom_test", "input_text and target_text")


def test_only_the_types_that_are_asked_for_are_scored(tmp_path, small_dataset, run_command):
    run = tmp_path / "run"
    finished = run_command(
        "main.py",
        "--data_dir",
        small_dataset,
        *SMALL,
        "--do_train",
        "--do_predict",
        "--output_dir",
        run,
        "--test_types",
        "type_0",
        "train_inferred",
    )
    assert finished.returncode == 0, finished.stderr
    (event,) = [e for e in map(json.loads, (run / "metrics.jsonl").open()) if "eval" in e]
    wanted = {"type_0", "train_inferred"}
    assert {group for group in event["eval"] if "/" not in group} == wanted
    assert {item["type"] for item in json.loads((run / "all_items.json").read_text())} == wanted


SLURM = {
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >>"$CALLS"; fi',
    "scancel": '[ "$*" = "--signal=TERM 5" ] && kill -TERM "$(cat "$CALLS.pid")"',
    # Waits to be stopped; a job that fails does so by itself.
    "srun": 'trap "exit 1" TERM; echo $$ >"$CALLS.pid"; '
    'for _ in $(seq 200); do [ -n "$FAIL" ] && exit 1; sleep 0.05; done',
}


@pytest.mark.parametrize("stopped", [True, False])
def test_a_slurm_job_asks_for_another_turn_only_if_its_time_was_over(tmp_path, stopped):
    """Not after an error, which would come again and again."""
    for name, body in SLURM.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    run = tmp_path / "CKPT_DIR" / "trained_checkpoints" / "d_wd-0.1_layer-1_head-2_seed-3"
    (run / "resume_state").mkdir(parents=True)
    calls, pid = tmp_path / "calls", tmp_path / "calls.pid"
    process = subprocess.Popen(
        ["bash", str(ROOT / "script" / "train.slurm"), "d", "0.1", "1", "2", "3"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "5",
            "SLURM_JOB_NODELIST": "n",
            "SLURM_JOB_NUM_NODES": "1",
            "CALLS": str(calls),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "VIRTUAL_ENV": sys.prefix,
            "FAIL": "" if stopped else "yes",
        },
    )
    if stopped:
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 1
    assert (calls.read_text() if calls.exists() else "") == ("requeue 5\n" if stopped else "")

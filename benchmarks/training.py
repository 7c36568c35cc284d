"""Training steps on the CPU: this trainer against the published way and a plain loop.

2 layers, 128 dimensions, 4 heads, 2-hop rows of 20 tokens, dropout 0.1, a step of --batch items.
*published*: 50,312 rows of vocabulary, rows padded to 10 tokens, logits everywhere, unfused AdamW.
*plain*: GPT2LMHeadModel and its own loss on the rows themselves, in a vocabulary of 24 rows.
*now*, *before*: the Trainer of simpletransformers. Each is a process of its own, start left out.
Start-up: main.py as whole processes, for --help and for a run of one step on data/, which includes
evaluating the test set and writing a checkpoint. Takes about 4 minutes with --before.
"""

from __future__ import annotations

import argparse
import itertools
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common import (
    OUT,
    Bench,
    bench,
    benchmark_parser,
    cells,
    over_now,
    part,
    per_round,
    show_tables,
)

from coverage_principle.cli import run

TOKENS, SMALL = 20, (2, 4, 128)
AMOUNTS = {
    "--batch": (512, "items of a step"),
    "--steps": (30, "steps of a measurement"),
    "--published_steps": (3, "of the published way"),
}
#: What a step is compared with: rows of vocabulary, tokens of an item, fused AdamW.
REFERENCES = {"published": (50_312, 10, False), "plain": (24, 4, True)}
STEPS = (
    "main.py --data_dir data/twohop.20.1500.diff-f12.inf --model_name_or_path gpt2 --init_weights "
    "--do_train --n_layer 2 --n_head 4 --n_embd 128 --device cpu --logging_steps 1000000 "
    "--overwrite_output_dir --output_dir"
)
ONE_STEP = ("--train_batch_size", 512, "--max_steps", 1)


def main(arguments: argparse.Namespace) -> None:
    with bench(arguments) as measured:
        show_tables(arguments, [steps(arguments, measured), start_up(measured)])


def steps(arguments: argparse.Namespace, measured: Bench) -> Iterator[dict]:
    batch, threads = arguments.batch, {"threads": measured.threads}
    counts = dict.fromkeys(REFERENCES, arguments.steps) | {"published": arguments.published_steps}
    for precision in ("fp32", "bf16"):
        ways = measured.ways(time_ours, batch, arguments.steps, precision, run=part)
        if precision == "fp32":  # the references compute in it
            for name, count in counts.items():
                ways[name] = partial(part, time_reference, name, batch, count, **threads)
        figures = measured.row(ways)
        row = {"a step": precision, **cells(figures)}
        for name in REFERENCES:
            if name in figures:
                row[f"{name} / now"] = over_now(figures[name])
        yield {**row, "figures": figures}


def start_up(measured: Bench) -> Iterator[dict]:
    """A warm file cache supposed."""
    for name, command in {
        "main.py --help": ("main.py", "--help"),
        "a run of one step": (*STEPS.split(), OUT, *ONE_STEP),
    }.items():
        figures = measured.row(measured.ways(*command))
        yield {"start-up": name, **cells(figures), "figures": figures}


def time_ours(batch: int, count: int, precision: str) -> dict[str, float]:
    """CPU and wall seconds of a step of main.py, in the folder that this process stands in.

    Start, evaluation and checkpoint lie outside the steps that are counted.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(
        lambda *_: ends.append((time.process_time(), time.perf_counter()))
    )
    sys.path.insert(0, ".")
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [*STEPS.split(), folder, "--train_batch_size", str(batch)]
        sys.argv += ["--max_steps", str(count + 1), "--precision", precision]
        runpy.run_path("main.py", run_name="__main__")
    if len(ends) != count + 1:
        raise RuntimeError(f"{len(ends)} optimiser steps where {count + 1} were asked for")
    first, last = ends[0], ends[-1]
    cpu, wall = ((b - a) / count for a, b in zip(first, last, strict=True))
    return {"cpu_s": cpu, "wall_s": wall}


def time_reference(name: str, batch: int, count: int) -> dict[str, float]:
    vocabulary, length, fused = REFERENCES[name]
    step = reference_step(random_rows(batch), batch, vocabulary, length, fused=fused)
    return per_round(step, count)


def random_rows(batch: int):
    """Rows (n, 4) of tokens."""
    import torch

    torch.manual_seed(0)
    return torch.randint(0, TOKENS, (batch * 4, 4))


def reference_step(rows, batch: int, vocabulary: int, length: int, *, fused: bool) -> Callable:
    """A step of a plain transformers loop: whole rows of ``length`` tokens, the model's own loss.

    The answer, the fourth token, is the only one with loss; what follows is padding.
    """
    import torch
    from torch.nn import functional
    from transformers import GPT2Config, GPT2LMHeadModel

    special = {"bos_token_id": TOKENS, "eos_token_id": TOKENS}
    config = GPT2Config(vocab_size=vocabulary, **sizes_of(*SMALL), **special)
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-4, weight_decay=0.1, fused=fused)
    inputs = functional.pad(rows, (0, length - 4), value=TOKENS)
    labels = torch.full_like(inputs, -100)
    labels[:, 3] = inputs[:, 3]
    mask = functional.pad(torch.ones_like(rows), (0, length - 4))
    places = itertools.cycle(range(0, len(rows), batch))

    def step() -> None:
        place = next(places)
        part = slice(place, place + batch)
        loss = model(inputs[part], attention_mask=mask[part], labels=labels[part]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(rows, folder: Path, *, device: str = "cpu", tokens: int = TOKENS, **settings):
    """A step of the Trainer on 2-hop rows ``(n, 4)`` of ``tokens`` tokens, and its flops."""
    from simpletransformers.seq2seq.architecture import architecture_of

    trainer = our_trainer(rows, folder, device=device, tokens=tokens, **settings)
    flops = trainer.order.batch * architecture_of(trainer.model).flops(trainer.data.columns)
    numbers = itertools.count()
    return lambda: trainer._step(next(numbers)), flops


def our_trainer(rows, folder: Path, *, device: str = "cpu", tokens: int = TOKENS, **settings):
    """A Trainer of a random model on such rows."""
    from simpletransformers.seq2seq import graphs
    from simpletransformers.seq2seq.distributed import Ranks
    from simpletransformers.seq2seq.encoding import encode_pairs
    from simpletransformers.seq2seq.training import Trainer

    names = [*(f"<t_{i}>" for i in range(tokens)), "</a>"]
    model = new_model(names, device, max_steps=10**6, **settings)
    words = [[names[i] for i in row] for row in rows.tolist()]
    texts = [("".join(row[:3]), "".join(row)) for row in words]
    records = [{"input_text": before, "target_text": f"{whole}</a>"} for before, whole in texts]
    if model.args.cuda_graphs:
        graphs.check(model.device, 1, model.args.precision)
    data = encode_pairs(records, model.tokenizer)
    ranks = Ranks(0, 1, model.device)
    trainer = Trainer(model.model, data, model.args, ranks, folder, model.save)
    trainer.model.train()
    return trainer


def new_model(names: list[str], device: str, *, sizes: tuple[int, int, int] = SMALL, **settings):
    """A random GPT-2 of these tokens; ``settings`` are further fields of ``Seq2SeqArgs``."""
    from simpletransformers.seq2seq import Seq2SeqModel

    args = {**sizes_of(*sizes), "learning_rate": 8e-4, "weight_decay": 0.1, **settings}
    options = {"new_tokens": names, "init_weights": True, "device": device}
    return Seq2SeqModel("gpt2", "gpt2", args=args, **options)


def sizes_of(layers: int, heads: int, width: int) -> dict[str, int]:
    return {"n_layer": layers, "n_head": heads, "n_embd": width}


if __name__ == "__main__":
    run(benchmark_parser(__doc__, AMOUNTS, row_seconds=60), main)

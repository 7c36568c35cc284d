"""Training steps on the CPU: this trainer against the published way and a plain loop, in one run.

2 layers, 128 dimensions, 4 heads, 2-hop rows of 20 tokens, dropout 0.1, a step of --batch items.
*published*: 50,312 rows of vocabulary, rows padded to 10 tokens, logits everywhere, unfused AdamW.
*plain*: GPT2LMHeadModel and its own loss on the rows themselves, in a vocabulary of 24 rows.
*ours*: the Trainer of simpletransformers, in fp32 and in bf16. Ways take turns, --rounds times.
Start-up: main.py as whole processes, for --help and for a run of one step on data/, which includes
evaluating the test set and writing a checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common import benchmark_parser, describe_machine, measure, show_tables, take_turns, timed

from coverage_principle.cli import run

TOKENS, SMALL = 20, (2, 4, 128)
AMOUNTS = {
    "--batch": (512, "items of a step"),
    "--steps": (30, "steps of a measurement"),
    "--published_steps": (3, "of the published way"),
    "--rounds": (5, "measurements of each, interleaved"),
}
ONE_STEP = (
    "main.py --data_dir data/twohop.20.1500.diff-f12.inf --model_name_or_path gpt2 --init_weights "
    "--do_train --n_layer 2 --n_head 4 --n_embd 128 --train_batch_size 512 --max_steps 1 "
    "--device cpu --overwrite_output_dir --output_dir"
)


def main(arguments: argparse.Namespace) -> None:
    import torch

    torch.manual_seed(0)
    machine = f"{describe_machine('torch', 'transformers')}, {torch.get_num_threads()} threads"
    show_tables("docs/training.md", tables(arguments), arguments.output, machine)


def tables(arguments: argparse.Namespace) -> Iterator[list[dict[str, str]]]:
    import torch

    batch, rounds = arguments.batch, arguments.rounds
    rows = torch.randint(0, TOKENS, (batch * 4, 4))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = {
            "published": reference_step(rows, batch, 50_312, 10, fused=False),
            "plain": reference_step(rows, batch, 24, 4, fused=True),
            "ours, fp32": our_step(rows, folder, train_batch_size=batch, precision="fp32")[0],
            "ours, bf16": our_step(rows, folder, train_batch_size=batch, precision="bf16")[0],
        }
        for step in steps.values():
            step()  # warm up
        counts = dict.fromkeys(steps, arguments.steps) | {"published": arguments.published_steps}
        ways = {name: partial(seconds_of, step, counts[name]) for name, step in steps.items()}
        seconds = medians(ways, rounds)
    yield [
        {
            "a step": name,
            "ms": f"{1e3 * s:,.1f}",
            "than published": f"{seconds['published'] / s:.1f}x",
            "than plain": f"{seconds['plain'] / s:.2f}x",
        }
        for name, s in seconds.items()
    ]
    with tempfile.TemporaryDirectory() as folder:  # a warm file cache supposed
        commands = {
            "main.py --help": ("main.py", "--help"),
            "a run of one step": (*ONE_STEP.split(), folder),
        }
        ways = {name: lambda c=command: measure(*c)[0] for name, command in commands.items()}
        seconds = medians(ways, rounds)
    yield [{"start-up": name, "s": f"{s:.2f}"} for name, s in seconds.items()]


def medians(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    return {name: statistics.median(runs) for name, runs in take_turns(ways, rounds).items()}


def seconds_of(step: Callable, count: int, device: str = "cpu") -> float:
    """Seconds a step, over so many; waits for the device at both ends."""
    import torch

    def steps() -> None:
        for _ in range(count):
            step()
        wait()

    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    wait()
    return timed(steps)[1] / count


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
    from simpletransformers.seq2seq import graphs
    from simpletransformers.seq2seq.architecture import architecture_of
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
    flops = trainer.order.batch * architecture_of(trainer.model).flops(data.columns)
    numbers = itertools.count()
    return lambda: trainer._step(next(numbers)), flops


def new_model(names: list[str], device: str, *, sizes: tuple[int, int, int] = SMALL, **settings):
    """A random GPT-2 of these tokens; ``settings`` are further fields of ``Seq2SeqArgs``."""
    from simpletransformers.seq2seq import Seq2SeqModel

    args = {**sizes_of(*sizes), "learning_rate": 8e-4, "weight_decay": 0.1, **settings}
    options = {"new_tokens": names, "init_weights": True, "device": device}
    return Seq2SeqModel("gpt2", "gpt2", args=args, **options)


def sizes_of(layers: int, heads: int, width: int) -> dict[str, int]:
    return {"n_layer": layers, "n_head": heads, "n_embd": width}


if __name__ == "__main__":
    run(benchmark_parser(__doc__, AMOUNTS), main)

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
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Figures, describe_machine, measure, output_flag

from coverage_principle.cli import command_parser, positive, run

TOKENS = 20


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--batch", type=positive, default=512, help="items of a step (default: 512)")
    add("--steps", type=positive, default=30, help="steps of a measurement (default: 30)")
    add("--published_steps", type=positive, default=3, help="of the published way (default: 3)")
    add("--rounds", type=positive, default=5, help="measurements of each, interleaved (default: 5)")
    output_flag(parser)
    return parser


def main(arguments: argparse.Namespace) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    rows = torch.randint(0, TOKENS, (arguments.batch * 4, 4))
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "published": reference_step(rows, arguments.batch, 50_312, 10, fused=False),
            "plain": reference_step(rows, arguments.batch, 24, 4, fused=True),
            "ours, fp32": our_trainer(rows, arguments.batch, "fp32", Path(folder)).step,
            "ours, bf16": our_trainer(rows, arguments.batch, "bf16", Path(folder)).step,
        }
        counts = {name: arguments.steps for name in ways} | {"published": arguments.published_steps}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for step in ways.values():
            step()  # warm up
        for _ in range(arguments.rounds):
            for name, step in ways.items():
                began = time.perf_counter()
                for _ in range(counts[name]):
                    step()
                seconds[name].append((time.perf_counter() - began) / counts[name])
    middle = {name: statistics.median(runs) for name, runs in seconds.items()}
    machine = f"{describe_machine()}, torch {torch.__version__}, transformers "
    machine += f"{transformers.__version__}, {torch.get_num_threads()} threads"
    figures = Figures("docs/training.md", machine)
    published, plain = middle["published"], middle["plain"]
    table = [
        [name, f"{1e3 * s:,.1f}", f"{published / s:.1f}x", f"{plain / s:.2f}x"]
        for name, s in middle.items()
    ]
    figures.add(["a step", "ms", "than published", "than plain"], table)
    started = start_up(arguments.rounds)
    figures.add(["start-up", "s"], [[name, f"{s:.2f}"] for name, s in started.items()])
    figures.write(arguments.output)


def start_up(rounds: int) -> dict[str, float]:
    """Median seconds of whole processes, a warm file cache supposed."""
    with tempfile.TemporaryDirectory() as folder:
        one_step = shlex.split(
            f"main.py --data_dir data/twohop.20.1500.diff-f12.inf --output_dir {folder} --do_train "
            "--init_weights --n_layer 2 --n_head 4 --n_embd 128 --train_batch_size 512 "
            "--max_steps 1 --device cpu --overwrite_output_dir"
        )
        ways = {"main.py --help": ["main.py", "--help"], "a run of one step": one_step}
        return {
            name: statistics.median(measure(command)[0] for _ in range(rounds))
            for name, command in ways.items()
        }


def reference_step(rows, batch: int, vocabulary: int, length: int, *, fused: bool) -> Callable:
    """A step of a plain transformers loop: whole rows of ``length`` tokens, the model's own loss.

    The answer, the fourth token, is the only one with loss; what follows is padding.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens = {"vocab_size": vocabulary, "bos_token_id": TOKENS, "eos_token_id": TOKENS}
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=4, n_embd=128, **tokens)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-4, weight_decay=0.1, fused=fused)
    padding = torch.full((len(rows), length - 4), TOKENS)
    inputs = torch.cat([rows, padding], dim=1)
    labels = torch.full_like(inputs, -100)
    labels[:, 3] = inputs[:, 3]
    mask = torch.ones_like(inputs)
    mask[:, 4:] = 0
    place = 0

    def step() -> None:
        nonlocal place
        part = slice(place, place + batch)
        place = (place + batch) % len(rows)
        loss = model(inputs[part], attention_mask=mask[part], labels=labels[part]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class OurSteps:
    """The Trainer's own steps, one at a time; ``flops`` are those of a step."""

    def __init__(self, trainer, device) -> None:
        from simpletransformers.seq2seq.architecture import architecture_of

        self._trainer, self._number, self._device = trainer, 0, device
        rows = trainer.order.batch
        self.flops = rows * architecture_of(trainer.model).flops(trainer.data.columns)
        trainer.model.train()

    def step(self) -> None:
        self._trainer._step(self._number)
        self._number += 1

    def seconds(self, steps: int) -> float:
        """Seconds a step, over so many; waits for the device at both ends."""
        import torch

        def wait() -> None:
            if self._device.type == "cuda":
                torch.cuda.synchronize()

        wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait()
        return (time.perf_counter() - began) / steps


#: Settings of a training in all benchmarks.
COMMON = {"learning_rate": 8e-4, "weight_decay": 0.1}


def new_model(vocabulary: list[str], sizes: tuple[int, int, int], device: str, **args: object):
    """A GPT-2 of so many layers, heads and dimensions; ``args`` are fields of ``Seq2SeqArgs``."""
    from simpletransformers.seq2seq import Seq2SeqModel

    args |= dict(zip(("n_layer", "n_head", "n_embd"), sizes, strict=True))
    return Seq2SeqModel("gpt2", "gpt2", {**COMMON, **args}, vocabulary, True, device)


def our_trainer(
    rows, batch: int, precision: str, folder: Path, sizes=(2, 4, 128), device="cpu", **options
) -> OurSteps:
    """The Trainer on 2-hop rows ``(n, 4)``; ``sizes`` are layers, heads and dimensions.

    ``options`` are further fields of ``Seq2SeqArgs``.
    """
    from simpletransformers.seq2seq import graphs
    from simpletransformers.seq2seq.distributed import Ranks
    from simpletransformers.seq2seq.encoding import encode_pairs
    from simpletransformers.seq2seq.training import Trainer

    names = [*(f"<t_{i}>" for i in range(int(rows.max()) + 1)), "</a>"]
    options |= {"train_batch_size": batch, "max_steps": 10**6, "precision": precision}
    model = new_model(names, sizes, device, **options)
    texts = [["".join(names[i] for i in row[:n]) for n in (3, 4)] for row in rows.tolist()]
    records = [{"input_text": a, "target_text": b + "</a>"} for a, b in texts]
    data = encode_pairs(records, model.tokenizer)
    ranks = Ranks(0, 1, model.device)
    if model.args.cuda_graphs:
        graphs.check(model.device, 1, precision)
    trainer = Trainer(model.model, data, model.args, ranks, folder, model.save)
    return OurSteps(trainer, model.device)


if __name__ == "__main__":
    run(build_parser(), main)

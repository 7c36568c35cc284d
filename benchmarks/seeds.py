"""Whether runs that differ only in their seed should share one model, with a leading axis of seeds.

*now*: the Trainer of simpletransformers, one run. *at once*: the same GPT-2s of 2 layers, weights
stacked, so that every matrix product is one of --seeds matrices. Both train on 2-hop rows of 20
tokens with dropout 0.1, and the time is that of a step of one seed. Without dropout the losses of
runs at once are those of the Trainer to 1e-5, which is checked first. The last row is of the size
of the quickstart. Takes about 3 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from common import Bench, bench, benchmark_parser, over_now, part, per_round, show_tables, time_text
from training import our_trainer, random_rows

from coverage_principle.cli import run

AMOUNTS = {"--seeds": (8, "runs at once"), "--steps": (40, "steps of a measurement")}
#: Heads, width, items of a step.
SIZES = ((2, 32, 64), (2, 64, 64), (4, 128, 64), (4, 128, 256))


def main(arguments: argparse.Namespace) -> None:
    with bench(arguments) as measured:
        show_tables(arguments, [rows(arguments, measured)])


def rows(arguments: argparse.Namespace, measured: Bench) -> Iterator[dict]:
    seeds, steps = arguments.seeds, arguments.steps
    threads = {"threads": measured.threads}
    for size in SIZES:
        checked = part(check, *size, seeds, **threads)
        if checked.failed:
            raise RuntimeError(checked.failed)
        figures = measured.row(
            {
                "now": partial(part, time_alone, *size, steps, **threads),
                "at once": partial(part, time_at_once, *size, seeds, steps, **threads),
            }
        )
        yield {
            "width": str(size[1]),
            "items of a step": str(size[2]),
            "one run": time_text(figures["now"]["cpu_s"]),
            f"of {seeds} at once": time_text(figures["at once"]["cpu_s"]),
            "at once / one": over_now(figures["at once"]),
            "figures": figures,
        }


def trainer_of(seed: int, heads: int, width: int, batch: int, **settings):
    own = {"sizes": (2, heads, width), "train_batch_size": batch, "precision": "fp32"}
    own |= {"scheduler": "constant_schedule", "manual_seed": seed}
    return our_trainer(random_rows(batch), Path(tempfile.gettempdir()), **own, **settings)


def time_alone(heads: int, width: int, batch: int, count: int) -> dict[str, float]:
    """CPU and wall seconds of a step of the Trainer."""
    trainer, numbers = trainer_of(0, heads, width, batch), itertools.count()
    return per_round(lambda: trainer._step(next(numbers)), count)


def time_at_once(heads: int, width: int, batch: int, seeds: int, count: int) -> dict[str, float]:
    """The same of a step of all seeds, over their number."""
    trainers = [trainer_of(seed, heads, width, batch) for seed in range(seeds)]
    step, numbers = step_at_once(trainers), itertools.count()
    times = per_round(lambda: step(next(numbers)), count)
    return {name: seconds / seeds for name, seconds in times.items()}


def check(heads: int, width: int, batch: int, seeds: int) -> None:
    """``RuntimeError`` unless losses at once are those of one by one."""
    import torch

    settings = (heads, width, batch)
    trainers = [trainer_of(seed, *settings, no_dropout=True) for seed in range(seeds)]
    step = step_at_once(trainers)
    for number in range(10):
        together = step(number)
        for trainer in trainers:
            trainer._window.zero_()
            trainer._step(number)
        alone = torch.stack([trainer._window[0] / trainer._window[1] for trainer in trainers])
        if not torch.allclose(together.double(), alone, rtol=0, atol=1e-5):
            raise RuntimeError(f"step {number}: {together.tolist()}, one by one {alone.tolist()}")


def step_at_once(trainers: Sequence) -> Callable:
    """A step of all trainers' runs in one model; it returns their losses (seeds,)."""
    import torch

    first, count = trainers[0], len(trainers)
    named = [dict(trainer.model.named_parameters()) for trainer in trainers]
    stacked = {
        name: torch.stack([one[name].detach() for one in named]).requires_grad_()
        for name in named[0]
    }
    names = {id(p): name for name, p in named[0].items()}
    groups = [
        {**group, "params": [stacked[names[id(p)]] for p in group["params"]]}
        for group in first._optimizer.param_groups
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)

    def step(number: int):
        rows = torch.stack([trainer.order.indices(number) for trainer in trainers])
        inputs, labels = first.data.split(first.data.table[rows.flatten()])
        inputs, labels = inputs.view(count, -1, 3), labels.view(count, -1)
        losses = losses_of(first.model.config, stacked, inputs, labels)
        losses.sum().backward()
        clip(list(stacked.values()))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return losses.detach()

    return step


def clip(parameters: Sequence) -> None:
    """Each seed's gradient to a norm of 1 at most."""
    squares = sum(p.grad.square().flatten(1).sum(1) for p in parameters)
    shares = (1 / (squares.sqrt() + 1e-6)).clamp(max=1)
    for parameter in parameters:
        parameter.grad *= shares.view(-1, *(1,) * (parameter.dim() - 1))


def losses_of(config, weights: Mapping, inputs, labels):
    """Mean cross entropies (seeds,) of the answers (seeds, items) to tokens (seeds, items, 3)."""
    import torch
    from torch.nn import functional

    from simpletransformers.seq2seq import operations

    seeds, items, length = inputs.shape
    width, heads = config.n_embd, config.n_head

    def of(name: str) -> tuple:
        return weights[f"transformer.{name}.weight"], weights[f"transformer.{name}.bias"][:, None]

    def linear(states, name: str):
        weight, bias = of(name)
        flat = torch.baddbmm(bias, states.reshape(seeds, -1, states.shape[-1]), weight)
        return flat.view(*states.shape[:-1], -1)

    def norm(states, name: str):
        scale, shift = (part.view(seeds, 1, 1, width) for part in of(name))
        return functional.layer_norm(states, (width,)) * scale + shift

    def drop(states, rate: float):
        return states * operations.mask(states.shape, rate, states.dtype) if rate else states

    tokens = weights["transformer.wte.weight"]
    places = inputs + torch.arange(seeds)[:, None, None] * tokens.shape[1]
    state = functional.embedding(places, tokens.view(-1, width))
    state = state + weights["transformer.wpe.weight"][:, None, :length]
    state = drop(state, config.embd_pdrop)
    hidden = torch.ones(length, length).triu(1)[..., None] * torch.finfo(state.dtype).min
    for block in range(config.n_layer):
        parts = linear(norm(state, f"h.{block}.ln_1"), f"h.{block}.attn.c_attn")
        query, key, value = parts.view(seeds * items, length, 3, heads, -1).unbind(2)
        if block == config.n_layer - 1:  # nobody reads the others
            query, state, hidden = query[:, -1:], state[:, :, -1:], hidden[-1:]
        scores = (query[:, :, None] * key[:, None]).sum(-1) * (width // heads) ** -0.5
        shares = drop((scores + hidden).softmax(2), config.attn_pdrop)
        mixed = (shares[..., None] * value[:, None]).sum(2).view(state.shape)
        state = state + drop(linear(mixed, f"h.{block}.attn.c_proj"), config.resid_pdrop)
        inner = linear(norm(state, f"h.{block}.ln_2"), f"h.{block}.mlp.c_fc")
        added = linear(functional.gelu(inner, approximate="tanh"), f"h.{block}.mlp.c_proj")
        state = state + drop(added, config.resid_pdrop)
    logits = norm(state, "ln_f").view(seeds, items, width) @ tokens.transpose(1, 2)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(seeds, items).mean(1)


if __name__ == "__main__":
    run(benchmark_parser(__doc__, AMOUNTS, row_seconds=60), main)

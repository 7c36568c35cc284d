"""A GPT-2 whose 2-hop circuit is written down weight by weight, so that the truth is known.

Four layers, a residual stream made of labelled parts, each a one-hot code of a token:

    token     the input token here          written by the embedding, everywhere
    first     a copy of x1                  one attention head of layer 1, at position x2
    bridge    b = f1(x1, x2)                MLP of layer 2, at position x2
    fetched   a copy of b                   one attention head of layer 3, at position x3
    answer    t = f2(b, x3)                 MLP of layer 4, at position x3

Everything else is zero, but that another head gathers tokens which nobody writes down. Each part is
stored twice, once with its sign turned, so that the layer norms' mean is zero; a constant part
keeps their variance nearly the same. The output matrix reads ``answer`` and, more weakly,
``bridge``; a tiny slope over tokens breaks ties.

Two other models have the same circuit. *Looped*: two blocks that are run twice, the first with both
heads and the second with both tables; who acts follows from what is written so far. *Hidden*: b is
written in a rotated code that the output matrix does not read.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from coverage_principle.circuits import LoadedModel
from simpletransformers.seq2seq.architecture import unique_state
from simpletransformers.seq2seq.architectures.gpt2 import GPT2
from simpletransformers.seq2seq.tokenizer import build_tokenizer, save_tokenizer

BRIDGE_SIZE = 4.0  # how large ``bridge``, ``fetched`` and ``answer`` are against the rest
CONSTANT = 4.0
HEADS = 3  # the first of them does nothing anywhere
PARTS = ("token", "first", "bridge", "fetched", "answer")
#: Where each value appears: (layer, position).
COMPUTED = {"b": (2, 1), "t": (4, 2)}
#: Who copies: (layer, head from 0), the position that it looks from, the position that it looks at.
COPIED = {"first": (1, 1, 1, 0), "fetched": (3, 2, 2, 1)}


def part_of(name: str, n: int) -> slice:
    """The columns of a part in the first half of the residual stream."""
    start = PARTS.index(name) * n
    return slice(start, start + n)


def build(tables, *, looped: bool = False, hidden: bool = False) -> LoadedModel:
    """The model of f1, f2 (n, n), with the data set's vocabulary of n tokens and an end token."""
    f1, f2 = (np.asarray(table) for table in tables)
    n = len(f1)
    place = {name: part_of(name, n) for name in PARTS}
    where = 5 * n  # three dimensions that say which position this is
    constant = 5 * n + 3
    half = constant + 1 + -(constant + 1) % HEADS
    width, size = 2 * half, 2 * half // HEADS
    config = GPT2Config(
        vocab_size=n + 2,  # an end token, and one for padding
        n_layer=4,
        n_head=HEADS,
        n_embd=width,
        n_positions=4,
        n_inner=2 * n * n,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=n,
    )
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    if looped:
        config.architecture_switches = ["add_recurrence"]
        GPT2.switch(model, {"add_recurrence"})
    body = model.transformer
    for name, parameter in model.named_parameters():
        parameter.fill_("ln_" in name and name.endswith("weight"))

    def mirrored(columns: torch.Tensor) -> torch.Tensor:
        """(..., half) written to both copies of the residual stream."""
        return torch.cat([columns, -columns], dim=-1)

    codes = torch.zeros(n + 2, half)
    codes[:n, place["token"]] = torch.eye(n)
    body.wte.weight.copy_(mirrored(codes))
    spots = torch.zeros(4, half)
    spots[:3, where : where + 3] = torch.eye(3)
    spots[:, constant] = CONSTANT
    body.wpe.weight.copy_(mirrored(spots))
    code = torch.eye(n)
    if hidden:
        code = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0)))[0]

    base = CONSTANT**2 + 2  # constant, position and token
    big = BRIDGE_SIZE**2

    def scale(squares: float) -> float:
        """What a layer norm divides by where the first half's squares add up to ``squares``."""
        return (2 * squares / width) ** 0.5

    def written(name: str, code: torch.Tensor) -> torch.Tensor:
        """(n, half): the code (n, n) of each token, in a part."""
        columns = torch.zeros(n, half)
        columns[:, place[name]] = code
        return columns

    def gather(layer: int, head: int, source: str, squares: float) -> int:
        """A head takes a part of states with ``squares``; its first column among the queries."""
        start = head * size
        values = body.h[layer - 1].attn.c_attn.weight[:, 2 * width + start :]
        values[place[source], :n] = scale(squares) * torch.eye(n)
        return start

    def copy(source: str, target: str, squares: float) -> None:
        """As ``COPIED`` says, attend to a position and copy a part of its state."""
        layer, head, reader, read = COPIED[target]
        start = gather(layer, head, source, squares)
        attention = body.h[layer - 1].attn
        attention.c_attn.weight[where + reader, start] = 40.0 * scale(base)
        attention.c_attn.weight[where + read, width + start] = 40.0 * scale(base)
        attention.c_proj.weight[start : start + n] = mirrored(written(target, torch.eye(n)))

    def look_up(table, left: torch.Tensor, squares: float, value: str, out: torch.Tensor) -> None:
        """Where ``COMPUTED`` says, write the table's value of (left, token): one unit an entry.

        ``left`` (n, half) is what to read of left arguments, ``out`` (n, half) what values become.
        """
        layer, position = COMPUTED[value]
        mlp, gain = body.h[layer - 1].mlp, 20.0
        # b is not written again where it stands; without a fetched b nothing is answered.
        first, weight = (0, 1.0) if value == "b" else (n * n, 2.0)
        for a in range(n):
            for c in range(n):
                unit, read = first + a * n + c, weight * left[a]
                read[place["token"].start + c], read[where + position] = 1.0, 2.0
                if value == "b":
                    read[place["bridge"]] = -code.sum(0)
                mlp.c_fc.weight[:half, unit] = gain * scale(squares) * read
                mlp.c_fc.bias[unit] = -(weight + 2.5) * gain  # all three, or nothing
                mlp.c_proj.weight[unit] = mirrored(out[int(table[a, c])]) / (0.5 * gain)

    for layer in (1, 3):
        gather(layer, 0, "token", base)
    copy("token", "first", base)
    bridges = BRIDGE_SIZE * written("bridge", code)
    look_up(f1, written("first", torch.eye(n)), base + 1, "b", bridges)
    # x2 holds b, and in a second loop x1 twice.
    copy("bridge", "fetched", base + (4 if looped else 1) + big)
    # x3 holds b, and blurred copies of tokens.
    answers = BRIDGE_SIZE * written("answer", torch.eye(n))
    blurred = 2 if looped else 0.5
    look_up(f2, written("fetched", code) / BRIDGE_SIZE, base + blurred + big, "t", answers)
    seen = scale(base + big)
    for token in range(n):
        model.lm_head.weight[token, place["answer"].start + token] = 3.0 * seen
        if not hidden:
            model.lm_head.weight[token, place["bridge"].start + token] = 2.0 * seen
        model.lm_head.weight[token, constant] = 0.001 * token * seen
    return LoadedModel(model, torch.arange(n + 1))


def save(loaded: LoadedModel, vocabulary, folder) -> None:
    """A checkpoint of the model, as training leaves one, for commands to read."""
    loaded.model.save_pretrained(folder, state_dict=unique_state(loaded.model))
    save_tokenizer(build_tokenizer(vocabulary, vocabulary[-1]), folder)

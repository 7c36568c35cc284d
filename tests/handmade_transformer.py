"""A GPT-2 whose 2-hop circuit is written down weight by weight, so that the truth is known.

Four blocks, one head, residual stream made of labelled parts, each a one-hot code of a token:

    token     the input token here                       written by the embedding, everywhere
    first     a copy of x1                               attention of block 1, at position x2
    bridge    b = f1(x1, x2)                             MLP of block 2, at position x2
    fetched   a copy of b                                attention of block 3, at position x3
    answer    t = f2(b, x3)                              MLP of block 4, at position x3

Everything else is zero. Each part is stored twice, once with its sign turned, so that the layer
norms' mean is zero; a constant part keeps their variance nearly the same. The output matrix reads
``answer`` and, more weakly, ``bridge``; a tiny slope over tokens breaks ties.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from coverage_principle.circuits import LoadedModel

BRIDGE_SIZE = 4.0  # how large ``bridge``, ``fetched`` and ``answer`` are against the rest
CONSTANT = 4.0
#: Where each value appears: (block, position).
COMPUTED = {"b": (2, 1), "t": (4, 2)}


def build(tables) -> LoadedModel:
    """The model of f1, f2 (n, n), with the data set's vocabulary of n tokens and an end token."""
    f1, f2 = (np.asarray(table) for table in tables)
    n = len(f1)
    parts = ("token", "first", "bridge", "fetched", "answer")
    place = {name: slice(i * n, (i + 1) * n) for i, name in enumerate(parts)}
    where = 5 * n  # three dimensions that say which position this is
    constant = 5 * n + 3
    half = constant + 1
    width = 2 * half
    config = GPT2Config(
        vocab_size=n + 1,
        n_layer=4,
        n_head=1,
        n_embd=width,
        n_positions=4,
        n_inner=n * n,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    body = model.transformer
    for parameter in model.parameters():
        parameter.zero_()

    def mirrored(columns: torch.Tensor) -> torch.Tensor:
        """(..., half) written to both copies of the residual stream."""
        return torch.cat([columns, -columns], dim=-1)

    codes = torch.zeros(n + 1, half)
    codes[:n, place["token"]] = torch.eye(n)
    body.wte.weight.copy_(mirrored(codes))
    spots = torch.zeros(4, half)
    spots[:3, where : where + 3] = torch.eye(3)
    spots[:, constant] = CONSTANT
    body.wpe.weight.copy_(mirrored(spots))

    def norm(layer_norm, squares: float) -> None:
        """Undo the scaling where the first half's squares add up to ``squares``."""
        layer_norm.weight.fill_((2 * squares / width) ** 0.5)

    base = CONSTANT**2 + 2  # constant, position and token
    big = BRIDGE_SIZE**2
    for block in body.h:
        norm(block.ln_1, base)
        norm(block.ln_2, base)
    norm(body.h[1].ln_2, base + 1)  # x2 holds the copy of x1
    norm(body.h[2].ln_1, base + 1 + big)  # x2 holds the bridge
    norm(body.h[3].ln_2, base + 0.5 + big)  # x3 holds the fetched bridge, and a blurred copy
    norm(body.ln_f, base + big)

    def copy(block, source: str, target: str, reader: int, read: int) -> None:
        """At position ``reader`` attend to position ``read`` and copy a part of its state."""
        mixed = block.attn.c_attn.weight  # (width, 3 * width): queries, keys, values
        mixed[where + reader, 0] = 40.0
        mixed[where + read, width] = 40.0
        for i in range(n):
            mixed[place[source].start + i, 2 * width + i] = 1.0
            block.attn.c_proj.weight[i, place[target].start + i] = 1.0
            block.attn.c_proj.weight[i, half + place[target].start + i] = -1.0

    def look_up(block, table, left: str, size: float, position: int, target: str) -> None:
        """At ``position`` write the table's value of (``left``, ``token``): one unit an entry."""
        mlp, gain = block.mlp, 20.0
        for a in range(n):
            for c in range(n):
                unit = a * n + c
                mlp.c_fc.weight[place[left].start + a, unit] = gain / size
                mlp.c_fc.weight[place["token"].start + c, unit] = gain
                mlp.c_fc.weight[where + position, unit] = gain
                mlp.c_fc.bias[unit] = -2.5 * gain  # all three, or nothing
                out = place[target].start + int(table[a, c])
                mlp.c_proj.weight[unit, out] = BRIDGE_SIZE / (0.5 * gain)
                mlp.c_proj.weight[unit, half + out] = -BRIDGE_SIZE / (0.5 * gain)

    copy(body.h[0], "token", "first", reader=1, read=0)
    look_up(body.h[1], f1, "first", 1.0, 1, "bridge")
    copy(body.h[2], "bridge", "fetched", reader=2, read=1)
    look_up(body.h[3], f2, "fetched", BRIDGE_SIZE, 2, "answer")
    for token in range(n):
        model.lm_head.weight[token, place["answer"].start + token] = 3.0
        model.lm_head.weight[token, place["bridge"].start + token] = 2.0
        model.lm_head.weight[token, constant] = 0.001 * token
    return LoadedModel(model, torch.arange(n + 1))

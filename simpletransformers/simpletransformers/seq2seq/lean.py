"""A GPT-2 forward pass for sequences of a few tokens, of which few carry loss.

Computes what ``GPT2LMHeadModel`` computes, from the same parameters, and leaves out what nobody
reads: in the last block only the wanted positions have queries and an MLP, as nothing comes after
them that would read the others. With three tokens of which one carries loss that is almost half
of a two-layer model's work. Causal masks and attention of other lengths are not rebuilt for each
batch either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel, PreTrainedModel

#: Activations that are GPT-2's tanh approximation of GELU.
_TANH_GELU = {"gelu_new", "gelu_pytorch_tanh"}


def supports(model: PreTrainedModel) -> bool:
    """Whether ``logits_at`` computes what this model does: a plain GPT-2, nothing exchanged."""
    config = model.config
    return (
        type(model) is GPT2LMHeadModel
        and config.activation_function in _TANH_GELU
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.add_cross_attention
        and not getattr(config, "architecture_switches", None)
    )


def logits_at(model: GPT2LMHeadModel, inputs: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """``(n, len(columns), vocabulary)`` logits at ``columns`` of ``inputs`` ``(n, length)``."""
    body, config = model.transformer, model.config
    columns = list(columns)
    inputs = inputs[:, : max(columns) + 1]  # nothing before reads what comes after
    length = inputs.shape[1]
    positions = torch.arange(length, device=inputs.device)
    hidden = functional.embedding(inputs, body.wte.weight) + body.wpe.weight[:length]
    hidden = body.drop(hidden)
    causal = positions[:, None] >= positions
    last = config.n_layer - 1
    for number, block in enumerate(body.h):
        wanted = None
        if number == last and columns != list(range(length)):
            wanted, causal = columns, pick(causal, columns, dim=0)
        hidden = _block(block, hidden, causal, config.n_head, wanted)
    return functional.linear(body.ln_f(hidden), model.lm_head.weight)


def pick(tensor: torch.Tensor, columns: Sequence[int], dim: int = 1) -> torch.Tensor:
    """The given places of a dimension.

    Not ``tensor[:, columns]``: that makes an index tensor, for whose copy to a GPU the host waits.
    """
    first, count = columns[0], len(columns)
    if list(columns) == list(range(first, first + count)):
        return tensor.narrow(dim, first, count)
    return torch.cat([tensor.narrow(dim, column, 1) for column in columns], dim)


def flops(config, columns: Sequence[int]) -> int:
    """Floating-point operations of a training step for one row: what is really multiplied.

    Two for each multiply-add of a matrix product, three passes (one forward, two backward).
    """
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    length, wanted = max(columns) + 1, len(columns)
    whole = length * (4 * width**2 + 2 * width * inner) + 2 * length**2 * width
    last = (
        length * 2 * width**2
        + wanted * (2 * width**2 + 2 * width * inner)
        + 2 * wanted * length * width
    )
    output = wanted * width * config.vocab_size
    return 3 * 2 * ((config.n_layer - 1) * whole + last + output)


def _block(
    block: torch.nn.Module,
    hidden: torch.Tensor,
    causal: torch.Tensor,
    heads: int,
    wanted: list[int] | None,
) -> torch.Tensor:
    """One transformer block; with ``wanted``, only those positions come out of it."""
    attention, width = block.attn, hidden.shape[-1]
    normed = block.ln_1(hidden)
    if wanted is None:
        projected = torch.addmm(
            attention.c_attn.bias, normed.reshape(-1, width), attention.c_attn.weight
        ).view(*hidden.shape[:2], 3 * width)
        query, key, value = projected.split(width, dim=-1)
    else:
        hidden = pick(hidden, wanted)
        weight, bias = attention.c_attn.weight, attention.c_attn.bias
        query = pick(normed, wanted) @ weight[:, :width] + bias[:width]
        key, value = (normed @ weight[:, width:] + bias[width:]).split(width, dim=-1)
    hidden = hidden + attention.resid_dropout(
        _linear(attention.c_proj, _attend(attention, query, key, value, causal, heads))
    )
    mlp = block.mlp
    inner = functional.gelu(_linear(mlp.c_fc, block.ln_2(hidden)), approximate="tanh")
    return hidden + mlp.dropout(_linear(mlp.c_proj, inner))


def _attend(attention, query, key, value, causal, heads: int) -> torch.Tensor:
    """Softmax attention: ``(n, queries, width)``."""
    rows, queries, width = query.shape
    query, key, value = (
        part.view(rows, -1, heads, width // heads).transpose(1, 2) for part in (query, key, value)
    )
    if query.is_cuda:
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=causal,
            dropout_p=attention.attn_dropout.p if attention.training else 0.0,
        )
    else:  # for a handful of tokens on a CPU, plain products beat the fused kernel
        scores = (query @ key.transpose(-1, -2)) * (1 / math.sqrt(width // heads))
        scores = scores.masked_fill(~causal, torch.finfo(scores.dtype).min)
        mixed = attention.attn_dropout(scores.softmax(-1)) @ value
    return mixed.transpose(1, 2).reshape(rows, queries, width)


def _linear(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """A ``Conv1D`` of transformers, whose weight is (inputs, outputs)."""
    flat = torch.addmm(layer.bias, hidden.reshape(-1, hidden.shape[-1]), layer.weight)
    return flat.view(*hidden.shape[:-1], -1)

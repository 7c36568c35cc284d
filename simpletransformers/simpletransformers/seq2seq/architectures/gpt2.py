"""GPT-2: its sizes, its switches, and its blocks run by hand.

The hand-written blocks compute what ``GPT2LMHeadModel`` computes, from the same parameters, on any
part of a sequence. Neither masks nor caches of transformers are used, whose form changes from
release to release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from simpletransformers.errors import InputError
from simpletransformers.seq2seq import operations
from simpletransformers.seq2seq.architecture import Blueprint, pick
from simpletransformers.seq2seq.architectures import loops_of
from simpletransformers.seq2seq.layered import Attending, remembered, seen, softmax_attention
from simpletransformers.seq2seq.light import LightGPT2

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PretrainedConfig

#: Activations that are GPT-2's tanh approximation of GELU, which torch has as one fused kernel.
_TANH_GELU = {"gelu_new", "gelu_pytorch_tanh"}
#: What ``LightGPT2`` is: entries of ``config.json`` that could say otherwise, and their defaults.
_PLAIN = {
    "add_cross_attention": False,
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}


class _Nothing(torch.nn.Module):
    """In the place of an MLP: adds nothing to the residual stream."""

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.zeros_like(hidden)


class _Injection:
    """Adds what the stack of blocks reads to what it reads in every later loop.

    By hooks on the first block of each loop, so that the model's own forward does it too.
    """

    def __init__(self, first: torch.nn.Module, *later: torch.nn.Module) -> None:
        self._start, self._last = None, later[-1]
        first.register_forward_pre_hook(self._keep)
        for block in later:
            block.register_forward_pre_hook(self._add)

    def _keep(self, _block: torch.nn.Module, given: tuple) -> None:
        self._start = given[0]

    def _add(self, block: torch.nn.Module, given: tuple) -> tuple:
        state = given[0] + self._start
        if block is self._last:
            self._start = None  # and all that its gradient would hold
        return state, *given[1:]


class GPT2(Attending):
    """Switches have the semantics of the GrokkedTransformer fork (Wang et al., 2024).

    ``inject_input`` is the input injection of looped Transformers (Yang et al., 2023, "Looped
    Transformers are Better at Learning Learning Algorithms"), whose loops read the sum of the
    stream and the prompt's embedding.
    """

    switches = {
        "no_ln": "no layer norms at all",
        "no_mlp": "blocks of attention alone",
        "share_mlp": "one MLP, with its layer norm, for all blocks",
        "add_recurrence": "the whole stack of blocks twice, with the same weights",
        "inject_input": "the stack's input is added to the stream before every loop but the first",
    }
    loops_over = "n_layer"

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__(model)
        config, self._body = model.config, model.transformer
        scale = (self.width // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        by_layer = config.scale_attn_by_inverse_layer_idx
        self._scales = [scale / (i + 1 if by_layer else 1) for i in range(self.layers)]
        injected = "inject_input" in (getattr(config, "architecture_switches", None) or ())
        size = self.layers // self.loops
        #: The blocks before which the input comes in again.
        self._entries = range(size, self.layers, size) if injected else ()
        places = torch.arange(config.n_positions, device=model.device)
        self._causal = places[:, None] >= places  # made once: every mask is a view of it

    @classmethod
    def config(cls, plan: Blueprint) -> PretrainedConfig:
        if {"no_mlp", "share_mlp"} <= set(plan.switches):
            raise InputError("`no_mlp` leaves no MLP to share; omit one of `no_mlp`, `share_mlp`")
        from transformers import AutoConfig

        # With recurrence the second half repeats the first.
        layers = plan.n_layer * (2 if "add_recurrence" in plan.switches else 1)
        sizes = {"n_head": plan.n_head, "n_embd": plan.n_embd, "n_inner": plan.n_inner}
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), plan.dropout)
        options = {**sizes, **dropout, **plan.tokens, "activation_function": "gelu_pytorch_tanh"}
        return AutoConfig.for_model("gpt2", n_layer=layers, **options)

    @classmethod
    def light(cls, config: Mapping[str, object]) -> LightGPT2 | None:
        plain = all(config.get(name, value) is value for name, value in _PLAIN.items())
        tanh = config.get("activation_function") in _TANH_GELU
        return LightGPT2(config) if plain and tanh else None

    @classmethod
    def switch(cls, model: GPT2LMHeadModel, switches: set[str]) -> None:
        blocks, loops = model.transformer.h, loops_of(model.config)
        size = len(blocks) // loops
        for index, block in enumerate(blocks):
            _tie(blocks[index % size], block)
        if "inject_input" in switches and loops > 1:
            _Injection(*blocks[::size])
        for block in blocks:
            if "share_mlp" in switches:
                _tie(blocks[0].mlp, block.mlp)
                _tie(blocks[0].ln_2, block.ln_2)
            if "no_mlp" in switches:
                block.mlp, block.ln_2 = _Nothing(), torch.nn.Identity()
            if "no_ln" in switches:
                block.ln_1, block.ln_2 = torch.nn.Identity(), torch.nn.Identity()
        if "no_ln" in switches:
            model.transformer.ln_f = torch.nn.Identity()

    def flops(self, columns: Sequence[int]) -> int:
        """What is really multiplied: two for a multiply-add of a matrix product, three passes."""
        config, width = self.model.config, self.width
        without = getattr(config, "architecture_switches", None) or ()
        inner = 0 if "no_mlp" in without else config.n_inner or 4 * width
        length, wanted = max(columns) + 1, len(columns)

        def block(queries: int) -> int:
            keys_and_values = length * 2 * width**2
            of_queries = queries * (2 * width**2 + 2 * width * inner)
            return keys_and_values + of_queries + 2 * queries * length * width

        output = wanted * width * config.vocab_size
        return 3 * 2 * ((self.layers - 1) * block(length) + block(wanted) + output)

    def embedding(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self._body.wte.weight)

    def embed(self, ids: Tensor) -> Tensor:
        state, drop = self.embedding(ids) + self._body.wpe.weight[: ids.shape[1]], self._body.drop
        return operations.dropout(state, drop.p) if self._by_hand(state) else drop(state)

    def enter(self, index: int, state: Tensor, start: Tensor | None) -> Tensor:
        if index not in self._entries:
            return state
        if start is None:
            raise ValueError("a model that its input is injected into needs `start`, its layer 0")
        return (state.unflatten(0, (-1, len(start))) + start).flatten(0, 1)

    def through(self, index, state, wanted=None):
        """In training on a CPU by operations that have their derivatives written by hand."""
        if not self._by_hand(state):
            return super().through(index, state, wanted)
        block, attention = self._body.h[index], self._body.h[index].attn
        half = operations.Half(
            _dtype(state),
            self.model.config.layer_norm_epsilon,
            attention.resid_dropout.p,
            self.model.config.n_head,
            self._scales[index],
            attention.attn_dropout.p,
            wanted,
        )
        layers = block.ln_1, attention.c_attn, attention.c_proj
        state = operations.attention(state, *map(_pair, layers), half)
        if isinstance(block.mlp, _Nothing):
            return state
        if self.model.config.activation_function not in _TANH_GELU:
            return state + self.mlp(index, state)
        layers = block.ln_2, block.mlp.c_fc, block.mlp.c_proj
        half = replace(half, rate=block.mlp.dropout.p)
        return operations.mlp(state, *map(_pair, layers), half)

    def _by_hand(self, state: Tensor) -> bool:
        here = state.device.type == "cpu" and not torch.compiler.is_compiling()
        return here and self.model.training and state.requires_grad

    def attend(self, index, state, earlier=None, wanted=None):
        block = self._body.h[index]
        attention, normed = block.attn, block.ln_1(state)
        (rows, given, width), heads = state.shape, self.model.config.n_head
        if wanted is None:
            parts = _linear(attention.c_attn, normed).split(width, dim=-1)
        else:
            weight, bias = attention.c_attn.weight, attention.c_attn.bias
            query = pick(normed, wanted) @ weight[:, :width] + bias[:width]
            parts = query, *(normed @ weight[:, width:] + bias[width:]).split(width, dim=-1)
        query, key, value = (
            part.view(rows, -1, heads, width // heads).transpose(1, 2) for part in parts
        )
        memory = key, value = remembered(earlier, (key, value))
        mask = seen(self._causal, key.shape[2] - given, key.shape[2], wanted)
        rate = attention.attn_dropout.p if attention.training else 0.0
        mixed = softmax_attention(query, key, value, mask, self._scales[index], rate)
        return mixed.transpose(1, 2), memory

    def project(self, index: int, gathered: Tensor) -> Tensor:
        attention = self._body.h[index].attn
        return attention.resid_dropout(_linear(attention.c_proj, gathered.flatten(2)))

    def pattern(self, index: int, state: Tensor) -> Tensor:
        block, (rows, length, width) = self._body.h[index], state.shape
        weight, bias = block.attn.c_attn.weight[:, : 2 * width], block.attn.c_attn.bias[: 2 * width]
        query, key = (
            part.view(rows, length, self.heads, -1).transpose(1, 2)
            for part in (block.ln_1(state) @ weight + bias).split(width, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) * self._scales[index]
        later = ~self._causal[:length, :length]
        return scores.masked_fill(later, float("-inf")).softmax(-1)

    def mlp(self, index: int, middle: Tensor) -> Tensor:
        block = self._body.h[index]
        mlp, normed = block.mlp, block.ln_2(middle)
        if isinstance(mlp, _Nothing) or self.model.config.activation_function not in _TANH_GELU:
            return mlp(normed)
        inner = functional.gelu(_linear(mlp.c_fc, normed), approximate="tanh")
        return mlp.dropout(_linear(mlp.c_proj, inner))

    def norm(self, state: Tensor) -> Tensor:
        return self._body.ln_f(state)


def _linear(layer: torch.nn.Module, hidden: Tensor) -> Tensor:
    """A ``Conv1D`` of transformers, whose weight is (inputs, outputs)."""
    flat = torch.addmm(layer.bias, hidden.reshape(-1, hidden.shape[-1]), layer.weight)
    return flat.view(*hidden.shape[:-1], -1)


def _pair(layer: torch.nn.Module) -> operations.Pair | None:
    """Weight and bias of a layer; None of one that is switched off."""
    return None if isinstance(layer, torch.nn.Identity) else (layer.weight, layer.bias)


def _dtype(state: Tensor) -> torch.dtype:
    """The type of matrix products on a CPU."""
    lower = torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if lower else state.dtype


def _tie(first: torch.nn.Module, second: torch.nn.Module) -> None:
    """Give ``second`` the parameters of ``first``; the modules stay two, each with its hooks."""
    if first is second:
        return
    for name, parameter in first.named_parameters():
        path, _, attribute = name.rpartition(".")
        setattr(second.get_submodule(path), attribute, parameter)


ARCHITECTURE = GPT2

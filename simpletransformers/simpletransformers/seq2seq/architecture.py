"""Models that can be trained, and switches that change a GPT-2's architecture.

A switch is kept in ``config.architecture_switches``, as ``config.json`` of a checkpoint has it. The
weights file holds every shared parameter once, so ``GPT2LMHeadModel.from_pretrained`` reads such a
checkpoint, but only ``apply_switches`` makes it the model that was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2LMHeadModel, PreTrainedModel

from simpletransformers.errors import InputError

MODEL_TYPES = ("gpt2", "llama", "mamba")

#: What each does, for ``--help``; semantics of the GrokkedTransformer fork (Wang et al., 2024).
SWITCHES = {
    "no_ln": "no layer norms at all",
    "no_mlp": "blocks of attention alone",
    "share_mlp": "one MLP, with its layer norm, for all blocks",
    "add_recurrence": "the whole stack of blocks twice, with the same weights",
}


class _Nothing(torch.nn.Module):
    """In the place of an MLP: adds nothing to the residual stream."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden)


def build_config(model_type: str, sizes: dict[str, int | None], *, dropout: float, **tokens):
    """A configuration of ``model_type`` with ``n_layer``, ``n_head``, ``n_embd``, ``n_inner``.

    ``tokens`` are ``vocab_size`` and the ids of special tokens. Mamba has no heads, and its inner
    width is ``n_inner`` or twice ``n_embd``; Llama has no dropout but on attention.
    ``InputError`` for sizes that the type cannot have.
    """
    layers, heads, width = sizes["n_layer"], sizes["n_head"], sizes["n_embd"]
    inner, common = sizes["n_inner"], {"use_cache": False, **tokens}
    if model_type == "llama":
        if width // heads % 2:
            raise InputError(
                f"n_embd {width} over n_head {heads} makes heads of {width // heads} dimensions; "
                "llama needs an even number, as it rotates them in pairs"
            )
        return AutoConfig.for_model(
            "llama",
            num_hidden_layers=layers,
            num_attention_heads=heads,
            hidden_size=width,
            intermediate_size=inner or 4 * width,
            attention_dropout=dropout,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            **common,
        )
    if model_type == "mamba":
        if (inner or width) % width:
            raise InputError(
                f"n_inner {inner} is not a multiple of n_embd {width}, as mamba needs it"
            )
        return AutoConfig.for_model(
            "mamba",
            num_hidden_layers=layers,
            hidden_size=width,
            expand=(inner or 2 * width) // width,
            tie_word_embeddings=True,
            **common,
        )
    return AutoConfig.for_model(
        "gpt2",
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        n_inner=inner,
        # The same function as GPT-2's "gelu_new", as one fused kernel.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        **common,
    )


def build_model(config, switches: Sequence[str], attention: str) -> PreTrainedModel:
    """A model with fresh weights. ``InputError`` for switches of another type than gpt2."""
    if switches and config.model_type != "gpt2":
        raise InputError(
            f"{', '.join(switches)} change a gpt2; leave them away with model_type "
            f"{config.model_type}"
        )
    if {"no_mlp", "share_mlp"} <= set(switches):
        raise InputError("no_mlp leaves no MLP to share; leave one of no_mlp, share_mlp away")
    if switches:
        config.architecture_switches = list(switches)
    if "add_recurrence" in switches:
        config.n_layer *= 2  # the second half repeats the first
    if config.model_type != "mamba":
        config._attn_implementation = attention
    return apply_switches(AutoModelForCausalLM.from_config(config))


def load_model(folder: Path, attention: str) -> PreTrainedModel:
    """The model of a checkpoint folder, switches included."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in MODEL_TYPES:
        raise InputError(
            f"{folder} holds a {config.model_type}; model types here are {', '.join(MODEL_TYPES)}"
        )
    chosen = {} if config.model_type == "mamba" else {"attn_implementation": attention}
    return apply_switches(
        AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **chosen)
    )


def apply_switches(model: PreTrainedModel) -> PreTrainedModel:
    """Make a GPT-2 the model that ``config.architecture_switches`` describes, in place."""
    switches = set(getattr(model.config, "architecture_switches", None) or ())
    if unknown := switches - set(SWITCHES):
        raise InputError(
            f"config.json asks for {', '.join(sorted(unknown))}; known architecture switches are "
            f"{', '.join(SWITCHES)}"
        )
    if not switches:
        return model
    assert isinstance(model, GPT2LMHeadModel)
    blocks = model.transformer.h
    if "add_recurrence" in switches:
        half = len(blocks) // 2
        for first, second in zip(blocks[:half], blocks[half:], strict=True):
            _tie(first, second)
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
    return model


def unique_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The state dictionary with each shared parameter under its first name only."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            kept[name] = tensor
        seen.add(tensor.data_ptr())
    return kept


def _tie(first: torch.nn.Module, second: torch.nn.Module) -> None:
    """Give ``second`` the parameters of ``first``; the modules stay two, each with its hooks."""
    if first is second:
        return
    for name, parameter in first.named_parameters():
        path, _, attribute = name.rpartition(".")
        setattr(second.get_submodule(path), attribute, parameter)

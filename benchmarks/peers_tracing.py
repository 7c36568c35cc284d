"""Tracing, heads and attention patterns with TransformerLens and with nnsight.

The weights are those of ``circuits.random_model``; each patched run is a run of the library's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
import torch
from circuits import pattern_case, random_model, trace_case
from common import timed


def with_transformer_lens(count: int, width: int, slot: int, heads: bool = False) -> dict:
    """Times, and probabilities of all layers (or heads) and positions of the first items."""
    hooked, config = hooked_model(width)
    stream = "attn.hook_z" if heads else "hook_resid_post"
    names = [f"blocks.{layer}.{stream}" for layer in range(config.n_layer)]

    def trace(originals, sources, answers):
        _, donors = hooked.run_with_cache(sources, names_filter=names)

        def run(layer: int, position: int, head: int):
            def put(state, hook):
                place = (position, head) if heads else (position,)
                state[:, *place] = donors[hook.name][:, *place]
                return state

            hooks = [(names[layer], put)]
            return hooked.run_with_hooks(originals, fwd_hooks=hooks)[:, -1]

        return cells_of(run, config, answers, heads)

    return traced(trace, count, slot)


def with_nnsight(count: int, width: int, slot: int, heads: bool = False) -> dict:
    import nnsight

    model, config = loaded_model(width)
    watched, size = nnsight.NNsight(model), width // config.n_head

    def trace(originals, sources, answers):
        with watched.trace(sources):
            blocks = watched.transformer.h
            if heads:
                donors = nnsight.save([block.attn.c_proj.input for block in blocks])
            else:
                donors = nnsight.save([states_of(block.output) for block in blocks])

        def run(layer: int, position: int, head: int):
            columns = slice(head * size, (head + 1) * size) if heads else slice(None)
            donor = donors[layer][:, position, columns]
            with watched.trace(originals):
                block = watched.transformer.h[layer]
                state = block.attn.c_proj.input if heads else states_of(block.output)
                state[:, position, columns] = donor
                found = watched.output.logits[:, -1].save()
            return found  # noqa: RET504 (what is saved is there after the block)

        return cells_of(run, config, answers, heads)

    return traced(trace, count, slot)


def patterns_with_transformer_lens(count: int, width: int) -> dict:
    """Times, and attention (layers, heads, queries, keys), averaged over items."""
    hooked, config = hooked_model(width)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(config.n_layer)]

    def average(ids: torch.Tensor) -> torch.Tensor:
        _, found = hooked.run_with_cache(ids, names_filter=names)
        return torch.stack([found[name].mean(0) for name in names])

    return averaged(average, count)


def patterns_with_nnsight(count: int, width: int) -> dict:
    import nnsight

    model, _ = loaded_model(width)
    model.set_attn_implementation("eager")  # which alone tells its weights
    watched = nnsight.NNsight(model)

    def average(ids: torch.Tensor) -> torch.Tensor:
        with watched.trace(ids):
            weights = (block.attn.output[1] for block in watched.transformer.h)
            found = torch.stack([one.mean(0) for one in weights]).save()
        return found  # noqa: RET504

    return averaged(average, count)


def hooked_model(width: int) -> tuple:
    from transformer_lens.model_bridge import TransformerBridge

    model, config = loaded_model(width)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        given = some_tokenizer(config.vocab_size, folder)
        options = {"hf_model": model, "tokenizer": given, "device": "cpu"}
        hooked = TransformerBridge.boot_transformers(folder, **options)
    return hooked.eval(), config


def some_tokenizer(tokens: int, folder: str):
    """One that TransformerLens asks for and nothing here reads; it has to come from a folder."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"t{number}": number for number in range(tokens)}
    made = Tokenizer(WordLevel(words, unk_token="t0"))
    special = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), "t0")
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def states_of(output):
    """The states that a block gives, some versions of transformers in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def loaded_model(width: int) -> tuple:
    model = random_model(8, width).model
    return model, model.config


def cells_of(run: Callable, config, answers: torch.Tensor, heads: bool) -> np.ndarray:
    """Probabilities (layers, positions, n, 2) of the answers, or (layers * heads, ...)."""
    found = [
        [run(layer, position, head).softmax(-1).gather(1, answers) for position in range(3)]
        for layer in range(config.n_layer)
        for head in range(config.n_head if heads else 1)
    ]
    return np.array([[one.numpy() for one in row] for row in found])


def traced(trace: Callable, count: int, slot: int) -> dict:
    case = [torch.as_tensor(array) for array in trace_case(count, slot)]
    with torch.no_grad():
        trace(*(array[:4] for array in case))  # warm up
        found, times = timed(trace, *case)
    return {**times, "found": found[:, :, :20].ravel().tolist()}


def averaged(average: Callable, count: int) -> dict:
    ids = torch.as_tensor(pattern_case(count))
    with torch.no_grad():
        average(ids[:64])
        found, times = timed(average, ids)
    return {**times, "found": found.flatten().tolist()}

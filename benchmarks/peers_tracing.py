"""Tracing every layer and position with TransformerLens and with nnsight.

The weights are those of ``circuits.random_model``; each patched run is a run of the library's own.
"""

from __future__ import annotations

import numpy as np
import torch
from circuits import random_model, trace_case
from common import timed


def with_transformer_lens(count: int, width: int, slot: int) -> dict:
    """Times, and probabilities of all layers and positions of the first items."""
    import tempfile

    from transformer_lens.model_bridge import TransformerBridge

    model, config = loaded_model(width)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        given = some_tokenizer(config.vocab_size, folder)
        options = {"hf_model": model, "tokenizer": given, "device": "cpu"}
        hooked = TransformerBridge.boot_transformers(folder, **options)
    hooked.eval()

    def trace(originals, sources, answers):
        names = [f"blocks.{layer}.hook_resid_post" for layer in range(config.n_layer)]
        _, donors = hooked.run_with_cache(sources, names_filter=names)

        def run(layer: int, position: int):
            def put(state, hook):
                state[:, position] = donors[hook.name][:, position]
                return state

            hooks = [(names[layer], put)]
            return hooked.run_with_hooks(originals, fwd_hooks=hooks)[:, -1]

        return cells_of(run, config, answers)

    return traced(trace, count, slot)


def with_nnsight(count: int, width: int, slot: int) -> dict:
    import nnsight

    model, config = loaded_model(width)
    watched = nnsight.NNsight(model)

    def trace(originals, sources, answers):
        with watched.trace(sources):
            donors = nnsight.save([states_of(block.output) for block in watched.transformer.h])

        def run(layer: int, position: int):
            donor = donors[layer][:, position]
            with watched.trace(originals):
                state = states_of(watched.transformer.h[layer].output)
                state[:, position] = donor
                found = watched.output.logits[:, -1].save()
            return found  # noqa: RET504 (what is saved is there after the block)

        return cells_of(run, config, answers)

    return traced(trace, count, slot)


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


def cells_of(run, config, answers: torch.Tensor) -> np.ndarray:
    """Probabilities (layers, positions, n, 2) of the answers."""
    found = [
        [run(layer, position).softmax(-1).gather(1, answers) for position in range(3)]
        for layer in range(config.n_layer)
    ]
    return np.array([[one.numpy() for one in row] for row in found])


def traced(trace, count: int, slot: int) -> dict:
    case = [torch.as_tensor(array) for array in trace_case(count, slot)]
    with torch.no_grad():
        trace(*(array[:4] for array in case))  # warm up
        found, times = timed(trace, *case)
    return {**times, "found": found[:, :, :20].ravel().tolist()}

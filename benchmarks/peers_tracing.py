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
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    model, config = loaded_model(width)
    hooked = HookedTransformer(
        HookedTransformerConfig(
            **{"n_layers": config.n_layer, "d_model": width, "n_heads": config.n_head},
            **{"d_head": width // config.n_head, "d_mlp": 4 * width, "d_vocab": config.vocab_size},
            **{"n_ctx": config.n_positions, "act_fn": "gelu_new", "normalization_type": "LN"},
            device="cpu",
        )
    )
    hooked.load_state_dict(convert_gpt2_weights(model, hooked.cfg), strict=False)
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
    from nnsight import NNsight

    model, config = loaded_model(width)
    watched = NNsight(model)

    def trace(originals, sources, answers):
        donors = []
        with watched.trace(sources):
            saved = [watched.transformer.h[layer].output.save() for layer in range(config.n_layer)]
        donors = [one[0] if isinstance(one, tuple) else one for one in saved]
        tuples = isinstance(saved[0], tuple)

        def run(layer: int, position: int):
            donor = donors[layer][:, position]
            with watched.trace(originals):
                output = watched.transformer.h[layer].output
                state = output[0] if tuples else output
                state[:, position] = donor
                logits = watched.output.logits[:, -1].save()
            return logits

        return cells_of(run, config, answers)

    return traced(trace, count, slot)


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

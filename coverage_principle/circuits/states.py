"""Hidden states of GPT-2, read through hooks that are removed again and must have fired.

Layers are counted like this: layer 0 is token plus position embedding, layer l the residual stream
after block l = 1..L. The published ``hidden_states[L]`` is not the residual stream but what comes
after the final layer norm (``ln_f``), so a ``Site`` says which of the two it means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from coverage_principle.circuits.checkpoints import LoadedModel
from coverage_principle.errors import InputError

#: Numbers in one state of a batch; bounds memory whatever the batch size.
_ROOM = 1 << 22


@dataclass(frozen=True)
class Tap:
    """A place to read: what goes into a module (``before``) or what comes out of it."""

    module: nn.Module
    before: bool = False


@contextmanager
def capture(taps: Mapping[object, Tap]) -> Iterator[dict[object, Tensor]]:
    """Read states during the forward passes inside the ``with`` block.

    Yields a dictionary that holds, after a forward pass, the latest ``(batch, tokens, width)``
    state of every key of ``taps``. Blocks return a tensor or a tuple that begins with it, depending
    on the transformers version; both are read. Raises ``RuntimeError`` on leaving if a hook never
    fired, so a changed model cannot silently give nothing.
    """
    found: dict[object, Tensor] = {}
    handles = []

    def reader(key):
        def read(_module, arguments, output=None):
            value = arguments if output is None else output
            found[key] = value if isinstance(value, Tensor) else value[0]

        return read

    try:
        for key, tap in taps.items():
            register = (
                tap.module.register_forward_pre_hook
                if tap.before
                else tap.module.register_forward_hook
            )
            handles.append(register(reader(key)))
        yield found
    finally:
        for handle in handles:
            handle.remove()
    silent = [key for key in taps if key not in found]
    if silent:
        raise RuntimeError(f"no state was read at {silent}: the forward pass did not reach it")


# -------------------------------------------------------------------------------------- streams


@dataclass(frozen=True)
class Stream:
    """A kind of state that can be read: one entry of ``STREAMS``.

    ``tap(model, layer)`` says where it is; ``layers(L)`` for which layers it exists;
    ``finish(model, state)``, if any, turns the tapped state ``(n, width)`` into the stream's.
    """

    about: str
    layers: Callable[[int], range]
    tap: Callable[[GPT2LMHeadModel, int], Tap]
    finish: Callable[[LoadedModel, Tensor], Tensor] | None = None


def _residual(model: GPT2LMHeadModel, layer: int) -> Tap:
    body = model.transformer
    # Dropout is the identity here, and its output is what the first block reads.
    return Tap(body.drop if layer == 0 else body.h[layer - 1])


def _after_final_norm(model: GPT2LMHeadModel, _layer: int) -> Tap:
    return Tap(model.transformer.ln_f)


def _logits(loaded: LoadedModel, state: Tensor) -> Tensor:
    return loaded.model.lm_head(state)[:, loaded.token_ids]


def _probabilities(loaded: LoadedModel, state: Tensor) -> Tensor:
    return loaded.model.lm_head(state).softmax(dim=-1)[:, loaded.token_ids]


STREAMS: dict[str, Stream] = {
    "residual": Stream(
        "the residual stream after block l; layer 0 is token plus position embedding",
        lambda last: range(last + 1),
        _residual,
    ),
    "post_attention": Stream(
        "the residual stream of block l after attention, before the MLP",
        lambda last: range(1, last + 1),
        lambda model, layer: Tap(model.transformer.h[layer - 1].ln_2, before=True),
    ),
    "post_mlp": Stream(
        "what block l's MLP adds to the residual stream",
        lambda last: range(1, last + 1),
        lambda model, layer: Tap(model.transformer.h[layer - 1].mlp),
    ),
    "embedding": Stream(
        "the token embedding alone (layer 0)",
        lambda _last: range(1),
        lambda model, _layer: Tap(model.transformer.wte),
    ),
    "logit": Stream(
        "the logits of the data set's vocabulary (layer L)",
        lambda last: range(last, last + 1),
        _after_final_norm,
        _logits,
    ),
    "prob": Stream(
        "the probabilities of the data set's vocabulary, softmax over all outputs (layer L)",
        lambda last: range(last, last + 1),
        _after_final_norm,
        _probabilities,
    ),
}


@dataclass(frozen=True, order=True)
class Site:
    """Where a state is read. ``after_ln_f``: layer L of the residual stream, final norm applied."""

    layer: int
    position: int
    after_ln_f: bool = False

    @property
    def key(self) -> str:
        """A name for array files, such as ``layer3_pos1`` or ``layer8_ln_f_pos1``."""
        return f"layer{self.layer}{'_ln_f' if self.after_ln_f else ''}_pos{self.position}"


def sites_of(
    stream: str,
    num_layers: int,
    num_positions: int,
    pairs: Sequence[tuple[int, int]] | None,
    *,
    default_positions: int | None = None,
) -> list[Site]:
    """The sites that ``(layer, position)`` pairs name, or all from layer 1 on for ``None``.

    All means the first ``default_positions`` positions, or all of them. Layer L of the residual
    stream gives two sites: before and after the final layer norm. ``InputError`` for a stream,
    layer or position that does not exist.
    """
    if stream not in STREAMS:
        raise InputError(f"--mode {stream} is not one of {', '.join(STREAMS)}")
    layers = STREAMS[stream].layers(num_layers)
    if pairs is None:
        chosen = [layer for layer in layers if layer > 0] or list(layers)
        pairs = [
            (layer, position)
            for layer in chosen
            for position in range(default_positions or num_positions)
        ]
    sites = []
    for layer, position in pairs:
        if layer not in layers or not 0 <= position < num_positions:
            raise InputError(
                f"--layer_pos_pairs ({layer},{position}) does not exist: --mode {stream} of this "
                f"model has layers {layers[0]} to {layers[-1]} and positions 0 to "
                f"{num_positions - 1}"
            )
        sites.append(Site(layer, position))
        if stream == "residual" and layer == num_layers:
            sites.append(Site(layer, position, after_ln_f=True))
    return list(dict.fromkeys(sites))


def collect_states(
    loaded: LoadedModel,
    inputs: np.ndarray,
    sites: Sequence[Site],
    *,
    stream: str = "residual",
    batch_size: int = 4096,
) -> dict[Site, np.ndarray]:
    """The states of ``inputs`` at each site: ``{site: (n, width) float32}``.

    ``inputs`` is ``(n, tokens)`` of data-set ids. Only what is asked for is kept.
    """
    return collect_streams(loaded, inputs, {stream: sites}, batch_size=batch_size)[stream]


@torch.no_grad()
def collect_streams(
    loaded: LoadedModel,
    inputs: np.ndarray,
    wanted: Mapping[str, Sequence[Site]],
    *,
    batch_size: int = 4096,
) -> dict[str, dict[Site, np.ndarray]]:
    """The sites of several streams in one pass: ``{stream: {site: (n, width) float32}}``.

    Memory is the result and one batch: only what is asked for is kept.
    """
    taps = {}
    for stream, sites in wanted.items():
        for site in sites:
            taps[stream, site.layer, site.after_ln_f] = (
                _after_final_norm(loaded.model, site.layer)
                if site.after_ln_f
                else STREAMS[stream].tap(loaded.model, site.layer)
            )
    last = max(site.position for sites in wanted.values() for site in sites)
    inputs = inputs[:, : last + 1]  # a state sees no later position
    found: dict[str, dict[Site, np.ndarray]] = {stream: {} for stream in wanted}
    width = loaded.model.config.hidden_size
    step = max(1, min(batch_size, _ROOM // (inputs.shape[1] * width)))
    for begin in range(0, len(inputs), step):
        rows = slice(begin, begin + step)
        with capture(taps) as states:
            loaded.model.transformer(loaded.encode(inputs[rows]), use_cache=False)
        for stream, sites in wanted.items():
            finish = STREAMS[stream].finish
            for site in sites:
                state = states[stream, site.layer, site.after_ln_f][:, site.position]
                if finish is not None:
                    state = finish(loaded, state)
                out = found[stream]
                if site not in out:
                    out[site] = np.empty((len(inputs), state.shape[-1]), dtype=np.float32)
                out[site][rows] = state.cpu().numpy()
    return found

"""Hidden states by stream, layer and position.

Layers are counted like this: layer 0 is token plus position embedding, layer l the residual stream
after block l = 1..L. The published ``hidden_states[L]`` is not the residual stream but what comes
after the final layer norm, so a ``Site`` says which of the two it means.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.models import LoadedModel
from coverage_principle.errors import InputError

#: Numbers in one state of a batch; bounds memory whatever the batch size.
_ROOM = 1 << 22


@dataclass(frozen=True)
class Stream:
    """A kind of state that can be read: one entry of ``STREAMS``.

    ``layers(L)`` says for which layers it exists. ``of(loaded, state)`` makes it from the residual
    stream ``(n, width)`` of that layer; without, it is what ``Layered.run`` gives by this name.
    """

    layers: Callable[[int], range]
    of: Callable[[LoadedModel, Tensor], Tensor] | None = None


def _probabilities(loaded: LoadedModel, state: Tensor) -> Tensor:
    return loaded.network.logits(state).softmax(dim=-1)[:, loaded.mapped]


def _logits(loaded: LoadedModel, state: Tensor) -> Tensor:
    return loaded.network.logits(state, loaded.mapped)


def _blocks(last: int) -> range:
    return range(1, last + 1)


def _top(last: int) -> range:
    return range(last, last + 1)


#: ``residual``: after block l, layer 0 being token plus position embedding; ``post_attention``: the
#: residual stream of block l after attention, before the MLP; ``post_mlp``: what block l's MLP adds
#: to it; ``embedding``: the token's alone (layer 0); ``logit`` and ``prob``: of the data set's
#: vocabulary (layer L), ``prob`` a softmax over all outputs.
STREAMS: dict[str, Stream] = {
    "residual": Stream(lambda last: range(last + 1)),
    "post_attention": Stream(_blocks),
    "post_mlp": Stream(_blocks),
    "embedding": Stream(lambda _last: range(1)),
    "logit": Stream(_top, _logits),
    "prob": Stream(_top, _probabilities),
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
        raise InputError(f"`stream` {stream} is not one of {', '.join(STREAMS)}")
    layers = STREAMS[stream].layers(num_layers)
    if pairs is None:
        chosen = [layer for layer in layers if layer > 0] or layers
        pairs = list(itertools.product(chosen, range(default_positions or num_positions)))
    sites = []
    for layer, position in pairs:
        if layer not in layers or not 0 <= position < num_positions:
            there = f"layers {layers[0]} to {layers[-1]} and positions 0 to {num_positions - 1}"
            named = f"`pairs` ({layer},{position}) does not exist: `stream` {stream}"
            raise InputError(f"{named} of this model has {there}")
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

    Memory is the result and one batch: only what is asked for is kept. ``InputError`` for a stream
    that this type of model does not have.
    """
    there = [s for s, entry in STREAMS.items() if entry.of or s in loaded.network.streams]
    for stream in wanted:
        if stream not in there:
            kind = loaded.model.config.model_type
            raise InputError(f"a {kind} has no `stream` {stream}; it has {', '.join(there)}")
    places = {
        (stream, site): ("residual" if STREAMS[stream].of else stream, site.layer)
        for stream, sites in wanted.items()
        for site in sites
    }
    last = max(site.position for _, site in places)
    inputs = inputs[:, : last + 1]  # a state sees no later position
    found: dict[str, dict[Site, np.ndarray]] = {stream: {} for stream in wanted}
    step = max(1, min(batch_size, _ROOM // (inputs.shape[1] * loaded.network.width)))
    for begin in range(0, len(inputs), step):
        rows = slice(begin, begin + step)
        states = loaded.run(inputs[rows], set(places.values()))
        for (stream, site), place in places.items():
            state, make, out = states[place][:, site.position], STREAMS[stream].of, found[stream]
            if site.after_ln_f:
                state = loaded.network.norm(state)
            elif make is not None:
                state = make(loaded, state)
            if site not in out:
                out[site] = np.empty((len(inputs), state.shape[-1]), dtype=np.float32)
            out[site][rows] = state.cpu().numpy()
    return found

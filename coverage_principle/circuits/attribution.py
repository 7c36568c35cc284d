"""Attribution patching: what every patch would do, to first order, from one backward pass.

A patch replaces a state a of the original run by the source's b. If the original run's logit
difference m = logit(t') - logit(t) were linear in that state, the patch would move it by
(b - a) . dm/da. One forward and one backward pass of the original run and one forward pass of the
source run give this for all heads, layers and positions (N. Nanda, "Attribution patching", 2023).

*What has to be kept in mind.* The model is not linear. Where attention is saturated (one key has
all the weight), or a norm or an MLP bends between a and b, the gradient at a says little of what
happens at b: large effects can come out near zero, and small ones far too large. Effects through
several such parts, as those of early layers are, are estimated worst; J. Kramár et al., "AtP*",
2024, show which cases fail and mend some of them. So an estimate is a way to find what is worth
patching, and no finding. The rank correlation with real patching says how far to trust it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.bootstrap import Bootstrap
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.patching import Run, Trace
from coverage_principle.statistics import rank_correlation
from simpletransformers.seq2seq.layered import Layered

#: The streams whose patches are estimated, where a model has them.
ESTIMATED = ("heads", "residual", "post_attention", "post_mlp")
#: Numbers of one stream in all layers of a batch; a backward pass holds some thirty times as many.
_ROOM = 1 << 21


@dataclass(frozen=True)
class Attribution:
    """Estimated shifts of logit(t') - logit(t) of n originals, for one emitted value.

    ``shifts`` maps a stream to (layers, positions, n) float32, ``heads`` to
    (layers * heads, positions, n), the heads of a layer side by side; ``layers`` and ``positions``
    name the axes. ``before`` and ``source`` are as in a ``Trace``.
    """

    layers: tuple[int, ...]
    positions: tuple[int, ...]
    shifts: dict[str, np.ndarray]
    before: dict[str, np.ndarray]
    source: dict[str, np.ndarray]

    def __repr__(self) -> str:
        places = f"{len(self.layers)} layers and {len(self.positions)} positions"
        return f"<Attribution of {len(self.before['rank']):,} samples at {places}>"

    def trace(self, stream: str) -> Trace:
        """A trace of these runs in which nothing was patched, with the rows of ``stream``."""
        copies = len(self.shifts[stream]) // len(self.layers)
        layers = tuple(np.repeat(self.layers, copies).tolist())
        heads = tuple(np.tile(range(copies), len(self.layers)).tolist())
        runs = self.positions, self.before, self.source, {}
        return Trace(layers, *runs, heads if stream == "heads" else None)


def attribute(
    loaded: LoadedModel,
    originals: np.ndarray,
    sources: np.ndarray,
    wanted: np.ndarray,
    *,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    probabilities: bool = False,
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> Attribution:
    """Estimate the patches of every stream that the model has of ``ESTIMATED``.

    ``originals`` and ``sources`` are ``(n, tokens)``, ``wanted`` ``(n, 2)`` the values (w, w') that
    both runs should emit after the last position; all data-set ids. ``layers`` and ``positions``
    are all by default. ``before`` and ``source`` hold probabilities if they are asked for.
    ``progress`` is called with the number of items of each finished batch.
    """
    network, (count, tokens) = loaded.network, originals.shape
    readouts = ("rank", "logit", *(("prob",) if probabilities else ()))
    layers = tuple(range(1, network.layers + 1)) if layers is None else tuple(layers)
    positions = tuple(range(tokens)) if positions is None else tuple(positions)
    streams = [stream for stream in ESTIMATED if stream in network.streams]
    places = [(stream, layer) for stream in streams for layer in layers]
    found: dict[tuple[str, int], list[np.ndarray]] = {place: [] for place in places}
    read: dict[str, list[dict]] = {"before": [], "source": []}
    step = max(1, min(batch_size, _ROOM // (network.width * tokens * network.layers)))
    for begin in range(0, count, step):
        rows = slice(begin, begin + step)
        values = torch.as_tensor(wanted[rows], dtype=torch.int64, device=loaded.device)
        original = _with_gradients(network, loaded.encode(originals[rows]), layers)
        final = original["final", 0]
        scores = network.logits(final, loaded.token_ids).gather(1, values)
        gradients = _gradients((scores[:, 1] - scores[:, 0]).sum(), original, places)
        source = loaded.run(sources[rows], [*places, ("residual", network.layers)])
        for stream in streams:
            for layer in layers:
                difference = source[stream, layer] - original[stream, layer].detach()
                shift = (gradients[stream, layer] * difference).sum(dim=-1)[:, list(positions)]
                shift = shift.reshape(*shift.shape[:2], -1)  # (n, positions, heads), else 1
                found[stream, layer].append(shift.permute(2, 1, 0).cpu().numpy())
        ends = {"before": final.detach(), "source": source["residual", network.layers][:, -1]}
        for run, state in ends.items():
            read[run].append(loaded.read(state, values, readouts))
        progress(len(values))
    shifts = {
        stream: np.concatenate([np.concatenate(found[stream, one], axis=-1) for one in layers])
        for stream in streams
    }
    sides = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in read.values()
    )
    return Attribution(layers, positions, shifts, *sides)


def _with_gradients(network: Layered, ids: Tensor, layers: Sequence[int]) -> Run:
    """The streams of some layers, and (``final``, 0) at the last position, as autograd has them."""
    states: dict[tuple[str, int], Tensor] = {}
    with torch.enable_grad():
        state = start = network.embed(ids).detach().requires_grad_()
        for index in range(network.layers):
            streams = network.block(index, network.enter(index, state, start))
            state = streams["residual"]
            if index + 1 in layers:
                states |= {(stream, index + 1): held for stream, held in streams.items()}
        states["final", 0] = state[:, -1]
    return states


def _gradients(metric: Tensor, states: Run, places: Sequence[tuple[str, int]]) -> Run:
    """The derivative of ``metric`` by the states at ``places``; 0 by what it does not depend on."""
    asked = [place for place in places if states[place].requires_grad]
    found = torch.autograd.grad(metric, [states[place] for place in asked], materialize_grads=True)
    zeros = {place: torch.zeros_like(states[place]) for place in places}
    return zeros | dict(zip(asked, found, strict=True))


def agreement(trace: Trace, shifts: np.ndarray, members: np.ndarray, *, seed: int) -> dict:
    """Spearman's rank correlation of estimated shifts with those of real patching.

    ``shifts`` (rows, positions, n) are the estimates of what the patches of ``trace`` do to
    logit(t') - logit(t), ``members`` the samples that are compared. Returns ``cells``, how many
    there are whose patch or estimate changes any sample; ``over_cells``, the correlation of the
    cells' mean shifts, with its 95 % percentile bootstrap ``interval`` over samples;
    ``over_samples``, the median over cells of the correlation over samples within a cell, and its
    ``quartiles``. None where there are too few to rank.
    """
    before, after = (run["logit"].astype(np.float64) for run in (trace.before, trace.after))
    real = after[..., 1] - after[..., 0] - (before[:, 1] - before[:, 0])
    real, guess = (np.concatenate(part[:, :, members]) for part in (real, shifts))
    there = (real != 0).any(axis=1) | (guess != 0).any(axis=1)
    real, guess = real[there], guess[there]
    found = {"cells": int(there.sum()), "over_cells": None, "interval": None}
    found |= {"over_samples": None, "quartiles": None}
    if len(real) > 1 and len(members):
        over_cells = rank_correlation(real.mean(axis=1), guess.mean(axis=1))
        bootstrap = Bootstrap(len(members), np.random.default_rng(seed))
        drawn = rank_correlation(*(bootstrap.resampled(part) for part in (real, guess)))
        ends = np.percentile(drawn, [2.5, 97.5]).tolist()
        if np.isfinite([over_cells, *ends]).all():
            found |= {"over_cells": float(over_cells), "interval": ends}
    if len(members) > 1 and len(real):
        within = rank_correlation(real, guess)
        if np.isfinite(within).any():
            low, middle, high = np.nanpercentile(within, [25, 50, 75]).tolist()
            found |= {"over_samples": middle, "quartiles": [low, high]}
    return found

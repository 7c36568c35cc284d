"""Logit lens: what each hidden state would answer if the model stopped there.

The final layer norm is applied exactly once, to the residual stream of every layer, the last one
included (the published script normed the last layer twice), and then the output matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from coverage_principle.circuits.models import READOUTS, LoadedModel
from coverage_principle.circuits.tracing import bootstrap, listed


def read_lens(
    loaded: LoadedModel,
    tokens: np.ndarray,
    wanted: np.ndarray,
    *,
    layers: Sequence[int],
    positions: Sequence[int],
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> dict[str, np.ndarray]:
    """Rank and probability of some values at every layer and position.

    ``tokens`` is (n, T), ``wanted`` (n, values), both data-set ids. Returns ``rank`` int32, the
    number of data-set tokens with a strictly greater logit, so 0 is best, and ``prob`` float32, a
    softmax over all outputs; each ``(layers, positions, n, values)``.
    """
    shape = (len(layers), len(positions), *wanted.shape)
    found = {name: np.zeros(shape, READOUTS[name].dtype) for name in ("rank", "prob")}
    # A state sees no later position, so what follows the last one is not run.
    tokens = tokens[:, : max(positions) + 1]
    for begin in range(0, len(tokens), batch_size):
        rows = slice(begin, begin + batch_size)
        states = loaded.run(tokens[rows], [("residual", layer) for layer in layers])
        values = torch.as_tensor(wanted[rows], dtype=torch.int64, device=loaded.device)
        for i, layer in enumerate(layers):
            for j, position in enumerate(positions):
                read = loaded.read(states["residual", layer][:, position], values, tuple(found))
                for name, numbers in read.items():
                    found[name][i, j, rows] = numbers
        progress(len(values))
    return found


def summarise_lens(
    read: Mapping[str, np.ndarray],
    members: np.ndarray,
    names: Sequence[str],
    *,
    seed: int,
) -> np.ndarray:
    """Statistics of each layer, position and value over the items ``members``.

    An object array (layers, positions, values) of dictionaries: ``n``; ``mean_rank`` (as
    published), ``median_rank``; ``first`` (share ranked first); ``reciprocal_rank``, the mean of
    1 / (rank + 1), with ``interval``; ``prob`` and ``prob_interval``. Intervals are 95 % percentile
    bootstrap over items. Without items everything but ``n`` is None.
    """
    ranks, probs = read["rank"][:, :, members], read["prob"][:, :, members]
    rng = np.random.default_rng(seed)
    result = np.empty((*ranks.shape[:2], len(names)), dtype=object)
    count = len(members)
    reciprocal = np.moveaxis(1 / (ranks + 1.0), 2, 0)
    ends = bootstrap(
        np.concatenate(
            [part.reshape(count, result.size) for part in (reciprocal, np.moveaxis(probs, 2, 0))],
            axis=1,
        ),
        rng,
    )
    ends = ends.reshape(2, *result.shape, 2)
    for place in np.ndindex(*result.shape):
        rank = ranks[place[0], place[1], :, place[2]]
        prob = probs[place[0], place[1], :, place[2]]
        result[place] = {
            "n": count,
            "mean_rank": float(rank.mean()) if count else None,
            "median_rank": float(np.median(rank)) if count else None,
            "first": float((rank == 0).mean()) if count else None,
            "reciprocal_rank": float((1 / (rank + 1)).mean()) if count else None,
            "interval": listed(ends[0][place]),
            "prob": float(prob.mean()) if count else None,
            "prob_interval": listed(ends[1][place]),
        }
    return result

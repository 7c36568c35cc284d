"""Subspaces of states in which a value may be held: bases that are learned, or drawn at random.

A basis is (width, rank) float32 with orthonormal columns; its projector is P = B B^T. Three ways to
learn one for a value, of which the first two look at states alone:

``means``     the directions in which the means of states with different values differ. What is left
              of a state outside of them has the same mean for every value, and no linear classifier
              can then tell the values apart better than a constant does (Belrose et al., "LEACE:
              perfect linear concept erasure in closed form", 2023, theorem 3.1). So these are all
              directions that a probe could use, and the rest is nothing that it could.
``probe``     the directions that a linear probe reads: the row space of its weights, less what all
              classes have in common. A probe reads where values are told apart best, and if other
              things vary along with the value, that is not where they differ: with a weak penalty
              its weights tend to the means' differences times the inverse of the states'
              covariance. The rest may then still hold the value.
``rotation``  directions that are learned by moving them: distributed alignment search (Geiger et
              al., "Finding alignments between interpretable causal variables and distributed neural
              representations", 2023).

A basis of fewer directions than there are has the largest ones, by singular values.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.probe import fit_probes

#: Singular values below this share of the longest state are rounding.
_ROUNDING = 1e-5
#: Pairs of inputs in a step of learning a rotation, and Adam's first rate for entries of about 1.
_PAIRS, _RATE = 128, 0.1
#: Slopes below this hardly count: Adam would go on as fast where nothing is left to learn.
_FLAT = 1e-4
#: Inputs that are run at a time.
_ROWS = 1024


def mean_bases(
    states: Tensor, labels: Tensor, classes: int, folds: Tensor, rank: int
) -> list[Tensor]:
    """The directions between class means: for each fold those of the items in all others.

    ``states`` is (n, width) float32, ``labels`` (n,) int64 below ``classes``, ``folds`` (n,) int64,
    all on the CPU. A class counts by its items.
    """
    bases = []
    for fold in range(int(folds.max()) + 1):
        chosen = folds != fold
        own, kinds = states[chosen].double(), functional.one_hot(labels[chosen], classes).double()
        counts = kinds.sum(dim=0)
        means = kinds.T @ own / counts.clamp_min(1)[:, None]
        apart = (means - own.mean(dim=0)) * (counts / len(own)).sqrt()[:, None]
        bases.append(_rows_space(apart, rank, own.norm(dim=1).max()))
    return bases


def probe_bases(
    states: Tensor, labels: Tensor, classes: int, folds: Tensor, rank: int
) -> list[Tensor]:
    """The directions that linear probes of the labels read (``probe.fit_probes``).

    ``folds`` (n,) int64, of three or more; everything else is as for ``mean_bases``.
    """
    tally = (
        functional.one_hot(folds)[:, None, :, None]
        * functional.one_hot(labels, classes)[:, None, None]
    )
    ((probes,),) = fit_probes(states[None], tally)
    weights = probes.weights.double()
    apart = weights - weights.mean(dim=1, keepdim=True)
    return [_rows_space(own, rank, own.norm()) for own in apart]


def random_bases(states: Tensor, rank: int, draws: int, *, alike: bool, seed) -> list[Tensor]:
    """Random subspaces: of all directions alike, or else as ``states`` (n, width) are spread."""
    rng = np.random.default_rng(seed)
    sizes = (draws, states.shape[1] if alike else len(states), rank)
    drawn = torch.as_tensor(rng.standard_normal(sizes))
    if not alike:
        drawn = (states - states.mean(dim=0)).double().T @ drawn
    return [_rows_space(one.T, rank, one.norm()) for one in drawn]


def _rows_space(rows: Tensor, rank: int, scale: Tensor) -> Tensor:
    """The largest directions of ``rows`` (m, width) float64, at most ``rank``: (width, rank)."""
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[:rank][sizes[:rank] > _ROUNDING * scale].T.float().contiguous()


def learn_rotation(
    loaded: LoadedModel,
    originals: np.ndarray,
    sources: np.ndarray,
    wanted: np.ndarray,
    *,
    layer: int,
    position: int,
    rank: int,
    steps: int,
    seed: int,
) -> Tensor:
    """The directions whose move from sources to originals makes ``wanted`` likeliest.

    ``originals`` and ``sources`` are (n, tokens), ``wanted`` (n,) the sources' answers, all
    data-set ids. Minimises the cross-entropy of ``wanted``, over the data set's tokens, where the
    original's state h at the layer and position is h + P (h' - h), h' being the source's. P is that
    of Q in the QR decomposition of a free matrix, changed by Adam at a rate that falls to 0. The
    better of two starts is taken: the directions in which both runs differ most, and random ones.
    The first may have no slope towards what is read, and the second move too little for any.
    """
    network, rng = loaded.network, np.random.default_rng(seed)
    layer_0, mine = _whole_states(loaded, originals, [("residual", 0), ("residual", layer)])
    (theirs,) = _whole_states(loaded, sources, [("residual", layer)])
    targets = torch.as_tensor(wanted, dtype=torch.int64, device=loaded.device)

    def loss(free: Tensor, own: Tensor | slice) -> Tensor:
        state = mine[own].clone()
        basis = torch.linalg.qr(free).Q
        state[:, position] = moved(state[:, position], theirs[own, position], basis)
        final = network.finish(state, layer, layer_0[own])
        return functional.cross_entropy(loaded.logits(final), targets[own])

    apart = theirs[:, position] - mine[:, position]
    largest = torch.linalg.eigh(apart.T @ apart).eigenvectors[:, -rank:] * network.width**0.5
    drawn = torch.as_tensor(rng.standard_normal(largest.shape), dtype=torch.float32)
    found = []
    for start in (largest, drawn.to(loaded.device)):
        free = start.requires_grad_(True)
        optimizer = torch.optim.Adam([free], lr=_RATE, eps=_FLAT)
        slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(free, torch.as_tensor(rng.integers(len(mine), size=_PAIRS))).backward()
            optimizer.step()
            slower.step()
        with torch.no_grad():
            found.append((float(loss(free, slice(_ROWS))), torch.linalg.qr(free).Q))
    return min(found, key=lambda one: one[0])[1]


def _whole_states(loaded: LoadedModel, inputs: np.ndarray, places) -> list[Tensor]:
    """The states at each of ``places`` of whole sequences: (n, tokens, width)."""
    blocks = range(0, len(inputs), _ROWS)
    runs = [loaded.run(inputs[begin : begin + _ROWS], places) for begin in blocks]
    return [torch.cat([run[place] for run in runs]) for place in places]


def moved(original: Tensor, source: Tensor, basis: Tensor) -> Tensor:
    """``original`` (n, width) with its part in the basis' subspace replaced by the source's."""
    return original + (source - original) @ basis @ basis.T

"""Linear classifiers of states: multinomial logistic regressions with an L2 penalty, many at once.

A problem minimises, over weights W (classes, d) and biases b (classes,), the mean over its items of

    -log softmax(W x + b)[label],    plus    penalty / 2 * sum(W ** 2).

It is convex; with a penalty above 0 the weights are unique, and the biases but for a shift of all.
Solved by limited-memory BFGS (Liu and Nocedal, "On the limited memory BFGS method for large scale
optimization", 1989), each problem with a step of its own and all in the same matrix products. The
coordinates are the states' principal components, in which the curvature at W = 0 is known and
diagonal, so that neither scale nor correlation of the states costs steps. A step is accepted by the
slope at its end: float32 cannot tell values apart that are as close as the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Pairs of a step and the change of the gradient along it that are kept.
_MEMORY = 10
_MOST_STEPS, _MOST_SHORTENED = 1000, 20
#: A step is too long where the slope at its end is above this share of that at its beginning.
_STEEPEST = 0.8


def fit_linear(
    states: Tensor,
    labels: Tensor,
    classes: int,
    penalty: Tensor | Sequence[float] | float,
    *,
    tolerance: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """Weights (problems, classes, d) and biases (problems, classes), float32.

    ``states`` is (problems, n, d) float32; ``labels`` (problems, n) int64 below ``classes``, with
    -1 for an item that is left out; ``penalty`` (problems,), or one for all. A problem ends when
    its gradient is ``tolerance`` times as long as at W = 0, b = 0. ``ValueError`` for a problem
    without items, and for a penalty that is not above 0.
    """
    counts = functional.one_hot(labels + 1, classes + 1)[:, :, None, 1:]
    penalty = torch.as_tensor(penalty, dtype=torch.float32, device=states.device)
    penalty = penalty.expand(len(states))[:, None]
    weights, biases = fit_counts(states, counts, penalty, tolerance=tolerance)
    return weights[:, 0], biases[:, 0]


@torch.no_grad()
def fit_counts(
    states: Tensor, counts: Tensor, penalty: Tensor, *, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Several problems on each set of states: weights (s, v, classes, d), biases (s, v, classes).

    ``states`` is (s, n, d); ``counts`` (s, n, v, classes), how many items of problem v have that
    state and label, so that items with equal states are one row; ``penalty`` (s, v). Everything
    else is as for ``fit_linear``.
    """
    totals = counts.sum(dim=(1, 3))
    if not (totals > 0).all() or not (penalty > 0).all():
        raise ValueError("each problem needs items, and a penalty above 0")
    weight = counts.sum(dim=(2, 3)).float()[..., None]
    weight /= weight.sum(dim=1, keepdim=True)
    centre = (weight * states).sum(dim=1, keepdim=True)
    centred = states - centre
    variances, axes = torch.linalg.eigh(centred.mT @ (weight * centred))
    rank = min(states.shape[1:])  # without spread, an axis has no weight
    variances, axes = variances[:, -rank:].clamp_min(0), axes[..., -rank:]
    shares = counts.float() / totals[:, None, :, None]
    problem = _Problem(
        torch.cat([centred @ axes, torch.ones_like(weight)], dim=2),
        shares,
        shares.sum(dim=-1, keepdim=True),
        _column(penalty, rank),
        torch.cat([variances, torch.ones_like(variances[:, :1])], dim=1)[:, :, None, None],
    )
    found = _minimise(problem, tolerance)  # (s, rank + 1, v, classes)
    weights = torch.einsum("sdr,srvc->svcd", axes, found[:, :-1])
    return weights, found[:, -1] - torch.einsum("svcd,sd->svc", weights, centre[:, 0])


def log_chances(states: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """log p of each class, (..., n, classes), for states (..., n, d); the rest as fitted."""
    return (states @ weights.mT + biases[..., None, :]).log_softmax(dim=-1)


def _column(penalty: Tensor, rank: int) -> Tensor:
    """The penalty of each coordinate (s, rank + 1, v, 1); the last is the bias, which has none."""
    return functional.pad(penalty[:, None, :, None].expand(-1, rank, -1, -1), (0, 0, 0, 0, 0, 1))


@dataclass(frozen=True)
class _Problem:
    """``states`` (s, n, r) with a last column of ones, ``shares`` (s, n, v, classes) of the items.

    ``totals`` (s, n, v, 1) are the sums of the shares. A point is (s, r, v, classes).
    """

    states: Tensor
    shares: Tensor
    totals: Tensor
    penalty: Tensor
    variances: Tensor

    def gradient(self, point: Tensor) -> Tensor:
        scores = (self.states @ point.flatten(2)).view(self.shares.shape)
        wrong = scores.softmax(dim=-1).mul_(self.totals).sub_(self.shares)
        return (self.states.mT @ wrong.flatten(2)).view(point.shape) + self.penalty * point

    def scaled(self, slope: Tensor) -> Tensor:
        """The slope over the curvature at 0, where every class has the same probability."""
        return slope / (self.variances / self.shares.shape[-1] + self.penalty)

    def only(self, sets: Tensor, problems: Tensor) -> _Problem:
        of_problems = (self.shares, self.totals, self.penalty)
        parts = (part[sets][:, :, problems] for part in of_problems)
        return _Problem(self.states[sets], *parts, self.variances[sets])


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Of each problem: (s, 1, v, 1)."""
    return (first * second).sum(dim=(1, 3), keepdim=True)


def _minimise(problem: _Problem, tolerance: float) -> Tensor:
    sets, n, problems, classes = problem.shares.shape
    shape = sets, problem.states.shape[2], problems, classes
    point, found = problem.states.new_zeros((2, *shape))
    slope = problem.gradient(point)
    limit = tolerance**2 * _dot(slope, slope)
    steps: list[tuple[Tensor, Tensor]] = []
    own = [torch.arange(size, device=point.device) for size in (sets, problems)]
    for _ in range(_MOST_STEPS):
        live = _dot(slope, slope) > limit
        if not live.any():
            break
        kept = live.any(dim=2).flatten(), live.any(dim=0).flatten()
        if kept[0].sum() * kept[1].sum() <= 0.75 * live.numel():  # leave behind what is done
            found[own[0][:, None], :, own[1]] = point.transpose(1, 2)
            problem = problem.only(*(one.nonzero()[:, 0] for one in kept))
            point, slope, limit, live = (
                part[kept[0]][:, :, kept[1]] for part in (point, slope, limit, live)
            )
            steps = [tuple(part[kept[0]][:, :, kept[1]] for part in step) for step in steps]
            own = [places[one] for places, one in zip(own, kept, strict=True)]
        move = -_over_curvature(slope, steps, problem) * live
        new, new_slope = _along(problem, point, slope, move)
        steps = [*steps[1 - _MEMORY :], (new - point, new_slope - slope)]
        point, slope = new, new_slope
    found[own[0][:, None], :, own[1]] = point.transpose(1, 2)
    return found


def _over_curvature(slope: Tensor, steps: Sequence[tuple[Tensor, Tensor]], problem) -> Tensor:
    """The two loops of L-BFGS: the slope over the curvature that the last steps have shown."""
    pulls = []
    for moved, change in reversed(steps):
        curvature = _dot(moved, change)
        inverse = torch.where(curvature > 0, 1 / curvature, 0)  # a problem that is done stays
        pull = inverse * _dot(moved, slope)
        slope = slope - pull * change
        pulls.append((inverse, pull))
    scaled = problem.scaled(slope)
    if steps:
        moved, change = steps[-1]
        ratio = _dot(moved, change) / _dot(change, problem.scaled(change))
        scaled = scaled * torch.where(ratio > 0, ratio, 1)
    for (moved, change), (inverse, pull) in zip(steps, reversed(pulls), strict=True):
        scaled = scaled + moved * (pull - inverse * _dot(change, scaled))
    return scaled


def _along(problem, point: Tensor, slope: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """The point at the end of a step, shortened where it is too long, and the gradient there."""
    before = -_dot(slope, move)
    length = torch.ones_like(before)
    for _ in range(_MOST_SHORTENED):
        new = point + length * move
        new_slope = problem.gradient(new)
        after = _dot(new_slope, move)
        long = after > _STEEPEST * before
        if not long.any():
            break
        # To where the slope would vanish if it were linear.
        length = torch.where(long, length * before / (before + after), length)
    return new, new_slope

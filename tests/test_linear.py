"""Linear classifiers against scipy's minimiser of the same objective, and folds by fragment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional

from coverage_principle.circuits import fit_counts, fit_linear, fragment_folds, log_chances

PROBLEMS, N, WIDTH, CLASSES = 3, 80, 6, 4
PENALTIES = torch.tensor([0.03, 0.3, 2.0])


def objective(states, labels, penalty, weights, biases):
    """The definition, of the items that are not left out."""
    own = labels >= 0
    scores = states[own] @ weights.T + biases
    return functional.cross_entropy(scores, labels[own]) + penalty / 2 * (weights**2).sum()


@pytest.fixture(scope="module")
def problems():
    """Correlated states of very different spreads far from 0, with some items left out."""
    own = torch.Generator().manual_seed(0)
    states = torch.randn(PROBLEMS, N, WIDTH, generator=own) * torch.logspace(-1, 1, WIDTH)
    states = states @ torch.randn(PROBLEMS, WIDTH, WIDTH, generator=own) + 5
    noise = torch.randn(PROBLEMS, N, CLASSES, generator=own)
    labels = (states @ torch.randn(WIDTH, CLASSES, generator=own) / 20 + noise).argmax(dim=-1)
    labels[0, :30] = -1
    return states, labels


def test_it_is_the_minimum_that_scipy_finds(problems):
    states, labels = problems
    weights, biases = fit_linear(states, labels, CLASSES, PENALTIES, tolerance=1e-5)
    assert weights.dtype == biases.dtype == torch.float32
    for each in range(PROBLEMS):
        own = states[each].double(), labels[each], PENALTIES[each].double()

        def value(flat, own=own):
            flat = torch.tensor(flat, requires_grad=True)
            parts = flat[CLASSES:].view(CLASSES, WIDTH), flat[:CLASSES]
            loss = objective(*own, *parts)
            loss.backward()
            return loss.item(), flat.grad.numpy()

        start = np.zeros(CLASSES * (WIDTH + 1))
        options = {"maxiter": 10_000, "gtol": 1e-7, "ftol": 1e-14}
        best = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        ours = torch.cat([biases[each], weights[each].flatten()]).double().numpy()
        found, slope = value(ours)
        assert found == pytest.approx(best.fun, abs=1e-6)
        assert np.abs(slope).max() < 1e-3 * np.abs(value(start)[1]).max()
        np.testing.assert_allclose(ours[CLASSES:], best.x[CLASSES:], atol=0.01)


def test_equal_states_may_be_one_row_and_problems_may_share_states(problems):
    states, labels = problems
    rows, repeats = states[:1, :10], 8
    twice = rows.repeat(1, repeats, 1)
    left_out = [labels[each, : 10 * repeats].clamp_min(0) for each in range(PROBLEMS)]
    counts = torch.stack(
        [functional.one_hot(own, CLASSES).view(repeats, 10, CLASSES).sum(0) for own in left_out], 1
    )
    shared = fit_counts(rows, counts[None], PENALTIES[None], tolerance=1e-5)
    for each, own in enumerate(left_out):
        alone = fit_linear(twice, own[None], CLASSES, PENALTIES[each], tolerance=1e-5)
        for one, other in zip(shared, alone, strict=True):
            np.testing.assert_allclose(one[0, each], other[0], atol=2e-3)


def test_chances_are_a_softmax(problems):
    states, labels = problems
    weights, biases = fit_linear(states, labels, CLASSES, PENALTIES)
    found = log_chances(states, weights, biases).exp()
    scores = np.exp(states[1, 3].numpy() @ weights[1].numpy().T + biases[1].numpy())
    np.testing.assert_allclose(found[1, 3], scores / scores.sum(), atol=1e-5)


def test_states_that_are_all_alike_leave_the_classes_shares():
    for labels in ([0, 1, 2, 3], [0, 1, 1, 2]):
        labels = torch.tensor([labels])
        weights, biases = fit_linear(torch.ones(1, 4, 3), labels, CLASSES, 0.1)
        assert weights.abs().max() < 1e-6
        shares = torch.bincount(labels[0], minlength=CLASSES) / 4
        torch.testing.assert_close(biases[0].softmax(dim=0), shares, atol=1e-3, rtol=0)


def test_what_has_no_minimum_is_refused(problems):
    states, labels = problems
    with pytest.raises(ValueError, match="penalty above 0"):
        fit_linear(states, labels, CLASSES, 0.0)
    with pytest.raises(ValueError, match="needs items"):
        fit_linear(states, torch.full_like(labels, -1), CLASSES, 1.0)


def test_equal_fragments_are_in_one_fold_and_folds_are_even():
    fragments = np.random.default_rng(1).integers(0, 6, (300, 2))
    folds = fragment_folds(fragments, 5, seed=3)
    distinct, first = np.unique(fragments, axis=0, return_index=True)
    by_fragment = dict(zip(map(tuple, distinct), folds[first], strict=True))
    assert folds.tolist() == [by_fragment[tuple(fragment)] for fragment in fragments]
    sizes = np.bincount(folds[first], minlength=5)
    assert sizes.max() - sizes.min() <= 1
    assert folds.dtype == np.int64
    assert (fragment_folds(fragments[::-1], 5, seed=3) == folds[::-1]).all()
    assert (fragment_folds(fragments, 5, seed=4) != folds).any()

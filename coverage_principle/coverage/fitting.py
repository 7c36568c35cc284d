"""The learner's four numbers, fitted to the answers that a model gave.

Half of the given items choose them: those of a grid under which the model's own answers, right or
wrong, are likeliest (a softmax of the scores, as sharp as is likeliest). Ridge and shrinkage are
tried in all combinations, as each can stand in for the other; from the best a hill climb goes on
over all four. What that is worth shows on the other half, which has no part in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from coverage_principle.coverage.learner import DEFAULT, Learner, likeliest_sharpness
from coverage_principle.coverage.settings import LearnerSettings
from coverage_principle.data import Dataset
from coverage_principle.errors import InputError
from coverage_principle.statistics import auc

#: The values that are tried of each number, those that matter most first.
GRID: dict[str, tuple[float, ...]] = {
    "ridge": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    "shrinkage": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    "overlap": (0.25, 0.5, 1.0, 2.0, 4.0),
    "background": (0.125, 0.25, 0.5, 1.0, 2.0),
}
#: Fewer items of a model tell nothing.
_FEWEST = 20


@dataclass(frozen=True)
class Score:
    """How a learner tells a model's answers on some items.

    ``nats`` is the mean log-probability of the model's answers, ``same`` the share of items with
    the learner's answer, ``auc`` how well its score of the true answer tells which are right (None
    if all or none are).
    """

    nats: float
    same: float
    auc: float | None


@dataclass(frozen=True)
class Fit:
    """What was chosen, and how it and the defaults score the items that chose and the others."""

    settings: LearnerSettings
    chosen_by: dict[str, Score]
    others: dict[str, Score]
    items: tuple[int, int]
    tried: int

    def to_dict(self) -> dict:
        """As JSON: docs/predicted_data.md has the fields."""
        return asdict(self)


def fit_learner(
    train: tuple[np.ndarray, np.ndarray],
    inputs: np.ndarray,
    true: np.ndarray,
    outputs: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
    **options: object,
) -> Fit:
    """Fit the learner of ``train`` (inputs and answers) to a model's ``outputs`` for ``inputs``.

    ``true`` and ``outputs`` are ``(n,)`` values of answers; ``options`` are those of ``Learner``.
    ``progress`` is called with the share that is done, as if ten settings were still to come where
    the hill climb's end is not known.
    ``InputError`` if there are too few items.
    """
    if len(inputs) < 2 * _FEWEST:
        raise InputError(
            f"`fit` needs at least {2 * _FEWEST} type_0 items that the model answered, half of "
            f"them to choose the numbers and half to test them; there are {len(inputs)}"
        )
    order = np.random.default_rng(seed).permutation(len(inputs))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    known: dict[LearnerSettings, tuple[Score, Score]] = {}
    both = itertools.product(GRID["ridge"][1:-1], GRID["shrinkage"][:-1])
    scanned = [replace(DEFAULT, ridge=ridge, shrinkage=shrinkage) for ridge, shrinkage in both]

    def scores(settings: LearnerSettings) -> tuple[Score, Score]:
        if settings not in known:
            progress(len(known) / (max(len(known), len(scanned)) + 10))
            found = Learner(*train, settings=settings, **options).scores(inputs)
            sharpness = likeliest_sharpness(found[halves[0]], outputs[halves[0]])
            known[settings] = tuple(
                _score(sharpness * found[half], true[half], outputs[half]) for half in halves
            )
        return known[settings]

    def nats(settings: LearnerSettings) -> float:
        return scores(settings)[0].nats

    best, moved = max([DEFAULT, *scanned], key=nats), True
    while moved:
        moved = False
        for name, values in GRID.items():
            place = values.index(getattr(best, name))
            for step in (-1, 1):
                while 0 <= place + step < len(values):
                    other = replace(best, **{name: values[place + step]})
                    if nats(other) <= nats(best):
                        break
                    best, place, moved = other, place + step, True
    own, default = scores(best), scores(DEFAULT)
    return Fit(
        best,
        *({"fitted": own[half], "default": default[half]} for half in (0, 1)),
        items=(len(halves[0]), len(halves[1])),
        tried=len(known),
    )


def fit_dataset(
    dataset: Dataset,
    positions: Sequence[tuple[int, ...]],
    outputs: np.ndarray,
    *,
    noise: float = 0.0,
    progress: Callable[[float], None] = lambda _: None,
) -> Fit:
    """Fit the learner of a data set to a model's ``outputs`` for its test compositions.

    ``outputs`` ``(n,)`` are values of the answer, negative where there is none. Those ``type_0``
    items take part that have one.
    """
    train, test = dataset.train, dataset.test
    rows = (test.types == "type_0") & (outputs >= 0)
    (answers,) = dataset.sizes([dataset.graph.answer])
    return fit_learner(
        (train.inputs, train.answers),
        *(test.inputs[rows], test.answers[rows], outputs[rows]),
        num_answers=answers,
        sizes=dataset.slot_sizes,
        positions=positions,
        noise=noise,
        progress=progress,
    )


def _score(scores: np.ndarray, true: np.ndarray, outputs: np.ndarray) -> Score:
    rows = np.arange(len(true))
    logits = scores - scores.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return Score(
        nats=float(logs[rows, outputs].mean()),
        same=float((scores.argmax(axis=1) == outputs).mean()),
        auc=auc(scores[rows, true], outputs == true),
    )

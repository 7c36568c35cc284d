"""What the pattern matcher or the learner answers to all test items, as if it were a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coverage_principle.coverage import (
    CoverageSettings,
    LearnerSettings,
    dataset_learned,
    dataset_matcher,
    estimated_noise,
    parse_slot_sets,
    require_learner,
)
from coverage_principle.coverage.settings import AUTO
from coverage_principle.data import Dataset
from coverage_principle.predictions.reading import answer_ids, prediction_records
from coverage_principle.reprs import one_line


@dataclass(frozen=True)
class IdealPredictions:
    """Records like those of ``main.py --do_predict``, and which are ``right`` ``(n,)`` bool.

    Compositions come before single facts. ``noise`` is the rate of wrong labels that was assumed.
    """

    records: list[dict]
    right: np.ndarray
    noise: float

    __repr__ = one_line

    def right_by_type(self) -> dict[str, tuple[int, int]]:
        """Of each type, in the order of the records: how many are right, and how many there are."""
        types = np.array([record["type"] for record in self.records], dtype=str)
        own = {label: types == label for label in dict.fromkeys(types.tolist())}
        return {n: (int(self.right[rows].sum()), int(rows.sum())) for n, rows in own.items()}


def ideal_predictions(
    dataset: Dataset,
    settings: CoverageSettings,
    *,
    learner: LearnerSettings | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> IdealPredictions:
    """The test items as the pattern matcher answers them, or a learner with these numbers.

    Of ``settings`` ``noise`` and ``fragments`` count. Neither of the two knows single facts:
    training facts are answered as they were given, and others get no answer (null).
    ``InputError`` as for ``parse_slot_sets``, ``graded_coverage`` and ``require_learner``.
    """
    positions = parse_slot_sets(settings.fragments, dataset.graph.inputs)
    noise = settings.noise
    if learner is not None:
        require_learner(dataset, "learner")
        noise = estimated_noise(dataset, positions) if noise == AUTO else noise
        about = {"noise": noise, "settings": learner, "progress": progress}
        found = dataset_learned(dataset, positions, **about)
    else:
        halfway = {"progress": lambda share: progress(share / 2)}
        matcher = dataset_matcher(dataset, positions, noise=noise, **halfway)
        noise = matcher.noise
        found = matcher.match(dataset.test.inputs, lambda share: progress((1 + share) / 2))
    answers = dataset.ids(found.answer[:, None], [dataset.graph.answer])[:, 0].tolist()
    train, test = dataset.train.facts, dataset.test.facts
    known = dict(zip(train.calls, train.results, strict=True))
    answers += [known.get(call) for call in test.calls]
    vocabulary = dataset.codec.vocabulary
    texts = [None if answer is None else vocabulary[answer] for answer in answers]
    right = np.array(answers, dtype=object) == answer_ids(dataset)
    return IdealPredictions(prediction_records(dataset, texts), right.astype(bool), noise)

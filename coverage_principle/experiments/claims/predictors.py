"""What tells which unseen items a model answers: the training items, or another model like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coverage_principle.coverage import graded_coverage, neighbours, slot_sets
from coverage_principle.data import load_dataset, test_records
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.predictions import agreement, prediction_of_answers, read_predictions
from coverage_principle.tasks import TRAIN_INFERRED

PREDICTORS = {
    "k_cutoff": "k-cutoff",
    "neighbours": "number of items one slot away",
    "support": "support",
    "matcher": "matcher",
    "learner": "learner",
    "another_seed": "another seed's answer",
    "another_probability": "another seed's probability",
    "others": "the others' answers",
    "others_probability": "the others' log-probability",
}
#: What answers for itself.
ANSWERERS = {"matcher": "matcher", "learner": "learner", "another_seed": "another seed"}


def the(name: str) -> str:
    """A predictor with its article."""
    words = PREDICTORS[name]
    return words if words.startswith(("support", "another", "the ")) else f"the {words}"


def told(
    sweep: Sweep,
    runs: Sequence[RunSettings],
    compared: Sequence[tuple[str, str]],
    *,
    unseen: bool = False,
) -> dict[str, dict]:
    """What is told of the test items of a world, and what its models, the ``runs``, answer.

    Of ``type_0`` items, and with ``unseen`` also of all that are not training items: there the type
    is a predictor, too. ``runs`` and ``accuracy`` hold shares that are right; the rest is what
    ``prediction_of_answers`` (of the pairs ``compared``) and ``agreement`` return. The matcher's
    and the learner's scores are those of the true answer.
    """
    dataset = load_dataset(sweep.dataset(runs[0]))
    test, node = dataset.test, [dataset.graph.answer]
    every, true, targets = np.arange(len(test)), test.answers, test.targets[:, -1]
    records = test_records(dataset)
    graded = graded_coverage(dataset, slot_sets(len(dataset.graph.inputs)))
    matched, learned = graded.matched, graded.learned
    scores = {
        "k_cutoff": np.array([records[row].get("k_cutoff") or 0 for row in every]),
        "neighbours": neighbours(test.inputs, dataset.train.inputs),
        "support": matched.support[every, true],
        "matcher": matched.probability[every, true],
        "learner": learned.scores[every, true],
    }
    values = {"matcher": matched.answer, "learner": learned.answer}
    answers = {name: dataset.ids(own[:, None], node)[:, 0] for name, own in values.items()}
    files = [sweep.folder(run) / "all_items.json" for run in runs]
    outputs = read_predictions(dataset, files).outputs[:, every]
    given = np.stack([base.probabilities(sweep, run, dataset) for run in runs])
    log_probabilities = np.log(np.maximum(given, np.finfo(given.dtype).tiny))
    inside = test.types == "type_0"
    groups = {"type_0": (inside, scores)}
    if unseen:
        groups["unseen"] = test.types != TRAIN_INFERRED, {**scores, "type": inside}
    found = {}
    for group, (rows, known) in groups.items():
        right = outputs[:, rows] == targets[rows]
        known = {name: score[rows] for name, score in known.items()}
        others = {name: own[rows] for name, own in answers.items()}
        found[group] = {
            "training_items": len(dataset.train.inputs),
            "items": int(rows.sum()),
            "runs": [
                {"run": run.id, "accuracy": float(own.mean())}
                for run, own in zip(runs, right, strict=True)
            ],
            "accuracy": {
                name: float((own == targets)[rows].mean()) for name, own in answers.items()
            },
            **prediction_of_answers(right, known, compared, log_probabilities[:, rows]),
            "agreement": agreement(outputs[:, rows], targets[rows], others, *dataset.sizes(node)),
        }
    return found

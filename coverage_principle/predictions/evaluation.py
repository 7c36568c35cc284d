"""How right models are, what tells beforehand where, and whether they err as predicted.

The functions of arrays take ``outputs`` ``(files, items)`` and ``answers`` ``(items,)``, ids of
tokens, negative where there is none (``reading``). A file is a model or a seed of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

import numpy as np

from coverage_principle.coverage import neighbours
from coverage_principle.data import Dataset, keys_of, looking_into, record_column
from coverage_principle.data.annotations import ANNOTATED
from coverage_principle.data.files import sha256
from coverage_principle.predictions.reading import MISSING, Predictions, answer_ids
from coverage_principle.statistics import auc_influence, rate_of, wilson_interval
from coverage_principle.tasks import TRAIN_INFERRED

#: Fields of annotated items that may tell which are answered; a higher value: rather so.
SCORES = ("k_cutoff", "support", "matcher_probability", "learner_score")
#: What answers for itself, and the field with its answer.
ANSWERERS = {"matcher": "matcher_answer", "learner": "learner_answer"}
#: Pairs of predictors whose AUCs are compared.
COMPARED = (
    ("support", "k_cutoff"),
    ("learner_score", "support"),
    ("support", "another_seed"),
    ("learner_score", "another_seed"),
)
#: Groups of as many items each, by support.
_BINS = 5
_Z = 1.96  # 95 %


def evaluate_predictions(
    dataset: Dataset,
    predictions: Predictions,
    annotated: Sequence[Mapping],
    name: str = ANNOTATED,
) -> dict:
    """Everything about some models' predictions, JSON-ready: docs/predictions.md has the fields.

    ``annotated`` are the test items' records, with what coverage knows of them (``test_records``);
    ``name`` is the file of the data set that they are from, if it is there.
    """
    file = dataset.path / name
    outputs, right, test = predictions.outputs, answer_ids(dataset), dataset.test
    types = np.array([record["type"] for record in annotated])
    compositions = np.arange(len(types)) < len(test)
    count = dataset.sizes([dataset.graph.answer])[0]
    with looking_into(file, "what coverage says of test items"):
        scores = {name: _column(annotated, name) for name in SCORES}
        given = {name: _answers_in(dataset, annotated, key) for name, key in ANSWERERS.items()}
    first = compositions & (types == "type_0")
    chosen = {"type_0": first, "unseen": compositions & (types != TRAIN_INFERRED)}
    near = np.zeros(len(types))
    near[compositions] = neighbours(test.inputs, dataset.train.inputs)
    scores["neighbours"] = near

    def shares(key: np.ndarray, rows: np.ndarray) -> dict[str, dict]:
        found = {value: rows & (key == value) for value in np.unique(key[rows]).tolist()}
        return {
            f"{value:g}" if isinstance(value, float) else value: accuracy(outputs, right, own)
            for value, own in found.items()
        }

    groups = {
        name: _of_group(outputs, right, rows, scores, given, count)
        for name, rows in chosen.items()
        if rows.any()
    }
    return {
        "data_set": dataset.name,
        "sha256": {**dataset.digests, **({file.name: sha256(file)} if file.exists() else {})},
        "files": predictions.files,
        "prompts": predictions.prompts,
        "answers": count,
        "types": {kind: dataset.graph.explained(kind) for kind in np.unique(types).tolist()},
        "accuracy": {
            "by_type": shares(types, np.ones(len(types), dtype=bool)),
            "by_k_cutoff": shares(scores["k_cutoff"], first & ~np.isnan(scores["k_cutoff"])),
            "by_support": _by_support(outputs, right, first, scores["support"]),
        },
        "groups": groups,
        "absent": _absent(annotated),
    }


# --------------------------------------------------------------------------------------- accuracies


def accuracy(outputs: np.ndarray, answers: np.ndarray, rows: np.ndarray) -> dict:
    """The share of some items (a mask, or their numbers) that is answered rightly.

    What is no answer is wrong in ``accuracy``; ``of_answered`` leaves it out. Fields: ``items``,
    ``answered`` and ``right`` (a number for each file), both shares as in ``share``.
    """
    outputs, answers = outputs[:, rows], answers[rows]
    right = (outputs == answers).sum(axis=1).tolist()
    answered = (outputs >= 0).sum(axis=1).tolist()
    counts = {"items": len(answers), "answered": answered, "right": right}
    whole = share(right, [len(answers)] * len(right))
    return {**counts, "accuracy": whole, "of_answered": share(right, answered)}


def share(successes: Sequence[int], totals: Sequence[int]) -> dict | None:
    """A share of items as ``{"mean", "low", "high"}`` with its 95 % interval; None of none.

    Of one file: Wilson's over its items. Of several: the mean of their shares, Student's over
    files. Files without items are left out.
    """
    found = [(good, n) for good, n in zip(successes, totals, strict=True) if n]
    if not found:
        return None
    if len(found) == 1:
        ((good, n),) = found
        return dict(
            zip(("mean", "low", "high"), (good / n, *wilson_interval(good, n)), strict=True)
        )
    mean = rate_of([good / n for good, n in found])
    return {"mean": mean.mean, "low": mean.low, "high": mean.high}


def _by_support(
    outputs: np.ndarray, answers: np.ndarray, rows: np.ndarray, support: np.ndarray
) -> list[dict]:
    """Accuracy in bins of about as many items each; equal supports stay together."""
    rows = np.flatnonzero(rows & ~np.isnan(support))
    if not len(rows):
        return []
    inner = np.unique(np.quantile(support[rows], np.linspace(0, 1, _BINS + 1)[1:-1]))
    edges = [-math.inf, *inner.tolist(), math.inf]
    bins = []
    for low, high in pairwise(edges):
        own = rows[(support[rows] > low) & (support[rows] <= high)]
        if len(own):
            ends = {"from": float(support[own].min()), "to": float(support[own].max())}
            bins.append({**ends, **accuracy(outputs, answers, own)})
    return bins


# ------------------------------------------------------------------------- which items are answered


def prediction_of_answers(
    correct: np.ndarray,
    scores: Mapping[str, np.ndarray],
    compared: Sequence[tuple[str, str]] = COMPARED,
    log_probabilities: np.ndarray | None = None,
) -> dict:
    """How well scores ``(items,)`` tell which items are answered: AUCs and their differences.

    ``correct`` is ``(files, items)`` bool. Beside ``scores`` stand ``another_seed``, whether one
    other file answers the item, and ``others``, the share of all other files that do: the mean over
    ordered pairs, and over files. Where the models' ``log_probabilities`` of the right answers are
    given too, ``(files, items)``, that of one other and the mean of all others are
    ``another_probability`` and ``others_probability``, which tell more than a yes or no.

    ``auc`` maps each to ``{"mean", "low", "high", "per_file"}``, a mean over the files that have
    right and wrong answers; ``differences`` the ``compared`` pairs that are there to ``{"mean",
    "low", "high"}``.

    Intervals are DeLong's (``auc_influence``), the models being what they are: an item's influences
    are averaged over files before they are squared, since the files share their items.
    """
    files = range(len(correct))
    labelled = {name: [[(score, i)] for i in files] for name, score in scores.items()}
    ceilings = {("another_seed", "others"): correct}
    if log_probabilities is not None:
        ceilings["another_probability", "others_probability"] = log_probabilities
    for (one, mean), known in ceilings.items() if len(correct) > 1 else ():
        others = [np.delete(known, i, axis=0) for i in files]
        labelled[one] = [[(row, i) for row in others[i]] for i in files]
        labelled[mean] = [[(others[i].mean(axis=0), i)] for i in files]
    found, pulls = {}, {}
    for name, by_file in labelled.items():
        per_file, influences = [], []
        for pairs in by_file:
            known = [auc_influence(score, correct[i]) for score, i in pairs]
            if None in known:
                per_file.append(None)
                continue
            per_file.append(float(np.mean([value for value, _ in known])))
            influences.append(np.mean([influence for _, influence in known], axis=0))
        if influences:
            mean = float(np.mean([value for value in per_file if value is not None]))
            pulls[name] = mean, np.mean(influences, axis=0)
            found[name] = {**_interval(*pulls[name], 0, 1), "per_file": per_file}
    differences = {
        f"{a} - {b}": _interval(pulls[a][0] - pulls[b][0], pulls[a][1] - pulls[b][1], -1, 1)
        for a, b in compared
        if a in pulls and b in pulls
    }
    return {"auc": found, "differences": differences}


def _interval(mean: float, influence: np.ndarray, least: float, most: float) -> dict:
    half = _Z * float(np.sqrt((influence**2).sum()))
    return {"mean": mean, "low": max(least, mean - half), "high": min(most, mean + half)}


# ---------------------------------------------------------------------------------------- agreement


def agreement(
    outputs: np.ndarray, answers: np.ndarray, others: Mapping[str, np.ndarray], count: int
) -> dict:
    """Whether other answers ``(items,)`` are those of the models, and on errors of both too.

    For each of ``others``, and for ``another_seed``, all other files: ``same``, the share of all
    items, ``same_wrong``, that of the items to which both give some wrong answer, and
    ``both_wrong``, the number of these. Means and numbers are over files, or ordered pairs of them.
    ``chance`` of the same wrong answer is 1 of ``count`` - 1.

    >>> outputs, answers = np.array([[1, 2, 3, -1]]), np.array([1, 1, 1, 1])
    >>> found = agreement(outputs, answers, {"matcher": np.array([1, 2, 4, 2])}, 5)["matcher"]
    >>> found["same"]["mean"], found["same_wrong"]["mean"], found["both_wrong"]
    (0.5, 0.5, [2])
    """
    pairs = {name: [(own, other) for own in outputs] for name, other in others.items()}
    if len(outputs) > 1:
        pairs["another_seed"] = list(permutations(outputs, 2))
    result = {"chance": 1 / (count - 1) if count > 1 else None}
    for name, compared in pairs.items():
        first, second = (np.array(each) for each in zip(*compared, strict=True))
        same = (first == second) & (first >= 0)
        wrong = (first >= 0) & (first != answers) & (second >= 0) & (second != answers)
        result[name] = {
            "same": _share_over_items(same, np.ones_like(same)),
            "same_wrong": _share_over_items(same & wrong, wrong),
            "both_wrong": wrong.sum(axis=1).tolist(),
        }
    return result


def _share_over_items(successes: np.ndarray, counted: np.ndarray) -> dict | None:
    """The mean over comparisons of their shares of counted items, both ``(comparisons, items)``.

    Of one comparison with Wilson's interval. Several have their items in common: the interval is
    from the mean of an item's pulls on their shares, as for AUCs.
    """
    good, totals = successes.sum(axis=1), counted.sum(axis=1)
    there = totals > 0
    if there.sum() <= 1:
        return share(good.tolist(), totals.tolist())
    shares, totals = (good[there] / totals[there])[:, None], totals[there][:, None]
    pulls = (successes[there] - shares * counted[there]) / totals
    return _interval(float(shares.mean()), pulls.mean(axis=0), 0, 1)


# ---------------------------------------------------------------------------------- what is known


def _of_group(
    outputs: np.ndarray,
    answers: np.ndarray,
    rows: np.ndarray,
    scores: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray | None],
    count: int,
) -> dict:
    """What predicts the answers of some items, of those for which every file has a prediction."""
    there = rows & (outputs != MISSING).all(axis=0)
    outputs, right = outputs[:, there], answers[there]
    correct = outputs == right
    own = {name: column[there] for name, column in scores.items()}
    # As a node of no substitution graph an item is covered at no k.
    if not np.isnan(scores["k_cutoff"]).all():
        own["k_cutoff"] = np.nan_to_num(own["k_cutoff"])
    own = {name: own[name] for name in (SCORES[0], "neighbours", *SCORES[1:])}
    own = {name: column for name, column in own.items() if not np.isnan(column).any()}
    others = {name: column[there] for name, column in given.items() if column is not None}
    return {
        "items": int(there.sum()),
        "left_out": int(rows.sum() - there.sum()),
        "right": correct.sum(axis=1).tolist(),
        **prediction_of_answers(correct, own),
        "agreement": agreement(outputs, right, others, count),
    }


def _column(records: Sequence[Mapping], name: str) -> np.ndarray:
    """A field as float64 ``(items,)``, NaN where it is null or not there."""
    values, numbers = record_column(records, name)
    held = [math.nan if value is None else float(value) for value in values]
    return np.array(held, dtype=float)[numbers]


def _answers_in(dataset: Dataset, records: Sequence[Mapping], name: str) -> np.ndarray | None:
    """The ids of tokens in a field, ``MISSING`` for null; None if no record has it."""
    if name not in keys_of(records):
        return None
    ids = {token: number for number, token in enumerate(dataset.codec.vocabulary)}
    texts, numbers = record_column(records, name)
    held = [MISSING if text is None else ids[text] for text in texts]
    return np.array(held, dtype=np.int64)[numbers]


def _absent(records: Sequence[Mapping]) -> list[str]:
    """Fields that coverage can tell of items, and that no record has."""
    wanted, there = (*SCORES, *ANSWERERS.values()), keys_of(records)
    return [name for name in wanted if name not in there]

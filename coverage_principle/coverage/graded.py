"""Graded coverage: how much a training set says for each test item's answer, and what it answers.

Three readings of the same evidence: the *support* of the true answer and the pattern *matcher*,
both in ``matcher.py``, and the *learner* (``learner.py``). None of them looks at a model or at
the answer of a test item; support and the learner's score are those of the true answer, which
only chooses what is written down. Of a data set that is too large for the learner (``unknowns``)
the other two are told alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from coverage_principle.coverage.learner import DEFAULT, Learned, learn
from coverage_principle.coverage.matcher import Matched, Matcher
from coverage_principle.coverage.settings import AUTO, LearnerSettings
from coverage_principle.data import GRADED_FIELDS, Dataset
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line

#: What annotated test items hold of it, in this order.
FIELDS = tuple(GRADED_FIELDS)
#: Bounds of the groups of a calibration table.
_BOUNDS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)
#: Unknowns (``unknowns``) of the largest learner; 4 bytes each, and all are gone through in turn.
MOST_UNKNOWNS = 10**9


@dataclass(frozen=True)
class Graded:
    """What is made of the test compositions of ``dataset``, in their order.

    ``learned`` is None where the learner is left out (``MOST_UNKNOWNS``).
    """

    dataset: Dataset
    matcher: Matcher
    matched: Matched
    settings: LearnerSettings
    learned: Learned | None

    __repr__ = one_line

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The ``FIELDS`` as arrays ``(n,)``; answers are values. A learner left out has none."""
        rows, true = np.arange(len(self.dataset.test)), self.dataset.test.answers
        matched, learned = self.matched, self.learned
        found = [matched.support[rows, true], matched.answer, matched.probability.max(axis=1)]
        found.append(matched.margin)
        if learned is not None:
            answer = learned.answer
            found += [answer, learned.scores[rows, true], learned.probability[rows, answer]]
        return dict(zip(FIELDS, found, strict=learned is not None))

    @property
    def answerers(self) -> tuple[str, ...]:
        """Who answers: the matcher, and the learner unless it is left out."""
        return ("matcher",) if self.learned is None else ("matcher", "learner")

    def fields(self) -> list[dict]:
        """The ``columns`` of every test record; those of single facts, at the end, are null."""
        answers, columns = [self.dataset.graph.answer], {}
        for name, column in self.columns.items():
            if name.endswith("_answer"):
                texts = {a: self.dataset.text([a], answers) for a in np.unique(column).tolist()}
                columns[name] = [texts[a] for a in column.tolist()]
            else:
                columns[name] = [float(f"{value:.6g}") for value in column.tolist()]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return rows + [dict.fromkeys(columns)] * len(self.dataset.test.facts.records)

    def summary(self) -> dict:
        """What the graded file of a result holds; docs/graded.md has it field by field."""
        slots, test = self.dataset.graph.inputs, self.dataset.test
        by_type = {}
        for label in dict.fromkeys(test.types.tolist()):
            rows = test.types == label
            own = {name: column[rows] for name, column in self.columns.items()}
            by_type[label] = {
                "items": int(rows.sum()),
                "median_support": float(np.median(own["support"])),
                **{
                    name: {
                        "right": int((own[f"{name}_answer"] == test.answers[rows]).sum()),
                        "probability": float(own[f"{name}_probability"].mean()),
                    }
                    for name in self.answerers
                },
            }
        return {
            "dataset": self.dataset.name,
            "path": str(self.dataset.path),
            "sha256": self.dataset.digests,
            "noise": self.matcher.noise,
            "matcher_sharpness": self.matcher.sharpness,
            "learner_sharpness": self.learned and self.learned.sharpness,
            "learner": asdict(self.settings) if self.learned else None,
            "slot_sets": [
                {
                    "slots": [slots[i] for i in positions],
                    "prior": one.prior,
                    "chance": one.chance,
                    "nats": one.nats,
                }
                for positions, one in self.matcher.equalities.items()
            ],
            "by_type": by_type,
            "calibration": {name: self._calibration(name) for name in self.answerers},
        }

    def _calibration(self, name: str) -> list[dict]:
        """Of ``type_0`` items: how often answers of some probability are right."""
        rows = self.dataset.test.types == "type_0"
        right = (self.columns[f"{name}_answer"] == self.dataset.test.answers)[rows]
        return calibration(self.columns[f"{name}_probability"][rows], right)


def calibration(
    probability: np.ndarray, right: np.ndarray, bounds: Sequence[float] = _BOUNDS
) -> list[dict]:
    """Answers by their probability: ``low``, ``high``, ``items``, mean ``probability``, ``right``.

    A group holds what is above ``low`` and at most ``high``; the first one ``low`` too.
    """
    group = np.searchsorted(bounds[1:-1], probability, side="left")
    found = []
    for number, (low, high) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        own = group == number
        mean = float(probability[own].mean()) if own.any() else None
        one = {"low": low, "high": high, "items": int(own.sum()), "probability": mean}
        found.append({**one, "right": int(right[own].sum())})
    return found


def graded_coverage(
    dataset: Dataset,
    positions: Sequence[tuple[int, ...]],
    *,
    noise: float | str = 0.0,
    settings: LearnerSettings = DEFAULT,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> Graded:
    """Grade every test composition by the evidence at the slot sets ``positions``.

    ``noise`` is the rate of wrong labels, or "auto". ``InputError`` if it is too high. The learner
    is left out if it had more than ``MOST_UNKNOWNS`` unknowns.
    """
    fits = unknowns(dataset) <= MOST_UNKNOWNS
    parts = ("evidence", "pattern matcher", "learner")[: 3 if fits else 2]

    def part(number: int) -> Callable[[float], None]:
        return lambda share: progress((number + share) / len(parts), parts[number])

    matcher = dataset_matcher(dataset, positions, noise=noise, progress=part(0))
    matched = matcher.match(dataset.test.inputs, part(1))
    learned = None
    if fits:
        how = {"noise": matcher.noise, "settings": settings, "progress": part(2)}
        learned = dataset_learned(dataset, positions, **how)
    return Graded(dataset, matcher, matched, settings, learned)


def unknowns(dataset: Dataset) -> int:
    """How many numbers the learner of a data set finds: one for each training item and answer."""
    return len(dataset.train) * _about(dataset)["num_answers"]


def require_learner(dataset: Dataset, setting: str) -> None:
    """``InputError``, naming the ``setting`` that asks for the learner, if it would be too large.

    That is above ``MOST_UNKNOWNS``.
    """
    if unknowns(dataset) > MOST_UNKNOWNS:
        raise InputError(f"`{setting}` asks for the learner, but {too_large(dataset)}; omit it")


def too_large(dataset: Dataset) -> str:
    """Why the learner of a data set is left out."""
    return (
        f"{len(dataset.train):,} training items times {_about(dataset)['num_answers']:,} answers "
        f"are more than the {MOST_UNKNOWNS:,} unknowns that it may have"
    )


def dataset_matcher(
    dataset: Dataset,
    positions: Sequence[tuple[int, ...]],
    *,
    noise: float | str = 0.0,
    progress: Callable[[float], None] = lambda _: None,
) -> Matcher:
    """The pattern matcher of a data set's training items; ``noise`` as for ``graded_coverage``."""
    train = dataset.train
    return Matcher(
        *(train.inputs, train.answers),
        **_about(dataset),
        positions=positions,
        noise=None if noise == AUTO else noise,
        progress=progress,
    )


def dataset_learned(
    dataset: Dataset,
    positions: Sequence[tuple[int, ...]],
    *,
    noise: float = 0.0,
    settings: LearnerSettings = DEFAULT,
    progress: Callable[[float], None] = lambda _: None,
) -> Learned:
    """What the learner makes of a data set's test compositions; ``noise`` is a rate."""
    train = dataset.train
    return learn(
        *(train.inputs, train.answers, dataset.test.inputs),
        **_about(dataset),
        positions=positions,
        noise=noise,
        settings=settings,
        progress=progress,
    )


def estimated_noise(dataset: Dataset, positions: Sequence[tuple[int, ...]]) -> float:
    """The rate of wrong labels under which the training items are likeliest (``matcher.py``)."""
    return dataset_matcher(dataset, positions, noise=AUTO).noise


def _about(dataset: Dataset) -> Mapping[str, object]:
    (answers,) = dataset.sizes([dataset.graph.answer])
    return {"num_answers": answers, "sizes": dataset.slot_sizes}

"""Accuracy against training data, of the pattern matcher and the learner, before any training.

For one world the training compositions are put into one random order, as for required data, and its
prefixes are the training sets. What matcher and learner answer is compared with the tables on a
uniform sample of the unseen in-domain items, and the smallest N at which the share that is right is
high enough is searched for. With numbers that were fitted to a model at a small size
(``fitting.py``), the learner so says how much data that model needs at larger ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from coverage_principle.coverage.evidence import slot_sets
from coverage_principle.coverage.learner import Learner
from coverage_principle.coverage.matcher import Matcher
from coverage_principle.coverage.required import GrowingWorld, smallest_amount
from coverage_principle.coverage.settings import LearnerSettings, PredictedSettings
from coverage_principle.data import (
    CompositionSpace,
    WorldSettings,
    evaluate,
    looking_into,
    read_json,
    write_json,
)
from coverage_principle.data.tables import seen_calls
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph

#: The random stream of samples; ``data.worlds`` names the others.
_SAMPLE = 8
#: By how much N changes until two trials enclose it.
_STRIDE = 1.5
#: Settings that its worlds have too.
_OF_WORLDS = ("default_seen_ratio", "function_family", "alphabets")

#: ``[right, looked at]`` of one predictor and N.
Measurement = list[int]


class PredictedData:
    """Accuracies of a task's worlds by predictor and N; ``file`` keeps every one.

    A file of earlier measurements is read and gone on with. ``InputError`` if it is of another task
    or other worlds, or the settings do not fit the task.
    """

    def __init__(
        self, graph: TaskGraph, settings: PredictedSettings, learner: LearnerSettings, file: Path
    ) -> None:
        self.graph, self.settings, self.learner = graph, settings, learner
        self._world(max(settings.num_tokens), 0).check_task(graph)
        #: ``{|X|: {seed: {predictor: N or None}}}``
        self.amounts: dict[int, dict[int, dict[str, int | None]]] = {}
        #: ``{|X|: {seed: {predictor: {N: [right, looked at]}}}}``
        self.measured: dict[str, dict[str, dict[str, dict[str, Measurement]]]] = {}
        own = {name: getattr(settings, name) for name in (*_OF_WORLDS, "sample")}
        self._about = {"task": graph.to_dict(), **own, "alphabets": list(settings.alphabets)}
        self._about |= {"learner": asdict(learner)}
        self._file = file
        if file.exists():
            self._read()

    def _read(self) -> None:
        before = read_json(self._file)
        if not isinstance(before, dict) or before.get("about") != self._about:
            raise InputError(
                f"{self._file} is of another task, other worlds, samples of another size or "
                "another learner; give another `output_dir`, or move it away"
            )
        with looking_into(self._file, "what was measured"):
            self.measured = before["measured"]
            for seeds in self.measured.values():
                for by_predictor in seeds.values():
                    for by_amount in by_predictor.values():
                        for amount, (right, looked_at) in by_amount.items():
                            if not 0 <= right <= looked_at or int(amount) < 1:
                                raise ValueError("more answers are right than there are")

    def _world(self, num_tokens: int, seed: int) -> WorldSettings:
        own = {name: getattr(self.settings, name) for name in _OF_WORLDS}
        return WorldSettings(num_tokens, 1, seed=seed, **own)

    def find(
        self, num_tokens: int, seed: int, told: Callable[[str, int], None] = lambda *_: None
    ) -> dict[str, int | None]:
        """The amounts of one world by predictor; ``told`` is called with each N to be measured.

        None where even all trainable items (less one) do not reach the share. The search begins at
        N that the predictor needed in worlds of a similar size, else at the square of |X|.
        """
        settings, world = self.settings, GrowingWorld(self.graph, self._world(num_tokens, seed))
        known = self.measured.setdefault(str(num_tokens), {}).setdefault(str(seed), {})
        found: dict[str, int | None] = {}
        for predictor in settings.by:
            by_amount = known.setdefault(predictor, {})

            def reached(amount: int, predictor=predictor, by_amount=by_amount) -> bool:
                if str(amount) not in by_amount:
                    told(predictor, amount)
                    by_amount[str(amount)] = self._measure(world, predictor, amount)
                    write_json(self._file, {"about": self._about, "measured": self.measured})
                right, looked_at = by_amount[str(amount)]
                return looked_at > 0 and right >= settings.accuracy * looked_at

            how = {"tolerance": settings.tolerance, "factor": _STRIDE, "geometric": True}
            start, most = self._guess(predictor, num_tokens), world.trainable - 1
            found[predictor] = smallest_amount(reached, start, most, **how) if most > 1 else None
        self.amounts.setdefault(num_tokens, {})[seed] = found
        return found

    def _guess(self, predictor: str, num_tokens: int) -> int:
        for size in sorted(self.amounts, key=lambda size: abs(size - num_tokens)):
            needed = [by[predictor] for by in self.amounts[size].values() if by.get(predictor)]
            if needed:
                return max(2, round(max(needed) * (num_tokens / size) ** 2.2))
        return num_tokens**2

    def _measure(self, world: GrowingWorld, predictor: str, amount: int) -> Measurement:
        graph, tables, train = self.graph, world.tables, world.train(amount)
        answers = evaluate(graph, tables, train)[graph.answer]
        space = CompositionSpace(graph, tables, seen_calls(graph, tables, train))
        rng = np.random.default_rng([world.seed, _SAMPLE, amount])
        queries = space.sample_outside(self.settings.sample, train, rng)
        if len(queries) == 0:
            return [0, 0]
        alphabets = self._world(world.num_tokens, world.seed).sizes(graph)
        *sizes, count = (alphabets[a] for a in graph.alphabets_of([*graph.inputs, graph.answer]))
        options = {"num_answers": count, "sizes": tuple(sizes)}
        if predictor == "matcher":
            options["positions"] = slot_sets(len(sizes))
            found = Matcher(train, answers, **options).match(queries).answer
        else:
            learner = Learner(train, answers, settings=self.learner, **options)
            found = learner.scores(queries).argmax(axis=1)
        right = found == evaluate(graph, tables, queries)[graph.answer]
        return [int(right.sum()), len(queries)]


def predicted_name(graph: TaskGraph, settings: PredictedSettings) -> str:
    """What tells files of searches apart: task, seen ratio, and what is not as usual."""
    parts = [graph.name, f"seen-{settings.default_seen_ratio:g}"]
    if settings.function_family != "random":
        parts.append(settings.function_family)
    return "_".join([*parts, *(part.replace("=", "-") for part in settings.alphabets)])

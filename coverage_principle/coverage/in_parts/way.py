"""Slot sets of a data set weighed within a stated memory, here or by others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coverage_principle.coverage.dataset import (
    SlotSet,
    Steps,
    Wanted,
    Way,
    evidence_at,
    known_tables,
)
from coverage_principle.coverage.in_parts import budget
from coverage_principle.coverage.in_parts.rows import HeldRows
from coverage_principle.coverage.in_parts.stored import SlotSetFolder, check_disk
from coverage_principle.coverage.in_parts.weighing import SlotSetTask, weigh_slot_set
from coverage_principle.data import Dataset, evaluate
from coverage_principle.errors import InputError
from simpletransformers.memory import held, in_words

#: Carries out what a folder lacks of the slot sets of these names, each in so many bytes of memory.
Carry = Callable[[SlotSetFolder, Sequence[str], int, Callable[[float, str], None]], None]


@dataclass
class InParts(Way):
    """Weighs slot sets so that all processes together take at most ``memory`` bytes.

    What does not fit goes to files in ``folder``. With ``carry``, ``jobs`` slot sets at a time are
    weighed by other processes; ``own``: each of them, and this process, has ``memory`` to itself.
    """

    memory: int
    folder: Path
    carry: Carry | None = None
    jobs: int = 1
    own: bool = False

    def known(self, dataset: Dataset, *, required: bool) -> Collection[str]:
        self._tables = known_tables(dataset, required=required)
        names = [] if self._tables is None else list(dataset.graph.bridges)
        for inputs, _ in _rows(dataset).chunks(budget.CHUNK) if names else ():
            values = evaluate(dataset.graph, self._tables, inputs)
            names = [name for name in names if values[name].min() >= 0]
        return names

    def weigh(self, wanted: Wanted, steps: Steps) -> list[SlotSet]:
        dataset, rows = wanted.dataset, _rows(wanted.dataset)
        graph, sizes = dataset.graph, dataset.slot_sizes
        tables = None if self._tables is None else tuple(self._tables)
        tasks = [
            SlotSetTask(positions, graph, sizes, tables, wanted.noise, wanted.lowest, wanted.equal)
            for positions in wanted.positions
        ]
        shared = self.carry is not None
        memory, needed = self._each(wanted), self._least(wanted)
        if memory < needed:
            raise InputError(
                f"`memory` {in_words(self.memory)} is too little: beside the data set, "
                f"{in_words(max(memory, 0))} are left for a slot set, and the largest needs about "
                f"{in_words(needed)}; give more" + (", or fewer `jobs`" if self.jobs > 1 else "")
            )
        check_disk(self.folder, len(rows), len(sizes), self.jobs, shared=shared)
        if not shared:
            place = self.folder
            while not place.exists():
                place = place.parent
            found = []
            for task in tasks:
                progress = steps.part(evidence_at(task.slots))
                found.append(weigh_slot_set(task, rows, self._each(wanted), place, progress))
            return found
        folder = SlotSetFolder(self.folder)
        folder.write(rows, tasks)
        names = [",".join(task.slots) for task in tasks]
        self.carry(
            folder,
            [name for name in names if not folder.is_weighed(name)],
            memory,
            steps.parts(len(tasks)),
        )
        return [folder.result(name) for name in names]

    def _each(self, wanted: Wanted) -> int:
        """The bytes that a slot set may take now, which is less than all by what must stay."""
        dataset = wanted.dataset
        size = len(dataset.train), dataset.slot_sizes
        if self.own:
            return self.memory
        left = self.memory - held() - budget.kept(*size, wanted.positions)
        return left // self.jobs if self.carry else left

    def _least(self, wanted: Wanted) -> int:
        """The bytes without which some slot set cannot be weighed by a process."""
        dataset = wanted.dataset
        size = len(dataset.train), dataset.slot_sizes
        least = max(budget.least(*size, positions) for positions in wanted.positions)
        return least + (budget.PROCESS if self.carry else 0)


def _rows(dataset: Dataset) -> HeldRows:
    return HeldRows(np.asarray(dataset.train.inputs), np.asarray(dataset.train.answers))

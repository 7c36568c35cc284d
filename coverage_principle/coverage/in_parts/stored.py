"""A folder in which several processes, or jobs of a cluster, weigh the slot sets of a data set.

It holds the training items, what is to be weighed, and what came out of each slot set, which
appears whole under its name or not at all. All of it is written and read by this module alone.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.coverage.dataset import SlotSet
from coverage_principle.coverage.in_parts import budget
from coverage_principle.coverage.in_parts.rows import HeldRows, StoredRows
from coverage_principle.coverage.in_parts.spill import telling_where
from coverage_principle.coverage.in_parts.weighing import SlotSetTask, weigh_slot_set
from coverage_principle.data import check_place
from coverage_principle.errors import InputError
from simpletransformers.files import replacing
from simpletransformers.memory import available, held, in_words


@dataclass(frozen=True)
class SlotSetFolder:
    """The folder ``path``; slot sets go by the names of their slots, such as ``x1,x2``."""

    path: Path

    def write(self, rows: HeldRows, tasks: Sequence[SlotSetTask]) -> None:
        """Write what is to be weighed, unless it is there."""
        check_place(self.path).mkdir(parents=True, exist_ok=True)
        if self._tasks.exists():
            return
        with telling_where(self.path):
            with replacing(self._items) as file:
                rows.store(file)
            with replacing(self._tasks) as file:
                file.write_bytes(pickle.dumps({",".join(task.slots): task for task in tasks}))

    def is_weighed(self, name: str) -> bool:
        return self._result(name).exists()

    def result(self, name: str) -> SlotSet:
        """What came out of a slot set that is weighed."""
        return pickle.loads(self._result(name).read_bytes())

    def weigh(
        self, name: str, memory: int | None, progress: Callable[[float], None] = lambda _: None
    ) -> None:
        """Weigh a slot set; the process takes at most ``memory`` bytes (None: what there is).

        ``InputError`` if that is too little, or the disk has no room.
        """
        task: SlotSetTask = pickle.loads(self._tasks.read_bytes())[name]
        rows = StoredRows(self._items, len(task.graph.inputs))
        room = available() if memory is None else memory - held()
        found = weigh_slot_set(task, rows, room, self.path, progress)
        with telling_where(self.path), replacing(self._result(name)) as file:
            file.write_bytes(pickle.dumps(found, protocol=5))

    @property
    def _items(self) -> Path:
        return self.path / "items.bin"

    @property
    def _tasks(self) -> Path:
        return self.path / "tasks.pickle"

    def _result(self, name: str) -> Path:
        return self.path / f"{name}.pickle"


def weigh_stored(path: Path, name: str, memory: int | None) -> str | None:
    """``SlotSetFolder.weigh`` in a process of its own: the sentence why it failed, if it did."""
    try:
        SlotSetFolder(path).weigh(name, memory)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"slot set {name} does not fit into memory; give `memory`, or fewer `jobs`"
    except OSError as error:
        return f"{error.strerror or error}: {error.filename}"
    return None


def check_disk(folder: Path, items: int, slots: int, jobs: int, *, shared: bool) -> None:
    """Refuse a ``folder`` whose disk has no room for what ``jobs`` slot sets at a time spill.

    ``shared``: the items go there as well. ``InputError``.
    """
    needed = jobs * budget.SPILLED * items
    if shared:
        needed += budget.SHARED * (slots + 1) * items
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{in_words(needed)} of temporary files go to {folder}, where {in_words(free)} are "
            "free; give another `output_dir`, or fewer `jobs`"
        )

"""A folder in which several processes, or jobs of a cluster, weigh the slot sets of a data set.

It holds the training items, what is to be weighed, and what came out of each slot set, which
appears whole under its name or not at all. All of it is written and read by this module alone, as
arrays and JSON: a folder on a disk that many share may hold anybody's files, and those of another
version, so nothing in it is run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from coverage_principle.coverage.dataset import SlotSet
from coverage_principle.coverage.equivalence import Equivalence
from coverage_principle.coverage.in_parts import budget
from coverage_principle.coverage.in_parts.rows import HeldRows, StoredRows
from coverage_principle.coverage.in_parts.spill import telling_where
from coverage_principle.coverage.in_parts.weighing import SlotSetTask, weigh_slot_set
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.data import check_place
from coverage_principle.data.files import read_arrays, write_arrays
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph
from simpletransformers.files import replacing
from simpletransformers.memory import available, held, in_words

#: The arrays of an ``Equivalence`` and of a ``SlotSet``; those that are None are not written.
_OF_EQUIVALENCE = ("codes", "first", "second", "evidence", "pairs", "false_pairs")
_OF_SLOT_SET = ("true_values", "required")
_TRUE_FOREST = ("true_first", "true_second", "true_evidence")


@dataclass(frozen=True)
class SlotSetFolder:
    """The folder ``path``; slot sets go by the names of their slots, such as ``x1,x2``."""

    path: Path

    def write(self, rows: HeldRows, tasks: Sequence[SlotSetTask]) -> None:
        """Write what is to be weighed, unless it is there; tasks differ in their slots alone."""
        check_place(self.path).mkdir(parents=True, exist_ok=True)
        if self._tasks.exists():
            return
        with telling_where(self.path):
            with replacing(self._items) as file:
                rows.store(file)
            _write_tasks(self._tasks, tasks)

    def is_weighed(self, name: str) -> bool:
        return self._result(name).exists()

    def result(self, name: str) -> SlotSet:
        """What came out of a slot set that is weighed."""
        return _read_slot_set(self._result(name))

    def weigh(
        self, name: str, memory: int | None, progress: Callable[[float], None] = lambda _: None
    ) -> None:
        """Weigh a slot set; the process takes at most ``memory`` bytes (None: what there is).

        ``InputError`` if that is too little, or the disk has no room.
        """
        task = _read_task(self._tasks, name)
        rows = StoredRows(self._items, len(task.graph.inputs))
        room = available() if memory is None else memory - held()
        found = weigh_slot_set(task, rows, room, self.path, progress)
        with telling_where(self.path):
            _write_slot_set(self._result(name), found)

    @property
    def _items(self) -> Path:
        return self.path / "items.bin"

    @property
    def _tasks(self) -> Path:
        return self.path / "tasks.npz"

    def _result(self, name: str) -> Path:
        return self.path / f"{name}.npz"


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


def _write_tasks(file: Path, tasks: Sequence[SlotSetTask]) -> None:
    one = tasks[0]
    about = {
        "positions": [task.positions for task in tasks],
        "graph": one.graph.to_dict(),
        "sizes": [int(size) for size in one.sizes],
        "noise": asdict(one.noise),
        "lowest": one.lowest,
        "equal": one.equal,
        "tables": None if one.tables is None else len(one.tables),
    }
    tables = {f"table{i}": table for i, table in enumerate(one.tables or ())}
    write_arrays(file, {"about": np.array(json.dumps(about)), **tables})


def _read_task(file: Path, name: str) -> SlotSetTask:
    with _understanding(file):
        arrays = read_arrays(file)
        about = json.loads(str(arrays["about"]))
        graph, tables = TaskGraph.from_dict(about["graph"]), about["tables"]
        names = [",".join(graph.inputs[i] for i in one) for one in about["positions"]]
        return SlotSetTask(
            tuple(about["positions"][names.index(name)]),
            graph,
            tuple(about["sizes"]),
            None if tables is None else tuple(arrays[f"table{i}"] for i in range(tables)),
            PairNoise(**about["noise"]),
            about["lowest"],
            tuple(about["equal"]),
        )


def _write_slot_set(file: Path, found: SlotSet) -> None:
    equivalence = found.equivalence
    about = {
        "slots": found.slots,
        "determined": found.determined,
        "counts": found.counts,
        "positions": equivalence.positions,
        "sizes": [int(size) for size in equivalence.sizes],
    }
    arrays = {name: getattr(equivalence, name) for name in _OF_EQUIVALENCE}
    arrays |= {name: getattr(found, name) for name in _OF_SLOT_SET}
    arrays |= dict(zip(_TRUE_FOREST, equivalence.true_forest or (None,) * 3, strict=True))
    arrays = {name: array for name, array in arrays.items() if array is not None}
    write_arrays(file, {"about": np.array(json.dumps(about)), **arrays})


def _read_slot_set(file: Path) -> SlotSet:
    with _understanding(file):
        arrays = read_arrays(file)
        about = json.loads(str(arrays["about"]))
        forest = tuple(arrays[name] for name in _TRUE_FOREST if name in arrays) or None
        equivalence = Equivalence(
            tuple(about["positions"]),
            tuple(about["sizes"]),
            **{name: arrays.get(name) for name in _OF_EQUIVALENCE},
            true_forest=forest,
        )
        return SlotSet(
            tuple(about["slots"]),
            None,
            equivalence,
            tuple(about["determined"]),
            **{name: arrays.get(name) for name in _OF_SLOT_SET},
            counts=about["counts"],
        )


@contextmanager
def _understanding(file: Path) -> Iterator[None]:
    """``InputError`` where a file is not one that this module wrote."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        folder = file.parent
        raise InputError(
            f"{file} holds no slot set that this version wrote; remove {folder}"
        ) from error


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

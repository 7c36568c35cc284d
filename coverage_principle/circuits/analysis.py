"""What all analyses of a trained model share: its run and items, runs of its checkpoints, results.

The files that analyses write are described in docs/circuit_analysis.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import coverage_principle
from coverage_principle.circuits import checkpoints as folders
from coverage_principle.circuits.counterfactuals import Plan
from coverage_principle.circuits.items import (
    Grouping,
    ItemSplit,
    can_be_known,
    item_splits,
    k_groups_of,
    layout_of,
)
from coverage_principle.circuits.models import LoadedModel, choose_device, open_checkpoint
from coverage_principle.circuits.patching import Trace, patch_runs
from coverage_principle.circuits.settings import ClusterSettings, RunAnalysisSettings
from coverage_principle.circuits.token_map import TokenMap
from coverage_principle.data import Dataset, check_place, dump_json, load_dataset, write_together
from coverage_principle.errors import InputError
from coverage_principle.paths import relative_to_root

#: Is called with a checkpoint's name, and how many of how many items are done.
Progress = Callable[[str, int, int], object]
#: Settings that a result file records, where the analysis has them.
_RECORDED = ("seed", "k_groups", "max_items", "every_item", "permutations", "rank", "folds")


@dataclass(frozen=True)
class Subject:
    """What is analysed: the run's folder, the checkpoints asked for, its data set, the device.

    ``opened`` has models that are loaded already, by their checkpoints' names; ``token_map`` says
    what the data set's tokens are to models trained elsewhere.
    """

    settings: RunAnalysisSettings | ClusterSettings
    path: Path
    checkpoints: list[Path]
    dataset: Dataset
    device: torch.device
    opened: Mapping[str, LoadedModel] = field(default_factory=dict)
    token_map: TokenMap | None = None

    def __repr__(self) -> str:
        names = ", ".join(path.name for path in self.checkpoints)
        return f"<Subject {self.path.name}: {names}; {self.dataset.name}; {self.device}>"

    @classmethod
    def find(cls, settings: RunAnalysisSettings | ClusterSettings) -> Subject:
        """What the settings name; ``InputError`` for what does not exist or is of another task."""
        if settings.save_dir is None:
            raise InputError("`save_dir` must be given")
        path, checkpoints = folders.find_checkpoints(
            settings.model_dir, settings.ckpt, settings.step_list
        )
        foreign = settings.token_map is not None
        if foreign and checkpoints[0] not in folders.list_checkpoints(path):
            path = checkpoints[0]  # a folder of its own, which lies in no run
        dataset = _read(folders.find_dataset(path, settings.data_dir, any_name=foreign))
        if settings.task not in (None, dataset.graph.name):
            held = f"{dataset.name} holds {dataset.graph.name}"
            general = "circuit_analysis/trace.py, cluster.py and lens.py take any task"
            raise InputError(f"this command is for the task {settings.task}, but {held}; {general}")
        device = choose_device(settings.device)
        tokens = TokenMap.read(settings.token_map, dataset) if foreign else None
        return cls(settings, path, checkpoints, dataset, device, token_map=tokens)

    def splits(self, grouping: Grouping, *, out_of_domain: bool = True) -> dict[str, ItemSplit]:
        """The items to look at; with ``every_item`` not only the first of each fragment."""
        groups, cutoffs = k_groups_of(self.dataset, self.settings.k_groups)
        options = {"k_groups": groups, "cutoffs": cutoffs, "out_of_domain": out_of_domain}
        options["every_item"] = getattr(self.settings, "every_item", False)
        return item_splits(self.dataset, grouping, max_items=self.settings.max_items, **options)

    def load(self, checkpoint: Path) -> LoadedModel:
        if checkpoint.name in self.opened:
            return self.opened[checkpoint.name]
        options = {name: getattr(self.settings, name) for name in ("eval_loops", "trust_code")}
        options["token_map"] = self.token_map
        return open_checkpoint(checkpoint, self.dataset.codec, self.device, **options)

    def models(
        self, total: int, progress: Progress
    ) -> Iterator[tuple[str, LoadedModel, Callable[[int], None]]]:
        """Each checkpoint's name, model, and what is to be called with items as they are done."""
        for checkpoint in self.checkpoints:
            yield checkpoint.name, self.load(checkpoint), _counter(progress, checkpoint.name, total)

    def patched(
        self, plan: Plan, progress: Progress, *, stream="residual", pairs=None, probabilities=False
    ) -> Iterator[tuple[str, LoadedModel, list[Trace]]]:
        """Each checkpoint's name, model, and what patching did, by emitted value."""
        for name, loaded, report in self.models(len(plan.rows), progress):
            there = range(1) if stream == "embedding" else range(1, loaded.num_layers + 1)
            layers, positions = chosen_sites(pairs, there, plan.originals.shape[1])
            options = {"stream": stream, "layers": layers, "positions": positions}
            options |= {"probabilities": probabilities, "batch_size": self.settings.batch_size}
            inputs = (plan.originals, plan.sources, plan.wanted)
            yield name, loaded, patch_runs(loaded, *inputs, progress=report, **options)

    def results(self, **content: object) -> dict:
        """A result file's content in the frame that all of them have."""
        recorded = [name for name in _RECORDED if hasattr(self.settings, name)]
        modules = (coverage_principle, torch)
        return {
            "format_version": 1,
            "run": self.path.name,
            "dataset": {
                "name": self.dataset.name,
                "path": relative_to_root(self.dataset.path),
                "sha256": self.dataset.digests,
            },
            "weights": {path.name: folders.weights_of(path) for path in self.checkpoints},
            **({"token_map": self.token_map.about} if self.token_map else {}),
            **content,
            "settings": {name: getattr(self.settings, name) for name in recorded}
            | ({"eval_loops": loops} if (loops := self.settings.eval_loops) else {}),
            # Not the package's own word: it would be imported for nothing else.
            "versions": {m.__name__: m.__version__ for m in modules}
            | {"transformers": version("transformers")},
        }

    def of_cell(self, value: str, keys: Sequence[str], layer: int, position: int) -> dict:
        """What tells whether a cell's number is a finding: ``tokens`` and ``can_be_known``.

        ``value`` is what is read off, which can be so many tokens; ``keys`` what the state at that
        layer and position is asked for (``items.can_be_known``).
        """
        dataset, names = self.dataset, layout_of(self.dataset).names
        known = can_be_known(dataset.graph, names, keys, layer, position)
        return {"tokens": dataset.sizes([value])[0], "can_be_known": known}

    def place(self, name: str) -> Path:
        """``<save_dir>/<name>.json``; ``InputError``, before the work, if it cannot be written.

        With `eval_loops` the name ends by them.
        """
        return check_place(Path(self.settings.save_dir) / f"{name}{self.looped}.json")

    @property
    def looped(self) -> str:
        """The end of names of results by which runs with other `eval_loops` differ."""
        return f"_loops{loops}" if (loops := self.settings.eval_loops) else ""

    def write(
        self, name: str, results: Mapping, arrays: Mapping[str, np.ndarray] | None = None
    ) -> Path:
        """Write ``<save_dir>/<name>.npz`` and ``.json`` together; returns the latter's path."""
        file = self.place(name)
        beside = {} if arrays is None else {file.with_suffix(".npz"): arrays}
        write_together({**beside, file: dump_json(results)})
        return file


def _read(folder: Path) -> Dataset:
    """The data set in a folder; the last one is not read again unless its files changed."""
    return _load(folder, tuple(map(_stamp, sorted(folder.iterdir()))))


def _stamp(file: Path) -> tuple[int, ...]:
    """What tells a file from what it is after a change; nothing of one that is not to be read."""
    try:
        state = file.stat()
    except OSError:  # a link to nothing, or what another process has just taken away
        return ()
    return state.st_ino, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1)
def _load(folder: Path, _stamps: tuple) -> Dataset:
    return load_dataset(folder)


def with_each(
    settings: RunAnalysisSettings, name: str, values: Sequence[str], check: Callable[..., object]
) -> list[RunAnalysisSettings]:
    """The settings of an analysis for each of ``values`` of its setting ``name``.

    ``check(graph, value)`` raises ``InputError`` for a value that the run's task does not have.
    Several are checked before any work, so that none is done where one is refused.
    """
    if len(values) > 1:
        graph = Subject.find(settings).dataset.graph
        for value in values:
            check(graph, value)
    return [replace(settings, **{name: value}) for value in values]


def chosen_sites(
    pairs: Sequence[tuple[int, int]] | None, layers: Sequence[int], positions: int
) -> tuple[list[int], list[int]]:
    """The layers and positions that ``pairs`` name, or all; ``InputError`` if one is not there."""
    if pairs is None:
        return list(layers), list(range(positions))
    for layer, position in pairs:
        if layer not in layers or not 0 <= position < positions:
            there = f"layers {layers[0]} to {layers[-1]} and positions 0 to {positions - 1}"
            raise InputError(f"`pairs` ({layer},{position}) does not exist: there are {there}")
    return sorted({layer for layer, _ in pairs}), sorted({position for _, position in pairs})


def _counter(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(name, done, total)

    return report

"""Causal tracing, same-bridge interchange and logit lens of trained runs, written to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coverage_principle.circuits.checkpoints import find_run, list_checkpoints
from coverage_principle.circuits.counterfactuals import diff_family, family_of
from coverage_principle.circuits.grouping import grouping_of, layout_of, sequences
from coverage_principle.circuits.interchange import (
    SPLIT_PAIRS,
    draw_interchange,
    summarise_interchange,
)
from coverage_principle.circuits.items import union_of
from coverage_principle.circuits.lens import read_lens, summarise_lens
from coverage_principle.circuits.models import (
    READOUTS,
    LoadedModel,
    choose_device,
    open_checkpoint,
)
from coverage_principle.circuits.patching import Trace, patch_runs
from coverage_principle.circuits.runs import about_dataset, dataset_of, splits_of, versions
from coverage_principle.circuits.tracing import Plan, plan_of, plan_tracing, summarise
from coverage_principle.data import Dataset, evaluate, write_arrays, write_json
from coverage_principle.errors import InputError

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Run:
    """A run to analyse: its folder, the checkpoints asked for, its data set and the device."""

    path: Path
    checkpoints: list[Path]
    dataset: Dataset
    device: torch.device

    @classmethod
    def find(cls, model_dir, step_list, data_dir, device: str, task: str | None) -> Run:
        """What the flags name; ``InputError`` for what does not exist or is of another task."""
        path = find_run(model_dir)
        checkpoints = list_checkpoints(path, step_list)
        dataset = dataset_of(path, data_dir, task)
        return cls(path, checkpoints, dataset, choose_device(device))

    def load(self, checkpoint: Path) -> LoadedModel:
        return open_checkpoint(checkpoint, self.dataset.codec, self.device)

    def header(self, **more: object) -> dict:
        """The head of every result file."""
        return {
            "format_version": 1,
            "run": self.path.name,
            "dataset": about_dataset(self.dataset),
            **more,
        }


def trace_run(
    model_dir: str | Path,
    save_dir: str | Path,
    *,
    step_list: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    task: str | None = None,
    function_number: int = 1,
    family: str | None = None,
    label: str | None = None,
    metric: str = "rank",
    stream: str = "residual",
    pairs: Sequence[tuple[int, int]] | None = None,
    k_groups: str | None = None,
    out_of_domain: bool = False,
    every_item: bool = False,
    max_items: int | None = None,
    device: str = "auto",
    batch_size: int = 4096,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[Path, dict]:
    """Causal tracing of a run's checkpoints, written to files.

    The counterfactual family is ``family``, else that of function ``function_number`` (from 1).
    Every checkpoint is given the same originals and counterfactuals. Writes
    ``<save_dir>/<run>_<stream>_<label>_<metric>.json`` (last) and ``.npz`` and returns the JSON
    file's path and its content; ``label`` is the family's name if not given. ``progress`` is told
    the checkpoint, and how many of how many samples are done. ``InputError`` for anything that does
    not exist.
    """
    if metric not in READOUTS:
        raise InputError(f"--metric_type {metric} is not one of {', '.join(READOUTS)}")
    run = Run.find(model_dir, step_list, data_dir, device, task)
    graph = run.dataset.graph
    if family is None:
        grouping_of(graph, function_number)  # refuses a number that does not exist
        chosen = diff_family(graph, function_number - 1)
    else:
        chosen = family_of(graph, family)
    splits = splits_of(
        run.dataset,
        grouping_of(graph, chosen.value),
        k_groups,
        out_of_domain=out_of_domain,
        max_items=max_items,
        every_item=every_item,
    )
    plan = plan_tracing(run.dataset, chosen, splits, seed=seed)
    summaries: dict[str, dict] = {}
    arrays = _plan_arrays(plan)
    layers = 0
    for checkpoint, loaded, traces in _traced(
        run,
        plan,
        progress,
        stream=stream,
        pairs=pairs,
        probabilities=metric == "prob",
        batch_size=batch_size,
    ):
        layers = loaded.num_layers
        summaries[checkpoint] = {
            name: _summary(plan, traces, members, metric, pairs, seed)
            for name, members in plan.members.items()
        }
        for value, found in zip(plan.layout.emitted, traces, strict=True):
            for side in ("before", "source", "after"):
                for readout, values in getattr(found, side).items():
                    arrays[f"{checkpoint}/{value}/{readout}/{side}"] = values
    results = run.header(
        stream=stream,
        family={
            "name": chosen.name,
            "title": chosen.title,
            "changes": chosen.value,
            "slot": chosen.slot,
            "held": list(chosen.held),
        },
        metric=metric,
        num_layers=layers,
        emitted=list(plan.layout.emitted),
        splits=plan.report,
        checkpoints=summaries,
        settings={
            "seed": seed,
            "k_groups": k_groups,
            "max_items": max_items,
            "every_item": every_item,
        },
        versions=versions(),
    )
    file = Path(save_dir) / f"{run.path.name}_{stream}_{label or chosen.name}_{metric}.json"
    write_arrays(file.with_name(f"{file.stem}.npz"), arrays)
    write_json(file, results)
    return file, results


def _summary(plan: Plan, traces: Sequence[Trace], members, metric, pairs, seed) -> dict:
    """The answer's effects, and under ``bridges`` those of the bridges that the model writes."""
    found = {}
    for number, value in enumerate(plan.layout.emitted):
        # A bridge that is the same in both runs cannot move from one to the other.
        differs = plan.wanted[members, number, 0] != plan.wanted[members, number, 1]
        found[value] = summarise(
            traces[number], members[differs], plan.slots, metric=metric, seed=seed
        )
        if pairs is not None:
            found[value]["cells"] = [
                c for c in found[value]["cells"] if (c["layer"], c["position"]) in pairs
            ]
    answer = found.pop(plan.layout.emitted[-1])
    return answer | {"bridges": found} if found else answer


def interchange_run(
    model_dir: str | Path,
    save_dir: str | Path,
    *,
    step_list: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    task: str | None = None,
    value: int | str = 1,
    k_groups: str | None = "none",
    max_items: int | None = None,
    device: str = "auto",
    batch_size: int = 4096,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[Path, dict]:
    """Same-bridge interchange of a run's checkpoints, for every published pair of splits.

    ``value`` is an intermediate value, or the number of its function. Writes
    ``<save_dir>/<run>_residual_same_<value>.json`` and returns its path and content.
    """
    run = Run.find(model_dir, step_list, data_dir, device, task)
    dataset = run.dataset
    grouping = grouping_of(dataset.graph, value)
    splits = splits_of(dataset, grouping, k_groups, out_of_domain=True, max_items=max_items)
    test, plans = dataset.test.inputs, {}
    for first, second in SPLIT_PAIRS:
        rows = splits[first].rows
        drawn = draw_interchange(
            dataset, grouping.name, test[rows], test[splits[second].rows], seed=seed
        )
        if len(drawn.rows):
            name = f"{first}-{second}"
            split = {name: splits[first]}
            plans[name] = plan_of(dataset, rows, {name: np.arange(len(rows))}, split, drawn)
    if not plans:
        raise InputError(f"{dataset.name}: no two test items have the same {grouping.name}")
    summaries: dict[str, dict] = {checkpoint.name: {} for checkpoint in run.checkpoints}
    layers = 0
    for name, plan in plans.items():
        for checkpoint, loaded, traces in _traced(
            run,
            plan,
            progress,
            stream="residual",
            pairs=None,
            probabilities=False,
            batch_size=batch_size,
        ):
            layers = loaded.num_layers
            summaries[checkpoint][name] = summarise_interchange(traces[-1], plan.slots, seed=seed)
    results = run.header(
        stream="residual",
        family={
            "name": f"same_{grouping.name}",
            "holds": grouping.name,
            "changes": list(grouping.fragment),
        },
        num_layers=layers,
        splits={name: plan.report[name] for name, plan in plans.items()},
        checkpoints=summaries,
        settings={"seed": seed, "k_groups": k_groups, "max_items": max_items},
        versions=versions(),
    )
    file = Path(save_dir) / f"{run.path.name}_residual_same_{grouping.name}.json"
    write_json(file, results)
    return file, results


def lens_run(
    model_dir: str | Path,
    save_dir: str | Path,
    *,
    step_list: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    task: str | None = None,
    group_by: int | str = 1,
    pairs: Sequence[tuple[int, int]] | None = None,
    k_groups: str | None = None,
    every_item: bool = False,
    max_items: int | None = None,
    device: str = "auto",
    batch_size: int = 4096,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[Path, dict]:
    """Logit lens of a run's checkpoints: every bridge and the answer, at every layer and position.

    One item is used for each fragment of ``group_by``. Writes ``<save_dir>/<run>.json`` and
    ``.npz`` and returns the JSON file's path and its content.
    """
    run = Run.find(model_dir, step_list, data_dir, device, task)
    dataset, graph = run.dataset, run.dataset.graph
    splits = splits_of(
        dataset,
        grouping_of(graph, group_by),
        k_groups,
        out_of_domain=True,
        max_items=max_items,
        every_item=every_item,
    )
    rows, places = union_of(splits)
    if len(rows) == 0:
        raise InputError(f"{dataset.path / 'test.json'} has no items")
    names, values = layout_of(dataset).names, (*graph.bridges, graph.answer)
    known = evaluate(graph, dataset.tables(), dataset.test.inputs[rows])
    wanted = np.stack([known[value] for value in values], axis=1)
    if (wanted < 0).any():
        raise InputError(f"{dataset.path}: the atomic facts do not give every value of test items")
    arrays = {"test_rows": rows, "wanted": wanted}
    arrays |= {f"member/{name}": place for name, place in places.items()}
    summaries: dict[str, dict] = {}
    num_layers = 0
    for checkpoint in run.checkpoints:
        loaded = run.load(checkpoint)
        num_layers = loaded.num_layers
        layers, positions = chosen_sites(pairs, range(num_layers + 1), len(names) - 1)
        read = read_lens(
            loaded,
            sequences(dataset, rows),
            wanted,
            layers=layers,
            positions=positions,
            batch_size=batch_size,
            progress=_counter(progress, checkpoint.name, len(rows)),
        )
        summaries[checkpoint.name] = {
            name: [
                {
                    "layer": layer,
                    "position": position,
                    "slot": names[position],
                    "value": value,
                    **found[i, j, k],
                }
                for found in [summarise_lens(read, place, values, seed=seed)]
                for i, layer in enumerate(layers)
                for j, position in enumerate(positions)
                for k, value in enumerate(values)
                if pairs is None or (layer, position) in pairs
            ]
            for name, place in places.items()
        }
        arrays |= {f"{checkpoint.name}/{name}": found for name, found in read.items()}
    results = run.header(
        values=list(values),
        num_layers=num_layers,
        splits={
            name: {"types": list(s.types), "items": s.available, "used": len(s.rows)}
            for name, s in splits.items()
        },
        checkpoints=summaries,
        settings={"seed": seed, "k_groups": k_groups, "max_items": max_items},
        versions=versions(),
    )
    file = Path(save_dir) / f"{run.path.name}.json"
    write_arrays(file.with_name(f"{file.stem}.npz"), arrays)
    write_json(file, results)
    return file, results


# --------------------------------------------------------------------------------------- shared


def chosen_sites(
    pairs: Sequence[tuple[int, int]] | None, layers: Sequence[int], positions: int
) -> tuple[list[int], list[int]]:
    """The layers and positions that ``pairs`` name, or all; ``InputError`` if one is not there."""
    if pairs is None:
        return list(layers), list(range(positions))
    for layer, position in pairs:
        if layer not in layers or not 0 <= position < positions:
            raise InputError(
                f"--layer_pos_pairs ({layer},{position}) does not exist: there are layers "
                f"{layers[0]} to {layers[-1]} and positions 0 to {positions - 1}"
            )
    return sorted({layer for layer, _ in pairs}), sorted({position for _, position in pairs})


def _traced(run: Run, plan: Plan, progress: Progress, *, stream, pairs, **options):
    """(checkpoint name, model, its traces) for each checkpoint of the run."""
    for checkpoint in run.checkpoints:
        loaded = run.load(checkpoint)
        top = loaded.num_layers
        there = range(1) if stream == "embedding" else range(1, top + 1)
        layers, positions = chosen_sites(pairs, there, plan.originals.shape[1])
        report = _counter(progress, checkpoint.name, len(plan.rows))
        yield (
            checkpoint.name,
            loaded,
            patch_runs(
                loaded,
                plan.originals,
                plan.sources,
                plan.wanted,
                stream=stream,
                layers=layers,
                positions=positions,
                progress=report,
                **options,
            ),
        )


def _counter(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(name, done, total)

    return report


def _plan_arrays(plan: Plan) -> dict[str, np.ndarray]:
    arrays = {
        "test_rows": plan.rows,
        "originals": plan.originals,
        "sources": plan.sources,
        "wanted": plan.wanted,
    }
    return arrays | {f"member/{name}": members for name, members in plan.members.items()}

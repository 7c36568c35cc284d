"""Whole analyses of trained runs: find the files, measure, write the results.

What the commands in ``circuit_analysis/`` call. The files that they write are described in
docs/circuit_analysis.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers

import coverage_principle
from coverage_principle.circuits.checkpoints import (
    choose_device,
    find_checkpoint,
    find_dataset,
    find_run,
    list_checkpoints,
    load_model,
)
from coverage_principle.circuits.collapse import collapse
from coverage_principle.circuits.counterfactuals import diff_family
from coverage_principle.circuits.items import ItemSplit, item_splits, k_groups_of
from coverage_principle.circuits.patching import READOUTS, trace
from coverage_principle.circuits.states import sites_of
from coverage_principle.circuits.storage import write_arrays
from coverage_principle.circuits.tracing import plan_tracing, summarise
from coverage_principle.data import Dataset, load_dataset, write_json
from coverage_principle.errors import InputError
from coverage_principle.paths import relative_to_root


def _splits(
    dataset: Dataset, function_number: int, k_groups: str | None, **options
) -> dict[str, ItemSplit]:
    count = len(dataset.graph.functions)
    if not 1 <= function_number <= count:
        raise InputError(
            f"--atomic_idx {function_number} does not exist: task {dataset.graph.name} has the "
            f"functions {', '.join(f.name for f in dataset.graph.functions)} (1 to {count})"
        )
    groups, cutoffs = k_groups_of(dataset, k_groups)
    return item_splits(dataset, function_number - 1, k_groups=groups, cutoffs=cutoffs, **options)


def _versions() -> dict[str, str]:
    return {
        "coverage_principle": coverage_principle.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def collapse_run(
    ckpt: str | Path,
    save_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    function_number: int = 1,
    stream: str = "residual",
    k_groups: str | None = None,
    max_items: int | None = None,
    device: str = "auto",
    batch_size: int = 4096,
    seed: int = 0,
    save_vectors: bool = True,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda _done: None,
) -> tuple[Path, dict]:
    """Cosine clustering of one checkpoint, written to files.

    ``pairs`` are (layer, position), None for all; ``function_number`` counts from 1. Writes
    ``metrics.json`` (last) and ``vectors.npz`` to
    ``<save_dir>/<stream>/<data set>/f<function_number>/<checkpoint>/`` and returns that folder and
    the metrics. ``InputError`` for anything that does not exist, and if there are results already
    and ``overwrite`` is false.
    """
    checkpoint = find_checkpoint(ckpt)
    dataset = load_dataset(find_dataset(checkpoint.parent, data_dir))
    graph = dataset.graph
    folder = Path(save_dir) / stream / dataset.name / f"f{function_number}" / checkpoint.name
    splits = _splits(dataset, function_number, k_groups, out_of_domain=True, max_items=max_items)
    if (folder / "metrics.json").exists() and not overwrite:
        raise InputError(
            f"{folder / 'metrics.json'} exists already; give --overwrite or another --save_dir"
        )
    loaded = load_model(checkpoint, dataset.codec, choose_device(device))
    sites = sites_of(stream, loaded.num_layers, len(graph.inputs), pairs)
    cells, arrays = collapse(
        loaded, dataset, sites, splits,
        function_index=function_number - 1, stream=stream, batch_size=batch_size, seed=seed,
        progress=progress,
    )  # fmt: skip
    value = graph.functions[function_number - 1].output
    first = {cell["split"]: cell for cell in cells if cell["position"] == sites[0].position}
    metrics = {
        "format_version": 1,
        "checkpoint": relative_to_root(checkpoint),
        "run": checkpoint.parent.name,
        "dataset": {"name": dataset.name, "path": relative_to_root(dataset.path)},
        "mode": stream,
        "grouped_by": {
            "function": graph.functions[function_number - 1].name,
            "value": value,
            "fragment": list(graph.fragment(value)),
        },
        "num_layers": loaded.num_layers,
        "splits": {
            name: {
                "types": list(split.types),
                "items": split.available,
                "vectors": len(split.rows),
                "groups": first[name]["n_groups"],
            }
            for name, split in splits.items()
        },
        "cells": cells,
        "settings": {"seed": seed, "k_groups": k_groups, "max_items": max_items},
        "versions": _versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)  # never beside vectors of another run
    if save_vectors:
        write_arrays(folder / "vectors.npz", arrays)
    write_json(folder / "metrics.json", metrics)
    return folder, metrics


def trace_run(
    model_dir: str | Path,
    save_dir: str | Path,
    *,
    step_list: Sequence[str] | None = None,
    data_dir: str | Path | None = None,
    function_number: int = 1,
    metric: str = "rank",
    k_groups: str | None = None,
    max_items: int | None = None,
    device: str = "auto",
    batch_size: int = 4096,
    seed: int = 0,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> tuple[Path, dict]:
    """Causal tracing of a run's checkpoints, written to files.

    Every checkpoint is given the same originals and counterfactuals. Writes
    ``<save_dir>/<run>_residual_diff_f<function_number>_<metric>.json`` (last) and ``.npz`` and
    returns the JSON file's path and its content. ``progress`` is told the checkpoint, and how many
    of how many samples are done. ``InputError`` for anything that does not exist.
    """
    if metric not in READOUTS:
        raise InputError(f"--metric_type {metric} is not one of {', '.join(READOUTS)}")
    run = find_run(model_dir)
    checkpoints = list_checkpoints(run, step_list)
    dataset = load_dataset(find_dataset(run, data_dir))
    graph = dataset.graph
    splits = _splits(dataset, function_number, k_groups, out_of_domain=False, max_items=max_items)
    family = diff_family(graph, function_number - 1)
    plan = plan_tracing(dataset, family, splits, seed=seed)
    where = choose_device(device)
    summaries: dict[str, dict] = {}
    arrays = {
        "test_rows": plan.rows, "originals": plan.originals, "sources": plan.sources,
        "answers": plan.answers,
    } | {f"member/{name}": members for name, members in plan.members.items()}  # fmt: skip
    layers = 0
    for checkpoint in checkpoints:
        loaded = load_model(checkpoint, dataset.codec, where)
        layers = loaded.num_layers
        done = 0

        def report(count: int, name: str = checkpoint.name) -> None:
            nonlocal done
            done += count
            progress(name, done, len(plan.rows))

        traced = trace(
            loaded, plan.originals, plan.sources, plan.answers,
            readout=metric, batch_size=batch_size, progress=report,
        )  # fmt: skip
        summaries[checkpoint.name] = {
            name: summarise(traced, members, graph.inputs, seed=seed)
            for name, members in plan.members.items()
        }
        for key in ("before", "source", "after", "answers_original", "answers_source"):
            arrays[f"{checkpoint.name}/{key}"] = getattr(traced, key)
    results = {
        "format_version": 1,
        "run": run.name,
        "dataset": {"name": dataset.name, "path": relative_to_root(dataset.path)},
        "stream": "residual",
        "family": {
            "name": family.name,
            "changes": family.function.output,
            "slot": family.slot,
        },
        "metric": metric,
        "num_layers": layers,
        "splits": plan.report,
        "checkpoints": summaries,
        "settings": {"seed": seed, "k_groups": k_groups, "max_items": max_items},
        "versions": _versions(),
    }
    file = Path(save_dir) / f"{run.name}_residual_{family.name}_{metric}.json"
    write_arrays(file.with_suffix(".npz"), arrays)
    write_json(file, results)
    return file, results

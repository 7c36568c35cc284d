"""Cosine clustering of a trained run, written to files; and what all analyses of runs share.

What the commands in ``circuit_analysis/`` call. The files that they write are described in
docs/circuit_analysis.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers

import coverage_principle
from coverage_principle.circuits.checkpoints import find_checkpoint, find_dataset
from coverage_principle.circuits.collapse import cluster_states
from coverage_principle.circuits.grouping import Grouping, grouping_of, layout_of
from coverage_principle.circuits.items import ItemSplit, item_splits, k_groups_of
from coverage_principle.circuits.models import open_checkpoint
from coverage_principle.circuits.published import write_dedup_files
from coverage_principle.circuits.states import Site, sites_of
from coverage_principle.data import Dataset, load_dataset, write_arrays, write_json
from coverage_principle.errors import InputError
from coverage_principle.paths import relative_to_root

#: How vectors are written: ``none`` for not at all.
VECTOR_FORMATS = ("npz", "safetensors", "none")


def splits_of(
    dataset: Dataset,
    grouping: Grouping,
    k_groups: str | None,
    *,
    out_of_domain: bool,
    max_items: int | None,
    every_item: bool = False,
) -> dict[str, ItemSplit]:
    """The items of an analysis; with ``every_item`` not only the first of each fragment."""
    groups, cutoffs = k_groups_of(dataset, k_groups)
    if every_item:
        grouping = replace(grouping, fragment=dataset.graph.inputs)
    return item_splits(
        dataset,
        grouping,
        k_groups=groups,
        cutoffs=cutoffs,
        out_of_domain=out_of_domain,
        max_items=max_items,
    )


def dataset_of(run: Path, data_dir: str | Path | None, task: str | None) -> Dataset:
    """The data set of a run; ``InputError`` if it is of another task than ``task`` (None: any)."""
    dataset = load_dataset(find_dataset(run, data_dir))
    if task not in (None, dataset.graph.name):
        raise InputError(
            f"this command is for the task {task}, but {dataset.name} holds "
            f"{dataset.graph.name}; circuit_analysis/trace.py, cluster.py and lens.py take any task"
        )
    return dataset


def versions() -> dict[str, str]:
    """Of the libraries that numbers depend on."""
    return {
        "coverage_principle": coverage_principle.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def about_dataset(dataset: Dataset) -> dict[str, str]:
    """How a result file names its data set."""
    return {"name": dataset.name, "path": relative_to_root(dataset.path)}


def collapse_run(
    ckpt: str | Path,
    save_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    pairs: Sequence[tuple[int | str, int]] | None = None,
    group_by: int | str = 1,
    label: str | None = None,
    task: str | None = None,
    stream: str = "residual",
    k_groups: str | None = None,
    max_items: int | None = None,
    every_item: bool = False,
    device: str = "auto",
    batch_size: int = 4096,
    permutations: int = 20,
    seed: int = 0,
    vectors: str = "npz",
    published_files: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], object] = lambda _done: None,
) -> tuple[Path, dict]:
    """Cosine clustering of one checkpoint, written to files.

    ``pairs`` are (layer, position), None for all; the layers ``logit`` and ``prob`` mean those
    streams. ``group_by`` is a function counted from 1, or keys such as ``"b,x2"``; ``label`` names
    the grouping in the folder (``f1`` or the keys if not given). Writes ``metrics.json`` (last) and
    ``vectors.npz`` or ``.safetensors`` to ``<save_dir>/<stream>/<data set>/<label>/<checkpoint>/``
    and returns that folder and the metrics; with ``published_files`` also the published JSON files
    of every site (``write_dedup_files``). ``InputError`` for anything that does not exist, for
    data of another task than ``task`` (None: any), and if there are results already and
    ``overwrite`` is false.
    """
    if vectors not in VECTOR_FORMATS:
        raise InputError(f"--vectors {vectors} is not one of {', '.join(VECTOR_FORMATS)}")
    checkpoint = find_checkpoint(ckpt)
    dataset = dataset_of(checkpoint.parent, data_dir, task)
    grouping = grouping_of(dataset.graph, group_by)
    label = label or (f"f{group_by}" if isinstance(group_by, int) else grouping.name)
    stream, pairs = _named_streams(stream, pairs)
    parent = Path(save_dir) / stream / dataset.name / label
    folder = parent / checkpoint.name
    splits = splits_of(
        dataset, grouping, k_groups, out_of_domain=True, max_items=max_items, every_item=every_item
    )
    if (folder / "metrics.json").exists() and not overwrite:
        raise InputError(
            f"{folder / 'metrics.json'} exists already; give --overwrite or another --save_dir"
        )
    loaded = open_checkpoint(checkpoint, dataset.codec, device)
    names = layout_of(dataset).names
    sites = _sites(stream, loaded.num_layers, names, pairs)
    cells, arrays = cluster_states(
        loaded,
        dataset,
        sites,
        splits,
        grouping=grouping,
        stream=stream,
        batch_size=batch_size,
        permutations=permutations,
        seed=seed,
        progress=progress,
    )
    first = {cell["split"]: cell for cell in cells if cell["position"] == sites[0].position}
    functions = [f.name for f in dataset.graph.functions if f.output in grouping.keys]
    metrics = {
        "format_version": 1,
        "checkpoint": relative_to_root(checkpoint),
        "run": checkpoint.parent.name,
        "dataset": about_dataset(dataset),
        "mode": stream,
        "grouped_by": {
            "function": ",".join(functions),
            "value": grouping.name,
            "fragment": list(grouping.fragment),
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
        "settings": {
            "seed": seed,
            "k_groups": k_groups,
            "max_items": max_items,
            "every_item": every_item,
            "permutations": permutations,
        },
        "versions": versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)  # never beside vectors of another run
    if vectors != "none":
        write_arrays(folder / f"vectors.{vectors}", arrays)
    if published_files:
        write_dedup_files(parent, checkpoint.name, dataset, sites, list(splits), arrays)
    write_json(folder / "metrics.json", metrics)
    return folder, metrics


def _named_streams(
    stream: str, pairs: Sequence[tuple[int | str, int]] | None
) -> tuple[str, list[tuple[int | str, int]] | None]:
    """The published ``("logit", 2)`` as a stream of its own."""
    named = {layer for layer, _ in pairs or () if isinstance(layer, str)}
    if not named:
        return stream, None if pairs is None else list(pairs)
    if len({str(layer) if layer in named else "a number" for layer, _ in pairs}) > 1:
        raise InputError("--layer_pos_pairs: logit, prob and numbered layers cannot be mixed")
    return named.pop(), [("last", position) for _, position in pairs]


def _sites(
    stream: str,
    num_layers: int,
    names: Sequence[str],
    pairs: Sequence[tuple[int | str, int]] | None,
) -> list[Site]:
    if pairs is not None:
        pairs = [(num_layers if layer == "last" else layer, place) for layer, place in pairs]
    # All positions but the answer's own: what comes after it is only the end.
    return sites_of(stream, num_layers, len(names), pairs, default_positions=len(names) - 1)

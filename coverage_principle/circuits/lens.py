"""Logit lens: what each hidden state would answer if the model stopped there.

The final layer norm is applied exactly once, to the residual stream of every layer, the last one
included (the published script normed the last layer twice), and then the output matrix. The numbers
that are read off are the entries of ``metrics.LENS_READOUTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from coverage_principle.circuits.analysis import Progress, Subject, chosen_sites
from coverage_principle.circuits.bootstrap import Bootstrap
from coverage_principle.circuits.items import grouping_of, layout_of, sequences, union_of
from coverage_principle.circuits.metrics import LENS_READOUTS, LensReadout
from coverage_principle.circuits.models import READOUTS, LoadedModel
from coverage_principle.circuits.settings import LensSettings
from coverage_principle.errors import InputError
from coverage_principle.statistics import median_interval, wilson_interval


def run_lens(settings: LensSettings, *, progress: Progress = lambda *_: None) -> tuple[Path, dict]:
    """Logit lens of a run's checkpoints: every bridge and the answer, at every layer and position.

    One item is used for each fragment of ``group_by``. Writes ``<save_dir>/<run>.json`` (last) and
    ``.npz`` and returns the JSON file's path and its content; the name ends with ``_by_<value>`` if
    ``group_by`` is not the first function's value.
    """
    subject = Subject.find(settings)
    dataset, graph = subject.dataset, subject.dataset.graph
    grouping, name = grouping_of(graph, settings.group_by), subject.path.name
    if grouping.name != graph.functions[0].output:
        name += f"_by_{grouping.name}"
    subject.place(name)
    splits = subject.splits(grouping)
    rows, places = union_of(splits)
    if len(rows) == 0:
        raise InputError(f"{dataset.path / 'test.json'} has no items")
    names, values = layout_of(dataset).names, (*graph.bridges, graph.answer)
    known = dataset.values(dataset.test.inputs[rows], dataset.test.answers[rows])
    wanted = np.stack([known[value] for value in values], axis=1)
    if (wanted < 0).any():
        raise InputError(f"{dataset.path}: the atomic facts do not give every value of test items")
    wanted = dataset.ids(wanted, values)
    arrays = {"test_rows": rows, "wanted": wanted}
    arrays |= {f"member/{name}": place for name, place in places.items()}
    summaries, tokens = {}, sequences(dataset, rows)
    for checkpoint, loaded, report in subject.models(len(rows), progress):
        there = range(loaded.num_layers + 1)
        layers, positions = chosen_sites(settings.pairs, there, len(names) - 1)
        options = {"batch_size": settings.batch_size, "progress": report}
        read = read_lens(loaded, tokens, wanted, layers=layers, positions=positions, **options)
        summaries[checkpoint] = {
            split: [
                {"layer": layer, "position": position, "slot": names[position], "value": value}
                | loaded.network.place_of(layer)
                | subject.of_cell(value, (value,), layer, position)
                | found[i, j, k]
                for found in [summarise_lens(read, place, seed=settings.seed)]
                for i, layer in enumerate(layers)
                for j, position in enumerate(positions)
                for k, value in enumerate(values)
                if settings.pairs is None or (layer, position) in settings.pairs
            ]
            for split, place in places.items()
        }
        arrays |= {f"{checkpoint}/{name}": found for name, found in read.items()}
    results = subject.results(
        values=list(values),
        **loaded.depth,
        splits={name: split.about(used=len(split.rows)) for name, split in splits.items()},
        checkpoints=summaries,
    )
    return subject.write(name, results, arrays), results


def read_lens(
    loaded: LoadedModel,
    tokens: np.ndarray,
    wanted: np.ndarray,
    *,
    layers: Sequence[int],
    positions: Sequence[int],
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> dict[str, np.ndarray]:
    """Rank and probability of some values at every layer and position.

    ``tokens`` is (n, T), ``wanted`` (n, values), both data-set ids. Returns ``rank`` int32, the
    number of data-set tokens with a strictly greater logit, so 0 is best, and ``prob`` float32, a
    softmax over all outputs; each ``(layers, positions, n, values)``.
    """
    shape = (len(layers), len(positions), *wanted.shape)
    found = {name: np.zeros(shape, READOUTS[name].dtype) for name in ("rank", "prob")}
    # A state sees no later position, so what follows the last one is not run.
    tokens = tokens[:, : max(positions) + 1]
    for begin in range(0, len(tokens), batch_size):
        rows = slice(begin, begin + batch_size)
        states = loaded.run(tokens[rows], [("residual", layer) for layer in layers])
        values = torch.as_tensor(wanted[rows], dtype=torch.int64, device=loaded.device)
        for i, layer in enumerate(layers):
            for j, position in enumerate(positions):
                read = loaded.read(states["residual", layer][:, position], values, tuple(found))
                for name, numbers in read.items():
                    found[name][i, j, rows] = numbers
        progress(len(values))
    return found


def summarise_lens(read: Mapping[str, np.ndarray], members: np.ndarray, *, seed: int) -> np.ndarray:
    """The numbers of each layer, position and value over the items ``members``.

    An object array (layers, positions, values) of dictionaries: ``n`` and every entry of
    ``LENS_READOUTS``, with its 95 % interval over items where it has one (see ``LensReadout``).
    Without items everything but ``n`` is None.
    """
    ranks, probs = read["rank"][:, :, members], read["prob"][:, :, members]
    count, (layers, positions, _, values) = len(members), ranks.shape
    result = np.empty((layers, positions, values), dtype=object)
    result.flat = [{"n": count} for _ in range(result.size)]
    bootstrap = Bootstrap(count, np.random.default_rng(seed))
    for name, readout in LENS_READOUTS.items():
        items = np.moveaxis(readout.of_items(ranks, probs), 2, -1).reshape(result.size, count)
        ends = _intervals(items, bootstrap, readout) if readout.interval else [None] * result.size
        for cell, own, interval in zip(result.flat, items, ends, strict=True):
            middle = np.median if readout.median else np.mean
            cell[name] = float(middle(own)) if count else None
            if readout.interval:
                cell[readout.interval] = interval
    return result


def _intervals(items: np.ndarray, bootstrap: Bootstrap, readout: LensReadout) -> list:
    """For each row of ``items`` (rows, n) both ends of the interval of the readout's number."""
    if readout.median:
        return [ends and list(ends) for ends in map(median_interval, items)]
    if items.dtype == bool and bootstrap.n:
        return [list(wilson_interval(int(row.sum()), bootstrap.n)) for row in items]
    return bootstrap.intervals(items)

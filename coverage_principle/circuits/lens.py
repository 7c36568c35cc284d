"""Logit lens: what each hidden state would answer if the model stopped there.

The final layer norm is applied exactly once, to the residual stream of every layer, the last one
included (the published script normed the last layer twice), and then the output matrix. The numbers
that are read off are the entries of ``metrics.LENS_READOUTS``. The tuned lens (``tuned``) reads the
same off states that an affine map of their layer has first made into final ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from coverage_principle.circuits.analysis import Progress, Subject, chosen_sites
from coverage_principle.circuits.bootstrap import Bootstrap
from coverage_principle.circuits.items import grouping_of, layout_of, sequences, union_of
from coverage_principle.circuits.metrics import LENS_READOUTS, LENSES, LensReadout
from coverage_principle.circuits.models import READOUTS, LoadedModel
from coverage_principle.circuits.settings import LensSettings
from coverage_principle.circuits.tuned import TunedLens, divergence, tune_lens
from coverage_principle.errors import InputError
from coverage_principle.statistics import median_interval, wilson_interval

#: What is read of each state.
_NUMBERS = ("rank", "prob")


def run_lens(settings: LensSettings, *, progress: Progress = lambda *_: None) -> tuple[Path, dict]:
    """Logit lens of a run's checkpoints: every bridge and the answer, at every layer and position.

    One item is used for each fragment of ``group_by``. Writes ``<save_dir>/<run>.json`` (last) and
    ``.npz`` and returns the JSON file's path and its content; the name ends with ``_by_<value>`` if
    ``group_by`` is not the first function's value. With ``tuned`` both also have what the tuned
    lens reads, and how far each of the two lenses is from the model's own output.
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
    tuned: dict[str, dict] = {"training": {}, "checkpoints": {}, "divergence": {}}
    for checkpoint, loaded, report in subject.models(len(rows), progress):
        there = range(loaded.num_layers + 1)
        layers, positions = chosen_sites(settings.pairs, there, len(names) - 1)
        options = {"batch_size": settings.batch_size}
        if settings.tuned:
            lens = tune_lens(loaded, dataset, grouping, seed=settings.seed, **options)
            tuned["training"][checkpoint], options["tuned"] = lens.about, lens
            arrays |= {f"{checkpoint}/tuned/{name}": part for name, part in lens.arrays.items()}
        options |= {"layers": layers, "positions": positions, "progress": report}
        read = read_lens(loaded, tokens, wanted, **options)
        arrays |= {f"{checkpoint}/{name}": found for name, found in read.items()}
        sites = [
            (place, {"layer": layer, "position": position, "slot": names[position]})
            for place, (layer, position) in zip(
                np.ndindex(len(layers), len(positions)), product(layers, positions), strict=True
            )
            if settings.pairs is None or (layer, position) in settings.pairs
        ]
        laid = partial(_value_cells, subject, loaded, sites, values)
        summaries[checkpoint] = {split: laid(read, own) for split, own in places.items()}
        if settings.tuned:
            second = {name: read[f"tuned/{name}"] for name in _NUMBERS}
            tuned["checkpoints"][checkpoint] = {s: laid(second, own) for s, own in places.items()}
            tuned["divergence"][checkpoint] = {
                split: _divergence_cells(loaded, sites, read, own, seed=settings.seed)
                for split, own in places.items()
            }
    results = subject.results(
        values=list(values),
        **loaded.depth,
        splits={name: split.about(used=len(split.rows)) for name, split in splits.items()},
        checkpoints=summaries,
        **({"tuned": tuned} if settings.tuned else {}),
    )
    return subject.write(name, results, arrays), results


def _value_cells(subject, loaded, sites, values, read, members) -> list[dict]:
    """The readouts of each site and value over the items ``members``, as a file has them."""
    found = summarise_lens(read, members, seed=subject.settings.seed)
    return [
        {**about, "value": value}
        | loaded.network.place_of(about["layer"])
        | subject.of_cell(value, (value,), about["layer"], about["position"])
        | found[*place, k]
        for place, about in sites
        for k, value in enumerate(values)
    ]


def _divergence_cells(loaded, sites, read, members, *, seed: int) -> list[dict]:
    """For each lens and site how far it is from the model's output, over the items ``members``."""
    bootstrap = Bootstrap(len(members), np.random.default_rng(seed))
    return [
        {"lens": lens, **about}
        | loaded.network.place_of(about["layer"])
        | {"n": len(members), "divergence": found}
        for lens, name in LENSES.items()
        for numbers in [np.stack([read[name][place][members] for place, _ in sites])]
        for (_, about), found in zip(sites, bootstrap.means(numbers), strict=True)
    ]


def read_lens(
    loaded: LoadedModel,
    tokens: np.ndarray,
    wanted: np.ndarray,
    *,
    layers: Sequence[int],
    positions: Sequence[int],
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
    tuned: TunedLens | None = None,
) -> dict[str, np.ndarray]:
    """Rank and probability of some values at every layer and position.

    ``tokens`` is (n, T), ``wanted`` (n, values), both data-set ids. Returns ``rank`` int32, the
    number of data-set tokens with a strictly greater logit, so 0 is best, and ``prob`` float32, a
    softmax over all outputs; each ``(layers, positions, n, values)``.

    With a ``tuned`` lens also ``tuned/rank`` and ``tuned/prob``, which it reads, the latter a
    softmax over the data set's tokens, as it was trained; and ``divergence`` and
    ``tuned/divergence`` float32 ``(layers, positions, n)``: how far (``tuned.divergence``) what
    either lens reads is from the model's output at the same position.
    """
    shape = (len(layers), len(positions), *wanted.shape)
    lenses = {"": None} | ({} if tuned is None else {"tuned/": tuned})
    found = {f"{of}{n}": np.zeros(shape, READOUTS[n].dtype) for of in lenses for n in _NUMBERS}
    if tuned is not None:
        found |= {name: np.zeros(shape[:3], np.float32) for name in LENSES.values()}
    # A state sees no later position, so what follows the last one is not run.
    tokens, last = tokens[:, : max(positions) + 1], ("residual", loaded.num_layers)
    keep = {("residual", layer) for layer in layers} | ({last} if tuned is not None else set())
    for begin in range(0, len(tokens), batch_size):
        rows = slice(begin, begin + batch_size)
        states = loaded.run(tokens[rows], keep)
        values = torch.as_tensor(wanted[rows], dtype=torch.int64, device=loaded.device)
        for (i, layer), (j, position) in product(enumerate(layers), enumerate(positions)):
            state = states["residual", layer][:, position]
            for name, numbers in loaded.read(state, values, _NUMBERS).items():
                found[name][i, j, rows] = numbers
            if tuned is not None:
                final = states[last][:, position]
                moved = tuned.translate(layer, state)
                for name, numbers in loaded.read(moved, values, _NUMBERS, among=True).items():
                    found[f"tuned/{name}"][i, j, rows] = numbers
                for name, one in zip(LENSES.values(), (state, moved), strict=True):
                    found[name][i, j, rows] = divergence(loaded, final, one).cpu().numpy()
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

"""Cosine clustering of hidden states by the value of one primitive function, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from coverage_principle.circuits.checkpoints import LoadedModel
from coverage_principle.circuits.items import ItemSplit, union_of
from coverage_principle.circuits.similarity import similarity
from coverage_principle.circuits.states import Site, collect_states
from coverage_principle.data import Dataset, evaluate
from coverage_principle.errors import InputError


def collapse(
    loaded: LoadedModel,
    dataset: Dataset,
    sites: Sequence[Site],
    splits: Mapping[str, ItemSplit],
    *,
    function_index: int,
    stream: str = "residual",
    batch_size: int = 4096,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _done: None,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Group the splits' items by the function's value and measure every site.

    Returns the cells, one for each site and split (``layer``, ``after_ln_f``, ``position``,
    ``slot``, ``split`` and what ``similarity`` returns), and the arrays behind them: ``test_rows``
    (n,), ``inputs`` (n, slots), ``groups`` (n,), ``member/<split>`` (n,) bool, and
    ``state/<site key>`` (n, width). ``progress`` is told of each finished site.
    """
    graph = dataset.graph
    value = graph.functions[function_index].output
    rows, places = union_of(splits)
    if len(rows) == 0:
        raise InputError(f"{dataset.path / 'test.json'} has no items to group")
    inputs = dataset.test.inputs[rows]
    groups = evaluate(graph, dataset.tables(), inputs)[value]
    unknown = int((groups < 0).sum())
    if unknown:
        raise InputError(
            f"{dataset.path}: the atomic facts do not give {value!r} of {unknown} test items"
        )
    states = collect_states(loaded, inputs, sites, stream=stream, batch_size=batch_size)
    cells = []
    for site in sites:
        for name, place in places.items():
            cells.append(
                {
                    "layer": site.layer,
                    "after_ln_f": site.after_ln_f,
                    "position": site.position,
                    "slot": graph.inputs[site.position],
                    "split": name,
                    **similarity(
                        states[site][place], groups[place], rng=np.random.default_rng(seed)
                    ),
                }
            )
        progress(1)
    arrays = {"test_rows": rows, "inputs": inputs, "groups": groups}
    for name, place in places.items():
        arrays[f"member/{name}"] = np.isin(np.arange(len(rows)), place)
    arrays |= {f"state/{site.key}": state for site, state in states.items()}
    return cells, arrays

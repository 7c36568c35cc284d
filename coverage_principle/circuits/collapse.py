"""Cosine clustering of hidden states by a value of the computation, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from coverage_principle.circuits.grouping import Grouping, layout_of, sequences
from coverage_principle.circuits.items import ItemSplit, union_of
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.similarity import measure_similarity
from coverage_principle.circuits.states import Site, collect_states
from coverage_principle.data import Dataset
from coverage_principle.errors import InputError


def cluster_states(
    loaded: LoadedModel,
    dataset: Dataset,
    sites: Sequence[Site],
    splits: Mapping[str, ItemSplit],
    *,
    grouping: Grouping,
    stream: str = "residual",
    batch_size: int = 4096,
    permutations: int = 0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _done: None,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Group the splits' items and measure every site.

    The model is fed each item's whole target (teacher-forced), so positions after the inputs are
    its bridges, filler or answer. Returns the cells, one for each site and split (``layer``,
    ``after_ln_f``, ``position``, ``slot``, ``split`` and what ``measure_similarity`` returns), and
    the arrays behind them: ``test_rows`` (n,), ``inputs`` (n, slots), ``groups`` (n,),
    ``member/<split>`` (n,) bool, and ``state/<site key>`` (n, width). ``progress`` is told of each
    finished site.
    """
    rows, places = union_of(splits)
    if len(rows) == 0:
        raise InputError(f"{dataset.path / 'test.json'} has no items to group")
    inputs = dataset.test.inputs[rows]
    groups = grouping.codes(dataset, inputs)
    names = layout_of(dataset).names
    states = collect_states(
        loaded, sequences(dataset, rows), sites, stream=stream, batch_size=batch_size
    )
    cells = []
    for site in sites:
        for name, place in places.items():
            measured = measure_similarity(
                states[site][place],
                groups[place],
                rng=np.random.default_rng(seed),
                permutations=permutations,
            )
            cells.append(
                {
                    "layer": site.layer,
                    "after_ln_f": site.after_ln_f,
                    "position": site.position,
                    "slot": names[site.position],
                    "split": name,
                    **measured,
                }
            )
        progress(1)
    arrays = {"test_rows": rows, "inputs": inputs, "groups": groups}
    for name, place in places.items():
        arrays[f"member/{name}"] = np.isin(np.arange(len(rows)), place)
    arrays |= {f"state/{site.key}": state for site, state in states.items()}
    return cells, arrays

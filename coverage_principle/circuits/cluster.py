"""Cosine clustering (IICG): do states with the same value of the computation come together?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coverage_principle.circuits import items
from coverage_principle.circuits.analysis import Subject
from coverage_principle.circuits.measure import as_bytes, write_dedup_files
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.settings import ClusterSettings
from coverage_principle.circuits.similarity import measure_similarity
from coverage_principle.circuits.states import Site, collect_states, sites_of
from coverage_principle.data import Dataset, dump_json, one_writer, write_together
from coverage_principle.errors import InputError
from coverage_principle.paths import relative_to_root

#: The file of a clustering that is written last.
RESULT = "metrics.json"
Pairs = Sequence[tuple[int | str, int]] | None


def run_cluster(
    settings: ClusterSettings, *, progress: Callable[[int], object] = lambda _done: None
) -> tuple[Path, dict]:
    """Cosine clustering of the one checkpoint that is named, written to files.

    Writes ``metrics.json`` (last) and ``vectors.npz`` or ``.safetensors`` to
    ``<save_dir>/<stream>/<data set>/<label>/<checkpoint>/`` and returns that folder and the
    metrics; ``label`` is ``f1`` or the keys if not given. With ``published_files`` also the
    published JSON files of every site (``write_dedup_files``). ``InputError`` for anything that
    does not exist, for several checkpoints (see ``each_clustering``), and if there are results
    already and ``overwrite`` is false.
    """
    subject = Subject.find(settings)
    if len(subject.checkpoints) > 1:
        held = ", ".join(path.name for path in subject.checkpoints)
        one = "one is clustered at a time: give a `ckpt`, or one of them as `step_list`"
        raise InputError(f"`model_dir` {subject.path} has {held}; {one}")
    (checkpoint,), dataset = subject.checkpoints, subject.dataset
    grouping = items.grouping_of(dataset.graph, settings.group_by)
    stream, pairs = _named_streams(settings.stream, settings.pairs)
    folder = _folder(settings, subject)
    splits = subject.splits(grouping)
    target = folder / RESULT
    with one_writer(folder, "clustering", "save_dir"):
        _refuse_results(settings, subject)
        loaded = subject.load(checkpoint)
        sites = _sites(stream, loaded.num_layers, items.layout_of(dataset).names, pairs)
        own = ("batch_size", "permutations", "seed")
        options = {"grouping": grouping, "stream": stream, "progress": progress}
        options |= {name: getattr(settings, name) for name in own}
        cells, arrays = cluster_states(loaded, dataset, sites, splits, **options)
        groups = {cell["split"]: cell["n_groups"] for cell in cells}
        functions = ",".join(f.name for f in dataset.graph.functions if f.output in grouping.keys)
        grouped_by = {"function": functions, "value": grouping.name}
        metrics = subject.results(
            checkpoint=relative_to_root(checkpoint),
            mode=stream,
            grouped_by={**grouped_by, "fragment": list(grouping.fragment)},
            **loaded.depth,
            splits={
                name: split.about(vectors=len(split.rows), groups=groups[name])
                for name, split in splits.items()
            },
            cells=cells,
        )
        if settings.published_files:
            target.unlink(missing_ok=True)  # never beside files of another run
            write_dedup_files(folder.parent, checkpoint.name, dataset, sites, list(splits), arrays)
        vectors = {folder / f"vectors.{settings.vectors}": arrays}
        beside = vectors if settings.vectors != "none" else {}
        write_together({**beside, target: dump_json(metrics)})
        return folder, metrics


def each_clustering(settings: ClusterSettings, group_by: Sequence[str]) -> list[ClusterSettings]:
    """The settings of ``run_cluster`` for each checkpoint that is named, and each grouping of it.

    ``InputError``, before any work, for what any of them would be refused for.
    """
    subject = Subject.find(settings)
    each = [
        replace(settings, ckpt=checkpoint, model_dir=None, step_list=None, group_by=key)
        for checkpoint in subject.checkpoints
        for key in group_by
    ]
    for one in each:
        _refuse_results(one, replace(subject, checkpoints=[Path(one.ckpt)]))
    return each


def _folder(settings: ClusterSettings, subject: Subject) -> Path:
    """Where the results of the subject's one checkpoint go."""
    key = str(settings.group_by)
    grouping = items.grouping_of(subject.dataset.graph, key)
    label = settings.label or (f"f{key}" if key.isdecimal() else grouping.name)
    label += subject.looped
    stream, _ = _named_streams(settings.stream, settings.pairs)
    (checkpoint,) = subject.checkpoints
    return Path(settings.save_dir) / stream / subject.dataset.name / label / checkpoint.name


def _refuse_results(settings: ClusterSettings, subject: Subject) -> None:
    """``InputError`` if there are results that are not to be replaced."""
    target = _folder(settings, subject) / RESULT
    if target.exists() and not settings.overwrite:
        raise InputError(f"{target} exists already; give `overwrite` or another `save_dir`")


def cluster_states(
    loaded: LoadedModel,
    dataset: Dataset,
    sites: Sequence[Site],
    splits: Mapping[str, items.ItemSplit],
    *,
    grouping: items.Grouping,
    stream: str = "residual",
    batch_size: int = 4096,
    permutations: int = 0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _done: None,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Group the splits' items and measure every site.

    The model is fed each item's whole target (teacher-forced), so positions after the inputs are
    its bridges, filler or answer. Returns the cells, one for each site and split (``layer``,
    ``after_ln_f``, ``position``, ``slot``, ``split``, ``can_be_known`` (``items.can_be_known``) and
    what ``measure_similarity`` returns), and
    the arrays behind them: ``test_rows`` (n,), ``inputs`` (n, slots), ``texts``
    (``measure.as_bytes``), ``groups`` (n,), ``member/<split>`` (n,) bool, and ``state/<site key>``
    (n, width). ``progress`` is called with 1
    for each finished site.
    """
    rows, places = items.union_of(splits)
    if len(rows) == 0:
        raise InputError(f"{dataset.path / 'test.json'} has no items to group")
    inputs = dataset.test.inputs[rows]
    groups = grouping.codes(dataset, inputs, dataset.test.answers[rows])
    names, tokens = items.layout_of(dataset).names, items.sequences(dataset, rows)
    states = collect_states(loaded, tokens, sites, stream=stream, batch_size=batch_size)
    cells = []
    for site in sites:
        for name, place in places.items():
            rng, own = np.random.default_rng(seed), states[site][place]
            cell = {"layer": site.layer, "after_ln_f": site.after_ln_f, "position": site.position}
            cell |= {"slot": names[site.position], "split": name}
            cell |= loaded.network.place_of(site.layer)
            where = names, grouping.keys, site.layer, site.position
            cell["can_be_known"] = items.can_be_known(dataset.graph, *where)
            cell |= measure_similarity(own, groups[place], rng=rng, permutations=permutations)
            cells.append(cell)
        progress(1)
    texts = [dataset.test.records[row]["input_text"] for row in rows.tolist()]
    arrays = {"test_rows": rows, "inputs": inputs, "texts": as_bytes(texts), "groups": groups}
    for name, place in places.items():
        arrays[f"member/{name}"] = np.isin(np.arange(len(rows)), place)
    arrays |= {f"state/{site.key}": state for site, state in states.items()}
    return cells, arrays


def _named_streams(stream: str, pairs: Pairs) -> tuple[str, Pairs]:
    """The published ``("logit", 2)`` as a stream of its own."""
    named = {layer for layer, _ in pairs or () if isinstance(layer, str)}
    if not named:
        return stream, pairs
    if len({str(layer) if layer in named else "a number" for layer, _ in pairs}) > 1:
        raise InputError("`pairs`: logit, prob and numbered layers cannot be mixed")
    return named.pop(), [("last", position) for _, position in pairs]


def _sites(stream: str, num_layers: int, names: Sequence[str], pairs: Pairs) -> list[Site]:
    if pairs is not None:
        pairs = [(num_layers if layer == "last" else layer, place) for layer, place in pairs]
    # All positions but the answer's own: what comes after it is only the end.
    return sites_of(stream, num_layers, len(names), pairs, default_positions=len(names) - 1)

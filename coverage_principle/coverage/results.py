"""The files of a coverage result; ``docs/coverage.md`` has them field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from coverage_principle.coverage.dataset import Coverage
from coverage_principle.data import annotated_records, write_json, write_text
from coverage_principle.errors import InputError

#: Letters of a file name that slot sets may take; a file system allows 255 for the whole name.
_MOST_LETTERS = 100


def result_name(coverage: Coverage) -> str:
    """What the names of a result's files begin with."""
    return coverage.dataset.name + _suffix(coverage)


def write_annotated(coverage: Coverage) -> Path:
    """Write the annotated test records beside ``test.json`` (``Coverage.annotated``).

    Without a k-sweep, k-cutoffs that an earlier sweep wrote for these test items are kept.
    """
    path = coverage.dataset.path / f"test_annotated{_suffix(coverage)}.json"
    records = coverage.annotated()
    if not coverage.settings.k_sweep:
        for record, before in zip(records, _annotated_before(coverage, path.name), strict=False):
            if "k_cutoff" in before:
                record["k_cutoff"] = before["k_cutoff"]
    write_json(path, records, one_per_line=True)
    return path


def _annotated_before(coverage: Coverage, name: str) -> list[dict]:
    """What stands in the file that is about to be replaced, if it is about the same items."""
    try:
        return annotated_records(coverage.dataset, name)
    except InputError:
        return []


def write_sweep(coverage: Coverage, diagnostics: Mapping, folder: Path) -> tuple[Path, Path]:
    """Write the k-sweep and its diagnostics into ``folder``: their two paths."""
    sweep = folder / f"{result_name(coverage)}.json"
    write_json(sweep, coverage.sweep())
    notes = folder / f"{result_name(coverage)}_diagnostics.json"
    write_json(notes, diagnostics)
    return sweep, notes


def write_graph(coverage: Coverage, path: Path) -> Path:
    """Write the substitution graph at ``min_evidence`` as GraphML (``Coverage.to_networkx``)."""
    from networkx import generate_graphml

    graph = coverage.to_networkx(coverage.settings.min_evidence)
    write_text(path, "\n".join(generate_graphml(graph)) + "\n")
    return path


def _suffix(coverage: Coverage) -> str:
    """What tells a result apart from that of a plain run on the same data set."""
    suffix = coverage.scope.suffix
    if coverage.settings.ground_truth:
        suffix += "_ground-truth"
    if coverage.restricted:
        names = "+".join("".join(slot_set.slots) for slot_set in coverage.slot_sets)
        if len(names) > _MOST_LETTERS:
            digest = hashlib.sha256(names.encode()).hexdigest()[:8]
            names = f"{len(coverage.slot_sets)}-slot-sets-{digest}"
        suffix += f"_{names}"
    return suffix

"""The files of a coverage result; ``docs/coverage.md`` has them field by field."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.coverage.cuts import Control, Cut
from coverage_principle.coverage.dataset import Coverage
from coverage_principle.coverage.fitting import Fit
from coverage_principle.coverage.graded import FIELDS, Graded
from coverage_principle.data import (
    annotated_records,
    dump_json,
    keys_of,
    read_json,
    write_annotations,
    write_json,
    write_text,
    write_together,
)
from coverage_principle.errors import InputError

logger = logging.getLogger(__name__)

#: Letters of a file name that slot sets may take; a file system allows 255 for the whole name.
_MOST_LETTERS = 100


def result_name(coverage: Coverage) -> str:
    """What the names of a result's files begin with."""
    return coverage.dataset.name + _suffix(coverage)


def annotated_file(coverage: Coverage) -> Path:
    """Where ``write_annotated`` writes: beside ``test.json``."""
    return coverage.dataset.path / f"test_annotated{_suffix(coverage)}.json"


def write_annotated(coverage: Coverage, graded: Graded | None = None) -> Path:
    """Write the annotated test records beside ``test.json`` (``Coverage.annotated``).

    What earlier runs wrote for these test items and this one does not tell is kept: k-cutoffs
    without a k-sweep, graded coverage without ``graded``.
    """
    name, kept = annotated_file(coverage).name, set()
    records = coverage.annotated()
    if graded is not None:
        records = [record | own for record, own in zip(records, graded.fields(), strict=True)]
    else:
        kept.update(FIELDS)
    if not coverage.settings.k_sweep:
        kept.add("k_cutoff")
    before = _annotated_before(coverage, name) if kept else []
    if kept & keys_of(before):
        records = [
            record | {key: old[key] for key in old if key in kept}
            for record, old in zip(records, before, strict=True)
        ]
    return write_annotations(coverage.dataset, name, records)


def _annotated_before(coverage: Coverage, name: str) -> Sequence[dict]:
    """What stands in the file that is about to be replaced, if it is about the same items."""
    if not annotated_file(coverage).exists():
        return []
    try:
        return annotated_records(coverage.dataset, name)
    except InputError as error:
        logger.warning("warning: what was found before is not kept: %s", error)
        return []


def write_graded(coverage: Coverage, graded: Graded, folder: Path) -> Path:
    """Write what graded coverage found in all (``Graded.summary``) into ``folder``.

    ``InputError`` rather than replacing that of another data set of the same name.
    """
    file, summary = folder / f"{result_name(coverage)}_graded.json", graded.summary()
    _refuse_another(file, summary)
    write_json(file, summary)
    return file


def write_fit(coverage: Coverage, fit: Fit, about: Mapping, folder: Path) -> Path:
    """Write the learner's numbers that were fitted to a model into ``folder``.

    ``about`` are the files of the model's answers. ``InputError`` as for ``write_graded``.
    """
    dataset = coverage.dataset
    file = folder / f"{result_name(coverage)}_fit.json"
    found = {"dataset": dataset.name, "path": str(dataset.path), "sha256": dataset.digests}
    found |= {"noise": coverage.noise.rate}
    found |= {"slot_sets": [list(slot_set.slots) for slot_set in coverage.slot_sets]}
    found |= {"predictions": about, **fit.to_dict()}
    _refuse_another(file, found)
    write_json(file, found)
    return file


def about_cut(coverage: Coverage, item: np.ndarray, cut: Cut, control: Control) -> dict:
    """What the training records that a cut and its control leave were made from, JSON-ready.

    ``removed`` and ``control`` are places in ``train.json``, counted from 0.
    """
    dataset, settings = coverage.dataset, coverage.settings
    asked = ("min_evidence", "scope", "ground_truth", "fragments", "cut_seed")
    return {
        **{"dataset": dataset.name, "path": str(dataset.path), "sha256": dataset.digests},
        **{"item": dataset.text(item), **{name: getattr(settings, name) for name in asked}},
        "removed": sorted(map(int, cut.rows)),
        "control": sorted(map(int, control.rows)),
    }


def refuse_others(coverage: Coverage, folder: Path) -> None:
    """Refuse a folder whose results of this name are about another data set, before any is written.

    ``InputError`` names the first of them.
    """
    own = {"path": str(coverage.dataset.path), "sha256": coverage.dataset.digests}
    for kind in ("diagnostics", "graded", "fit"):
        _refuse_another(folder / f"{result_name(coverage)}_{kind}.json", own)


def _refuse_another(file: Path, result: Mapping) -> None:
    """Refuse to replace a file that is about another data set of the same name."""
    before = read_json(file, dict) if file.exists() else {}
    if all(key in before and before[key] != result[key] for key in ("path", "sha256")):
        raise InputError(
            f"{file} is about another data set of this name, {before['path']}; give another "
            "`output_dir`"
        )


def write_sweep(coverage: Coverage, diagnostics: Mapping, folder: Path) -> tuple[Path, Path]:
    """Write the k-sweep and its diagnostics into ``folder``: their two paths.

    ``InputError`` rather than replacing those of another data set of the same name.
    """
    sweep = folder / f"{result_name(coverage)}.json"
    notes = folder / f"{result_name(coverage)}_diagnostics.json"
    _refuse_another(notes, diagnostics)
    write_together({notes: dump_json(diagnostics), sweep: dump_json(coverage.sweep())})
    return sweep, notes


def write_graph(coverage: Coverage, path: Path) -> Path:
    """Write the substitution graph at ``min_evidence`` as GraphML (``Coverage.graph``)."""
    from networkx import generate_graphml

    graph = coverage.graph(coverage.settings.min_evidence)
    write_text(path, "\n".join(generate_graphml(graph)) + "\n")
    return path


def _suffix(coverage: Coverage) -> str:
    """What tells a result apart from that of a plain run on the same data set."""
    suffix = coverage.scope.suffix
    if coverage.settings.ground_truth:
        suffix += "_ground-truth"
    if noise := coverage.settings.noise:
        suffix += f"_noise-{noise}"
    if coverage.restricted:
        names = "+".join("".join(slot_set.slots) for slot_set in coverage.slot_sets)
        if len(names) > _MOST_LETTERS:
            digest = hashlib.sha256(names.encode()).hexdigest()[:8]
            names = f"{len(coverage.slot_sets)}-slot-sets-{digest}"
        suffix += f"_{names}"
    return suffix

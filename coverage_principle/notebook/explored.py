"""Coverage in a notebook: ``cp.coverage(dataset)``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coverage_principle.cli import progress_bar
from coverage_principle.coverage import (
    Coverage,
    CoverageSettings,
    Explanation,
    dataset_coverage,
    dataset_matcher,
    explain,
    explanation_lines,
)
from coverage_principle.data import Dataset, load_dataset
from coverage_principle.errors import InputError
from coverage_principle.frames import frame_of

if TYPE_CHECKING:
    import pandas

    from coverage_principle.reporting.style import Figure


def coverage(
    dataset: Dataset | str | Path,
    *,
    scope: str = "dataset",
    fragments: str | Sequence[Sequence[str]] | None = None,
    noise: float | str = 0.0,
    ground_truth: bool = False,
    progress: bool = True,
) -> NotebookCoverage:
    """Which of a data set's test items are covered, at every k.

    ``dataset`` may be its folder. ``scope`` is ``"dataset"`` (training and ``type_0`` items, as
    published) or ``"domain"`` (every input, so that items of all types have a k-cutoff).
    ``fragments`` are the slot sets that may be exchanged, such as ``[("x1", "x2")]``; all by
    default. ``noise`` is the share of training answers that may be wrong, or ``"auto"``.
    ``ground_truth``: only fragments of the first function, and only such with equal true values.
    ``progress``: a bar, where it takes longer than two seconds. docs/coverage.md defines all of
    it.

    ``InputError`` for a folder that is no data set and for settings that do not exist or do not go
    together.
    """
    if isinstance(dataset, str | Path):
        dataset = load_dataset(dataset)
    if not isinstance(dataset, Dataset):
        found = type(dataset).__name__
        raise InputError(f"`dataset` must be a Dataset or the folder of one, not of type {found}")
    if fragments is not None and not isinstance(fragments, str):
        sets = [[one] if isinstance(one, str) else one for one in fragments]
        fragments = ";".join(",".join(map(str, slots)) for slots in sets)
    settings = CoverageSettings(
        k_sweep=True, scope=scope, fragments=fragments, noise=noise, ground_truth=ground_truth
    )
    bar = progress_bar() if progress else contextlib.nullcontext(lambda *_: None)
    with bar as show:
        found = dataset_coverage(dataset, settings, show)
    return NotebookCoverage(**{field.name: getattr(found, field.name) for field in fields(found)})


@dataclass(frozen=True, repr=False)
class NotebookCoverage(Coverage):
    """Coverage with items as text: everything of ``Coverage``, and what is below."""

    def to_records(self, *, support: bool = True) -> list[dict]:
        """A dict for each test composition, in the order of ``test.json``.

        ``input``, ``answer`` and the intermediate values as tokens (None where the tables do not
        give them), ``type``, ``k_cutoff`` (0: at no k; None: not determined in this scope) and,
        which takes longest, ``support``: the agreements that speak for the answer (docs/graded.md).
        """
        dataset = self.dataset
        graph, test = dataset.graph, dataset.test
        columns = {
            "input": dataset.codec.decode_rows(dataset.ids(test.inputs, graph.inputs)),
            "answer": self._tokens(test.answers, graph.answer),
            "type": test.types.tolist(),
            **{name: self._tokens(values, name) for name, values in self._bridges.items()},
        }
        cutoffs = np.full(len(test), None)
        cutoffs[self.test_rows] = np.minimum(self.cutoffs, self.last_row).tolist()
        columns["k_cutoff"] = cutoffs.tolist()
        if support:
            columns["support"] = self._support.tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_frame(self, *, support: bool = True) -> pandas.DataFrame:
        """``to_records`` as a table. ``InputError`` if pandas is not installed."""
        frame = frame_of(self.to_records(support=support))
        return frame.astype({"k_cutoff": "Int64"})  # whole numbers, though some are not known

    def explain(self, item: str) -> Explained:
        """Why an item, such as ``"<t_3><t_9><t_1>"``, is covered, or what is missing.

        ``InputError`` if it is no input of the task, or no node of the scope.
        """
        explanation = explain(self, self.dataset.parse(item))
        return Explained(explanation, tuple(explanation_lines(self, explanation)))

    def plot(self) -> Figure:
        """The share of ``type_0`` items that are covered, against k."""
        from coverage_principle.reporting.coverage_figures import k_sweep_figure

        return k_sweep_figure({self.dataset.name: self.sweep()})

    @cached_property
    def _bridges(self) -> dict[str, np.ndarray | None]:
        """Intermediate values of the test items; None where they are not known."""
        graph, test = self.dataset.graph, self.dataset.test
        try:
            values = self.dataset.values(test.inputs, test.answers) if graph.bridges else {}
        except InputError:  # without tables, nothing is known of them
            values = {}
        return {name: values.get(name) for name in graph.bridges}

    @cached_property
    def _support(self) -> np.ndarray:
        """The support of each test item's answer: ``(n,)`` float."""
        test = self.dataset.test
        positions = [one.observations.positions for one in self.slot_sets]
        matcher = dataset_matcher(self.dataset, positions, noise=self.noise.rate)
        return matcher.match(test.inputs).support[np.arange(len(test)), test.answers]

    def _tokens(self, values: np.ndarray | None, node: str) -> list[str | None]:
        """Values of one slot or value as tokens; None where they are not known."""
        if values is None:
            return [None] * len(self.dataset.test)
        ids = self.dataset.ids(values[:, None], [node])[:, 0].tolist()
        vocabulary = self.dataset.codec.vocabulary
        known = (values >= 0).tolist()
        return [vocabulary[i] if is_known else None for i, is_known in zip(ids, known, strict=True)]


@dataclass(frozen=True, repr=False)
class Explained:
    """What is known of one item: ``explanation`` as data, ``lines`` in words."""

    explanation: Explanation
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return f"<Explained: {self.lines[0]}>"

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        printer.text(str(self) if not cycle else repr(self))

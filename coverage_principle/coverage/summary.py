"""What a person reads of a coverage result: a table over k, counts by type, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from coverage_principle.coverage.dataset import Coverage
from coverage_principle.coverage.fitting import Fit
from coverage_principle.coverage.graded import Graded, too_large
from coverage_principle.coverage.scopes import EVERY_K
from coverage_principle.coverage.selection import Selection, count_tested
from coverage_principle.coverage.settings import LearnerSettings
from coverage_principle.data import Dataset, record_column
from coverage_principle.tasks import FACT_TYPES, TRAIN_INFERRED, TaskGraph
from simpletransformers.words import count_lines, counted, listed

_CONTRADICTION = (
    "some classes of {} hold fragments that contradict each other in the training set; they are "
    "linked only by third fragments"
)
_COINCIDENCE = (
    "some classes of {} mix fragments with different true values, which agree only by coincidence"
)
#: What may be wrong with the classes of a slot set, by its counts at some k.
_REASONS = {
    "all fragments of {0} fall into one class: they substitute for each other whatever they do, so "
    "swaps of {0} say nothing there": lambda s, at_k: at_k["largest_class"] == s["fragments"] > 1,
    _COINCIDENCE: lambda _, at_k: at_k["mixed_classes"],
    _CONTRADICTION: lambda s, at_k: not s["determines"] and at_k["contradictory_classes"],
}
#: Below the counts, of types that the scope does not look at.
_OUTSIDE = "-: uses a fact that no training composition shows; not counted here, see `scope` domain"


def sweep_lines(coverage: Coverage, diagnostics: Mapping) -> list[str]:
    """The k-sweep as a table, up to the first k that covers nothing.

    A k at which nothing differs from the row above has no row; a line below the table names it, as
    it does what comes after the last row. Beside the counts stand the items among them that are
    covered only by coincidence (of fragments that agree although their true values differ), and the
    classes of what the task's first function reads, if that is a slot set of its own: how many
    there are, the fragments of the largest, and how many mix different values.
    """
    graph = coverage.dataset.graph
    first = list(graph.fragment(graph.functions[0].output))
    shown = next((s for s in diagnostics["slot_sets"] if s["slots"] == first), None)
    chance = diagnostics["by_chance"]
    header = ["k", "covered", "percent"]
    if chance is not None:
        header.append("only by coincidence")
    if shown:
        value = graph.functions[0].output
        header += [f"classes of {_slots(shown)}", "largest", f"mixing {value}"]
    rows, repeated, sweep = [header], {}, coverage.sweep()
    for k, (count, percent) in sweep.items():
        row = [k, f"{count:,}", f"{percent:.2f}"]
        if chance is not None:
            row.append(f"{chance.get(k, 0):,}")
        if shown:
            counts = classes_at(shown, int(k))
            mixed = counts["mixed_classes"]
            row += [
                f"{counts['classes']:,}",
                f"{counts['largest_class']:,}",
                "-" if mixed is None else f"{mixed:,}",
            ]
        if row[1:] != rows[-1][1:]:
            rows.append(row)
        else:
            repeated.setdefault(rows[-1][0], []).append(int(k))
        if count == 0:
            break
    notes = [f"k = {_runs(ks)}: as k = {first}" for first, ks in repeated.items()]
    if later := [int(one) for one in sweep if int(one) > int(k)]:
        notes.append(f"k = {_runs(later)}: nothing is covered")
    if chance is not None:
        notes.append(
            "only by coincidence: not covered if only fragments with equal true values are swapped"
        )
    if shown and len(diagnostics["slot_sets"]) > 1:
        notes.append(f"classes: of {_slots(shown)} alone; other fragments may be swapped as well")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ] + notes


def _runs(numbers: list[int]) -> str:
    """Ascending numbers without a gap: ``11``, ``11 and 12``, ``11 to 20``."""
    first, last = numbers[0], numbers[-1]
    word = " and " if last == first + 1 else " to "
    return str(first) if first == last else f"{first}{word}{last}"


def type_lines(coverage: Coverage, k: int) -> list[str]:
    """Covered and all test items of each type at ``k``; below it what the source of an import says.

    Single facts come last.
    """
    test, explained = coverage.dataset.test, coverage.dataset.graph.explained
    covered = test.types == TRAIN_INFERRED
    covered[coverage.test_rows] |= coverage.covered(k)
    parts: list[tuple[str, np.ndarray]] = []
    for label in (TRAIN_INFERRED, *coverage.dataset.graph.fact_type_labels):
        mine = test.types == label
        if mine.any():
            parts.append((explained(label), mine))
            parts += [
                (f"  {name}", mine & of_source)
                for name, of_source in _by_source_type(coverage.dataset)
                if (mine & of_source).any()
            ]
    counted_here = test.types == TRAIN_INFERRED
    counted_here[coverage.test_rows] = True
    widest = max((len(f"{mine.sum():,}") for _, mine in parts), default=0)
    rows: list[tuple[str, int | None, str]] = []
    for name, mine in parts:
        count = int((covered & mine).sum()) if counted_here[mine].any() else None
        rows.append((name, count, f"of {mine.sum():>{widest},}"))
    kinds, numbers = record_column(test.facts.records, "type")
    facts = dict(zip(kinds, np.bincount(numbers).tolist(), strict=True))
    single = [(explained(name), facts[name], "") for name in FACT_TYPES if name in facts]
    note = [_OUTSIDE] if any(count is None for _, count, _ in rows) else []
    return [*count_lines(rows + single), *note]


def _by_source_type(dataset: Dataset) -> list[tuple[str, np.ndarray]]:
    """The test items of each ``source_type`` that the records of an import name: masks."""
    names, numbers = record_column(dataset.test.records, "source_type", "")
    texts = np.array(names, dtype=str)
    return [(str(name), (texts == name)[numbers]) for name in np.unique(texts) if name]


def warnings(coverage: Coverage, diagnostics: Mapping, graded: Graded | None = None) -> list[str]:
    """A sentence for each reason to read the counts with care, and for a learner left out."""
    found = []
    for sentence, holds in _REASONS.items():
        if sentence == _CONTRADICTION and coverage.noise.rate:
            continue  # a wrong label makes equal fragments contradict each other
        last = {
            _slots(s): max(
                (int(k) for k, counts in s["by_k"].items() if holds(s, counts)), default=0
            )
            for s in diagnostics["slot_sets"]
        }
        found += [f"up to k = {k} {sentence.format(names)}" for k, names in _by_k(last)]
    if leaked := int((coverage.cutoffs[coverage.type_0] == EVERY_K).sum()):
        found.append(
            f"type_0 items that are training items: {leaked:,}; they are covered at every k, and "
            "their k-cutoff is the last k of the sweep"
        )
    if not coverage.type_0.any():
        lack = "the test set has no type_0 items, which are what the k-sweep counts"
        if coverage.settings.scope == "domain":
            lack += (
                ": look at the other types under 'covered at k', at the k_cutoff of the annotated "
                "items, and at whole_domain in the diagnostics"
            )
        else:
            lack += ", so there is nothing to cover; the domain scope takes items of all types"
        found.append(lack)
    if graded is not None and graded.learned is None:
        found.append(f"the learner is left out: {too_large(coverage.dataset)}")
    return found


def graded_rows(summary: Mapping, graph: TaskGraph) -> list[list[str]]:
    """What graded coverage says of each type (``Graded.summary``): a header and rows of cells.

    Beside how many answers of matcher and learner are right stands how many they expect to be.
    """
    names = list(summary["calibration"])
    header = ["", "items", "median support"]
    rows = [header + [word for name in names for word in (f"{name} right", "expected")]]
    for label, own in summary["by_type"].items():
        cells = [graph.explained(label), f"{own['items']:,}", f"{own['median_support']:,.0f}"]
        for name in names:
            cells.append(f"{own[name]['right'] / own['items']:.1%}")
            cells.append(f"{own[name]['probability']:.1%}")
        rows.append(cells)
    return rows


def calibration_rows(summary: Mapping) -> list[list[str]]:
    """The calibration of matcher and learner on ``type_0`` items: a header and rows of cells."""
    names = summary["calibration"]
    rows = [["probability", *(word for name in names for word in (f"{name}: items", "right"))]]
    for groups in zip(*summary["calibration"].values(), strict=True):
        cells = [f"{groups[0]['low']:g} to {groups[0]['high']:g}"]
        for group in groups:
            share = f"{group['right'] / group['items']:.1%}" if group["items"] else "-"
            cells += [f"{group['items']:,}", share]
        rows.append(cells)
    return rows


def fit_rows(fit: Fit) -> list[list[str]]:
    """How fitted and default numbers tell a model's answers: a header and rows of cells."""
    header = ["", "ridge", "shrinkage", "overlap", "background", "nats", "same answer", "AUC"]
    rows = [header]
    for name, settings in (("fitted", fit.settings), ("default", LearnerSettings())):
        score = fit.others[name]
        numbers = [f"{getattr(settings, key):g}" for key in header[1:5]]
        auc = "-" if score.auc is None else f"{score.auc:.3f}"
        rows.append([name, *numbers, f"{score.nats:.3f}", f"{score.same:.1%}", auc])
    return rows


def suggestion_lines(dataset: Dataset, found: Selection, wanted: int, *, k: int) -> list[str]:
    """A title, and what ``found`` would cover at ``k``; ``wanted`` items were asked for."""
    more = counted(len(found.items), "more training item")
    rows = [
        (name, int(n), f"({n / max(found.in_domain, 1):.2%})")
        for name, n in (
            (f"covered at k = {k} now", found.covered[0]),
            (f"covered with {more}, these included", found.covered[-1]),
        )
    ]
    lines = [f"{dataset.name}: {counted(found.in_domain, 'unseen in-domain item')}"]
    lines += count_lines(rows)
    if len(found.items) < wanted:
        lines.append("more items would cover nothing more, so no others are suggested")
    if both := count_tested(dataset, found.items):
        where = "take them out of test.json first"
        lines.append(f"test items among the suggested ones: {both:,}; {where}")
    return lines


def classes_at(slot_set: Mapping, k: int) -> Mapping:
    """The counts of one slot set of ``diagnose`` at any k: those of the next k that is listed."""
    listed = [level for level in map(int, slot_set["by_k"]) if level >= k]
    if listed:
        return slot_set["by_k"][str(min(listed))]
    known = slot_set["false_pairs_by_evidence"] is not None
    return {
        "classes": slot_set["fragments"],
        "largest_class": 1,
        "class_sizes": {"1": slot_set["fragments"]},
        "mixed_classes": 0 if known else None,
        "contradictory_classes": 0,
        "contradicting_pairs": 0,
    }


def _by_k(last: Mapping[str, int], most: int = 3) -> Iterable[tuple[int, str]]:
    """Slot sets grouped by their k > 0, descending: ``(k, "(x1, x2) and (x1, x3)")``."""
    for k in sorted({k for k in last.values() if k}, reverse=True):
        names = [name for name, own in last.items() if own == k]
        if len(names) > most:
            names = [*names[: most - 1], f"{len(names) - most + 1} other slot sets"]
        yield k, listed(names)


def _slots(slot_set: Mapping) -> str:
    return f"({', '.join(slot_set['slots'])})"

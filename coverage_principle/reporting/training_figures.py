"""Accuracy over training and by k-cutoff, from the evaluations that a run recorded.

A *history* is a list of ``{"step": int, "eval": {group: {"n", "answer_accuracy", ...}}}`` as in a
run's ``metrics.jsonl``; groups are types (``type_0``) and k-cutoffs (``type_0/k_cutoff=3``).
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from coverage_principle.reporting.plots import (
    chance_label,
    chance_line,
    label_only,
    legend_beside,
    line,
    note_below,
    shades,
)
from coverage_principle.reporting.scores import NO_NAMES
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from coverage_principle.statistics import wilson_interval

#: So many curves can have bands; more would hide each other.
_BANDS = 8
_OF_BANDS = "bands: 95 % intervals, Wilson's"
_K_GROUP = re.compile(r"type_0/k_cutoff=(\d+)$")


def accuracy_by_k(groups: Mapping[str, Mapping]) -> dict[int, tuple[float, int]]:
    """``{k-cutoff: (answer accuracy, number of items)}`` of one evaluation, k ascending."""
    matches = {group: match for group in groups if (match := _K_GROUP.match(group))}
    found = {int(m[1]): groups[group] for group, m in matches.items()}
    return {k: (scores["answer_accuracy"], scores["n"]) for k, scores in sorted(found.items())}


def accuracy_figures(
    histories: Mapping[str, Sequence[Mapping]],
    folder: Path,
    *,
    chance: float,
    names: Mapping[str, str] = NO_NAMES,
) -> list[Path]:
    """Accuracy by type, and where runs have k-cutoffs, over training and at the end by these.

    ``histories`` maps a panel's title to a history, ``names`` a type to what the legend calls it.
    The PNG files, in this order.
    """
    finals = {title: history[-1]["eval"] for title, history in histories.items()}
    types = sorted({g for groups in finals.values() for g in groups if "/" not in g})
    options = {"chance": chance, "types": types, "names": names}
    figures = [type_curves(histories, folder / "accuracy_by_type", **options)]
    if any(accuracy_by_k(groups) for groups in finals.values()):
        figures += [
            k_cutoff_curves(histories, folder / "accuracy_by_k_over_training", chance=chance),
            k_cutoff_bars(finals, folder / "accuracy_by_k", chance=chance),
        ]
    return [written[0] for written in figures]


def type_curves(
    runs: Mapping[str, Sequence[Mapping]],
    path: Path,
    *,
    chance: float,
    types: Sequence[str],
    names: Mapping[str, str] = NO_NAMES,
) -> list[Path]:
    """Answer accuracy of each type over training, a panel for each run (title -> history).

    ``names`` maps a type to what the legend calls it, if not by its own name. Up to ``_BANDS``
    types have bands, Wilson's 95 % intervals; below stand the types' items.
    """
    figure, axes = _panels(runs, "answer accuracy", chance)
    notes = []
    for axis, (title, history) in zip(axes, runs.items(), strict=True):
        for number, label in enumerate(types):
            events = [event for event in history if label in event["eval"]]
            if events:
                found = [event["eval"][label] for event in events]
                accuracy = [scores["answer_accuracy"] for scores in found]
                steps = [event["step"] for event in events]
                own = {"label": names.get(label, label), "marker": _marker(steps), **line(number)}
                axis.plot(steps, accuracy, **own)
                if len(types) <= _BANDS:
                    pairs = [(scores["answer_accuracy"], scores["n"]) for scores in found]
                    _band(axis, steps, pairs, line(number)["color"])
        last = history[-1]["eval"]
        counts = ", ".join(f"{name} {last[name]['n']:,}" for name in types if name in last)
        notes.append(f"items{_of(title, runs)}: {counts}")
    there = axes[-1].get_legend_handles_labels()[1]
    for number, label in enumerate(types):  # those of other panels alone
        if names.get(label, label) not in there:
            label_only(axes[-1], names.get(label, label), **line(number))
    legend_beside(axes[-1])
    if len(types) <= _BANDS:
        notes.append(_OF_BANDS)
    return _with_notes(figure, notes, path)


def k_cutoff_curves(
    runs: Mapping[str, Sequence[Mapping]], path: Path, *, chance: float, min_items: int = 20
) -> list[Path]:
    """Answer accuracy of type_0 items over training, a line for each k-cutoff.

    Groups of fewer than ``min_items`` items are left out, since their curves are noise; a note
    below says which, and how many items the others have.
    """
    sizes = {
        title: {k: n for k, (_, n) in accuracy_by_k(history[-1]["eval"]).items()}
        for title, history in runs.items()
    }
    shown = {title: [k for k in own if own[k] >= min_items] for title, own in sizes.items()}
    present = sorted(set().union(*shown.values()))
    colours = dict(zip(present, shades(len(present)), strict=True))
    figure, axes = _panels(runs, "answer accuracy, type_0", chance)
    notes = []
    for axis, (title, history) in zip(axes, runs.items(), strict=True):
        steps = [event["step"] for event in history]
        for k in shown[title]:
            found = [accuracy_by_k(event["eval"]).get(k, (math.nan, 0)) for event in history]
            values = [accuracy for accuracy, _ in found]
            axis.plot(steps, values, color=colours[k], marker=_marker(steps))
            if len(present) <= _BANDS:
                _band(axis, steps, found, colours[k])
        notes += _k_notes(sizes[title], min_items, _of(title, runs))
    if 0 < len(present) <= _BANDS:
        notes.append(_OF_BANDS)
    for k in present:  # one legend for all panels
        label_only(axes[-1], f"k-cutoff {k}", color=colours[k])
    if present or chance:
        legend_beside(axes[-1])
    return _with_notes(figure, notes, path)


def _band(axis, steps: Sequence[int], scores: Sequence[tuple[float, int]], colour: str) -> None:
    """The 95 % intervals of accuracies of so many items; a gap where there is none."""
    none = (math.nan, math.nan)
    ends = [wilson_interval(share * n, n) if n else none for share, n in scores]
    axis.fill_between(steps, *zip(*ends, strict=True), color=colour, alpha=0.15, linewidth=0)


def _k_notes(sizes: Mapping[int, int], min_items: int, of: str) -> list[str]:
    """Items of the k-cutoffs that have a curve, and those that have none."""
    few = [k for k, n in sizes.items() if n < min_items]
    kept, left = (
        ", ".join(f"k = {k}: {sizes[k]:,}" for k in sizes if (k in few) == is_left)
        for is_left in (False, True)
    )
    notes = [f"items{of}: {kept}"] if kept else []
    return notes + ([f"no curve{of}, fewer than {min_items} items: {left}"] if left else [])


def k_cutoff_bars(
    finals: Mapping[str, Mapping[str, Mapping]], path: Path, *, chance: float
) -> list[Path]:
    """Final answer accuracy by k-cutoff with 95 % Wilson intervals and the number of items.

    ``finals`` maps a panel's title to the groups of its last evaluation.
    """
    figure, axes = _panels(finals, "final answer accuracy, type_0", chance)
    for axis, groups in zip(axes, finals.values(), strict=True):
        table = accuracy_by_k(groups)
        for position, (accuracy, n) in enumerate(table.values()):
            low, high = wilson_interval(accuracy * n, n)
            error = [[accuracy - low], [high - accuracy]]
            axis.bar(position, accuracy, color=PALETTE[0])
            axis.errorbar(position, accuracy, error, color="black", capsize=2)
        ticks = [f"{k}\n({n})" for k, (_, n) in table.items()]
        axis.set_xticks(range(len(table)), ticks, fontsize=8)
        axis.set_xlabel("k-cutoff (number of items)")
    notes = ["bars of error: 95 % intervals, Wilson's"]
    notes += [f"dotted: {chance_label(chance)}"] if chance else []
    return _with_notes(figure, notes, path)


def _marker(steps: Sequence[int]) -> str:
    """A single evaluation has no line to be seen by."""
    return "" if len(steps) > 1 else "o"


def _panels(titles: Collection[str], label: str, chance: float):
    """A figure and its axes from left to right, a panel of accuracy for each title."""
    figure, axes = new_figure(4.2 * len(titles), 3.2, 1, len(titles), sharey=True, squeeze=False)
    axes[0][0].set_ylabel(label)
    for axis, title in zip(axes[0], titles, strict=True):
        chance_line(axis, chance)
        axis.set(title=title, xlabel="step", ylim=(0, 1.12), yticks=[0, 0.25, 0.5, 0.75, 1])
    return figure, axes[0]


def _of(title: str, runs: Collection[str]) -> str:
    """Which panel a note is about, where there are several."""
    return f", {title}" if len(runs) > 1 else ""


def _with_notes(figure, notes: Sequence[str], path: Path) -> list[Path]:
    """Write the figure with its notes below, for which it grows."""
    width, height = figure.get_size_inches()
    words = [textwrap.fill(note, int(15 * width)) for note in notes]
    figure.set_size_inches(width, height + 0.18 * len("\n".join(words).splitlines()))
    note_below(figure, words)
    return save_figure(figure, path)

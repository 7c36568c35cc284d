"""Figures of coverage: items covered against k, their k-cutoffs, calibration of what is graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coverage_principle.coverage import Coverage
from coverage_principle.reporting.plots import legend_beside, look
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from coverage_principle.statistics import wilson_interval


def draw_sweep(coverage: Coverage, stem: Path) -> list[Path]:
    """Both figures of one data set, ``<stem>_k-sweep`` and ``<stem>_k-cutoffs``, PNG and PDF."""
    cutoffs = np.minimum(coverage.cutoffs[coverage.type_0], coverage.last_row)
    return [
        *k_sweep_curve({stem.name: coverage.sweep()}, f"{stem}_k-sweep.png"),
        *k_cutoff_histogram(cutoffs, f"{stem}_k-cutoffs.png", title=stem.name),
    ]


def k_sweep_curve(
    sweeps: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path
) -> list[Path]:
    """Write ``k_sweep_figure`` as PNG and PDF."""
    return save_figure(k_sweep_figure(sweeps), path)


def k_sweep_figure(sweeps: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Percent of ``type_0`` items covered against k, a line for each run.

    ``sweeps`` maps a line's name to the content of a k-sweep file, ``{"1": [covered, percent],
    ...}``. The axis ends one step after the last k at which any run covers anything.
    """
    curves = {n: {int(k): p for k, (_, p) in sweep.items()} for n, sweep in sweeps.items()}
    last = max((k for curve in curves.values() for k, p in curve.items() if p > 0), default=1)
    figure, axis = new_figure(4.8, 3.2)
    for i, (name, curve) in enumerate(curves.items()):
        points = [(k, percent) for k, percent in sorted(curve.items()) if k <= last + 1]
        style = {**look(i), "markersize": 4, "clip_on": False}
        axis.plot(*zip(*points, strict=True), label=name, **style)
    axis.set(xlabel="k (evidence that a substitution needs)", ylabel="type_0 items covered (%)")
    axis.set(xlim=(0.7, last + 1.3), ylim=(0, 102))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(curves) > 1:
        axis.legend(frameon=False)
    else:
        axis.set_title(next(iter(curves), ""))
    return figure


def k_cutoff_histogram(cutoffs: Sequence[int], path: str | Path, *, title: str = "") -> list[Path]:
    """Number of ``type_0`` items with each k-cutoff; 0 stands for items that are not covered."""
    counts = np.bincount(np.asarray(cutoffs, dtype=np.int64), minlength=2)
    figure, axis = new_figure(max(4.8, 0.28 * len(counts)), 3.2)
    colours = [PALETTE[1], *[PALETTE[0]] * (len(counts) - 1)]
    bars = axis.bar(range(len(counts)), counts, color=colours)
    if len(counts) <= 25:
        axis.bar_label(bars, [f"{n:,}" if n else "" for n in counts], fontsize=7, padding=1)
    axis.set(xlabel="k-cutoff (0: not covered)", ylabel="type_0 items", title=title)
    axis.grid(axis="x", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return save_figure(figure, path)


def draw_calibration(summary: Mapping, stem: Path) -> list[Path]:
    """How often answers of some probability are right, by ``Graded.summary``; PNG and PDF."""
    figure, axis = new_figure(4.2, 3.8)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    for i, (name, groups) in enumerate(summary["calibration"].items()):
        found = [group for group in groups if group["items"]]
        if not found:
            continue
        right = np.array([group["right"] / group["items"] for group in found])
        ends = [wilson_interval(group["right"], group["items"]) for group in found]
        error = np.abs(np.transpose(ends) - right)
        style = {"markersize": 4, "capsize": 2, "label": name, **look(i)}
        axis.errorbar([group["probability"] for group in found], right, error, **style)
        for group, share in zip(found, right, strict=True):
            place = {"xytext": (4, -8), "textcoords": "offset points", "fontsize": 6}
            axis.annotate(f"{group['items']:,}", (group["probability"], share), **place)
    axis.set(
        xlabel="probability of the answer, mean of a group\n(small numbers: items)",
        ylabel="share that is right",
    )
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=f"{summary['dataset']}, type_0 items")
    if axis.get_legend_handles_labels()[1]:
        legend_beside(axis)
    return save_figure(figure, f"{stem}.png")

"""Figures of the circuit analyses: one heat map over layers and positions, one curve over training.

Each analysis gives panels: titles, and the cells of its result file. ``heat_maps`` draws any panels
that a caller names, so that several runs can stand side by side; what is shown of a cell, and how,
is an entry of ``circuits.metrics``:

    heat_maps({"N = 1,600": split_cells(metrics, "id_test")}, path, IICG)

Layers go upwards, positions to the right, and every cell shows its number. Colour is for findings:
a cell whose interval reaches what a state gives that knows nothing is grey, and one at which the
value cannot be known yet is hatched; a key below says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from coverage_principle.circuits import (
    DIVERGENCE,
    IICG,
    LENS_READOUTS,
    LENSES,
    METRICS,
    PROBE_READOUTS,
    RANK_CHANGED,
    Shown,
)
from coverage_principle.errors import InputError
from coverage_principle.reporting import grids, plots
from coverage_principle.reporting.style import SEQUENTIAL, new_figure, save_figure

_CELL_WIDTH, _CELL_HEIGHT = 0.62, 0.42
#: Cells that are no finding, and those at which there is no value at all.
_WEAK, _NOTHING = "#d9d9d9", "#ffffff"
_EARLY = {"hatch": "////", "linewidth": 0, "alpha": 0.45}

Panels = Mapping[str, Sequence[Mapping]]


def split_cells(metrics: Mapping, split: str) -> list[Mapping]:
    """The cells of one split of a ``metrics.json``."""
    return [cell for cell in metrics["cells"] if cell["split"] == split]


def iicg_heatmap(metrics: Mapping, path: str | Path) -> list[Path]:
    """A panel for each split of one ``metrics.json``; returns the files written."""
    label = f"IICG by {metrics['grouped_by']['value']} (difference of cosines)"
    notes = _empty([name for name, n in metrics["splits"].items() if not n["vectors"]])
    return heat_maps(_split_panels(metrics), path, replace(IICG, label=label), notes=notes)


def iicg_comparison(metrics: Mapping[str, Mapping], path: str | Path) -> list[Path]:
    """Several groupings of one checkpoint, a row each, split by split: b against (b, x2)."""
    panels: dict[str, Sequence[Mapping]] = {}
    for value, found in metrics.items():
        panels |= {f"by ({value})\n{title}": c for title, c in _split_panels(found).items()}
    return heat_maps(panels, path, IICG, per_row=-(-len(panels) // len(metrics)))


def _split_panels(metrics: Mapping) -> dict[str, list[Mapping]]:
    return {
        f"{split}\n{n['vectors']:,} vectors, {n['groups']} groups": split_cells(metrics, split)
        for split, n in metrics["splits"].items()
        if n["vectors"]
    }


def _empty(splits: Sequence[str]) -> list[str]:
    """A note on what has no panel."""
    return [f"without items, not drawn: {', '.join(splits)}"] if splits else []


def emitted_parts(results: Mapping, summary: Mapping) -> dict[str, Mapping]:
    """The summaries of what a traced model emits, by value: its bridges, if any, and the answer."""
    return {**summary.get("bridges", {}), results["emitted"][-1]: summary}


def tracing_heatmap(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """A panel for each split of the last checkpoint; returns the files."""
    return save_figure(tracing_figure(results, subset=subset), path)


def tracing_figure(results: Mapping, *, subset: str = "published") -> Figure:
    """The figure that ``tracing_heatmap`` writes."""
    panels, last = {}, _last_checkpoint(results)
    for split, summary in last.items():
        parts = emitted_parts(results, summary)
        for value, part in parts.items():
            total, about = part["samples"]["n"], f"{value} of " if len(parts) > 1 else ""
            if total:
                n = max(cell[subset]["n"] for cell in part["cells"])
                panels[f"{about}{split}\n{n:,} of {total:,} samples"] = part["cells"]
    notes = _empty([split for split, part in last.items() if not part["samples"]["n"]])
    notes.append(grids.reference_words(results["num_layers"]))
    shown = METRICS[results["metric"]].shown
    return heat_map_figure(panels, shown, subset=subset, notes=notes)


#: What is moved by an interchange of a subspace, in words.
_MOVED = {
    "subspace": "the subspace moved",
    "rest": "the rest moved",
    "whole": "the whole state moved",
    "random": "a random subspace moved",
}


def moved_parts(cells: Sequence[Mapping]) -> dict[str, list[dict]]:
    """The cells of an interchange of a subspace as those of a tracing, by what is moved."""
    return {title: [{**c, **c["parts"][part]} for c in cells] for part, title in _MOVED.items()}


def subspace_heatmap(
    results: Mapping, path: str | Path, *, subset: str = "published"
) -> list[Path]:
    """A row for each split of the last checkpoint, what is moved side by side; the files."""
    return save_figure(subspace_figure(results, subset=subset), path)


def subspace_figure(results: Mapping, *, subset: str = "published") -> Figure:
    """The figure that ``subspace_heatmap`` writes."""
    panels, last = {}, _last_checkpoint(results)
    for split, summary in last.items():
        parts = emitted_parts(results, summary)
        for value, part in parts.items():
            about = f"{value} of " if len(parts) > 1 else ""
            for title, cells in moved_parts(part["cells"]).items():
                if n := max((cell[subset]["n"] for cell in cells), default=0):
                    panels[f"{title}\n{about}{split}, n = {n:,}"] = cells
    notes = _empty([split for split, part in last.items() if not part["samples"]["n"]])
    notes.append(grids.reference_words(results["num_layers"], parts=True))
    options = {"subset": subset, "per_row": len(_MOVED), "notes": notes}
    return heat_map_figure(panels, METRICS[results["metric"]].shown, **options)


def lens_heatmap(
    results: Mapping,
    path: str | Path,
    *,
    split: str = "id_test",
    readout: str = "reciprocal_rank",
    tuned: bool = False,
) -> list[Path]:
    """A panel for each bridge and the answer, of the last checkpoint; ``tuned``: the tuned lens."""
    cells = _last_checkpoint(results["tuned"] if tuned else results)[split]
    if not cells or not cells[-1]["n"]:
        raise InputError(f"no item of {split} to draw in {path}")
    about = f"{cells[-1]['n']:,} items, {split}{', tuned lens' if tuned else ''}"
    panels = {
        f"{value}\n{about}": [c for c in cells if c["value"] == value]
        for value in results["values"]
    }
    return heat_maps(panels, path, LENS_READOUTS[readout].shown)


def divergence_heatmap(results: Mapping, path: str | Path, *, split: str = "id_test") -> list[Path]:
    """How far logit lens and tuned lens are from the model's output, a panel for each of them."""
    cells = list(results["tuned"]["divergence"].values())[-1][split]
    if not cells or not cells[-1]["n"]:
        raise InputError(f"no item of {split} to draw in {path}")
    about = f"{cells[-1]['n']:,} items, {split}"
    panels = {f"{lens}\n{about}": [c for c in cells if c["lens"] == lens] for lens in LENSES}
    return heat_maps(panels, path, DIVERGENCE)


def probe_heatmap(results: Mapping, path: str | Path, *, readout: str = "accuracy") -> list[Path]:
    """A row of panels for each split of the last checkpoint, a panel for each value."""
    return save_figure(probe_figure(results, readout=readout), path)


def probe_figure(results: Mapping, *, readout: str = "accuracy") -> Figure:
    """The figure that ``probe_heatmap`` writes."""
    panels, empty = {}, []
    for split, cells in _last_checkpoint(results).items():
        held = {cell["value"]: cell["n"] for cell in cells}
        for value in (value for value, n in held.items() if n):
            own = [cell for cell in cells if cell["value"] == value]
            panels[f"{value}, {split}\n{held[value]:,} items"] = own
        empty += [] if any(held.values()) else [split]
    shown, values = PROBE_READOUTS[readout].shown, len(results["values"])
    return heat_map_figure(panels, shown, per_row=values, notes=_empty(empty))


def interchange_heatmap(results: Mapping, path: str | Path) -> list[Path]:
    """How often t has another rank, as published, a panel for each pair of splits."""
    panels = {
        f"{pair.replace('-', ' takes from ')}\n{n:,} samples": grids.with_fixed(
            summary["cells"], results["num_layers"]
        )
        for pair, summary in _last_checkpoint(results).items()
        if (n := summary["samples"]["n"])
    }
    notes = [grids.fixed_words(results["num_layers"])]
    return heat_maps(panels, path, RANK_CHANGED, subset="unfiltered", notes=notes)


def _last_checkpoint(results: Mapping) -> Mapping:
    return list(results["checkpoints"].values())[-1]


def heat_maps(
    panels: Panels,
    path: str | Path,
    shown: Shown,
    *,
    subset: str | None = None,
    per_row: int = 0,
    notes: Sequence[str] = (),
) -> list[Path]:
    """A panel for each title, on one colour scale; ``per_row`` of them side by side, or all.

    Each panel has its own rows and columns; layers are named once if they are equal. ``subset`` is
    that of the cells' samples, for tracing and interchange; where a filter leaves fewer samples at
    some positions, these name their n. ``notes`` stand below. Returns the files written.
    """
    options = {"subset": subset, "per_row": per_row, "notes": notes}
    return save_figure(heat_map_figure(panels, shown, **options), path)


def heat_map_figure(
    panels: Panels,
    shown: Shown,
    *,
    subset: str | None = None,
    per_row: int = 0,
    notes: Sequence[str] = (),
) -> Figure:
    """The figure that ``heat_maps`` writes. ``InputError`` if there is no panel."""
    if not panels:
        raise InputError("nothing to draw: there are no samples")
    laid = {title: grids.Grid.of(cells, shown, subset) for title, cells in panels.items()}
    columns = max(len(grid.columns) for grid in laid.values())
    rows = max(len(grid.rows) for grid in laid.values())
    across = min(per_row or len(panels), len(panels))
    down = -(-len(panels) // across)
    width = max(columns * _CELL_WIDTH + 0.9, 2.2) * across + 1.0
    height = max(rows * _CELL_HEIGHT + 1.5, 2.6) * down
    key, words = _key(list(laid.values()), notes, width)
    lines = "\n".join([*words, *(patch.get_label() for patch in key)]).count("\n")
    figure, axes = new_figure(width, height + 0.19 * lines, down, across, squeeze=False)
    norm = matplotlib.colors.Normalize(*shown.span(_findings(laid.values())))
    image = matplotlib.cm.ScalarMappable(norm, matplotlib.colormaps[SEQUENTIAL])
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for place, (title, grid) in enumerate(laid.items()):
        axis = axes.flat[place]
        axis.set_title(title, fontsize=10)
        _draw_grid(axis, grid, image)
        if place % across > 0 and _row_names(grid) == _row_names(list(laid.values())[place - 1]):
            axis.set_yticklabels([""] * len(grid.rows))
    for first in axes[:, 0]:
        first.set_ylabel("layer")
    figure.colorbar(image, ax=axes.ravel().tolist(), label=shown.label)
    plots.note_below(figure, words, key)
    return figure


def _findings(laid: Sequence[grids.Grid]) -> list[float]:
    """The numbers that are coloured: others must not stretch the scale."""
    values = (g.value(*at) for g in laid for at in g.cells if not g.is_weak(*at))
    return [value for value in values if value is not None]


def _draw_grid(axis, grid: grids.Grid, image) -> None:
    """A rectangle and its number for each layer and position; the hatching is white on colour."""
    for y, row in enumerate(grid.rows):
        for x, column in enumerate(grid.columns):
            value, colour = grid.value(row, column), _NOTHING
            if value is not None:
                colour = _WEAK if grid.is_weak(row, column) else image.to_rgba(value)
            square = (x - 0.5, y - 0.5), 1, 1
            ink = _readable_on(matplotlib.colors.to_rgba(colour))
            axis.add_patch(Rectangle(*square, facecolor=colour, edgecolor="none"))
            if grid.is_early(row, column):
                axis.add_patch(Rectangle(*square, facecolor="none", edgecolor=ink, **_EARLY))
            text = "-" if value is None else grids.plain(value, grid.shown.drawn)
            box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
            centred = {"ha": "center", "va": "center", "fontsize": 8}
            axis.text(x, y, text, color=ink, bbox=box, **centred)
    slots, counts = [slot for _, slot in grid.columns], grid.counts
    if len(set(counts)) > 1:
        slots = [f"{slot}\nn={n:,}" for slot, n in zip(slots, counts, strict=True)]
    axis.set_xticks(range(len(slots)), slots)
    axis.set_yticks(range(len(grid.rows)), _row_names(grid))
    axis.set(xlim=(-0.5, len(slots) - 0.5), ylim=(-0.5, len(grid.rows) - 0.5), xlabel="position")
    axis.set_xticks(np.arange(len(slots) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(grid.rows) - 1) + 0.5, minor=True)
    axis.grid(False)
    axis.grid(True, which="minor", color="white", linewidth=1.5, alpha=1)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)


def _row_names(grid: grids.Grid) -> list[str]:
    return [grid.name(row) + ("\nafter ln_f" if row[1] else "") for row in grid.rows]


def _key(
    laid: Sequence[grids.Grid], notes: Sequence[str], width: float
) -> tuple[list[Patch], list[str]]:
    """What grey and hatching mean, where there are any, and the notes, in lines that fit."""
    places = [(grid, at) for grid in laid for at in grid.cells]
    room = int(15 * width)  # characters of 8 points
    key = []
    if any(grid.is_weak(*at) for grid, at in places):
        words = f"{grids.weak_words(laid)} (95 % interval, {laid[0].shown.interval_is})"
        key.append(Patch(facecolor=_WEAK, label=textwrap.fill(words, room)))
    if any(grid.is_early(*at) for grid, at in places):
        words = textwrap.fill(grids.NOT_YET, room)
        key.append(Patch(facecolor=_NOTHING, edgecolor="black", label=words, **_EARLY))
    if any(grid.value(*at) is None for grid, at in places):
        key.append(Patch(facecolor="none", label="-: there is nothing to measure it by"))
    notes = [*grids.measure_lines(laid), *notes, *grids.loop_lines(laid)]
    return key, [textwrap.fill(note, room) for note in notes]


def _readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast (relative luminance of WCAG 2)."""
    red, green, blue = (part**2.2 for part in background[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def tracing_curves(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """A panel for each split; a line for each position, at its strongest layer below the last.

    The layer is chosen by the last checkpoint and named in the legend, so that a line is about one
    cell throughout; a position at which the value cannot be known yet says so. Bands are 95 %
    intervals, the dotted line is what a state gives that knows nothing. ``InputError`` for fewer
    than two checkpoints.
    """
    checkpoints, shown = results["checkpoints"], METRICS[results["metric"]].shown
    if len(checkpoints) < 2:
        raise InputError(f"a curve over training needs two checkpoints; {path} would have one")
    last = _last_checkpoint(results)
    splits = [name for name, part in last.items() if part["samples"]["n"]]
    empty, size = [name for name in last if name not in splits], (2.9 * len(splits) + 1.6, 3.4)
    figure, axes = new_figure(*size, 1, len(splits), squeeze=False, sharey=True)
    for axis, split in zip(axes[0], splits, strict=True):
        best = _strongest(last[split]["cells"], results["num_layers"], shown, subset)
        for number, (slot, layer) in enumerate(best.items()):
            points, known = [], True
            for name, step in _steps(list(checkpoints)).items():
                cells = checkpoints[name][split]["cells"]
                cell = next(c for c in cells if (c["layer"], c["slot"]) == (layer, slot))
                value, known = shown.value(cell, subset), cell.get("can_be_known", True)
                n, nothing = shown.count(cell, subset), shown.nothing_at(cell)
                if value is not None:
                    ends = shown.interval(cell, subset) or (value, value)
                    points.append((step, value, *ends))
            if points:
                x, y, low, high = zip(*points, strict=True)
                look = plots.look(number)
                about = f"{slot}, layer {grids.layer_name(cell)}, n = {n:,}"
                about += "" if known else " (not yet)"
                axis.plot(x, y, label=about, markersize=4, **look)
                axis.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
        if nothing is not None:
            axis.axhline(nothing, color="grey", linewidth=1, linestyle=":")
        axis.set_title(f"{split}\n{last[split]['samples']['n']:,} samples", fontsize=10)
        axis.set_xlabel("training step")
        axis.legend(fontsize=7)
    if shown.widest is None:  # the numbers have fixed ends
        room = 0.02 * (shown.limits[1] - shown.limits[0])
        axes[0][0].set_ylim(shown.limits[0] - room, shown.limits[1] + room)
    axes[0][0].set_ylabel(shown.label)
    dotted = f"dotted: {shown.nothing_is}; bands: 95 % intervals, {shown.interval_is}"
    plots.note_below(figure, [dotted, f"(not yet): {grids.NOT_YET}", *_empty(empty)])
    return save_figure(figure, path)


def _strongest(
    cells: Sequence[Mapping], last_layer: int, shown: Shown, subset: str
) -> dict[str, int]:
    """For each position's name the layer of its largest effect, below layer L if there is one."""
    best: dict[str, tuple[float, int]] = {}
    for cell in cells:
        if not cell["layer"] == last_layer > 1:
            value = shown.value(cell, subset)
            entry = (-1.0 if value is None else value, cell["layer"])
            best[cell["slot"]] = max(best.get(cell["slot"], entry), entry)
    return {slot: layer for slot, (_, layer) in best.items()}


def _steps(names: list[str]) -> dict[str, int]:
    """The step of each checkpoint; the final one, whose name has none, goes after the others."""
    numbered = {n: int(n.rsplit("-", 1)[1]) for n in names if n.rsplit("-", 1)[-1].isdigit()}
    highest = max(numbered.values(), default=0)
    gap = max(1, highest // max(1, len(numbered)))
    return {name: numbered.get(name, highest + gap) for name in names}

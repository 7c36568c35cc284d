"""Figures of the circuit analyses: one heat map over layers and positions, one curve over training.

Each analysis gives panels: titles, and the cells of its result file. ``heat_maps`` draws any panels
that a caller names, so that several runs can stand side by side; what is shown of a cell, and how,
is an entry of ``circuits.metrics``:

    heat_maps({"N = 1,600": split_cells(metrics, "id_test")}, path, IICG)

Layers go upwards, positions to the right, and every cell shows its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from coverage_principle.circuits import ANSWER_KEPT, IICG, LENS_READOUTS, METRICS, Shown
from coverage_principle.errors import InputError
from coverage_principle.reporting import plots
from coverage_principle.reporting.style import SEQUENTIAL, new_figure, save_figure

_CELL_WIDTH, _CELL_HEIGHT = 0.62, 0.42

Panels = Mapping[str, Sequence[Mapping]]


def split_cells(metrics: Mapping, split: str) -> list[Mapping]:
    """The cells of one split of a ``metrics.json``."""
    return [cell for cell in metrics["cells"] if cell["split"] == split]


def iicg_heatmap(metrics: Mapping, path: str | Path) -> list[Path]:
    """A panel for each split of one ``metrics.json``; returns the files written."""
    label = f"IICG by {metrics['grouped_by']['value']} (difference of cosines)"
    return heat_maps(_split_panels(metrics), path, replace(IICG, label=label))


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


def emitted_parts(results: Mapping, summary: Mapping) -> dict[str, Mapping]:
    """The summaries of what a traced model emits, by value: its bridges, if any, and the answer."""
    return {**summary.get("bridges", {}), results["emitted"][-1]: summary}


def tracing_heatmap(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """A panel for each split of the last checkpoint; returns the files."""
    return save_figure(tracing_figure(results, subset=subset), path)


def tracing_figure(results: Mapping, *, subset: str = "published") -> Figure:
    """The figure that ``tracing_heatmap`` writes."""
    panels = {}
    for split, summary in _last_checkpoint(results).items():
        parts = emitted_parts(results, summary)
        for value, part in parts.items():
            total, about = part["samples"]["n"], f"{value} of " if len(parts) > 1 else ""
            if total:
                n = max(cell[subset]["n"] for cell in part["cells"])
                panels[f"{about}{split}\n{n:,} of {total:,} samples"] = part["cells"]
    return heat_map_figure(panels, METRICS[results["metric"]].shown, subset=subset)


def lens_heatmap(
    results: Mapping, path: str | Path, *, split: str = "id_test", readout: str = "reciprocal_rank"
) -> list[Path]:
    """A panel for each bridge and the answer, of the last checkpoint."""
    cells = _last_checkpoint(results)[split]
    if not cells or not cells[-1]["n"]:
        raise InputError(f"no item of {split} to draw in {path}")
    panels = {
        f"{value}\n{cells[-1]['n']:,} items, {split}": [c for c in cells if c["value"] == value]
        for value in results["values"]
    }
    return heat_maps(panels, path, LENS_READOUTS[readout].shown)


def interchange_heatmap(results: Mapping, path: str | Path) -> list[Path]:
    """How often t stays first, a panel for each pair of splits; samples answered right only."""
    panels = {
        f"{pair.replace('-', ' takes from ')}\n{right:,} samples": summary["cells"]
        for pair, summary in _last_checkpoint(results).items()
        if (right := summary["samples"]["original_correct"])
    }
    return heat_maps(panels, path, ANSWER_KEPT, subset="original_correct")


def _last_checkpoint(results: Mapping) -> Mapping:
    return list(results["checkpoints"].values())[-1]


def heat_maps(
    panels: Panels, path: str | Path, shown: Shown, *, subset: str | None = None, per_row: int = 0
) -> list[Path]:
    """A panel for each title, on one colour scale; ``per_row`` of them side by side, or all.

    Each panel has its own rows and columns; layers are named once if they are equal. ``subset`` is
    that of the cells' samples, for tracing and interchange. Returns the files written.
    """
    return save_figure(heat_map_figure(panels, shown, subset=subset, per_row=per_row), path)


def heat_map_figure(
    panels: Panels, shown: Shown, *, subset: str | None = None, per_row: int = 0
) -> Figure:
    """The figure that ``heat_maps`` writes. ``InputError`` if there is no panel."""
    if not panels:
        raise InputError("nothing to draw: there are no samples")
    grids = [_grid(cells, shown, subset) for cells in panels.values()]
    columns = max(len(slots) for _, slots, _ in grids)
    rows = max(len(names) for names, _, _ in grids)
    across = min(per_row or len(panels), len(panels))
    down = -(-len(panels) // across)
    width = max(columns * _CELL_WIDTH + 0.9, 2.2) * across + 1.0
    height = max(rows * _CELL_HEIGHT + 1.5, 2.6) * down
    figure, axes = new_figure(width, height, down, across, squeeze=False)
    colours = matplotlib.colormaps[SEQUENTIAL]
    drawn = [value for _, _, values in grids for value in values[~np.isnan(values)]]
    norm = matplotlib.colors.Normalize(*shown.span(drawn))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    look = {"cmap": colours, "norm": norm, "aspect": "auto", "interpolation": "nearest"}
    for place, (title, (names, slots, values)) in enumerate(zip(panels, grids, strict=True)):
        axis = axes.flat[place]
        axis.set_facecolor("#dddddd")  # shows where there is no value
        image = axis.imshow(values, origin="lower", **look)
        for (row, column), value in np.ndenumerate(values):
            text = "-" if np.isnan(value) else _without_minus_zero(format(value, shown.drawn))
            colour = "black" if np.isnan(value) else _readable_on(colours(norm(value)))
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(slots)), slots)
        same_rows = place % across > 0 and names == grids[place - place % across][0]
        axis.set_yticks(range(len(names)), [""] * len(names) if same_rows else names)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("position")
        axis.set_xticks(np.arange(len(slots) - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        axis.grid(False)
        axis.grid(True, which="minor", color="white", linewidth=1.5, alpha=1)
        axis.tick_params(which="both", length=0)
        axis.spines[:].set_visible(False)
    for first in axes[:, 0]:
        first.set_ylabel("layer")
    figure.colorbar(image, ax=axes.ravel().tolist(), label=shown.label)
    return figure


def _grid(
    cells: Sequence[Mapping], shown: Shown, subset: str | None
) -> tuple[list[str], list[str], np.ndarray]:
    """Row names (layers, upwards), column names (slots), values with nan where there is none."""
    rows = sorted({_row(cell) for cell in cells})
    positions = sorted({(cell["position"], cell["slot"]) for cell in cells})
    values = np.full((len(rows), len(positions)), np.nan)
    for cell in cells:
        if (value := shown.value(cell, subset)) is not None:
            column = positions.index((cell["position"], cell["slot"]))
            values[rows.index(_row(cell)), column] = value
    names = [f"{layer}\nafter ln_f" if normed else str(layer) for layer, normed in rows]
    return names, [slot for _, slot in positions], values


def _row(cell: Mapping) -> tuple[int, bool]:
    return cell["layer"], cell.get("after_ln_f", False)


def _readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast (relative luminance of WCAG 2)."""
    red, green, blue = (part**2.2 for part in background[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _without_minus_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.") else text


def tracing_curves(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """A panel for each split; a line for each position, at its strongest layer below the last.

    The layer is chosen by the last checkpoint and named in the legend, so that a line is about one
    cell throughout. Bands are the bootstrap intervals. ``InputError`` for fewer than two
    checkpoints.
    """
    checkpoints, shown = results["checkpoints"], METRICS[results["metric"]].shown
    if len(checkpoints) < 2:
        raise InputError(f"a curve over training needs two checkpoints; {path} would have one")
    last = _last_checkpoint(results)
    splits = [name for name, part in last.items() if part["samples"]["n"]]
    size = 2.9 * len(splits) + 1.6, 3.2
    figure, axes = new_figure(*size, 1, len(splits), squeeze=False, sharey=True)
    for axis, split in zip(axes[0], splits, strict=True):
        best = _strongest(last[split]["cells"], results["num_layers"], shown, subset)
        for number, (slot, layer) in enumerate(best.items()):
            points = []
            for name, step in _steps(list(checkpoints)).items():
                cells = checkpoints[name][split]["cells"]
                cell = next(c for c in cells if (c["layer"], c["slot"]) == (layer, slot))
                value = shown.value(cell, subset)
                if value is not None:
                    ends = shown.part(cell, subset)["interval"]
                    ends = (value, value) if ends is None else [shown.scale * e for e in ends]
                    points.append((step, value, *ends))
            if points:
                x, y, low, high = zip(*points, strict=True)
                look = plots.look(number)
                axis.plot(x, y, label=f"{slot}, layer {layer}", markersize=4, **look)
                axis.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
        axis.set_title(f"{split}\n{last[split]['samples']['n']:,} samples", fontsize=10)
        axis.set_xlabel("training step")
        axis.legend(fontsize=8)
    if shown.widest is None:  # the numbers have fixed ends
        room = 0.02 * (shown.limits[1] - shown.limits[0])
        axes[0][0].set_ylim(shown.limits[0] - room, shown.limits[1] + room)
    axes[0][0].set_ylabel(shown.label)
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

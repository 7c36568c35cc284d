"""Heat maps over layers and positions: cosine clustering (IICG) and causal tracing.

Each draws a panel for every split of one result file, or any panels that a caller names, so that
several runs can stand side by side: ``iicg_panels({"N = 1,600": iicg_cells(metrics, "id_test")},
path)``. Layers go upwards, positions to the right, and every cell shows its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from coverage_principle.errors import InputError
from coverage_principle.reporting.style import SEQUENTIAL, new_figure, save_figure

#: The number that a tracing heat map shows of a cell, for each metric: (effect, field, label).
_TRACING = {
    "rank": ("both", "rate", "samples moved to t' (%)"),
    "prob": ("relative_change", "mean", "relative change of p(t')"),
    "logit": (
        "logit_shift_share",
        "mean",
        "shift of logit(t') - logit(t)\n(share of source run's)",
    ),
}
#: The same for a lens, by statistic.
_LENS = {
    "reciprocal_rank": "mean reciprocal rank",
    "prob": "mean probability",
    "first": "ranked first (share of items)",
}
_CELL_WIDTH, _CELL_HEIGHT = 0.62, 0.42


@dataclass(frozen=True)
class HeatCell:
    """One cell of a heat map; ``value`` is None where nothing could be measured."""

    layer: int
    position: int
    slot: str
    value: float | None
    after_ln_f: bool = False

    @property
    def row(self) -> tuple[int, bool]:
        return self.layer, self.after_ln_f


# ----------------------------------------------------------------------------------------- IICG


def iicg_cells(metrics: Mapping, split: str, statistic: str = "iicg") -> list[HeatCell]:
    """The cells of one split of a ``metrics.json``; ``statistic`` is any number it holds."""
    return [
        HeatCell(c["layer"], c["position"], c["slot"], c[statistic], c["after_ln_f"])
        for c in metrics["cells"]
        if c["split"] == split
    ]


def iicg_heatmap(metrics: Mapping, path: str | Path, *, statistic: str = "iicg") -> list[Path]:
    """A panel for each split of one ``metrics.json``; returns the files written."""
    panels = {
        f"{split}\n{about['vectors']:,} vectors, {about['groups']} groups": iicg_cells(
            metrics, split, statistic
        )
        for split, about in metrics["splits"].items()
        if about["vectors"]
    }
    return iicg_panels(panels, path, label=_iicg_label(metrics["grouped_by"]["value"]))


def _iicg_label(value: str) -> str:
    return f"IICG by {value} (difference of cosines)"


def iicg_comparison(
    metrics: Mapping[str, Mapping], path: str | Path, *, statistic: str = "iicg"
) -> list[Path]:
    """Several groupings of one checkpoint, a row each, split by split: b against (b, x2)."""
    panels = {
        f"by ({value})\n{split}\n{about['vectors']:,} vectors, {about['groups']} groups": (
            iicg_cells(found, split, statistic)
        )
        for value, found in metrics.items()
        for split in found["splits"]
        if (about := found["splits"][split])["vectors"]
    }
    return iicg_panels(panels, path, per_row=-(-len(panels) // len(metrics)))


def iicg_panels(
    panels: Mapping[str, Sequence[HeatCell]],
    path: str | Path,
    *,
    label: str = "IICG (difference of cosines)",
    per_row: int | None = None,
) -> list[Path]:
    """A panel for each title, on one colour scale; ``per_row`` of them side by side, or all."""
    values = [c.value for cells in panels.values() for c in cells if c.value is not None]
    # A fixed floor keeps noise around zero from filling the whole colour scale.
    limits = min([0.0, *values]), max([0.2, *values])
    return _draw(panels, path, label, limits, "{:.2f}".format, per_row)


# -------------------------------------------------------------------------------------- tracing


def tracing_effect(metric: str) -> tuple[str, str, str]:
    """What figures show of a metric: the effect's key, its number, and the axis label."""
    return _TRACING[metric]


def tracing_cells(
    results: Mapping,
    checkpoint: str,
    split: str,
    subset: str = "published",
    bridge: str | None = None,
) -> list[HeatCell]:
    """The cells of one checkpoint and split of a tracing result; rates in percent.

    ``bridge`` names a bridge that the model writes, in place of the answer.
    """
    effect, field, _ = _TRACING[results["metric"]]
    scale = 100 if results["metric"] == "rank" else 1
    cells = []
    summary = results["checkpoints"][checkpoint][split]
    for cell in (summary if bridge is None else summary["bridges"][bridge])["cells"]:
        value = cell[subset][effect][field]
        value = None if value is None else scale * value
        cells.append(HeatCell(cell["layer"], cell["position"], cell["slot"], value))
    return cells


def tracing_heatmap(
    results: Mapping,
    path: str | Path,
    *,
    checkpoint: str | None = None,
    subset: str = "published",
) -> list[Path]:
    """A panel for each split of one checkpoint (the last by default); returns the files."""
    checkpoint = checkpoint or list(results["checkpoints"])[-1]
    panels = {}
    for split, summary in results["checkpoints"][checkpoint].items():
        emitted = {"": (None, summary)}
        bridges = summary.get("bridges", {})
        if bridges:  # what the model writes, one after the other
            emitted = {f"{name} of ": (name, part) for name, part in bridges.items()}
            emitted[f"{results['emitted'][-1]} of "] = (None, summary)
        for about, (bridge, part) in emitted.items():
            total = part["samples"]["n"]
            if total:
                n = max(cell[subset]["n"] for cell in part["cells"])
                title = f"{about}{split}\n{n:,} of {total:,} samples"
                panels[title] = tracing_cells(results, checkpoint, split, subset, bridge)
    return tracing_panels(panels, path, metric=results["metric"])


def tracing_panels(
    panels: Mapping[str, Sequence[HeatCell]], path: str | Path, *, metric: str = "rank"
) -> list[Path]:
    """A panel for each title, on one colour scale: 0 to 100 %, or about 0 to 1 for ``prob``."""
    _, _, label = _TRACING[metric]
    if metric == "rank":
        return _draw(panels, path, label, (0, 100), "{:.0f}".format)
    # A ratio can be far off 0..1 for a few samples; it must not eat up the colour scale.
    values = [c.value for cells in panels.values() for c in cells if c.value is not None]
    limits = max(-1.0, min([0.0, *values])), min(2.0, max([1.0, *values]))
    return _draw(panels, path, label, limits, "{:.2f}".format)


# ----------------------------------------------------------------------------------------- lens


def lens_heatmap(
    results: Mapping,
    path: str | Path,
    *,
    checkpoint: str | None = None,
    split: str = "id_test",
    statistic: str = "reciprocal_rank",
) -> list[Path]:
    """A panel for each bridge and the answer, of one checkpoint (the last by default)."""
    checkpoint = checkpoint or list(results["checkpoints"])[-1]
    panels: dict[str, list[HeatCell]] = {value: [] for value in results["values"]}
    count = 0
    for cell in results["checkpoints"][checkpoint][split]:
        count = cell["n"]
        panels[cell["value"]].append(
            HeatCell(cell["layer"], cell["position"], cell["slot"], cell[statistic])
        )
    if not count:
        raise InputError(f"no item of {split} to draw in {path}")
    titled = {f"{value}\n{count:,} items, {split}": cells for value, cells in panels.items()}
    return _draw(titled, path, _LENS[statistic], (0, 1), "{:.2f}".format)


def interchange_heatmap(
    results: Mapping, path: str | Path, *, checkpoint: str | None = None
) -> list[Path]:
    """How often t stays first, a panel for each pair of splits; samples answered right only."""
    checkpoint = checkpoint or list(results["checkpoints"])[-1]
    panels = {}
    for pair, summary in results["checkpoints"][checkpoint].items():
        right = summary["samples"]["original_correct"]
        if right:
            cells = []
            for c in summary["cells"]:
                rate = 100 * c["original_correct"]["answer_kept"]["rate"]
                cells.append(HeatCell(c["layer"], c["position"], c["slot"], rate))
            title = f"{pair.replace('-', ' takes from ')}\n{right:,} samples"
            panels[title] = cells
    return _draw(panels, path, "answer kept (%)", (0, 100), "{:.0f}".format)


# -------------------------------------------------------------------------------------- drawing


def _draw(panels, path, label, limits, show, per_row: int | None = None) -> list[Path]:
    """Panels side by side, each with its own rows and columns; layers are named once if equal."""
    if not panels:
        raise InputError(f"nothing to draw in {path}")
    grids = [_grid(cells) for cells in panels.values()]
    columns = max(len(slots) for _, slots, _ in grids)
    rows = max(len(names) for names, _, _ in grids)
    across = min(per_row or len(panels), len(panels))
    down = -(-len(panels) // across)
    width = max(columns * _CELL_WIDTH + 0.9, 2.2) * across + 1.0
    figure, axes = new_figure(
        width, max(rows * _CELL_HEIGHT + 1.5, 2.6) * down, down, across, squeeze=False
    )
    colours = matplotlib.colormaps[SEQUENTIAL]
    norm = matplotlib.colors.Normalize(*limits)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    used = axes.flat[: len(panels)]
    for place, (axis, title, (names, slots, values)) in enumerate(
        zip(used, panels, grids, strict=True)
    ):
        axis.set_facecolor("#dddddd")  # shows where there is no value
        image = axis.imshow(
            values, origin="lower", cmap=colours, norm=norm, aspect="auto", interpolation="nearest"
        )
        for (row, column), value in np.ndenumerate(values):
            text = "-" if np.isnan(value) else _without_minus_zero(show(value))
            colour = "black" if np.isnan(value) else _readable_on(colours(norm(value)))
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(slots)), slots)
        same_rows = place % across > 0 and names == grids[place - place % across][0]
        axis.set_yticks(range(len(names)), [""] * len(names) if same_rows else names)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("position")
        axis.grid(False)
        axis.tick_params(length=0)
        axis.set_xticks(np.arange(len(slots) - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        axis.grid(True, which="minor", color="white", linewidth=1.5, alpha=1)
        axis.tick_params(which="minor", length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    for first in axes[:, 0]:
        first.set_ylabel("layer")
    figure.colorbar(image, ax=axes.ravel().tolist(), label=label)
    return save_figure(figure, path)


def _grid(cells: Sequence[HeatCell]) -> tuple[list[str], list[str], np.ndarray]:
    """Row names (layers, upwards), column names (slots), values with nan where there is none."""
    layers = sorted({cell.row for cell in cells})
    positions = sorted({(cell.position, cell.slot) for cell in cells})
    values = np.full((len(layers), len(positions)), np.nan)
    for cell in cells:
        if cell.value is not None:
            place = layers.index(cell.row), positions.index((cell.position, cell.slot))
            values[place] = cell.value
    names = [f"{layer}\nafter ln_f" if normed else str(layer) for layer, normed in layers]
    return names, [slot for _, slot in positions], values


def _readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever has the higher contrast (relative luminance of WCAG 2)."""
    red, green, blue = (part**2.2 for part in background[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _without_minus_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.") else text

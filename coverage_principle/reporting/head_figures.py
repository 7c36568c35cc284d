"""What patching of heads found: tables of layers by heads, sentences, heat maps, patterns.

L2H3 is head 3 of layer 2; heads are counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from coverage_principle.circuits import METRICS, Shown
from coverage_principle.errors import InputError
from coverage_principle.reporting import grids, plots
from coverage_principle.reporting.circuit_figures import emitted_parts, heat_map_figure
from coverage_principle.reporting.style import SEQUENTIAL, new_figure, save_figure
from simpletransformers.words import counted

#: Rows of a heat map, and heads that a line names.
_MOST_ROWS, _MOST_NAMED = 40, 5
#: Inches of a pattern's query or key.
_SQUARE = 0.16
#: What the estimates of cells are called in cells of real patching.
_ESTIMATES = {"logit_shift": "attribution", "logit_shift_share": "attribution_share"}

Cells = Sequence[Mapping]


def estimated(cells: Iterable[Mapping], subset: str = "published") -> list[dict]:
    """Cells with the estimates from gradients in the place of what patching does."""
    return [
        {**cell, subset: {**cell[subset], **{of: cell[subset][e] for of, e in _ESTIMATES.items()}}}
        for cell in cells
    ]


def patched_parts(results: Mapping) -> dict[str, dict[str, Mapping]]:
    """Of each split of the last checkpoint the summaries by emitted value, if it has samples."""
    return {
        split: {
            value: part
            for value, part in emitted_parts(results, summary).items()
            if part["samples"]["n"]
        }
        for split, summary in _last(results).items()
    }


def is_patched(results: Mapping) -> bool:
    """Whether heads were patched, and not only estimated."""
    return any("rank_correlation" in summary for summary in _last(results).values())


def _last(results: Mapping) -> Mapping[str, Mapping]:
    """The splits of the last checkpoint."""
    return list(results["checkpoints"].values())[-1]


def shown_of(results: Mapping, cells: Cells, subset: str = "published") -> tuple[Cells, Shown]:
    """The cells, and what is shown of them: the metric, or without patches what is estimated."""
    shown = METRICS[results["metric"]].shown
    return (cells, shown) if is_patched(results) else (estimated(cells, subset), shown)


def by_position(cells: Cells) -> dict[str, list[dict]]:
    """Cells as those of a table of layers by heads, for each position where any head matters."""
    found: dict[str, list[dict]] = {}
    for cell in cells:
        place = {"position": cell["head"], "slot": f"head {cell['head']}"}
        own = {key: value for key, value in cell.items() if key != "head"}
        found.setdefault(cell["slot"], []).append({**own, **place})
    return {slot: part for slot, part in found.items() if not _is_idle(part)}


def idle_lines(cells: Cells) -> list[str]:
    """Where no head can change anything."""
    shown = by_position(cells)
    idle = list(dict.fromkeys(cell["slot"] for cell in cells if cell["slot"] not in shown))
    words = "both runs hold the same there, or nothing reads it: no head changes anything"
    return [f"no table of {', '.join(idle)}: {words}"] if idle else []


def _is_idle(cells: Cells) -> bool:
    """Whether no patch and no estimate changes any sample."""
    effects = [
        cell["unfiltered"].get(key) for cell in cells for key in ("logit_shift", "attribution")
    ]
    return not any(effect and (effect["mean"] or any(effect["interval"])) for effect in effects)


def strongest(cells: Cells, shown: Shown, subset: str = "published") -> list[Mapping]:
    """The cells that have a number, the largest effect in the metric's direction first."""
    there = [cell for cell in cells if shown.value(cell, subset) is not None]
    return sorted(there, key=lambda cell: -shown.better * shown.value(cell, subset))


def head_lines(title: str, cells: Cells, shown: Shown, subset: str = "published") -> list[str]:
    """Which head at which position moves the answer most, and which come after it."""
    found = strongest(cells, shown, subset)
    if not found:
        return [f"{title}: no sample to measure heads by"]

    def number(cell: Mapping) -> str:
        ends, text = shown.interval(cell, subset), grids.plain(shown.value(cell, subset), form)
        return f"{text} ({grids.plain(ends[0], form)}..{grids.plain(ends[1], form)})"

    first, form, what = found[0], shown.printed, shown.label.replace("\n", " ")
    name = f"{grids.layer_name(first)} at {first['slot']}"
    findings = [cell for cell in found if not shown.is_weak(cell, subset)]
    if first not in findings:
        least = "no head moves the answer clearly"
        return [f"{title}: {least}, {name} the most, {number(first)}: {what}"]
    lines = [f"{title}: {name} moves the answer most, {number(first)}: {what}"]
    after = [f"{grids.layer_name(c)} at {c['slot']} {number(c)}" for c in findings[1:]]
    if more := len(after) - _MOST_NAMED:
        after[_MOST_NAMED:] = [f"{more} more"] if more > 0 else []
    return [*lines, *([f"  then {'; '.join(after)}"] if after else [])]


def correlation_lines(splits: Mapping[str, Mapping]) -> list[str]:
    """How well estimates from gradients rank what patching does, by split."""
    lines = []
    for split, summary in splits.items():
        for stream, found in summary.get("rank_correlation", {}).items():
            what = "heads" if stream == "heads" else "residual states"
            if found["over_cells"] is None:
                continue
            low, high = found["interval"]
            line = f"{split}: estimates of {what} and patching, rank correlation over "
            line += f"{counted(found['cells'], 'cell')} {found['over_cells']:.2f}"
            line += f" ({low:.2f}..{high:.2f})"
            if found["over_samples"] is not None:
                line += f", over samples within a cell {found['over_samples']:.2f} (median)"
            lines.append(line)
    return lines


def heads_heatmap(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """Heads by positions, each split of the last checkpoint; returns the files.

    With the metric ``logit`` what patching does and what is estimated stand side by side, a row for
    each split.
    """
    return save_figure(heads_figure(results, subset=subset), path)


def heads_figure(results: Mapping, *, subset: str = "published") -> Figure:
    """The figure that ``heads_heatmap`` writes."""
    panels: dict[str, Cells] = {}
    shown, patched = METRICS[results["metric"]].shown, is_patched(results)
    splits = {split: parts for split, parts in patched_parts(results).items() if parts}
    for split, parts in splits.items():
        for number, (value, part) in enumerate(parts.items()):
            about = f"{value} of {split}" if len(parts) > 1 else split
            about += f"\nn = {max(cell[subset]['n'] for cell in part['cells']):,}"
            if patched:
                panels[f"patched:\n{about}"] = part["cells"]
            if number == 0 and results["metric"] == "logit":
                panels[f"estimated:\n{about}"] = estimated(part["cells"], subset)
    panels, notes = _most_moving(panels, shown, subset)
    notes.append("L2H3: head 3 of layer 2; heads are counted from 0")
    each = len(panels) // max(1, len(splits))
    options = {"subset": subset, "notes": notes, "per_row": each if each > 1 else 0}
    figure = heat_map_figure(panels, _to_scale(panels, shown, subset), **options)
    for axis in figure.axes:
        if axis.get_ylabel() == "layer":
            axis.set_ylabel("head")
    return figure


def _to_scale(panels: Mapping[str, Cells], shown: Shown, subset: str) -> Shown:
    """With colours that end at the largest effect: that of one head of many may be small."""
    clear = (c for cells in panels.values() for c in cells if not shown.is_weak(c, subset))
    largest = max((shown.value(cell, subset) or 0.0 for cell in clear), default=0.0)
    return replace(shown, limits=(0.0, largest)) if 0 < largest < shown.limits[1] else shown


def _most_moving(
    panels: Mapping[str, Cells], shown: Shown, subset: str
) -> tuple[dict[str, Cells], list[str]]:
    """The rows that fit into a figure, those with the largest effects, and a note on the others."""
    largest: dict[tuple[int, int], float] = {}
    for cell in (cell for cells in panels.values() for cell in cells):
        key, value = (cell["layer"], cell["head"]), shown.value(cell, subset) or 0.0
        largest[key] = max(largest.get(key, 0.0), abs(value))
    kept = set(sorted(largest, key=lambda key: -largest[key])[:_MOST_ROWS])
    note = f"the {_MOST_ROWS} of {len(largest)} heads with the largest effects; the file has all"
    found = {
        title: [cell for cell in cells if (cell["layer"], cell["head"]) in kept]
        for title, cells in panels.items()
    }
    return found, [note] if len(largest) > _MOST_ROWS else []


def states_heatmap(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """What is estimated of whole states, by stream, beside patches of the residual stream.

    A row for each split of the last checkpoint; returns the files.
    """
    panels: dict[str, Cells] = {}
    for split, summary in _last(results).items():
        for stream, cells in summary["states"].items():
            n = max(cell[subset]["n"] for cell in cells)
            title = f"{stream}\n{split}, n = {n:,}"
            if n and "logit_shift" in cells[0][subset]:
                panels[f"patched: {title}"] = cells
            if n:
                panels[f"estimated: {title}"] = estimated(cells, subset)
    streams = max(len(summary["states"]) for summary in _last(results).values())
    options = {"subset": subset, "per_row": streams + is_patched(results)}
    return save_figure(heat_map_figure(panels, METRICS["logit"].shown, **options), path)


def pattern_figures(results: Mapping, path: str | Path) -> list[Path]:
    """Mean attention of each head, a file for each split that has samples; returns the files."""
    path, files = Path(path), []
    for split, parts in patched_parts(results).items():
        if parts:
            name = f"{path.stem}_patterns_{split.replace('/', '_')}.png"
            files += save_figure(pattern_figure(results, split), path.with_name(name))
    return files


def pattern_figure(results: Mapping, split: str) -> Figure:
    """Heads upwards, layers to the right; in each, queries downwards and keys to the right.

    ``InputError`` for a split without samples.
    """
    slots, patterns = results["slots"], _last(results)[split]["patterns"]
    if not patterns:
        raise InputError(f"no item of {split} whose attention could be drawn")
    layers, heads = results["num_layers"], results["heads"]
    each = len(slots) + 1  # and a gap
    picture = np.full((heads * each, layers * each), np.nan)
    names = {}
    for one in patterns:
        top, left = (heads - 1 - one["head"]) * each, (one["layer"] - 1) * each
        weights = np.array(one["weights"])
        weights[np.triu_indices(len(slots), 1)] = np.nan  # later positions are not seen
        picture[top : top + each - 1, left : left + each - 1] = weights
        own = {key: one[key] for key in ("layer", "loop", "block") if key in one}
        names[one["layer"]] = f"layer {grids.layer_name(own)}"
    size = layers * each * _SQUARE + 2.2, heads * each * _SQUARE + 1.3
    figure, axis = new_figure(max(size[0], 3.6), max(size[1], 2.4))
    image = axis.imshow(picture, vmin=0, vmax=1, cmap=matplotlib.colormaps[SEQUENTIAL])
    rows, columns = np.arange(heads * each), np.arange(layers * each)
    queries = [slots[row % each] if row % each < len(slots) else "" for row in rows]
    keys = [slots[column % each] if column % each < len(slots) else "" for column in columns]
    axis.set_yticks(rows, queries, fontsize=6)
    axis.set_xticks(columns, keys, fontsize=6, rotation=90)
    middle = (each - 2) / 2
    above = axis.secondary_xaxis("top")
    above.set_xticks([middle + each * i for i in range(layers)], list(names.values()), fontsize=7)
    beside = axis.secondary_yaxis("right")
    labels = [f"head {head}" for head in reversed(range(heads))]
    beside.set_yticks([middle + each * i for i in range(heads)], labels, fontsize=7)
    for one in (axis, above, beside):
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
    axis.grid(False)
    axis.set(xlabel="key: what is looked at", ylabel="query: what looks")
    figure.colorbar(image, ax=axis, label="mean attention weight", pad=0.12)
    about = f"{split}, n = {_last(results)[split]['samples']['n']:,}"
    plots.note_below(
        figure, [about, "a head that looks at all positions alike: 1 / (1 + position)"]
    )
    return figure

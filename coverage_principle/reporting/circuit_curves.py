"""Curves over training: effects of tracing and probabilities of the lens at each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coverage_principle.errors import InputError
from coverage_principle.reporting.circuit_figures import tracing_effect
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure


def tracing_curves(results: Mapping, path: str | Path, *, subset: str = "published") -> list[Path]:
    """A panel for each split; a line for each position, at its strongest layer below the last.

    The layer is chosen by the last checkpoint and named in the legend, so that a line is about one
    cell throughout. Bands are the bootstrap intervals. ``InputError`` for fewer than two
    checkpoints.
    """
    checkpoints = results["checkpoints"]
    if len(checkpoints) < 2:
        raise InputError(f"a curve over training needs two checkpoints; {path} would have one")
    effect, field, label = tracing_effect(results["metric"])
    scale = 100 if results["metric"] == "rank" else 1
    last = list(checkpoints)[-1]
    splits = [name for name, part in checkpoints[last].items() if part["samples"]["n"]]
    steps = _steps(list(checkpoints))
    figure, axes = new_figure(
        2.9 * len(splits) + 1.6, 3.2, 1, len(splits), squeeze=False, sharey=True
    )
    for axis, split in zip(axes[0], splits, strict=True):
        for number, (slot, layer) in enumerate(_strongest(results, last, split, subset).items()):
            points = []
            for name, step in steps.items():
                cell = next(
                    c
                    for c in checkpoints[name][split]["cells"]
                    if (c["layer"], c["slot"]) == (layer, slot)
                )[subset][effect]
                if cell[field] is not None:
                    low, high = cell["interval"] or (cell[field], cell[field])
                    points.append((step, scale * cell[field], scale * low, scale * high))
            if not points:
                continue
            x, y, low, high = zip(*points, strict=True)
            colour, marker = PALETTE[number % len(PALETTE)], "osD^vP*X"[number % 8]
            axis.plot(
                x, y, color=colour, marker=marker, markersize=4, label=f"{slot}, layer {layer}"
            )
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set_title(
            f"{split}\n{checkpoints[last][split]['samples']['n']:,} samples", fontsize=10
        )
        axis.set_xlabel("training step")
        axis.legend(fontsize=8)
    if results["metric"] == "rank":
        axes[0][0].set_ylim(-2, 102)
    axes[0][0].set_ylabel(label)
    return save_figure(figure, path)


def _strongest(results: Mapping, checkpoint: str, split: str, subset: str) -> dict[str, int]:
    """For each position's name the layer of its largest effect, below layer L if there is one."""
    effect, field, _ = tracing_effect(results["metric"])
    best: dict[str, tuple[float, int]] = {}
    for cell in results["checkpoints"][checkpoint][split]["cells"]:
        if cell["layer"] == results["num_layers"] > 1:
            continue
        value = cell[subset][effect][field]
        entry = (-1.0 if value is None else value, cell["layer"])
        best[cell["slot"]] = max(best.get(cell["slot"], entry), entry)
    return {slot: layer for slot, (_, layer) in best.items()}


def _steps(names: list[str]) -> dict[str, int]:
    """The step of each checkpoint; the final one, whose name has none, goes after the others."""
    numbered = {n: int(n.rsplit("-", 1)[1]) for n in names if n.rsplit("-", 1)[-1].isdigit()}
    highest = max(numbered.values(), default=0)
    gap = max(1, highest // max(1, len(numbered)))
    return {name: numbered.get(name, highest + gap) for name in names}

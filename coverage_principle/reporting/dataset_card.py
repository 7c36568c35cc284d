"""A card for a data set: Markdown that tells what is in it, and a figure of its bridges."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coverage_principle.data import World, bridge_counts
from coverage_principle.data.files import Content
from coverage_principle.reporting.style import PALETTE, figure_png, new_figure

FIGURE = "bridges.png"


def dataset_card(world: World, metadata: Mapping, name: str, command: str) -> dict[str, Content]:
    """``README.md`` and ``bridges.png`` of a data set, as contents by file name.

    ``command`` is what makes the data set again.
    """
    return {"README.md": _text(world, metadata, name, command), FIGURE: _figure(world)}


def _text(world: World, metadata: Mapping, name: str, command: str) -> str:
    graph, counts = world.graph, metadata["counts"]
    compositions = metadata["compositions"]
    steps = ", ".join(f"{f.output} = {f.name}({', '.join(f.sources)})" for f in graph.functions)
    lines = [
        f"# {name}",
        "",
        f"Task `{graph.name}` over {world.settings.num_tokens} tokens: {steps}.",
        "",
        f"    {command}",
        "",
        "## Items",
        "",
        "| split | items | out of |",
        "|---|---:|---:|",
        f"| train | {counts['train']:,} | {compositions['trainable']:,} trainable compositions |",
    ]
    if "atomic_facts_in_train" in counts:
        lines.append(
            f"| train, single facts | {counts['atomic_facts_in_train']:,} | facts that every "
            "function uses in training |"
        )
    for split in ("test", "valid"):
        for label, number in counts.get(split, {}).items():
            pool = compositions["outside_train"].get(label)
            source = "training items" if pool is None else f"{pool:,} compositions outside train"
            lines.append(f"| {split}, {label} | {number:,} | {source} |")
    lines += [
        "",
        f"Of {compositions['domain']:,} compositions in all, {compositions['in_domain']:,} are in "
        "the domain: every call they make is made by a training item.",
        "",
        "## Functions",
        "",
        "| function | facts | expected seen | used in train | tokens never its value |",
        "|---|---:|---:|---:|---:|",
    ]
    for primitive, table in zip(metadata["primitives"], world.tables, strict=True):
        missing = world.settings.num_tokens - len(np.unique(table.values))
        used = primitive["seen_in_train"]
        lines.append(
            f"| {primitive['name']} | {primitive['facts']:,} | {primitive['expected_seen']:,} | "
            f"{used:,} ({used / primitive['facts']:.0%}) | {missing} |"
        )
    lines += [
        "",
        f"![How often each token is a bridge or the answer]({FIGURE})",
        "",
        "Tokens by how often they are a value, most frequent first, against an even share (1). "
        "Blue: among the function's facts. Orange: among the training items.",
        "",
    ]
    return "\n".join(lines)


def _figure(world: World) -> bytes:
    """A panel for each intermediate value and the answer."""
    values = [*world.graph.bridges, world.graph.answer]
    size = (2.6 * len(values) + 0.6, 2.4)
    figure, axes = new_figure(*size, 1, len(values), sharey=True, squeeze=False)
    for axis, value in zip(axes[0], values, strict=True):
        counted = bridge_counts(world, value).items()
        for colour, (label, counts) in zip(PALETTE, counted, strict=False):
            shares = np.sort(counts)[::-1] * len(counts) / max(1, counts.sum())
            axis.step(range(1, len(shares) + 1), shares, where="mid", color=colour, label=label)
        axis.axhline(1, color="grey", linewidth=1, linestyle=":")
        axis.set_title(value)
        axis.set_xlabel("token, by frequency")
    axes[0][0].set_ylabel("share of an even share")
    axes[0][0].set_ylim(0, 1.06 * axes[0][0].get_ylim()[1])
    return figure_png(figure)

"""A card for a data set: Markdown that tells what is in it, and a figure of its bridges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data import World, bridge_counts
from coverage_principle.data.files import Content
from coverage_principle.reporting.style import PALETTE, figure_png, new_figure

#: The card's text; its figure is ``bridges.png``.
_CARD = Path(__file__).with_suffix(".txt")


def dataset_card(world: World, metadata: Mapping, name: str, command: str) -> dict[str, Content]:
    """``README.md`` and ``bridges.png`` of a data set, as contents by file name.

    ``command`` is what makes the data set again.
    """
    return {"README.md": _text(world, metadata, name, command), "bridges.png": _figure(world)}


def _text(world: World, metadata: Mapping, name: str, command: str) -> str:
    graph, counts, compositions = world.graph, metadata["counts"], metadata["compositions"]
    items = [("train", counts["train"], f"{compositions['trainable']:,} trainable compositions")]
    if "atomic_facts_in_train" in counts:
        of = "facts that every function uses in training"
        items.append(("train, single facts", counts["atomic_facts_in_train"], of))
    for split in ("test", "valid"):
        for label, number in counts.get(split, {}).items():
            pool = compositions["outside_train"].get(label)
            of = "training items" if pool is None else f"{pool:,} compositions outside train"
            items.append((f"{split}, {label}", number, of))
    functions = []
    for primitive, table in zip(metadata["primitives"], world.tables, strict=True):
        missing = world.settings.num_tokens - len(np.unique(table.values))
        facts, used = primitive["facts"], primitive["seen_in_train"]
        seen = f"{primitive['expected_seen']:,} | {used:,} ({used / facts:.0%})"
        functions.append(f"| {primitive['name']} | {facts:,} | {seen} | {missing} |")
    return _CARD.read_text(encoding="utf-8").format(
        **{"name": name, "task": graph.name, "num_tokens": world.settings.num_tokens},
        **{
            "equations": graph.equations,
            "command": command.replace("\n", "\\n"),
            "functions": "\n".join(functions),
        },
        items="\n".join(f"| {split} | {number:,} | {of} |" for split, number, of in items),
        **compositions,
    )


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
        axis.set(title=value, xlabel="token, by frequency")
    highest = axes[0][0].get_ylim()[1]
    axes[0][0].set(ylabel="share of an even share", ylim=(0, 1.06 * highest))
    return figure_png(figure)

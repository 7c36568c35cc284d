"""A card for a data set: Markdown that tells what is in it, and a figure of its bridges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from coverage_principle.data import World, bridge_counts
from coverage_principle.data.files import Content
from coverage_principle.data.settings import TRAINED_FACTS
from coverage_principle.reporting.style import PALETTE, figure_png, new_figure
from coverage_principle.tasks import FACT_TYPES
from simpletransformers.words import count_lines, counted

#: The card's text; its figure is ``bridges.png``.
_CARD = Path(__file__).with_suffix(".txt")


def dataset_card(world: World, metadata: Mapping, name: str, command: str) -> dict[str, Content]:
    """``README.md`` and ``bridges.png`` of a data set, as contents by file name.

    ``command`` is what makes the data set again.
    """
    return {"README.md": _text(world, metadata, name, command), "bridges.png": _figure(world)}


def world_lines(world: World, metadata: Mapping) -> list[str]:
    """What a data set holds, for a terminal: items by type, facts seen in training, shortfalls."""
    all_of, explained = metadata["compositions"], world.graph.explained
    domain = f"of {counted(all_of['domain'], 'composition')}"
    rows = [("train", len(world.train), _possible(world))]
    rows += [("in the domain (every call seen)", all_of["in_domain"], domain)]
    for label, items in world.test.items():
        of = f"of {world.available[label]:,}" if label in world.available else ""
        rows.append((explained(label), len(items), of))
    for label in sorted({part.label for part in world.test_facts}, reverse=True):
        count = metadata["counts"]["test"][label]
        rows.append((explained(label), count, "of the training facts"))
    if world.facts:
        rows.append(("training facts", sum(map(len, world.facts)), ""))
    if world.noisy:
        rows.append(("wrong answers (label noise)", len(world.noisy), "of the training items"))
    if world.validation:
        rows.append(("validation", sum(map(len, world.validation.values())), "of all types"))
    seen = [
        f"{one['name']}: {one['seen_in_train']:,} of {counted(one['facts'], 'fact')} seen in train"
        for one in metadata["primitives"]
    ]
    return [*count_lines(rows), *seen, *(f"note: {short}" for short in world.shortfalls())]


def layout_lines(world: World, metadata: Mapping) -> list[str]:
    """The same of a data set in a format of others, by the names that they have for items."""
    counts = metadata["counts"]
    rows = [("train", counts["train"], _possible(world))]
    rows += [("training facts", counts["atomic_facts_in_train"], "")]
    return count_lines([*rows, *((label, count, "") for label, count in counts["test"].items())])


def _possible(world: World) -> str:
    return f"of {counted(world.trainable, 'possible training composition')}"


def _text(world: World, metadata: Mapping, name: str, command: str) -> str:
    graph, counts, compositions = world.graph, metadata["counts"], metadata["compositions"]
    possible = "possible training composition"
    items = [("train", counts["train"], counted(compositions["trainable"], possible))]
    if "atomic_facts_in_train" in counts:
        of = "facts that every function uses in training"
        if world.facts:
            of = f"facts: {TRAINED_FACTS[world.settings.facts]}"
        items.append(("train, single facts", counts["atomic_facts_in_train"], of))
    for split in ("test", "valid"):
        for label, number in counts.get(split, {}).items():
            pool = compositions["outside_train"].get(label)
            of = (
                "training items"
                if pool is None
                else counted(pool, "composition") + " outside train"
            )
            of = "training facts" if label in FACT_TYPES else of
            items.append((f"{split}, {graph.explained(label)}", number, of))
    if world.noisy:
        items.append(("train, wrong answers", len(world.noisy), "training items (label noise)"))
    sizes = {name: len(tokens) for name, tokens in world.alphabets.items()}
    functions = []
    primitives = zip(graph.functions, metadata["primitives"], world.tables, strict=True)
    for function, primitive, table in primitives:
        given = np.unique(table.values)
        missing = sizes[graph.alphabet(function.output)] - int((given >= 0).sum())
        facts, used = primitive["facts"], primitive["seen_in_train"]
        seen = f"{primitive['expected_seen']:,} | {used:,} ({used / facts:.0%})"
        functions.append(f"| {primitive['name']} | {facts:,} | {seen} | {missing} |")
    return _CARD.read_text(encoding="utf-8").format(
        **{"name": name, "task": graph.name, "num_tokens": _tokens(sizes)},
        **{
            "equations": graph.equations,
            "command": command.replace("\n", "\\n"),
            "functions": "\n".join(functions),
        },
        items="\n".join(f"| {split} | {number:,} | {of} |" for split, number, of in items),
        **compositions,
    )


def _tokens(sizes: Mapping[str, int]) -> str:
    """How many tokens there are, by alphabet if there are several."""
    if len(sizes) == 1:
        return str(next(iter(sizes.values())))
    return ", ".join(f"{size:,} {name}" for name, size in sizes.items())


def _figure(world: World) -> bytes:
    """A panel for each intermediate value and the answer."""
    values = [*world.graph.bridges, world.graph.answer]
    size = (2.6 * len(values) + 2.0, 2.4)
    figure, axes = new_figure(*size, 1, len(values), sharey=True, squeeze=False)
    for axis, value in zip(axes[0], values, strict=True):
        counted = bridge_counts(world, value).items()
        for colour, (label, counts) in zip(PALETTE, counted, strict=False):
            shares = np.sort(counts)[::-1] * len(counts) / max(1, counts.sum())
            axis.step(range(1, len(shares) + 1), shares, where="mid", color=colour, label=label)
        axis.axhline(1, color="grey", linewidth=1, linestyle=":")
        axis.set(title=value, xlabel="token, by frequency")
    highest = axes[0][0].get_ylim()[1]
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes[0][0].set(ylabel="frequency\n(1: as in an even share)", ylim=(0, 1.06 * highest))
    return figure_png(figure)

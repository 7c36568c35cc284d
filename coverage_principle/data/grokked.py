"""Worlds of entities, as in "Grokked Transformers are Implicit Reasoners" (arXiv 2405.15071).

``composition``: every entity has facts, each with another relation and a random entity as its
tail, and a composition follows relations from a head. ``comparison``: every entity has a value of
every attribute, and a composition says which of two entities has more. Some facts are out of
domain: no training composition uses them. The size of the training set is given by ``phi``, as
compositions for each in-domain fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from coverage_principle.data.relational import comparison_graph, composition_graph
from coverage_principle.data.settings import EntityWorldSettings
from coverage_principle.data.space import CompositionSpace
from coverage_principle.data.tables import Table
from coverage_principle.data.worlds import World, sample_world, trainable_space, training_items
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TaskGraph
from simpletransformers.words import counted

#: What two values are to each other, in the order of the comparison's values.
ANSWERS = ("<less>", "<equal>", "<greater>")

#: A stream of the seed that no other draw uses (``worlds.py``).
_FACTS = 5


@dataclass(frozen=True)
class EntityWorld:
    """The facts of a world of entities, and what its training set is drawn from.

    ``tables`` are those of the graph's functions, that of the facts first. ``amount`` is the number
    of training compositions.
    """

    graph: TaskGraph
    alphabets: Mapping[str, Sequence[str]]
    tables: list[Table]
    allowed: CompositionSpace
    amount: int

    __repr__ = one_line

    @property
    def values(self) -> list[np.ndarray]:
        """The table of each function, as ``evaluate`` takes them."""
        return [table.values for table in self.tables]

    def train(self, seed: int) -> np.ndarray:
        """The training compositions: ``(amount, slots)`` int32."""
        return training_items(self.allowed, self.amount, seed)


def generate_entity_world(settings: EntityWorldSettings) -> World:
    """Draw facts, training compositions, and test and validation items of every type.

    ``InputError`` if there are fewer compositions of in-domain facts than ``phi`` asks for.
    """
    drawn = draw_entities(settings)
    train = drawn.train(settings.seed)
    given = drawn.graph, drawn.alphabets, drawn.tables, train, drawn.allowed.size
    return sample_world(*given, settings)


def draw_entities(settings: EntityWorldSettings) -> EntityWorld:
    """Draw the facts of a world; ``InputError`` as ``generate_entity_world``."""
    rng = np.random.default_rng([settings.seed, _FACTS])
    draw = {"composition": _composition, "comparison": _comparison}[settings.task]
    graph, (alphabets, tables) = _graph(settings), draw(settings, rng)
    allowed = trainable_space(graph, tables)
    facts = int(tables[0].expected_seen.sum())
    asked = f"`phi` {settings.phi:g} of {counted(facts, 'in-domain fact')}"
    wanted = settings.phi * facts  # may be beyond all integers
    if wanted >= allowed.size + 0.5:
        most = floor(1000 * allowed.size / facts) / 1000
        raise InputError(
            f"{asked} asks for more training compositions than the {allowed.size:,} that are made "
            f"of in-domain facts alone; give at most {most:g}"
        )
    amount = round(wanted)
    if amount == 0:
        raise InputError(f"{asked} is no training composition; raise it, or lower `ood_ratio`")
    return EntityWorld(graph, alphabets, tables, allowed, amount)


def _graph(settings: EntityWorldSettings) -> TaskGraph:
    comparison = settings.task == "comparison"
    return comparison_graph() if comparison else composition_graph(settings.hops)


def _composition(
    settings: EntityWorldSettings, rng: np.random.Generator
) -> tuple[dict[str, list[str]], list[Table]]:
    entities, relations, degree = settings.sizes
    # For each entity the relations that come first in a random order of its own.
    order = rng.random((entities, relations))
    own = np.argpartition(order, degree - 1, axis=1)[:, :degree]
    tails = rng.integers(0, entities, own.shape, dtype=np.int32)
    values = np.full((entities, relations), -1, dtype=np.int32)
    np.put_along_axis(values, own, tails, axis=1)
    facts = np.flatnonzero(values >= 0)
    outside = rng.choice(facts, round(settings.ood_ratio * len(facts)), replace=False)
    inside = values >= 0
    inside.reshape(-1)[outside] = False
    alphabets = {"entity": _tokens("e", entities), "relation": _tokens("r", relations)}
    return alphabets, [Table(values, inside)] * settings.hops


def _comparison(
    settings: EntityWorldSettings, rng: np.random.Generator
) -> tuple[dict[str, list[str]], list[Table]]:
    entities, attributes, values = settings.sizes
    table = rng.integers(0, values, (entities, attributes), dtype=np.int32)
    # The same number of entities is out of domain for every attribute.
    rank = rng.random((entities, attributes)).argsort(axis=0).argsort(axis=0)
    facts = Table(table, rank >= round(settings.ood_ratio * entities))
    first, second = np.indices((values, values))
    compare = (1 + np.sign(first - second)).astype(np.int32)
    alphabets = {
        "attribute": _tokens("attr", attributes),
        "entity": _tokens("e", entities),
        "value": [f"<{value}>" for value in range(values)],
        "answer": list(ANSWERS),
    }
    # That 3 is less than 5 is told by no item: it is learned from comparisons alone.
    comparison = Table(compare, np.ones_like(compare, dtype=bool), listed=False)
    return alphabets, [facts, facts, comparison]


def _tokens(name: str, count: int) -> list[str]:
    return [f"<{name}_{i}>" for i in range(count)]


def data_set_name(settings: EntityWorldSettings, kind: str) -> str:
    """What a data set of these settings is called; ``kind`` says how its targets are written."""
    name = _graph(settings).name
    parts = [name, *map(str, settings.sizes), f"phi-{settings.phi:g}", kind]
    parts += [f"facts-{settings.facts}"] if settings.facts != "all" else []
    parts += [f"noise-{settings.label_noise:g}"] if settings.label_noise else []
    return ".".join(parts)

"""The random worlds of ``oracles/worlds_bruteforce.py`` as the library samples and writes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from coverage_principle.data import (
    Dataset,
    FormatSettings,
    World,
    dataset_files,
    load_dataset,
    write_dataset,
)
from coverage_principle.data.tables import Table
from coverage_principle.data.worlds import sample_world, trainable_space, training_items
from tests.oracles.worlds_bruteforce import PlainWorld, draw_world

WORLDS = range(200)


@dataclass(frozen=True)
class Sampling:
    """What is asked of a world's items, as the generators' settings say it."""

    test_size_for_type: int
    validation_size: int
    seed: int
    facts: str
    label_noise: float

    def arguments(self) -> dict[str, object]:
        return asdict(self)


def arrays(plain: PlainWorld) -> list[Table]:
    """The tables of an oracle's world as the library has them."""
    found = []
    for function in plain.graph.functions:
        shape = tuple(plain.size(source) for source in function.sources)
        values, expected = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=bool)
        for call, result in plain.tables[function.table].items():
            values[call] = result
        for call in plain.expected[function.name]:
            expected[call] = True
        found.append(Table(values, expected, listed=function.table not in plain.untold))
    return found


def sample(plain: PlainWorld, seed: int, **changes) -> World:
    """The library's sample of an oracle's world."""
    tables, sizes = arrays(plain), (plain.test_size, plain.validation_size)
    settings = replace(Sampling(*sizes, seed, plain.facts, plain.noise), **changes)
    allowed = trainable_space(plain.graph, tables)
    train = training_items(allowed, plain.amount, seed)
    return sample_world(plain.graph, plain.alphabets, tables, train, allowed.size, settings)


@cache
def both(seed: int) -> tuple[PlainWorld, World]:
    """The same world twice: as dictionaries, and as the library samples it."""
    plain = draw_world(seed)
    return plain, sample(plain, seed)


def rows(array: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row) for row in array.tolist()]


def marked(mask: np.ndarray) -> set[tuple[int, ...]]:
    return set(rows(np.argwhere(mask)))


def write(world: World, folder: Path, **form) -> Dataset:
    """The data set of a world, written and read again."""
    files, metadata = dataset_files(world, FormatSettings(**form))
    write_dataset(folder, files, metadata, overwrite=False)
    return load_dataset(folder)

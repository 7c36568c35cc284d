"""Triples (head, relation, tail), and compositions that follow their relations.

A (head, relation) with one tail is a *functional step*, and only along such steps a composition
``(h, r1, ..., rk)`` has one answer. Compositions are counted and drawn by rank, never listed.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coverage_principle.data.contents import Contents, Facts, Items
from coverage_principle.data.files import text_lines
from coverage_principle.data.formats import world_contents
from coverage_principle.data.importing.common import (
    FEWER,
    Imported,
    Numbers,
    csv_fault,
    empty_table,
    finish,
    in_use,
    too_many,
)
from coverage_principle.data.importing.settings import MOST_ROWS, TriplesSettings
from coverage_principle.data.relational import composition_graph
from coverage_principle.data.settings import check_facts
from coverage_principle.data.space import check_domain
from coverage_principle.data.tables import Table, evaluate
from coverage_principle.data.vocabulary import token_of
from coverage_principle.data.worlds import sample_world, trainable_space, training_items
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph
from simpletransformers.words import counted

#: Splits that a file's name may tell, in the order in which a triple belongs to the first.
_ROLES = {"train": ("train",), "valid": ("valid", "dev"), "test": ("test",)}
#: First lines that are no triples.
_HEADERS = {
    ("head", "relation", "tail"),
    ("subject", "predicate", "object"),
    ("subject", "relation", "object"),
    ("h", "r", "t"),
}
_FACTS = 3  # random streams: apart from those of a world
_CHUNK = 100_000  # lines that become numbers at once


@dataclass(frozen=True)
class _Triples:
    """Distinct triples ``(n, 3)`` of numbers, and for each the place of its file in ``files``."""

    files: Sequence[str]
    rows: np.ndarray
    of_file: np.ndarray
    entities: Sequence[str]
    relations: Sequence[str]


def read(sources: Sequence[Path], settings: TriplesSettings) -> Imported:
    """Files of triples as a data set. ``InputError`` names file and line of what does not fit."""
    graph = composition_graph(settings.hops)
    trained = settings.facts or ("in_domain" if graph.bridges else "none")
    if trained != "none":
        check_facts(graph, same=True)
    files = _by_role(sources)
    if len(files) > 1 and settings.ood_ratio:
        raise InputError("`ood_ratio` splits one file of triples; these are split by their files")
    dropped: Counter[str] = Counter()
    triples = _read_files(files, settings, dropped)
    steps = _functional(triples, dropped)
    notes = _paths(triples, steps, settings.hops)
    table, origin = _table(steps, settings)
    alphabets, told = _apart(
        {
            "entity": [token_of(name) for name in steps.entities],
            "relation": [token_of(name) for name in steps.relations],
        }
    )
    notes += told
    sizes = [len(alphabets[name]) for name in graph.alphabets_of(graph.inputs)]
    check_domain(sizes, FEWER)
    tables = [Table(table, origin == 0)] * settings.hops
    space = trainable_space(graph, tables)
    amount = _amount(space.size, settings)
    drawn = replace(settings, facts=trained)
    train = training_items(space, amount, drawn.seed)
    world = sample_world(graph, alphabets, tables, train, space.size, drawn)
    notes += [
        f"{amount:,} of {counted(space.size, 'composition')} of training triples are trained on"
    ]
    few = [
        name for name in world.available if 0 < len(world.test[name]) < settings.test_size_for_type
    ]
    if few:
        notes.append(f"test.json has every item that there is of {', '.join(few)}")
    contents = world_contents(world)
    if len(files) > 1:
        contents = _with_source_types(contents, origin, triples.files)
    return finish("triples", [*files.values()], contents, world.seen, drawn, dropped, notes)


def _by_role(sources: Sequence[Path]) -> dict[str, Path]:
    """The files by split, ``train`` first; a single one is ``train``."""
    if len(sources) == 1:
        return {"train": sources[0]}
    found: dict[str, Path] = {}
    for role, words in _ROLES.items():
        own = [path for path in sources if any(word in path.stem.lower() for word in words)]
        if len(own) == 1:
            found[role] = own[0]
    if len(found) < len(sources) or "train" not in found or len({*found.values()}) < len(found):
        shown = ", ".join(path.name for path in sources)
        raise InputError(
            f"of several files one must have train in its name, and the others valid or test, "
            f"each once; given are {shown}"
        )
    return found


# ----------------------------------------------------------------------------------- reading


def _read_files(
    files: dict[str, Path], settings: TriplesSettings, dropped: Counter[str]
) -> _Triples:
    entities, relations = Numbers(), Numbers()
    parts, of_file = [], []
    for place, path in enumerate(files.values()):
        before = sum(map(len, of_file))
        for heads, names, tails in _chunks(path, settings, MOST_ROWS - before):
            parts.append(np.stack([entities.of(heads), relations.of(names), entities.of(tails)]))
            of_file.append(np.full(len(heads), place, dtype=np.int32))
        if sum(map(len, of_file)) == before:
            raise InputError(f"{path} has no triples; at least one is needed")
    rows = np.concatenate(parts, axis=1).T
    codes = (rows[:, 0].astype(np.int64) * len(relations.names) + rows[:, 1]) * len(entities.names)
    _, first = np.unique(codes + rows[:, 2], return_index=True)
    dropped["triples that are there already"] = len(rows) - len(first)
    first.sort()
    places = np.concatenate(of_file)[first]
    return _Triples([*files], rows[first], places, entities.names, relations.names)


def _chunks(
    path: Path, settings: TriplesSettings, most: int
) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Heads, relations and tails of some lines at once."""
    lines = text_lines(path)
    first = next(lines, "")
    tabs = "\t" in first

    def given() -> Iterator[str]:
        yield first
        yield from lines

    quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    reader = csv.reader(given(), delimiter="\t" if tabs else ",", quoting=quoting, strict=True)
    chunk: list[list[str]] = []
    read = 0
    try:
        for row in reader:
            if not row or (settings.header and reader.line_num == 1):
                continue
            if reader.line_num == 1 and tuple(map(str.lower, row)) in _HEADERS:
                raise InputError(
                    f"{path} line 1 is {', '.join(row)}, which reads like the names of columns; "
                    "give `header`"
                )
            if len(row) != 3 or "" in row:
                _refuse(path, reader.line_num, row, "tabs" if tabs else "commas")
            chunk.append(row)
            if len(chunk) == _CHUNK:
                read += _CHUNK
                if read > most:
                    raise too_many(path, "triples (with other files)", MOST_ROWS)
                yield tuple(map(list, zip(*chunk, strict=True)))
                chunk = []
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {csv_fault(error)}") from error
    if read + len(chunk) > most:
        raise too_many(path, "triples (with other files)", MOST_ROWS)
    if chunk:
        yield tuple(map(list, zip(*chunk, strict=True)))


def _refuse(path: Path, line: int, row: Sequence[str], separator: str) -> None:
    wanted = f"a triple is three fields (head, relation, tail) separated by {separator}"
    found = "an empty field" if len(row) == 3 else f"{len(row)}: {' | '.join(row)[:80]}"
    raise InputError(f"{path} line {line}: {wanted}, and here is {found}")


def _apart(alphabets: dict[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Alphabets without a common token: if there is one, all tokens name their alphabet."""
    common = {*alphabets["entity"]} & {*alphabets["relation"]}
    if not common:
        return alphabets, []
    named = {
        name: [f"<{name}={token[1:]}" for token in tokens] for name, tokens in alphabets.items()
    }
    example = min(common)
    told = f"{example} is an entity and a relation, so tokens are named <entity={example[1:]} ..."
    return named, [told]


# ----------------------------------------------------------------------------------- steps


def _functional(triples: _Triples, dropped: Counter[str]) -> _Triples:
    """The triples that are functional steps, and the names that these use."""
    codes = triples.rows[:, 0].astype(np.int64) * len(triples.relations) + triples.rows[:, 1]
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    one = counts[place] == 1
    dropped["triples whose (head, relation) has several tails"] = int((~one).sum())
    if not one.any():
        raise InputError("no (head, relation) has one tail only, so there is no functional step")
    ends, entities = in_use(triples.rows[one][:, [0, 2]], triples.entities)
    middle, relations = in_use(triples.rows[one][:, 1], triples.relations)
    rows = np.stack([ends[:, 0], middle, ends[:, 1]], axis=1)
    return _Triples(triples.files, rows, triples.of_file[one], entities, relations)


def _table(steps: _Triples, settings: TriplesSettings) -> tuple[np.ndarray, np.ndarray]:
    """The table [entity, relation] of functional steps, and the place of each one's file.

    With `ood_ratio`, the facts held out have place 1.
    """
    shape = len(steps.entities), len(steps.relations)
    table = empty_table("facts", shape)
    heads, relations, tails = steps.rows.T
    table[heads, relations] = tails
    origin = np.full(shape, -1, dtype=np.int8)
    origin[heads, relations] = steps.of_file
    if settings.ood_ratio:
        rng = np.random.default_rng([settings.seed, _FACTS])
        count = round(settings.ood_ratio * len(heads))
        held_out = rng.choice(len(heads), count, replace=False)
        origin[heads[held_out], relations[held_out]] = 1
    return table, origin


def _paths(triples: _Triples, steps: _Triples, hops: int) -> list[str]:
    """A sentence on how many paths go along functional steps only."""
    degree = int(np.bincount(triples.rows[:, 0]).max())
    if degree**hops * len(triples.entities) >= 2**62:
        return []
    counts = []
    for one in (steps, triples):
        heads, _, tails = one.rows.T
        ways = np.ones(len(one.entities), dtype=np.int64)
        for _ in range(hops):
            further = np.zeros_like(ways)
            np.add.at(further, heads, ways[tails])
            ways = further
        counts.append(int(ways.sum()))
    paths = f"{counted(counts[1], 'path')} of {counted(hops, 'triple')}"
    along = f"{counts[0]:,} of {paths} are along functional steps"
    others = "; the others have no one answer and are no compositions"
    return [along + (others if counts[0] < counts[1] else "")]


def _amount(available: int, settings: TriplesSettings) -> int:
    """How many training items are drawn. ``InputError`` if that is none, or too many to hold."""
    left = available - round(settings.test_ratio * available)
    amount = min(left, settings.max_train_data_num or left)
    if not amount:
        of = f"compositions of {settings.hops} training triples along functional steps"
        why = f"and `test_ratio` {settings.test_ratio:g} leaves none to train on"
        if not available:
            why = "so there is nothing to train on"
            why += "; lower `ood_ratio`" if settings.ood_ratio else "; try fewer `hops`"
        raise InputError(f"there are {available:,} {of}, {why}")
    if amount > MOST_ROWS:
        raise InputError(
            f"there are {counted(amount, 'composition')} to train on, and a data set is made of at "
            f"most {MOST_ROWS:,}; give `max_train_data_num`"
        )
    return amount


# ----------------------------------------------------------------------------------- types


def _with_source_types(contents: Contents, origin: np.ndarray, files: Sequence[str]) -> Contents:
    """Test items apart by the last of the files that their triples are from."""
    graph = contents.graph
    test: list[Items | Facts] = []
    for part in contents.splits["test"]:
        if isinstance(part, Facts):
            places = origin[tuple(part.calls.T)]
        else:
            places = _last_file(graph, contents.tables, origin, part.inputs)
        key = "calls" if isinstance(part, Facts) else "inputs"
        for place, name in enumerate(files):
            rows = getattr(part, key)[places == place]
            if len(rows):
                test.append(replace(part, **{key: rows}, source_type=name))
    return replace(contents, splits={**contents.splits, "test": test})


def _last_file(
    graph: TaskGraph, tables: Sequence[np.ndarray], origin: np.ndarray, inputs: np.ndarray
) -> np.ndarray:
    values = evaluate(graph, tables, inputs)
    calls = [tuple(values[source] for source in f.sources) for f in graph.functions]
    return np.max([origin[call] for call in calls], axis=0)

"""A table with a row for each item: which columns are slots, intermediate values, the answer."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.data.importing.columns import Columns, read_columns
from coverage_principle.data.importing.common import (
    FEWER,
    Draft,
    Imported,
    Listed,
    Numbers,
    contradiction,
    empty_table,
    finish,
)
from coverage_principle.data.importing.settings import TableSettings, columns
from coverage_principle.data.space import check_domain, encode_rows
from coverage_principle.data.vocabulary import token_of
from coverage_principle.errors import InputError
from coverage_principle.tasks import DEFAULT_ALPHABET, NODE_NAME, TASKS, TaskGraph
from simpletransformers.words import counted

_SPLITS = ("train", "test", "valid")
_CALL = re.compile(r"([^()]+)\(([^()]*)\)")


def read(sources: Sequence[Path], settings: TableSettings) -> Imported:
    """A table as a data set. ``InputError`` names file and line of what does not fit."""
    file, dropped, notes = sources[0], Counter(), []
    functions = _functions(settings)
    slots = settings.inputs or (settings.sequence,)
    used = [*slots, *(output for output, _ in functions)]
    more = [name for name in (settings.split, settings.type_column) if name]
    rows = read_columns(file, [*used, *more], settings.delimiter)
    notes += [
        f"white space was removed around the value of {counted(count, 'cell')} of column {name}"
        for name, count in rows.spaced.items()
    ]
    if settings.sequence:
        rows, slots, alphabet_of = _words(rows, settings, dropped)
        functions = [(functions[-1][0], slots)]
    else:
        alphabet_of = _alphabets_of(used, settings)
    graph, node = _graph(file.stem, slots, functions, alphabet_of)
    notes += [
        f"column {name} is called {node[name]} here"
        for name in used
        if name in node and node[name] != name
    ]
    return assembled(rows, graph, node, settings, dropped=dropped, notes=notes, files=[file])


def assembled(
    rows: Columns,
    graph: TaskGraph,
    node: Mapping[str, str],
    settings: TableSettings,
    *,
    dropped: Counter,
    notes: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> Imported:
    """Rows as a data set; ``node`` names the slot or value of ``graph`` that each column is."""
    rows = rows.take(_consistent(graph, node, rows, settings, dropped))
    codes, names = _shared(rows, node, graph)
    alphabets, told = _tokens(names)
    told += _alike(names)
    sizes = {name: len(tokens) for name, tokens in alphabets.items()}
    check_domain([sizes[name] for name in graph.alphabets_of(graph.inputs)], FEWER)
    tables = _tables(graph, codes, sizes) if graph.bridges else None
    listed = Listed(np.stack([codes[slot] for slot in graph.inputs], axis=1), codes[graph.answer])
    if settings.type_column:
        listed = Listed(
            listed.values,
            listed.results,
            rows.codes[settings.type_column],
            rows.names[settings.type_column],
        )
    train, held_out = _split(listed, rows, settings, graph, sizes, dropped)
    draft = Draft(graph, alphabets, tables, train, held_out, dropped=dropped)
    contents, seen = draft.contents()
    return finish("table", files, contents, seen, settings, draft.dropped, [*notes, *told])


# ----------------------------------------------------------------------------------- the graph


def _functions(settings: TableSettings) -> list[tuple[str, tuple[str, ...]]]:
    """Outputs and what each reads, in order; the answer is last."""
    found = []
    for text in (settings.bridges or "").split(";"):
        if text.strip():
            name, sources = _call(text, "bridges")
            if not sources:
                raise InputError(f"`bridges` {text.strip()}: it must say what it reads")
            found.append((name, sources))
    name, sources = settings.answer.strip(), ()
    if "(" in name:
        name, sources = _call(name, "answer")
    read = {source for _, given in found for source in given}
    bridges = [output for output, _ in found]
    unread = [column for column in (*bridges, *settings.inputs) if column not in read]
    return [*found, (name, sources or tuple(unread))]


def _call(text: str, setting: str) -> tuple[str, tuple[str, ...]]:
    match = _CALL.fullmatch(text.strip())
    if not match:
        raise InputError(
            f"`{setting}` {text.strip()} must be a column and what it reads, such as b1(a,b)"
        )
    return match[1].strip(), columns(match[2])


def _graph(
    name: str,
    slots: Sequence[str],
    functions: Sequence[tuple[str, tuple[str, ...]]],
    alphabet_of: Mapping[str, str],
) -> tuple[TaskGraph, dict[str, str]]:
    """The task's graph, and the name of each column in it."""
    used = [*slots, *(output for output, _ in functions)]
    for column in used:
        if used.count(column) > 1:
            raise InputError(f"column {column!r} is given twice; each is a slot or one value")
    node: dict[str, str] = {}
    # A name that can stay as it is does, whatever the others are turned into.
    for column in sorted(used, key=lambda name: NODE_NAME.fullmatch(name) is None):
        taken = {DEFAULT_ALPHABET, *node.values()}
        node[column] = _free(plain_name(column), taken)
    node = {column: node[column] for column in used}
    for output, sources in functions:
        for source in sources:
            if source not in node:
                raise InputError(f"{output} reads {source!r}, which is none of {', '.join(node)}")
    task = _free(re.sub(r"[^A-Za-z0-9-]", "-", name) or "-", {*TASKS})
    description = {
        "name": task,
        "inputs": [node[slot] for slot in slots],
        "functions": [
            {"name": f"f{i}", "output": node[output], "sources": [node[s] for s in sources]}
            for i, (output, sources) in enumerate(functions, start=1)
        ],
        "alphabets": {
            node[column]: node.get(alphabet_of[column], alphabet_of[column]) for column in node
        },
        "answer": node[functions[-1][0]],
    }
    return TaskGraph.from_dict(description), node


def plain_name(column: str) -> str:
    """A column's name as that of a slot or value: ``Prix TTC`` is ``Prix_TTC``, ``3`` is ``c3``."""
    numbered = f"c{column}" if column.isdecimal() else column  # numbers are places of slots
    # One sign for a letter and its accent, so that it is taken for a letter.
    return re.sub(r"[^\w-]", "_", unicodedata.normalize("NFC", numbered)) or "_"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken."""
    if name in taken:
        return next(f"{name}-{i}" for i in range(2, 1000) if f"{name}-{i}" not in taken)
    return name


# ----------------------------------------------------------------------------------- alphabets


def _alphabets_of(used: Sequence[str], settings: TableSettings) -> dict[str, str]:
    """The first column of each column's alphabet."""
    found = {column: column for column in used}
    for group in (settings.alphabet or "").split(";"):
        members = columns(group)
        for column in members:
            if column not in found:
                raise InputError(
                    f"`alphabet` {group.strip()}: {column} is none of {', '.join(found)}"
                )
            if found[column] != column or column in {*found.values()} - {column}:
                raise InputError(f"`alphabet`: {column} is in two groups")
            found[column] = members[0]
    return found


def _shared(
    rows: Columns, node: Mapping[str, str], graph: TaskGraph
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Values of each slot and value, and the names of each alphabet, by first appearance."""
    names: dict[str, dict[str, int]] = {}
    codes = {}
    for column, name in node.items():
        own = names.setdefault(graph.alphabet(name), {})
        places = [own.setdefault(text, len(own)) for text in rows.names[column]]
        codes[name] = np.array(places, dtype=np.int32)[rows.codes[column]]
    return codes, {name: list(own) for name, own in names.items()}


def _alike(names: Mapping[str, list[str]], most: int = 3) -> list[str]:
    """Notes on names of an alphabet that may well mean the same thing, the first ones of each."""
    notes = []
    for alphabet, own in names.items():
        groups: dict[str, list[str]] = {}
        for name in own:
            same = " ".join(unicodedata.normalize("NFC", name).casefold().split())
            groups.setdefault(same, []).append(name)
        if found := [group for group in groups.values() if len(group) > 1]:
            shown = "; ".join(" and ".join(map(repr, group)) for group in found[:most])
            more = f" and {len(found) - most} more" if len(found) > most else ""
            notes.append(
                f"{alphabet} has names that differ in capitals, spacing or Unicode form alone, and "
                f"are taken for different things: {shown}{more}"
            )
    return notes


def _tokens(names: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Tokens of each alphabet; those of alphabets with a name in common also name the alphabet."""
    named: dict[str, str] = {}
    while True:
        tokens = {
            alphabet: [token_of(f"{alphabet}={n}" if alphabet in named else n) for n in own]
            for alphabet, own in names.items()
        }
        owner: dict[str, str] = {}
        before = len(named)
        for alphabet, own in tokens.items():
            for token in own:
                other = owner.setdefault(token, alphabet)
                if other != alphabet:
                    named |= {other: token, alphabet: token}
        if len(named) == before:
            break
    if not named:
        return tokens, []
    token = next(iter(named.values()))
    told = f"tokens of {', '.join(n for n in names if n in named)} name their alphabet, such as "
    first = next(tokens[name][0] for name in names if name in named)
    return tokens, [
        f"{told}{first}: {token} would be of several (`alphabet` lets columns share one)"
    ]


# ----------------------------------------------------------------------------------- sequences


def _words(
    rows: Columns, settings: TableSettings, dropped: Counter
) -> tuple[Columns, tuple[str, ...], dict[str, str]]:
    """The words of a column as slots ``w1``, ``w2`` ..., all of one alphabet."""
    texts = [name.split() for name in rows.names[settings.sequence]]
    lengths = np.array([len(text) for text in texts])[rows.codes[settings.sequence]]
    found = dict(zip(*map(np.ndarray.tolist, np.unique(lengths, return_counts=True)), strict=True))
    shown = ", ".join(f"{n} ({counted(count, 'row')})" for n, count in found.items())
    length = settings.length or next(iter(found))
    if settings.length is None and len(found) > 1:
        raise InputError(
            f"{rows.file}: rows of {settings.sequence} have different numbers of words: {shown}; "
            "slots are as many in every row, so give `length` to take those of one length"
        )
    if not found.pop(length, 0):
        raise InputError(f"{rows.file}: no row has `length` {length}; there are {shown}")
    dropped["rows of another length"] = sum(found.values())
    rows = rows.take(lengths == length)
    slots = tuple(f"w{i}" for i in range(1, length + 1))
    for name in slots:
        if name in rows.names:
            raise InputError(f"column {name} has the name of a slot for a word; rename it")
    texts = [name.split() for name in rows.names[settings.sequence]]
    for slot, column in zip(slots, zip(*texts, strict=True), strict=True):
        numbers = Numbers()
        rows.codes[slot] = numbers.of(column)[rows.codes[settings.sequence]]
        rows.names[slot] = numbers.names
    answer = settings.answer.strip()
    word = "words" if answer == "word" else "word"
    return rows, slots, {**dict.fromkeys(slots, word), answer: answer}


# ----------------------------------------------------------------------------------- rows


def _consistent(
    graph: TaskGraph,
    node: Mapping[str, str],
    rows: Columns,
    settings: TableSettings,
    dropped: Counter,
) -> np.ndarray:
    """The numbers of the rows that are left when no call has two results."""
    column_of = {name: column for column, name in node.items()}
    kept = np.arange(len(rows))
    for function in graph.functions:
        sources = [column_of[source] for source in function.sources]
        sizes = [len(rows.names[column]) for column in sources]
        check_domain(sizes, FEWER)
        calls = encode_rows(np.stack([rows.codes[c][kept] for c in sources], axis=1), sizes)
        results = rows.codes[column_of[function.output]][kept]
        pair = contradiction(calls, results)
        if pair is None:
            continue
        if settings.contradictions == "refuse":
            first, second = (int(kept[i]) for i in pair)
            column = column_of[function.output]
            names = [rows.names[column][rows.codes[column][row]] for row in (first, second)]
            raise InputError(
                f"{rows.place(second)}: it gives {function.output} for the same "
                f"{', '.join(function.sources)} another value, {names[1]}, than {rows.unit} "
                f"{rows.places[first]}, {names[0]}; `contradictions` drop leaves out both, "
                "majority the rarer"
            )
        good = _agreeing(calls, results, settings.contradictions)
        dropped[f"rows with another {function.output} than others of the same call"] = int(
            (~good).sum()
        )
        kept = kept[good]
    if not len(kept):
        raise InputError(f"{rows.file}: no row is left without its contradictions")
    return kept


def _agreeing(calls: np.ndarray, results: np.ndarray, how: str) -> np.ndarray:
    """Which rows have a call of one result only, or, by ``majority``, its most frequent one.

    Of results that are equally frequent, the one that is there first.
    """
    order = np.lexsort((results, calls))
    of_call, of_result = calls[order], results[order]
    new = np.append(True, (of_call[1:] != of_call[:-1]) | (of_result[1:] != of_result[:-1]))
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(order)))
    first = order[starts]  # lexsort is stable: the earliest row of each (call, result)
    ranked = np.lexsort((first, -counts, of_call[starts]))
    best = np.append(True, of_call[starts][ranked][1:] != of_call[starts][ranked][:-1])
    chosen = np.zeros(len(starts), dtype=bool)
    chosen[ranked[best]] = True
    if how == "drop":
        alone = np.append(best[1:], True) & best
        chosen[:] = False
        chosen[ranked[alone]] = True
    good = np.empty(len(order), dtype=bool)
    good[order] = chosen[np.cumsum(new) - 1]
    return good


def _tables(
    graph: TaskGraph, codes: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> list[np.ndarray]:
    """Each function's table, from the calls of all rows."""
    tables = []
    for function in graph.functions:
        shape = [sizes[name] for name in graph.alphabets_of(function.sources)]
        table = empty_table(function.output, shape)
        table[tuple(codes[source] for source in function.sources)] = codes[function.output]
        tables.append(table)
    return tables


def _split(
    listed: Listed,
    rows: Columns,
    settings: TableSettings,
    graph: TaskGraph,
    sizes: Mapping[str, int],
    dropped: Counter,
) -> tuple[Listed, dict[str, Listed]]:
    """Training items, and those of the other splits: as a column tells, or drawn."""
    if settings.split:
        names, codes = rows.names[settings.split], rows.codes[settings.split]
        if other := [name for name in names if name not in _SPLITS]:
            row = int((codes == names.index(other[0])).argmax())
            shown = ", ".join(map(repr, other[:5]))
            raise InputError(
                f"{rows.place(row)}: column {settings.split} must say {', '.join(_SPLITS)}; here "
                f"it says {shown}"
            )
        parts = {
            name: listed.take(codes == (names.index(name) if name in names else -1))
            for name in _SPLITS
            if name != "valid" or name in names
        }
        return parts.pop("train"), parts
    # One row of each input, so that no input is on both sides.
    shape = [sizes[name] for name in graph.alphabets_of(graph.inputs)]
    _, first = np.unique(encode_rows(listed.values, shape), return_index=True)
    dropped["rows whose input is there already"] = len(listed) - len(first)
    count = round(settings.test_ratio * len(first))
    if count == len(first):
        raise InputError(
            f"`test_ratio` {settings.test_ratio:g} of {counted(len(first), 'input')} leaves "
            "none to train on"
        )
    shuffled = np.random.default_rng(settings.seed).permutation(np.sort(first))
    test, train = np.sort(shuffled[:count]), np.sort(shuffled[count:])
    # As many training items as there are others, to tell what is learnt by heart.
    again = np.sort(shuffled[count : 2 * count])
    return listed.take(train), {"test": listed.take(np.concatenate([again, test]))}

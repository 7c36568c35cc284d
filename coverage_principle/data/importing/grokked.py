"""GrokkedTransformer's files: facts and compositions over entities, or comparisons of attributes.

A folder holds ``train.json``, ``test.json``, perhaps ``valid.json``, and ``vocab.json``. Records
are ``<e_1><r_2>`` with ``<e_3></a>`` (a fact) and ``<e_1><r_2><r_4>`` (a composition), or
``<e_1><attr_2>`` with ``<7></a>`` and ``<attr_2><q><e_1><mask><e_5>`` with ``<attr_2_0></a>`` (a
comparison); ``type`` may be any text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coverage_principle.data.files import read_json
from coverage_principle.data.importing.common import (
    Draft,
    Imported,
    Listed,
    Numbers,
    contradiction,
    empty_table,
    finish,
    too_many,
)
from coverage_principle.data.importing.settings import MOST_ROWS, GrokkedSettings
from coverage_principle.data.relational import MOST_HOPS, comparison_graph, composition_graph
from coverage_principle.data.space import encode_rows
from coverage_principle.data.tables import evaluate
from coverage_principle.data.vocabulary import END, token_of
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder
from coverage_principle.tasks import TaskGraph
from simpletransformers.words import counted

#: Tokens that are no names.
CONSTANTS = ("<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>")
_FACT = 2  # tokens of a fact's input


@dataclass(frozen=True)
class _Records:
    """Records of one length: their places in a file, and ids of input tokens, then the answer."""

    file: Path
    numbers: np.ndarray
    types: np.ndarray
    ids: np.ndarray

    def place(self, row: int) -> str:
        return f"{self.file} record {self.numbers[row]}"


@dataclass(frozen=True)
class _Source:
    """Everything that a folder holds; ``splits`` maps a split and a length to records."""

    folder: Path
    vocabulary: Sequence[str]
    splits: Mapping[str, Mapping[int, _Records]]
    types: Numbers
    files: Sequence[Path] = field(default_factory=list)

    def of(self, length: int) -> list[_Records]:
        """The records of a length, of all splits."""
        return [groups[length] for groups in self.splits.values() if length in groups]

    def lengths(self, split: str) -> list[int]:
        """The lengths of a split's compositions."""
        return sorted(length for length in self.splits[split] if length != _FACT)


def read(sources: Sequence[Path], settings: GrokkedSettings) -> Imported:
    """A folder as a data set. ``InputError`` names file and record of what does not fit."""
    source = _read_folder(find_folder(sources[0], "sources"))
    task = settings.task
    if task == "auto":
        masks = [source.vocabulary.index(t) for t in ("<q>", "<mask>") if t in source.vocabulary]
        lengths = source.lengths("train")
        asked = any(np.isin(masks, source.splits["train"][n].ids[0]).any() for n in lengths[:1])
        task = "comparison" if asked else "composition"
    draft = (_comparison if task == "comparison" else _composition)(source, settings)
    contents, seen = draft.contents()
    notes = []
    if "valid" in source.splits and "valid" not in contents.splits:
        notes.append("no valid.json is written: all of the source's are items of its test.json")
    return finish("grokked", source.files, contents, seen, settings, draft.dropped, notes)


# ----------------------------------------------------------------------------------- reading


def _read_folder(folder: Path) -> _Source:
    names = ["vocab", "train", "test", *(["valid"] if (folder / "valid.json").exists() else [])]
    files = [folder / f"{name}.json" for name in names]
    vocabulary = read_json(files[0], list)
    for place, token in enumerate(vocabulary, start=1):
        if not (isinstance(token, str) and token[:1] + token[-1:] == "<>" and len(token) > 2):
            raise InputError(f"{files[0]} token {place} is {token!r}, and not a name such as <e_1>")
    if len({*vocabulary}) < len(vocabulary):
        twice = next(token for token, count in Counter(vocabulary).items() if count > 1)
        raise InputError(f"{files[0]} lists the token {twice} twice")
    ids, types = {token[1:-1]: i for i, token in enumerate(vocabulary)}, Numbers()
    splits = {file.stem: _read_records(file, ids, types) for file in files[1:]}
    return _Source(folder, vocabulary, splits, types, files)


def _read_records(file: Path, ids: Mapping[str, int], types: Numbers) -> dict[int, _Records]:
    """The records of a file by the length of their inputs."""
    if file.is_file() and file.read_bytes().count(b'"input_text"') > MOST_ROWS:
        raise too_many(file, "records", MOST_ROWS)
    records = read_json(file, list)
    if not records and file.stem == "train":
        raise InputError(f"{file} has no records; at least one is needed")
    rows: dict[int, list[list[int]]] = {}
    numbers: dict[int, list[int]] = {}
    names: dict[int, list[str]] = {}
    for number, record in enumerate(records, start=1):
        try:
            given, full = record["input_text"], record["target_text"]
            end = full[len(given) :]
            if not (full.startswith(given) and end.endswith(END) and len(end) > len(END)):
                raise InputError(f"target_text {full!r} must be the input, an answer and {END}")
            answer = end[1 : -len(END) - 1]
            row = [ids[name] for name in (*given[1:-1].split("><"), *answer.split("><"))]
            if len(row) - given.count("><") != 2:
                raise InputError(f"target_text {full!r} must hold one token as the answer")
            name = record.get("type", "")
            if not isinstance(name, str):
                raise TypeError("type, which is no text")
        except InputError as error:
            raise InputError(f"{file} record {number}: {error}") from None
        except KeyError as error:
            lack = f"it lacks {error.args[0]!r}"
            if isinstance(record, dict) and {"input_text", "target_text"} <= {*record}:
                lack = f"the token <{error.args[0]}> is not in vocab.json"
            raise InputError(f"{file} record {number}: {lack}") from None
        except (TypeError, AttributeError) as error:
            wanted = "it must be an object with the texts input_text and target_text"
            raise InputError(f"{file} record {number}: {wanted}; problem with {error}") from None
        length = len(row) - 1
        rows.setdefault(length, []).append(row)
        numbers.setdefault(length, []).append(number)
        names.setdefault(length, []).append(name)
    return {
        length: _Records(
            file,
            np.array(numbers[length], dtype=np.int64),
            types.of(names[length]),
            np.array(found, dtype=np.int32),
        )
        for length, found in rows.items()
    }


# ----------------------------------------------------------------------------------- both tasks


class _Alphabets:
    """Which tokens are of which alphabet, by where records use them."""

    def __init__(
        self, source: _Source, roles: Mapping[str, Sequence[tuple[_Records, int]]]
    ) -> None:
        """``roles``: for each alphabet the records and the columns of ids that it is used in."""
        vocabulary = source.vocabulary
        owner = np.full(len(vocabulary), -1)
        self._places = np.full(len(vocabulary), -1, dtype=np.int32)
        #: The tokens of each, in the order of the source's vocabulary.
        self.tokens: dict[str, list[str]] = {}
        for number, (name, columns) in enumerate(roles.items()):
            for records, column in columns:
                ids = records.ids[:, column]
                owned = owner[ids]
                wrong = (owned >= 0) & (owned != number)
                wrong |= np.isin(ids, [i for i, t in enumerate(vocabulary) if t in CONSTANTS])
                if wrong.any():
                    row = int(wrong.argmax())
                    token, other = vocabulary[ids[row]], owned[row]
                    also = f"is also used as {list(roles)[other]}" if other >= 0 else "is no name"
                    raise InputError(
                        f"{records.place(row)}: {token} is used as {name} here, but {also} (is "
                        "`task` right?)"
                    )
                owner[ids] = number
            own = np.flatnonzero(owner == number)
            self._places[own] = np.arange(len(own))
            self.tokens[name] = [token_of(vocabulary[i][1:-1]) for i in own.tolist()]
        #: Tokens of the vocabulary that no record uses, constants aside.
        self.unused = sum(
            vocabulary[i] not in CONSTANTS for i in np.flatnonzero(owner < 0).tolist()
        )

    def values(self, records: _Records, columns: Sequence[int]) -> np.ndarray:
        """Columns of ids as values."""
        return self._places[records.ids[:, columns]]


def _listed(source: _Source, records: _Records, values: np.ndarray, **more: object) -> Listed:
    """Records as items: ``values`` are their slots, then the answer."""
    types, names = (records.types, source.types.names) if any(source.types.names) else (None, ())
    return Listed(values[:, :-1], values[:, -1], types, names, **more)


def _fact_table(
    name: str, sizes: Sequence[int], given: Sequence[tuple[_Records, np.ndarray]]
) -> np.ndarray:
    """The table that facts give, from values: the call, then the result."""
    table = empty_table(name, sizes)
    if not given:
        return table
    calls = np.concatenate([values for _, values in given])
    if pair := contradiction(encode_rows(calls[:, :-1], sizes), calls[:, -1]):
        places = [(records, row) for records, _ in given for row in range(len(records.ids))]
        first, second = (records.place(row) for records, row in (places[i] for i in pair))
        raise InputError(f"{second}: it gives a call of {name} another result than {first}")
    table[tuple(calls[:, :-1].T)] = calls[:, -1]
    return table


def _draft(
    source: _Source,
    graph: TaskGraph,
    alphabets: _Alphabets,
    tables: Sequence[np.ndarray],
    compositions: Mapping[str, tuple[_Records, np.ndarray]],
    facts: Mapping[str, tuple[_Records, np.ndarray]],
) -> Draft:
    """Records and their values by split. ``InputError`` for answers that the tables contradict."""
    for records, values in compositions.values():
        given = evaluate(graph, tables, values[:, :-1])[graph.answer]
        wrong = (given >= 0) & (given != values[:, -1])
        if wrong.any():
            row = int(wrong.argmax())
            tokens = alphabets.tokens[graph.alphabet(graph.answer)]
            told = (
                f"the answer is {tokens[values[row, -1]]}, but the facts give {tokens[given[row]]}"
            )
            raise InputError(f"{records.place(row)}: {told}")
    items = {n: _listed(source, r, values) for n, (r, values) in compositions.items()}
    single = {n: _listed(source, r, values, function=0) for n, (r, values) in facts.items()}
    for split in source.splits:
        slots = np.empty((0, len(graph.inputs) + 1), dtype=np.int32)
        items.setdefault(split, Listed(slots[:, :-1], slots[:, -1]))
    draft = Draft(graph, alphabets.tokens, tables, items.pop("train"), items)
    draft.facts = [single.pop("train")] if "train" in single else []
    draft.held_out_facts = {split: [listed] for split, listed in single.items()}
    draft.dropped["tokens of vocab.json that no record uses"] = alphabets.unused
    return draft


def _facts(source: _Source) -> dict[str, _Records]:
    """The facts of each split. ``InputError`` if there are none at all."""
    facts = _groups(source, _FACT)
    if not facts:
        raise InputError(
            f"{source.folder} has no facts, records of two tokens; without them it is not known "
            "what compositions are made of. Its compositions alone can be a table: "
            "import_dataset.py table FILE"
        )
    return facts


def _groups(source: _Source, length: int) -> dict[str, _Records]:
    return {split: groups[length] for split, groups in source.splits.items() if length in groups}


def _leave(draft: Draft, source: _Source, length: int) -> None:
    """Count records of other lengths than facts and compositions of ``length``."""
    for split, groups in source.splits.items():
        others = sum(len(r.ids) for n, r in groups.items() if n not in (_FACT, length))
        draft.dropped[f"records of {split} of other lengths"] = others


# ----------------------------------------------------------------------------------- composition


def _composition(source: _Source, settings: GrokkedSettings) -> Draft:
    """``(h, r1, ..., rk)``: all hops read one table of (entity, relation)."""
    length = _composition_length(source, settings)
    hops = length - 1
    graph = composition_graph(hops)
    facts, compositions = _facts(source), _groups(source, length)
    entity = [(records, column) for records in facts.values() for column in (0, 2)]
    relation = [(records, 1) for records in facts.values()]
    for records in compositions.values():
        entity += [(records, 0), (records, length)]
        relation += [(records, column) for column in range(1, length)]
    alphabets = _Alphabets(source, {"entity": entity, "relation": relation})
    calls = {s: (r, alphabets.values(r, [0, 1, 2])) for s, r in facts.items()}
    sizes = [len(tokens) for tokens in alphabets.tokens.values()]
    table = _fact_table("facts", sizes, list(calls.values()))
    items = {s: (r, alphabets.values(r, range(length + 1))) for s, r in compositions.items()}
    draft = _draft(source, graph, alphabets, [table] * hops, items, calls)
    _leave(draft, source, length)
    return draft


def _composition_length(source: _Source, settings: GrokkedSettings) -> int:
    """Tokens of a composition's input."""
    file, lengths = source.folder / "train.json", source.lengths("train")
    if settings.hops is not None:
        lengths = [length for length in lengths if length == settings.hops + 1]
    if len(lengths) == 1 and 2 <= lengths[0] - 1 <= MOST_HOPS:
        return lengths[0]
    found = ", ".join(
        f"{counted(len(r.ids), 'record')} of {counted(n, 'token')}"
        for n, r in sorted(source.splits["train"].items())
    )
    wanted = f"compositions of {settings.hops or f'2 to {MOST_HOPS}'} relations, all as long"
    raise InputError(
        f"{file} must hold {wanted} (`hops` chooses a length), beside facts of two tokens; it has "
        f"{found}"
    )


# ----------------------------------------------------------------------------------- comparison


def _comparison(source: _Source, settings: GrokkedSettings) -> Draft:  # noqa: ARG001
    """``(a, e1, e2)``: two values from one table of (entity, attribute), and how they compare."""
    graph = comparison_graph()
    length, slots = _comparison_slots(source)
    facts, compositions = _facts(source), _groups(source, length)
    attributes = np.unique(np.concatenate([r.ids[:, slots[0]] for r in compositions.values()]))
    # Facts are (entity, attribute) or the other way round.
    turned = any(np.isin(r.ids[:1, 0], attributes).all() for r in facts.values())
    call = [1, 0, 2] if turned else [0, 1, 2]
    roles = {
        "attribute": [(r, slots[0]) for r in compositions.values()],
        "entity": [(r, slot) for r in compositions.values() for slot in slots[1:]],
        "value": [(r, 2) for r in facts.values()],
        "answer": [(r, length) for r in compositions.values()],
    }
    for records in facts.values():
        roles["entity"].append((records, call[0]))
        roles["attribute"].append((records, call[1]))
    alphabets = _Alphabets(source, roles)
    items = {s: (r, alphabets.values(r, [*slots, length])) for s, r in compositions.items()}
    _one_answer_for_all_attributes(alphabets, items)
    calls = {s: (r, alphabets.values(r, call)) for s, r in facts.items()}
    attribute, entity, value, answer = (len(tokens) for tokens in alphabets.tokens.values())
    table = _fact_table("facts", (entity, attribute), list(calls.values()))
    compared = []
    for records, values in items.values():
        pairs = np.stack([table[values[:, i], values[:, 0]] for i in (1, 2)], axis=1)
        known = (pairs >= 0).all(axis=1)
        own = _Records(records.file, records.numbers[known], records.types, records.ids[known])
        compared.append((own, np.concatenate([pairs, values[:, -1:]], axis=1)[known]))
    order = _fact_table("comparison", (value, value), compared)
    draft = _draft(source, graph, alphabets, [table, table, order], items, calls)
    _leave(draft, source, length)
    return draft


def _comparison_slots(source: _Source) -> tuple[int, list[int]]:
    """The length of a comparison, and at which places attribute and entities stand."""
    constants = [i for i, token in enumerate(source.vocabulary) if token in CONSTANTS]
    for length in source.lengths("train"):
        records = source.splits["train"][length]
        slots = np.flatnonzero(~np.isin(records.ids[0, :-1], constants)).tolist()
        if len(slots) == 3:
            return length, slots
    raise InputError(
        f"{source.folder / 'train.json'} has no comparisons: records of an attribute and two "
        "entities, such as <attr_1><q><e_2><mask><e_3>"
    )


def _one_answer_for_all_attributes(
    alphabets: _Alphabets, items: dict[str, tuple[_Records, np.ndarray]]
) -> None:
    """Answers ``<attr_3_0>`` that name their attribute become ``<answer_0>``, in place.

    ``InputError`` if some name theirs and others another one.
    """
    attributes, answers = alphabets.tokens["attribute"], alphabets.tokens["answer"]
    begins = [f"{attribute[:-1]}_" for attribute in attributes]
    pairs = np.unique(np.concatenate([v[:, [0, -1]] for _, v in items.values()]), axis=0).tolist()
    own = {(a, t): answers[t].startswith(begins[a]) for a, t in pairs}
    if not any(own.values()):
        return
    for records, values in items.values():
        for row, (attribute, answer) in enumerate(values[:, [0, -1]].tolist()):
            if not own[attribute, answer]:
                told = f"{answers[answer]} is no answer about {attributes[attribute]}"
                raise InputError(f"{records.place(row)}: {told}, which others name as theirs")
    ends = {answer: answers[answer][len(begins[a]) : -1] for a, answer in pairs}
    names = sorted({*ends.values()})
    places = np.zeros(len(answers), dtype=np.int32)
    for answer, end in ends.items():
        places[answer] = names.index(end)
    alphabets.tokens["answer"] = [f"<answer_{name}>" for name in names]
    for _, values in items.values():
        values[:, -1] = places[values[:, -1]]

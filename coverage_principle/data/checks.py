"""What records must not be to each other: duplicates, contradictions, leaks.

Every check reports a ``Problem`` with file and record numbers; what happens then is up to the
reader: ``load_dataset`` refuses at the first one, ``validate`` collects them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from coverage_principle.data.lazy_records import joined_records
from coverage_principle.data.problems import Cause, Problem, Report
from coverage_principle.data.space import (
    distinct,
    encode_rows,
    is_member,
    repeated,
    rows_among,
)
from coverage_principle.reprs import one_line
from coverage_principle.tasks import TRAIN_INFERRED
from simpletransformers.words import counted

_DUPLICATE = Cause("records repeat an item of their file", "remove one of the two records")
_CONTRADICTION = Cause(
    "records have another target than a record before them with the same input",
    "find out which target is right, and correct or remove the other record",
)
_FACT_TWICE = Cause("records repeat a fact of their file", "remove one of the two records")
_FACT_CONTRADICTION = Cause(
    "facts have another result than a record before them",
    "find out which result is right, and correct or remove the other record",
)
_TARGET_LENGTHS = Cause(
    "files have targets of another length than train.json",
    "write all files in one format: all with intermediate values in their targets, or none",
)
_LEAK = Cause(
    "files hold items that should be unseen, but are training items",
    "nothing, if this is meant; else remove them, or give them the type train_inferred",
)
_NOT_TRAINED = Cause(
    "files hold train_inferred items that are not in train.json",
    "nothing, if this is meant; else remove them, or correct their type",
)
_VALIDATION_LEAK = Cause(
    "files hold validation items that are test items",
    "nothing, if valid.json is not used to choose between models; else remove them",
)


@dataclass(frozen=True)
class FactRecords:
    """The single facts of one file: record, its number from 1, and ids of arguments and result."""

    records: Sequence[dict] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    calls: list[tuple[int, ...]] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Split:
    """The compositions of one file as arrays; row i is ``records[i]``.

    ``inputs`` is ``(n, slots)`` and ``answers`` ``(n,)``, both int32 values. ``targets`` is
    ``(n, m)``, int32 vocabulary ids: what follows the input up to ``</a>``, bridges first and the
    answer last. ``types`` is ``(n,)`` of str (empty strings in a training file). ``numbers``
    ``(n,)`` are the records' places in the file, from 1. ``facts`` are the single facts, and
    ``left_out`` is how many records could not be read. ``sha256`` is that of the bytes that were
    read, if it was taken.
    """

    inputs: np.ndarray
    targets: np.ndarray
    answers: np.ndarray
    types: np.ndarray
    records: Sequence[dict] = field(repr=False)
    numbers: np.ndarray = field(repr=False)
    facts: FactRecords = field(repr=False, default_factory=lambda: FactRecords())
    left_out: int = 0
    sha256: str | None = field(repr=False, default=None)

    __repr__ = one_line

    @property
    def all_records(self) -> Sequence[dict]:
        """Compositions, then single facts."""
        return joined_records(self.records, self.facts.records)

    def __len__(self) -> int:
        return len(self.inputs)


def check_pairs(
    splits: Mapping[str, Split], sizes: Sequence[int], noisy: Set[int], report: Report
) -> None:
    """Duplicates, contradictions and leaks in files by name, on integer codes of the inputs.

    ``sizes`` are those of the slots' alphabets; ``noisy`` are the numbers of training records whose
    answer is known to be wrong.
    """
    codes = {name: encode_rows(split.inputs, sizes) for name, split in splits.items()}
    ordered = {name: np.sort(own) for name, own in codes.items()}
    width = splits["train.json"].targets.shape[1]
    for name, split in splits.items():
        if len(split) and split.targets.shape[1] != width:
            found = split.targets.shape[1]
            reason = f"targets have {counted(found, 'token')}, but {width} in train.json"
            report(Problem(name, reason, cause=_TARGET_LENGTHS, details=(name,)))
            return
        _check_duplicates(name, split, codes[name], ordered[name], report)
    # An empty file does not tell how long its targets would be.
    filled = {name: split for name, split in splits.items() if len(split)}
    _check_contradictions(filled, codes, _shared([ordered[n] for n in filled]), noisy, report)
    _check_facts(splits, report)
    for name, split in splits.items():
        if name != "train.json":
            inside = is_member(codes[name], ordered["train.json"])
            _check_overlap(name, split, inside, splits["train.json"].left_out, report)
    if "valid.json" in splits:
        valid, held_out = splits["valid.json"], splits["test.json"].types != TRAIN_INFERRED
        known = np.sort(codes["test.json"][held_out])
        shared = (valid.types != TRAIN_INFERRED) & is_member(codes["valid.json"], known)
        what = "validation items are test items"
        _report_first("valid.json", valid, shared, what, _VALIDATION_LEAK, report)


def _shared(several: Sequence[np.ndarray]) -> np.ndarray:
    """The codes that are more than once in some sorted arrays together, ascending."""
    found = [repeated(ordered) for ordered in several]
    found += [other[is_member(other, one)] for one, other in combinations(several, 2)]
    return distinct(np.concatenate(found))


def _neighbours(codes: np.ndarray, *then: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with equal codes that come one after the other, sorted by code and ``then``."""
    order = np.lexsort((*then, codes))  # stable: the first of two rows is the earlier one
    same = codes[order[:-1]] == codes[order[1:]]
    return order[:-1][same], order[1:][same]


def _check_duplicates(
    name: str, split: Split, codes: np.ndarray, ordered: np.ndarray, report: Report
) -> None:
    """The same input twice in a training file, or twice with one type elsewhere.

    ``ordered`` are the ``codes``, sorted.
    """
    rows = rows_among(codes, repeated(ordered))
    _, kind = np.unique(split.types[rows], return_inverse=True)
    first, second = _neighbours(codes[rows], kind)
    alike = kind[first] == kind[second]
    for a, b in zip(rows[first[alike]], rows[second[alike]], strict=True):
        reason, cause = "is there twice; training items must be distinct", _DUPLICATE
        if not np.array_equal(split.targets[a], split.targets[b]):
            reason, cause = "has two different targets", _CONTRADICTION
        elif split.types[a]:
            reason = f"is there twice with type {split.types[a]}"
        reason = f"input {split.records[a]['input_text']} {reason}"
        numbers = int(split.numbers[a]), int(split.numbers[b])
        report(Problem(name, reason, numbers, cause=cause))


def _check_contradictions(
    splits: Mapping[str, Split],
    codes: Mapping[str, np.ndarray],
    shared: np.ndarray,
    noisy: Set[int],
    report: Report,
) -> None:
    """One input with different targets in different places.

    ``shared`` are the codes that more than one row of all files has.
    """
    rows = [rows_among(codes[name], shared) for name in splits]
    own = list(zip(splits.values(), rows, strict=True))
    targets = np.concatenate([split.targets[at] for split, at in own])
    numbers = np.concatenate([split.numbers[at] for split, at in own])
    files = np.repeat(np.arange(len(splits)), [len(at) for at in rows])
    types = np.concatenate([split.types[at] for split, at in own])
    all_codes = np.concatenate([codes[name][at] for name, at in zip(splits, rows, strict=True)])
    places = np.concatenate(rows)
    first, second = _neighbours(all_codes, *targets.T)
    differ = (targets[first] != targets[second]).any(axis=1)
    names = list(splits)
    for pair in zip(first[differ].tolist(), second[differ].tolist(), strict=True):
        a, b = sorted(pair)
        here, there = names[files[a]], names[files[b]]
        if here == there and types[a] == types[b]:
            continue  # reported among the duplicates of the file
        if here == "train.json" and int(numbers[a]) in noisy:
            continue
        text = splits[here].records[places[a]]["input_text"]
        reason = f"input {text} has another target than in {here} record {numbers[a]}"
        report(Problem(there, reason, (int(numbers[b]),), cause=_CONTRADICTION))


def _check_facts(splits: Mapping[str, Split], report: Report) -> None:
    """The same fact twice in a file, or with two results anywhere."""
    before: dict[tuple[int, ...], tuple[int, str, int]] = {}
    for name, split in splits.items():
        there: dict[tuple[int, ...], int] = {}
        facts = split.facts
        for record, number, call, result in zip(
            facts.records, facts.numbers, facts.calls, facts.results, strict=True
        ):
            other, where, first = before.setdefault(call, (result, name, number))
            if other != result:
                reason = f"fact {record['input_text']} has another result than in {where} record "
                reason = f"{reason}{first}"
                report(Problem(name, reason, (number,), cause=_FACT_CONTRADICTION))
            elif there.setdefault(call, number) != number:
                reason = f"fact {record['input_text']} is there twice"
                report(Problem(name, reason, (there[call], number), cause=_FACT_TWICE))


def _check_overlap(
    name: str, split: Split, inside: np.ndarray, left_out: int, report: Report
) -> None:
    """Items that should be unseen but are training items (``inside``), and the reverse.

    The reverse is not looked for where training records were ``left_out``.
    """
    unseen = split.types != TRAIN_INFERRED
    of = f"of {unseen.sum()} items that should be unseen are training items"
    _report_first(name, split, unseen & inside, of, _LEAK, report)
    if not left_out:
        of = f"of {(~unseen).sum()} train_inferred items are not in train.json"
        _report_first(name, split, ~unseen & ~inside, of, _NOT_TRAINED, report)


def _report_first(
    name: str, split: Split, wrong: np.ndarray, what: str, cause: Cause, report: Report
) -> None:
    """How many items are ``wrong``, if any, with the first of them; tolerable."""
    if wrong.any():
        reason = f"{wrong.sum():,} {what}, this one first"
        first = tuple(split.numbers[wrong][:1].tolist())
        report(Problem(name, reason, first, True, cause, (f"{name} {wrong.sum():,}",)))

"""What records must not be to each other: duplicates, contradictions, leaks.

Every check reports a ``Problem`` with file and record numbers; what happens then is up to the
reader: ``load_dataset`` refuses at the first one, ``validate`` collects them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from coverage_principle.data.space import encode_rows, is_member
from coverage_principle.data.vocabulary import Codec
from coverage_principle.data.worlds import TRAIN_INFERRED


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set: in which file, at which records (from 1), and why.

    ``tolerable`` problems do not keep the data set from being used; the published 3-hop and
    parallel data sets have some.
    """

    file: str
    records: tuple[int, ...]
    reason: str
    tolerable: bool = False

    def __str__(self) -> str:
        if not self.records:
            return f"{self.file}: {self.reason}"
        numbers = " and ".join(map(str, self.records))
        return f"{self.file} record{'s' if len(self.records) > 1 else ''} {numbers}: {self.reason}"


Report = Callable[[Problem], None]


@dataclass(frozen=True)
class Split:
    """The compositions of one file as arrays; row i is ``records[i]``.

    ``inputs`` is ``(n, slots)``, ``targets`` is ``(n, m)``: what follows the input up to ``</a>``,
    bridges first and the answer last; both int32 vocabulary ids. ``types`` is ``(n,)`` of str
    (empty strings in a training file). ``numbers`` ``(n,)`` are the records' places in the file,
    from 1. ``facts`` are the records that are single facts (``--include_atomic``).
    """

    inputs: np.ndarray
    targets: np.ndarray
    types: np.ndarray
    records: list[dict] = field(repr=False)
    numbers: np.ndarray = field(repr=False)
    facts: list[dict] = field(repr=False, default_factory=list)

    @property
    def answers(self) -> np.ndarray:
        return self.targets[:, -1]

    def __len__(self) -> int:
        return len(self.inputs)


def check_pairs(
    train: Split, test: Split, valid: Split | None, codec: Codec, report: Report
) -> None:
    """Duplicates, contradictions and leaks, on integer codes of the inputs."""
    size = len(codec.vocabulary)
    splits = {"train.json": train, "test.json": test}
    if valid is not None:
        splits["valid.json"] = valid
    codes = {name: encode_rows(split.inputs, size) for name, split in splits.items()}
    for name, split in splits.items():
        if len(split) and split.targets.shape[1] != train.targets.shape[1]:
            report(
                Problem(
                    name,
                    (),
                    f"targets have {split.targets.shape[1]} tokens, but "
                    f"{train.targets.shape[1]} in train.json",
                )
            )
            return
        _check_duplicates(name, split, codes[name], report)
    _check_contradictions(splits, codes, report)
    known = np.sort(codes["train.json"])
    for name, split in splits.items():
        if name != "train.json":
            _check_overlap(name, split, codes[name], known, report)
    if valid is not None:
        held_out = test.types != TRAIN_INFERRED
        known = np.sort(codes["test.json"][held_out])
        shared = (valid.types != TRAIN_INFERRED) & is_member(codes["valid.json"], known)
        if shared.any():
            report(
                Problem(
                    "valid.json",
                    tuple(valid.numbers[shared][:1]),
                    f"{shared.sum()} validation items are test items, this one first",
                    tolerable=True,
                )
            )


def _check_duplicates(name: str, split: Split, codes: np.ndarray, report: Report) -> None:
    """The same input twice in a training file, or twice with one type elsewhere."""
    _, kind = np.unique(split.types, return_inverse=True)
    order = np.lexsort((np.arange(len(codes)), kind, codes))
    first, second = order[:-1], order[1:]
    for pair in np.flatnonzero((codes[first] == codes[second]) & (kind[first] == kind[second])):
        a, b = first[pair], second[pair]
        text = split.records[a]["input_text"]
        if not np.array_equal(split.targets[a], split.targets[b]):
            reason = f"input {text} has two different targets"
        elif split.types[a]:
            reason = f"input {text} is there twice with type {split.types[a]}"
        else:
            reason = f"input {text} is there twice; training items must be distinct"
        report(Problem(name, (int(split.numbers[a]), int(split.numbers[b])), reason))


def _check_contradictions(
    splits: Mapping[str, Split], codes: Mapping[str, np.ndarray], report: Report
) -> None:
    """One input with different targets in different places."""
    names = list(splits)
    all_codes = np.concatenate([codes[name] for name in names])
    targets = np.concatenate([splits[name].targets for name in names])
    file_of = np.repeat(np.arange(len(names)), [len(splits[name]) for name in names])
    row_of = np.concatenate([np.arange(len(splits[name])) for name in names])
    order = np.lexsort((*targets.T, all_codes))
    first, second = order[:-1], order[1:]
    same = all_codes[first] == all_codes[second]
    for pair in np.flatnonzero(same & (targets[first] != targets[second]).any(axis=1)):
        a, b = sorted((first[pair], second[pair]))
        if file_of[a] == file_of[b] == 0:
            continue  # reported among the duplicates of train.json
        places = [splits[names[file_of[i]]] for i in (a, b)]
        here, there = (
            f"{names[file_of[i]]} record {place.numbers[row_of[i]]}"
            for i, place in zip((a, b), places, strict=True)
        )
        text = places[0].records[row_of[a]]["input_text"]
        file, number = there.split(" record ")
        report(Problem(file, (int(number),), f"input {text} has another target than in {here}"))


def _check_overlap(
    name: str, split: Split, codes: np.ndarray, train_codes: np.ndarray, report: Report
) -> None:
    """Items that should be unseen but are training items, and the reverse."""
    inside = is_member(codes, train_codes)
    unseen = split.types != TRAIN_INFERRED
    for group, wrong, reason in (
        (unseen, unseen & inside, "items that should be unseen are training items"),
        (~unseen, ~unseen & ~inside, "train_inferred items are not in train.json"),
    ):
        if wrong.any():
            report(
                Problem(
                    name,
                    tuple(split.numbers[wrong][:1].tolist()),
                    f"{int(wrong.sum())} of {int(group.sum())} {reason}, this one first",
                    tolerable=True,
                )
            )

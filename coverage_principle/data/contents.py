"""What the files of a data set hold, whoever made it: compositions and single facts as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coverage_principle.data.vocabulary import default_tokens
from coverage_principle.reprs import one_line
from coverage_principle.tasks import DEFAULT_ALPHABET, TaskGraph


@dataclass(frozen=True)
class Items:
    """Compositions that are written one after the other.

    ``inputs`` ``(n, slots)`` are values; ``answers`` ``(n,)`` too, None where the tables give them.
    ``label`` is their type (None in a training file), ``source_type`` what the source of an import
    calls it.
    """

    inputs: np.ndarray
    answers: np.ndarray | None = None
    label: str | None = None
    source_type: str | None = None

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Facts:
    """The same for single facts: calls ``(n, arity)`` of one function, as values."""

    function: int
    calls: np.ndarray
    label: str | None = None
    source_type: str | None = None

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.calls)


@dataclass(frozen=True)
class Contents:
    """What the files of a data set hold, whoever made it.

    ``alphabets`` holds the tokens of each, in the order of the vocabulary. ``tables`` are each
    function's values (-1: undefined, or unknown), None where there are none to be written; every
    item then has its answer. ``splits`` maps ``train``, ``test`` and perhaps ``valid`` to their
    items, single facts after compositions.
    """

    graph: TaskGraph
    alphabets: Mapping[str, Sequence[str]]
    tables: Sequence[np.ndarray] | None
    splits: Mapping[str, Sequence[Items | Facts]]

    __repr__ = one_line

    def sizes(self) -> dict[str, int]:
        """The number of tokens of each alphabet."""
        return {name: len(tokens) for name, tokens in self.alphabets.items()}

    def counts(self) -> dict[str, object]:
        """How many compositions each split has, those of test and validation by type, and facts."""
        facts = [len(part) for part in self.splits["train"] if isinstance(part, Facts)]
        train = sum(map(len, self.splits["train"])) - sum(facts)
        counts: dict[str, object] = {"train": train, "test": _by_type(self.splits["test"])}
        if facts:
            counts["atomic_facts_in_train"] = sum(facts)
        if "valid" in self.splits:
            counts["valid"] = _by_type(self.splits["valid"])
        return counts

    def alphabets_of_metadata(self) -> dict[str, object]:
        """What metadata say of the alphabets: nothing where all tokens are ``<t_i>``."""
        sizes = self.sizes()
        plain = {name: default_tokens(size) for name, size in sizes.items()}
        own = {name: list(tokens) for name, tokens in self.alphabets.items()}
        return {} if own == plain and [*own] == [DEFAULT_ALPHABET] else {"alphabets": sizes}


def _by_type(parts: Iterable[Items | Facts]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.label] = counts.get(part.label, 0) + len(part)
    return counts

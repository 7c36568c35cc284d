"""What all importers do with what they have read: type the items, count what is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

from coverage_principle.data.contents import Contents, Facts, Items
from coverage_principle.data.files import sha256
from coverage_principle.data.formats import primitives, versions
from coverage_principle.data.importing.settings import ImportSettings
from coverage_principle.data.settings import MOST_FACTS
from coverage_principle.data.space import check_domain, encode_rows, is_member
from coverage_principle.data.tables import evaluate, seen_calls
from coverage_principle.errors import InputError
from coverage_principle.reprs import one_line
from coverage_principle.tasks import FACT_ONLY, FACT_SEEN, TRAIN_INFERRED, TaskGraph, base_type

#: What can be done about too large a domain.
FEWER = "take fewer columns, or such with fewer values"


@dataclass(frozen=True)
class Imported:
    """A source as a data set: what its files hold, its metadata, and what a person should know."""

    contents: Contents
    metadata: dict
    notes: tuple[str, ...]

    @property
    def left_out(self) -> list[str]:
        """What the source has and the data set has not: ``1 row whose input is there already``."""
        return [
            f"{count:,} {_one(reason) if count == 1 else reason}"
            for reason, count in self.metadata["imported"]["dropped"].items()
        ]


def _one(reason: str) -> str:
    """A reason, such as ``rows whose input is there already``, said of one."""
    reason = re.sub(r"\b(row|composition|fact|triple|item|token|record)s\b", r"\1", reason)
    return reason.replace(" that are test ", " that is a test ").replace(" that are ", " that is ")


class Numbers:
    """Numbers for names, in the order in which they first appear."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, names: Iterable[str]) -> np.ndarray:
        """The number of each of ``names``, ``(n,)`` int32."""
        numbers = self._numbers
        found = [numbers.setdefault(name, len(numbers)) for name in names]
        return np.array(found, dtype=np.int32)

    @property
    def names(self) -> list[str]:
        return list(self._numbers)


@dataclass(frozen=True)
class Listed:
    """Items as a source lists them: compositions, or calls of the function number ``function``.

    ``values`` is ``(n, width)`` and ``results`` ``(n,)``, int32; ``types`` ``(n,)`` are places in
    ``type_names``, what the source calls its types.
    """

    values: np.ndarray
    results: np.ndarray
    types: np.ndarray | None = None
    type_names: Sequence[str] = ()
    function: int | None = None

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Listed:
        """The rows that a mask or numbers choose."""
        types = None if self.types is None else self.types[rows]
        return replace(self, values=self.values[rows], results=self.results[rows], types=types)


@dataclass
class Draft:
    """A source on its way to a data set.

    ``tables`` is None where the graph has no bridges. ``train`` and ``held_out`` (``test`` and
    perhaps ``valid``) are compositions, ``facts`` and ``held_out_facts`` single facts. ``dropped``
    counts what is left out, by reason.
    """

    graph: TaskGraph
    alphabets: Mapping[str, Sequence[str]]
    tables: Sequence[np.ndarray] | None
    train: Listed
    held_out: dict[str, Listed]
    facts: list[Listed] = field(default_factory=list)
    held_out_facts: dict[str, list[Listed]] = field(default_factory=dict)
    dropped: Counter = field(default_factory=Counter)

    __repr__ = one_line

    def contents(self) -> tuple[Contents, list[np.ndarray]]:
        """The items by type, and the calls that training compositions make, by function.

        Types are by definition: ``train_inferred`` for a training item, else by which calls
        training compositions make and training facts give.
        """
        graph = self.graph
        sizes = [len(self.alphabets[name]) for name in graph.alphabets_of(graph.inputs)]
        check_domain(sizes, FEWER)
        train = self._defined("train", self.train)
        train = self._once(train, sizes, "compositions that train has already")
        if not len(train):
            raise InputError("no training composition is left; at least one is needed")
        seen = seen_calls(graph, self.tables, train.values) if self.tables is not None else []
        facts = [
            self._once(one, self._arguments(one), "facts that train has already")
            for one in self.facts
        ]
        known = self._known(facts)
        trained, tested = np.sort(encode_rows(train.values, sizes)), None
        answers = train.results if self.tables is None else None
        splits: dict[str, list[Items | Facts]] = {"train": [Items(train.values, answers)]}
        splits["train"] += [Facts(one.function, one.values) for one in facts if len(one)]
        for name, listed in self.held_out.items():
            listed = self._defined(name, listed)
            listed = self._once(listed, sizes, f"compositions that {name} has already")
            codes = encode_rows(listed.values, sizes)
            is_trained = is_member(codes, trained)
            if tested is None:
                tested = np.sort(codes)
            else:
                kept = is_trained | ~is_member(codes, tested)
                self.dropped[f"{name} items that are test items"] += int((~kept).sum())
                listed, is_trained = listed.take(kept), is_trained[kept]
            splits[name] = list(self._typed(listed, is_trained, seen, known))
            splits[name] += self._typed_facts(name, facts, seen)
        if not splits.get("valid", True):
            del splits["valid"]
        return Contents(graph, self.alphabets, self.tables, splits), seen

    def _arguments(self, facts: Listed) -> list[int]:
        sources = self.graph.functions[facts.function].sources
        return [len(self.alphabets[name]) for name in self.graph.alphabets_of(sources)]

    def _defined(self, name: str, listed: Listed) -> Listed:
        """The compositions whose every call is in a table."""
        if self.tables is None:
            return listed
        whole = evaluate(self.graph, self.tables, listed.values)[self.graph.answer] >= 0
        if not whole.all():
            reason = f"compositions of {name} with a call that no fact gives"
            self.dropped[reason] += int((~whole).sum())
        return listed.take(whole)

    def _once(self, listed: Listed, sizes: Sequence[int], reason: str) -> Listed:
        """Each composition or fact where it is there first."""
        _, first = np.unique(encode_rows(listed.values, sizes), return_index=True)
        if len(first) == len(listed):
            return listed
        self.dropped[reason] += len(listed) - len(first)
        return listed.take(np.sort(first))

    def _known(self, facts: Sequence[Listed]) -> list[np.ndarray]:
        """For each function the calls that training facts give."""
        if self.tables is None:
            return []
        known = [np.zeros(table.shape, dtype=bool) for table in self.tables]
        for one in facts:
            for j in self._functions_of(one):
                known[j][tuple(one.values.T)] = True
        return known

    def _functions_of(self, facts: Listed) -> list[int]:
        """The functions whose a fact may be, by its tokens."""
        graph = self.graph
        signature = graph.alphabets_of(graph.functions[facts.function].sources)
        return [graph.functions.index(f) for f in graph.fact_signatures[signature]]

    def _typed(
        self, listed: Listed, is_trained: np.ndarray, seen: Sequence, known: Sequence
    ) -> Iterator[Items]:
        """Compositions by our type and the source's."""
        graph = self.graph
        labels, codes = ["type_0"], np.zeros(len(listed), dtype=np.int64)
        if graph.bridges:
            values = evaluate(graph, self.tables, listed.values)
            bits = []
            for function, seen_mask, known_mask in zip(graph.functions, seen, known, strict=True):
                call = tuple(values[source] for source in function.sources)
                bits += [seen_mask[call], known_mask[call]]
            kinds, codes = np.unique(encode_rows(np.stack(bits, axis=1), 2), return_inverse=True)
            flags = (kinds[:, None] >> np.arange(len(bits))[::-1] & 1).astype(bool).tolist()
            labels = [graph.type_label(one[::2], one[1::2]) for one in flags]
        labels = [*labels, TRAIN_INFERRED]
        codes = np.where(is_trained, len(labels) - 1, codes)
        for label in [TRAIN_INFERRED, *sorted({*labels[:-1]}, key=_order)]:
            of_label = np.isin(codes, [i for i, name in enumerate(labels) if name == label])
            for part, source_type in _by_source_type(listed, of_label):
                answers = part.results if self.tables is None else None
                yield Items(part.values, answers, label, source_type)

    def _typed_facts(
        self, name: str, facts: Sequence[Listed], seen: Sequence[np.ndarray]
    ) -> Iterator[Facts]:
        """Single facts of a split by our type and the source's; others than trained are dropped."""
        for listed in self.held_out_facts.get(name, ()):
            sizes = self._arguments(listed)
            listed = self._once(listed, sizes, f"facts that {name} has already")
            codes = encode_rows(listed.values, sizes)
            trained = [
                encode_rows(one.values, sizes) for one in facts if one.function == listed.function
            ]
            is_trained = is_member(codes, np.sort(np.concatenate([codes[:0], *trained])))
            if not is_trained.all():
                reason = f"facts of {name} that are no training facts"
                self.dropped[reason] += int((~is_trained).sum())
            used = np.zeros(len(listed), dtype=bool)
            for j in self._functions_of(listed):
                used |= seen[j][tuple(listed.values.T)]
            for label, mask in ((FACT_SEEN, used), (FACT_ONLY, ~used)):
                for part, source_type in _by_source_type(listed, mask & is_trained):
                    yield Facts(listed.function, part.values, label, source_type)


def _order(label: str) -> tuple[int, int, str]:
    """The order of types, as in ``TaskGraph.fact_type_labels``."""
    return int(base_type(label).removeprefix("type_")), label.count("+"), label


def _by_source_type(listed: Listed, mask: np.ndarray) -> Iterator[tuple[Listed, str | None]]:
    """Those that ``mask`` chooses, apart by the source's type; none that is empty."""
    if listed.types is None:
        if mask.any():
            yield listed.take(mask), None
        return
    for number, name in enumerate(listed.type_names):
        own = mask & (listed.types == number)
        if own.any():
            yield listed.take(own), name or None


def finish(
    kind: str,
    files: Sequence[Path],
    contents: Contents,
    seen: Sequence[np.ndarray],
    settings: ImportSettings,
    dropped: Mapping[str, int],
    notes: Sequence[str] = (),
) -> Imported:
    """An import with its metadata. ``InputError`` if `cot` asks for bridges that are not there."""
    graph = contents.graph
    if settings.cot and not graph.bridges:
        raise InputError(
            f"`cot` writes intermediate values, and the task that is read here has none: "
            f"{graph.equations}"
        )
    if not any(map(len, contents.splits.get("test", ()))):
        notes = (*notes, "there are no test items")
    source_types: dict[str, dict[str, int]] = {}
    for name in ("test", "valid"):
        for part in contents.splits.get(name, ()):
            if part.source_type is not None:
                ours = source_types.setdefault(part.source_type, {})
                ours[part.label] = ours.get(part.label, 0) + len(part)
    names = [file.name for file in files]
    names = names if len({*names}) == len(names) else [file.as_posix() for file in files]
    metadata = {
        "format_version": 1,
        "task": graph.to_dict(),
        "target_format": "cot" if settings.cot else "inf",
        "imported": {
            "from": kind,
            "files": {name: sha256(file) for name, file in zip(names, files, strict=True)},
            "arguments": settings.arguments(),
            "dropped": {reason: count for reason, count in dropped.items() if count},
            "source_types": source_types,
        },
        **contents.alphabets_of_metadata(),
        "counts": contents.counts(),
        "primitives": primitives(graph, contents.tables, seen) if contents.tables else [],
        "versions": versions(),
    }
    return Imported(contents, metadata, tuple(notes))


def in_use(numbers: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Numbers for those of ``names`` only that ``numbers`` uses, in the same order, and these."""
    used, again = np.unique(numbers, return_inverse=True)
    return again.astype(np.int32).reshape(numbers.shape), [names[i] for i in used.tolist()]


def empty_table(name: str, shape: Sequence[int]) -> np.ndarray:
    """A table without facts. ``InputError`` if it would have more than ``MOST_FACTS`` cells."""
    if prod(shape) > MOST_FACTS:
        raise InputError(
            f"the table of {name} would have {' x '.join(f'{n:,}' for n in shape)} cells, and it "
            f"may have {MOST_FACTS:,}; take a part of the data with fewer names"
        )
    return np.full(tuple(shape), -1, dtype=np.int32)


def contradiction(codes: np.ndarray, results: np.ndarray) -> tuple[int, int] | None:
    """Two rows with equal codes and different results, the first such; None if there are none."""
    order = np.argsort(codes, kind="stable")
    codes, results = codes[order], results[order]
    differ = np.flatnonzero((codes[1:] == codes[:-1]) & (results[1:] != results[:-1]))
    if not len(differ):
        return None
    place = differ[np.argmin(order[differ + 1])]
    return int(order[place]), int(order[place + 1])


def too_many(file: Path, what: str, most: int) -> InputError:
    """The refusal of a file with more than ``most`` (``MOST_ROWS``) rows."""
    return InputError(
        f"{file} has more than {most:,} {what}, the most that one import holds; give a part of it"
    )


def csv_fault(error: Exception) -> str:
    """What is wrong with a line that the csv module refuses."""
    if "new-line" in str(error):  # its advice is for those who write the code
        return "a carriage return stands in a field that is not quoted"
    return str(error)

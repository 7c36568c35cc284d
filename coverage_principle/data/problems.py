"""What is wrong with a data set: record by record, and told together where it has one cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coverage_principle.errors import InputError

#: So many details, and records of a file, are named where not all are asked for.
_DETAILS, _EXAMPLES = 5, 3


@dataclass(frozen=True)
class Cause:
    """What many records or files can have in common that is wrong, and what to do about it.

    ``what`` goes after their number: ``records hold tokens that vocab.json lacks``.
    """

    what: str
    todo: str


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set: in which file, why, and at which records (from 1).

    ``tolerable`` problems do not keep the data set from being used; the published 3-hop and
    parallel data sets have some. Problems of one ``cause`` are told together (``grouped``), with
    how often each of their ``details`` occurs, such as tokens.
    """

    file: str
    reason: str
    records: tuple[int, ...] = ()
    tolerable: bool = False
    cause: Cause | None = None
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        numbers = " and ".join(map(str, self.records))
        where = f" record{'s' if len(self.records) > 1 else ''} {numbers}" if self.records else ""
        return f"{self.file}{where}: {self.reason}"


Report = Callable[[Problem], None]


class Fault(InputError):
    """Something wrong with one record; ``cause`` and ``details`` as of its ``Problem``."""

    def __init__(self, reason: str, cause: Cause, *details: str) -> None:
        super().__init__(reason)
        self.cause, self.details = cause, details


@dataclass(frozen=True)
class Group:
    """Problems of one cause; one without a cause stands alone."""

    problems: tuple[Problem, ...]

    @property
    def tolerable(self) -> bool:
        return self.problems[0].tolerable

    def lines(self, *, all_records: bool = False) -> list[str]:
        """What a person reads: how many there are, which, the first in full, and what to do.

        ``all_records``: every record's number and every detail, instead of the first few.
        """
        first = self.problems[0]
        lines = [str(first)]
        if len(self.problems) > 1:
            details = _most_frequent(self.problems, None if all_records else _DETAILS)
            lines = [f"{len(self.problems):,} {first.cause.what}{details}"]
            for file in dict.fromkeys(problem.file for problem in self.problems):
                places = [p.records for p in self.problems if p.file == file and p.records]
                if places:
                    numbers = _numbers(places, None if all_records else _EXAMPLES)
                    lines.append(f"  {file}: {len(places):,} ({numbers})")
            if first.records:
                lines.append(f"  the first: {first}")
        if first.cause:
            lines.append(f"  what to do: {first.cause.todo}")
        return lines


def grouped(problems: Iterable[Problem]) -> list[Group]:
    """Problems by cause, those that keep the data set from being used before the others."""
    groups: dict[object, list[Problem]] = {}
    for problem in problems:
        alone = problem if problem.cause is None else None
        groups.setdefault((problem.tolerable, problem.cause, alone), []).append(problem)
    found = [Group(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda group: group.tolerable)


def _most_frequent(problems: Sequence[Problem], limit: int | None) -> str:
    """``: <a> (12 times), <b> and 3 more``, the most frequent details first."""
    counts = Counter(detail for problem in problems for detail in problem.details)
    named = [
        detail if times == 1 or len(counts) == 1 else f"{detail} ({times:,} times)"
        for detail, times in counts.most_common(limit)
    ]
    if not named:
        return ""
    left = len(counts) - len(named)
    return f": {', '.join(named)}" + (f" and {left:,} more" if left else "")


def _numbers(places: Sequence[tuple[int, ...]], limit: int | None) -> str:
    """``record 3``, ``records 1, 2, 3 ...``, ``records 8 and 201, 9 and 202``."""
    shown = ", ".join(" and ".join(map(str, numbers)) for numbers in places[:limit])
    one = len(places) == len(places[0]) == 1
    return f"record{'' if one else 's'} {shown}" + (
        " ..." if limit is not None and len(places) > limit else ""
    )

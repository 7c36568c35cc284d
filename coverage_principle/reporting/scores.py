"""The scores of an evaluation as a table: each with its interval, and the level of guessing."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from coverage_principle.statistics import wilson_interval
from simpletransformers.words import counted

#: Types that are called what they are.
NO_NAMES: Mapping[str, str] = MappingProxyType({})
#: The score that a table gives an interval of, and the head of that column.
_OF, INTERVAL = "answer_accuracy", "95 % interval"


def score_rows(
    groups: Mapping[str, Mapping], called: Mapping[str, str] = NO_NAMES
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a group's items, loss and accuracies; ``-`` for what has no items.

    ``groups`` maps types and k-cutoffs to ``{"n", "loss", "answer_accuracy", ...}``; the answer
    accuracy has a column for its interval beside it. ``called`` maps a type to its name with words.
    """
    names = [name for name in next(iter(groups.values())) if name != "n"]
    header = ["group", "n"]
    rows = [[called.get(group, group), f"{own['n']:,}"] for group, own in groups.items()]
    for name in names:
        header += [name, *([INTERVAL] if name == _OF else [])]
        for row, own in zip(rows, groups.values(), strict=True):
            row.append(f"{own[name]:.4f}")
            if name == _OF:
                row.append(interval_text(own[name], own["n"]))
    return header, rows


def loop_rows(
    by_loops: Mapping[int, Mapping[str, Mapping]], called: Mapping[str, str] = NO_NAMES
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each group's answer accuracy, by how often the stack of blocks is run.

    ``by_loops`` maps a number of loops to what ``score_rows`` takes.
    """
    header = ["group", "n", *(counted(loops, "loop") for loops in by_loops)]
    rows = []
    for group, own in next(iter(by_loops.values())).items():
        found = [scores[group][_OF] for scores in by_loops.values()]
        texts = [f"{share:.4f} {interval_text(share, own['n'])}" for share in found]
        rows.append([called.get(group, group), f"{own['n']:,}", *texts])
    return header, rows


def exact_match_rows(
    kinds: Sequence[str], right: Sequence[bool], called: Mapping[str, str] = NO_NAMES
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a type's items, the share that is right, and its interval.

    ``kinds`` has the type of each item, ``right`` whether it is answered.
    """
    items, exact = Counter(kinds), Counter(itertools.compress(kinds, right))
    rows = []
    for kind, n in sorted(items.items()):
        share = exact[kind] / n
        rows.append([called.get(kind, kind), f"{n:,}", f"{share:.4f}", interval_text(share, n)])
    return ["type", "n", "exact_match", INTERVAL], rows


def interval_text(share: float, n: int) -> str:
    """Wilson's 95 % interval of a share of ``n`` items, as text."""
    return "{:.2f}..{:.2f}".format(*wilson_interval(share * n, n)) if n else "-"


def score_note(answers: int | None) -> str:
    """What a reader has to know below the table; ``answers`` tokens an answer can be."""
    chance = f"chance: {1 / answers:.4f}, one of {answers:,} answers; " if answers else ""
    return f"{chance}intervals of {_OF}: Wilson's"

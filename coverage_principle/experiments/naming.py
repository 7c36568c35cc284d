"""What a user may name of a sweep: settings, scores, groups of items, numbers of runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from coverage_principle.errors import InputError
from coverage_principle.experiments.results import SEEDS, Results
from coverage_principle.reporting.sweep_text import PLACES, as_text, is_number


class Names:
    """What a user may name of a sweep, and the sentence for what is not there."""

    def __init__(self, results: Results) -> None:
        self.settings, self.groups = results.settings, results.groups
        self.scores, self.numbers = results.scores, results.numbers
        self.whole = [f"{group}.{score}" for group in self.groups for score in self.scores]
        self.measured = {*self.numbers, *self.whole}
        self._varying = results.varying()

    def setting(self, given: str, flag: str) -> str:
        """The full name of a setting."""
        return self._find(given, flag, "a setting of this sweep", self.settings)

    def x(
        self, given: str | None, varying: Sequence[str], done: Sequence[Mapping], groups: list[str]
    ) -> str:
        """What is on x; without a wish the setting with the most values, else what there is."""
        if given is not None:
            if given in PLACES or given in self.measured:
                return given
            if given in self.scores:
                if len(groups) != 1:
                    raise InputError(f"`x` {given} is of which group? give GROUP.{given}")
                return f"{groups[0]}.{given}"
            what = f"{', '.join(PLACES)} or a setting, score or number of this sweep"
            return self._find(given, "x", what, self.settings)
        counts = {n: len({as_text(r.get(n)) for r in done}) for n in varying if n not in SEEDS}
        if counts:
            numeric = [n for n in counts if all(is_number(r.get(n)) for r in done)]
            return max(numeric or counts, key=counts.get)
        if not groups:
            return "seed"
        found = [k_cutoff_of(name, group) for name in self.groups for group in groups]
        return "group" if all(k is None for k in found) else "k_cutoff"

    def score(self, y: str, group: Iterable[str], x: str | None) -> tuple[str, list[str]]:
        """The score and its groups; a number of runs has none."""
        groups = list(dict.fromkeys(group))
        if y in self.whole:
            group, _, y = y.rpartition(".")
            groups = [group]
        if y in self.numbers:
            if x in PLACES:
                raise InputError(f"`y` {y} is one number a run, so that `x` cannot be {x}")
            return y, []
        if y not in self.scores:
            raise InputError(f"`y` {y} is not a score or number of this sweep; {self.there()}")
        bases = {group.split("/")[0] for group in self.groups}
        if wrong := [group for group in groups if group not in {*self.groups, *bases}]:
            raise InputError(f"`group` {wrong[0]} is not a group of this sweep; {self.there()}")
        return y, groups

    def _find(self, given: str, flag: str, what: str, known: Sequence[str]) -> str:
        ends = [name for name in known if name.rpartition(".")[2] == given]
        if given in known or len(ends) == 1:
            return given if given in known else ends[0]
        if ends:
            raise InputError(f"`{flag}` {given} may be {' or '.join(ends)}; give the whole name")
        raise InputError(f"`{flag}` {given} is not {what}; {self.there()}")

    def there(self) -> str:
        """What there is, in words."""
        groups = [group for group in self.groups if "/" not in group]
        parts = sorted({re.sub(r"\d+$", "K", g) for g in self.groups if "/" in g})
        return (
            f"its runs differ in {', '.join(self._varying) or 'nothing'}; groups are "
            f"{', '.join([*groups, *parts]) or 'none'}; scores {', '.join(self.scores) or 'none'}; "
            f"numbers {', '.join(n for n in self.numbers if '.' not in n)}"
        )


def runs_where(results: Results, names: Names, where: Sequence[str]) -> list[dict]:
    """The runs that ``where`` selects."""
    chosen = list(results)
    for text in where:
        given, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"`where` {text} is not of the form SETTING=VALUE")
        name = names.setting(given, "where")
        wanted = {values, *values.split(",")}
        there = sorted({as_text(record.get(name)) for record in chosen})
        chosen = [r for r in chosen if any(_same(r.get(name), one) for one in wanted)]
        if not chosen:
            raise InputError(f"`where` {text} selects no run; {name} is {', '.join(there)}")
    return chosen


def _same(value: object, text: str) -> bool:
    """Whether a setting has the value that a user writes so: 1 and 1.0 are the same."""
    try:
        return is_number(value) and float(value) == float(text) or as_text(value) == text
    except ValueError:
        return as_text(value) == text


def k_cutoff_of(name: str, group: str) -> int | None:
    """The k-cutoff of a group within ``group``; None if it is another."""
    match = re.fullmatch(re.escape(group) + r"/k_cutoff=(\d+)", name)
    return int(match[1]) if match else None

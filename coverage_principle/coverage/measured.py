"""Counts of covered items, kept in a file as they are measured, so that a search can go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.data import looking_into, read_json, write_json
from coverage_principle.errors import InputError


@dataclass(frozen=True)
class Counts:
    """Unseen in-domain items of one training set, and how many of them are covered at each k.

    ``sample`` is the number of them that was looked at, and ``covered`` counts among these; None if
    all were.
    """

    unseen: int
    covered: dict[int, int]
    sample: int | None = None

    @property
    def looked_at(self) -> int:
        return self.unseen if self.sample is None else self.sample

    def share(self, k: int) -> float:
        """The share that is covered at ``k``; 0 where there are no such items."""
        return self.covered[k] / self.looked_at if self.looked_at else 0.0

    def standard_error(self, k: int) -> float:
        """That of ``share``: of a sample without replacement; 0 where all items were looked at.

        An item more of either kind is assumed, so that a sample of equal ones is not free of error.
        """
        if self.sample is None:
            return 0.0
        share = (self.covered[k] + 1) / (self.sample + 2)
        left_out = 1 - self.sample / self.unseen
        return math.sqrt(share * (1 - share) * left_out / self.sample)


class Measured:
    """Counts by world and amount of training data; ``file`` keeps every one.

    A file of earlier measurements is read and gone on with; ``InputError`` if it is ``about``
    others.
    """

    def __init__(self, file: Path, about: Mapping[str, object]) -> None:
        self._file, self._about = file, dict(about)
        self._counts: dict[str, dict[str, dict]] = {}
        if not file.exists():
            return
        before = read_json(file)
        if not isinstance(before, dict) or before.get("about") != self._about:
            raise InputError(
                f"{file} is of another task or other worlds, or samples of another size; move it "
                "away"
            )
        with looking_into(file, "what was measured"):
            self._counts = before["measured"]
            for one in (one for by_amount in self._counts.values() for one in by_amount.values()):
                if not all(0 <= n <= _counts(one).looked_at for n in one["covered"].values()):
                    raise ValueError("more items are covered than there are")
                if not _counts(one).looked_at <= one["unseen"]:
                    raise ValueError("more items were looked at than there are")

    def counts(
        self,
        world: str,
        amount: str,
        ks: Sequence[int],
        measure: Callable[[Sequence[int]], Counts],
    ) -> Counts:
        """What was measured, at ``ks`` and maybe others.

        ``measure`` is called with those of ``ks`` that were not, and its counts are kept.
        """
        of_world = self._counts.setdefault(world, {})
        known = of_world.get(amount)
        missing = [k for k in ks if known is None or str(k) not in known["covered"]]
        if missing:
            counts = measure(missing)
            before = _counts(known).covered if known else {}
            covered = {str(k): n for k, n in sorted({**before, **counts.covered}.items())}
            known = of_world[amount] = {"unseen": counts.unseen, "covered": covered}
            if counts.sample is not None:
                known["sample"] = counts.sample
            write_json(self._file, {"about": self._about, "measured": self._counts})
        return _counts(known)


def _counts(kept: Mapping) -> Counts:
    covered = {int(k): n for k, n in kept["covered"].items()}
    return Counts(kept["unseen"] + 0, covered, kept.get("sample"))

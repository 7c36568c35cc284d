"""Counts of covered items, kept in a file as they are measured, so that a search can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.data import looking_into, read_json, write_json
from coverage_principle.errors import InputError


@dataclass(frozen=True)
class Counts:
    """Unseen in-domain items of one training set, and how many of them are covered at each k."""

    unseen: int
    covered: dict[int, int]

    def share(self, k: int) -> float:
        """The share that is covered at ``k``; 0 where there are no such items."""
        return self.covered[k] / self.unseen if self.unseen else 0.0


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
            raise InputError(f"{file} is of another task or other worlds; move it away")
        with looking_into(file, "what was measured"):
            self._counts = before["measured"]
            for one in (one for by_amount in self._counts.values() for one in by_amount.values()):
                if not all(0 <= n <= one["unseen"] for n in one["covered"].values()):
                    raise ValueError("more items are covered than there are")
                [int(k) for k in one["covered"]], one["unseen"] + 0

    def counts(
        self, world: str, amount: str, ks: Sequence[int], measure: Callable[[], Counts]
    ) -> Counts:
        """What was measured; ``measure`` is called, and its counts kept, if not all ``ks`` were."""
        of_world = self._counts.setdefault(world, {})
        known = of_world.get(amount)
        if known is None or any(str(k) not in known["covered"] for k in ks):
            counts = measure()
            covered = {str(k): n for k, n in counts.covered.items()}
            known = of_world[amount] = {"unseen": counts.unseen, "covered": covered}
            write_json(self._file, {"about": self._about, "measured": self._counts})
        return Counts(known["unseen"], {int(k): n for k, n in known["covered"].items()})

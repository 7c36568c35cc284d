"""What the search for required data asks for; needs the standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from coverage_principle.cli import integers
from coverage_principle.errors import InputError
from simpletransformers.settings import Settings, setting


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Worlds, and what of their unseen in-domain items must be covered."""

    num_tokens: tuple[int, ...] = setting(
        (30, 50, 70, 100),
        "|X|, several separated by commas",
        at_least=2,
        parse=integers(2),
        metavar="LIST",
    )
    k: tuple[int, ...] = setting(
        (1, 2, 3, 4), "evidence thresholds", at_least=1, parse=integers(1), metavar="LIST"
    )
    seeds: tuple[int, ...] = setting(
        (42, 43, 44), "a world for each", at_least=0, parse=integers(0), metavar="LIST"
    )
    share: float = setting(0.99, "of the unseen in-domain items that must be covered")
    value: str | None = setting(
        None,
        "intermediate value whose fragments may be substituted (default: that of the task's first "
        "function)",
    )
    default_seen_ratio: float = setting(
        0.7, "share of each function's facts that training may use", at_least=0, at_most=1
    )
    function_family: str = setting("random", "as for the generators")
    tolerance: float = setting(0.005, "relative width at which the bisection stops")

    def check(self) -> None:
        super().check()
        for name in ("share", "tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"`{name}` {getattr(self, name)} is not between 0 and 1")

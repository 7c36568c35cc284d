"""Which claims there are: those of this folder, and those that are registered from outside."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from coverage_principle.experiments.claims.base import Claim

#: By name, in the order of their letters.
CLAIMS: dict[str, Claim] = {}


def register(claim: Claim) -> Claim:
    """Add a claim. ``ValueError`` if there is another one of its name or letter."""
    for other in CLAIMS.values():
        if other is not claim and {other.name, other.letter} & {claim.name, claim.letter}:
            raise ValueError(f"claim {claim.letter}, {claim.name}, is there already: {other.name}")
    CLAIMS[claim.name] = claim
    for one in sorted(CLAIMS.values(), key=lambda one: one.letter):
        CLAIMS[one.name] = CLAIMS.pop(one.name)
    return claim


for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    _found = importlib.import_module(f"{__package__}.{_module.name}")
    if hasattr(_found, "CLAIM"):
        register(_found.CLAIM)

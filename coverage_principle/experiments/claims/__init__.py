"""The paper's claims, each as runs, numbers and the sentences that these allow."""

from coverage_principle.experiments.claims import accuracy, ambiguity, mechanisms, scaling
from coverage_principle.experiments.claims.base import (
    SCALES,
    Claim,
    Table,
    card,
    write_result,
)

#: By name, in the order in which they are reported.
CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        accuracy.BY_DATA,
        accuracy.BY_K,
        scaling.BY_TASK,
        scaling.BY_MODEL,
        scaling.BY_THOUGHT,
        ambiguity.CLAIM,
        mechanisms.CLAIM,
    )
}

__all__ = ["CLAIMS", "SCALES", "Claim", "Table", "card", "write_result"]

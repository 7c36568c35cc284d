"""Which unseen items a training set covers: evidence, k-equivalence, the substitution graph."""

from coverage_principle.coverage.dataset import SCOPES, Coverage, SlotSet, dataset_coverage
from coverage_principle.coverage.diagnostics import diagnose
from coverage_principle.coverage.domain import domain_cutoffs
from coverage_principle.coverage.equivalence import Equivalence, functional_equivalence
from coverage_principle.coverage.evidence import (
    Observations,
    consistent_pairs,
    observe,
    parse_slot_sets,
    slot_sets,
)
from coverage_principle.coverage.explain import Explanation, explain
from coverage_principle.coverage.explain_text import explanation_lines
from coverage_principle.coverage.required import in_domain_coverage, required_amounts
from coverage_principle.coverage.results import result_name, write_annotated, write_sweep
from coverage_principle.coverage.selection import Selection, count_tested, select, suggest
from coverage_principle.coverage.substitution import (
    EVERY_K,
    Items,
    k_cutoffs,
    substitution_edges,
)
from coverage_principle.coverage.summary import sweep_lines, type_lines, warnings

__all__ = [
    "EVERY_K",
    "SCOPES",
    "Coverage",
    "Equivalence",
    "Explanation",
    "Items",
    "Observations",
    "Selection",
    "SlotSet",
    "consistent_pairs",
    "dataset_coverage",
    "diagnose",
    "domain_cutoffs",
    "explain",
    "explanation_lines",
    "functional_equivalence",
    "in_domain_coverage",
    "k_cutoffs",
    "observe",
    "parse_slot_sets",
    "required_amounts",
    "result_name",
    "select",
    "slot_sets",
    "substitution_edges",
    "count_tested",
    "suggest",
    "sweep_lines",
    "type_lines",
    "warnings",
    "write_annotated",
    "write_sweep",
]

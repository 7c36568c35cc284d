"""Which unseen items a training set covers: evidence, k-equivalence, the substitution graph."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "dataset": "SCOPES Coverage SlotSet dataset_coverage",
        "diagnostics": "diagnose",
        "domain": "domain_cutoffs",
        "equivalence": "Equivalence functional_equivalence",
        "evidence": "Observations consistent_pairs observe parse_slot_sets slot_sets",
        "explanation": "Explanation explain",
        "explain_text": "explanation_lines",
        "required": "in_domain_coverage required_amounts smallest_amount",
        "required_settings": "SearchSettings",
        "results": "result_name write_annotated write_sweep",
        "selection": "Selection count_tested select suggest",
        "substitution": "EVERY_K Items k_cutoffs substitution_edges",
        "summary": "sweep_lines type_lines warnings",
    },
)

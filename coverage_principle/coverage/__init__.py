"""Which unseen items a training set covers: evidence, k-equivalence, the substitution graph."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "by_phi": "CoverageByPhi median_cutoff phi_name",
        "counting": "in_domain_coverage iterated_coverage joint_coverage",
        "cuts": "Control Cut covered_without cut_lines find_cut matched_control without",
        "dataset": "Coverage SlotSet dataset_coverage",
        "diagnostics": "diagnose",
        "equivalence": "Equivalence functional_equivalence",
        "evidence": "Observations consistent_pairs fragments_of observe parse_slot_sets slot_sets",
        "explanation": "Explanation explain explanation_lines",
        "graded": "FIELDS Graded calibration dataset_learned dataset_matcher estimated_noise "
        "graded_coverage require_learner",
        "learner": "Learned Learner learn",
        "matcher": "Matched Matcher",
        "linking": "neighbours",
        "fitting": "Fit fit_dataset fit_learner",
        "predicted": "PredictedData predicted_name",
        "prompts": "Prompts about_file make_prompts write_prompts",
        "required": "required_amounts smallest_amount",
        "results": "about_cut result_name annotated_file refuse_others write_annotated write_fit "
        "write_graded write_graph write_sweep",
        "scopes": "EVERY_K SCOPES DatasetScope DomainScope Scope",
        "selection": "Selection count_tested select suggest",
        "settings": "CoverageSettings LearnerSettings PartsSettings PhiSettings PredictedSettings "
        "SearchSettings",
        "shots": "ShotDrawer shots_cutoff",
        "summary": "calibration_rows fit_rows graded_rows suggestion_lines sweep_lines "
        "type_lines warnings",
    },
)

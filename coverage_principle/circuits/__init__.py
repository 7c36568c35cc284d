"""What a trained model does inside: instruments that look at states or patch them."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "analysis": "Subject with_each",
        "attribution": "Attribution ESTIMATED agreement attribute",
        "bases": "learn_rotation mean_bases moved probe_bases random_bases",
        "bootstrap": "Bootstrap",
        "checkpoints": "changed_since dataset_name find_checkpoint find_checkpoints find_dataset "
        "find_run list_checkpoints",
        "cluster": "cluster_states each_clustering run_cluster",
        "counterfactuals": "Condition Counterfactuals Family Plan diff_family draw_counterfactuals "
        "families family_of",
        "folds": "fragment_folds",
        "heads": "attending head_patch heads_subject mean_patterns run_heads",
        "interchange": "draw_interchange kept_value run_interchange summarise_interchange",
        "items": "Grouping ItemSplit KGroup can_be_known grouping_of item_splits k_groups_of "
        "layout_of sequences token_ids",
        "lens": "read_lens run_lens summarise_lens",
        "linear": "fit_counts fit_linear log_chances",
        "measure": "BINS Measured Vectors check_groups cosine_histograms cosine_report cosine_text "
        "principal_components range_samples read_three read_vectors run_measure shared_groups "
        "site_in",
        "metrics": "DIVERGENCE FEWEST IICG LENSES LENS_READOUTS METRICS PROBE_READOUTS "
        "RANK_CHANGED SUBSETS LensReadout Metric ProbeReadout Shown",
        "models": "LoadedModel READOUTS choose_device open_checkpoint with_fresh_weights",
        "patching": "PATCHED Patch Trace patch_runs",
        "probe": "TRAIN Probes fit_probes plan_probes probe_states probe_subject run_probe",
        "settings": "ClusterSettings ComponentSettings HeadSettings InterchangeSettings "
        "LensSettings MeasureSettings ProbeSettings SubspaceSettings TraceSettings",
        "similarity": "measure_similarity",
        "states": "STREAMS Site collect_states collect_streams sites_of",
        "subspace": "PARTS Study run_subspace subspace_subject",
        "token_map": "TokenMap",
        "trace": "plan_trace run_trace summarise_trace trace_subject",
        "tuned": "TunedLens divergence fit_lens tune_lens",
    },
)

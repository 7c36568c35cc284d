"""What a trained model does inside: states, clustering, counterfactuals, patching, logit lens."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "checkpoints": "find_checkpoint find_dataset find_run list_checkpoints",
        "collapse": "cluster_states",
        "counterfactuals": "Counterfactuals Family diff_family draw_counterfactuals families "
        "family_of",
        "grouping": "Grouping grouping_of layout_of sequences",
        "interchange": "draw_interchange summarise_interchange",
        "items": "ItemSplit KGroup item_splits k_groups_of",
        "lens": "read_lens summarise_lens",
        "models": "LoadedModel READOUTS choose_device open_checkpoint",
        "patching": "PATCHED Trace patch_runs",
        "projection": "BINS cosine_histograms principal_components",
        "published": "Vectors cosine_report cosine_text range_samples read_three read_vectors "
        "site_in",
        "runs": "VECTOR_FORMATS collapse_run",
        "similarity": "measure_similarity",
        "states": "STREAMS Site collect_states collect_streams sites_of",
        "tracing": "Plan plan_tracing summarise",
        "tracing_runs": "interchange_run lens_run trace_run",
    },
)

"""What a trained model does inside: states, clustering, counterfactuals, patching, logit lens."""

from coverage_principle.circuits.checkpoints import (
    LoadedModel,
    choose_device,
    find_checkpoint,
    find_dataset,
    find_run,
    list_checkpoints,
    load_model,
)
from coverage_principle.circuits.collapse import collapse
from coverage_principle.circuits.counterfactuals import (
    Counterfactuals,
    Family,
    diff_family,
    draw_counterfactuals,
    families,
    family_of,
)
from coverage_principle.circuits.grouping import Grouping, grouping_of, layout_of, sequences
from coverage_principle.circuits.interchange import draw_interchange, summarise_interchange
from coverage_principle.circuits.items import (
    ItemSplit,
    KGroup,
    item_splits,
    k_groups_of,
)
from coverage_principle.circuits.lens import read_lens, summarise_lens
from coverage_principle.circuits.patching import PATCHED, READOUTS, Patcher, Trace, trace
from coverage_principle.circuits.projection import (
    BINS,
    cosine_histograms,
    principal_components,
)
from coverage_principle.circuits.published import (
    Vectors,
    cosine_report,
    cosine_text,
    range_samples,
    read_three,
    read_vectors,
    site_in,
)
from coverage_principle.circuits.runs import VECTOR_FORMATS, collapse_run
from coverage_principle.circuits.similarity import similarity
from coverage_principle.circuits.states import (
    STREAMS,
    Site,
    collect_states,
    collect_streams,
    sites_of,
)
from coverage_principle.circuits.storage import write_arrays
from coverage_principle.circuits.tracing import Plan, plan_tracing, summarise
from coverage_principle.circuits.tracing_runs import interchange_run, lens_run, trace_run

__all__ = [
    "BINS",
    "PATCHED",
    "READOUTS",
    "STREAMS",
    "VECTOR_FORMATS",
    "Counterfactuals",
    "Family",
    "Grouping",
    "ItemSplit",
    "KGroup",
    "LoadedModel",
    "Patcher",
    "Plan",
    "Site",
    "Trace",
    "Vectors",
    "choose_device",
    "collapse",
    "collapse_run",
    "collect_states",
    "collect_streams",
    "cosine_histograms",
    "cosine_report",
    "cosine_text",
    "diff_family",
    "draw_counterfactuals",
    "draw_interchange",
    "families",
    "family_of",
    "find_checkpoint",
    "find_dataset",
    "find_run",
    "grouping_of",
    "interchange_run",
    "item_splits",
    "k_groups_of",
    "layout_of",
    "lens_run",
    "list_checkpoints",
    "load_model",
    "plan_tracing",
    "principal_components",
    "range_samples",
    "read_lens",
    "read_three",
    "read_vectors",
    "sequences",
    "similarity",
    "site_in",
    "sites_of",
    "summarise",
    "summarise_interchange",
    "summarise_lens",
    "trace",
    "trace_run",
    "write_arrays",
]

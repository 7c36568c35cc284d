"""What a trained model does inside: hidden states, cosine clustering, counterfactuals, patching."""

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
)
from coverage_principle.circuits.items import ItemSplit, KGroup, item_splits, k_groups_of
from coverage_principle.circuits.patching import READOUTS, Patcher, Trace, trace
from coverage_principle.circuits.runs import collapse_run, trace_run
from coverage_principle.circuits.similarity import similarity
from coverage_principle.circuits.states import STREAMS, Site, collect_states, sites_of
from coverage_principle.circuits.storage import write_arrays
from coverage_principle.circuits.tracing import Plan, plan_tracing, summarise

__all__ = [
    "READOUTS",
    "STREAMS",
    "Counterfactuals",
    "Family",
    "ItemSplit",
    "KGroup",
    "LoadedModel",
    "Patcher",
    "Plan",
    "Site",
    "Trace",
    "choose_device",
    "collapse",
    "collapse_run",
    "collect_states",
    "diff_family",
    "draw_counterfactuals",
    "find_checkpoint",
    "find_dataset",
    "find_run",
    "item_splits",
    "k_groups_of",
    "list_checkpoints",
    "load_model",
    "plan_tracing",
    "similarity",
    "sites_of",
    "summarise",
    "trace",
    "trace_run",
    "write_arrays",
]

"""Causal tracing for any task: patch one hidden state with that of a counterfactual run.

Families of counterfactuals follow from the task graph; --family list shows those of the data set.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis import common
from coverage_principle.circuits import METRICS, TraceSettings
from coverage_principle.cli import run, settings_from


def build_parser(description: str = __doc__, **options):
    metric = common.choice_of(METRICS)
    return common.analysis_parser(description, TraceSettings, metric=metric, **options)


def main(arguments, folder: str = "trace", **fixed) -> None:
    """Trace, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import run_trace
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting import circuit_figures
    from coverage_principle.reporting.grids import reference_words

    settings = settings_from(TraceSettings, arguments, **fixed)
    if settings.family == "list":
        list_families(settings)
        return
    file, results = common.run_analysis(run_trace, settings, results=f"tracing_results/{folder}")
    circuit_figures.tracing_heatmap(results, file)
    if len(results["checkpoints"]) > 1:
        over_training = file.with_name(f"{file.stem}_over_training.png")
        circuit_figures.tracing_curves(results, over_training)
    common.print_reasons(results["splits"])
    shown = METRICS[settings.metric].shown
    checkpoint, splits, notes = common.last_checkpoint(results)
    tables = {
        f"{checkpoint}, {split}: {shown.unit.format(value)}": part["cells"]
        for split, summary in splits.items()
        for value, part in circuit_figures.emitted_parts(results, summary).items()
        if part["samples"]["n"]
    }
    empty = [split for split, summary in splits.items() if not summary["samples"]["n"]]
    also = [reference_words(results["num_layers"]), *notes]
    common.print_grids(tables, shown, "published", empty=empty, also=also)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


def list_families(settings: TraceSettings) -> None:
    """Print the families of counterfactuals of the run's task."""
    from coverage_principle.circuits import families, find_dataset, find_run
    from coverage_principle.data import load_dataset

    dataset = load_dataset(find_dataset(find_run(settings.model_dir), settings.data_dir))
    for name, family in families(dataset.graph).items():
        held = f", {', '.join(family.held)} kept" if family.held else ""
        print(f"{name}: ({family.title}), {family.slot} is changed{held}")


if __name__ == "__main__":
    run(build_parser(), main)

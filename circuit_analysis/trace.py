"""Causal tracing for any task: patch one hidden state with that of a counterfactual run.

A state carries an intermediate value b if putting the state of another item, with another b, in its
place moves the answer t to t', that item's answer. This is done at every layer and position.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis import common
from coverage_principle.circuits import METRICS, TraceSettings
from coverage_principle.cli import LIST, run, settings_from

_COMMAND = f"python circuit_analysis/trace.py --model_dir {common.RUN}"
EXAMPLES = (
    *common.FIRST,
    ("which counterfactuals there are", f"{_COMMAND} --family list"),
    ("which state carries b, in the trained model?", f"{_COMMAND} --step_list final_checkpoint"),
    (
        "the same by how far logits move, of 500 items",
        f"{_COMMAND} --step_list final_checkpoint --metric_type logit --max_items 500",
    ),
)


def build_parser(description: str = __doc__, **options):
    changes = {"metric": common.choice_of(METRICS), "family": LIST}
    changes = {"examples": EXAMPLES, **changes, **options}
    return common.analysis_parser(description, TraceSettings, **changes)


def main(arguments, folder: str = "trace", **fixed) -> None:
    """Trace, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import family_of

    if "family" not in fixed and "list" in (getattr(arguments, "family", None) or ()):
        list_families(settings_from(TraceSettings, arguments, family=None))
        return
    for settings in common.each_of(TraceSettings, arguments, "family", family_of, **fixed):
        trace(settings, folder)


def trace(settings: TraceSettings, folder: str) -> None:
    """One family of counterfactuals."""
    from coverage_principle.circuits import run_trace
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting import circuit_figures
    from coverage_principle.reporting.grids import left_out_lines, reference_words

    file, results = common.run_analysis(run_trace, settings, results=f"tracing_results/{folder}")
    circuit_figures.tracing_heatmap(results, file)
    if len(results["checkpoints"]) > 1:
        over_training = file.with_name(f"{file.stem}_over_training.png")
        circuit_figures.tracing_curves(results, over_training)
    common.print_reasons(results["splits"])
    shown = METRICS[settings.metric].shown
    checkpoint, splits, notes = common.last_checkpoint(results)
    words = {value: value for value in results["emitted"]} | {results["emitted"][-1]: "answer"}
    tables = {
        f"{checkpoint}, {split}: {shown.unit.format(value, words[value])}": part["cells"]
        for split, summary in splits.items()
        for value, part in circuit_figures.emitted_parts(results, summary).items()
        if part["samples"]["n"]
    }
    empty = [split for split, summary in splits.items() if not summary["samples"]["n"]]
    also = [*left_out_lines(splits), reference_words(results["num_layers"]), *notes]
    common.print_grids(tables, shown, "published", empty=empty, also=also)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


def list_families(settings: TraceSettings) -> None:
    """Print the families of counterfactuals of the run's task."""
    from coverage_principle.circuits import families, find_checkpoints, find_dataset
    from coverage_principle.data import load_dataset

    run, _ = find_checkpoints(settings.model_dir, settings.ckpt, settings.step_list)
    dataset = load_dataset(find_dataset(run, settings.data_dir))
    for name, family in families(dataset.graph).items():
        held = f", {', '.join(family.held)} kept" if family.held else ""
        print(f"{name}: ({family.title}), {family.slot} is changed{held}")


if __name__ == "__main__":
    run(build_parser(), main)

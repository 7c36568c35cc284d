"""Attention heads for any task: which head brings the answer what it needs, and where does it look?

The output of one head at one position is taken from a counterfactual run, for every head, layer and
position. Beside that, gradients estimate the same in three passes (attribution patching), and the
attention weights of each head are averaged over the items.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis import common
from circuit_analysis.trace import list_families
from coverage_principle.circuits import METRICS, HeadSettings
from coverage_principle.cli import LIST, run, settings_from

_COMMAND = f"python circuit_analysis/heads.py --model_dir {common.RUN}"
_LAST = f"{_COMMAND} --step_list final_checkpoint"
EXAMPLES = (
    *common.FIRST,
    ("which heads move the answer, in the trained model?", _LAST),
    ("how often each makes the other answer the likelier one", f"{_LAST} --metric_type rank"),
    ("only the estimates, for a large model", f"{_LAST} --attribution_only --max_items 500"),
)


def build_parser(description: str = __doc__, **options):
    changes = {"metric": common.choice_of(METRICS), "family": LIST}
    changes = {"examples": EXAMPLES, **changes, **options}
    return common.analysis_parser(description, HeadSettings, **changes)


def main(arguments) -> None:
    """Patch, draw and print."""
    from coverage_principle.circuits import family_of

    if "list" in (arguments.family or ()):
        list_families(settings_from(HeadSettings, arguments, family=None))
        return
    for settings in common.each_of(HeadSettings, arguments, "family", family_of):
        patch(settings)


def patch(settings: HeadSettings) -> None:
    """One family of counterfactuals."""
    from coverage_principle.circuits import run_heads
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting import head_figures
    from coverage_principle.reporting.grids import left_out_lines

    file, results = common.run_analysis(run_heads, settings, results="tracing_results/heads")
    head_figures.heads_heatmap(results, file)
    head_figures.states_heatmap(results, file.with_name(f"{file.stem}_states.png"))
    head_figures.pattern_figures(results, file)
    common.print_reasons(results["splits"])
    checkpoint, splits, notes = common.last_checkpoint(results)
    words = {value: value for value in results["emitted"]} | {results["emitted"][-1]: "answer"}
    tables, summary, idle = {}, [], []
    for split, parts in head_figures.patched_parts(results).items():
        for value, part in parts.items():
            cells, shown = head_figures.shown_of(results, part["cells"])
            title = f"{split}, {value}" if len(parts) > 1 else split
            title += ", estimated" if settings.attribution_only else ""
            summary += head_figures.head_lines(title, cells, shown)
            what = shown.unit.format(value, words[value])
            for slot, own in head_figures.by_position(cells).items():
                tables[f"{checkpoint}, {split}, {slot}: {what}"] = own
            idle += head_figures.idle_lines(cells)
    print("\n".join(["", *summary, *head_figures.correlation_lines(splits)]))
    empty = [split for split, found in splits.items() if not found["samples"]["n"]]
    also = [*dict.fromkeys(idle), *left_out_lines(splits), *notes]
    common.print_grids(tables, shown, "published", empty=empty, also=also)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it; also _states and _patterns")


if __name__ == "__main__":
    run(build_parser(), main)

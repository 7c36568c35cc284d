"""Interchange of a subspace for any task: is what a probe sees in a state what the model uses?

At each layer and position only a part of the state is taken from the counterfactual's run: a
subspace in which the value is held, then the rest. If the subspace is all that matters, the first
moves the answer t to t' as the whole state does, and the second does not. A random subspace of the
same rank stands beside them. Subspaces are learned on other fragments than they are tested on.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis import common
from circuit_analysis.trace import list_families
from coverage_principle.circuits import METRICS, SubspaceSettings
from coverage_principle.cli import LIST, run, settings_from

_COMMAND = f"python circuit_analysis/subspace.py --model_dir {common.RUN}"
_LAST = f"{_COMMAND} --step_list final_checkpoint"
EXAMPLES = (
    *common.FIRST,
    ("do the directions between the means of b carry it?", _LAST),
    ("does what a linear probe of b reads?", f"{_LAST} --subspace probe"),
    (
        "eight directions that are learned by their effect, at x2 after layer 1",
        f'{_LAST} --subspace rotation --rank 8 --layer_pos_pairs "[(1,1)]"',
    ),
)


def build_parser(description: str = __doc__, **options):
    changes = {"metric": common.choice_of(METRICS), "family": LIST}
    changes = {"examples": EXAMPLES, **changes, **options}
    return common.analysis_parser(description, SubspaceSettings, **changes)


def main(arguments) -> None:
    """Interchange, draw and print."""
    from coverage_principle.circuits import family_of

    if "list" in (arguments.family or ()):
        list_families(settings_from(SubspaceSettings, arguments, family=None))
        return
    for settings in common.each_of(SubspaceSettings, arguments, "family", family_of):
        interchange(settings)


def interchange(settings: SubspaceSettings) -> None:
    """One family of counterfactuals."""
    from coverage_principle.circuits import run_subspace
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting import circuit_figures, grids

    file, results = common.run_analysis(run_subspace, settings, results="tracing_results/subspace")
    circuit_figures.subspace_heatmap(results, file)
    common.print_reasons(results["splits"])
    shown = METRICS[settings.metric].shown
    checkpoint, splits, notes = common.last_checkpoint(results)
    words = {value: value for value in results["emitted"]} | {results["emitted"][-1]: "answer"}
    tables = {
        f"{checkpoint}, {split}, {title}: {shown.unit.format(value, words[value])}": cells
        for split, summary in splits.items()
        for value, part in circuit_figures.emitted_parts(results, summary).items()
        if part["samples"]["n"]
        for title, cells in circuit_figures.moved_parts(part["cells"]).items()
    }
    empty = [split for split, summary in splits.items() if not summary["samples"]["n"]]
    also = [*grids.left_out_lines(splits), grids.reference_words(results["num_layers"], parts=True)]
    also += [*grids.share_lines(splits), *notes]
    common.print_grids(tables, shown, "published", empty=empty, also=also)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

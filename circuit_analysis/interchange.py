"""Same-bridge interchange for any task: patch in the state of another fragment with the same b.

If a state stands for b alone, the state of another item that has the same b by other inputs can
take its place, and the answer stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import (
    FIRST,
    RUN,
    SEVERAL,
    analysis_parser,
    each_of,
    last_checkpoint,
    print_grids,
    print_reasons,
    run_analysis,
)
from coverage_principle.circuits import RANK_CHANGED, InterchangeSettings
from coverage_principle.cli import run

_COMMAND = f"python circuit_analysis/interchange.py --model_dir {RUN}"
EXAMPLES = (
    *FIRST,
    ("of the trained model", f"{_COMMAND} --step_list final_checkpoint"),
    ("of 500 items", f"{_COMMAND} --step_list final_checkpoint --max_items 500"),
)


def build_parser(description: str = __doc__, omit=("k_groups",), **options):
    changes = {"examples": EXAMPLES, "group_by": SEVERAL, **options}
    return analysis_parser(description, InterchangeSettings, omit=omit, **changes)


def main(arguments, folder: str = "interchange", **fixed) -> None:
    """Interchange, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import kept_value

    fixed["k_groups"] = "none"
    for settings in each_of(InterchangeSettings, arguments, "group_by", kept_value, **fixed):
        interchange(settings, folder)


def interchange(settings: InterchangeSettings, folder: str) -> None:
    """One value that is kept."""
    from coverage_principle.circuits import run_interchange
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import interchange_heatmap
    from coverage_principle.reporting.grids import fixed_words, with_fixed

    file, results = run_analysis(run_interchange, settings, results=f"tracing_results/{folder}")
    print_reasons(results["splits"])
    checkpoint, pairs, notes = last_checkpoint(results)
    tables = {
        f"{checkpoint}, {pair.replace('-', ' takes from ')}: {RANK_CHANGED.unit}": with_fixed(
            summary["cells"], results["num_layers"]
        )
        for pair, summary in pairs.items()
    }
    also = [fixed_words(results["num_layers"]), *notes]
    print_grids(tables, RANK_CHANGED, "unfiltered", also=also)
    interchange_heatmap(results, file)
    print(f"\n{relative_to_root(file)}, and .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

"""Same-bridge interchange for any task: patch in the state of another fragment with the same b."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import (
    analysis_parser,
    last_checkpoint,
    print_grids,
    print_reasons,
    run_analysis,
)
from coverage_principle.circuits import RANK_CHANGED, InterchangeSettings
from coverage_principle.cli import run, settings_from


def build_parser(description: str = __doc__, omit=("k_groups",), **options):
    return analysis_parser(description, InterchangeSettings, omit=omit, **options)


def main(arguments, folder: str = "interchange", **fixed) -> None:
    """Interchange, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import run_interchange
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import interchange_heatmap

    settings = settings_from(InterchangeSettings, arguments, k_groups="none", **fixed)
    file, results = run_analysis(run_interchange, settings, results=f"tracing_results/{folder}")
    print_reasons(results["splits"])
    checkpoint, pairs, notes = last_checkpoint(results)
    tables = {
        f"{checkpoint}, {pair.replace('-', ' takes from ')}: {RANK_CHANGED.unit}": summary["cells"]
        for pair, summary in pairs.items()
    }
    print_grids(tables, RANK_CHANGED, "unfiltered", also=notes)
    drawn = any(summary["samples"]["original_correct"] for summary in pairs.values())
    if drawn:
        interchange_heatmap(results, file)
    print(f"\n{relative_to_root(file)}" + (", and .png, .pdf beside it" if drawn else ""))


if __name__ == "__main__":
    run(build_parser(), main)

"""Logit lens for any task: what would the model answer if it stopped at a hidden state?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import (
    analysis_parser,
    choice_of,
    print_grid,
    print_splits,
    run_analysis,
)
from coverage_principle.circuits import LENS_READOUTS, LensSettings
from coverage_principle.cli import run, settings_from


def build_parser(description: str = __doc__, **options):
    readout = choice_of(LENS_READOUTS)
    readout["help"] = f"what is printed and drawn; all are written. {readout['help']}"
    return analysis_parser(description, LensSettings, readout=readout, **options)


def main(arguments, folder: str = "lens", **fixed) -> None:
    """Read, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import run_lens
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import lens_heatmap

    settings = settings_from(LensSettings, arguments, **fixed)
    file, results = run_analysis(run_lens, settings, results=f"logit-lens_results/{folder}")
    print_splits(results["splits"])
    shown = LENS_READOUTS[settings.readout].shown
    for checkpoint, splits in results["checkpoints"].items():
        for split, cells in splits.items():
            for value in results["values"]:
                own = [c for c in cells if c["value"] == value]
                if own and own[0]["n"]:
                    unit = shown.unit.format(value)
                    print_grid(f"{checkpoint}, {split}: {unit}, n = {own[0]['n']:,}", own, shown)
    for split, about in results["splits"].items():
        if about["used"]:
            name = f"{file.stem}_{split.replace('/', '_')}.png"
            lens_heatmap(results, file.with_name(name), split=split, readout=settings.readout)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

"""Logit lens for any task: what would the model answer if it stopped at a hidden state?

Every hidden state is read out as if it were the last layer's: at which rank, and how probable, are
the answer t and the intermediate values, such as b? With --tuned also by the tuned lens.
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
    choice_of,
    each_of,
    last_checkpoint,
    print_grids,
    print_splits,
    run_analysis,
)
from coverage_principle.circuits import DIVERGENCE, LENS_READOUTS, LENSES, LensSettings
from coverage_principle.cli import run

_COMMAND = f"python circuit_analysis/lens.py --model_dir {RUN} --step_list final_checkpoint"
EXAMPLES = (
    *FIRST,
    ("where could b and t be read?", _COMMAND),
    ("beside it what a tuned lens reads", f"{_COMMAND} --tuned"),
    (
        "by probability, at two places",
        f'{_COMMAND} --readout prob --layer_pos_pairs "[(1,1),(2,2)]"',
    ),
)


def build_parser(description: str = __doc__, **options):
    readout = choice_of(LENS_READOUTS)
    readout["help"] = f"what is printed and drawn; all are written. {readout['help']}"
    changes = {"examples": EXAMPLES, "readout": readout, "group_by": SEVERAL, **options}
    return analysis_parser(description, LensSettings, **changes)


def main(arguments, folder: str = "lens", **fixed) -> None:
    """Read, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import grouping_of

    for settings in each_of(LensSettings, arguments, "group_by", grouping_of, **fixed):
        lens(settings, folder)


def lens(settings: LensSettings, folder: str) -> None:
    """One choice of items."""
    from coverage_principle.circuits import run_lens
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import divergence_heatmap, lens_heatmap

    file, results = run_analysis(run_lens, settings, results=f"logit-lens_results/{folder}")
    print_splits(results["splits"])
    shown = LENS_READOUTS[settings.readout].shown
    empty = [split for split, about in results["splits"].items() if not about["used"]]
    used = {split: split.replace("/", "_") for split in results["splits"] if split not in empty}
    kinds = {"": results, **({", tuned lens": results["tuned"]} if settings.tuned else {})}
    for kind, part in kinds.items():
        checkpoint, splits, notes = last_checkpoint(part)
        tables = {
            f"{checkpoint}, {split}: {shown.unit.format(value)}{kind}": own
            for split, cells in splits.items()
            for value in results["values"]
            if (own := [c for c in cells if c["value"] == value and c["n"]])
        }
        print_grids(tables, shown, empty=empty, also=notes)
        for split, name in used.items():
            place = file.with_name(f"{file.stem}_{name}{'_tuned' * bool(kind)}.png")
            lens_heatmap(results, place, split=split, readout=settings.readout, tuned=bool(kind))
    if settings.tuned:
        divergences = results["tuned"]["divergence"][checkpoint]
        tables = {
            f"{checkpoint}, {split}: {DIVERGENCE.unit.format(lens)}": own
            for split in used
            for lens in LENSES
            if (own := [c for c in divergences[split] if c["lens"] == lens])
        }
        print_grids(tables, DIVERGENCE)
        for split, name in used.items():
            place = file.with_name(f"{file.stem}_{name}_divergence.png")
            divergence_heatmap(results, place, split=split)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

"""Linear probes for any task: from which states can a value be told, in whatever directions?

At every layer and position a linear classifier is trained to tell each intermediate value, such as
b, and the answer t. It is tested on items none of whose fragments (the inputs that determine the
value) it was trained on: a probe that has seen a fragment can know its value by heart. What it
reaches is compared with probes of values dealt out at random, and of a model with random weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import (
    FIRST,
    RUN,
    analysis_parser,
    choice_of,
    last_checkpoint,
    print_grids,
    run_analysis,
)
from coverage_principle.circuits import PROBE_READOUTS, ProbeSettings
from coverage_principle.cli import run, settings_from

_COMMAND = f"python circuit_analysis/probe.py --model_dir {RUN} --step_list final_checkpoint"
EXAMPLES = (
    *FIRST,
    ("where can b and t be told?", _COMMAND),
    ("how many bits of b and of the first token", f"{_COMMAND} --values b,x1 --readout bits"),
)


def build_parser():
    readout = choice_of(PROBE_READOUTS)
    readout["help"] = f"what is printed and drawn; all are written. {readout['help']}"
    return analysis_parser(__doc__, ProbeSettings, examples=EXAMPLES, readout=readout)


def main(arguments) -> None:
    from coverage_principle.circuits import TRAIN, run_probe
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import probe_heatmap
    from coverage_principle.reporting.grids import baseline_lines, probe_lines

    settings = settings_from(ProbeSettings, arguments)
    file, results = run_analysis(run_probe, settings, results="probe_results")
    print("\n".join(probe_lines(results)))
    shown = PROBE_READOUTS[settings.readout].shown
    checkpoint, splits, notes = last_checkpoint(results)
    tables = {
        f"{checkpoint}, {split}: {shown.unit.format(value)}": own
        for split, cells in splits.items()
        for value in results["values"]
        if (own := [c for c in cells if c["value"] == value and c["n"]])
    }
    empty = [split for split, cells in splits.items() if not any(c["n"] for c in cells)]
    notes = [*baseline_lines(splits[TRAIN], settings.readout), *notes]
    print_grids(tables, shown, empty=empty, also=notes)
    probe_heatmap(results, file.with_suffix(".png"), readout=settings.readout)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

"""Cosine statistics and IICG of three files of vectors (ID train, ID test, OOD), and figures.

The vectors are hidden states, grouped by a value, such as the intermediate value b of their items.
IICG, the intra-inter cosine gap, is their mean cosine within groups minus that between groups.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import DATA, FIRST, RUN, print_files, vectors_example
from coverage_principle.circuits import MeasureSettings
from coverage_principle.cli import add_settings, command_parser, run, settings_from


def measuring_example(command: str, file: str, more: str = "--overwrite") -> tuple[str, str]:
    """An example that measures the vectors of ``file``, which holds those of all three kinds."""
    files = f"--id_train_file {file} --id_test_file {file} --ood_file {file}"
    place = '--output_dir "results/(1,1)/final"'
    return "those of layer 1 and the second token", f"{command} {files} {place} {more}"


_VECTORS, _FILE = vectors_example(DATA, RUN, "b")
_MEASURE = measuring_example("python circuit_analysis/measure.py", _FILE)
EXAMPLES = (
    *(*FIRST, _VECTORS, _MEASURE),
    ("with figures", f"{_MEASURE[1]} --save_plots --pca_vis --pca_n 5"),
)


def build_parser(description: str = __doc__, examples=EXAMPLES, **options):
    parser = command_parser(description, examples)
    add_settings(parser, MeasureSettings, **options)
    return parser


def main(arguments, **fixed) -> None:
    """Measure, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import cosine_text, run_measure

    settings = settings_from(MeasureSettings, arguments, **fixed)
    measured = run_measure(settings)
    if not settings.draw_only:
        print(cosine_text(measured))
    written = []
    if settings.save_plots or settings.pca_vis or settings.draw_only:
        from coverage_principle.reporting.cluster_figures import measured_figures

        written = measured_figures(measured, settings)
    if settings.draw_only:
        print("\n".join(map(str, written)))
    else:
        print_files(measured.folder)


if __name__ == "__main__":
    run(build_parser(), main)

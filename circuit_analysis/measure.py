"""Cosine statistics and IICG of three files of vectors (ID train, ID test, OOD), and figures."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import print_files
from coverage_principle.circuits import MeasureSettings
from coverage_principle.cli import add_settings, command_parser, run, settings_from


def build_parser(description: str = __doc__, **options):
    parser = command_parser(description)
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

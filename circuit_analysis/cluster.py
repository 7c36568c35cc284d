"""Cosine clustering (IICG) for any task: do states with the same value come together?"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from circuit_analysis.common import analysis_parser, print_files, print_grid, print_splits
from coverage_principle.circuits import IICG, ClusterSettings
from coverage_principle.cli import run, settings_from
from simpletransformers.words import counted


def build_parser(description: str = __doc__, **options):
    about = 'values or slots, such as b or "b,x2", or the number of a function; several are '
    several = {"nargs": "+", "default": ["1"], "help": f"{about}drawn side by side"}
    parser = analysis_parser(description, ClusterSettings, group_by=several, **options)
    none = {"dest": "vectors", "action": "store_const", "const": "none"}
    parser.add_argument("--no_vectors", **none, help="do not write vectors")
    return parser


def main(arguments, **fixed) -> None:
    """Cluster, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import iicg_comparison

    if "group_by" in fixed:
        cluster(settings_from(ClusterSettings, arguments, **fixed))
        return
    found = {}
    for key in arguments.group_by:
        folder, metrics = cluster(settings_from(ClusterSettings, arguments, group_by=key))
        found[metrics["grouped_by"]["value"]] = metrics
    if len(found) > 1:
        target = folder.parent.parent / f"{folder.name}_by_{'_against_'.join(found)}.png"
        written = iicg_comparison(found, target)
        print(f"\n{', '.join(relative_to_root(path) for path in written)}")


def cluster(settings: ClusterSettings):
    """One grouping; returns the folder and the metrics."""
    from tqdm import tqdm

    from coverage_principle.circuits import run_cluster
    from coverage_principle.reporting.circuit_figures import iicg_heatmap, split_cells
    from coverage_principle.reporting.cluster_figures import draw_components

    with tqdm(desc="cells", disable=None, leave=False) as bar:
        folder, metrics = run_cluster(settings, progress=bar.update)
    iicg_heatmap(metrics, folder / "iicg")
    if settings.pca:
        draw_components(folder, metrics, every_site=settings.pairs is not None)
    print_splits(metrics["splits"])
    for split, about in metrics["splits"].items():
        if about["vectors"]:
            vectors = (
                f"{counted(about['vectors'], 'vector')} in {counted(about['groups'], 'group')}"
            )
            title = f"IICG, {split}: {vectors} by {metrics['grouped_by']['value']}"
            print_grid(title, split_cells(metrics, split), IICG)
    print()
    print_files(folder)
    return folder, metrics


if __name__ == "__main__":
    run(build_parser(), main)

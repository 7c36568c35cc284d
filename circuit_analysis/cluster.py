"""Cosine clustering (IICG) for any task: do states with the same value come together?

Hidden states are grouped by a value, such as the intermediate value b of their items. IICG, the
intra-inter cosine gap, is their mean cosine within groups minus that between groups.
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
    print_files,
    print_grids,
    print_splits,
)
from coverage_principle.circuits import IICG, ClusterSettings
from coverage_principle.cli import group_of, run, settings_from
from simpletransformers.words import counted

_COMMAND = f"python circuit_analysis/cluster.py --ckpt {RUN}/final_checkpoint"
EXAMPLES = (
    *FIRST,
    ("at every layer and position, grouped by b", f"{_COMMAND} --group_by b"),
    (
        "by b and by t side by side, with principal components",
        f"{_COMMAND} --group_by b t --pca --overwrite",
    ),
)


def build_parser(description: str = __doc__, **options):
    about = 'values or slots, such as b or "b,x2", or the number of a function; several are '
    several = {**SEVERAL, "help": f"{about}drawn side by side"}
    changes = {"examples": EXAMPLES, "group_by": several, **options}
    parser = analysis_parser(description, ClusterSettings, **changes)
    none = {"dest": "vectors", "action": "store_const", "const": "none"}
    about = "the same as --vectors none"
    group_of(parser, "written").add_argument("--no_vectors", **none, help=about)
    return parser


def main(arguments, **fixed) -> None:
    """Cluster, draw and print; ``fixed`` are settings that a published path decides."""
    from coverage_principle.circuits import each_clustering
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import iicg_comparison

    keys = [fixed["group_by"]] if "group_by" in fixed else arguments.group_by
    settings = settings_from(ClusterSettings, arguments, **{**fixed, "group_by": keys[0]})
    each = each_clustering(settings, keys)
    found = {}  # by checkpoint, then by grouping
    for one in each:
        folder, metrics = cluster(one, named=len(each) > len(keys))
        found.setdefault(folder.name, {})[metrics["grouped_by"]["value"]] = metrics
    for checkpoint, by_value in found.items():
        if len(by_value) > 1:
            target = folder.parent.parent / f"{checkpoint}_by_{'_against_'.join(by_value)}.png"
            written = iicg_comparison(by_value, target)
            print(f"\n{', '.join(relative_to_root(path) for path in written)}")


def cluster(settings: ClusterSettings, *, named: bool):
    """One grouping of one checkpoint, which is ``named`` in what is printed or not."""
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
    splits, value = metrics["splits"].items(), metrics["grouped_by"]["value"]
    before, tables = f"{folder.name}, " if named else "", {}
    for split, about in splits:
        if about["vectors"]:
            vectors, groups = counted(about["vectors"], "vector"), counted(about["groups"], "group")
            title = f"{before}IICG, {split}: {vectors} in {groups} by {value}"
            tables[title] = split_cells(metrics, split)
    print_grids(tables, IICG, empty=[split for split, about in splits if not about["vectors"]])
    print()
    print_files(folder)
    return folder, metrics


if __name__ == "__main__":
    run(build_parser(), main)

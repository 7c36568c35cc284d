"""The body of every clustering command: run it, draw it, print it."""

from __future__ import annotations

from circuit_analysis.common import (
    beside,
    circuit_parser,
    layer_position_pairs,
    print_grid,
)
from coverage_principle.cli import positive


def cluster_parser(description: str, *, grouping: bool = False):
    """A parser with the flags of every clustering command."""
    parser = circuit_parser(description, grouping=grouping)
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint folder")
    add(
        "--layer_pos_pairs",
        type=layer_position_pairs,
        default="all",
        help='"[(3,1)]": layer 3, second token; or all',
    )
    add("--save_dir", default="results/cosine_analysis", help="where results go")
    add(
        "--mode",
        default="residual",
        help="stream: residual, post_attention, post_mlp, embedding, logit or prob",
    )
    add("--permutations", type=positive, default=20, help="random labelings of the baseline")
    add("--vectors", default="npz", help="format of the vectors: npz, safetensors or none")
    add(
        "--no_vectors",
        dest="vectors",
        action="store_const",
        const="none",
        default="npz",
        help="do not write vectors",
    )
    add(
        "--published_files",
        action="store_true",
        help="also write the published (layer,position)/step/*_dedup.json",
    )
    add(
        "--pca",
        action="store_true",
        help="draw principal components of each --layer_pos_pairs, or of id_test's IICG peak",
    )
    add("--no_dedup", action="store_true", help="all items, not one for each fragment")
    add("--overwrite", action="store_true", help="replace results that are there")
    return parser


def cluster_command(
    arguments, group_by: int | str, label: str | None = None, task: str | None = None
):
    """Cluster by ``group_by`` as the flags say; returns the folder and the metrics."""
    from tqdm import tqdm

    from coverage_principle.circuits import collapse_run
    from coverage_principle.errors import InputError
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import iicg_heatmap
    from coverage_principle.reporting.cluster_figures import draw_components

    if arguments.pca and arguments.vectors != "npz":
        raise InputError("--pca needs the vectors in vectors.npz; leave --vectors at npz")
    with tqdm(desc="cells", disable=None, leave=False) as bar:
        folder, metrics = collapse_run(
            arguments.ckpt,
            arguments.save_dir,
            data_dir=arguments.data_dir,
            pairs=arguments.layer_pos_pairs,
            group_by=group_by,
            label=label,
            task=task,
            stream=arguments.mode,
            k_groups=arguments.k_groups,
            max_items=arguments.max_items,
            every_item=arguments.no_dedup,
            device=arguments.device,
            batch_size=arguments.batch_size,
            permutations=arguments.permutations,
            seed=arguments.seed,
            vectors=arguments.vectors,
            published_files=arguments.published_files,
            overwrite=arguments.overwrite,
            progress=bar.update,
        )
    iicg_heatmap(metrics, folder / "iicg")
    if arguments.pca:
        draw_components(folder, metrics, every_site=arguments.layer_pos_pairs is not None)

    for split, about in metrics["splits"].items():
        if not about["vectors"]:
            continue
        title = (
            f"IICG, {split}: {about['vectors']:,} vectors in "
            f"{about['groups']} groups by {metrics['grouped_by']['value']}"
        )
        print_grid(
            title,
            [
                (f"{c['layer']}{' ln_f' if c['after_ln_f'] else ''}", c["slot"], c["iicg"])
                for c in metrics["cells"]
                if c["split"] == split
            ],
            ".3f",
        )
    print(f"\n{relative_to_root(folder)}: {beside(folder)}")
    return folder, metrics

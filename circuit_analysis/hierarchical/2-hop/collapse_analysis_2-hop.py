"""Cosine clustering of a model's hidden states by a primitive function's value (IICG)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, layer_position_pairs, positive, print_grid
from coverage_principle.cli import run


def build_parser():
    parser = circuit_parser(__doc__)
    add = parser.add_argument
    add("--ckpt", required=True, help="a checkpoint folder")
    add("--layer_pos_pairs", type=layer_position_pairs, default="all",
        help='"[(3,1)]": layer 3, second token; or all')  # fmt: skip
    add("--save_dir", default="results/cosine_analysis", help="where results go")
    add("--atomic_idx", type=positive, default=1, help="group by this function's value: 1 is f1's")
    add("--mode", default="residual",
        help="stream: residual, post_attention, post_mlp, embedding, logit or prob")  # fmt: skip
    add("--no_vectors", action="store_true", help="do not write vectors.npz")
    add("--overwrite", action="store_true", help="replace results that are there")
    return parser


def main(arguments) -> None:
    from tqdm import tqdm

    from coverage_principle.circuits import collapse_run
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.circuit_figures import iicg_heatmap

    with tqdm(desc="cells", disable=None, leave=False) as bar:
        folder, metrics = collapse_run(
            arguments.ckpt,
            arguments.save_dir,
            data_dir=arguments.data_dir,
            pairs=arguments.layer_pos_pairs,
            function_number=arguments.atomic_idx,
            stream=arguments.mode,
            k_groups=arguments.k_groups,
            max_items=arguments.max_items,
            device=arguments.device,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            save_vectors=not arguments.no_vectors,
            overwrite=arguments.overwrite,
            progress=bar.update,
        )
    iicg_heatmap(metrics, folder / "iicg")

    for split, about in metrics["splits"].items():
        if not about["vectors"]:
            continue
        title = f"IICG, {split}: {about['vectors']:,} vectors in {about['groups']} groups"
        print_grid(
            title,
            [
                (f"{c['layer']}{' ln_f' if c['after_ln_f'] else ''}", c["slot"], c["iicg"])
                for c in metrics["cells"]
                if c["split"] == split
            ],
            ".3f",
        )
    files = sorted(path.name for path in folder.iterdir())
    print(f"\n{relative_to_root(folder)}: {', '.join(files)}")


if __name__ == "__main__":
    run(build_parser(), main)

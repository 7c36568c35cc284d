"""Causal tracing of the bridge: patch the residual stream with that of a run with another b."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from circuit_analysis.common import circuit_parser, print_grid
from coverage_principle.cli import run
from coverage_principle.paths import relative_to_root, repository_root


def build_parser():
    parser = circuit_parser(__doc__)
    add = parser.add_argument
    add("--model_dir", required=True, help="a run folder, which holds checkpoints")
    add("--step_list", nargs="+", default=None,
        help="checkpoints: 250, checkpoint-250 or final_checkpoint; all if not given")  # fmt: skip
    add("--metric_type", choices=("rank", "prob"), default="rank",
        help="rank: how often t' comes to the top; prob: how far p(t') moves")  # fmt: skip
    add("--save_dir", default=None,
        help="where results go (circuit_analysis/tracing_results/2-hop if not given)")  # fmt: skip
    return parser


def main(arguments) -> None:
    from tqdm import tqdm

    from coverage_principle.circuits import trace_run
    from coverage_principle.reporting.circuit_figures import tracing_cells, tracing_heatmap

    default = repository_root() / "circuit_analysis" / "tracing_results" / "2-hop"
    with tqdm(disable=None, leave=False, unit="item") as bar:

        def progress(checkpoint: str, done: int, total: int) -> None:
            bar.set_description(checkpoint, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        file, results = trace_run(
            arguments.model_dir,
            arguments.save_dir or default,
            step_list=arguments.step_list,
            data_dir=arguments.data_dir,
            metric=arguments.metric_type,
            k_groups=arguments.k_groups,
            max_items=arguments.max_items,
            device=arguments.device,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            progress=progress,
        )
    tracing_heatmap(results, file)

    for split, about in results["splits"].items():
        print(f"{split}: {about['traced']:,} of {about['distinct_fragments']:,} items traced")
        for reason, count in about["no_counterfactual"].items():
            print(f"  {count:,} without a counterfactual: {reason}")
    unit = "% moved to t'" if results["metric"] == "rank" else "relative change of p(t')"
    for checkpoint, splits in results["checkpoints"].items():
        for split, summary in splits.items():
            if not summary["samples"]["n"]:
                continue
            cells = tracing_cells(results, checkpoint, split)
            rows = [(str(cell.layer), cell.slot, cell.value) for cell in cells]
            form = ".1f" if results["metric"] == "rank" else ".3f"
            print_grid(f"{checkpoint}, {split}: {unit}", rows, form)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


if __name__ == "__main__":
    run(build_parser(), main)

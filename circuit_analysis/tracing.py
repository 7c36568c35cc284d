"""The body of every tracing command: run it, draw it, print it."""

from __future__ import annotations

from circuit_analysis.common import checkpoint_bar, print_grid, print_reasons


def trace_command(arguments, folder: str, **options) -> None:
    """Trace as the flags say; results go to ``circuit_analysis/tracing_results/<folder>``.

    ``options`` are those of ``trace_run`` that the command decides.
    """
    from coverage_principle.circuits import trace_run
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.circuit_curves import tracing_curves
    from coverage_principle.reporting.circuit_figures import tracing_heatmap

    default = repository_root() / "circuit_analysis" / "tracing_results" / folder
    bar, progress = checkpoint_bar()
    with bar:
        file, results = trace_run(
            arguments.model_dir,
            arguments.save_dir or default,
            step_list=arguments.step_list,
            data_dir=arguments.data_dir,
            metric=getattr(arguments, "metric_type", "rank"),
            k_groups=arguments.k_groups,
            max_items=arguments.max_items,
            device=arguments.device,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            progress=progress,
            **options,
        )
    tracing_heatmap(results, file)
    if len(results["checkpoints"]) > 1:
        tracing_curves(results, file.with_name(f"{file.stem}_over_training.png"))
    print_reasons(results["splits"])
    _print_cells(results)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")


def _print_cells(results: dict) -> None:
    from coverage_principle.reporting.circuit_figures import tracing_cells

    metric = results["metric"]
    unit = {
        "rank": "% moved to {}'",
        "prob": "relative change of p({}')",
        "logit": "share of the source run's logit shift to {}'",
    }[metric]
    form = ".1f" if metric == "rank" else ".3f"
    for checkpoint, splits in results["checkpoints"].items():
        for split, summary in splits.items():
            parts = {**summary.get("bridges", {}), None: summary}
            for bridge, part in parts.items():
                if not part["samples"]["n"]:
                    continue
                cells = tracing_cells(results, checkpoint, split, bridge=bridge)
                rows = [(str(cell.layer), cell.slot, cell.value) for cell in cells]
                value = bridge or results["emitted"][-1]
                print_grid(f"{checkpoint}, {split}: {unit.format(value)}", rows, form)


def interchange_command(arguments, folder: str, **options) -> None:
    """Same-bridge interchange; results go to ``circuit_analysis/tracing_results/<folder>``."""
    from coverage_principle.circuits import interchange_run
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.circuit_figures import interchange_heatmap

    default = repository_root() / "circuit_analysis" / "tracing_results" / folder
    bar, progress = checkpoint_bar()
    with bar:
        file, results = interchange_run(
            arguments.model_dir,
            arguments.save_dir or default,
            step_list=arguments.step_list,
            data_dir=arguments.data_dir,
            max_items=arguments.max_items,
            device=arguments.device,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            progress=progress,
            **options,
        )
    print_reasons(results["splits"])
    for checkpoint, pairs in results["checkpoints"].items():
        for pair, summary in pairs.items():
            rows = [
                (str(c["layer"]), c["slot"], _percent(c["unfiltered"]["rank_changed"]["rate"]))
                for c in summary["cells"]
            ]
            title = f"{checkpoint}, {pair.replace('-', ' takes from ')}: % with another rank of t"
            print_grid(title, rows, ".1f")
    drawn = any(
        summary["samples"]["original_correct"]
        for summary in list(results["checkpoints"].values())[-1].values()
    )
    if drawn:
        interchange_heatmap(results, file)
    print(f"\n{relative_to_root(file)}" + (", and .png, .pdf beside it" if drawn else ""))


def _percent(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate

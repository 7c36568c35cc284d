"""The body of every logit-lens command: run it, draw it, print it."""

from __future__ import annotations

from circuit_analysis.common import checkpoint_bar, print_grid


def lens_command(arguments, folder: str, **options) -> None:
    """Read a run as the flags say; results go to ``circuit_analysis/logit-lens_results/<folder>``.

    ``options`` are those of ``lens_run`` that the command decides.
    """
    from coverage_principle.circuits import lens_run
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.circuit_figures import lens_heatmap

    default = repository_root() / "circuit_analysis" / "logit-lens_results" / folder
    bar, progress = checkpoint_bar()
    with bar:
        file, results = lens_run(
            arguments.model_dir,
            arguments.save_dir or default,
            step_list=arguments.step_list,
            data_dir=arguments.data_dir,
            k_groups=arguments.k_groups,
            max_items=arguments.max_items,
            device=arguments.device,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            progress=progress,
            **options,
        )
    for checkpoint, splits in results["checkpoints"].items():
        for split, cells in splits.items():
            for value in results["values"]:
                own = [c for c in cells if c["value"] == value]
                if not own or not own[0]["n"]:
                    continue
                title = (
                    f"{checkpoint}, {split}: mean reciprocal rank of {value}, n = {own[0]['n']:,}"
                )
                rows = [(str(c["layer"]), c["slot"], c["reciprocal_rank"]) for c in own]
                print_grid(title, rows, ".3f")
    for split, about in results["splits"].items():
        if about["used"]:
            name = f"{file.stem}_{split.replace('/', '_')}.png"
            lens_heatmap(results, file.with_name(name), split=split)
    print(f"\n{relative_to_root(file)}, and .npz, .png, .pdf beside it")

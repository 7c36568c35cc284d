"""The bodies of the commands that read files of vectors: measure them, draw them."""

from __future__ import annotations

from pathlib import Path

from circuit_analysis.common import plain_parser
from coverage_principle.cli import positive


def vectors_parser(description: str, *, pictures: bool = False, members: int = 3, groups: int = 3):
    """A parser with the published flags of the commands that read three files of vectors."""
    parser = plain_parser(description)
    add = parser.add_argument
    for name, about in (("id_train", "ID train"), ("id_test", "ID test"), ("ood", "OOD")):
        add(
            f"--{name}_file",
            required=True,
            help=f"{about}: a published *_dedup.json, or a vectors.npz of a clustering command",
        )
    add(
        "--output_dir",
        required=True,
        help='where results go; the path must name the site, such as "results/(3,1)/5000"',
    )
    add("--permutations", type=positive, default=20, help="random labelings of the baseline")
    add("--seed", type=int, default=0, help="of intervals, baselines and sampled groups")
    add("--overwrite", action="store_true", help="replace results that are there")
    if pictures:
        add("--save_plots", action="store_true", help="draw histograms of cosines")
        add("--num_random_groups", type=positive, default=50, help="groups to sample pairs from")
        add("--pca_vis", action="store_true", help="draw principal components")
        add(
            "--reduce_dim",
            type=int,
            choices=(2, 3),
            default=None,
            help="2: PNG and PDF; 3: HTML; both if not given",
        )
        add(
            "--reduce_method",
            choices=("pca", "tsne"),
            default="pca",
            help="how vectors are projected; tsne needs scikit-learn",
        )
        add(
            "--pca_scope",
            choices=("global", "local"),
            default="global",
            help="project all vectors, or only those that are drawn",
        )
        add("--pca_m", type=positive, default=groups, help="groups to colour")
        add("--pca_n", type=positive, default=members, help="smallest group to colour")
    return parser


def measure_command(arguments, *, by_cutoff: bool = False, samples: bool = False) -> None:
    """Write ``metrics_results.json`` and the published text file; print the text."""
    from coverage_principle.circuits import cosine_report, cosine_text, range_samples
    from coverage_principle.data import write_json, write_text
    from coverage_principle.errors import InputError
    from coverage_principle.paths import relative_to_root

    folder, site, parts = _read(arguments)
    if by_cutoff:
        folder = folder / _cutoff_of(arguments.id_test_file)
    target = folder / "metrics_results.json"
    if target.exists() and not arguments.overwrite:
        raise InputError(f"{target} exists already; give --overwrite or another --output_dir")
    report = cosine_report(parts, permutations=arguments.permutations, seed=arguments.seed)
    text = cosine_text(report, f"Layer {site[0]}, position {site[1]}")
    write_text(folder / f"similarity_metrics_layer{site[0]}.txt", text)
    if samples:
        found = {
            name: range_samples(part, groups=arguments.num_random_groups, seed=arguments.seed)
            for name, part in parts.items()
        }
        meta = {"layer": site[0], "position": site[1], "seed": arguments.seed}
        write_json(
            folder / f"range_samples_layer{site[0]}.json", {"meta": meta, "bridgings": found}
        )
    write_json(target, report)
    print(text)
    if getattr(arguments, "save_plots", False) or getattr(arguments, "pca_vis", False):
        _draw(arguments, folder, site, parts, report, components=arguments.pca_vis)
    print(f"{relative_to_root(folder)}: {', '.join(sorted(p.name for p in folder.iterdir()))}")


def plot_command(arguments) -> None:
    """Draw what ``measure_command`` wrote into ``--output_dir``, and principal components."""
    from coverage_principle.data import read_json
    from coverage_principle.errors import InputError

    folder, site, parts = _read(arguments)
    target = folder / "metrics_results.json"
    if not target.exists():
        raise InputError(
            f"--output_dir {folder} has no metrics_results.json; run measure_cossim.py with the "
            "same files and folder first"
        )
    for path in _draw(arguments, folder, site, parts, read_json(target), components=True):
        print(path)


def _read(arguments):
    from coverage_principle.circuits import read_three, site_in

    site = site_in(arguments.output_dir)
    parts = read_three(arguments.id_train_file, arguments.id_test_file, arguments.ood_file, site)
    return Path(arguments.output_dir), site, parts


def _draw(arguments, folder: Path, site, parts, report, *, components: bool) -> list[Path]:
    from coverage_principle.reporting.cluster_figures import component_figures, similarity_figures

    written = []
    if arguments.save_plots:
        written += similarity_figures(report, folder, site[0])
    if components:
        titles = {"id_train": "ID train", "id_test": "ID test", "ood": "OOD"}
        written += component_figures(
            {titles[name]: part for name, part in parts.items()},
            folder / "pca" / f"{arguments.reduce_method}_layer{site[0]}_pos{site[1]}",
            dimensions=[arguments.reduce_dim] if arguments.reduce_dim else (2, 3),
            method=arguments.reduce_method,
            groups=arguments.pca_m,
            members=arguments.pca_n,
            local=arguments.pca_scope == "local",
            seed=arguments.seed,
        )
    return written


def _cutoff_of(file: str) -> str:
    """``low_cutoff`` of ``id_test_covered_low_cutoff_dedup.json``; else the file's own name."""
    stem = Path(file).stem.removesuffix("_dedup")
    return stem.removeprefix("id_test_covered_")

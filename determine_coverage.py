"""Which unseen test items a training set covers, and how firmly.

Reads a data set and writes DATA_DIR/test_annotated.json: every test record plus "coverage" (at
--min_evidence) and, with --k_sweep, "k_cutoff", the largest k at which the item is covered.
"""

from __future__ import annotations

import argparse
import contextlib

from coverage_principle.cli import positive, refresh_seconds, run


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data_dir", required=True, help="the data set's folder, or the name of one in data/")
    add(
        "--min_evidence",
        type=positive,
        default=1,
        metavar="K",
        help="k: shared contexts that make two fragments equivalent (default: 1)",
    )
    add(
        "--k_sweep",
        action="store_true",
        help="all k at once: k-cutoffs, and counts, diagnostics and figures in --output_dir",
    )
    add(
        "--max_k",
        type=positive,
        default=None,
        metavar="K",
        help="last k of the sweep (default: the largest that covers anything, 20 at least)",
    )
    add(
        "--ground_truth",
        action="store_true",
        help="only the fragment of the task's first function, and only pairs for which that "
        "function's real table gives the same value",
    )
    add(
        "--visualise",
        action="store_true",
        help="draw the substitution graph at --min_evidence: interactive HTML and PNG",
    )
    add(
        "--scope",
        choices=("dataset", "domain"),
        default="dataset",
        help="dataset: training and type_0 items, with their answers, as published; domain: every "
        "input, no answers, so that all types have a k-cutoff (default: dataset)",
    )
    add(
        "--fragments",
        default=None,
        metavar="SETS",
        help="slot sets whose fragments may be substituted: contiguous, or such as 1,2 or "
        "1,2;2,3 (default: all)",
    )
    add(
        "--explain",
        default=None,
        metavar="ITEM",
        help='say why "<t_3><t_9><t_1>" is covered or what is missing; writes nothing',
    )
    add(
        "--suggest",
        type=positive,
        default=None,
        metavar="M",
        help="choose M further training items that raise coverage at --min_evidence most, over all "
        "in-domain items, counted as by --ground_truth; goes to --output_dir",
    )
    add(
        "--output_dir",
        default=None,
        help="for results and figures (default: k_sweep_results in the repository)",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle import coverage as wing
    from coverage_principle.data import load_dataset
    from coverage_principle.paths import find_folder

    check_combination(arguments)
    dataset = load_dataset(find_folder(arguments.data_dir, "--data_dir", also_in="data"))
    if arguments.suggest:
        suggest(dataset, arguments)
        return
    fragments = None
    if arguments.fragments is not None:
        fragments = wing.parse_slot_sets(arguments.fragments, dataset.graph.inputs)
    whole = arguments.k_sweep or arguments.explain is not None
    with progress_bar() as progress:
        coverage = wing.dataset_coverage(
            dataset,
            scope=arguments.scope,
            ground_truth=arguments.ground_truth,
            fragments=fragments,
            lowest_k=1 if whole else arguments.min_evidence,
            progress=progress,
        )
    if arguments.explain is not None:
        item = dataset.codec.encode(arguments.explain)
        print("\n".join(wing.explanation_lines(coverage, wing.explain(coverage, item))))
    else:
        write_and_report(coverage, arguments)


def check_combination(arguments: argparse.Namespace) -> None:
    """Refuse flags that would be ignored beside others."""
    from coverage_principle.errors import InputError

    defaults = build_parser().parse_args(["--data_dir", ""])
    for flag, why, excluded in (
        (
            "suggest",
            "chooses training items, counted as by --ground_truth",
            ("scope", "k_sweep", "max_k", "visualise", "explain", "fragments"),
        ),
        (
            "explain",
            "writes nothing and looks at every k",
            ("k_sweep", "max_k", "visualise", "min_evidence"),
        ),
        ("ground_truth", "looks at one fragment only", ("fragments",)),
        ("visualise", "draws the dataset scope", ("scope",)),
    ):
        given = [f"--{n}" for n in excluded if vars(arguments)[n] != vars(defaults)[n]]
        if vars(arguments)[flag] not in (None, False) and given:
            raise InputError(f"--{flag} {why}; leave {', '.join(given)} away")
    if arguments.max_k and not arguments.k_sweep:
        raise InputError("--max_k is the last k of a sweep; give --k_sweep with it")


def write_and_report(coverage, arguments: argparse.Namespace) -> None:
    """Write annotations, counts and figures; print what a person wants to know of them."""
    from pathlib import Path

    from coverage_principle import coverage as wing
    from coverage_principle.paths import relative_to_root, repository_root

    k, max_k = arguments.min_evidence, arguments.max_k
    folder = Path(arguments.output_dir or repository_root() / "k_sweep_results")
    diagnostics = wing.diagnose(coverage)
    written = [wing.write_annotated(coverage, k, k_cutoff=arguments.k_sweep, max_k=max_k)]
    name = wing.result_name(coverage)
    if arguments.k_sweep:
        from coverage_principle.reporting.coverage_figures import draw_sweep

        written += wing.write_sweep(coverage, diagnostics, folder, max_k)
        written += draw_sweep(coverage, folder / name, max_k)
    if arguments.visualise:
        from coverage_principle.reporting.coverage_graph import draw_coverage_graph

        written += draw_coverage_graph(coverage, k, folder / f"{name}_graph_k-{k}")

    print(
        f"{name}: {len(coverage.dataset.train):,} training items, "
        f"{diagnostics['type_0_items']:,} type_0 items"
    )
    if arguments.k_sweep:
        print("\nk-sweep\n  " + "\n  ".join(wing.sweep_lines(coverage, diagnostics, max_k)))
    print(f"\ncovered at k = {k}\n  " + "\n  ".join(wing.type_lines(coverage, k)))
    for sentence in wing.warnings(coverage, diagnostics):
        print(f"\nwarning: {sentence}")
    print("\nwritten: " + "\n         ".join(map(relative_to_root, written)))


def suggest(dataset, arguments: argparse.Namespace) -> None:
    """Write the items that would raise coverage most, as records for ``train.json``."""
    from pathlib import Path

    from coverage_principle import coverage as wing
    from coverage_principle.data import write_json
    from coverage_principle.paths import relative_to_root, repository_root

    k = arguments.min_evidence
    with progress_bar() as progress:
        found = wing.suggest(dataset, arguments.suggest, k=k, progress=progress)
    folder = Path(arguments.output_dir or repository_root() / "k_sweep_results")
    file = folder / f"{dataset.name}_suggested_{arguments.suggest}_k-{k}.json"
    write_json(file, dataset.records(found.items), one_per_line=True)
    before, after = (f"{n:,} ({n / max(found.in_domain, 1):.2%})" for n in found.covered[[0, -1]])
    print(
        f"{dataset.name}: {found.in_domain:,} unseen in-domain items\n"
        f"  covered at k = {k} now           {before}\n"
        f"  with {len(found.items):,} more training items  {after}"
    )
    if both := wing.count_tested(dataset, found.items):
        print(f"  {both:,} of these are test items: take them out of test.json before training")
    if len(found.items) < arguments.suggest:
        print("  which is all that can be covered: no more than these are suggested")
    print(f"written: {relative_to_root(file)}")


@contextlib.contextmanager
def progress_bar():
    """A function that draws on stderr how far the work is, once it has taken two seconds."""
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(
        total=1.0,
        delay=2,
        bar_format=layout,
        leave=False,
        dynamic_ncols=True,
        mininterval=refresh_seconds(),
    ) as bar:

        def show(share: float, what: str) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(share - bar.n)

        yield show


if __name__ == "__main__":
    run(build_parser(), main)

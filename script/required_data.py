"""How much training data k-covers a task, before any training.

For each |X| and seed: a world's trainable compositions in one random order, and the smallest prefix
that covers --share of ALL unseen in-domain items at k, found by doubling and bisection. Only the
fragment of one intermediate value counts (ground truth). Every measurement is kept in the result
file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys

from coverage_principle.cli import integers, refresh_seconds, run, table


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", default="twohop", help="a task by name, or FILE.json with a graph of your own")
    add(
        "--num_tokens",
        type=integers(2),
        default=[30, 50, 70, 100],
        metavar="LIST",
        help="|X|, several separated by commas (default: 30,50,70,100)",
    )
    add(
        "--k",
        type=integers(1),
        default=[1, 2, 3, 4],
        metavar="LIST",
        help="evidence thresholds (default: 1,2,3,4)",
    )
    add(
        "--seeds",
        type=integers(0),
        default=[42, 43, 44],
        metavar="LIST",
        help="(default: 42,43,44)",
    )
    add(
        "--share",
        type=float,
        default=0.99,
        help="of the unseen in-domain items that must be covered (default: 0.99)",
    )
    add(
        "--value",
        default=None,
        help="intermediate value whose fragments may be substituted (default: that of the task's "
        "first function)",
    )
    add(
        "--default_seen_ratio",
        type=float,
        default=0.7,
        help="share of each function's facts that training may use (default: 0.7)",
    )
    add("--function_family", default="random", help="as for the generators (default: random)")
    add(
        "--tolerance",
        type=float,
        default=0.005,
        help="relative width at which the bisection stops (default: 0.005)",
    )
    add(
        "--output_dir",
        default="results/required_data",
        help="for results and figure (default: results/required_data)",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from tqdm import tqdm

    from coverage_principle.coverage.required import RequiredData, Search
    from coverage_principle.data import find_task, write_json
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.required_data import draw_required, summarise

    search = Search(
        find_task(arguments.task),
        tuple(sorted(arguments.k)),
        value=arguments.value,
        seen_ratio=arguments.default_seen_ratio,
        function_family=arguments.function_family,
        share=arguments.share,
        tolerance=arguments.tolerance,
    )
    stem = Path(arguments.output_dir) / f"required_{search.name}"
    found = RequiredData(search, Path(f"{stem}_measured.json"))
    worlds = [(size, seed) for size in sorted(arguments.num_tokens) for seed in arguments.seeds]
    live = sys.stderr.isatty()  # in a log file every refresh is a line
    with tqdm(worlds, unit="world", dynamic_ncols=True, mininterval=refresh_seconds()) as bar:
        for size, seed in bar:
            bar.set_description(f"|X| = {size}, seed {seed}", refresh=live)
            found.find(size, seed, lambda n: bar.set_postfix_str(f"N = {n:,}", refresh=live))
    summary = summarise(found)
    write_json(Path(f"{stem}.json"), summary)
    written = [Path(f"{stem}.json"), Path(f"{stem}_measured.json"), *draw_required(summary, stem)]
    report(summary)
    print("written: " + "\n         ".join(map(relative_to_root, written)))


def report(summary: dict) -> None:
    """Print the amounts, the spread over seeds, and the fitted power laws."""
    ks = [str(k) for k in summary["k"]]
    print(
        f"\n{summary['task']}: training items that cover {summary['share']:.0%} of all unseen "
        f"in-domain items\n(fragment of {summary['value']}; mean over seeds, standard deviation)\n"
    )
    rows = []
    for size, amounts in summary["required"].items():
        cells = [f"{size}"]
        for k in ks:
            one = amounts[k]
            if one["mean"] is None:
                cells.append("not reached")
            else:
                spread = "" if one["sd"] is None else f" ± {one['sd']:,.0f}"
                cells.append(f"{one['mean']:,.0f}{spread}")
        rows.append(cells)
    fits = summary["fits"]
    if fits:
        rows.append(["exponent", *(f"{fits[k]['exponent']:.2f}" if k in fits else "" for k in ks)])
        rows.append(
            [
                "  95 %",
                *(
                    f"{fits[k]['low']:.2f} to {fits[k]['high']:.2f}" if k in fits else ""
                    for k in ks
                ),
            ]
        )
    asymptotic = summary["asymptotic_exponents"]
    if asymptotic:
        rows.append(["in the limit", *(f"{asymptotic[k]:.2f}" for k in ks)])
    print(table(["|X|", *(f"k = {k}" for k in ks)], rows), end="\n\n")


if __name__ == "__main__":
    run(build_parser(), main)

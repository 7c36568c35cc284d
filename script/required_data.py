"""How much training data k-covers a task, before any training.

For each number of tokens |X| and each seed, a world is drawn, and the fewest training items are
found that cover most of the other compositions of the same facts at k: such an item turns into a
training item if a fragment of it, the inputs of an intermediate value, is swapped for another that
has the same value and acts alike in at least k shared contexts. Every measurement is kept in the
result file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse

from coverage_principle.cli import (
    add_settings,
    command_parser,
    group_of,
    over_worlds,
    run,
    settings_from,
    table,
)
from coverage_principle.coverage import SearchSettings
from simpletransformers.words import counted, listed

_COMMAND = "python script/required_data.py"
EXAMPLES = (
    ("2-hop worlds of four sizes, three of each, in a minute or two", _COMMAND),
    ("one size and one k", f"{_COMMAND} --num_tokens 50 --k 2"),
    ("3-hop", f"{_COMMAND} --task threehop --num_tokens 20,30,50 --k 1,2,3"),
    ("a task of your own", f"{_COMMAND} --task docs/tasks/diamond.json --num_tokens 8,12 --k 1"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    task = {"default": "twohop", "help": "a task by name, or FILE.json with a graph of your own"}
    group_of(parser, "task").add_argument("--task", **task)
    add_settings(parser, SearchSettings)
    about = "for results and figure (default: results/required_data in the repository)"
    group_of(parser, "written").add_argument("--output_dir", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from coverage_principle.coverage.required import RequiredData, search_name
    from coverage_principle.data import check_place, find_task, write_json
    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.required_data import draw_required, summarise

    graph, k = find_task(arguments.task), tuple(sorted(arguments.k))
    settings = settings_from(SearchSettings, arguments, k=k)
    folder = Path(arguments.output_dir or repository_root() / "results" / "required_data")
    stem = folder / f"required_{search_name(graph, settings)}"
    check_place(f"{stem}_measured.json")
    found = RequiredData(graph, settings, Path(f"{stem}_measured.json"))
    worlds = [(size, seed) for size in sorted(settings.num_tokens) for seed in settings.seeds]
    over_worlds(worlds, "|X| = {}, seed {}", found.find, "N = {:,}")
    summary = summarise(found)
    write_json(Path(f"{stem}.json"), summary)
    written = [Path(f"{stem}.json"), Path(f"{stem}_measured.json"), *draw_required(summary, stem)]
    report(summary)
    print("written: " + "\n         ".join(map(relative_to_root, written)))


def report(summary: dict) -> None:
    """Print the amounts, the spread over seeds, and the fitted power laws."""
    ks, fits = [str(k) for k in summary["k"]], summary["fits"]
    values, sample = summary["values"], summary["sample"]
    notes = [f"fragment{'s' if len(values) > 1 else ''} of {listed(values)}"]
    notes += ["iterated"] if summary["iterate"] else []
    notes += [f"samples of {counted(sample, 'item')}"] if sample else []
    print(
        f"\n{summary['task']}: training items that cover {summary['share']:.0%} of all unseen "
        f"in-domain items\n({'; '.join(notes)}; mean over seeds, standard deviation)\n"
    )

    def amount(one: dict) -> str:
        if one["mean"] is None:
            return "not reached"
        return f"{one['mean']:,.0f}" + ("" if one["sd"] is None else f" ± {one['sd']:,.0f}")

    def row(name: str, form: str, of: dict[str, dict]) -> list[str]:
        return [name, *(form.format(**of[k]) if k in of else "" for k in ks)]

    rows = [[size, *(amount(by_k[k]) for k in ks)] for size, by_k in summary["required"].items()]
    if fits:
        rows.append(row("exponent", "{exponent:.2f}", fits))
        rows.append(row("  95 %", "{low:.2f} to {high:.2f}", fits))
    if limits := summary["asymptotic_exponents"]:
        rows.append(["in the limit", *(f"{limits[k]:.2f}" for k in ks)])
    if fits and (trained := summary["trained_exponent"]):
        rows.append(["published", *(f"{trained:.2f}" for _ in ks)])
    if sample:
        rows.append(["sample's error", *(worst_error(summary["required"], k) for k in ks)])
    print(table(["|X|", *(f"k = {k}" for k in ks)], rows), end="\n\n")


def worst_error(required: dict, k: str) -> str:
    """The largest standard error that a sample gives an amount, in percent of it."""
    every = [
        (amount, one["standard_errors"][seed])
        for one in (by_k[k] for by_k in required.values())
        for seed, amount in one["by_seed"].items()
        if amount is not None
    ]
    if not every or any(error is None for _, error in every):
        return "-"
    return f"{max(error / amount for amount, error in every):.2%}"


if __name__ == "__main__":
    run(build_parser(), main)

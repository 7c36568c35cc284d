"""What the circuit commands share: how parsers are made of settings, how results are shown."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from coverage_principle.cli import add_settings, command_parser
from simpletransformers.words import counted

#: The published ``--detailed_grouping``.
_DETAILED = {"1": "0-2,3+", "2": "0-2,3,4+", "3": "each"}


def analysis_parser(
    description: str, settings, *, omit=(), grouping: bool = False, **changes
) -> argparse.ArgumentParser:
    """The parser of an analysis of a trained model, with the published flags.

    ``grouping``: the published ``--detailed_grouping`` must be given, or ``--k_groups``.
    """
    parser = command_parser(description)
    add_settings(parser, settings, omit=("k_groups", *omit), **changes)
    unset = {"default": argparse.SUPPRESS}
    parser.add_argument("--base_dir", dest="data_dir", help="the same as --data_dir", **unset)
    if "k_groups" in omit:
        return parser
    groups = parser.add_mutually_exclusive_group(required=grouping)
    add_settings(groups, settings, only=("k_groups",))
    numbered = {"dest": "k_groups", "type": _detailed_grouping, "metavar": "{1,2,3}", **unset}
    about = "as published: 1 is --k_groups 0-2,3+; 2 is 0-2,3,4+; 3 is each"
    groups.add_argument("--detailed_grouping", help=about, **numbered)
    return parser


def _detailed_grouping(text: str) -> str:
    """The published number as k-cutoff groups (for argparse)."""
    if text not in _DETAILED:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 2 or 3")
    return _DETAILED[text]


def choice_of(entries: Mapping) -> dict[str, object]:
    """How a flag that names one of ``entries`` differs: its choices, and the help text of each."""
    about = "; ".join(f"{name}: {entry.help}" for name, entry in entries.items())
    return {"choices": tuple(entries), "help": about}


def run_analysis(analysis, settings, *, results: str):
    """Call an analysis of a run's checkpoints with a progress bar; returns what it returns.

    Where ``save_dir`` is not given, results go to the folder ``results`` of circuit_analysis/.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from coverage_principle.paths import repository_root

    if settings.save_dir is None:
        settings = replace(settings, save_dir=repository_root() / "circuit_analysis" / results)
    with tqdm(disable=None, leave=False, unit="item") as bar:

        def progress(checkpoint: str, done: int, total: int) -> None:
            bar.set_description(checkpoint, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        return analysis(settings, progress=progress)


def print_grid(title: str, cells: Iterable[Mapping], shown, subset: str | None = None) -> None:
    """Print a number of a result's cells as a small table, the first layer at the bottom.

    ``shown`` is the entry (``circuits.Shown``) that says which number, and how.
    """
    grid: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for cell in cells:
        row = f"{cell['layer']}{' ln_f' if cell.get('after_ln_f') else ''}"
        column, value = cell["slot"], shown.value(cell, subset)
        grid.setdefault(row, {})[column] = "-" if value is None else format(value, shown.printed)
        if column not in columns:
            columns.append(column)
    print(f"\n{title}")
    width = max([9, *(len(column) + 2 for column in columns)])
    print(f"  {'layer':<9}" + "".join(f"{column:>{width}}" for column in columns))
    for row in reversed(grid):
        print(
            f"  {row:<9}" + "".join(f"{grid[row].get(column, '-'):>{width}}" for column in columns)
        )


def print_splits(splits: dict) -> None:
    """Say which types of test items each split holds."""
    for split, about in splits.items():
        print(f"{split}: {', '.join(about['explained']) or 'no items'}")


def print_reasons(splits: dict) -> None:
    """Which items each split holds, how many of them are traced, and why others are not."""
    print_splits(splits)
    for split, about in splits.items():
        print(
            f"{split}: {about['traced']:,} of {counted(about['distinct_fragments'], 'item')} traced"
        )
        for reason, count in about["no_counterfactual"].items():
            print(f"  {count:,} without a counterfactual: {reason}")


def print_files(folder) -> None:
    """Name a folder and the files in it."""
    from coverage_principle.paths import relative_to_root

    print(f"{relative_to_root(folder)}: {', '.join(sorted(p.name for p in folder.iterdir()))}")

"""What the circuit commands share: flags, how flags are read, how results are shown."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence

from coverage_principle.cli import positive

_PAIR = r"""\(\s*['"]?(\d+|logit|prob)['"]?\s*,\s*(\d+)\s*\)"""
_PAIRS = re.compile(rf"\[\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*,?\s*\]|{_PAIR}")
#: The published ``--detailed_grouping``.
_DETAILED = {1: "0-2,3+", 2: "0-2,3,4+", 3: "each"}


def plain_parser(description: str) -> argparse.ArgumentParser:
    """A parser that shows defaults and wants flags in full."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )


def circuit_parser(description: str, *, grouping: bool = False) -> argparse.ArgumentParser:
    """A parser with the flags of every command that runs a model.

    ``grouping`` adds the published ``--detailed_grouping``, required unless ``--k_groups`` is used.
    """
    parser = plain_parser(description)
    add = parser.add_argument
    add(
        "--data_dir",
        "--base_dir",
        dest="data_dir",
        default=None,
        help="the data set, or a folder that holds it or data/; the run's own if not given",
    )
    add("--device", default="auto", help="auto (CUDA if there is one), cpu, cuda, cuda:1 ...")
    add("--batch_size", type=positive, default=4096, help="items at a time")
    groups = parser.add_mutually_exclusive_group(required=grouping)
    groups.add_argument(
        "--k_groups",
        default=None,
        help="k-cutoff groups of id_test, such as 1-2,3,4+; each for one group a k; none for none; "
        "if not given, 0-2,3+ where determine_coverage.py --k_sweep has annotated the data set",
    )
    groups.add_argument(
        "--detailed_grouping",
        dest="k_groups",
        type=detailed_grouping,
        metavar="{1,2,3}",
        default=argparse.SUPPRESS,
        help="as published: 1 is --k_groups 0-2,3+; 2 is 0-2,3,4+; 3 is each",
    )
    add("--max_items", type=positive, default=None, help="at most so many items of each split")
    add("--seed", type=int, default=0, help="of counterfactuals and bootstrap intervals")
    return parser


def run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of commands that analyse checkpoints of a run."""
    add = parser.add_argument
    add("--model_dir", required=True, help="a run folder, which holds checkpoints")
    add(
        "--step_list",
        nargs="+",
        default=None,
        help="checkpoints: 250, checkpoint-250 or final_checkpoint; all if not given",
    )
    add(
        "--save_dir",
        default=None,
        help="where results go; a folder in circuit_analysis/ if not given",
    )


def detailed_grouping(text: str) -> str:
    """The published number as k-cutoff groups (for argparse)."""
    if text not in ("1", "2", "3"):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1, 2 or 3")
    return _DETAILED[int(text)]


def layer_position_pairs(text: str) -> list[tuple[int | str, int]] | None:
    """``"[(3,1),(4,2)]"`` or ``"(3,1)"`` as pairs, ``"all"`` as None (for argparse).

    A layer is a number, ``logit`` or ``prob``. The text is matched, never evaluated.
    """
    if text.strip() == "all":
        return None
    if not _PAIRS.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither all nor a list of (layer,position) such as "[(3,1),(4,2)]"'
        )
    return [
        (int(layer) if layer.isdigit() else layer, int(position))
        for layer, position in re.findall(_PAIR, text)
    ]


def numbered_pairs(text: str) -> list[tuple[int, int]] | None:
    """``layer_position_pairs`` whose layers are all numbers (for argparse)."""
    pairs = layer_position_pairs(text)
    if any(isinstance(layer, str) for layer, _ in pairs or ()):
        raise argparse.ArgumentTypeError(f"{text!r}: a (layer,position) here is two numbers")
    return pairs


def print_grid(title: str, cells: Iterable[tuple[str, str, float | None]], form: str) -> None:
    """Print (row, column, value) cells as a small table, the first row at the bottom."""
    grid: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for row, column, value in cells:
        grid.setdefault(row, {})[column] = "-" if value is None else format(value, form)
        if column not in columns:
            columns.append(column)
    print(f"\n{title}")
    print(f"  {'layer':<9}" + "".join(f"{column:>9}" for column in columns))
    for row in reversed(grid):
        print(f"  {row:<9}" + "".join(f"{grid[row].get(column, '-'):>9}" for column in columns))


def print_reasons(splits: dict) -> None:
    """How many items of each split are traced, and why others are not."""
    for split, about in splits.items():
        print(f"{split}: {about['traced']:,} of {about['distinct_fragments']:,} items traced")
        for reason, count in about["no_counterfactual"].items():
            print(f"  {count:,} without a counterfactual: {reason}")


def checkpoint_bar():
    """A progress bar for runs of checkpoints, and the function that moves it."""
    from tqdm import tqdm

    bar = tqdm(disable=None, leave=False, unit="item")

    def progress(checkpoint: str, done: int, total: int) -> None:
        bar.set_description(checkpoint, refresh=False)
        bar.total = total
        bar.update(done - bar.n)

    return bar, progress


def beside(folder, *, without: Sequence[str] = ()) -> str:
    """The files of a folder, as text."""
    return ", ".join(sorted(p.name for p in folder.iterdir() if p.name not in without))

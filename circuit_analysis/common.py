"""What the circuit commands share: flags, how flags are read, how results are shown."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

_PAIR = r"\(\s*(\d+)\s*,\s*(\d+)\s*\)"
_PAIRS = re.compile(rf"\[\s*{_PAIR}(?:\s*,\s*{_PAIR})*\s*,?\s*\]|{_PAIR}")


def circuit_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every circuit command."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--data_dir",
        default=None,
        help="the data set, or a folder that holds it or data/; the run's own if not given",
    )
    add("--device", default="auto", help="auto (CUDA if there is one), cpu, cuda, cuda:1 ...")
    add("--batch_size", type=positive, default=4096, help="items at a time")
    add(
        "--k_groups",
        default=None,
        help="k-cutoff groups of id_test, such as 1-2,3,4+; none for none; if not given, 0-2,3+ "
        "where determine_coverage.py --k_sweep has annotated the data set",
    )
    add("--max_items", type=positive, default=None, help="at most so many items of each split")
    add("--seed", type=int, default=0, help="of counterfactuals and bootstrap intervals")
    return parser  # fmt: skip


def positive(text: str) -> int:
    """An integer of at least 1 (for argparse)."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def layer_position_pairs(text: str) -> list[tuple[int, int]] | None:
    """``"[(3,1),(4,2)]"`` or ``"(3,1)"`` as pairs, ``"all"`` as None (for argparse).

    The text is matched, never evaluated.
    """
    if text.strip() == "all":
        return None
    if not _PAIRS.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither all nor a list of (layer,position) such as "[(3,1),(4,2)]"'
        )
    return [(int(layer), int(position)) for layer, position in re.findall(_PAIR, text)]


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

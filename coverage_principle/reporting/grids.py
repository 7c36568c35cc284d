"""Cells of the circuit analyses as rows of layers and columns of positions, in text.

The figures lay the same ``Grid`` out as heat maps, so that tables and figures mark alike what is no
finding: cells whose interval reaches what a state gives that knows nothing, and positions at which
the value cannot be known yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coverage_principle.circuits import FEWEST, Shown
from simpletransformers.words import counted

#: The widest line of a table.
WIDEST = 100
_LABEL = 9
#: So many tables of one result are printed.
MOST = 12

#: What is said of hatched cells.
NOT_YET = "the value cannot be known here yet: it depends on tokens that come later"


@dataclass(frozen=True)
class Grid:
    """The cells of one split and value, and what is shown of them (``subset``: of which samples).

    ``rows`` are (layer, after the final norm) upwards, of heads also their number, ``columns``
    (position, slot); ``cells`` maps (row, column) to what a result file holds, perhaps not for
    every pair.
    """

    shown: Shown
    subset: str | None
    rows: list[tuple[int, ...]]
    columns: list[tuple[int, str]]
    cells: Mapping[tuple, Mapping]

    @classmethod
    def of(cls, cells: Sequence[Mapping], shown: Shown, subset: str | None = None) -> Grid:
        places = {(_row(cell), (cell["position"], cell["slot"])): cell for cell in cells}
        rows, columns = (sorted(set(names)) for names in zip(*places, strict=True))
        return cls(shown, subset, rows, columns, places)

    def name(self, row: tuple) -> str:
        """A row's layer in words: ``5``, or ``5 (3.1)`` where that is loop 3, block 1."""
        return layer_name(next(cell for (own, _), cell in self.cells.items() if own == row))

    def value(self, row: tuple, column: tuple) -> float | None:
        cell = self.cells.get((row, column))
        return None if cell is None else self.shown.value(cell, self.subset)

    def interval(self, row: tuple, column: tuple) -> tuple[float, float] | None:
        cell = self.cells.get((row, column))
        return None if cell is None else self.shown.interval(cell, self.subset)

    def is_weak(self, row: tuple, column: tuple) -> bool:
        """Whether the cell is no finding (``Shown.is_weak``)."""
        cell = self.cells.get((row, column))
        if cell is None:
            return False
        return cell.get("fixed", False) or self.shown.is_weak(cell, self.subset)

    def is_early(self, row: tuple, column: tuple) -> bool:
        """Whether the value cannot be known there yet (``circuits.can_be_known``)."""
        return not self.cells.get((row, column), {}).get("can_be_known", True)

    @property
    def counts(self) -> list[int]:
        """Samples of each column; metrics with a filter have fewer at some positions."""
        return [
            max(self.shown.count(c, self.subset) for (_, at), c in self.cells.items() if at == one)
            for one in self.columns
        ]

    @property
    def nothing(self) -> float | None:
        """What a state gives that knows nothing."""
        return self.shown.nothing_at(next(iter(self.cells.values())))


def _row(cell: Mapping) -> tuple[int, ...]:
    head = (cell["head"],) if "head" in cell else ()
    return (cell["layer"], cell.get("after_ln_f", False), *head)


def layer_name(cell: Mapping) -> str:
    """The layer of a cell, ``L2H3`` of head 3; in a looped model its loop and block in brackets."""
    name = f"L{cell['layer']}H{cell['head']}" if "head" in cell else f"{cell['layer']}"
    return f"{name} ({cell['loop']}.{cell['block']})" if cell.get("loop") else name


def plain(value: float, form: str) -> str:
    """The number as text, and no minus before a zero."""
    text = format(value, form)
    return text.removeprefix("-") if not text.strip("-0.") else text


def chance_words(grid: Grid) -> str:
    """``chance 0.180``; empty where nothing is 0, or not known."""
    if grid.nothing is None or not grid.shown.nothing_is.startswith("chance"):
        return ""
    return f"chance {grid.nothing:{grid.shown.printed}}"


def grid_lines(title: str, grid: Grid) -> list[str]:
    """A table of at most ``WIDEST`` columns, the first layer at the bottom.

    Below each number stands its interval; a number in parentheses is no finding, and one with ``~``
    cannot be known there yet (``key_lines`` says so below the tables). Where many positions would
    not fit, numbers are shorter, then without intervals, then in a second part below.
    """
    counts, (texts, wide) = grid.counts, _texts(grid)
    n = f"n = {counts[0]:,}" if len(set(counts)) == 1 else "n by position"
    heads = [n if "n_vectors" not in next(iter(grid.cells.values())) else "", chance_words(grid)]
    lines = [", ".join([title, *filter(None, heads)])]
    names, room = _labels(grid)
    fits = _fits(wide, room)
    for begin in range(0, len(grid.columns), fits):
        part = slice(begin, begin + fits)
        columns = grid.columns[part]
        lines.append(_line("layer".ljust(room), [f"{slot}  " for _, slot in columns], wide))
        for row in reversed(grid.rows):
            numbers, ends = zip(*(texts[row, column] for column in columns), strict=True)
            lines.append(_line(names[row], numbers, wide))
            if any(ends):
                lines.append(_line("".ljust(room), ends, wide))
        if len(set(counts)) > 1:
            lines.append(_line("n".ljust(room), [f"{count:,}  " for count in counts[part]], wide))
    return lines


def _labels(grid: Grid) -> tuple[dict[tuple, str], int]:
    """What stands before each row, and the width of it."""
    names = {row: f"{grid.name(row)}{' ln_f' if row[1] else ''}" for row in grid.rows}
    room = max(_LABEL, *(len(name) + 1 for name in names.values()))
    return {row: name.ljust(room) for row, name in names.items()}, room


def _texts(grid: Grid) -> tuple[dict[tuple, tuple[str, str]], int]:
    """Number and interval of each place as text, in the longest form that fits; their width."""
    short, shown = grid.shown.drawn, grid.shown.printed
    for form, with_ends in ((shown, True), (short, True), (short, False)):
        texts = {
            (row, column): (
                _number(grid, row, column, form),
                _ends(grid, row, column, form) if with_ends else "",
            )
            for row in grid.rows
            for column in grid.columns
        }
        longest = max(len(text) for pair in texts.values() for text in pair)
        wide = max([longest, *(len(slot) + 2 for _, slot in grid.columns)]) + 1
        if _fits(wide, _labels(grid)[1]) >= len(grid.columns):
            break
    return texts, wide


def _fits(wide: int, label: int) -> int:
    """How many columns of this width fit beside the rows' names."""
    return max(1, (WIDEST - 2 - label) // wide)


def table_lines(tables: Mapping[str, Grid], empty: Sequence[str] = ()) -> list[str]:
    """The tables by title, at most ``MOST``, the key to their marks, and what is not shown.

    ``empty`` names the splits that hold nothing.
    """
    lines = []
    for title, grid in list(tables.items())[:MOST]:
        lines += ["", *grid_lines(title, grid)]
    lines += ["", *key_lines(list(tables.values())[:MOST])]
    if empty:
        lines.append(f"without items, not shown: {', '.join(empty)}")
    if left := list(tables)[MOST:]:
        lines.append(
            f"not shown, in the file: {counted(len(left), 'more table')}, from {left[0]!r} on"
        )
    return lines


def _line(name: str, cells: Sequence[str], wide: int) -> str:
    return f"  {name}{''.join(cell.rjust(wide) for cell in cells)}".rstrip()


def _number(grid: Grid, row: tuple, column: tuple, form: str) -> str:
    value, weak = grid.value(row, column), grid.is_weak(row, column)
    text = "-" if value is None else plain(value, form)
    after = (")" if weak else "") + ("~" if grid.is_early(row, column) else "")
    return f"{'(' if weak else ''}{text}{after:<2}"


def _ends(grid: Grid, row: tuple, column: tuple, form: str) -> str:
    ends = grid.interval(row, column)
    return "" if ends is None else f"{plain(ends[0], form)}..{plain(ends[1], form)}  "


def key_lines(grids: Sequence[Grid]) -> list[str]:
    """What the marks of these tables mean, a line for each that there is."""
    places = [(grid, row, column) for grid in grids for row, column in grid.cells]
    if not places:
        return []
    shown, lines = grids[0].shown, []
    if any(ends for grid in grids for _, ends in _texts(grid)[0].values()):
        lines.append(f"low..high: 95 % interval, {shown.interval_is}")
    elif any(grid.interval(row, column) for grid, row, column in places):
        lines.append(f"95 % intervals ({shown.interval_is}) do not fit; the file has them")
    lines += measure_lines(grids)
    if any(grid.is_weak(row, column) for grid, row, column in places):
        lines.append(f"(  ): {weak_words(grids)}")
    if any(grid.is_early(row, column) for grid, row, column in places):
        lines.append(f"~: {NOT_YET}")
    if any(grid.value(row, column) is None for grid, row, column in places):
        lines.append("-: there is nothing to measure it by")
    return lines + loop_lines(grids)


def loop_lines(grids: Sequence[Grid]) -> list[str]:
    """What the layers of a looped model are called, by its last one; nothing of another."""
    looped = [cell for grid in grids for cell in grid.cells.values() if cell.get("loop")]
    if not looped:
        return []
    last = max(looped, key=lambda cell: cell["layer"])
    loop, block = last["loop"], last["block"]
    return [f"layer {last['layer']} ({loop}.{block}): loop {loop}, block {block}"]


def measure_lines(grids: Sequence[Grid]) -> list[str]:
    """What is counted, and what chance is for so many tokens; nothing where nothing is 0."""
    shown, found = grids[0].shown, {}
    lines = [shown.counts_as] if shown.counts_as else []
    for cell in (cell for grid in grids if chance_words(grid) for cell in grid.cells.values()):
        found[cell["tokens"]] = plain(shown.nothing_at(cell), shown.printed)
    if found:
        levels = " or ".join(f"{level} among {count:,}" for count, level in sorted(found.items()))
        lines.append(f"chance: {levels} tokens, if nothing tells which of them the value is")
    return lines


def weak_words(grids: Sequence[Grid]) -> str:
    """Why weak cells are no finding: ``not clearly above chance (0.18)``."""
    shown = grids[0].shown
    values = {plain(g.nothing, shown.printed) for g in grids if g.nothing is not None}
    of = f" ({values.pop()})" if len(values) == 1 and chance_words(grids[0]) else ""
    words = (
        f"no finding: not clearly {'above' if shown.better > 0 else 'below'} {shown.nothing_is}{of}"
    )
    few = (n < FEWEST for grid in grids for n in grid.counts)
    return words + (f", or of fewer than {FEWEST} samples" if any(few) else "")


def with_fixed(cells: Sequence[Mapping], last: int) -> list[dict]:
    """Cells of an interchange, those of layer ``last`` before the last position marked ``fixed``.

    No later layer reads these states, so that a patch there cannot change the answer.
    """
    end = max((cell["position"] for cell in cells), default=0)
    return [{**c, "fixed": c["layer"] == last and c["position"] < end} for c in cells]


def fixed_words(last: int) -> str:
    """What is to be known of layer L of an interchange."""
    where = f"layer {last} before its last position"
    return f"{where}: no patch can change the answer there, which is no finding"


def split_lines(splits: Mapping[str, Mapping]) -> list[str]:
    """Which types of test items each split of a result holds, and where fragments come from."""
    lines = []
    for name, about in splits.items():
        split, words = name, ", ".join(about["explained"]) or "no items"
        if sources := about.get("sources_explained"):
            split, second = name.split("-")
            words += f"; takes from {second}: {', '.join(sources)}"
        lines.append(f"{split}: {words}")
    return lines


def probe_lines(results: Mapping) -> list[str]:
    """What probes are trained and tested on, for each value of a result."""
    lines, folds = [], results["settings"]["folds"]
    for value, about in results["values"].items():
        own, by = about["splits"]["train"], ", ".join(about["split_by"])
        shares = (
            f"{100 * own['fewest_items'] / own['n']:.1f} % to {100 * own['most_frequent']:.1f} %"
        )
        lines.append(
            f"{value}: {counted(own['n'], 'training item')}, {folds} folds of {own['calls']:,} "
            f"({by}); {counted(own['classes'], 'value')}, of {shares} of the items each"
        )
        splits = {name: split for name, split in about["splits"].items() if split["types"]}
        lines += [f"  {line}" for line in split_lines(splits)]
    return lines


def baseline_lines(cells: Sequence[Mapping], readout: str) -> list[str]:
    """The most that the baselines of probes reach in any of the cells of one split, by value."""
    lines = []
    for value in dict.fromkeys(cell["value"] for cell in cells if cell["n"]):
        own = [cell for cell in cells if cell["value"] == value]
        found = {
            "shuffled": max(n for cell in own for n in cell["shuffled"][readout]),
            "random weights": max(cell["random_weights"][readout] for cell in own),
        }
        if readout == "accuracy":
            found["always the most frequent value"] = max(cell["majority"] for cell in own)
        said = ", ".join(f"{name} {plain(number, '.3f')}" for name, number in found.items())
        lines.append(f"baselines of {value}, at most: {said}")
    return lines


def traced_lines(splits: Mapping[str, Mapping]) -> list[str]:
    """How many items of each split are traced, and why others are not."""
    lines = []
    for split, about in splits.items():
        items = counted(about["distinct_fragments"], "item")
        lines.append(f"{split}: {about['traced']:,} of {items} traced")
        for reason, count in about["no_counterfactual"].items():
            lines.append(f"  {count:,} without a counterfactual: {reason}")
    return lines


def left_out_lines(splits: Mapping[str, Mapping]) -> list[str]:
    """How many samples of each split the published filter leaves out of a tracing, and why."""
    lines = []
    for split, summary in splits.items():
        for reason, by_slot in summary.get("filtered_out", {}).items():
            low, high = min(by_slot.values()), max(by_slot.values())
            if high:
                count = f"{low:,}" if low == high else f"{low:,} to {high:,}, by position,"
                of = counted(summary["samples"]["n"], "sample")
                lines.append(f"{split}: {count} of {of} left out: {reason}")
    return lines


def share_lines(splits: Mapping[str, Mapping]) -> list[str]:
    """Which share of the runs' difference an interchange of a subspace moves, in its first split.

    Of each layer and position at which there is a difference.
    """
    cells = next((s["cells"] for s in splits.values() if s["samples"]["n"]), [])
    lines = []
    for cell in cells:
        inside, random = (cell["moved_share"][part] for part in ("subspace", "random"))
        if inside is not None:
            ranks = " or ".join(map(str, sorted(set(cell["ranks"]))))
            lines.append(
                f"layer {layer_name(cell)}, {cell['slot']}: the subspace, of rank {ranks}, has "
                f"{100 * inside:.0f} % of the squared difference of the runs, a random one "
                f"{100 * random:.0f} %"
            )
    return lines


def reference_words(last: int, *, parts: bool = False) -> str:
    """What is to be known of layer L of a tracing, or of an interchange of ``parts`` of a state."""
    whole = ", moved whole," if parts else ""
    return (
        f"layer {last} is a reference: its last position{whole} gives the source run's own output"
    )

"""Building blocks that figures share: looks of series, accuracies over seeds, power laws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from coverage_principle.reporting.style import MARKERS, PALETTE, SEQUENTIAL
from coverage_principle.statistics import Mean

#: A legend below the axis, where no corner is free of points and lines for every set of series.
BELOW = {"fontsize": 7, "loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
#: The same where the axes are low.
FURTHER_BELOW = {**BELOW, "bbox_to_anchor": (0.5, -0.2)}
#: A legend to the right of the axis.
BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}


#: Entries of a legend, one below the other, that fit beside an axis of 3.2 inches.
_MOST_BELOW = 13


def legend_beside(axis) -> None:
    """A legend to the right of the axis, for which the figure grows; a long one in columns."""
    handles, entries = axis.get_legend_handles_labels()
    columns = max(1, math.ceil(len(entries) / _MOST_BELOW))
    order = sorted(range(len(entries)), key=lambda i: entries[i].startswith("chance "))
    given = [handles[i] for i in order], [entries[i] for i in order]
    axis.legend(*given, **BESIDE, frameon=False, ncols=columns)
    width, height = axis.figure.get_size_inches()
    # Inches of a column beyond what the figure has room for: some 10 letters.
    wider = 0.08 * max(0, max(map(len, entries), default=0) - 10)
    axis.figure.set_size_inches(width + 1.3 * (columns - 1) + wider * columns, height)


def note_below(figure, notes: Iterable[str], handles: Sequence = ()) -> None:
    """Notes, and the key of ``handles``, below a figure that has a constrained layout."""
    words = "\n".join(notes)
    if words or handles:
        look = {"loc": "outside lower left", "fontsize": 8, "frameon": False, "alignment": "left"}
        legend = figure.legend(handles=list(handles), title=words, title_fontsize=8, **look)
        legend.get_title().set_multialignment("left")


def chance_line(axis, chance: float) -> None:
    """The dotted level that guessing reaches, for a legend; none for 0, which is not known."""
    if chance:
        look = {"color": "grey", "linewidth": 1, "linestyle": ":", "zorder": 2.5}
        axis.axhline(chance, label=chance_label(chance), **look)


def chance_label(chance: float) -> str:
    """The level of ``chance_line`` in words; none for 0."""
    return f"chance {chance:.3g}" if chance else ""


def look(number: int) -> dict[str, str]:
    """Colour and marker of the series with this number."""
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}


def line(number: int) -> dict[str, str]:
    """Colour and dashes of the curve with this number: 40 can be told apart."""
    dashes = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))[number // len(PALETTE) % 5]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": dashes}


def shades(count: int) -> list:
    """So many colours of the sequential map, dark to light."""
    colours = matplotlib.colormaps[SEQUENTIAL]
    return [colours(0.92 * i / max(1, count - 1)) for i in range(count)]


def label_only(axis, label: str, *form: str, **style: object) -> None:
    """An entry of the legend that stands for no single line."""
    axis.plot([], [], *form, label=label, **style)


def accuracy_axis(axis, title: str, chance: float, *, over: str = "step") -> None:
    """An axis of accuracies from 0 to 1 over training, or something else; chance is dotted."""
    chance_line(axis, chance)
    axis.set(ylim=(-0.02, 1.05), title=title, xlabel=over)


def mean_curve(axis, seeds: Mapping[str, Mapping], *groups: str, **style: object) -> None:
    """Accuracy over training, the mean of the runs of several seeds and of these groups.

    A run has its ``steps`` and, by group, its ``accuracy`` at each.
    """
    curves = [run["accuracy"][group] for run in seeds.values() for group in groups]
    axis.plot(next(iter(seeds.values()))["steps"], np.mean(curves, axis=0), **style)


def with_interval(axis, x: Sequence[float], means: Sequence[Mean], **style) -> None:
    """A line through ``means``, with their intervals if all have one."""
    style |= {"markersize": 4}
    if all(m.low is not None for m in means):
        error = np.array([[m.mean - m.low, m.high - m.mean] for m in means]).T
        axis.errorbar(x, [m.mean for m in means], error, capsize=2, **style)
    else:
        axis.plot(x, [m.mean for m in means], **style)


def bars_of_seeds(
    axis, series: Mapping[str, Sequence[Sequence[float]]], names: Iterable[str], *, span: float
) -> None:
    """Bars side by side at each of ``names``: the mean over seeds, and a dot for each seed.

    ``series`` maps a label of the legend to the seeds' values at each name, perhaps none; ``span``
    is the width that the bars of one name share, 1 being the distance between names.
    """
    width = span / len(series)
    for number, (label, groups) in enumerate(series.items()):
        colour = look(number)["color"]
        axis.bar(0, 0, span, color=colour, label=label)  # for the legend, where there are no values
        places = np.arange(len(groups)) + width * (number - (len(series) - 1) / 2)
        for place, values in zip(places, groups, strict=True):
            if values:
                axis.bar(place, np.mean(values), 0.9 * width, color=colour)
                axis.plot([place] * len(values), values, "k.", markersize=4)
    shown = [name.replace(", ", ",\n") for name in names]
    axis.set_xticks(range(len(shown)), shown, fontsize=8)


def bars_of_rates(
    axis, series: Mapping[str, Sequence[Mean | None]], names: Iterable[str], *, span: float
) -> None:
    """The same with a rate and its interval in place of seeds; None where there are no items."""
    width = span / len(series)
    for number, (label, rates) in enumerate(series.items()):
        colour = look(number)["color"]
        axis.bar(0, 0, span, color=colour, label=label)
        for place, rate in enumerate(rates):
            if rate:
                at = place + width * (number - (len(series) - 1) / 2)
                error = [[rate.mean - rate.low], [rate.high - rate.mean]]
                axis.bar(at, rate.mean, 0.9 * width, color=colour)
                axis.errorbar(at, rate.mean, error, color="black", capsize=2, linewidth=1)
    shown = [name.replace(", ", ",\n") for name in names]
    axis.set_xticks(range(len(shown)), shown, fontsize=8)


def tokens_axis(axis, sizes: Iterable[int], title: str, ylabel: str) -> None:
    """Logarithmic axes of an amount against |X|, with a tick at each size."""
    axis.set(xscale="log", yscale="log", xlabel="tokens |X|", ylabel=ylabel, title=title)
    axis.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())


def power_law(
    axis,
    number: int,
    label: str,
    by_size: Mapping[int, Mapping[str, float | None]],
    fit: Mapping | None,
    *,
    law: str = "",
    **style,
) -> None:
    """Amounts by |X| and seed, and the line fitted to them, whose exponent the legend names.

    An amount is None where it was not reached. ``fit``, of ``statistics.power_law_of_sizes``, is
    that of the |X| that all seeds reached, so the line ends with these. ``law`` goes before the
    power in the legend. Without amounts nothing is drawn.
    """
    points = [(x, one) for x, own in by_size.items() for one in own.values() if one is not None]
    if not points:
        return
    if fit:
        label += f": ${law}|X|^{{{fit['exponent']:.2f}}}$"
        fitted = [x for x, own in by_size.items() if None not in own.values()]
        x = np.array([min(fitted), max(fitted)], dtype=float)
        line = fit["factor"] * x ** fit["exponent"]
        axis.plot(x, line, color=look(number)["color"], linewidth=1)
    style = {"linestyle": "", "markersize": 5, "alpha": 0.75, **look(number), **style}
    axis.plot(*zip(*points, strict=True), label=label, **style)


def not_reached(by_size: Mapping[str, Mapping[int, Mapping[str, object]]]) -> list[str]:
    """Notes on amounts that have no point: ``k = 2 not reached: 1 of 3 at |X| = 40``.

    ``by_size`` maps a series to the amounts of seeds, None where not reached, by |X|.
    """
    notes = []
    for name, found in by_size.items():
        lack = [
            f"{missing} of {len(seeds)} at |X| = {size}"
            for size, seeds in found.items()
            if (missing := sum(amount is None for amount in seeds.values()))
        ]
        if lack:
            notes.append(f"{name} not reached: {', '.join(lack)}")
    return notes

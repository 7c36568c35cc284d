"""Figures of a sweep's points (``experiments.sweep_points``): lines or bars, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox, offset_copy

from coverage_principle.errors import InputError
from coverage_principle.reporting.plots import chance_line, legend_beside, line, look
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from coverage_principle.reporting.sweep_text import (
    PLACES,
    is_number,
    is_share,
    short_names,
    x_text,
)

#: With more places on x, intervals are bands and only some places are named.
_MOST_TICKS = 12
#: Letters of names that fit below an axis, together and each.
_MOST_LETTERS, _LONGEST = 40, 24


def draw_points(
    content: Mapping,
    stem: Path,
    *,
    kind: str = "auto",
    log_x: str = "auto",
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write the figure of ``sweep_points`` to ``STEM.png`` and ``STEM.pdf``; their paths.

    ``kind`` ``auto`` draws bars where x is no amount; ``notes`` stand below the figure.
    ``InputError`` for a logarithmic axis that cannot be.
    """
    points = [point for point in content["points"] if point["drawn"]]
    panels = list(dict.fromkeys(point["panel"] for point in points))
    series = list(dict.fromkeys(tuple(point["series"].values()) for point in points))
    places = list(dict.fromkeys(point["x"] for point in points))
    words = content["x"].endswith("seed") or not all(map(is_number, places))  # no amounts
    bars = kind == "bars" or (kind == "auto" and words)
    if kind == "lines" and not all(map(is_number, places)):
        raise InputError(f"`kind` lines needs numbers on x; {content['x']} is no number: use bars")
    width = max(4.4 if len(panels) == 1 else 3.2, 0.2 * len(places) * len(series) * bars)
    width = 1.2 + min(14, width) * len(panels)
    figure, axes = new_figure(width, 3.6, 1, len(panels), sharey=True, squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        own = [point for point in points if point["panel"] == panel]
        groups = [[p for p in own if tuple(p["series"].values()) == one] for one in series]
        labels = [", ".join(map(x_text, one)) for one in series]
        if bars:
            _bars(axis, groups, labels, places)
        else:
            few, scattered = len(places) <= _MOST_TICKS, content["scattered"]
            _lines(axis, groups, labels, few=few or scattered, joined=not scattered)
            _scale(axis, places, content["x"], log_x, few=few and not scattered)
        chance_line(axis, content["chance"] or 0)
        axis.set_xlabel(PLACES.get(content["x"], content["x"]))
        if content["panels"]:
            axis.set_title(f"{short_names([content['panels']])[content['panels']]} {x_text(panel)}")
        if is_share(content["y"]):
            axis.set_ylim(-0.02, 1.05)
    of_groups = f", {' and '.join(content['groups'])}" if len(content["groups"]) == 1 else ""
    axes[0][0].set_ylabel(f"{content['y']}{of_groups}")
    if series != [()] or content["chance"]:
        legend_beside(axes[0][-1])
        axes[0][-1].get_legend().set_title(
            ", ".join(short_names(list(points[0]["series"])).values())
        )
    said = textwrap.wrap(". ".join(notes).replace("`", ""), 95 * len(panels))
    if said:
        figure.supxlabel("\n".join(said), fontsize=6.5, color="dimgrey")
    return save_figure(figure, stem.with_name(f"{stem.name}.png"))


def _lines(axis, groups: Sequence, labels: Sequence[str], *, few: bool, joined: bool) -> None:
    """A line for each series, a little beside the others, so that no interval hides another.

    Where places on x are not ``few``, intervals are bands, and single runs are not shown. Points
    that are not ``joined`` stand where they were measured, without a line.
    """
    apart = min(3.0, 24 / len(groups))
    for number, (points, label) in enumerate(zip(groups, labels, strict=True)):
        style = {**line(number), "marker": look(number)["marker"] if few else ""}
        style |= {} if joined else {"linestyle": ""}
        aside = apart * (number - (len(groups) - 1) / 2) if few and joined else 0
        moved = offset_copy(axis.transData, axis.figure, x=aside, units="points")
        x, means = ([point[key] for point in points] for key in ("x", "mean"))
        axis.plot(x, means, label=label, markersize=4.5, transform=moved, **style)
        sure = [point for point in points if point["low"] is not None]
        at, ends = [point["x"] for point in sure], [[p["low"], p["high"]] for p in sure]
        if few:
            faint = {"color": style["color"], "transform": moved, "alpha": 0.5}
            for place, end in zip(at, ends, strict=True):
                axis.plot([place, place], end, "_-", linewidth=1, markersize=4, **faint)
            for point in points:
                axis.plot(*_runs(point, point["x"]), ".", markersize=3, **faint)
        elif sure:
            axis.fill_between(at, *np.transpose(ends), color=style["color"], alpha=0.15)
    # What is moved by dots on the page counts where it would be without.
    axis.dataLim.set_points(Bbox.null().get_points())
    shown = [point for points in groups for point in points]
    heights = [(p["x"], y) for p in shown for y in (p["low"], p["high"], *p["values"])]
    axis.update_datalim([(x, y) for x, y in heights if y is not None])
    axis.autoscale_view()


def _bars(axis, groups: Sequence, labels: Sequence[str], places: Sequence) -> None:
    """Bars of the series side by side at each place."""
    width = 0.8 / len(groups)
    for number, (points, label) in enumerate(zip(groups, labels, strict=True)):
        middle = width * (number - (len(groups) - 1) / 2)
        hatch = ("", "//", "..", "xx")[number // len(PALETTE) % 4]
        style = {"color": PALETTE[number % len(PALETTE)], "hatch": hatch, "alpha": 0.8}
        x = [places.index(point["x"]) + middle for point in points]
        axis.bar(x, [point["mean"] for point in points], 0.9 * width, label=label, **style)
        for at, point in zip(x, points, strict=True):
            if point["low"] is not None:
                axis.plot([at, at], [point["low"], point["high"]], "k_-", linewidth=1, markersize=4)
            axis.plot(*_runs(point, at - width / 4), "k.", markersize=3)
    names = [x_text(place) for place in places]
    names = [n if len(n) <= _LONGEST else f"...{n[3 - _LONGEST :]}" for n in names]
    axis.set_xticks(range(len(places)), names, rotation=20 if max(map(len, names)) > 8 else 0)


def _runs(point: Mapping, x: float) -> tuple[list[float], list[float]]:
    """The single runs behind a mean of several, to be drawn at ``x``."""
    values = point["values"] if len(point["values"]) > 1 else []
    return [x] * len(values), values


def _scale(axis, places: Sequence[float], x: str, wish: str, *, few: bool) -> None:
    """A logarithmic axis where values differ by a factor of 10, and a tick at each of a few."""
    positive = [place for place in places if place > 0]
    if wish == "yes" and (not positive or min(places) < 0):
        raise InputError(f"`log_x` yes needs positive numbers on x; {x} is {min(places)} somewhere")
    wide = bool(positive) and min(places) >= 0 and max(positive) >= 10 * min(positive)
    if wish == "yes" or (wish == "auto" and wide and x not in PLACES):
        if min(places) > 0:
            axis.set_xscale("log")
        else:  # 0 stands where it would be on a linear axis, up to the least other value
            axis.set_xscale("symlog", linthresh=min(positive))
            axis.set_xlim(-0.4 * min(positive), 1.4 * max(positive))
    if few and sum(len(x_text(place)) for place in places) <= _MOST_LETTERS:
        shown = sorted(places)
        axis.xaxis.set_major_locator(FixedLocator(shown))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(
            lambda value, _: x_text(min(shown, key=lambda p: abs(p - value)))
        )

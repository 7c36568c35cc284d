"""Figures of the claims: each draws the numbers of one claim and returns the paths, PNG first.

What the numbers hold is written where they are gathered, in ``experiments/claims/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from coverage_principle.reporting.statistics import rate_of
from coverage_principle.reporting.style import PALETTE, SEQUENTIAL, new_figure, save_figure

_MARKERS = "osD^vP*X"


def shades(count: int) -> list:
    """So many colours of the sequential map, dark to light."""
    colours = matplotlib.colormaps[SEQUENTIAL]
    return [colours(0.92 * i / max(1, count - 1)) for i in range(count)]


def with_interval(axis, x: Sequence[float], groups: Sequence[Sequence[float]], **style) -> None:
    """A line through the means of ``groups`` with 95 % intervals, where there are several seeds."""
    means = [rate_of(values) for values in groups]
    middle = np.array([m.mean for m in means])
    if all(m.low is not None for m in means):
        error = np.array([[m.mean - m.low, m.high - m.mean] for m in means]).T
        axis.errorbar(x, middle, error, capsize=2, markersize=4, **style)
    else:
        axis.plot(x, middle, markersize=4, **style)


def chance_line(axis, chance: float) -> None:
    axis.axhline(chance, color="grey", linewidth=1, linestyle=":", label="chance")


def accuracy_axis(axis, title: str) -> None:
    axis.set_ylim(-0.02, 1.05)
    axis.set_title(title)


# -------------------------------------------------------------------------------- claims a and b


def accuracy_by_data(numbers: Mapping, stem: Path) -> list[Path]:
    """Final accuracy by N for each type, and type_0 over training for each N."""
    figure, (left, right) = new_figure(9.6, 3.6, 1, 2)
    sizes = list(numbers["sizes"])
    groups = list(next(iter(numbers["sizes"][sizes[0]].values()))["accuracy"])
    for number, group in enumerate(groups):
        finals = [
            [run["accuracy"][group][-1] for run in numbers["sizes"][size].values()]
            for size in sizes
        ]
        with_interval(
            left,
            [int(size) for size in sizes],
            finals,
            label=group,
            color=PALETTE[number % len(PALETTE)],
            marker=_MARKERS[number],
        )
    chance_line(left, numbers["chance"])
    accuracy_axis(left, "final accuracy")
    left.set_xlabel("training items N")
    left.set_ylabel("answer accuracy, mean over seeds")
    left.legend(fontsize=7, loc="center right")
    for colour, size in zip(shades(len(sizes)), sizes, strict=True):
        runs = list(numbers["sizes"][size].values())
        steps = runs[0]["steps"]
        curve = np.mean([run["accuracy"]["type_0"] for run in runs], axis=0)
        right.plot(steps, curve, color=colour, label=f"N = {int(size):,}")
        outside = np.mean(
            [
                values
                for run in runs
                for group, values in run["accuracy"].items()
                if group.startswith("type_") and group != "type_0"
            ],
            axis=0,
        )
        right.plot(steps, outside, color=colour, linestyle="--", linewidth=0.9)
    right.plot([], [], color="black", linestyle="--", linewidth=0.9, label="other types")
    chance_line(right, numbers["chance"])
    accuracy_axis(right, "type_0 over training")
    right.set_xlabel("step")
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return save_figure(figure, stem)


def prediction_of_correctness(numbers: Mapping, stem: Path) -> list[Path]:
    """type_0 accuracy over training by k-cutoff, and how well the k-cutoff predicts answers."""
    sizes = list(numbers["sizes"])
    figure, axes = new_figure(3.6 * (len(sizes) + 1) + 1, 3.5, 1, len(sizes) + 1)
    ks = sorted(
        {
            k
            for seeds in numbers["sizes"].values()
            for run in seeds.values()
            for k, group in run["by_k"].items()
            if group["n"] >= 20
        },
        key=int,
    )
    colours = dict(zip(ks, shades(len(ks)), strict=True))
    for axis, size in zip(axes, sizes, strict=False):
        runs = list(numbers["sizes"][size].values())
        for k in ks:
            curves = [
                run["by_k"][k]["accuracy"]
                for run in runs
                if k in run["by_k"] and run["by_k"][k]["n"] >= 20
            ]
            if len(curves) == len(runs):
                axis.plot(runs[0]["steps"], np.mean(curves, axis=0), color=colours[k])
        chance_line(axis, numbers["chance"])
        accuracy_axis(axis, f"N = {int(size):,}")
        axis.set_xlabel("step")
    axes[0].set_ylabel("type_0 accuracy, mean over seeds")
    for k in ks:
        axes[len(sizes) - 1].plot([], [], color=colours[k], label=f"k-cutoff {k}")
    axes[len(sizes) - 1].legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1, 0.5))
    last = axes[-1]
    names = {"k_cutoff": "k-cutoff", "type": "type alone", "neighbours": "neighbours in\ntraining"}
    for number, size in enumerate(sizes):
        values = [
            [
                run["auc"]["type_0"][name]
                for run in numbers["sizes"][size].values()
                if run["auc"]["type_0"][name] is not None
            ]
            for name in names
        ]
        places = np.arange(len(names)) + 0.16 * (number - (len(sizes) - 1) / 2)
        shown = [(x, v) for x, v in zip(places, values, strict=True) if v]
        with_interval(
            last,
            [x for x, _ in shown],
            [v for _, v in shown],
            linestyle="",
            color=PALETTE[number],
            marker=_MARKERS[number],
            label=f"N = {int(size):,}",
        )
    last.axhline(0.5, color="grey", linewidth=1, linestyle=":")
    last.set_xticks(range(len(names)), list(names.values()), fontsize=8)
    last.set_xlim(-0.5, len(names) - 0.5)
    last.set_ylabel("AUC among type_0 items (0.5: none)")
    last.set_title("predicting which items are answered")
    last.legend(fontsize=7)
    return save_figure(figure, stem)


# --------------------------------------------------------------------------------- claims c, d, e


#: Where legends stand: no corner is free of points and lines for every set of series.
_BELOW = {"fontsize": 7, "loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}


def scaling(numbers: Mapping, stem: Path) -> list[Path]:
    """Required N against |X| for each series, and the fitted exponents."""
    figure, (left, right) = new_figure(9.6, 3.8, 1, 2, width_ratios=(3, 2))
    sizes = sorted({int(size) for series in numbers["series"].values() for size in series["at"]})
    for number, (name, series) in enumerate(numbers["series"].items()):
        colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
        points = [
            (int(size), search["required"])
            for size, seeds in series["at"].items()
            for search in seeds.values()
            if search["required"]
        ]
        label = name
        if fit := series["fit"]:
            label += f": $|X|^{{{fit['exponent']:.2f}}}$"
            x = np.array([min(p[0] for p in points), max(p[0] for p in points)], dtype=float)
            left.plot(x, fit["factor"] * x ** fit["exponent"], color=colour, linewidth=1)
        if points:
            left.plot(
                *zip(*points, strict=True),
                marker,
                color=colour,
                markersize=5,
                alpha=0.75,
                linestyle="",
                label=label,
            )
    for name, side in numbers["coverage"].items():
        names = list(numbers["series"])
        own = PALETTE[names.index(name) % len(PALETTE)] if name in names else "grey"
        _coverage_lines(left, side, own)
    if numbers["coverage"]:
        left.plot(
            [],
            [],
            color="black",
            linestyle=":",
            linewidth=1,
            label="99 % of unseen items k-covered",
        )
    left.set_xscale("log")
    left.set_yscale("log")
    left.xaxis.set_major_locator(FixedLocator(sizes))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter(ScalarFormatter())
    left.set_xlabel("tokens |X|")
    left.set_ylabel("training items required")
    left.set_title("smallest N that generalises, by seed")
    left.legend(ncols=3, **_BELOW)
    _exponents(right, numbers["series"])
    return save_figure(figure, stem)


def _coverage_lines(axis, side: Mapping, colour: str) -> None:
    """What k-coverage alone asks for, a dotted line for each k; lines that meet share a label."""
    ends: dict[float, list[str]] = {}
    for k, entry in side["k"].items():
        points = [(int(size), amount) for size, amount in entry["required"].items()]
        if len(points) > 1:
            axis.plot(*zip(*points, strict=True), color=colour, linestyle=":", linewidth=1)
            x, y = points[-1]
            near = next((end for end in ends if 0.95 < end / y < 1.05), y)
            ends.setdefault(near, []).append(k)
    for y, ks in ends.items():
        axis.annotate(
            f"k={','.join(ks)}",
            (x, y),
            textcoords="offset points",
            xytext=(3, -3),
            color=colour,
            fontsize=7,
        )


def _exponents(axis, series: Mapping) -> None:
    """Each series' exponent with its interval, and the published value where there is one."""
    fitted = [(name, s) for name, s in series.items() if s["fit"]]
    places = range(len(fitted))
    for place, (_, one) in zip(places, fitted, strict=True):
        fit = one["fit"]
        middle = fit["exponent"]
        number = list(series.values()).index(one)
        axis.errorbar(
            middle,
            place,
            xerr=[[middle - fit["low"]], [fit["high"] - middle]],
            fmt=_MARKERS[number % len(_MARKERS)],
            capsize=3,
            markersize=5,
            color=PALETTE[number % len(PALETTE)],
        )
        if one.get("published") is not None:
            axis.plot(one["published"], place, "|", color="black", markersize=14, markeredgewidth=2)
    if any(one.get("published") is not None for _, one in fitted):
        axis.plot(
            [],
            [],
            "|",
            color="black",
            markersize=10,
            markeredgewidth=2,
            linestyle="",
            label="published (8-layer GPT-2)",
        )
        axis.legend(**_BELOW)
    axis.set_yticks(list(places), [name for name, _ in fitted], fontsize=8)
    axis.set_ylim(-0.6, len(fitted) - 0.4)
    axis.invert_yaxis()
    axis.set_xlabel("exponent of |X|, 95 % interval")


# --------------------------------------------------------------------------------- claims f and g


def path_ambiguity(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy over training of each task, and its IICG by b against (b, x2)."""
    figure, (left, right) = new_figure(9.6, 3.6, 1, 2)
    names = list(numbers["tasks"])
    for number, name in enumerate(names):
        runs = list(numbers["tasks"][name].values())
        curve = np.mean([run["accuracy"]["type_0"] for run in runs], axis=0)
        left.plot(runs[0]["steps"], curve, color=PALETTE[number], label=name)
    chance_line(left, numbers["chance"])
    accuracy_axis(left, "unseen compositions of seen facts (type_0)")
    left.set_xlabel("step")
    left.set_ylabel("answer accuracy, mean over seeds")
    left.legend(fontsize=7)
    keys = numbers["keys"]
    for number, key in enumerate(keys):
        values = [
            [run["iicg"][key]["peak"] for run in numbers["tasks"][name].values()] for name in names
        ]
        places = np.arange(len(names)) + 0.3 * (number - (len(keys) - 1) / 2)
        right.bar(
            places,
            [np.mean(found) for found in values],
            0.28,
            color=PALETTE[number],
            label=f"grouped by ({key})",
        )
        for place, found in zip(places, values, strict=True):
            right.plot([place] * len(found), found, "k.", markersize=4)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks(range(len(names)), [n.replace(", ", ",\n") for n in names], fontsize=8)
    right.set_ylabel("IICG at x3, best layer, group-balanced")
    right.set_title("do type_0 states cluster by b, or by (b, x2)?")
    right.legend(fontsize=7)
    return save_figure(figure, stem)


def mechanisms(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy on items outside of coverage, by whether a mechanism could reach them."""
    panels = numbers["panels"]
    widths = [1 + len(panel["variants"]) for panel in panels.values()]
    figure, axes = new_figure(
        1.2 * sum(widths), 4.6, 1, len(panels), sharey=True, squeeze=False, width_ratios=widths
    )
    for axis, panel in zip(axes[0], panels.values(), strict=True):
        names = list(panel["variants"])
        groups = list(panel["groups"])
        for number, group in enumerate(groups):
            places = np.arange(len(names)) + (0.8 / len(groups)) * (number - (len(groups) - 1) / 2)
            for place, name in zip(places, names, strict=True):
                values = [
                    run["groups"][group]["accuracy"]
                    for run in panel["variants"][name].values()
                    if run["groups"].get(group, {}).get("n")
                ]
                if values:
                    axis.bar(place, np.mean(values), 0.72 / len(groups), color=PALETTE[number])
                    axis.plot([place] * len(values), values, "k.", markersize=4)
        for number, group in enumerate(groups):
            axis.bar(0, 0, color=PALETTE[number], label=panel["groups"][group])
        chance_line(axis, numbers["chance"])
        axis.set_xticks(range(len(names)), [n.replace(", ", ",\n") for n in names], fontsize=8)
        axis.set_title(panel["title"])
        axis.set_ylim(0, 1.05)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    axes[0][0].set_ylabel("answer accuracy (bar: mean, dots: seeds)")
    return save_figure(figure, stem)

"""Tables and figures of claims c, d and e, and what makes one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from coverage_principle.experiments.claims.base import Claim, Table
from coverage_principle.experiments.claims.scaling import collect, noisy_ends
from coverage_principle.experiments.claims.scaling_words import (
    HOPED,
    find,
    needed_times,
    of_all_possible,
    percent,
    required,
)
from coverage_principle.experiments.crossing import LEAST_SPREAD, LINE
from coverage_principle.reporting import plots, style

#: What the figure of trials shows: N over what is required, and accuracies.
_TIMES, _SHARES = (0.6, 1.9), (0.4, 0.997)
#: Markers of exponents that leave out some sizes, and of N that cannot be.
_HOLLOW = {"markerfacecolor": "white"}
#: How opaque trials are of sizes where training is noisy.
_PALE = 0.2
#: How the N of sizes and the exponents are found, for the page.
METHOD = (
    "maximum likelihood of all trials at once, log odds of the accuracy straight in log N, each "
    f"world with an N of its own; trials that the rule ended are known to be above it, those below "
    f"{LINE} only to be below it; 95 % intervals, Student's t over worlds"
)


def tables(numbers: Mapping) -> list[Table]:
    rows, powers = [], []
    for name, series in numbers["series"].items():
        fit = series["fit"]
        for size, seeds in series["at"].items():
            enough = [one["required"] or math.inf for one in seeds.values()]
            ends = [
                f"{n:,}" if n < math.inf else "none" for n in sorted({min(enough), max(enough)})
            ]
            tried = str(sum(len(one["trials"]) for one in seeds.values()))
            found = ["-", "-"]
            if fit and size in fit["sizes"]:
                share = percent(of_all_possible(series, size))
                found = [_with_bounds(required(series)[size]), share]
            rows.append([name, size, str(len(seeds)), tried, *found, " to ".join(ends)])
        for one in (fit, series["without_noisy"]):
            if one and (power := one["power"]):
                words = f"{power['exponent']:.2f} ({power['low']:.2f} to {power['high']:.2f})"
                model = [f"{one[part]:.2f}" for part in ("slope", "scatter")]
                seen = round(one["spread"], 2) > LEAST_SPREAD
                model.append(f"{one['spread']:.2f}" if seen else "not seen")
                published = "-" if series["published"] is None else f"{series['published']:.2f}"
                own = name if one is fit else f"{name}, without {one['without']} tokens (noisy)"
                without = noisy_ends(series["at"]) if one is not fit else {}
                at = [seeds for size, seeds in series["at"].items() if size not in without]
                worlds = sum(len(seeds) for seeds in at)
                trials = sum(len(s["trials"]) for seeds in at for s in seeds.values())
                powers.append([own, words, published, str(worlds), str(trials), *model])
    header = [
        "task or model",
        "|X|",
        "worlds",
        "trials",
        "required N",
        "of all possible",
        "smallest N from which no trial failed, by world",
    ]
    how = f"trials on a grid of ratio {numbers['stride']}"
    title = f"Required N ({numbers['rule']}; {how}; from one fit with one slope for all "
    title += "sizes, so that those of a size depend on the others' trials, too; where training is "
    title += "noisy at some sizes, the others are fitted without them)"
    result = [Table(title, header, rows)]
    if powers:
        model = ["slope of log odds", "scatter of trials", "spread of worlds (log N)"]
        model = [f"{words}, each size with its N" for words in model]
        header = ["task or model", "exponent", "published", "worlds", "trials", *model]
        result.append(Table(f"Exponents of |X| ({METHOD})", header, powers))
    times, rows = needed_times(numbers), []
    for name, series in numbers["series"].items():
        predictors = numbers["before"].get(series["before"], {})
        for size in required(series) if series["fit"] else ():
            cells = [_beside(one, times.get(p, {}), name, size) for p, one in predictors.items()]
            if cells:
                rows.append([name, size, f"{required(series)[size][0]:,.0f}", *cells])
    if rows:
        names = {name: None for one in numbers["before"].values() for name in one}
        share = f"{numbers['covered']:.0%} of the unseen in-domain items"
        title = f"N at which {share} are k-covered, or the learner answers them rightly, before"
        title += " training (mean over worlds), and how many times as much models needed"
        width = 3 + len(names)
        rows = [[*row, *["-"] * (width - len(row))] for row in rows]
        result.append(Table(title, ["task or model", "|X|", "models", *names], rows))
    return result


def _with_bounds(found: tuple[float, float | None, float | None]) -> str:
    middle, low, high = found
    return f"{middle:,.0f}" + (f" ({low:,.0f} to {high:,.0f})" if low else "")


def _beside(one: Mapping, times: Mapping, name: str, size: str) -> str:
    """A predictor's mean N at a size, and how many times it a series needed."""
    amounts = [n for n in one["amounts"].get(size, {}).values() if n]
    if not amounts:
        return "-"
    return f"{np.mean(amounts):,.0f} (x {times[name][size]:.2f})"


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Required N against |X|, accuracy against N, and the exponents."""
    figure, (left, middle, right) = style.new_figure(13.5, 4.4, 1, 3, width_ratios=(5, 4, 4))
    series = numbers["series"]
    for number, (name, one) in enumerate(series.items()):
        _required(left, number, name, one)
        _accuracies(middle, number, one, numbers["accuracy"])
    drawn = _predictors(left, numbers)
    sizes = {int(size) for one in series.values() for size in one["at"]}
    title = f"N from which {numbers['accuracy']:.0%} of unseen items are right"
    plots.tokens_axis(left, sizes, title, "training items required")
    grey = {"color": "grey", "linewidth": 1}
    for name, dashes in drawn.items():
        plots.label_only(left, f"{name}, before training", linestyle=dashes, **grey)
    fitted = [one for one in series.values() if one["fit"]]
    if any(of_all_possible(one, size) > 1 for one in fitted for size in required(one)):
        plots.label_only(left, "more than there can be", "o", **grey | _HOLLOW)
    if any(one["without_noisy"] for one in series.values()):
        look = {"color": "grey", "alpha": 2 * _PALE}
        plots.label_only(left, "with sizes of noisy training", **look)
        plots.label_only(middle, "of sizes of noisy training", "o", markersize=4, **look)
    left.legend(ncols=2, **plots.BELOW)
    middle.axhline(_odds(numbers["accuracy"]), **grey)
    reached = f"reached {numbers['accuracy']:g}, and ended there"
    plots.label_only(middle, reached, "^", color="grey", markersize=4)
    plots.label_only(middle, "did not reach it", "o", color="grey", markersize=4)
    plots.label_only(
        middle, f"fitted from {LINE} on (chance: at most {1 / min(sizes):.2f})", **grey
    )
    middle.set(xscale="log", xlim=_TIMES, title="accuracy of each trial (outside: at the edge)")
    middle.set(xlabel="N / N required in its world", ylabel="accuracy on unseen items (log odds)")
    shares = [0.5, 0.7, 0.9, 0.95, 0.99]
    middle.set_yticks([_odds(share) for share in shares], [f"{share:g}" for share in shares])
    low, high = map(_odds, _SHARES)
    middle.set_ylim(low, high + 0.1)
    middle.set_xticks([0.7, 1, 1.4], ["0.7", "1", "1.4"], minor=False)
    middle.set_xticks([], minor=True)
    middle.legend(ncols=2, **plots.BELOW)
    _exponents(right, series)
    return style.save_figure(figure, stem)


def _required(axis, number: int, name: str, series: Mapping) -> None:
    """A series' required N with intervals, its law, and a dot for each world.

    Where training is noisy at some sizes, the law of all sizes is pale, that of the others is not.
    """
    if not (fit := series["fit"]):
        return
    look, others = plots.look(number), series["without_noisy"]
    label, sizes = name, [int(size) for size in required(series)]
    for one, alpha in ((fit, 2 * _PALE if others else 1), (others, 1)):
        if one and (power := one["power"]):
            label += "" if others else f": $|X|^{{{power['exponent']:.2f}}}$"
            ends = np.array(sorted(map(int, one["sizes"])), dtype=float)[[0, -1]]
            line = power["factor"] * ends ** power["exponent"]
            axis.plot(ends, line, color=look["color"], linewidth=1.2, alpha=alpha)
    worlds = required(series, "worlds")
    dots = [(int(size), n) for size, seeds in worlds.items() for n in seeds.values()]
    axis.plot(*zip(*dots, strict=True), ".", color=look["color"], markersize=3, alpha=0.6)
    middle, low, high = np.array(
        [(x, low or x, high or x) for x, low, high in required(series).values()], dtype=float
    ).T
    form = {"linestyle": "", "capsize": 3, "markersize": 5, **look}
    axis.errorbar(sizes, middle, yerr=[middle - low, high - middle], label=label, **form)
    for size, amount in zip(sizes, middle, strict=True):
        if of_all_possible(series, str(size)) > 1:
            axis.plot(size, amount, markersize=5, zorder=3, **look | _HOLLOW)


def _predictors(axis, numbers: Mapping) -> dict[str, str]:
    """Mean N of k = 3 and the learner in the colour of their task; how those drawn are dashed."""
    drawn, dashes = {}, {"k = 3": ":", "learner": "--"}
    tasks = [series["before"] for series in numbers["series"].values()]
    for task in filter(None, dict.fromkeys(tasks)):
        several = tasks.count(task) > 1
        colour = "black" if several else plots.look(tasks.index(task))["color"]
        for name in HOPED:
            amounts = numbers["before"][task].get(name, {"amounts": {}})["amounts"]
            reached = {int(n): list(filter(None, seeds.values())) for n, seeds in amounts.items()}
            points = [(size, np.mean(own)) for size, own in reached.items() if own]
            if points:
                drawn[name] = dashes[name]
                form = {"linestyle": dashes[name], "linewidth": 1, "marker": "."}
                axis.plot(*zip(*points, strict=True), color=colour, **form)
    return drawn


def _accuracies(axis, number: int, series: Mapping, level: float) -> None:
    """A series' trials at N over the N that their world requires, and the fitted curve.

    Those of sizes where training is noisy are pale; the curve is fitted without them.
    """
    if not series["fit"]:
        return
    colour, worlds = plots.look(number)["color"], required(series, "worlds")
    fit = series["without_noisy"] or series["fit"]
    points = [
        (
            np.clip(int(n) / worlds[size][seed], *_TIMES),
            _odds(np.clip(trial["accuracy"], *_SHARES)),
            size in fit["sizes"],
        )
        for size, seeds in worlds.items()
        for seed in seeds
        for n, trial in series["at"][size][seed]["trials"].items()
    ]
    for reached, marker in ((False, "o"), (True, "^")):
        for fitted, alpha in ((False, _PALE), (True, 0.6)):
            kind = (reached, fitted)
            own = [(x, y) for x, y, part in points if (y >= _odds(level), part) == kind]
            if own:
                form = {"marker": marker, "linestyle": "", "markersize": 4, "alpha": alpha}
                form["clip_on"] = False
                axis.plot(*zip(*own, strict=True), color=colour, markeredgewidth=0, **form)
    x = np.array([math.exp((_odds(LINE) - _odds(level)) / fit["slope"]), _TIMES[1]])
    axis.plot(x, _odds(level) + fit["slope"] * np.log(x), color=colour, linewidth=1.2)


def _odds(share: float) -> float:
    """Log odds; of a share of 0, those of a small one."""
    return math.log(max(share, 1e-3) / (1 - share))


def _exponents(axis, series: Mapping) -> None:
    """Each series' exponent with its interval, and the published value where there is one.

    Below it, hollow, that without the sizes of ``scaling.noisy_sizes``.
    """
    published = {"color": "black", "markeredgewidth": 2}
    fitted = [
        (number, name, one, one["fit"]["power"])
        for number, (name, one) in enumerate(series.items())
        if one["fit"] and one["fit"]["power"]
    ]
    for place, (number, _, one, power) in enumerate(fitted):
        own = {"linestyle": "", "capsize": 3, "markersize": 5, **plots.look(number)}
        _exponent(axis, place, power, own)
        if (others := one["without_noisy"]) and others["power"]:
            _exponent(axis, place + 0.25, others["power"], own | _HOLLOW)
        if one["published"] is not None:
            axis.plot(one["published"], place, "|", markersize=14, **published)
    if any(one["published"] is not None for _, _, one, _ in fitted):
        published |= {"linestyle": "", "markersize": 10}
        plots.label_only(axis, "published (8-layer GPT-2)", "|", **published)
    if any(one["without_noisy"] for _, _, one, _ in fitted):
        look = {"color": "grey", "markersize": 5, **_HOLLOW}
        plots.label_only(axis, "without sizes where training is noisy", "o", **look)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(**plots.BELOW)
    axis.set_yticks(range(len(fitted)), [name for _, name, _, _ in fitted], fontsize=8)
    axis.set(ylim=(len(fitted) - 0.4, -0.6), title="how fast N grows")
    axis.set_xlabel("exponent of |X|, 95 % interval")


def _exponent(axis, place: float, power: Mapping, look: Mapping) -> None:
    middle, low, high = (power[name] for name in ("exponent", "low", "high"))
    axis.errorbar(middle, place, xerr=[[middle - low], [high - middle]], **look)


def claim(*about: str, series: Callable, find: Callable = find) -> Claim:
    """A claim about these series (by scale): its letter, name, title, what is published."""
    return Claim(*about, partial(collect, series), find, tables, draw)

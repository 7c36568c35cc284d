"""What claims c, d and e say of their numbers: sentences, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from coverage_principle.experiments.claims.base import Claim, Table, span
from coverage_principle.experiments.claims.scaling import (
    beside_published,
    collect,
    cut_off,
    noisy_sizes,
    possible,
    searches,
)
from coverage_principle.experiments.crossing import LEAST_SPREAD, LINE
from coverage_principle.reporting import plots, style
from simpletransformers.words import counted, listed

#: Within which factor a predictor is hoped to say N before training.
HOPED = {"k = 3": 2.0, "learner": 1.5}
#: What the figure of trials shows: N over what is required, and accuracies.
_TIMES, _SHARES = (0.6, 1.9), (0.4, 0.997)
#: Markers of exponents that leave out some sizes, and of N that cannot be.
_HOLLOW = {"markerfacecolor": "white"}
#: How opaque trials are of sizes where training is noisy.
_PALE = 0.2
#: How the N of sizes and the exponents are found, for the page.
METHOD = (
    "maximum likelihood of all trials at once, log odds of the accuracy straight in log N, each "
    "world with an N of its own, trials that the rule ended known to be above it; 95 % intervals, "
    "Student's t over worlds"
)


def find(numbers: Mapping) -> list[str]:
    """What is needed, the exponent of each series, and what was known before training."""
    sentences = in_plain_words(numbers["series"])
    for name, series in numbers["series"].items():
        every, power = searches(series), (series["fit"] or {}).get("power")
        trials = [trial for search in every for trial in search["trials"].values()]
        worlds = f"{counted(len(every), 'world')} of {counted(len(series['at']), 'size')}"
        if power is None:
            sentences.append(
                f"{name}: no exponent ({worlds}, {counted(len(trials), 'trial')}): some trials "
                "have to reach the rule and some to fail, in four worlds of two sizes."
            )
            continue
        items = [trial["items"] for trial in trials]
        words = (
            f"{name}: required N grows as |X|^{power['exponent']:.2f} (95 % interval "
            f"{power['low']:.2f} to {power['high']:.2f}; {worlds}, {len(trials)} trials, each with "
            f"{span(items)} unseen items)"
        )
        words += beside_published(power, series["published"])
        if missing := sum(search["required"] is None for search in every):
            worlds = counted(missing, "world")
            words += f"; in {worlds} the largest N that was tried was not enough"
        sentences += [words + ".", _of_possible(name, series)]
    sentences += cut_off(numbers) + noisy_sizes(numbers)
    for task, predictors in numbers["before"].items():
        fits = {name: one["fit"] for name, one in predictors.items() if one["fit"]}
        if parts := [f"{fit['exponent']:.2f} ({name})" for name, fit in fits.items()]:
            sentences.append(
                f"{task}: N that covers {numbers['covered']:.0%} of the unseen in-domain items of "
                f"these worlds, or lets the learner answer them, grows with exponents of "
                f"{listed(parts)}."
            )
    return sentences + before_training(numbers)


def required(series: Mapping, part: str = "sizes") -> dict:
    """The N required by a series' ``sizes`` (with bounds) or ``worlds``, by |X|.

    One slope and scatter hold for all sizes of a fit, so where training is noisy at some the others
    are taken from the fit without these.
    """
    return {**series["fit"][part], **(series["without_noisy"] or {part: {}})[part]}


def _of_possible(name: str, series: Mapping) -> str:
    """How much of what could be trained on is required, in the smallest and the largest worlds."""
    small, *_, large = required(series)
    first, last = (_percent(_of_all(series, size)) for size in (small, large))
    return (
        f"{name}: that is {first} of all possible training compositions in a world of {small} "
        f"tokens, and {last} in one of {large}."
    )


def _of_all(series: Mapping, size: str) -> float:
    """Required N over how many training compositions there can be."""
    return required(series)[size][0] / possible(series["at"][size])


def _percent(share: float) -> str:
    return "over 100%" if share > 1 else f"{share:.{0 if share >= 0.1 else 2}%}"


def in_plain_words(every: Mapping[str, Mapping]) -> list[str]:
    """What a series needs in its smallest and its largest worlds: the first that says so.

    It has an exponent, and worlds so large that what it needs could be tried.
    """
    for name, series in every.items():
        if series["fit"] and series["fit"]["power"]:
            sizes = required(series)
            (small, (few, *_)), *_, (large, (many, *_)) = sizes.items()
            if max(_of_all(series, size) for size in (small, large)) > 1:
                continue
            return [
                "To answer 99 % of the unseen combinations of facts that it has seen, a model "
                f"needs about {few:,.0f} training items in a world of {small} tokens and "
                f"{many:,.0f} in one of {large} ({name}): {int(large) / int(small):.1f} times "
                f"the tokens ask for {many / few:.1f} times the data."
            ]
    return []


def needed_times(numbers: Mapping) -> dict[str, dict[str, dict[str, float]]]:
    """How many times the N of each predictor models needed, by predictor, series and |X|.

    The geometric mean over the worlds of that size in which the predictor reached its share.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, series in numbers["series"].items():
        for predictor, one in numbers["before"].get(series["before"], {}).items():
            for size, seeds in one["amounts"].items() if series["fit"] else ():
                own = required(series, "worlds").get(size, {})
                logs = [math.log(own[seed] / n) for seed, n in seeds.items() if n and seed in own]
                if logs:
                    of_series = found.setdefault(predictor, {}).setdefault(name, {})
                    of_series[size] = math.exp(np.mean(logs))
    return found


def before_training(numbers: Mapping) -> list[str]:
    """Whether k = 3 and the learner say N within the hoped factor, and whether one k is right."""
    found, sentences = needed_times(numbers), []
    for predictor, factor in HOPED.items():
        times = [x for sizes in found.get(predictor, {}).values() for x in sizes.values()]
        if not times:
            continue
        good = sum(1 / factor <= x <= factor for x in times)
        who = f"coverage at {predictor}"
        if predictor == "learner":
            asked = [of[predictor] for of in numbers["before"].values() if predictor in of]
            most = max(len(seeds) for one in asked for seeds in one["amounts"].values())
            worlds = f"asked in at most {counted(most, 'world')} of a size"
            who = f"the learner (not fitted to any model, {worlds})"
        ends = [
            f"{first:.2f} to {last:.2f} ({name})"
            for name, (first, *_, last) in _several(found[predictor]).items()
        ]
        sentences.append(
            f"Before any training, {who} says N within a factor of {factor:g} at {good} of "
            f"{len(times)} sizes: models needed {min(times):.2f} to {max(times):.2f} times as much"
            + (f"; from the smallest to the largest |X| {listed(ends)}." if ends else ".")
        )
    ks = {name: of_series for name, of_series in found.items() if name != "learner"}
    if not ks:
        return sentences
    names = next(iter(ks.values()))
    nearest = {}
    for name in names:
        off = {k: _worst(of[name].values()) for k, of in ks.items() if _same(of, names, name)}
        nearest[name] = min(off, key=off.__getitem__)
    worst = {
        k: _worst(x for sizes in of.values() for x in sizes.values())
        for k, of in ks.items()
        if all(_same(of, names, name) for name in names)
    }
    best = min(worst, key=worst.__getitem__)
    if len(set(nearest.values())) == 1:
        verdict = f"one k is nearest for all: {best}"
    else:
        each = listed([f"{k} for {name}" for name, k in nearest.items()])
        verdict = f"no single k is nearest for all ({each}); the best for all is {best}"
    return [*sentences, f"Of {', '.join(ks)}, {verdict}, off by a factor of {worst[best]:.2f}."]


def _several(of: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """What is there of each series, by |X|, where there are several sizes."""
    return {name: list(sizes.values()) for name, sizes in of.items() if len(sizes) > 1}


def _worst(times: Iterable[float]) -> float:
    """The factor by which the worst of them is off."""
    return max(math.exp(abs(math.log(x))) for x in times)


def _same(of: Mapping, first: Mapping, name: str) -> bool:
    """Whether a k has as many sizes of a series as the first."""
    return len(of.get(name, {})) == len(first[name])


def size_ratios(numbers: Mapping, name: str, other: str) -> dict[str, tuple[float, float, float]]:
    """How many times the N of ``other`` a series requires at each size of both, with bounds.

    The intervals of the two are joined as if they were of different worlds, which they are not:
    these bounds are rather wide.
    """
    every = [numbers["series"][one] for one in (name, other)]
    found = {}
    if all(series["fit"] for series in every):
        of, to = map(required, every)
        for size in [size for size in of if size in to and of[size][1] and to[size][1]]:
            ratio = of[size][0] / to[size][0]
            half = math.hypot(*(math.log(high / low) / 2 for _, low, high in (of[size], to[size])))
            found[size] = (ratio, ratio * math.exp(-half), ratio * math.exp(half))
    return found


def ratio_words(found: Mapping[str, tuple[float, float, float]]) -> str:
    """``0.96 (0.80 to 1.15) at 16 tokens and ...``"""
    parts = [f"{x:.2f} ({low:.2f} to {high:.2f}) at {n}" for n, (x, low, high) in found.items()]
    return f"{listed(parts)} tokens"


def tables(numbers: Mapping) -> list[Table]:
    rows, powers = [], []
    for name, series in numbers["series"].items():
        fit, every = series["fit"], searches(series)
        count = str(sum(len(one["trials"]) for one in every))
        for size, seeds in series["at"].items():
            enough = [one["required"] or math.inf for one in seeds.values()]
            ends = [
                f"{n:,}" if n < math.inf else "none" for n in sorted({min(enough), max(enough)})
            ]
            tried = str(sum(len(one["trials"]) for one in seeds.values()))
            found = ["-", "-"]
            if fit and size in fit["sizes"]:
                found = [_with_bounds(required(series)[size]), _percent(_of_all(series, size))]
            rows.append([name, size, str(len(seeds)), tried, *found, " to ".join(ends)])
        if fit and (power := fit["power"]):
            words = f"{power['exponent']:.2f} ({power['low']:.2f} to {power['high']:.2f})"
            model = [f"{fit[part]:.2f}" for part in ("slope", "scatter")]
            seen = round(fit["spread"], 2) > LEAST_SPREAD
            model.append(f"{fit['spread']:.2f}" if seen else "not seen")
            published = "-" if series["published"] is None else f"{series['published']:.2f}"
            powers.append([name, words, published, str(len(every)), count, *model])
    header = [
        "task or model",
        "|X|",
        "worlds",
        "trials",
        "required N",
        "of all possible",
        "N from which all were enough",
    ]
    how = f"trials on a grid of ratio {numbers['stride']}"
    title = f"Required N ({numbers['rule']}; {how}; from one fit with one slope for all "
    title += "sizes, so that those of a size depend on the others' trials, too; where training is "
    title += "noisy at some sizes, the others are fitted without them)"
    result = [Table(title, header, rows)]
    if powers:
        model = ["slope of log odds", "scatter of trials", "spread of worlds (log N)"]
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
    if any(
        _of_all(one, size) > 1 for one in series.values() if one["fit"] for size in required(one)
    ):
        plots.label_only(left, "more than there can be", "o", **grey | _HOLLOW)
    left.legend(ncols=2, **plots.BELOW)
    middle.axhline(_odds(numbers["accuracy"]), **grey)
    reached = f"reached {numbers['accuracy']:g}, and ended there"
    plots.label_only(middle, reached, "^", color="grey", markersize=4)
    plots.label_only(middle, "did not reach it", "o", color="grey", markersize=4)
    plots.label_only(
        middle, f"fitted from {LINE} on (chance: at most {1 / min(sizes):.2f})", **grey
    )
    if any(one["without_noisy"] for one in series.values()):
        pale = "of sizes where training is noisy: pale"
        plots.label_only(middle, pale, "o", color="grey", markersize=4, alpha=_PALE)
    middle.set(xscale="log", xlim=_TIMES, title="every trial (those outside at the edge)")
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
    """A series' required N with intervals, its law, and a dot for each world."""
    if not (fit := series["fit"]):
        return
    look = plots.look(number)
    label, sizes = name, [int(size) for size in required(series)]
    if power := fit["power"]:
        label += f": $|X|^{{{power['exponent']:.2f}}}$"
        ends = np.array([min(sizes), max(sizes)], dtype=float)
        line = power["factor"] * ends ** power["exponent"]
        axis.plot(ends, line, color=look["color"], linewidth=1.2)
    worlds = required(series, "worlds")
    dots = [(int(size), n) for size, seeds in worlds.items() for n in seeds.values()]
    axis.plot(*zip(*dots, strict=True), ".", color=look["color"], markersize=3, alpha=0.6)
    middle, low, high = np.array(
        [(x, low or x, high or x) for x, low, high in required(series).values()], dtype=float
    ).T
    form = {"linestyle": "", "capsize": 3, "markersize": 5, **look}
    axis.errorbar(sizes, middle, yerr=[middle - low, high - middle], label=label, **form)
    for size, amount in zip(sizes, middle, strict=True):
        if _of_all(series, str(size)) > 1:
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
        for size, seeds in series["at"].items()
        for seed, search in seeds.items()
        for n, trial in search["trials"].items()
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

"""What matcher and learner need, in figures: means, power laws, and how they look."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from coverage_principle.coverage.predicted import PredictedData
from coverage_principle.reporting.plots import (
    label_only,
    look,
    not_reached,
    note_below,
    power_law,
    shades,
    tokens_axis,
)
from coverage_principle.reporting.style import new_figure, save_figure
from coverage_principle.statistics import power_law_of_sizes


def summarise_predicted(found: PredictedData, needed: Mapping[int, int]) -> dict:
    """What was found, as JSON; docs/predicted_data.md has it field by field.

    ``needed`` are amounts that a model needed by |X|, or empty. A mean is None where a seed did not
    reach the accuracy. ``expected`` is what the model then should need: the mean, times what the
    model needed over the mean at the smallest |X|.
    """
    settings = found.settings
    predicted: dict[str, dict[str, dict]] = {str(size): {} for size in found.amounts}
    fits = {}
    for name in settings.by:
        every: dict[int, list[int | None]] = {}
        for size, by_seed in found.amounts.items():
            amounts = {str(seed): by[name] for seed, by in by_seed.items()}
            reached = [amount for amount in amounts.values() if amount is not None]
            every[size] = list(amounts.values())
            mean = statistics.mean(reached) if len(reached) == len(amounts) else None
            sd = statistics.stdev(reached) if mean is not None and len(reached) > 1 else None
            one = {"by_seed": amounts, "mean": mean, "sd": sd}
            one["model_needs_times"] = needed[size] / mean if mean and size in needed else None
            predicted[str(size)][name] = one
        times = predicted[str(min(found.amounts))][name]["model_needs_times"]
        for by_predictor in predicted.values():
            own = by_predictor[name]
            own["expected"] = own["mean"] * times if own["mean"] and times else None
        if fit := power_law_of_sizes(every):
            fits[name] = fit
    names = ("accuracy", "sample", "tolerance", "default_seen_ratio", "function_family")
    return {
        "task": found.graph.name,
        **{name: getattr(settings, name) for name in names},
        "alphabets": list(settings.alphabets),
        "by": list(settings.by),
        "seeds": list(settings.seeds),
        "learner": asdict(found.learner),
        "needed": {str(size): n for size, n in needed.items()} or None,
        "predicted": predicted,
        "fits": fits,
        "measured": found.measured,
    }


def draw_predicted(summary: dict, stem: Path) -> list[Path]:
    """N against |X| on logarithmic axes, and accuracy against N; PNG and PDF."""
    figure, (left, right) = new_figure(9.6, 3.8, 1, 2)
    sizes, every = list(map(int, summary["predicted"])), {}
    for number, name in enumerate(summary["by"]):
        by_size = {int(size): by[name]["by_seed"] for size, by in summary["predicted"].items()}
        every[name] = by_size
        style = {"markersize": 4, "alpha": 0.7, "law": r"N \propto "}
        power_law(left, number, name, by_size, summary["fits"].get(name), **style)
    if summary["needed"]:
        own = {"color": "black", "markersize": 8, "label": "model"}
        left.plot(sizes, [summary["needed"][str(size)] for size in sizes], "x", **own)
    title = f"{summary['task']}: N for {100 * summary['accuracy']:g} % of unseen items"
    tokens_axis(left, sizes, title, "training items N")
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8)
    _draw_accuracies(right, summary)
    notes = ["a point is a seed; dotted: the accuracy that is asked for", *not_reached(every)]
    if not summary["alphabets"]:
        notes.append("chance: 1 of |X|")
    note_below(figure, notes)
    return save_figure(figure, f"{stem}.png")


def _draw_accuracies(axis, summary: dict) -> None:
    """Every measured accuracy against N, a colour for each |X|, a marker for each predictor."""
    axis.set(xscale="log", xlabel="training items N", ylabel="unseen in-domain items right")
    axis.set(ylim=(-0.02, 1.05))
    colours = dict(zip(summary["predicted"], shades(len(summary["predicted"])), strict=True))
    form = {"markersize": 3.5, "linewidth": 1, "alpha": 0.8}
    looks = {
        name: {"marker": look(number)["marker"], "linestyle": line, **form}
        for number, (name, line) in enumerate(zip(summary["by"], ("-", "--"), strict=False))
    }
    for size, colour in colours.items():
        for seed, (name, style) in itertools.product(map(str, summary["seeds"]), looks.items()):
            measured = summary["measured"][size][seed][name].items()
            points = sorted((int(n), right / of) for n, (right, of) in measured if of)
            if points:
                axis.plot(*zip(*points, strict=True), color=colour, **style)
        label_only(axis, f"|X| = {size}", color=colour, linewidth=3)
    for name, style in looks.items():
        label_only(axis, name, color="grey", **style)
    axis.axhline(summary["accuracy"], color="grey", linewidth=1, linestyle=":")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

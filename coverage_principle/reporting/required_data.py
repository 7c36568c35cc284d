"""Required data in figures: means over seeds, power laws with intervals, and how they look."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from coverage_principle.coverage.required import (
    TRAINED_EXPONENTS,
    RequiredData,
    asymptotic_exponent,
)
from coverage_principle.reporting.plots import not_reached, note_below, power_law, tokens_axis
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from coverage_principle.statistics import power_law_of_sizes


def summarise(found: RequiredData) -> dict:
    """What was found, as JSON; docs/required_data.md has it field by field.

    A mean is None where a seed did not reach the share. A power law is fitted to all seeds of the
    |X| at which every seed did, if these are at least three, at two |X| or more.
    """
    settings, task = found.settings, found.graph.name
    required: dict[str, dict[str, dict]] = {str(size): {} for size in found.amounts}
    fits = {}
    for k in settings.k:
        every: dict[int, list[int | None]] = {}
        for size, by_seed in found.amounts.items():
            amounts = {str(seed): by_k[k] for seed, by_k in by_seed.items()}
            reached = [amount for amount in amounts.values() if amount is not None]
            every[size] = list(amounts.values())
            whole = len(reached) == len(amounts)
            mean = statistics.mean(reached) if whole else None
            sd = statistics.stdev(reached) if whole and len(reached) > 1 else None
            one = {"by_seed": amounts, "mean": mean, "sd": sd}
            if not found.exact:
                errors = found.errors[size]
                one["standard_errors"] = {str(seed): errors[seed][k] for seed in by_seed}
            required[str(size)][str(k)] = one
        if fit := power_law_of_sizes(every):
            fits[str(k)] = fit
    # The theorem is about the 2-hop task; for others there is no such value to compare with.
    limits = {str(k): asymptotic_exponent(k) for k in settings.k} if task == "twohop" else {}
    names = ("share", "tolerance", "default_seen_ratio", "function_family", "alphabets", "iterate")
    return {
        **{"task": task, "values": list(found.values)},
        **{name: getattr(settings, name) for name in names},
        "sample": None if found.exact else settings.sample,
        **{"k": list(settings.k), "required": required, "fits": fits},
        "asymptotic_exponents": limits,
        "trained_exponent": TRAINED_EXPONENTS.get(task),
    }


def draw_required(summary: dict, stem: Path) -> list[Path]:
    """N against |X| on logarithmic axes, and the exponents beside their limit; PNG and PDF."""
    fits = summary["fits"]
    if fits:
        figure, (axis, right) = new_figure(8.6, 3.8, 1, 2, width_ratios=(3, 2))
        _draw_exponents(right, summary)
    else:
        figure, axis = new_figure(5.0, 3.8)
    every = {}
    for number, k in enumerate(map(str, summary["k"])):
        found = {int(size): by_k[k]["by_seed"] for size, by_k in summary["required"].items()}
        every[f"k = {k}"] = found
        style = {"markersize": 4, "alpha": 0.7, "law": r"N \propto "}
        power_law(axis, number, f"k = {k}", found, fits.get(k), **style)
    title = f"{summary['task']}: N that covers {summary['share']:.0%} of unseen items"
    tokens_axis(axis, map(int, summary["required"]), title, "training items N")
    axis.legend(fontsize=8)
    notes = ["a point is a seed", *not_reached(every)]
    if fits and (lack := [name for name in map(str, summary["k"]) if name not in fits]):
        notes.append(f"too few points for an exponent: k = {', '.join(lack)}")
    note_below(figure, notes)
    return save_figure(figure, f"{stem}.png")


def _draw_exponents(axis, summary: dict) -> None:
    """Each k's fitted exponent with its interval, beside the limit and trained models' exponent."""
    fits, limits, trained = (
        summary[name] for name in ("fits", "asymptotic_exponents", "trained_exponent")
    )
    ks = [int(k) for k in fits]
    middle = np.array([fit["exponent"] for fit in fits.values()])
    low, high = (np.array([fit[end] for fit in fits.values()]) for end in ("low", "high"))
    style = {"fmt": "o", "color": PALETTE[0], "capsize": 3, "markersize": 5}
    label = "fitted, 95 % interval"
    axis.errorbar(ks, middle, [middle - low, high - middle], label=label, **style)
    if limits:
        style = {"color": PALETTE[1], "markersize": 16, "markeredgewidth": 2}
        label = "limit, 2.5 \N{MINUS SIGN} 0.5 / k"
        axis.plot(ks, [limits[str(k)] for k in ks], "_", label=label, **style)
    if trained is not None:
        axis.axhline(trained, color="black", linewidth=1, linestyle=":", label="trained, published")
    axis.set(xticks=ks, xlim=(ks[0] - 0.5, ks[-1] + 0.5), xlabel="k", ylabel="exponent of |X|")
    axis.legend(fontsize=8, loc="best")

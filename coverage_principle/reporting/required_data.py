"""Required data in figures: means over seeds, power laws with intervals, and how they look."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from coverage_principle.coverage.required import RequiredData, asymptotic_exponent
from coverage_principle.reporting.statistics import fit_power_law
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure

_MARKERS = "osD^vP*X"


def summarise(found: RequiredData) -> dict:
    """What was found, as JSON; docs/required_data.md has it field by field.

    A mean is None where a seed did not reach the share. A power law is fitted to all (|X|, seed)
    of a k if there are at least three of them, at two |X| or more.
    """
    search = found.search
    required: dict[str, dict[str, dict]] = {}
    fits, points = {}, {}
    for k in search.ks:
        points[k] = []
        for size, by_seed in found.amounts.items():
            amounts = {seed: by_k[k] for seed, by_k in by_seed.items()}
            reached = [amount for amount in amounts.values() if amount is not None]
            points[k] += [(size, amount) for amount in reached]
            whole = len(reached) == len(amounts)
            required.setdefault(str(size), {})[str(k)] = {
                "by_seed": {str(seed): amount for seed, amount in amounts.items()},
                "mean": statistics.mean(reached) if whole else None,
                "sd": statistics.stdev(reached) if whole and len(reached) > 1 else None,
            }
        if len(points[k]) >= 3 and len({size for size, _ in points[k]}) >= 2:
            fits[str(k)] = vars(fit_power_law(*zip(*points[k], strict=True)))
    # The theorem is about the 2-hop task; for others there is no such value to compare with.
    asymptotic = {str(k): asymptotic_exponent(k) for k in search.ks}
    return {
        "task": search.graph.name,
        "value": search.value,
        "share": search.share,
        "tolerance": search.tolerance,
        "default_seen_ratio": search.seen_ratio,
        "function_family": search.function_family,
        "k": list(search.ks),
        "required": required,
        "fits": fits,
        "asymptotic_exponents": asymptotic if search.graph.name == "twohop" else {},
    }


def draw_required(summary: dict, stem: Path) -> list[Path]:
    """N against |X| on logarithmic axes, and the exponents beside their limit; PNG and PDF."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    ks = [k for k in map(str, summary["k"]) if k in summary["fits"]]
    figure, axes = new_figure(
        8.6 if ks else 5.0, 3.8, 1, 2 if ks else 1, width_ratios=(3, 2) if ks else None
    )
    axis, right = axes if ks else (axes, None)
    sizes = sorted(map(int, summary["required"]))
    for i, k in enumerate(map(str, summary["k"])):
        colour = PALETTE[i % len(PALETTE)]
        points = [
            (size, amount)
            for size in sizes
            for amount in summary["required"][str(size)][k]["by_seed"].values()
            if amount is not None
        ]
        if not points:
            continue
        label = f"k = {k}"
        if fit := summary["fits"].get(k):
            label += rf": $N \propto |X|^{{{fit['exponent']:.2f}}}$"
            line = np.array([sizes[0], sizes[-1]], dtype=float)
            axis.plot(line, fit["factor"] * line ** fit["exponent"], color=colour, linewidth=1)
        axis.plot(
            *zip(*points, strict=True),
            _MARKERS[i % len(_MARKERS)],
            color=colour,
            markersize=4,
            alpha=0.7,
            label=label,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlabel("tokens |X|")
    axis.set_ylabel("training items N")
    axis.set_title(f"{summary['task']}: N that covers {summary['share']:.0%} of unseen items")
    axis.legend(fontsize=8)
    if ks:
        _draw_exponents(right, summary, ks)
    return save_figure(figure, f"{stem}.png")


def _draw_exponents(axis, summary: dict, ks: list[str]) -> None:
    """Each k's fitted exponent with its interval, beside the limit where there is one."""
    numbers = [int(k) for k in ks]
    fits = [summary["fits"][k] for k in ks]
    middle = np.array([fit["exponent"] for fit in fits])
    error = np.array([[m - f["low"], f["high"] - m] for m, f in zip(middle, fits, strict=True)]).T
    axis.errorbar(
        numbers,
        middle,
        error,
        fmt="o",
        color=PALETTE[0],
        capsize=3,
        markersize=5,
        label="fitted, 95 % interval",
    )
    if asymptotic := summary["asymptotic_exponents"]:
        axis.plot(
            numbers,
            [asymptotic[k] for k in ks],
            "_",
            color=PALETTE[1],
            markersize=16,
            markeredgewidth=2,
            label=r"limit, $2.5 - 0.5 / k$",
        )
    axis.set_xticks(numbers)
    axis.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axis.set_xlabel("k")
    axis.set_ylabel("exponent of |X|")
    axis.legend(fontsize=8, loc="lower right")

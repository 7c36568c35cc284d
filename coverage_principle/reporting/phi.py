"""Coverage against phi as JSON and as a figure."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from coverage_principle.coverage.by_phi import CoverageByPhi, median_cutoff
from coverage_principle.reporting.plots import legend_beside, look, note_below, with_interval
from coverage_principle.reporting.style import new_figure, save_figure
from coverage_principle.statistics import rate_of
from simpletransformers.words import counted


def summarise_phi(found: CoverageByPhi) -> dict:
    """What was found, as JSON; docs/coverage_by_phi.md has it field by field."""
    coverage: dict[str, dict[str, dict]] = {}
    for (entities, phi), by_seed in sorted(found.counts.items()):
        shares = {
            str(k): {str(seed): round(counts.share(k), 6) for seed, counts in by_seed.items()}
            for k in found.ks
        }
        coverage.setdefault(str(entities), {})[f"{phi:g}"] = {
            "unseen": {str(seed): counts.unseen for seed, counts in by_seed.items()},
            "share": shares,
            "mean": {k: statistics.mean(shares[k].values()) for k in shares},
            "median_k_cutoff": statistics.median(map(median_cutoff, by_seed.values())),
        }
    return {**asdict(found.settings), "coverage": coverage}


def draw_phi(summary: dict, stem: Path) -> list[Path]:
    """Coverage at the first k against phi by number of entities, and by k in the largest world."""
    k, coverage = str(summary["k"][0]), summary["coverage"]
    figure, (left, right) = new_figure(10.0, 3.6, 1, 2, sharey=True)
    for number, (entities, by_phi) in enumerate(coverage.items()):
        shares = [rate_of(list(one["share"][k].values())) for one in by_phi.values()]
        with_interval(
            *(left, list(map(float, by_phi)), shares), label=f"{int(entities):,}", **look(number)
        )
    largest = list(coverage)[-1]
    for number, (phi, one) in enumerate(coverage[largest].items()):
        ks = list(map(int, one["mean"]))
        right.plot(
            ks, list(one["mean"].values()), label=f"phi = {phi}", markersize=3, **look(number)
        )
    share = "share of held-out in-domain items"
    left.set(xlabel="phi", ylabel=share, title=f"covered at k = {k}", ylim=(-0.02, 1.05))
    left.legend(title="entities", fontsize=8, title_fontsize=8)
    right.set(xlabel="k", title=f"covered at k, {counted(int(largest), 'entity', 'entities')}")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(right)
    n = len(summary["seeds"])
    told = f"means over {n} seeds; bars: 95 % intervals over them, Student's" if n > 1 else "1 seed"
    note_below(figure, [told])
    return save_figure(figure, f"{stem}.png")

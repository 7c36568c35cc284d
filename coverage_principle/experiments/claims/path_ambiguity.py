"""Claim f: a slot that reaches the answer by two paths (non-tree), against 2-hop at equal data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coverage_principle.data import looking_into, read_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import (
    Rate,
    mean_difference,
    mean_of,
    rate_difference,
    rate_over_seeds,
)
from simpletransformers.words import counted

TITLE = "Path ambiguity: non-tree against 2-hop at equal data"
PUBLISHED = (
    "non-tree fails even with nearly all in-domain data (N = 50,000 of about 61,000, |X| = 50): "
    "states cluster by (b, x2) and not by b (IICG near zero); chain of thought helps only in part."
)

SIZES = base.by_scale(180, 3000, 50000, 50000)
TASKS_OF = {"2-hop": ("twohop", False), "non-tree": ("nontree", False)}
TASKS_OF |= {f"{name}, CoT": (task, True) for name, (task, _) in TASKS_OF.items()}
#: What states are grouped by, and where: at x3 no state holds the token x2 by itself, so it
#: clusters by (b, x2) only if x2 was brought there.
KEYS = ("b", "b,x2")
SLOT = "x3"


def collect(sweep: Sweep, scale: str) -> dict:
    """Both tasks with and without chain of thought: accuracy, and IICG by each key."""
    same = {"size": SIZES[scale]}
    same["analyse"] = {"cluster": {"group_by": list(KEYS), "k_groups": "none"}}
    variants = {
        name: {"label": task + " CoT" * cot, "task": task, "data": {"cot": cot}, **same}
        for name, (task, cot) in TASKS_OF.items()
    }

    def measure(run: RunSettings, _record: Mapping) -> dict:
        last = sweep.history(run)[-1]["eval"]["type_0"]
        final = last.get("free_exact_match", last["answer_accuracy"])
        iicg = {key: _iicg(sweep.folder(run) / "cluster", key) for key in KEYS}
        shown = base.over_training(sweep, run, "train_inferred", "type_0")
        return {**shown, "final": final, "iicg": iicg}

    tasks = base.measured(sweep, scale, variants, measure)
    return {**base.world(scale), "size": SIZES[scale], "keys": list(KEYS), "tasks": tasks}


def _iicg(folder: Path, key: str) -> dict:
    """How much the states of type_0 items at x3 cluster by a key: the layer with the largest IICG.

    Group-balanced, since groups by (b, x2) are much smaller than groups by b. The state after the
    final layer norm is left aside.
    """
    for file in sorted(folder.rglob("metrics.json")):
        metrics = read_json(file, dict)
        with looking_into(file, "a clustering"):
            if metrics["grouped_by"]["value"] != key:
                continue
            split = [c for c in metrics["cells"] if c["split"] == "id_test" and not c["after_ln_f"]]
            inside = [cell for cell in split if cell["iicg_balanced"] is not None]
            here = [cell for cell in inside if cell["slot"] == SLOT]
            best = max(here, key=lambda cell: cell["iicg_balanced"])
            permuted = (best["iicg_balanced_permuted"] or {}).get("mean")
            cells = {f"layer {c['layer']}, {c['slot']}": c["iicg_balanced"] for c in inside}
            found = {"peak": best["iicg_balanced"], "layer": best["layer"]}
            return {**found, "permuted": permuted, "cells": cells}
    raise InputError(f"{folder} holds no clustering by {key}")


def _final(runs: Mapping) -> Rate:
    finals = [run["final"] for run in runs.values()]
    return rate_over_seeds(finals, [run["items"]["type_0"] for run in runs.values()])


def _peaks(runs: Mapping, key: str) -> list[float]:
    return [run["iicg"][key]["peak"] for run in runs.values()]


def find(numbers: Mapping) -> list[str]:
    tasks = numbers["tasks"]
    finals = {name: _final(runs) for name, runs in tasks.items()}
    seeds = counted(finals["2-hop"].n, "seed")
    sentences = [
        "In a non-tree task a token, x2, reaches the answer by two paths. With "
        f"{numbers['num_tokens']} tokens and {numbers['size']:,} training items, accuracy on "
        "unseen compositions of seen facts is "
        f"{', '.join(f'{rate} for {name}' for name, rate in finals.items())} ({seeds} each, with "
        f"{base.span(run['items']['type_0'] for runs in tasks.values() for run in runs.values())} "
        f"such test items; {base.RATE_INTERVALS})."
    ]
    for plain, ambiguous in (("2-hop", "non-tree"), ("2-hop, CoT", "non-tree, CoT")):
        gap = rate_difference(finals[plain], finals[ambiguous])
        verdict = "clearly below" if gap.above_zero else "not clearly below"
        sentences.append(f"{ambiguous} is {verdict} {plain}: difference {gap}.")
    sentences.append(
        "IICG is the mean cosine of states with one value less that of states with different ones "
        "(0: no clustering), each value counting alike, in the layer where it is largest; means "
        f"over {seeds}, Student's 95 % intervals."
    )
    for name, runs in tasks.items():
        by_b, by_both = (_peaks(runs, key) for key in numbers["keys"])
        plain = mean_of(by_b)
        words = f"{name}: IICG at {SLOT} is {plain} by b and {mean_of(by_both)} by (b, x2)"
        if mean_difference(by_both, by_b).above_zero:
            words += "; the states depend on x2 beside b"
        if plain.low is not None and not plain.above_zero:
            words += "; by b alone it is not clearly above 0"
        sentences.append(words + ".")
    return sentences


def tables(numbers: Mapping) -> list[base.Table]:
    header, rows = ["task", "type_0 accuracy"], []
    for name, runs in numbers["tasks"].items():
        rows.append([name, str(_final(runs))])
        for key in numbers["keys"]:
            first = next(iter(runs.values()))["iicg"][key]
            rows[-1] += [str(mean_of(_peaks(runs, key))), f"{first['layer']}"]
    for key in numbers["keys"]:
        header += [f"IICG at {SLOT} by ({key})", "layer (first seed)"]
    title = f"N = {numbers['size']:,}; {base.RATE_INTERVALS}; of IICG, Student's over seeds. With "
    title += "CoT, accuracy is exact match of what the model writes by itself"
    return [base.Table(title, header, rows)]


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy over training of each task, and its IICG by b against (b, x2)."""
    figure, (left, right) = style.new_figure(9.6, 3.6, 1, 2)
    tasks = numbers["tasks"]
    for number, (name, seeds) in enumerate(tasks.items()):
        plots.mean_curve(left, seeds, "type_0", color=plots.look(number)["color"], label=name)
    title = "unseen compositions of seen facts (type_0)"
    plots.accuracy_axis(left, title, numbers["chance"])
    left.set_ylabel("accuracy of the answer, mean over seeds")
    left.legend(fontsize=7)
    keys = numbers["keys"]
    series = {f"grouped by ({k})": [_peaks(runs, k) for runs in tasks.values()] for k in keys}
    plots.bars_of_seeds(right, series, tasks, span=0.6)
    right.axhline(0, color="black", linewidth=0.8)
    title = "do type_0 states cluster by b, or by (b, x2)?"
    right.set(ylabel="IICG at x3, largest of layers; dots: seeds", title=title)
    right.legend(fontsize=7)
    return style.save_figure(figure, stem)


CLAIM = base.Claim("f", "path_ambiguity", TITLE, PUBLISHED, collect, find, tables, draw)

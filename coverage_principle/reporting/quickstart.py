"""The quickstart's summary and report: the numbers of all stages for a few data sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from coverage_principle.circuits import IICG, METRICS
from coverage_principle.data import read_json, write_json, write_text
from coverage_principle.reporting import findings, html
from coverage_principle.reporting.circuit_figures import heat_maps, split_cells
from coverage_principle.reporting.coverage_figures import k_sweep_curve
from coverage_principle.reporting.training_figures import (
    accuracy_by_k,
    k_cutoff_bars,
    k_cutoff_curves,
    read_history,
    type_curves,
)

_SPLITS = {"id_test": "type_0", "ood": "f1 fact unseen"}


def collect(
    files: Mapping[int, Mapping[str, Path]],
    *,
    settings: Mapping[str, object],
    commands: Sequence[str],
    seconds: Mapping[str, float],
) -> dict:
    """Every number of the pipeline, JSON-ready, and the sentences that they allow.

    ``files`` maps a training-set size to its outputs: ``metadata``, ``k_sweep``, ``collapse``,
    ``tracing`` (JSON files) and ``run`` (a folder). ``commands`` and ``seconds`` tell what was run
    and how long each stage took.
    """
    sizes = {}
    for size, outputs in files.items():
        metadata = read_json(outputs["metadata"])
        history = read_history(outputs["run"])
        collapse, tracing = read_json(outputs["collapse"]), read_json(outputs["tracing"])
        sizes[str(size)] = {
            "data": {
                key: metadata[key] for key in ("counts", "compositions", "primitives", "arguments")
            },
            "k_sweep": read_json(outputs["k_sweep"]),
            "history": [{key: e[key] for key in ("step", "eval")} for e in history],
            "accuracy": history[-1]["eval"],
            "clustering": {
                "value": collapse["grouped_by"]["value"],
                "cells": [c for c in collapse["cells"] if c["split"] in _SPLITS],
            },
            "tracing": {
                "metric": tracing["metric"],
                "num_layers": tracing["num_layers"],
                "checkpoints": {
                    name: {"id_test": splits["id_test"]}
                    for name, splits in tracing["checkpoints"].items()
                },
            },
        }
    summary = {
        "settings": dict(settings),
        "chance": 1 / settings["num_tokens"],
        "commands": list(commands),
        "seconds": dict(seconds),
        "sizes": sizes,
    }
    return {**summary, "findings": [s for group in _sentences(summary).values() for s in group]}


def _sentences(summary: Mapping) -> dict[str, list[str]]:
    """What each figure shows, a sentence for each size."""
    sizes = {int(size): numbers for size, numbers in summary["sizes"].items()}
    return {
        "k_sweep": [findings.k_sweep(n, run["k_sweep"]) for n, run in sizes.items()],
        "types": [
            findings.generalisation(n, run["accuracy"], chance=summary["chance"])
            for n, run in sizes.items()
        ],
        "k_cutoff": [
            findings.accuracy_against_k(n, accuracy_by_k(run["accuracy"]))
            for n, run in sizes.items()
        ],
        "clustering": [
            findings.clustering(n, run["clustering"]["cells"], value=run["clustering"]["value"])
            for n, run in sizes.items()
        ],
        "tracing": [
            findings.tracing(
                n,
                _traced(run["tracing"]),
                value=run["clustering"]["value"],
                last_layer=run["tracing"]["num_layers"],
            )
            for n, run in sizes.items()
        ],
    }


def _traced(tracing: Mapping) -> Mapping:
    return list(tracing["checkpoints"].values())[-1]["id_test"]


def summary_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: accuracy by type and by k-cutoff, peaks of IICG and of tracing."""
    sizes = summary["sizes"]
    rows = []
    for kind in sorted({g for run in sizes.values() for g in run["accuracy"] if "/" not in g}):
        rows.append(
            [f"accuracy, {kind}", *(_cell(run["accuracy"], kind) for run in sizes.values())]
        )
    by_k = [accuracy_by_k(run["accuracy"]) for run in sizes.values()]
    for k in sorted({k for table in by_k for k in table}):
        shown = [f"{t[k][0]:.2f} (n={t[k][1]:,})" if k in t else "-" for t in by_k]
        rows.append([f"accuracy, k-cutoff {k}", *shown])
    peaks = [findings.peak(run["clustering"]["cells"], "id_test") for run in sizes.values()]
    rows.append(
        [
            "IICG peak, type_0",
            *(
                "-" if p is None else f"{p['iicg']:.2f} (layer {p['layer']}, {p['slot']})"
                for p in peaks
            ),
        ]
    )
    rows.append(["tracing peak, type_0", *(_tracing_peak(r["tracing"]) for r in sizes.values())])
    return ["", *(f"N = {int(size):,}" for size in sizes)], rows


def _cell(groups: Mapping, name: str) -> str:
    group = groups.get(name)
    return "-" if group is None else f"{group['answer_accuracy']:.2f} (n={group['n']:,})"


def _tracing_peak(tracing: Mapping) -> str:
    """The strongest cell below the last layer."""
    cells = [
        c
        for c in _traced(tracing)["cells"]
        if c["layer"] < tracing["num_layers"] and c["published"]["n"]
    ]
    if not cells:
        return "-"
    best = max(cells, key=lambda c: c["published"]["both"]["rate"])
    rate = best["published"]["both"]["rate"]
    return f"{100 * rate:.0f} % (layer {best['layer']}, {best['slot']})"


# ------------------------------------------------------------------------------------- the page


def write_report(summary: Mapping, folder: Path) -> Path:
    """Draw the figures, write ``summary.json`` and the self-contained ``report.html``; its path."""
    figures = _draw(summary, folder / "figures")
    shown = _sentences(summary)
    settings = summary["settings"]
    header, rows = summary_table(summary)
    sizes = " and ".join(f"{int(size):,}" for size in summary["sizes"])
    lead = (
        f"A 2-hop world of {settings['num_tokens']} tokens, b = f1(x1, x2) and t = f2(b, x3), with "
        f"{sizes} training items; a GPT-2 of {settings['n_layer']} layers, "
        f"{settings['n_head']} heads and {settings['n_embd']} dimensions trained from scratch on "
        f"each for {settings['max_steps']:,} steps of {settings['train_batch_size']} "
        f"(seed {settings['seed']}). Which unseen compositions does it answer, and how?"
    )
    blocks = [html.table(header, rows)]
    if settings["preset"] == "tiny":
        blocks.append(
            html.text("The tiny preset only checks that everything runs: expect no effect in it.")
        )
    blocks += [html.heading("Data"), html.table(*_data_table(summary))]
    titles = {
        "k_sweep": "Coverage: how firmly the unseen compositions are covered",
        "types": "Accuracy over training, by type",
        "k_cutoff": "Accuracy by k-cutoff",
        "clustering": "Cosine clustering of the residual stream by b (IICG)",
        "tracing": "Causal tracing of b",
    }
    for name, title in titles.items():
        blocks.append(html.heading(title))
        for number, path in enumerate(figures[name], start=1):
            last = number == len(figures[name])
            blocks.append(html.figure(path, shown[name] if last else [_ABOUT[path.stem]]))
        blocks.append(html.text(_READING[name]))
    blocks += [
        html.heading("What was run"),
        html.code(summary["commands"]),
        html.table(["stage", "seconds"], [[k, f"{v:.1f}"] for k, v in summary["seconds"].items()]),
    ]
    report = folder / "report.html"
    write_json(folder / "summary.json", summary)
    write_text(report, html.page("Coverage principle: quickstart", lead, blocks))
    return report


_ABOUT = {
    "accuracy_by_k_over_training": "The same models over training: a line for each k-cutoff with "
    "at least 20 items.",
}

_READING = {
    "k_sweep": "An item is covered at k if substitutions of fragments, each seen to act alike in "
    "at least k shared contexts, link it to a training item. At the smallest k, chance agreement "
    "alone can join fragments that differ, so coverage there says little; determine_coverage.py "
    "prints at which k it does.",
    "types": "type_0: every fact of the item is used in training, their combination is not. Other "
    "types hold at least one fact that training never used. Dotted line: chance.",
    "k_cutoff": "The k-cutoff of an item is the largest k at which it is covered; 0 is not at "
    "all. Bars with 95 % Wilson intervals.",
    "clustering": "IICG: mean cosine between states of items with the same b minus that between "
    "states of items with different b, one item for each (x1, x2). The top row is the last "
    "layer after the final layer norm, the row below it the state before.",
    "tracing": "Share of samples whose answer becomes that of a run with another x2 (and so "
    "another b) when one state is taken from that run. At the last layer only the last position "
    "can matter, by construction.",
}


def _data_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    runs = summary["sizes"].values()
    rows = [
        ["training items", *(f"{r['data']['counts']['train']:,}" for r in runs)],
        ["trainable compositions", *(f"{r['data']['compositions']['trainable']:,}" for r in runs)],
    ]
    for j, primitive in enumerate(next(iter(runs))["data"]["primitives"]):
        shares = [
            "{seen_in_train:,} of {facts:,}".format(**r["data"]["primitives"][j]) for r in runs
        ]
        rows.append([f"facts of {primitive['name']} used in training", *shares])
    for label in next(iter(runs))["data"]["counts"]["test"]:
        rows.append(
            [f"test items, {label}", *(f"{r['data']['counts']['test'][label]:,}" for r in runs)]
        )
    return ["", *(f"N = {int(size):,}" for size in summary["sizes"])], rows


def _draw(summary: Mapping, folder: Path) -> dict[str, list[Path]]:
    """The figures' PNG files by section."""
    runs = {f"N = {int(size):,}": run for size, run in summary["sizes"].items()}
    chance = summary["chance"]
    histories = {title: run["history"] for title, run in runs.items()}
    finals = {title: run["accuracy"] for title, run in runs.items()}
    types = sorted({g for groups in finals.values() for g in groups if "/" not in g})
    cells = {
        f"{title}, {about}": split_cells(run["clustering"], split)
        for title, run in runs.items()
        for split, about in _SPLITS.items()
    }
    traced = {
        f"{title}, {_SPLITS['id_test']}": _traced(run["tracing"])["cells"]
        for title, run in runs.items()
    }
    sweeps = {title: run["k_sweep"] for title, run in runs.items()}
    figures = {"k_sweep": [k_sweep_curve(sweeps, folder / "k_sweep")]}
    figures["types"] = [
        type_curves(histories, folder / "accuracy_by_type", chance=chance, types=types)
    ]
    figures["k_cutoff"] = []
    if any(accuracy_by_k(groups) for groups in finals.values()):
        figures["k_cutoff"] = [
            k_cutoff_curves(histories, folder / "accuracy_by_k_over_training", chance=chance),
            k_cutoff_bars(finals, folder / "accuracy_by_k", chance=chance),
        ]
    figures["clustering"] = [heat_maps(cells, folder / "iicg", IICG)]
    figures["tracing"] = [
        heat_maps(traced, folder / "tracing", METRICS["rank"].shown, subset="published")
    ]
    return {name: [written[0] for written in drawn] for name, drawn in figures.items()}

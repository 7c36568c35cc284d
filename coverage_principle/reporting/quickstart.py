"""The quickstart's summary and report: the numbers of all stages for a few data sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from coverage_principle.circuits import IICG, METRICS
from coverage_principle.data import read_json, write_json, write_text
from coverage_principle.reporting import findings, html
from coverage_principle.reporting.circuit_figures import heat_maps, split_cells
from coverage_principle.reporting.coverage_figures import k_sweep_curve
from coverage_principle.reporting.training_figures import accuracy_by_k, accuracy_figures
from simpletransformers.seq2seq.run_folder import RunFolder

_SPLITS = {"id_test": "type_0", "ood": "f1 fact unseen"}


def collect(
    runs: Mapping[int, Mapping[str, Path]],
    k_sweeps: Mapping[int, Mapping],
    *,
    settings: Mapping[str, object],
    commands: Sequence[str],
    seconds: Mapping[str, float],
) -> dict:
    """Every number of the runs, JSON-ready, and the sentences that they allow.

    ``runs`` maps a training-set size to its outputs: ``metadata``, ``cluster``, ``trace`` (JSON
    files) and ``model`` (the folder of the training), ``k_sweeps`` to its coverage at each k.
    """
    sizes = {str(n): {"k_sweep": k_sweeps[n], **_numbers(outputs)} for n, outputs in runs.items()}
    summary = {"settings": dict(settings), "chance": 1 / settings["num_tokens"]}
    summary |= {"commands": list(commands), "seconds": dict(seconds), "sizes": sizes}
    return {**summary, "findings": [s for group in _sentences(summary).values() for s in group]}


def _numbers(outputs: Mapping[str, Path]) -> dict:
    """What one run came to."""
    metadata, history = read_json(outputs["metadata"]), RunFolder(outputs["model"]).evaluations()
    clusters, traces = read_json(outputs["cluster"]), read_json(outputs["trace"])
    return {
        "data": {k: metadata[k] for k in ("counts", "compositions", "primitives", "arguments")},
        "history": [{key: e[key] for key in ("step", "eval")} for e in history],
        "accuracy": history[-1]["eval"],
        "clustering": {
            "value": clusters["grouped_by"]["value"],
            "cells": [c for c in clusters["cells"] if c["split"] in _SPLITS],
        },
        "tracing": {
            "metric": traces["metric"],
            "num_layers": traces["num_layers"],
            "checkpoints": {n: {"id_test": s["id_test"]} for n, s in traces["checkpoints"].items()},
        },
    }


def _sentences(summary: Mapping) -> dict[str, list[str]]:
    """What each figure shows, a sentence for each size."""
    shown: dict[str, list[str]] = {}
    for size, run in summary["sizes"].items():
        n, value, traced = int(size), run["clustering"]["value"], run["tracing"]
        last = traced["num_layers"]
        for name, sentence in {
            "k_sweep": findings.k_sweep(n, run["k_sweep"]),
            "types": findings.generalisation(n, run["accuracy"], chance=summary["chance"]),
            "k_cutoff": findings.accuracy_against_k(n, accuracy_by_k(run["accuracy"])),
            "clustering": findings.clustering(n, run["clustering"]["cells"], value=value),
            "tracing": findings.tracing(n, _traced(traced), value=value, last_layer=last),
        }.items():
            shown.setdefault(name, []).append(sentence)
    return shown


def _traced(tracing: Mapping) -> Mapping:
    return list(tracing["checkpoints"].values())[-1]["id_test"]


def summary_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: accuracy by type and by k-cutoff, peaks of IICG and of tracing."""
    runs = summary["sizes"].values()
    groups = [run["accuracy"] for run in runs]
    by_k = [
        {k: {"answer_accuracy": a, "n": n} for k, (a, n) in accuracy_by_k(one).items()}
        for one in groups
    ]
    types = sorted({group for one in groups for group in one if "/" not in group})
    rows = [[f"accuracy, {kind}", *(_cell(one.get(kind)) for one in groups)] for kind in types]
    for k in sorted(set().union(*by_k)):
        rows.append([f"accuracy, k-cutoff {k}", *(_cell(one.get(k)) for one in by_k)])
    rows.append(["IICG peak, type_0", *map(_iicg_peak, runs)])
    rows.append(["tracing peak, type_0", *map(_tracing_peak, runs)])
    return _header(summary), rows


def _header(summary: Mapping) -> list[str]:
    return ["", *(f"N = {int(size):,}" for size in summary["sizes"])]


def _cell(group: Mapping | None) -> str:
    return "-" if group is None else f"{group['answer_accuracy']:.2f} (n={group['n']:,})"


def _iicg_peak(run: Mapping) -> str:
    peak = findings.peak(run["clustering"]["cells"], "id_test")
    return "-" if peak is None else f"{peak['iicg']:.2f} (layer {peak['layer']}, {peak['slot']})"


def _tracing_peak(run: Mapping) -> str:
    """The strongest cell below the last layer."""
    tracing = run["tracing"]
    cells = [
        (c["published"]["both"]["rate"], c["layer"], c["slot"])
        for c in _traced(tracing)["cells"]
        if c["layer"] < tracing["num_layers"] and c["published"]["n"]
    ]
    if not cells:
        return "-"
    rate, layer, slot = max(cells, key=lambda cell: cell[0])
    return f"{100 * rate:.0f} % (layer {layer}, {slot})"


def write_report(summary: Mapping, folder: Path) -> Path:
    """Draw the figures, write ``summary.json`` and the self-contained ``report.html``; its path."""
    figures, shown = _draw(summary, folder / "figures"), _sentences(summary)
    settings = summary["settings"]
    sizes = " and ".join(f"{int(size):,}" for size in summary["sizes"])
    lead = (
        f"A 2-hop task of {settings['num_tokens']} tokens, b = f1(x1, x2) and t = f2(b, x3), with "
        f"{sizes} training items; a GPT-2 of {settings['n_layer']} layers, "
        f"{settings['n_head']} heads and {settings['n_embd']} dimensions trained from scratch on "
        f"each for {settings['max_steps']:,} steps of {settings['train_batch_size']} "
        f"(seed {settings['seed']}). Which unseen compositions does it answer, and how?"
    )
    blocks = [html.table(*summary_table(summary))]
    if settings["preset"] == "tiny":
        blocks.append(
            html.text("The tiny preset only checks that everything runs: expect no effect in it.")
        )
    blocks += [html.heading("Data"), html.table(*_data_table(summary))]
    for name, (title, reading) in _SECTIONS.items():
        blocks.append(html.heading(title))
        *before, last = figures[name] or [None]
        blocks += [html.figure(path, [_OVER_TRAINING]) for path in before]
        blocks += [] if last is None else [html.figure(last, shown[name])]
        blocks.append(html.text(reading))
    blocks += [
        html.heading("What was run"),
        html.code(summary["commands"]),
        html.table(["stage", "seconds"], [[k, f"{v:.1f}"] for k, v in summary["seconds"].items()]),
    ]
    report = folder / "report.html"
    write_json(folder / "summary.json", summary)
    write_text(report, html.page("Coverage principle: quickstart", lead, blocks))
    return report


_OVER_TRAINING = "The same models over training: a line for each k-cutoff with at least 20 items."

#: The title of each figure's section, and how the figure is read.
_SECTIONS = {
    "k_sweep": (
        "Coverage: how firmly the unseen compositions are covered",
        "An item is covered at k if substitutions of fragments, each seen to act alike in at least "
        "k shared contexts, link it to a training item. At the smallest k, chance agreement alone "
        "can join fragments that differ, so coverage there says little; determine_coverage.py "
        "prints at which k it does.",
    ),
    "types": (
        "Accuracy over training, by type",
        "type_0: every fact of the item is used in training, their combination is not. Other "
        "types hold at least one fact that training never used. Dotted line: chance.",
    ),
    "k_cutoff": (
        "Accuracy by k-cutoff",
        "The k-cutoff of an item is the largest k at which it is covered; 0 is not at all. Bars "
        "with 95 % Wilson intervals.",
    ),
    "clustering": (
        "Cosine clustering of the residual stream by b (IICG)",
        "IICG: mean cosine between states of items with the same b minus that between states of "
        "items with different b, one item for each (x1, x2). The top row is the last layer after "
        "the final layer norm, the row below it the state before.",
    ),
    "tracing": (
        "Causal tracing of b",
        "Share of samples whose answer becomes that of a run with another x2 (and so another b) "
        "when one state is taken from that run. At the last layer only the last position can "
        "matter, by construction.",
    ),
}


def _data_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    columns = []
    for run in summary["sizes"].values():
        data = run["data"]
        column = {
            "training items": f"{data['counts']['train']:,}",
            "trainable compositions": f"{data['compositions']['trainable']:,}",
        }
        for one in data["primitives"]:
            used = f"{one['seen_in_train']:,} of {one['facts']:,}"
            column[f"facts of {one['name']} used in training"] = used
        tests = data["counts"]["test"].items()
        columns.append(column | {f"test items, {kind}": f"{count:,}" for kind, count in tests})
    return _header(summary), [[row, *(c[row] for c in columns)] for row in columns[0]]


def _draw(summary: Mapping, folder: Path) -> dict[str, list[Path]]:
    """The figures' PNG files by section."""
    runs = {f"N = {int(size):,}": run for size, run in summary["sizes"].items()}
    histories = {title: run["history"] for title, run in runs.items()}
    cells = {
        f"{title}, {about}": split_cells(run["clustering"], split)
        for title, run in runs.items()
        for split, about in _SPLITS.items()
    }
    tested = _SPLITS["id_test"]
    traced = {f"{title}, {tested}": _traced(run["tracing"])["cells"] for title, run in runs.items()}
    sweeps = {title: run["k_sweep"] for title, run in runs.items()}
    by_type, *by_k = accuracy_figures(histories, folder, chance=summary["chance"])
    shown = METRICS["rank"].shown
    return {
        "k_sweep": [k_sweep_curve(sweeps, folder / "k_sweep")[0]],
        "types": [by_type],
        "k_cutoff": by_k,
        "clustering": [heat_maps(cells, folder / "iicg", IICG)[0]],
        "tracing": [heat_maps(traced, folder / "tracing", shown, subset="published")[0]],
    }

"""The quickstart's summary and report: the numbers of all stages for a few data sizes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coverage_principle.circuits import IICG, LENS_READOUTS, METRICS, PROBE_READOUTS, Shown
from coverage_principle.data import dump_json, looking_into, read_json, write_together
from coverage_principle.reporting import findings, html
from coverage_principle.reporting.circuit_figures import heat_maps, moved_parts, split_cells
from coverage_principle.reporting.coverage_figures import k_sweep_curve
from coverage_principle.reporting.grids import layer_name, reference_words
from coverage_principle.reporting.run_card import type_names
from coverage_principle.reporting.training_figures import accuracy_by_k, accuracy_figures
from simpletransformers.seq2seq.run_folder import RunFolder

#: The analyses whose results are shown.
ANALYSES = ("cluster", "lens", "probe", "subspace", "trace")
_SPLITS = {"id_test": "type_0", "ood": "f1 fact unseen"}
_LENS, _PROBE = LENS_READOUTS["reciprocal_rank"].shown, PROBE_READOUTS["accuracy"].shown


def collect(
    runs: Mapping[int, Mapping[str, Path]],
    k_sweeps: Mapping[int, Mapping],
    *,
    settings: Mapping[str, object],
    commands: Sequence[str],
    seconds: Mapping[str, float],
) -> dict:
    """Every number of the runs, JSON-ready, and the sentences that they allow.

    ``runs`` maps a training-set size to its outputs: ``metadata`` and ``ANALYSES`` (JSON files) and
    ``model`` (the folder of the training), ``k_sweeps`` to its coverage at each k.
    """
    sizes = {str(n): {"k_sweep": k_sweeps[n], **_numbers(outputs)} for n, outputs in runs.items()}
    summary = {"settings": dict(settings), "chance": 1 / settings["num_tokens"]}
    summary |= {"commands": list(commands), "seconds": dict(seconds), "sizes": sizes}
    models = (RunFolder(outputs["model"]) for outputs in runs.values())
    summary["types"] = {k: v for run in models for k, v in type_names(run.settings()).items()}
    return {**summary, "findings": [s for group in _sentences(summary).values() for s in group]}


def _numbers(outputs: Mapping[str, Path]) -> dict:
    """What one run came to."""
    history = RunFolder(outputs["model"]).evaluations()
    files = {name: read_json(outputs[name], dict) for name in ("metadata", *ANALYSES)}
    with looking_into(outputs["model"].parent, "a run"):
        return _of_files(history, **files)


def _of_files(
    history: list,
    metadata: Mapping,
    cluster: Mapping,
    lens: Mapping,
    probe: Mapping,
    subspace: Mapping,
    trace: Mapping,
) -> dict:
    value = cluster["grouped_by"]["value"]
    return {
        "data": {k: metadata[k] for k in ("counts", "compositions", "primitives", "arguments")},
        "history": [{key: e[key] for key in ("step", "eval")} for e in history],
        "accuracy": history[-1]["eval"],
        "clustering": {
            "value": value,
            "cells": [c for c in cluster["cells"] if c["split"] in _SPLITS],
        },
        "lens": {"cells": [c for c in _last(lens) if c["value"] == value]},
        "probe": {"cells": [c for c in _last(probe) if c["value"] == value]},
        "subspace": {"cells": _last(subspace)["cells"]},
        "tracing": {
            "metric": trace["metric"],
            "num_layers": trace["num_layers"],
            "checkpoints": {n: {"id_test": s["id_test"]} for n, s in trace["checkpoints"].items()},
        },
    }


def _last(results: Mapping) -> Any:
    """What the last checkpoint of a result says of unseen type_0 items."""
    return list(results["checkpoints"].values())[-1]["id_test"]


def _sentences(summary: Mapping) -> dict[str, list[str]]:
    """What each figure shows, a sentence for each size."""
    shown: dict[str, list[str]] = {}
    for size, run in summary["sizes"].items():
        n, value, traced = int(size), run["clustering"]["value"], run["tracing"]
        last, probed = traced["num_layers"], run["probe"]["cells"]
        for name, sentence in {
            "k_sweep": findings.k_sweep(n, run["k_sweep"]),
            "types": findings.generalisation(n, run["accuracy"], chance=summary["chance"]),
            "k_cutoff": findings.accuracy_against_k(n, accuracy_by_k(run["accuracy"])),
            "clustering": findings.clustering(n, run["clustering"]["cells"], value=value),
            "tracing": findings.tracing(n, _last(traced), value=value, last_layer=last),
            "lens": findings.lens(n, run["lens"]["cells"], value=value),
            "probe": findings.probe(n, probed, value=value),
            "subspace": findings.subspace(
                n, run["subspace"]["cells"], probed, value=value, last_layer=last
            ),
        }.items():
            shown.setdefault(name, []).append(sentence)
    return shown


def summary_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    """Header and rows: accuracy by type and by k-cutoff, the analyses' peaks."""
    runs = summary["sizes"].values()
    groups = [run["accuracy"] for run in runs]
    types = sorted({group for one in groups for group in one if "/" not in group})
    ks = sorted(set().union(*map(accuracy_by_k, groups)))
    shown = {summary["types"].get(kind, kind): kind for kind in types}
    shown |= {f"k-cutoff {k}": f"type_0/k_cutoff={k}" for k in ks}
    rows = [
        [f"accuracy, {name}", *(_cell(one.get(group)) for one in groups)]
        for name, group in shown.items()
    ]
    rows.append(["accuracy, chance", *[f"{summary['chance']:.2f}"] * len(groups)])
    rows.append(["IICG peak, type_0", *map(_iicg_peak, runs)])
    rows.append(["tracing peak, type_0", *map(_tracing_peak, runs)])
    rows.append(["lens peak, type_0", *(_best(run["lens"], _LENS) for run in runs)])
    rows.append(["probe peak, type_0", *(_best(run["probe"], _PROBE) for run in runs)])
    rows.append(["only its directions moved, type_0", *(_moved(run, "subspace") for run in runs)])
    rows.append(["only the others moved, type_0", *(_moved(run, "rest") for run in runs)])
    return ["", *map(_title, summary["sizes"])], rows


def _title(size: str) -> str:
    return f"N = {int(size):,}"


def _cell(group: Mapping | None) -> str:
    return "-" if group is None else f"{group['answer_accuracy']:.2f} (n={group['n']:,})"


def _iicg_peak(run: Mapping) -> str:
    peak = findings.peak(run["clustering"]["cells"], "id_test")
    return "-" if peak is None else _peak(f"{peak['iicg']:.2f}", peak, IICG.is_weak(peak))


def _best(analysed: Mapping, shown: Shown) -> str:
    """The strongest cell, of those at which the value can be known."""
    best = findings.strongest(analysed["cells"], shown)
    return "-" if best is None else _peak(f"{shown.value(best):.2f}", best, shown.is_weak(best))


def _tracing_peak(run: Mapping) -> str:
    """The strongest cell below the last layer."""
    tracing = run["tracing"]
    below = [c for c in _last(tracing)["cells"] if c["layer"] < tracing["num_layers"]]
    cells = [c for c in below if c["published"]["n"]]
    peak = max(cells, key=findings.moved, default=None)
    if peak is None:
        return "-"
    weak = METRICS["rank"].shown.is_weak(peak, "published")
    return _peak(f"{100 * findings.moved(peak):.0f} %", peak, weak)


def _moved(run: Mapping, part: str) -> str:
    """What moving a part of the state does where findings say what a probe's subspace does."""
    last = run["tracing"]["num_layers"]
    cell = findings.probed_cell(run["subspace"]["cells"], run["probe"]["cells"], last)
    if cell is None:
        return "-"
    found = {**cell, **cell["parts"][part]}
    weak = METRICS["rank"].shown.is_weak(found, "published")
    return _peak(f"{100 * findings.moved(found):.0f} %", cell, weak)


def _peak(number: str, cell: Mapping, weak: bool) -> str:
    """A number and its place; whether it is more than nothing."""
    about = f"{number} (layer {layer_name(cell)}, {cell['slot']})"
    return f"{about}, no finding" if weak else about


def write_report(summary: Mapping, folder: Path) -> Path:
    """Draw the figures, write ``summary.json`` and the self-contained ``report.html``; its path."""
    figures, shown = _draw(summary, folder / "figures"), _sentences(summary)
    settings = summary["settings"]
    sizes = " and ".join(f"{int(size):,}" for size in summary["sizes"])
    words = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    blocks = [html.table(*summary_table(summary))]
    if settings["preset"] == "tiny":
        blocks.append(html.text(words["tiny"]))
    blocks += [html.heading("Data"), html.table(*_data_table(summary))]
    for name, section in words["figures"].items():
        blocks.append(html.heading(section["title"]))
        drawn = figures.get(name, [])
        blocks += [html.figure(path, [words["over_training"]]) for path in drawn[:-1]]
        blocks += [html.figure(path, shown[name]) for path in drawn[-1:]]
        blocks.append(html.text(section["reading"]))
    seconds = [[stage, f"{taken:.1f}"] for stage, taken in summary["seconds"].items()]
    blocks += [html.heading("What was run"), html.code(summary["commands"])]
    blocks.append(html.table(["stage", "seconds"], seconds))
    lead = words["lead"].format_map({**settings, "sizes": sizes})
    report = folder / "report.html"
    page = html.page("Coverage principle: quickstart", lead, blocks)
    write_together({folder / "summary.json": dump_json(summary), report: page})
    return report


def _data_table(summary: Mapping) -> tuple[list[str], list[list[str]]]:
    rows: dict[str, list[str]] = {}
    for run in summary["sizes"].values():
        data, counts = run["data"], run["data"]["counts"]
        cells = {"training items": f"{counts['train']:,}"}
        cells["possible training compositions"] = f"{data['compositions']['trainable']:,}"
        for one in data["primitives"]:
            used = f"{one['seen_in_train']:,} of {one['facts']:,}"
            cells[f"facts of {one['name']} used in training"] = used
        names = summary["types"]
        tests = counts["test"].items()
        cells |= {f"test items, {names.get(kind, kind)}": f"{n:,}" for kind, n in tests}
        for name, cell in cells.items():
            rows.setdefault(name, [name]).append(cell)
    return ["", *map(_title, summary["sizes"])], list(rows.values())


def _draw(summary: Mapping, folder: Path) -> dict[str, list[Path]]:
    """The figures' PNG files by section."""
    runs = {_title(size): run for size, run in summary["sizes"].items()}
    histories = {title: run["history"] for title, run in runs.items()}
    cells = {
        f"{title}, {about}\n{own[0]['n_vectors']:,} vectors": own
        for title, run in runs.items()
        for split, about in _SPLITS.items()
        if (own := split_cells(run["clustering"], split))
    }
    traced, moved, tested = {}, {}, _SPLITS["id_test"]
    lens, probed = {}, {}
    for title, run in runs.items():
        own = _last(run["tracing"])["cells"]
        n = max(cell["published"]["n"] for cell in own)
        traced[f"{title}, {tested}\n{n:,} samples"] = own
        for panels, name in ((lens, "lens"), (probed, "probe")):
            found = run[name]["cells"]
            panels[f"{title}, {tested}\n{found[0]['n']:,} items"] = found
        for part, found in moved_parts(run["subspace"]["cells"]).items():
            n = max(cell["published"]["n"] for cell in found)
            moved[f"{part}\n{title}, {n:,} samples"] = found
    last = next(iter(runs.values()))["tracing"]["num_layers"]
    sweeps = {title: run["k_sweep"] for title, run in runs.items()}
    options = {"chance": summary["chance"], "names": summary["types"]}
    by_type, *by_k = accuracy_figures(histories, folder, **options)
    shown, options = (
        METRICS["rank"].shown,
        {"subset": "published", "notes": [reference_words(last)]},
    )
    parts = {**options, "notes": [reference_words(last, parts=True)], "per_row": 4}
    return {
        "k_sweep": [k_sweep_curve(sweeps, folder / "k_sweep")[0]],
        "types": [by_type],
        "k_cutoff": by_k,
        "clustering": [heat_maps(cells, folder / "iicg", IICG)[0]],
        "lens": [heat_maps(lens, folder / "lens", _LENS)[0]],
        "probe": [heat_maps(probed, folder / "probe", _PROBE)[0]],
        "subspace": [heat_maps(moved, folder / "subspace", shown, **parts)[0]],
        "tracing": [heat_maps(traced, folder / "tracing", shown, **options)[0]],
    }

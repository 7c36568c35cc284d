"""One self-contained HTML page of a training run, of a sweep, or of the claims in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from coverage_principle.data import looking_into, read_json, write_text
from coverage_principle.errors import InputError
from coverage_principle.experiments.claims import CLAIMS
from coverage_principle.experiments.claims.base import effort, machine, versions
from coverage_principle.experiments.ledger import LEDGER
from coverage_principle.experiments.results import chance_of, read_results
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.spec import dotted
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.experiments.sweep_page import comparison, own_seconds, time_taken
from coverage_principle.reporting import html
from coverage_principle.reporting.quickstart import ANALYSES, collect, write_report
from coverage_principle.reporting.run_card import type_names
from coverage_principle.reporting.scores import score_note, score_rows
from coverage_principle.reporting.training_figures import accuracy_figures
from simpletransformers.seq2seq.run_folder import SETTINGS, RunFolder
from simpletransformers.words import counted


def make_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's or a sweep's folder; its path.

    A sweep holds ``results.jsonl`` and perhaps claims (folders with ``numbers.json``); a run, or
    its ``model/``, ``metrics.jsonl`` and ``run_config.json``. ``InputError`` if it is neither.
    """
    if (folder / LEDGER).exists():
        page = _sweep_page(folder)
    else:
        model = RunFolder(folder / "model" if (folder / "model").is_dir() else folder)
        if not model.settings():
            neither = f"neither a sweep (no {LEDGER}) nor a training run (no run_config.json)"
            raise InputError(f"{folder} is {neither}")
        page = _run_page(folder, model)
    target = folder / "report.html"
    write_text(target, page)
    return target


_CAPTIONS = (
    "Answer accuracy by type over training. Dotted: chance.",
    "type_0 accuracy over training by k-cutoff; k-cutoffs without a curve are named below it.",
    "Final type_0 accuracy by k-cutoff with 95 % Wilson intervals.",
)


def _run_page(folder: Path, model: RunFolder) -> str:
    config, history = model.settings(), model.evaluations()
    last = history[-1]["eval"]
    with looking_into(model.path / SETTINGS, "the record of a run"):
        name = str(config.get("dataset", {}).get("name", folder.name))
        steps = counted(history[-1]["step"], "step")
        lead = f"{counted(config['parameters'], 'parameter')}, {steps}"
        device = config["device"]
        chance = chance_of(config.get("dataset", {}))
        called = type_names(config)
    types = [group for group in last if "/" not in group]
    options = {"chance": chance, "names": called}
    figures = accuracy_figures({name: history}, folder / "report_figures", **options)
    evaluations, columns = [], [called.get(kind, kind) for kind in types]
    for event in history:
        scores = (f"{event['eval'][t]['answer_accuracy']:.4f}" for t in types if t in event["eval"])
        loss = event["train_loss"]
        evaluations.append([f"{event['step']:,}", "-" if loss is None else f"{loss:.4f}", *scores])
    blocks = [
        html.heading("Last evaluation"),
        html.table(*score_rows(last, called), sortable=True),
        html.text(score_note(round(1 / chance) if chance else None)),
        html.heading("Over training"),
        *(html.figure(path, [about]) for path, about in zip(figures, _CAPTIONS, strict=False)),
        html.heading("Evaluations"),
        html.table(["step", "training loss", *columns], evaluations, sortable=True),
        html.heading("Settings and environment"),
        html.table(["setting", "value"], list(_words(config).items())),
    ]
    for log in sorted((folder / "logs").glob("*.log")):
        blocks.append(html.code(log.read_text("utf-8", errors="replace").splitlines()[:1]))
    return html.page(f"Training run: {name}", f"{lead}, on {device}.", blocks)


def _words(content: Mapping) -> dict[str, str]:
    """Nested settings by their dotted names, each value as text."""
    return {name: json.dumps(value) for name, value in dotted(content).items()}


def _sweep_page(folder: Path) -> str:
    results = read_results(folder)
    records = results.whole
    done = [record for record in records if record["status"] == "done"]
    claims = [folder / name for name in CLAIMS if (folder / name / "numbers.json").exists()]
    blocks = [
        *(block for claim in claims for block in _claim_blocks(claim)),
        *([] if claims else comparison(results, folder / "report_figures")),
        html.heading("Runs"),
        html.text(
            "A click on a column's head sorts by it. Seconds are of the run's own stages: the data "
            "set and its coverage, which runs share, are counted once, in the time above. Of a "
            "stage that was interrupted, the time since it was gone on with counts."
        ),
        html.table(*_run_rows(records), sortable=True),
    ]
    if failed := [record for record in records if record["status"] == "failed"]:
        rows = [[r["run"], r["label"], r["stage"], r["error"]] for r in failed]
        blocks += [html.heading("Failed"), html.table(["run", "label", "stage", "error"], rows)]
    if waiting := results.unfinished.items():
        blocks += [html.heading("Not finished"), html.table(["run", "label"], list(waiting))]
    same, differ = _same_settings(records), ", ".join(results.varying()) or "nothing"
    blocks += [
        html.heading("Settings"),
        html.text(
            f"The same in all runs; they differ in {differ}." if records[1:] else "Of the one run."
        ),
        html.table(["setting", "value"], same),
        html.heading("Environment"),
        html.table(["", ""], list((machine(done) | versions(done)).items())),
    ]
    lead = f"{counted(len(done), 'run')} done, {len(failed):,} failed"
    lead += f", {len(waiting):,} not finished" if waiting else ""
    lead += f"; {time_taken(records)}."
    title = "The paper's claims, measured" if claims else f"Sweep: {folder.name}"
    return html.page(title, lead, blocks)


def _claim_blocks(folder: Path) -> list[str]:
    file = folder / "numbers.json"
    claim = read_json(file, dict)
    with looking_into(file, "the result of a claim"):
        return _blocks_of(claim, folder)


def _blocks_of(claim: Mapping, folder: Path) -> list[str]:
    blocks = [html.heading(claim["title"]), html.text(f"Published: {claim['published']}")]
    blocks += [html.text(f"Here (scale {claim['scale']}):"), html.bullets(claim["findings"])]
    blocks.append(html.figure(folder / "figure.png", [claim["title"]]))
    for table in CLAIMS[claim["claim"]].tables(claim["numbers"]):
        blocks += [html.text(table.title), html.table(table.header, table.rows, sortable=True)]
    blocks.append(html.code([f"$ {claim['command']}", effort(claim)]))
    return blocks


def accuracy_rows(records: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
    """Steps and final accuracy by type, a row a run: the header and the rows."""
    types = sorted({g for record in records for g in record.get("scores", {}) if "/" not in g})
    rows = []
    for record in records:
        scores = record.get("scores", {})
        found = (f"{scores[t]['answer_accuracy']:.3f}" if t in scores else "-" for t in types)
        rows.append([f"{record['steps']:,}" if scores else "-", *found])
    return ["steps", *types], rows


def _run_rows(records: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
    header, rows = accuracy_rows(records)
    for record, row in zip(records, rows, strict=True):
        row[1:1] = [f"{own_seconds(record):.0f}"]
        row[:0] = record["label"] or record["run"], record["run"], record["status"]
    return ["run", "id", "status", header[0], "seconds", *header[1:]], rows


def _same_settings(records: Sequence[Mapping]) -> list[list[str]]:
    """Rows of the settings that all runs share."""
    flat = [_words(record["settings"]) for record in records]
    values = {name: {one.get(name) for one in flat} for every in flat for name in every}
    return [[name, *found] for name, found in values.items() if len(found) == 1]


def quickstart_report(sweep: Sweep, runs: Sequence[RunSettings], preset: str) -> tuple[dict, Path]:
    """``summary.json`` and the page of the quickstart's runs: what the summary holds, the page.

    The runs differ in their number of training items only.
    """
    files, k_sweeps, commands, seconds = {}, {}, [], {}
    for run in runs:
        size, record = run.data["max_train_data_num"], sweep.run(run)
        outputs = {name: sweep.outputs(run, name)[0] for name in ANALYSES}
        model, metadata = sweep.folder(run) / "model", sweep.dataset(run) / "metadata.json"
        files[size] = {"metadata": metadata, "model": model, **outputs}
        commands += [command.shown() for command in sweep.commands(run)]
        k_sweeps[size] = record["k_sweep"]
        seconds |= {f"{name} {size}": taken for name, taken in record["seconds"].items()}
    settings = {"preset": preset, **runs[0].data, **runs[0].train, "sizes": list(files)}
    summary = collect(files, k_sweeps, settings=settings, commands=commands, seconds=seconds)
    return summary, write_report(summary, sweep.root)

"""What a claim is: runs to carry out, numbers to gather, and the sentences that these allow."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coverage_principle.data import (
    Dataset,
    answered,
    dump_json,
    load_dataset,
    looking_into,
    read_json,
    write_together,
)
from coverage_principle.errors import InputError
from coverage_principle.experiments.ledger import csv_text
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.presets import SCALES, TRAINING
from coverage_principle.statistics import Rate, rate_of, rate_over_seeds
from simpletransformers.words import counted


def by_scale(tiny: Any, cpu: Any, gpu: Any, paper: Any, *, night: Any = None) -> dict[str, Any]:
    """One value for each scale; ``night`` has that of ``cpu`` where none is given."""
    night = cpu if night is None else night
    return {"tiny": tiny, "cpu": cpu, "night": night, "gpu": gpu, "paper": paper}


#: Of the claims that compare runs at one |X|: |X|, seeds, and test items of each type.
NUM_TOKENS = by_scale(8, 20, 50, 50)
SEEDS = by_scale((42, 43), (42, 43, 44, 45, 46), (42, 43, 44), (42, 43, 44))
TEST_SIZE = by_scale(100, 1000, 2000, 2000)
#: Settings of models and training that a page names, and how.
_RECIPE = {
    "n_layer": "{} layers",
    "n_head": "{} heads",
    "n_embd": "{} dimensions",
    "loops": "run {} times where looped",
    "train_batch_size": "batches of {}",
    "max_steps": "at most {} steps",
    "learning_rate": "learning rate {}",
    "weight_decay": "weight decay {}",
    "precision": "{}",
}
#: How the interval of a share of items is made, for the page that shows it.
RATE_INTERVALS = "95 % intervals: beta-binomial, items within seeds"
#: Sections of a run whose test items are annotated with k-cutoffs and written with their outputs.
TESTED = {"coverage": {"k_sweep": True}, "evaluate": {}}


@dataclass(frozen=True)
class Table:
    """A table of a result: its first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and how it is looked into.

    ``collect(sweep, scale)`` carries the runs out and returns JSON-ready numbers; from these alone
    ``findings`` computes sentences, ``tables`` tables, and ``draw(numbers, stem)`` figures (paths
    with the PNG first). ``letter`` orders the claims; ``published`` is what the paper reports.
    """

    letter: str
    name: str
    title: str
    published: str
    collect: Callable[[Sweep, str], dict]
    findings: Callable[[Mapping], list[str]]
    tables: Callable[[Mapping], list[Table]]
    draw: Callable[[Mapping, Path], list[Path]]


def training(scale: str, **changes: object) -> dict[str, object]:
    """The training settings of a scale, with a claim's own on top."""
    if scale not in SCALES:
        raise InputError(f"`scale` {scale} is not one of {', '.join(SCALES)}")
    return {**TRAINING[scale], **changes}


def one_run(scale: str, seed: int, size: int, label: str, **sections: Any) -> RunSettings:
    """A run on ``size`` items at the scale's |X|, 2-hop unless ``task`` is given.

    ``sections`` are those of a run's settings; ``data`` and ``train`` go on top of the scale's own.
    """
    data = {"num_tokens": NUM_TOKENS[scale], "max_train_data_num": size}
    data |= {"test_size_for_type": TEST_SIZE[scale], **sections.pop("data", {})}
    train = training(scale, **sections.pop("train", {}))
    settings = {"task": "twohop", "seed": seed, "data": data, "train": train, **sections}
    return RunSettings.resolve(settings, f"{label} seed={seed}")


def world(scale: str) -> dict[str, float]:
    """|X| at a scale, and the accuracy of a guess."""
    return {"num_tokens": NUM_TOKENS[scale], "chance": 1 / NUM_TOKENS[scale]}


def measured(
    sweep: Sweep, scale: str, variants: Mapping[str, Mapping], measure: Callable
) -> dict[str, dict[str, dict]]:
    """Carry out every variant, with each seed of the scale, and measure it.

    A variant is what ``one_run`` is called with; ``measure(run, record)`` is called for each run
    when all are done. ``{variant: {seed: {"run": id, and what was measured}}}``; ``InputError``
    names a run that failed.
    """
    runs = {
        (name, str(seed)): one_run(scale, seed, **variant)
        for name, variant in variants.items()
        for seed in SEEDS[scale]
    }
    return measured_runs(sweep, runs, measure)


def measured_runs(
    sweep: Sweep, runs: Mapping[tuple[str, str], RunSettings], measure: Callable
) -> dict[str, dict[str, dict]]:
    """``measured``, for runs by variant and seed."""
    futures = dict(zip(runs, sweep.submit_all(list(runs.values())), strict=True))
    records = {name: finished(future, "/".join(name)) for name, future in futures.items()}
    found: dict[str, dict[str, dict]] = {name: {} for name, _ in runs}
    for (name, seed), run in runs.items():
        found[name][seed] = {"run": run.id, **measure(run, records[name, seed])}
    return found


def side_by_side(calls: Sequence[Callable[[], Any]]) -> list[Future]:
    """Each call in a thread of its own, none of which keeps a command from ending."""
    futures = [Future() for _ in calls]

    def carry_out(call: Callable[[], Any], future: Future) -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    for pair in zip(calls, futures, strict=True):
        threading.Thread(target=carry_out, args=pair, daemon=True).start()
    return futures


def finish(sweep: Sweep, runs: Sequence[RunSettings]) -> list[dict]:
    """Have runs carried out, all of them asked for at once; their records."""
    futures = sweep.submit_all(runs)
    return [finished(future, run.label) for run, future in zip(runs, futures, strict=True)]


def finished(future: Future, name: str) -> dict:
    """The record of a run that is done; ``InputError`` if it failed."""
    record = future.result()
    if record["status"] != "done":
        failed = f"run {record['run']} ({name}) failed at {record['stage']}: {record['error']}"
        raise InputError(f"{failed}; run again with `retry_failed` to try it once more")
    return record


def over_training(sweep: Sweep, run: RunSettings, *groups: str) -> dict[str, object]:
    """A run's evaluations: ``steps``, and ``accuracy`` of each group, by default of each type.

    ``items`` says how many items a group has.
    """
    history = sweep.history(run)
    last = history[-1]["eval"]
    groups = groups or tuple(group for group in last if "/" not in group)
    accuracy = {
        group: [event["eval"][group]["answer_accuracy"] for event in history] for group in groups
    }
    items = {group: last[group]["n"] for group in groups}
    return {"steps": [event["step"] for event in history], "accuracy": accuracy, "items": items}


def final_rate(runs: Mapping[str, Mapping], group: str) -> Rate:
    """The last accuracy on a group of the runs of several seeds, as ``over_training`` has them."""
    own = runs.values()
    return rate_over_seeds(
        [run["accuracy"][group][-1] for run in own], [run["items"][group] for run in own]
    )


def tested(sweep: Sweep, run: RunSettings) -> tuple[Dataset, list[dict], np.ndarray]:
    """A run's data set, the records of its test items, and which were answered: ``(n,)`` bool."""
    file = sweep.folder(run) / "all_items.json"
    items = read_json(file, list)
    with looking_into(file, "the outputs of test items"):
        return load_dataset(sweep.dataset(run)), items, np.array(answered(items))


def probabilities(sweep: Sweep, run: RunSettings, dataset: Dataset) -> np.ndarray:
    """The probability that a run's last model gives the true answer of each test composition.

    ``(n,)`` float32; for runs that answer without a chain of thought.
    """
    import torch

    from coverage_principle.circuits.models import open_checkpoint

    folder, trust = sweep.folder(run) / "model" / "final_checkpoint", run.has_model_file
    model = open_checkpoint(folder, dataset.codec, trust_code=trust)
    place = "residual", model.num_layers
    states = model.run(dataset.ids(dataset.test.inputs, dataset.graph.inputs), [place])[place]
    tokens = torch.as_tensor(dataset.test.targets[:, -1:], dtype=torch.int64)
    return model.read(states[:, -1], tokens, ["prob"])["prob"][:, 0]


def guessed(dataset: Dataset, group: str) -> float:
    """The share of a type's items that are right without composing: by their last input alone.

    The guess is the commonest answer of the training items with that input.
    """
    last, answer = dataset.graph.inputs[-1], dataset.graph.functions[-1].output
    times = np.zeros(dataset.sizes((last, answer)), dtype=np.int64)
    np.add.at(times, (dataset.train.inputs[:, -1], dataset.train.answers), 1)
    rows = dataset.test.types == group
    guess = times.argmax(axis=1)[dataset.test.inputs[rows, -1]]
    return float(np.mean(guess == dataset.test.answers[rows]))


def span(counts: Iterable[int]) -> str:
    """The least and the largest of some counts: ``958 to 1,000``, or the one that all are."""
    counts = sorted(counts)
    return " to ".join(f"{end:,}" for end in dict.fromkeys((counts[0], counts[-1])))


def mean_in_table(values: Sequence[float]) -> str:
    """A share's mean over seeds; ``-`` without values."""
    return str(rate_of(values)) if values else "-"


def rate_in_table(found: Rate | None) -> str:
    """A share with its interval and how many items it counts; ``-`` without items."""
    return f"{found}, n = {found.items:,}" if found else "-"


def write_result(
    claim: Claim, numbers: Mapping, folder: Path, *, scale: str, command: str, sweep: Sweep
) -> dict:
    """Draw and write what came of a claim into ``folder``; what ``numbers.json`` holds.

    Files: ``numbers.json``, ``figure.png`` and ``.pdf``, ``table_*.csv``, ``README.md``: all of
    them are written, or none. Tables of an earlier result are removed.
    """
    records = [sweep.ledger.records[run] for run in sorted(_run_ids(numbers))]
    seconds = round(sum(sum(record["seconds"].values()) for record in records))
    result = {"claim": claim.name, "title": claim.title, "published": claim.published}
    result |= {"scale": scale, "command": command, "machine": machine(records)}
    result |= {"versions": versions(records), "training": recipe(records)}
    result |= {"runs": len(records), "compute_seconds": seconds}
    result |= {"findings": claim.findings(numbers), "numbers": numbers}
    tables = claim.tables(numbers)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = claim.draw(numbers, Path(scratch) / "figure")
        files: dict[str, str | bytes] = {file.name: file.read_bytes() for file in drawn}
    for number, table in enumerate(tables, start=1):
        files[f"table_{number}.csv"] = csv_text([table.header, *table.rows])
    files["README.md"] = card(result, tables, drawn[0].name)
    files["numbers.json"] = dump_json(result)
    folder.mkdir(parents=True, exist_ok=True)
    write_together({folder / name: content for name, content in files.items()})
    for file in folder.glob("table_*.csv"):
        if file.name not in files:
            file.unlink()
    return result


def card(result: Mapping, tables: Iterable[Table], figure: str) -> str:
    """A result as Markdown: what was found, figure, tables, and how it was made."""
    machine_words = ", ".join(map(str, result["machine"].values()))
    package_words = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
    lines = [f"# {result['title']}", "", f"*Published:* {result['published']}", ""]
    lines += [f"*Here (scale {result['scale']}):*", ""]
    lines += [*(f"- {sentence}" for sentence in result["findings"]), ""]
    lines += [f"![{result['title']}]({figure})", ""]
    for table in tables:
        head, *rows = (_markdown_row(row) for row in (table.header, *table.rows))
        lines += [f"**{table.title}**", "", head, "|" + "---|" * len(table.header), *rows, ""]
    how = f"{effort(result)} on {machine_words} ({package_words})"
    lines += [f"Trained: {result['training']}.", ""] if result["training"] else []
    lines.append(
        f"Made by `{result['command']}`: {how}. All numbers: [numbers.json](numbers.json)."
    )
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    """A table's row; a bar within a cell, as in ``|X|``, would end it."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def effort(result: Mapping) -> str:
    """What a result took."""
    minutes = counted(round(result["compute_seconds"] / 60), "minute")
    return f"{counted(result['runs'], 'run')}, {minutes} of computing"


def recipe(records: Iterable[Mapping]) -> str:
    """The models and the training of some runs, in words, with all values of a setting.

    What no run's settings give is left out.
    """
    trained = [record["settings"]["train"] for record in records if record["settings"]["train"]]
    models = {
        "a model file" if "model_file" in one else one.get("model_type", "gpt2") for one in trained
    }
    parts = [" or ".join(sorted(models))] if models else []
    for name, form in _RECIPE.items():
        if values := sorted({one[name] for one in trained if name in one}):
            shown = [f"{x:,}" if isinstance(x, int) else str(x) for x in values]
            parts.append(form.format(" or ".join(shown)))
    return ", ".join(parts)


def machine(records: Sequence[Mapping]) -> dict[str, str]:
    """What the runs ran on, as their records tell: trainers' devices, and the computers."""
    devices = {record["device"] for record in records if "device" in record}
    computers = {record["machine"] for record in records if "machine" in record}
    both = {"devices": devices, "machines": computers}
    return {name: "; ".join(sorted(of)) for name, of in both.items() if of}


def versions(records: Sequence[Mapping]) -> dict[str, str]:
    """Versions that the runs name; several of one package are all named."""
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    return {package: " and ".join(sorted(names)) for package, names in found.items()}


def _run_ids(numbers: object) -> set[str]:
    """Every value of a key ``run`` in nested numbers."""
    if not isinstance(numbers, (dict, list, tuple)):
        return set()
    inside = numbers.values() if isinstance(numbers, dict) else numbers
    own = {numbers["run"]} if isinstance(numbers, dict) and "run" in numbers else set()
    return own.union(*map(_run_ids, inside))

"""What a run writes down while it trains: ``metrics.jsonl`` and the published CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

METRICS, CSV = "metrics.jsonl", "training_progress_scores.csv"


class Records:
    """Appends events of one run; ``after_step`` drops what a lost process wrote beyond that step.

    An event is ``{"step", "epoch", "train_loss", "lr", "elapsed_s", ...}``; an evaluation has
    ``"eval": {group: scores}`` as well, and also makes a row of the CSV.
    """

    def __init__(self, run: Path, *, after_step: int) -> None:
        self._metrics, self._csv = run / METRICS, run / CSV
        kept = [e for e in _read_events(self._metrics) if e["step"] <= after_step]
        self._metrics.write_text("".join(json.dumps(e) + "\n" for e in kept), encoding="utf-8")
        self._csv.unlink(missing_ok=True)
        for event in kept:
            self._add_row(event)

    def add(self, event: Mapping[str, object]) -> None:
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._add_row(event)

    def _add_row(self, event: Mapping[str, object]) -> None:
        if "eval" not in event:
            return
        row = {
            "global_step": event["step"],
            "epoch": event["epoch"],
            "train_loss": event["train_loss"],
        }
        for group, scores in event["eval"].items():
            row[f"eval_loss-{group}"] = scores["loss"]
            row[f"eval_acc-{group}"] = scores["answer_accuracy"]
            row[f"eval_em-{group}"] = scores["exact_match"]
        is_new = not self._csv.exists()
        with open(self._csv, "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)


def _read_events(file: Path) -> list[dict]:
    """Events so far; a last line that a killed process left unfinished is not one."""
    if not file.exists():
        return []
    events = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events

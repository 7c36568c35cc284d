"""The results of a sweep: one JSON line for each finished run, and the same as a table."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coverage_principle.data import read_lines, write_text
from simpletransformers.files import parse_json

LEDGER, TABLE = "results.jsonl", "results.csv"


class Ledger:
    """``results.jsonl`` in a folder. A run's last line counts; it is there once unless retried.

    A line is appended with one write under a lock and reaches the disk before ``add`` returns. What
    a process left of a line when it was killed is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._table = folder / LEDGER, folder / TABLE
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        self.records = read_ledger(self._file)

    def add(self, record: Mapping[str, object]) -> None:
        """Append a record unless the run's last one is equal."""
        with self._guard:
            if self.records.get(record["run"]) == record:
                return
            with open(self._file, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                content = file.read()
                end = content.rfind(b"\n") + 1
                try:  # a last line that lacks its end only is whole
                    parse_json(content[end:].decode())
                    file.write(b"\n")
                except ValueError:
                    file.truncate(file.seek(end))
                file.write((json.dumps(record) + "\n").encode())
                os.fsync(file.fileno())
            self.records[record["run"]] = json.loads(json.dumps(record))

    def write_table(self) -> Path:
        """``results.csv``: a row a run, a column for every setting and score that differs."""
        rows = [_flat(record) for record in self.records.values()]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(self._table, [columns, *([row.get(name) for name in columns] for row in rows)])
        return self._table


def read_ledger(file: Path) -> dict[str, dict]:
    """The last record of each run, by its id; none if there is no such file.

    A run whose line is broken is not known: its own folder may know it, or it is run again.
    """
    return {record["run"]: record for record in read_lines(file, check_record)}


def check_record(record: Mapping[str, object]) -> None:
    """Raise what ``files.looking_into`` catches if it is no record of a run."""
    _flat(record)
    texts = [record["run"], record["world"], record["label"], record["status"]]
    numbers = [n for scores in record.get("scores", {}).values() for n in scores.values()]
    if record["status"] == "failed":
        texts += record["stage"], record["error"]
    else:
        numbers += [record["steps"]] if "scores" in record else []
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)
        and all(isinstance(v, str) for v in record.get("versions", {}).values())
    ):
        raise TypeError("it holds texts for numbers, or the reverse")


def write_csv(file: Path, rows: Iterable[Sequence[object]]) -> None:
    """``csv_text`` in a file."""
    write_text(file, csv_text(rows))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV, its header the first row; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _flat(record: Mapping[str, object]) -> dict[str, object]:
    """One row: settings as ``data.num_tokens``, accuracies as ``answer_accuracy.type_0``."""
    settings = record["settings"]
    row = {key: record.get(key) for key in ("run", "label", "status", "stage", "error")}
    row["task"] = settings["task"]
    for section in ("data", "train"):
        row |= {f"{section}.{name}": value for name, value in (settings[section] or {}).items()}
    results = ("dataset", "steps", "epochs", "train_loss", "parameters")
    row |= {name: record.get(name) for name in results}
    for group, scores in record.get("scores", {}).items():
        row |= {f"{name}.{group}": scores[name] for name in ("n", "answer_accuracy")}
    sweep = (record.get("k_sweep") or {}).items()
    row |= {f"covered.{k}": covered for k, (covered, _) in sweep if covered}
    row["seconds"] = round(sum(record["seconds"].values()), 1)
    return row

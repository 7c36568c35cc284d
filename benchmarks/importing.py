"""Time and memory of imports as whole processes: a million rows, a million triples.

Takes about 2 minutes with --before.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import OUT, Bench, bench, benchmark_parser, cells, show_tables

from coverage_principle.cli import run

_SLOTS = ("--inputs", "a,b,c", "--answer", "t")
#: Source: its file, the importer and its flags.
CASES = {
    "table of {:,} rows (CSV)": ("rows.csv", "table", _SLOTS),
    "the same, with a bridge": ("rows.csv", "table", (*_SLOTS, "--bridges", "m(a,b)")),
    "the same as JSON lines": ("rows.jsonl", "table", _SLOTS),
    "{:,} triples": ("triples.tsv", "triples", ("--max_train_data_num", 900_000)),
}


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        write_sources(Path(folder), arguments.rows)
        rows = (whole(measured, Path(folder), name, arguments.rows) for name in CASES)
        show_tables(arguments, [rows])


def whole(measured: Bench, folder: Path, name: str, rows: int) -> dict:
    file, kind, flags = CASES[name]
    command = ("script/import_dataset.py", kind, folder / file, *flags, "--output_dir", OUT)
    figures = measured.row(measured.ways(*command))
    about = {"import, as a whole process": name.format(rows)}
    return {**about, **cells(figures, rows), "figures": figures}


def write_sources(folder: Path, rows: int) -> None:
    """A world of m = f1(a, b), t = f2(m, c) as a table, and a graph of 20,000 heads."""
    import json

    import numpy as np

    rng = np.random.default_rng(0)
    f1, f2 = rng.integers(0, 300, (1000, 1000)), rng.integers(0, 500, (300, 1000))
    slots = rng.integers(0, 1000, (rows, 3))
    middle = f1[slots[:, 0], slots[:, 1]]
    columns = np.stack([*slots.T, middle, f2[middle, slots[:, 2]]], axis=1).tolist()
    names = ["a", "b", "c", "m", "t"]
    with open(folder / "rows.csv", "w", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        file.writelines("a{},b{},c{},m{},t{}\n".format(*row) for row in columns)
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in columns)
    steps = rng.permutation(20_000 * 200)[:rows]
    tails = rng.integers(0, 20_000, rows)
    triples = zip((steps // 200).tolist(), (steps % 200).tolist(), tails.tolist(), strict=True)
    with open(folder / "triples.tsv", "w", encoding="utf-8") as file:
        file.writelines(f"e{head}\tr{relation}\te{tail}\n" for head, relation, tail in triples)


if __name__ == "__main__":
    run(benchmark_parser(__doc__, {"--rows": (1_000_000, "rows and triples")}), main)

"""Times the pattern matcher and the learner beside a k-sweep of the same data set.

Each is a command of its own, whole process: determine_coverage.py --k_sweep, script/
pattern_matcher.py, and the same with --learner; imports, reading and writing included. Takes about
5 minutes with --before.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import OUT, Bench, bench, cells, generate, ratio_text, show_tables, worlds_parser

from coverage_principle.cli import run

DEFAULT = "twohop:50:10000 nontree:50:50000 twohop:100:100000"


def build_parser() -> argparse.ArgumentParser:
    return worlds_parser(__doc__, DEFAULT)


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder)
        tables = (time_world(world, base, measured) for world in arguments.worlds)
        show_tables(arguments, [(row for rows in tables for row in rows)])


def time_world(world: str, base: Path, measured: Bench) -> list[dict]:
    folder, _ = generate(world, base)
    data = ("--data_dir", folder)
    matcher = ("script/pattern_matcher.py", *data, "--output", f"{OUT}/answers.json")
    found, rows = {}, []
    for name, command in {
        "k-sweep": ("determine_coverage.py", *data, "--k_sweep", "--output_dir", OUT),
        "matcher": matcher,
        "learner": (*matcher, "--learner"),
    }.items():
        found[name] = figures = measured.row(measured.ways(*command))
        times = figures["now"]["cpu_s"] / found["k-sweep"]["now"]["cpu_s"]
        row = {"data set": world, "answers of": name, **cells(figures)}
        rows.append({**row, "times the k-sweep": ratio_text(times), "figures": figures})
    return rows


if __name__ == "__main__":
    run(build_parser(), main)

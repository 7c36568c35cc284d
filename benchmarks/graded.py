"""Times the pattern matcher and the learner beside a k-sweep of the same data set.

Each is a command of its own, whole process: determine_coverage.py --k_sweep, script/
pattern_matcher.py, and the same with --learner; imports, reading and writing included. Figures are
the median of --repeats runs that take turns; memory is the largest resident size of any.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from common import generate, measure, show_tables, take_turns, worlds_parser

from coverage_principle.cli import run

DEFAULT = (
    "twohop:50:10000 twohop:100:100000 twohop:200:400000 nontree:50:50000 parallel2hop:50:60000 "
    "threehop:50:200000"
)


def build_parser() -> argparse.ArgumentParser:
    return worlds_parser(__doc__, DEFAULT)


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(arguments.data or folder)
        table = (time_world(world, base, arguments.repeats) for world in arguments.worlds)
        show_tables("docs/graded.md", [table], arguments.output)


def time_world(world: str, base: Path, repeats: int) -> dict[str, str]:
    folder, items = generate(world, base)
    data, output = ("--data_dir", folder), base / "results"
    matcher = ("script/pattern_matcher.py", *data, "--output", output / "answers.json")
    commands = {
        "k-sweep": ("determine_coverage.py", *data, "--k_sweep", "--output_dir", output),
        "matcher": matcher,
        "learner": (*matcher, "--learner"),
    }
    ways = {name: partial(measure, *command) for name, command in commands.items()}
    runs = take_turns(ways, repeats)
    seconds = {name: median(s for s, _ in found) for name, found in runs.items()}
    print(f"{world} done", flush=True)
    row = {"data set": world, "items": f"{items:,}"}
    for name, found in runs.items():
        row[f"{name} (s)"] = f"{seconds[name]:.1f}"
        if name != "k-sweep":
            row[f"{name} / k-sweep"] = f"{seconds[name] / seconds['k-sweep']:.2f}"
        row[f"{name} MiB"] = f"{max(peak for _, peak in found):,.0f}"
    return row


if __name__ == "__main__":
    run(build_parser(), main)

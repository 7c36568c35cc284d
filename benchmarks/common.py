"""The frame of the benchmarks: flags, ways that take turns, whole processes, tables that are kept.

Figures that a page shows are committed as ``docs/results/*_cpu.json``; ``tests/test_docs.py`` looks
for every row of them on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from coverage_principle.cli import command_parser, group_of, positive, table

ROOT = Path(__file__).resolve().parent.parent

#: Starts a command and prints what it took. A process begins with the peak memory of the one that
#: started it, so this small one stands between a benchmark, which may be large, and the command.
_MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - started
print(json.dumps([seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""


def benchmark_parser(
    doc: str, amounts: Mapping[str, tuple[int, str]], more: str = ""
) -> argparse.ArgumentParser:
    """A parser with ``--output`` and a flag for each amount: its default and its help text.

    ``more`` says what else ``--output`` writes.
    """
    parser = command_parser(doc)
    for flag, (default, about) in amounts.items():
        amount = {"type": positive, "default": default, "help": about}
        group_of(parser, "measured").add_argument(flag, **amount)
    about = "write the figures to this file" + (f", {more}" if more else "")
    group_of(parser, "written").add_argument("--output", metavar="FILE.json", help=about)
    return parser


def worlds_parser(doc: str, default: str) -> argparse.ArgumentParser:
    """A parser of a benchmark on generated data sets: ``--repeats``, ``--worlds``, ``--data``."""
    parser = benchmark_parser(doc, {"--repeats": (3, "runs of each")})
    shape = {"nargs": "+", "metavar": "TASK:TOKENS:TRAIN", "default": default.split()}
    shape["help"] = "data sets to generate and time"
    group_of(parser, "measured").add_argument("--worlds", **shape)
    about = "folder that keeps the data sets (default: a temporary one)"
    group_of(parser, "written").add_argument("--data", metavar="DIR", help=about)
    return parser


def generate(world: str, base: Path) -> tuple[Path, int]:
    """The folder of a data set ``task:tokens:train``, made unless it is there, and its size."""
    from coverage_principle import data
    from coverage_principle.errors import InputError
    from coverage_principle.tasks import TASKS

    try:
        task, tokens, train = world.split(":")
        graph, settings = TASKS[task], data.WorldSettings(int(tokens), int(train))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"`worlds` {world} is not TASK:TOKENS:TRAIN, such as twohop:50:10000; tasks are "
            f"{', '.join(TASKS)}"
        ) from error
    folder = base / f"{task}.{tokens}.{train}.benchmark"
    if not folder.exists():
        files = data.dataset_files(data.generate_world(graph, settings), data.FormatSettings())
        data.write_dataset(folder, *files, overwrite=False)
    return folder, settings.max_train_data_num


def timed(function: Callable, *arguments: object) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list]:
    """What each way returns, ``rounds`` times; the ways take turns, so that all meet the same."""
    found = [{name: way() for name, way in ways.items()} for _ in range(rounds)]
    return {name: [of_round[name] for of_round in found] for name in ways}


def measure(*command: object) -> tuple[float, float]:
    """Run ``python command`` from the repository root: seconds, peak memory in MiB.

    ``RuntimeError`` with its messages if it fails.
    """
    words = [str(word) for word in command]
    starter = [sys.executable, "-c", _MEASURE, sys.executable, *words]
    measured = subprocess.run(starter, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, peak, code = json.loads(measured.stdout)
    if code:
        raise RuntimeError(f"{' '.join(words)} failed: {measured.stderr}")
    return seconds, peak / (1024**2 if sys.platform == "darwin" else 1024)


def show_tables(
    page: str, tables: Iterable[Iterable[dict[str, str]]], output: str | None, machine: str = ""
) -> None:
    """Print tables of rows ``{column: cell}`` as they come; write them to ``output``, if given.

    The machine is printed first: a table that is a generator is measured after it.
    """
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    if "--output" in words:  # where the figures are written is no part of how they came about
        del words[words.index("--output") : words.index("--output") + 2]
    machine, shown = machine or describe_machine(), []
    print(machine, flush=True)
    for rows in map(list, tables):
        shown.append({"header": list(rows[0]), "rows": [list(row.values()) for row in rows]})
        print(f"\n{table(**shown[-1])}", flush=True)
    if output:
        content = {"command": " ".join(words), "machine": machine, "page": page, "tables": shown}
        write_figures(output, content)


def write_figures(output: str, content: dict) -> None:
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def describe_machine(*packages: str) -> str:
    """Processor, cores and versions, those of ``packages`` too, as text."""
    from coverage_principle.experiments.claims.base import processor

    versions = [f"{name} {version(name)}" for name in ("numpy", *packages)]
    cores = f"{os.cpu_count()} cores"
    return ", ".join([processor(), cores, f"Python {platform.python_version()}", *versions])

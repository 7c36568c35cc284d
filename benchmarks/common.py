"""The frame of the benchmarks: flags, processes that are measured, ways that take turns, tables.

A *row* compares *ways* of doing one thing: ``now``, ``before`` (the code of ``--before COMMIT``),
``bound`` (the work at its heart alone: ``bounds.py``) and peers. A way is a command, run as a
user runs it, or a *part*: a function of a benchmark, called in a process of its own with the
library of either code, so it may use only what both have. The ways of a row take turns, so that
all meet the same machine and ratios are of neighbours in time.

Figures are kept as ``docs/results/*_cpu.json``; ``docs/results/README.md`` describes their fields
and ``docs/show_benchmarks.py`` writes them into the pages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from coverage_principle.cli import command_parser, group_of, positive, table
from coverage_principle.errors import InputError
from coverage_principle.experiments.execution import this_machine

ROOT = Path(__file__).resolve().parent.parent
#: In a command: a folder that is there for one run of it.
OUT = "{out}"
_LIBRARIES = ("coverage_principle", "simpletransformers", "circuit_analysis", "dataset_generation")
#: Packages whose versions are recorded, where they are installed.
PACKAGES = ("numpy", "scipy", "torch", "transformers")
#: Flags that say where files lie: no part of how figures came about.
_PLACES = ("--output", "--data")

#: Starts a command and prints what it took. A process begins with the peak memory of the one that
#: started it, so this small one stands between a benchmark, which may be large, and the command.
_MEASURE = """
import json, resource, subprocess, sys, time
seconds, limit, *command = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
began, late = time.perf_counter(), False
process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    said, _ = process.communicate(timeout=float(seconds) or None)
except subprocess.TimeoutExpired:
    process.kill()
    said, late = process.communicate()[0], True
wall, usage = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, last = usage.ru_utime + usage.ru_stime, (said or "").strip().split("\\n")[-1]
print(json.dumps([cpu, wall, usage.ru_maxrss, process.returncode, late, last]))
"""
#: Calls a part; the last line that it prints is what the function returned.
_PART = """
import importlib, json, sys
folder, module, name, arguments = sys.argv[1:]
sys.path.insert(0, folder)
print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(arguments))))
"""


# ------------------------------------------------------------------------------------------- flags


def benchmark_parser(
    doc: str,
    amounts: Mapping[str, tuple[int, str]],
    more: str = "",
    *,
    paired: bool = True,
    row_seconds: int = 20,
) -> argparse.ArgumentParser:
    """A parser with ``--output`` and a flag for each amount: its default and its help text.

    ``paired``: also the flags that ``Bench`` reads. ``more`` says what else ``--output`` writes.
    """
    parser = command_parser(doc)
    add = group_of(parser, "measured").add_argument
    for flag, (default, about) in amounts.items():
        add(flag, type=positive, default=default, help=about)
    if paired:
        about = "measure each row in turns with the code of this commit, in a checkout of its own"
        add("--before", metavar="COMMIT", help=about)
        about = "rounds of a row at most; medians and ranges are recorded"
        add("--repeats", type=positive, default=3, help=about)
        about = "a row ends with the round in which it has taken so long"
        add("--row_seconds", type=positive, default=row_seconds, help=about)
        about = "threads of numpy and torch"
        add("--threads", type=positive, default=1, help=about)
    about = "write the figures to this file" + (f", {more}" if more else "")
    group_of(parser, "written").add_argument("--output", metavar="FILE.json", help=about)
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    about = "folder that keeps the data sets (default: a temporary one)"
    group_of(parser, "written").add_argument("--data", metavar="FOLDER", help=about)


def worlds_parser(
    doc: str, default: str, amounts: Mapping[str, tuple[int, str]] | None = None, **options: Any
) -> argparse.ArgumentParser:
    """A parser of a benchmark on generated data sets: ``--worlds``, ``--data``."""
    parser = benchmark_parser(doc, amounts or {}, **options)
    shape = {"nargs": "+", "metavar": "TASK:TOKENS:TRAIN", "default": default.split()}
    shape["help"] = "data sets to generate and time"
    group_of(parser, "measured").add_argument("--worlds", **shape)
    add_data(parser)
    return parser


def generate(world: str, base: Path) -> tuple[Path, int]:
    """The folder of a data set ``task:tokens:train``, made unless it is there, and its size."""
    from coverage_principle import data
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


# --------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Usage:
    """What a process took: CPU seconds (user and system), wall seconds, MiB at most.

    ``failed`` says how it ended, if not well. ``said`` is what a part returned.
    """

    cpu_s: float
    wall_s: float
    mib: float
    failed: str = ""
    said: Any = None


def measure(
    *command: object,
    code: Path = ROOT,
    python: str = sys.executable,
    threads: int = 1,
    seconds: float = 0,
    gib: float = 0,
) -> Usage:
    """Run ``python command`` in the folder of a code, with its library.

    ``seconds`` and ``gib`` bound its time and its address space; 0: not at all.
    """
    with tempfile.TemporaryDirectory() as out:
        words = [str(word).replace(OUT, out) for word in command]
        limits = [str(seconds), str(int(gib * 2**30))]
        # A python of another environment may need the library's packages, not the small starter.
        starter = [sys.executable, "-c", _MEASURE, *limits, python, *words]
        env = {**os.environ, "PYTHONPATH": f"{code / 'simpletransformers'}{os.pathsep}{code}"}
        env |= dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
        )
        options = {"cwd": code, "env": env, "capture_output": True, "text": True}
        measured = subprocess.run(starter, check=True, **options)
    cpu, wall, peak, status, late, last = json.loads(measured.stdout.splitlines()[-1])
    failed = ""
    if late:
        failed = f"not done after {seconds:,.0f} s"
    elif status:
        last_words = (measured.stderr.strip().splitlines() or [""])[-1][:200]
        failed = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        if re.search("memory|bad_alloc", last_words, re.IGNORECASE):
            failed = f"too little memory: {failed}"
        failed += f": {re.sub(r'/[^ ]*/', '', last_words)}"  # no folders of this machine
    return Usage(cpu, wall, peak / (1024**2 if sys.platform == "darwin" else 1024), failed, last)


def part(function: Callable | str, *arguments: object, **options: Any) -> Usage:
    """``measure`` for a function of a benchmark whose arguments and result are JSON.

    ``file.name`` names one that is not loaded here. ``cpu_s`` and ``wall_s`` of a result take the
    place of the process's: what a function measured without its start.
    """
    if not isinstance(function, str):
        function = f"{Path(function.__code__.co_filename).stem}.{function.__name__}"
    given = json.dumps(arguments)
    used = measure("-c", _PART, ROOT / "benchmarks", *function.split("."), given, **options)
    if used.failed:
        return replace(used, said=None)
    said = json.loads(used.said)
    own = {k: v for k, v in said.items() if k in ("cpu_s", "wall_s")} if said else {}
    return replace(used, said=said, **own)


def timed(function: Callable, *arguments: object) -> tuple[Any, dict[str, float]]:
    """What a call returns, and its ``cpu_s`` and ``wall_s``."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function(*arguments)
    return result, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def per_round(function: Callable, count: int) -> dict[str, float]:
    """CPU and wall seconds of a call, over ``count`` of them, once warm."""
    function()
    _, times = timed(lambda: [function() for _ in range(count)])
    return {name: seconds / count for name, seconds in times.items()}


class Bench:
    """The codes that are compared, and how often and with how many threads."""

    def __init__(self, arguments: argparse.Namespace, codes: Mapping[str, Path]) -> None:
        self.codes = codes
        self.repeats, self.row_seconds = arguments.repeats, arguments.row_seconds
        self.threads = arguments.threads

    def ways(
        self, *command: object, run: Callable[..., Usage] = measure, **options: Any
    ) -> dict[str, Callable[[], Usage]]:
        """A command (``run=part``: a function and its arguments) with each code."""
        options = {"threads": self.threads, **options}
        return {
            name: partial(run, *command, code=code, **options) for name, code in self.codes.items()
        }

    def bound(self, function: Callable, *arguments: object) -> dict[str, Callable[[], Usage]]:
        """The way of a row that is its bound: a part."""
        return {"bound": partial(part, function, *arguments, threads=self.threads)}

    def row(
        self, ways: Mapping[str, Callable[[], Usage]], bound: str = "", *, may_fail: bool = False
    ) -> dict[str, Any]:
        """The figures of a row; ``bound`` says what its bound is.

        ``RuntimeError`` if ``now`` fails, unless it ``may_fail``, or the bound.
        """
        runs: dict[str, list[Usage]] = {name: [] for name in ways}
        began = time.monotonic()
        for number in range(self.repeats):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                if runs[name] and runs[name][-1].failed:
                    continue  # it would fail again
                runs[name].append(ways[name]())
                failed = runs[name][-1].failed
                if failed and (name == "bound" or name == "now" and not may_fail):
                    raise RuntimeError(f"{name}: {failed}")
            if time.monotonic() - began > self.row_seconds:
                break
        return figures_of(runs, bound)


def figures_of(runs: Mapping[str, list[Usage]], bound: str = "") -> dict[str, Any]:
    """Of each way median and range; of all but ``now`` the CPU time over that of ``now``."""
    found: dict[str, Any] = {}
    for name, used in runs.items():
        if failed := used[-1].failed:
            found[name] = {"failed": failed, "cpu_s": used[-1].cpu_s, "mib": used[-1].mib}
            continue
        times = {key: [getattr(one, key) for one in used] for key in ("cpu_s", "wall_s")}
        found[name] = {"runs": len(used)}
        for key, values in times.items():
            found[name] |= {key: median(values), f"{key}_range": [min(values), max(values)]}
        found[name]["mib"] = max(one.mib for one in used)
        said = used[0].said if isinstance(used[0].said, dict) else {}
        if own := {key: value for key, value in said.items() if key not in ("cpu_s", "wall_s")}:
            found[name]["said"] = own
        if name != "now" and not any(one.failed for one in runs["now"]):
            pairs = zip(runs["now"], used, strict=True)
            ratios = [other.cpu_s / max(mine.cpu_s, 1e-9) for mine, other in pairs]
            found[name] |= {"over_now": median(ratios)}
            found[name] |= {"over_now_range": [min(ratios), max(ratios)]}
    if "over_now" in found.get("bound", {}):
        found |= {"bound_s": found["bound"]["cpu_s"], "bound_is": bound}
        found["times_bound"] = 1 / max(found["bound"]["over_now"], 1e-9)
    return found


@contextlib.contextmanager
def bench(arguments: argparse.Namespace) -> Iterator[Bench]:
    """What a benchmark measures with; the checkout of ``--before`` is gone at the end."""
    if not arguments.before:
        yield Bench(arguments, {"now": ROOT})
        return
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        # Under a path of its own, so that git keeps nothing of it that could be in the way later.
        git("worktree", "add", "--detach", "--force", before, commit_of(arguments.before))
        try:
            for code in (ROOT, before):  # else the first round would compile what is imported
                measure("-m", "compileall", "-q", *_LIBRARIES, code=code)
            yield Bench(arguments, {"now": ROOT, "before": before})
        finally:
            git("worktree", "remove", "--force", before)


def git(*words: object) -> str:
    """What git prints; ``InputError`` with its last line if it refuses."""
    command = ["git", *map(str, words)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError((found.stderr.strip().splitlines() or ["git failed"])[-1])
    return found.stdout.strip()


def commit_of(name: str) -> str:
    return git("rev-parse", "--verify", f"{name}^{{commit}}")


# ------------------------------------------------------------------------------------------ tables


def time_text(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for least, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= least:
            value = seconds / least
            return f"{value:,.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}"
    return f"{1e6 * seconds:.0f} us"


def ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 20 else f"{ratio:,.0f}"


def how_failed(figures: Mapping[str, Any]) -> str:
    """How a way ended, if not well."""
    return figures.get("failed", "").partition(":")[0]


def over_now(figures: Mapping[str, Any]) -> str:
    """CPU time of a way over that of ``now``: the median of pairs, and the range of several."""
    ends = [ratio_text(end) for end in figures["over_now_range"]]
    several = f" ({' to '.join(ends)})" if figures["runs"] > 1 else ""
    return ratio_text(figures["over_now"]) + several


def cells(figures: Mapping[str, Any], items: int = 0) -> dict[str, str]:
    """The cells of a row that every table has: time, memory, before, the bound.

    With ``items``, time and memory of an item as well.
    """
    now, shown = figures["now"], {}
    shown["CPU time"] = how_failed(now) or time_text(now["cpu_s"])
    shown["MiB"] = f"{now['mib']:,.0f}"
    if items and not how_failed(now):
        shown["us an item"] = f"{1e6 * now['cpu_s'] / items:.2f}"
        shown["bytes an item"] = f"{now['mib'] * 2**20 / items:,.0f}"
    if before := figures.get("before"):
        shown["before: CPU time"] = how_failed(before) or time_text(before["cpu_s"])
        shown["before: MiB"] = f"{before['mib']:,.0f}"
        shown["before / now"] = over_now(before) if "over_now" in before else "-"
    if "bound_s" in figures:
        shown["bound"] = time_text(figures["bound_s"])
        shown["times the bound"] = ratio_text(figures["times_bound"])
        shown["the bound"] = figures["bound_is"]
    return shown


def show_tables(
    arguments: argparse.Namespace, tables: Iterable[Iterable[dict[str, Any]]], **more: Any
) -> None:
    """Print tables of rows ``{column: cell}`` as they come; write them to ``--output``, if given.

    The figures behind a row stand under ``figures``, which is no column. Machine and versions are
    printed first: a table that is a generator is measured after them. The file is written after
    every row, so that hours are not lost with the last one; ``more`` are further fields of it.
    """
    content = about_run(arguments) | more
    print("\n".join(f"{name}: {value}" for name, value in content.items()), flush=True)
    shown: list[dict[str, Any]] = []
    for rows in tables:
        found: list[dict[str, Any]] = []
        for row in rows:
            found.append(row)
            if arguments.output:
                write_figures(arguments.output, content | {"tables": [*shown, as_table(found)]})
        if found:
            shown.append(as_table(found))
            print(f"\n{table(shown[-1]['header'], shown[-1]['rows'])}", flush=True)


def as_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    columns = dict.fromkeys(column for row in rows for column in row if column != "figures")
    return {
        "header": list(columns),
        "rows": [[row.get(column, "-") for column in columns] for row in rows],
        "figures": [row.get("figures") for row in rows],
    }


def about_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """How figures came about: command, code, machine, versions."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    for flag in filter(words.__contains__, _PLACES):
        del words[words.index(flag) : words.index(flag) + 2]
    if "--peers_python" in words:
        words[words.index("--peers_python") + 1] = "PATH"
    about: dict[str, Any] = {"command": " ".join(["python", *words])}
    if (ROOT / ".git").exists() and shutil.which("git"):
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!docs/results")
        about["commit"] = commit_of("HEAD")[:12] + (" and changes" if changed else "")
    if getattr(arguments, "before", None):
        about["before"] = commit_of(arguments.before)[:12]
    about["machine"], about["versions"] = this_machine(), versions()
    for name in ("threads", "repeats"):
        if hasattr(arguments, name):
            about[name] = getattr(arguments, name)
    return about


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_figures(output: str, content: dict) -> None:
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(content), indent=2)
    Path(output).write_text(text + "\n", encoding="utf-8")


def rounded(content: Any) -> Any:
    """JSON with five digits of every number that is no integer."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return float(f"{content:.5g}") if isinstance(content, float) else content

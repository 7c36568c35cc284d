"""What the benchmarks share: a command as a whole process, the machine in words, the figures kept.

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
from collections.abc import Sequence
from pathlib import Path

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


def measure(command: list[str], *, env: dict[str, str] | None = None) -> tuple[float, float]:
    """Run ``python command`` from the repository root: seconds, peak memory in MiB.

    ``RuntimeError`` with its messages if it fails.
    """
    measured = subprocess.run(
        [sys.executable, "-c", _MEASURE, sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak, code = json.loads(measured.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)} failed: {measured.stderr}")
    kilobytes = peak / (1024 if sys.platform == "darwin" else 1)
    return seconds, kilobytes / 1024


def output_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, the JSON file that ``Figures.write`` writes."""
    parser.add_argument("--output", default=None, help="write the figures to this JSON file")


class Figures:
    """Tables of text, printed as they come and kept for a page of the documentation."""

    def __init__(self, page: str, machine: str | None = None) -> None:
        words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
        if "--output" in words:  # where the figures are written is no part of how they came about
            del words[words.index("--output") : words.index("--output") + 2]
        self.content: dict = {
            "command": " ".join(words),
            "machine": machine or describe_machine(),
            "page": page,
            "tables": [],
        }
        print(self.content["machine"], flush=True)

    def add(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table and keep it."""
        from coverage_principle.cli import table

        print(f"\n{table(header, rows)}", flush=True)
        self.content["tables"].append({"header": list(header), "rows": [list(r) for r in rows]})

    def write(self, output: str | None) -> None:
        """Write what was kept, if a file was asked for."""
        if output:
            text = json.dumps(self.content, indent=2) + "\n"
            Path(output).write_text(text, encoding="utf-8")


def describe_machine() -> str:
    """Processor, cores and versions, as text."""
    import numpy

    from coverage_principle.experiments.claims.base import processor

    return (
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {numpy.__version__}"
    )

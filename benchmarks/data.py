"""Time and memory of the generators as whole processes, and how cost grows with N."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import describe_machine, measure

from coverage_principle.cli import run, table

#: name -> command; the sizes that the project is held to.
CASES = {
    "2-hop |X|=50 N=10,000": ("twohop.py", 50, 10_000),
    "3-hop |X|=200 N=1,000,000": ("threehop.py", 200, 1_000_000),
    "non-tree |X|=200 N=600,000": ("nontree.py", 200, 600_000),
    "5-hop |X|=50 N=600,000 CoT": ("fivehop.py", 50, 600_000),
}
#: N over which the cost of an item is followed, 3-hop |X|=200.
GROWTH = (10_000, 100_000, 1_000_000)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", default=None, help="write the figures to this JSON file")
    return parser


def main(arguments: argparse.Namespace) -> None:
    results = {"machine": describe_machine(), "cases": {}, "growth": {}}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (script, tokens, size) in CASES.items():
            seconds, peak = measure(command(script, tokens, size, folder))
            results["cases"][name] = {"seconds": seconds, "peak_mib": peak}
            rows.append([name, f"{seconds:.1f}", f"{peak:,.0f}"])
        print(table(["whole process", "seconds", "peak MiB"], rows), flush=True)
        rows = []
        for size in GROWTH:
            seconds, peak = measure(command("threehop.py", 200, size, folder))
            results["growth"][str(size)] = {"seconds": seconds, "peak_mib": peak}
        first = results["growth"][str(GROWTH[0])]["seconds"]
        for before, size in zip((0, *GROWTH), GROWTH, strict=False):
            seconds = results["growth"][str(size)]["seconds"]
            earlier = results["growth"][str(before)]["seconds"] if before else 0.0
            per_item = 1e6 * (seconds - earlier) / (size - before)
            rows.append([f"{size:,}", f"{seconds:.1f}", f"{per_item:.1f}" if before else "-"])
        print("\n3-hop |X|=200; start-up, tables and test items are in the first row")
        print(table(["N", "seconds", "us per further item"], rows))
        results["start_seconds"] = first
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def command(script: str, tokens: int, size: int, folder: str) -> list[str]:
    return [
        f"dataset_generation/{script}", "--num_tokens", str(tokens),
        "--max_train_data_num", str(size), "--output_dir", folder, "--overwrite",
    ]  # fmt: skip


if __name__ == "__main__":
    run(build_parser(), main)

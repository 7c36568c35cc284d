"""Run a grid of settings: generate, cover, train, evaluate and analyse each, once.

SPEC.json names what to run (docs/sweeps.md tells how). Each run has a folder named by a hash of its
settings; what is finished is skipped, what was interrupted goes on, and every finished run is a
line of results.jsonl and a row of results.csv. Start it again at any time.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import wait
from pathlib import Path

from sweeping import launcher_flags, sweeping, watch

from coverage_principle.cli import run, table


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC.json", help="base settings and a grid")
    parser.add_argument(
        "--output_dir",
        default=None,
        help="the sweep's folder (default: results/sweeps/NAME in the repository)",
    )
    launcher_flags(parser, ("local", "slurm", "print"))
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.experiments import read_spec
    from coverage_principle.paths import relative_to_root, repository_root

    spec = read_spec(Path(arguments.spec))
    default = repository_root() / "results" / "sweeps" / spec.name
    root = Path(arguments.output_dir or default).resolve()
    if arguments.launcher == "print":
        show_commands(spec, root)
        return
    print(f"{spec.name}: {len(spec.runs):,} runs in {relative_to_root(root)}")
    with sweeping(arguments, root) as sweep:
        futures = sweep.submit_all(spec.runs)
        watch(sweep, lambda: wait(futures))
    file = sweep.ledger.write_table()
    records = [sweep.ledger.records.get(run.id) for run in spec.runs]
    print(f"\n{table(*result_table(spec.runs, records))}\n")
    print(f"results: {relative_to_root(file)}, {relative_to_root(file.with_suffix('.jsonl'))}")
    report_trouble(sweep, spec.runs, futures)


def show_commands(spec, root: Path) -> None:
    """The commands of every run, a world's only once."""
    worlds = set()
    for one in spec.runs:
        world, folder = root / "worlds" / one.world, root / "runs" / one.id
        print(f"# {one.id}  {one.label}")
        if one.world not in worlds:
            worlds.add(one.world)
            for command in one.world_commands(world):
                print(command.shown())
        for command in one.run_commands(folder, world):
            print(command.shown())


def result_table(runs, records) -> tuple[list[str], list[list[str]]]:
    """A row a run: how it ended, and accuracy by type."""
    types = sorted(
        {
            group
            for record in records
            if record
            for group in record.get("scores", {})
            if "/" not in group
        }
    )
    rows = []
    for one, record in zip(runs, records, strict=True):
        scores = (record or {}).get("scores", {})
        rows.append(
            [
                f"{one.id}  {one.label}",
                (record or {}).get("status", "open"),
                f"{record['steps']:,}" if scores else "-",
                *(f"{scores[t]['answer_accuracy']:.3f}" if t in scores else "-" for t in types),
            ]
        )
    return ["run", "status", "steps", *types], rows


def report_trouble(sweep, runs, futures) -> None:
    """Name what failed or was interrupted, and leave with status 1 if anything did."""
    troubled = 0
    for one, future in zip(runs, futures, strict=True):
        error = future.exception()
        if error is not None:
            print(f"interrupted: {one.id}  {one.label}: {error}", file=sys.stderr)
        elif (record := future.result())["status"] == "failed":
            log = sweep.log(one, record["stage"])
            print(
                f"failed: {one.id}  {one.label}, at {record['stage']}: {record['error']} "
                f"(log: {log})",
                file=sys.stderr,
            )
        else:
            continue
        troubled += 1
    if troubled:
        sys.exit(
            f"{troubled:,} of {len(runs):,} runs are not done; run the command again to go "
            "on, with --retry_failed for those that failed"
        )


if __name__ == "__main__":
    run(build_parser(), main)

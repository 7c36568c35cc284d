"""The hot paths beside what others offer for the same: coverage, a training step, circuits.

Coverage: the k-sweep written straightforwardly (peers_coverage.py) with connected components by
scipy, igraph, rustworkx and networkx; ours is the whole command, which also counts with true
values, looks at contradictions, draws and writes. The k-cutoffs must be equal. A training step in
fp32: a small loop of its own, not compiled, and transformers' Trainer. Tracing by layers, and by
heads: plain hooks, TransformerLens and nnsight; the probabilities must be equal. Attention
patterns, averaged over items: TransformerLens and nnsight. A row says so where --peers_python lacks
a package. Takes about 12 minutes with --before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from circuits import time_heads, time_patterns, time_trace
from common import (
    OUT,
    Bench,
    Usage,
    bench,
    cells,
    generate,
    over_now,
    part,
    show_tables,
    time_text,
    worlds_parser,
)
from training import time_ours

from coverage_principle.cli import group_of, run

AMOUNTS = {
    "--batch": (512, "items of a training step"),
    "--steps": (30, "steps of a measurement"),
    "--items": (50, "items to trace"),
    "--patterns": (500, "items whose attention is averaged"),
    "--width": (768, "of the traced model, a multiple of 12"),
}
LIBRARIES = ("scipy", "igraph", "rustworkx", "networkx")
LENSES = {"TransformerLens": "transformer_lens", "nnsight": "nnsight"}
#: Whose versions are recorded, in the environment of the peers.
PACKAGES = (
    *("numpy", "scipy", "igraph", "rustworkx", "networkx", "torch", "transformers"),
    *("transformer-lens", "nnsight"),
)
#: By how much probabilities of the same run may differ.
_SAME = 1e-5


def build_parser() -> argparse.ArgumentParser:
    parser = worlds_parser(__doc__, "twohop:50:10000 twohop:200:400000", AMOUNTS, row_seconds=40)
    about = "python of an environment that has the peers (default: this one)"
    add = group_of(parser, "measured").add_argument
    add("--peers_python", metavar="PATH", default=sys.executable, help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder)
        options = {"python": arguments.peers_python, "threads": measured.threads}
        peer = partial(part, **options)
        tables = [
            (row for world in arguments.worlds for row in coverage(measured, peer, world, base)),
            training(arguments, measured, peer),
            circuits(arguments, measured, peer),
        ]
        used = peer("common.versions", PACKAGES)
        show_tables(arguments, tables, peers=used.said)


def coverage(measured: Bench, peer: Callable, world: str, base: Path) -> Iterator[dict]:
    folder, _ = generate(world, base)
    command = ("determine_coverage.py", "--data_dir", folder, "--k_sweep", "--output_dir", OUT)
    ways = measured.ways(*command)
    ways |= {name: partial(peer, "peers_coverage.cutoffs", str(folder), name) for name in LIBRARIES}
    figures = measured.row(ways)
    records = json.loads((folder / "test_annotated.json").read_text(encoding="utf-8"))
    found = [record["k_cutoff"] for record in records if record["type"] == "type_0"]
    same_numbers(figures, found, 0)
    yield from shown(f"k-sweep of {world}", figures)


def training(arguments: argparse.Namespace, measured: Bench, peer: Callable) -> Iterator[dict]:
    given = arguments.batch, arguments.steps
    ways = measured.ways(time_ours, *given, "fp32", run=part)
    ways["small loop"] = partial(peer, "peers_training.small_loop", *given)
    ways["Trainer of transformers"] = partial(peer, "peers_training.hf_trainer", *given)
    figures = measured.row(ways)
    yield from shown(f"a step of {arguments.batch:,} items", figures)


def circuits(arguments: argparse.Namespace, measured: Bench, peer: Callable) -> Iterator[dict]:
    for what, heads in (("tracing", False), ("heads of", True)):
        given, ours = (arguments.items, arguments.width, 0), time_heads if heads else time_trace
        ways: dict[str, Callable[[], Usage]] = measured.ways(ours, *given, False, run=part)
        ways["plain hooks"] = partial(part, ours, *given, True, threads=measured.threads)
        for name, library in LENSES.items():
            ways[name] = partial(peer, f"peers_tracing.with_{library}", *given, heads)
        yield from beside(measured, ways, f"{what} {arguments.items:,} items")
    given = arguments.patterns, arguments.width
    ways = measured.ways(time_patterns, *given, run=part)
    for name, library in LENSES.items():
        ways[name] = partial(peer, f"peers_tracing.patterns_with_{library}", *given)
    yield from beside(measured, ways, f"attention patterns of {arguments.patterns:,} items")


def beside(measured: Bench, ways: Mapping[str, Callable[[], Usage]], what: str) -> Iterator[dict]:
    figures = measured.row(ways)
    same_numbers(figures, figures["now"]["said"]["found"], _SAME)
    yield from shown(what, figures)


def same_numbers(figures: dict[str, Any], wanted: list, allowed: float) -> None:
    """``RuntimeError`` unless every way found the same; what they found is dropped."""
    for name, one in figures.items():
        found = one.pop("said", {}).get("found", wanted) if isinstance(one, dict) else wanted
        worst = max((abs(a - b) for a, b in zip(found, wanted, strict=True)), default=0)
        if worst > allowed:
            raise RuntimeError(f"{name} differs from this repository by {worst}")


def shown(what: str, figures: Mapping[str, Any]) -> Iterator[dict]:
    """A row for this repository and one for each peer; the figures stand beside the first."""
    yield {"what": what, "by": "this repository", **cells(figures), "figures": figures}
    for name, one in figures.items():
        if name in ("now", "before"):
            continue
        row = {"what": what, "by": name}
        if "failed" in one:
            lacks = "No module named" in one["failed"]
            yield row | {"CPU time": "not installed" if lacks else one["failed"][:60]}
        else:
            time, memory = time_text(one["cpu_s"]), f"{one['mib']:,.0f}"
            yield row | {"CPU time": time, "MiB": memory, "times ours": over_now(one)}


if __name__ == "__main__":
    run(build_parser(), main)

"""How far each hot path is from the work at its heart, measured in the same run.

The bound of a training step: its products with weights, forward and backward, and nothing else. Of
coverage: sorting one number for each item and slot set, and one for each pair of items that meet in
a context with one answer. Of reading and writing data: the same bytes, read once or copied. Of
tracing: the products with weights of all runs that go on from a patched state. Of clustering: each
vector's product with itself and with the sum of its group. Of a start: Python, or torch, alone.
Steps, tracing, clustering and reading leave out the start, the other rows are whole processes. The
worlds' sizes tell the rest. Takes about 6 minutes with --before.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from circuits import time_cluster, time_trace, vectors_of
from common import (
    OUT,
    Bench,
    Usage,
    bench,
    cells,
    generate,
    measure,
    part,
    per_round,
    show_tables,
    timed,
    worlds_parser,
)
from coverage import meetings
from training import ONE_STEP, SMALL, STEPS, TOKENS, time_ours

from coverage_principle.cli import run

DEFAULT = "twohop:200:400000 threehop:50:200000 fivehop:50:200000"
AMOUNTS = {
    "--batch": (512, "items of a training step"),
    "--steps": (30, "steps of a measurement"),
    "--items": (100, "items to trace"),
    "--vectors": (10_000, "vectors to cluster"),
    "--width": (768, "of states and vectors, a multiple of 12"),
}
#: Numbers that are sorted at once; of more, as many times as long.
_SORTED = 1 << 23
#: Layers and positions of the traced model, and the slot that changes.
_TRACED = (8, 3, 0)

Row = tuple[str, dict[str, Callable[[], Usage]], str]


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, bench(arguments) as measured:
        base = Path(arguments.data or folder)
        show_tables(arguments, [shown(measured, rows(arguments, measured, base))])


def shown(measured: Bench, rows: Iterator[Row]) -> Iterator[dict]:
    for name, ways, bound in rows:
        figures = measured.row(ways, bound)
        for way in ways:
            figures[way].pop("said", None)
        yield {"what": name, **cells(figures), "figures": figures}


def rows(arguments: argparse.Namespace, measured: Bench, base: Path) -> Iterator[Row]:
    """Name, ways, and what the bound is."""
    yield from of_models(arguments, measured)
    yield from of_starts(measured)
    for number, world in enumerate(arguments.worlds):
        yield from of_data(measured, world, base, every=not number)


def of_models(arguments: argparse.Namespace, measured: Bench) -> Iterator[Row]:
    for precision in ("fp32", "bf16"):
        ways = measured.ways(time_ours, arguments.batch, arguments.steps, precision, run=part)
        ways |= measured.bound(time_step_products, arguments.batch, arguments.steps, precision)
        name = f"a training step of {arguments.batch:,} items, {precision}"
        yield name, ways, "its products with weights"
    items, width, slot = arguments.items, arguments.width, _TRACED[2]
    ways = measured.ways(time_trace, items, width, slot, False, run=part)
    ways |= measured.bound(time_trace_products, items, width)
    yield f"tracing {items:,} items, 8 layers", ways, "its products with weights"
    ways = measured.ways(time_cluster, arguments.vectors, width, False, run=part)
    ways |= measured.bound(time_cosines, arguments.vectors, width)
    yield f"clustering {arguments.vectors:,} vectors", ways, "two products for each vector"


def of_starts(measured: Bench) -> Iterator[Row]:
    ways = measured.ways("main.py", "--help")
    ways["bound"] = partial(measure, "-c", "pass")
    yield "main.py --help", ways, "Python's own start"
    with tempfile.TemporaryDirectory() as run_folder:
        used = measure(*STEPS.split(), run_folder, *ONE_STEP)
        if used.failed:
            raise RuntimeError(used.failed)
        checkpoint = Path(run_folder) / "final_checkpoint"
        ways = measured.ways("circuit_analysis/cluster.py", "--ckpt", checkpoint, "--save_dir", OUT)
        ways["bound"] = partial(measure, "-c", "import torch", threads=measured.threads)
        yield "clustering the states of a model of 2 layers", ways, "the import of torch"


def of_data(measured: Bench, world: str, base: Path, *, every: bool) -> Iterator[Row]:
    """Rows of a data set; ``every``: also of writing, reading, and the domain scope."""
    folder, size = generate(world, base)
    task, tokens, _ = world.split(":")
    if every:
        made = (f"dataset_generation/{task}.py", "--num_tokens", tokens)
        ways = measured.ways(*made, "--max_train_data_num", size, "--output_dir", OUT)
        ways |= measured.bound(time_copy, str(folder))
        yield f"generating {world}", ways, "its bytes copied"
        ways = measured.ways(time_load, str(folder), run=part)
        ways |= measured.bound(time_read, str(folder))
        yield f"reading {world}", ways, "the bytes of its files read"
    command = ("determine_coverage.py", "--data_dir", folder, "--output_dir", OUT, "--k_sweep")
    for scope in ("dataset", "domain")[: 2 if every else 1]:
        ways = measured.ways(*command, "--scope", scope)
        ways |= measured.bound(time_pair_work, str(folder), scope)
        words = "sorting a number for each item, slot set and pair"
        words += ", writing one for each input" if scope == "domain" else ""
        yield f"k-sweep of {world}, {scope} scope", ways, words


# ------------------------------------------------------------------------------- bounds, as parts


def time_step_products(batch: int, count: int, precision: str) -> dict[str, float]:
    """CPU and wall seconds of the products of a step with weights, forward and backward.

    The last block needs keys and values of all positions, and all else at the last one alone.
    """
    import torch

    layers, _, width = SMALL
    every, vocabulary = 3 * batch, -(-(TOKENS + 1) // 8) * 8
    shapes = [(every, width, n * width) for n in (3, 1, 4)] + [(every, 4 * width, width)]
    last = [(every, width, 2 * width), (batch, 4 * width, width), (batch, width, vocabulary)]
    shapes = shapes * (layers - 1) + last + [(batch, width, n * width) for n in (1, 1, 4)]
    made = [
        products_of(shape, getattr(torch, {"bf16": "bfloat16", "fp32": "float32"}[precision]))
        for shape in shapes
    ]
    return per_round(lambda: [product() for three in made for product in three], count)


def time_trace_products(items: int, width: int) -> dict[str, float]:
    """The same of a trace: two whole runs, and those that go on from each layer and position."""
    import torch

    layers, tokens, slot = _TRACED
    rounds = [(1, tokens, block) for block in range(layers)] * 2  # stacked runs, positions, block
    for position in range(slot, tokens):
        rounds += [(block, tokens - position, block) for block in range(1, layers)]

    def shapes() -> Iterator[tuple[int, int, int]]:
        for stacked, positions, block in rounds:
            every = stacked * items * positions
            most = every if block < layers - 1 else stacked * items
            yield every, width, 2 * width
            yield from ((most, width, n * width) for n in (1, 1, 4))
            yield most, 4 * width, width

    made = {shape: products_of(shape, torch.float32)[0] for shape in set(shapes())}
    return per_round(lambda: [made[shape]() for shape in shapes()], 1)


def products_of(shape: tuple[int, int, int], dtype) -> tuple[Callable, Callable, Callable]:
    """Output, gradient of the input and gradient of the weight of a linear layer, to be called."""
    import torch

    rows, width, out = shape
    inputs = torch.randn(rows, width).to(dtype)
    weight, gradient = torch.randn(width, out).to(dtype), torch.randn(rows, out).to(dtype)

    def product(first: torch.Tensor, second: torch.Tensor) -> Callable:
        # Into memory that is there: a new block for each product would cost more than some do.
        return partial(torch.mm, first, second, out=first @ second)

    return product(inputs, weight), product(gradient, weight.T), product(inputs.T, gradient)


def time_cosines(count: int, width: int) -> dict[str, float]:
    import numpy as np

    vectors, _ = vectors_of(count, width)
    total = vectors.sum(axis=0)
    return per_round(lambda: (np.einsum("ij,ij->i", vectors, vectors), vectors @ total), 5)


def time_load(folder: str) -> dict[str, float]:
    from coverage_principle.data import load_dataset

    return timed(load_dataset, Path(folder))[1]


def time_read(folder: str) -> dict[str, float]:
    files = [path for path in Path(folder).iterdir() if path.is_file()]
    return per_round(lambda: [path.read_bytes() for path in files], 3)


def time_copy(folder: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        return per_round(lambda: shutil.copytree(folder, place, dirs_exist_ok=True), 1)


def time_pair_work(folder: str, scope: str) -> dict[str, float]:
    """CPU and wall seconds of sorting as many numbers as coverage has to tell apart."""
    import numpy as np

    from coverage_principle.data import load_dataset

    dataset = load_dataset(Path(folder))
    numbers = 0
    for meets in meetings(dataset.train.inputs, dataset.train.answers, dataset.slot_sizes):
        numbers += len(dataset.train) + int((meets * (meets - 1) // 2).sum())
    keys = np.random.default_rng(0).integers(0, 1 << 62, size=min(numbers, _SORTED))
    times = per_round(lambda: np.sort(keys), 1)
    inputs = int(np.prod(dataset.slot_sizes, dtype=np.int64)) if scope == "domain" else 0
    _, written = timed(lambda: np.zeros(inputs, np.int32).fill(1))
    return {name: numbers / len(keys) * times[name] + written[name] for name in times}


if __name__ == "__main__":
    run(worlds_parser(__doc__, DEFAULT, AMOUNTS, row_seconds=40), main)

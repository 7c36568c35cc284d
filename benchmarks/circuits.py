"""Times circuit analysis against the plain way of doing the same.

Tracing: every layer and position of a random 8-layer model of width 768, against a whole forward of
the patched model for each (layer, position); and every head, against one for each (layer, head,
position). Items are run in batches of that size, so that time is in proportion to them. Clustering:
IICG of 10,000 vectors of width 768, from group sums against the matrix of all pairs. Both ways'
numbers are compared before any time is shown. States: a process that takes the states of 20,000
items at all layers and positions of a 2-layer model of width 768 and clusters them. Probes: the
whole command on a run such as the quickstart's, with --run. Start is left out of times, not of
memory, but for the probes. Takes about 8 minutes with --before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common import OUT, Bench, bench, benchmark_parser, cells, over_now, part, show_tables, timed

from coverage_principle.cli import group_of, run

AMOUNTS = {
    "--items": (150, "items to trace"),
    "--head_items": (50, "items to trace by heads"),
    "--vectors": (10_000, "vectors to cluster"),
    "--states": (20_000, "items to take states of"),
    "--width": (768, "of states and vectors, a multiple of 12"),
}
PROBE = "circuit_analysis/probe.py"
#: Which slot a counterfactual changes, and what that is.
CHANGES = {1: "x2 changes, as in diff_f1", 0: "x1 changes, the slowest case"}


def main(arguments: argparse.Namespace) -> None:
    with bench(arguments) as measured:
        show_tables(arguments, [rows(arguments, measured)])


def rows(arguments: argparse.Namespace, measured: Bench) -> Iterator[dict]:
    items, by_heads, vectors, states, width = (
        getattr(arguments, name) for name in ("items", "head_items", "vectors", "states", "width")
    )
    cases: list[tuple[str, Callable, tuple, float]] = [
        (f"tracing {items:,} items, {about}", time_trace, (items, width, slot), 1e-5)
        for slot, about in CHANGES.items()
    ]
    cases += [
        (f"heads of {by_heads:,} items, {about}", time_heads, (by_heads, width, slot), 1e-5)
        for slot, about in CHANGES.items()
    ]
    cases.append((f"clustering {vectors:,} vectors", time_cluster, (vectors, width), 1e-6))
    for name, function, given, allowed in cases:
        ways = measured.ways(function, *given, False, run=part)
        ways["plain"] = partial(part, function, *given, True, threads=measured.threads)
        figures = measured.row(ways)
        plain, found = figures["plain"], [figures[way]["said"] for way in ("plain", "now")]
        worst = max(abs(a - b) for a, b in zip(*(one["found"] for one in found), strict=True))
        if worst > allowed:
            raise RuntimeError(f"{name}: the two ways differ by {worst}, more than {allowed}")
        for one in figures.values():
            one.pop("said", None)
        more = {"plain / now": over_now(plain), "largest difference": f"{worst:.1e}"}
        yield {"task": name, **cells(figures), **more, "figures": figures}
    figures = measured.row(measured.ways(time_states, states, width, run=part))
    task = f"states of {states:,} items at all layers and positions, clustered"
    yield {"task": task, **cells(figures), "figures": figures}
    if arguments.run:
        flags = "--model_dir", Path(arguments.run).resolve(), "--step_list", "final_checkpoint"
        figures = measured.row(measured.ways(PROBE, *flags, "--save_dir", OUT, "--device", "cpu"))
        task = "probes of every value at all layers and positions of a run's model"
        yield {"task": task, **cells(figures), "figures": figures}


def random_model(layers: int, width: int):
    """A GPT-2 with random weights, and its ids of 50 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from coverage_principle.circuits import LoadedModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=56, n_layer=layers, n_head=12, n_embd=width, n_positions=16)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return LoadedModel(model, torch.arange(51))


def trace_case(count: int, slot: int) -> tuple:
    """Originals and sources (n, 3), answers (n, 2), of 50 tokens."""
    import numpy as np

    rng = np.random.default_rng(0)
    originals = rng.integers(0, 50, size=(count, 3))
    sources = originals.copy()
    # States differ from the changed slot on; cells before it are the original's by causality.
    sources[:, slot] = (originals[:, slot] + 7) % 50
    return originals, sources, rng.integers(0, 50, size=(count, 2))


def time_heads(count: int, width: int, slot: int, plain: bool) -> dict:
    return time_trace(count, width, slot, plain, heads=True)


def pattern_case(count: int):
    """Inputs (n, 3) of 50 tokens."""
    return trace_case(count, 0)[0]


def time_trace(count: int, width: int, slot: int, plain: bool, heads: bool = False) -> dict:
    """Times, and probabilities of all layers (or heads) and positions of the first items."""
    from coverage_principle.circuits import patch_runs

    loaded, case = random_model(8, width), trace_case(count, slot)
    options = {}
    if heads:
        from coverage_principle.circuits import head_patch

        options["stream"] = head_patch(loaded)

    def ours(originals, sources, answers):
        changes = originals, sources, answers[:, None]
        return patch_runs(loaded, *changes, probabilities=True, **options)[0].after["prob"]

    way = partial(plain_trace, loaded, heads=heads) if plain else ours
    way(*(array[: 4 if heads else 64] for array in case))  # warm up
    found, times = timed(way, *case)
    return {**times, "found": found[:, :, :20].ravel().tolist()}


def plain_trace(loaded, originals, sources, answers, heads: bool):
    """Probabilities (layers, positions, n, 2): a whole forward for each layer and position.

    With ``heads`` (layers * heads, positions, n, 2), and a forward for each head.
    """
    import numpy as np
    import torch

    model, blocks = loaded.model, loaded.model.transformer.h
    ids, wanted = loaded.encode(originals), loaded.encode(answers)
    # What reads a block's output, or that of its heads side by side.
    readers = [*blocks[1:], model.transformer.ln_f]
    if heads:
        readers = [block.attn.c_proj for block in blocks]
    copies = model.config.n_head if heads else 1
    size = model.config.n_embd // copies
    found = np.zeros((len(readers) * copies, 3, len(originals), 2), dtype=np.float32)
    with torch.no_grad():
        donors: list = []
        hooks = [r.register_forward_pre_hook(lambda _, a: donors.append(a[0])) for r in readers]
        model(loaded.encode(sources), use_cache=False)
        for hook in hooks:
            hook.remove()
        for row, position in np.ndindex(found.shape[:2]):
            layer, copy = divmod(row, copies)
            columns = slice(copy * size, (copy + 1) * size)
            replace = replacer(donors[layer], position, columns)
            hook = readers[layer].register_forward_pre_hook(replace)
            logits = model(ids, use_cache=False).logits[:, -1]
            hook.remove()
            found[row, position] = logits.softmax(-1).gather(1, wanted).numpy()
    return found


def replacer(donor, position: int, columns: slice):
    def replace(_module, arguments):
        state = arguments[0].clone()
        state[:, position, columns] = donor[:, position, columns]
        return (state, *arguments[1:])

    return replace


def time_patterns(count: int, width: int) -> dict:
    """Times, and attention (layers, heads, queries, keys), averaged over items."""
    import numpy as np

    from coverage_principle.circuits import mean_patterns

    loaded, inputs = random_model(8, width), pattern_case(count)

    def average(inputs):
        whole = {"all": np.arange(len(inputs))}
        return mean_patterns(loaded, inputs, whole, batch_size=4096)["all"]

    average(inputs[:64])  # warm up
    found, times = timed(average, inputs)
    return {**times, "found": np.ravel([head["weights"] for head in found]).tolist()}


def vectors_of(count: int, width: int) -> tuple:
    """Vectors (n, width) float32 of 50 groups that differ, and their groups (n,)."""
    import numpy as np

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 50, size=count)
    vectors = rng.normal(size=(count, width)) + rng.normal(size=(50, width))[groups]
    return vectors.astype(np.float32), groups


def time_cluster(count: int, width: int, plain: bool) -> dict:
    """Times and IICG."""
    from coverage_principle.circuits import measure_similarity

    def ours(vectors, groups) -> float:
        return float(measure_similarity(vectors, groups)["iicg"])

    way, case = plain_iicg if plain else ours, vectors_of(count, width)
    way(*(array[:64] for array in case))  # warm up
    found, times = timed(way, *case)
    return {**times, "found": [found]}


def plain_iicg(vectors, groups) -> float:
    """Mean cosine within groups minus that between groups, from the matrix of all pairs."""
    import numpy as np

    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    above = np.triu(np.ones(cosines.shape, dtype=bool), k=1)
    same = groups[:, None] == groups[None, :]
    return float(cosines[above & same].mean() - cosines[above & ~same].mean())


def time_states(count: int, width: int) -> dict[str, float]:
    import numpy as np

    from coverage_principle.circuits import collect_states, measure_similarity, sites_of

    rng = np.random.default_rng(0)
    inputs, groups = rng.integers(0, 50, size=(count, 3)), rng.integers(0, 50, size=count)

    def clustered(loaded) -> None:
        for vectors in collect_states(loaded, inputs, sites_of("residual", 2, 3, None)).values():
            measure_similarity(vectors, groups)

    return timed(clustered, random_model(2, width))[1]


def build_parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__, AMOUNTS, row_seconds=40)
    about = "a run's folder, such as the quickstart's for 2,500 items, whose probes are timed"
    group_of(parser, "measured").add_argument("--run", metavar="FOLDER", help=about)
    return parser


if __name__ == "__main__":
    run(build_parser(), main)

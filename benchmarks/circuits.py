"""Times circuit analysis against the plain way of doing the same, paired in one run.

Tracing: every layer and position of a random 8-layer model of width 768, against a whole forward of
the patched model for each (layer, position). Clustering: IICG of 10,000 vectors of width 768, from
group sums against the matrix of all pairs. Memory: the largest resident size of a process that
takes the states of 20,000 items at all layers and positions of a 2-layer model of width 768 and
clusters them. Both ways' numbers are compared before any time is shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from common import benchmark_parser, measure, show_tables, timed

from coverage_principle.cli import group_of, run

AMOUNTS = {
    "--items": (2000, "items to trace"),
    "--vectors": (10_000, "vectors to cluster"),
    "--states": (20_000, "items to take states of"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__, AMOUNTS)
    about = "take the states and leave (used by itself)"
    group_of(parser, "measured").add_argument("--memory_only", action="store_true", help=about)
    return parser


def main(arguments: argparse.Namespace) -> None:
    if arguments.memory_only:
        take_states(arguments.states)
    else:
        show_tables("docs/circuit_analysis.md", tables(arguments), arguments.output)


def tables(arguments: argparse.Namespace) -> Iterator[list[dict[str, str]]]:
    yield [
        trace_times(arguments.items, 1, "x2 changes, as in diff_f1"),
        trace_times(arguments.items, 0, "x1 changes, the slowest case"),
        cluster_times(arguments.vectors),
    ]
    count = arguments.states
    seconds, peak = measure("benchmarks/circuits.py", "--memory_only", "--states", count)
    task = f"states of {count:,} items at all layers and positions, clustered"
    yield [{"task": task, "here (s)": f"{seconds:.1f}", "MiB at most": f"{peak:,.0f}"}]


def random_model(layers: int):
    """A GPT-2 of the paper's width with random weights, and its ids of 50 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from coverage_principle.circuits import LoadedModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=56, n_layer=layers, n_head=12, n_embd=768, n_positions=16)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return LoadedModel(model, torch.arange(51))


def trace_times(count: int, slot: int, about: str) -> dict[str, str]:
    import numpy as np

    from coverage_principle.circuits import patch_runs

    loaded, rng = random_model(8), np.random.default_rng(0)
    originals = rng.integers(0, 50, size=(count, 3))
    sources = originals.copy()
    # States differ from the changed slot on; cells before it are the original's by causality.
    sources[:, slot] = (originals[:, slot] + 7) % 50
    answers = rng.integers(0, 50, size=(count, 2))

    def ours(n: int):
        changes = originals[:n], sources[:n], answers[:n, None]
        return patch_runs(loaded, *changes, probabilities=True)[0].after["prob"]

    ours(64)  # warm up
    found, seconds = timed(ours, count)
    wanted, plain = timed(plain_trace, loaded, originals, sources, answers)
    worst = float(np.abs(wanted - found).max())
    return row(f"tracing {count:,} items, {about}", plain, seconds, worst, 1e-5)


def plain_trace(loaded, originals, sources, answers):
    """Probabilities (layers, positions, n, 2): a whole forward for each layer and position."""
    import numpy as np
    import torch

    model = loaded.model
    ids, wanted = loaded.encode(originals), loaded.encode(answers)
    found = np.zeros((loaded.num_layers, 3, len(originals), 2), dtype=np.float32)
    readers = [*model.transformer.h[1:], model.transformer.ln_f]  # each reads a block's output
    with torch.no_grad():
        donors: list = []
        hooks = [r.register_forward_pre_hook(lambda _, a: donors.append(a[0])) for r in readers]
        model(loaded.encode(sources), use_cache=False)
        for hook in hooks:
            hook.remove()
        for layer, reader in enumerate(readers):
            for position in range(3):
                hook = reader.register_forward_pre_hook(replacer(donors[layer], position))
                logits = model(ids, use_cache=False).logits[:, -1]
                hook.remove()
                found[layer, position] = logits.softmax(-1).gather(1, wanted).numpy()
    return found


def replacer(donor, position: int):
    def replace(_module, arguments):
        state = arguments[0].clone()
        state[:, position] = donor[:, position]
        return (state, *arguments[1:])

    return replace


def cluster_times(count: int) -> dict[str, str]:
    import numpy as np

    from coverage_principle.circuits import measure_similarity

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 50, size=count)
    vectors = rng.normal(size=(count, 768)) + rng.normal(size=(50, 768))[groups]
    vectors = vectors.astype(np.float32)
    found, seconds = timed(measure_similarity, vectors, groups)
    wanted, plain = timed(plain_iicg, vectors, groups)
    worst = abs(wanted - found["iicg"])
    return row(f"clustering {count:,} vectors", plain, seconds, worst, 1e-6)


def plain_iicg(vectors, groups) -> float:
    """Mean cosine within groups minus that between groups, from the matrix of all pairs."""
    import numpy as np

    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    above = np.triu(np.ones(cosines.shape, dtype=bool), k=1)
    same = groups[:, None] == groups[None, :]
    return float(cosines[above & same].mean() - cosines[above & ~same].mean())


def row(name: str, plain: float, ours: float, worst: float, allowed: float) -> dict[str, str]:
    """A row of the table; ``RuntimeError`` if the two ways do not agree."""
    if worst > allowed:
        raise RuntimeError(f"{name}: the two ways differ by {worst}, more than {allowed}")
    return {
        "task": name,
        "plain (s)": f"{plain:.2f}",
        "here (s)": f"{ours:.3f}",
        "times faster": f"{plain / ours:.1f}",
        "largest difference": f"{worst:.1e}",
    }


def take_states(count: int) -> None:
    import numpy as np

    from coverage_principle.circuits import collect_states, measure_similarity, sites_of

    rng = np.random.default_rng(0)
    inputs, groups = rng.integers(0, 50, size=(count, 3)), rng.integers(0, 50, size=count)
    states = collect_states(random_model(2), inputs, sites_of("residual", 2, 3, None))
    for vectors in states.values():
        measure_similarity(vectors, groups)


if __name__ == "__main__":
    run(build_parser(), main)

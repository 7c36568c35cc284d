"""Times circuit analysis against the plain way of doing the same, paired in one run.

Tracing: every layer and position of a random 8-layer model of width 768, against a whole forward of
the patched model for each (layer, position). Clustering: IICG of 10,000 vectors of width 768, from
group sums against the matrix of all pairs. Memory: the largest resident size of a process that
takes the states of 20,000 items at all layers and positions of a 2-layer model of width 768 and
clusters them. Both ways' numbers are compared before any time is shown.
"""

from __future__ import annotations

import argparse

from common import Figures, measure, output_flag

from coverage_principle.cli import command_parser, run


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--items", type=int, default=2000, help="items to trace (default: 2000)")
    add("--vectors", type=int, default=10_000, help="vectors to cluster (default: 10000)")
    add("--states", type=int, default=20_000, help="items to take states of (default: 20000)")
    output_flag(parser)
    add("--memory_only", action="store_true", help="take the states and leave (used by itself)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    if arguments.memory_only:
        take_states(arguments.states)
        return
    figures = Figures("docs/circuit_analysis.md")
    rows = [
        trace_times(arguments.items, 1, "x2 changes, as in diff_f1"),
        trace_times(arguments.items, 0, "x1 changes, the slowest case"),
        cluster_times(arguments.vectors),
    ]
    command = ["benchmarks/circuits.py", "--memory_only", "--states", str(arguments.states)]
    seconds, peak = measure(command)
    header = ("task", "plain (s)", "here (s)", "times faster", "largest difference")
    figures.add(header, rows)
    states = f"states of {arguments.states:,} items at all layers and positions, clustered"
    figures.add(("task", "here (s)", "MiB at most"), [[states, f"{seconds:.1f}", f"{peak:,.0f}"]])
    figures.write(arguments.output)


def random_model(layers: int):
    """A GPT-2 of the paper's width with random weights, and its ids of 50 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from coverage_principle.circuits import LoadedModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=56, n_layer=layers, n_head=12, n_embd=768, n_positions=16)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return LoadedModel(model, torch.arange(51))


def trace_times(count: int, slot: int, about: str) -> list[str]:
    import time

    import numpy as np

    from coverage_principle.circuits import patch_runs

    loaded, rng = random_model(8), np.random.default_rng(0)
    originals = rng.integers(0, 50, size=(count, 3))
    sources = originals.copy()
    # States differ from the changed slot on; cells before it are the original's by causality.
    sources[:, slot] = (originals[:, slot] + 7) % 50
    answers = rng.integers(0, 50, size=(count, 2))
    patch_runs(loaded, originals[:64], sources[:64], answers[:64, None], probabilities=True)
    started = time.perf_counter()
    (ours,) = patch_runs(loaded, originals, sources, answers[:, None], probabilities=True)
    middle = time.perf_counter()
    plain = plain_trace(loaded, originals, sources, answers)
    ended = time.perf_counter()
    worst = float(np.abs(plain - ours.after["prob"]).max())
    return row(f"tracing {count:,} items, {about}", ended - middle, middle - started, worst, 1e-5)


def plain_trace(loaded, originals, sources, answers):
    """Probabilities (layers, positions, n, 2): a whole forward for each layer and position."""
    import numpy as np
    import torch

    model = loaded.model
    ids, donors = loaded.encode(originals), loaded.encode(sources)
    wanted = loaded.encode(answers)
    found = np.zeros((loaded.num_layers, 3, len(originals), 2), dtype=np.float32)
    with torch.no_grad():
        states = model(donors, output_hidden_states=True, use_cache=False).hidden_states
        final = []
        block = model.transformer.h[-1]
        hook = block.register_forward_hook(lambda _m, _a, out: final.append(tensor_of(out)))
        model(donors, use_cache=False)
        hook.remove()
        for layer in range(1, loaded.num_layers + 1):
            donor = final[0] if layer == loaded.num_layers else states[layer]
            for position in range(3):
                block = model.transformer.h[layer - 1]
                hook = block.register_forward_hook(replacer(donor, position))
                logits = model(ids, use_cache=False).logits[:, -1]
                hook.remove()
                found[layer - 1, position] = logits.softmax(-1).gather(1, wanted).numpy()
    return found


def tensor_of(output):
    return output[0] if isinstance(output, tuple) else output


def replacer(donor, position: int):
    def replace(_module, _arguments, output):
        state = tensor_of(output).clone()
        state[:, position] = donor[:, position]
        return (state, *output[1:]) if isinstance(output, tuple) else state

    return replace


def cluster_times(count: int) -> list[str]:
    import time

    import numpy as np

    from coverage_principle.circuits import measure_similarity

    rng = np.random.default_rng(0)
    groups = rng.integers(0, 50, size=count)
    vectors = rng.normal(size=(count, 768)) + rng.normal(size=(50, 768))[groups]
    vectors = vectors.astype(np.float32)
    started = time.perf_counter()
    ours = measure_similarity(vectors, groups)
    middle = time.perf_counter()
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    above = np.triu(np.ones(cosines.shape, dtype=bool), k=1)
    same = groups[:, None] == groups[None, :]
    plain = cosines[above & same].mean() - cosines[above & ~same].mean()
    ended = time.perf_counter()
    worst = abs(float(plain) - ours["iicg"])
    return row(f"clustering {count:,} vectors", ended - middle, middle - started, worst, 1e-6)


def row(name: str, plain: float, ours: float, worst: float, allowed: float) -> list[str]:
    """A row of the table; ``RuntimeError`` if the two ways do not agree."""
    if worst > allowed:
        raise RuntimeError(f"{name}: the two ways differ by {worst}, more than {allowed}")
    return [name, f"{plain:.2f}", f"{ours:.3f}", f"{plain / ours:.1f}", f"{worst:.1e}"]


def take_states(count: int) -> None:
    import numpy as np

    from coverage_principle.circuits import collect_states, measure_similarity, sites_of

    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 50, size=(count, 3))
    groups = rng.integers(0, 50, size=count)
    states = collect_states(random_model(2), inputs, sites_of("residual", 2, 3, None))
    for vectors in states.values():
        measure_similarity(vectors, groups)


if __name__ == "__main__":
    run(build_parser(), main)

"""Circuit analysis straight from the definitions: one pair, one sample, one forward at a time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch


def cosine(a, b) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def cosine_statistics(vectors, groups) -> dict:
    """Means over all pairs; None without pairs."""
    vectors = np.asarray(vectors, dtype=np.float64)
    same, different = {}, {}
    for i, j in combinations(range(len(vectors)), 2):
        value = cosine(vectors[i], vectors[j])
        if groups[i] == groups[j]:
            same.setdefault(groups[i], []).append(value)
        else:
            different.setdefault(frozenset([groups[i], groups[j]]), []).append(value)
    labels = sorted(set(groups))
    centroids = [vectors[[g == label for g in groups]].mean(axis=0) for label in labels]

    def mean(values):
        values = list(values)
        return float(np.mean(values)) if values else None

    def gap(a, b):
        return None if a is None or b is None else a - b

    within = mean(v for values in same.values() for v in values)
    between = mean(v for values in different.values() for v in values)
    within_balanced = mean(mean(values) for values in same.values())
    between_balanced = mean(mean(values) for values in different.values())
    return {
        "n_vectors": len(vectors),
        "n_groups": len(labels),
        "within": within,
        "between_all": between,
        "within_balanced": within_balanced,
        "between_balanced": between_balanced,
        "between_centroid": mean(cosine(a, b) for a, b in combinations(centroids, 2)),
        "iicg": gap(within, between),
        "iicg_balanced": gap(within_balanced, between_balanced),
    }


def diff_f1_candidates(train_rows, f1, f2, item) -> list[int]:
    """2-hop: every x2' that keeps x1, x3, changes b and t, with both calls used in training.

    ``f1`` and ``f2`` map argument pairs to values; ``train_rows`` are (x1, x2, x3).
    """
    seen1 = {(x1, x2) for x1, x2, _ in train_rows}
    seen2 = {(f1[x1, x2], x3) for x1, x2, x3 in train_rows}
    x1, x2, x3 = item
    b = f1[x1, x2]
    found = []
    for other in sorted({second for _, second in f1}):
        if other != x2 and (x1, other) in seen1:
            changed = f1[x1, other]
            if changed != b and (changed, x3) in seen2 and f2[changed, x3] != f2[b, x3]:
                found.append(other)
    return found


def blocks_of(model) -> torch.nn.ModuleList:
    """The blocks of a model of transformers, first to last."""
    parts = model.base_model.children()
    return next(part for part in parts if isinstance(part, torch.nn.ModuleList))


def patched_logits(model, original, source, layer, position) -> torch.Tensor:
    """Last-position logits of ``original`` with one residual state taken from ``source``.

    ``original`` and ``source`` are token-id lists. The state is the one after block ``layer``.
    """
    return patched_output(model, blocks_of(model)[layer - 1], original, source, position)


@torch.no_grad()
def patched_output(model, module, original, source, position) -> torch.Tensor:
    """Last-position logits of ``original`` where ``module`` gives ``source``'s at ``position``.

    The whole model runs, and a hook changes what the module hands on.
    """
    donor = output_of(model, module, source)[position]

    def replace(_module, _arguments, output):
        state = output if isinstance(output, torch.Tensor) else output[0]
        state = state.clone()
        state[0, position] = donor
        return state if isinstance(output, torch.Tensor) else (state, *output[1:])

    handle = module.register_forward_hook(replace)
    try:
        return model(torch.tensor([original])).logits[0, -1]
    finally:
        handle.remove()


@torch.no_grad()
def output_of(model, module, tokens) -> torch.Tensor:
    """What a module of the model hands on, (T, width), while it reads a token-id list."""
    kept = []

    def keep(_module, _arguments, output):
        kept.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = module.register_forward_hook(keep)
    try:
        model(torch.tensor([tokens]))
    finally:
        handle.remove()
    return kept[0][0]


def rank_of(logits, token, among) -> int:
    """How many of the tokens ``among`` are strictly above ``token``."""
    return sum(1 for other in among if float(logits[other]) > float(logits[token]))


def published_rank_counts(samples) -> dict:
    """The published refinement of the rank metric for one cell.

    ``samples`` are (rank before of t, of t', rank after of t, of t').
    """
    counts = {"n": 0, "changed_in_top6": 0, "changed_above_original": 0, "both": 0}
    for before_t, before_changed, after_t, after_changed in samples:
        if before_t > before_changed:
            continue
        counts["n"] += 1
        top, above = after_changed <= 5, after_t > after_changed
        counts["changed_in_top6"] += top
        counts["changed_above_original"] += above
        counts["both"] += top and above
    return counts


def published_relative_changes(before, source, after) -> tuple[int, list[float]]:
    """The published refinement of the prob metric at one position: (kept samples, mean per layer).

    ``before`` and ``source`` are (n,), ``after`` is (layers, n), the layers being those the filter
    looks at.
    """
    ratios = []
    for i in range(len(before)):
        gain = source[i] - before[i]
        if abs(gain) < 1e-6 or gain < 0 or any(after[k][i] > source[i] for k in range(len(after))):
            continue
        ratios.append([(after[k][i] - before[i]) / gain for k in range(len(after))])
    return len(ratios), [float(np.mean(column)) for column in zip(*ratios, strict=True)]

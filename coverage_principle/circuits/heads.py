"""Attention heads: what the answer owes to the output of each, and what each looks at.

*Patching a head.* The original is run with what one head of one block has gathered at one position
replaced by what it gathered there in the source run; all else goes on from that (K. Wang et al.,
"Interpretability in the wild", 2022, patch heads so). If the answer moves from t to t', this head
brings the difference to this position. A head's output enters the stream by a matrix, so a patch
adds one vector to it: the difference of both runs' outputs, times the head's own rows. From there
on it is a patch of the residual stream like any other (``patching``).

*What has to be kept in mind.* Heads share the work and stand in for each other: several small
effects may make a large one, and a head that another one would replace shows none. In the last
layer only the last position's heads can matter. Attention weights say where a head looks, and not
whether anything comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits import counterfactuals
from coverage_principle.circuits.analysis import Progress, Subject, chosen_sites
from coverage_principle.circuits.attribution import agreement, attribute
from coverage_principle.circuits.counterfactuals import Plan
from coverage_principle.circuits.items import grouping_of
from coverage_principle.circuits.metrics import METRICS
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.patching import Patch, Run, Trace, patch_runs
from coverage_principle.circuits.settings import HeadSettings
from coverage_principle.circuits.trace import arrays_of, moved, plan_trace, summary_of
from coverage_principle.errors import InputError
from simpletransformers.seq2seq.architectures import OF_FILE
from simpletransformers.seq2seq.layered import Attending
from simpletransformers.words import listed

#: Numbers of the residual stream in all layers of a batch, whose patterns are taken.
_ROOM = 1 << 24


def run_heads(settings: HeadSettings, *, progress: Progress = lambda *_: None) -> tuple[Path, dict]:
    """Patch every head of a run's checkpoints, estimate the same, and take attention patterns.

    Writes ``<save_dir>/<run>_heads_<family>_<metric>.json`` (last) and ``.npz``, with
    ``attribution_only`` ``..._attribution``, and returns the JSON file's path and its content.
    ``InputError`` for anything that does not exist, and for a model without heads.
    """
    subject = Subject.find(settings)
    family = counterfactuals.family_of(subject.dataset.graph, settings.family)
    measured = "attribution" if settings.attribution_only else settings.metric
    name = f"{subject.path.name}_heads_{family.name}_{measured}"
    subject.place(name)
    results, arrays = heads_subject(subject, progress=progress)
    return subject.write(name, results, arrays), results


def heads_subject(
    subject: Subject, *, progress: Progress = lambda *_: None
) -> tuple[dict, dict[str, np.ndarray]]:
    """The content of both files of ``run_heads``, in memory; the same ``InputError``.

    The settings are those of ``subject``, ``HeadSettings``.
    """
    settings, dataset = subject.settings, subject.dataset
    family = counterfactuals.family_of(dataset.graph, settings.family)
    grouping = grouping_of(dataset.graph, family.value)
    splits = subject.splits(grouping, out_of_domain=settings.out_of_domain)
    plan = plan_trace(dataset, family, splits, seed=settings.seed)
    # What comes after the first emitted token hangs on that token, which has no gradient.
    layout = replace(plan.layout, emitted=plan.layout.emitted[:1])
    first = replace(plan, layout=layout, wanted=plan.wanted[:, :1])
    plan = first if settings.attribution_only else plan
    summaries, arrays = {}, plan.arrays()

    def of_cell(value: str, cell: Mapping) -> dict:
        return subject.of_cell(value, (family.differing,), cell["layer"], cell["position"])

    for checkpoint, loaded, report in subject.models(len(plan.rows), progress):
        network = attending(loaded)
        heads, states, shifts = _measured(loaded, plan, first, settings, report)
        patterns = mean_patterns(loaded, plan.originals, plan.members, settings.batch_size)
        about = settings, of_cell, network.place_of
        summaries[checkpoint] = {}
        for split, members in plan.members.items():
            estimates = {"attribution": shifts["heads"]}
            summary = summary_of(plan, heads, members, *about, estimates)
            summary["states"] = {
                stream: summary_of(
                    first, [trace], members, *about, {"attribution": shifts[stream]}
                )["cells"]
                for stream, trace in states.items()
            }
            if not settings.attribution_only:
                rows, real = moved(first, members, 0), {"heads": heads[0], **states}
                summary["rank_correlation"] = {
                    stream: agreement(trace, shifts[stream], rows, seed=settings.seed)
                    for stream, trace in real.items()
                    if trace.after
                }
            summaries[checkpoint][split] = summary | {"patterns": patterns[split]}
        arrays |= arrays_of(checkpoint, plan, heads)
        arrays |= {f"{checkpoint}/attribution/{name}": found for name, found in shifts.items()}
    results = subject.results(
        stream="heads",
        family=family.about,
        metric=settings.metric,
        **loaded.depth,
        heads=network.heads,
        slots=list(plan.slots),
        emitted=list(plan.layout.emitted),
        splits=plan.report,
        checkpoints=summaries,
    )
    return results, arrays


def _measured(
    loaded: LoadedModel, plan: Plan, first: Plan, settings: HeadSettings, report
) -> tuple[list[Trace], dict[str, Trace], dict[str, np.ndarray]]:
    """Patches of heads by emitted value, those of states by stream, and what is estimated of each.

    Of states only ``residual`` is patched; nothing is with ``attribution_only``. ``first`` is the
    plan of the first emitted value. ``report`` is called with the items that are done.
    """
    there, runs = range(1, loaded.num_layers + 1), (plan.originals, plan.sources)
    layers, positions = chosen_sites(settings.pairs, there, plan.originals.shape[1])
    options = {"layers": layers, "positions": positions, "batch_size": settings.batch_size}
    options["probabilities"] = METRICS[settings.metric].probabilities
    told, values = {"progress": report}, first.wanted[:, 0]
    if settings.attribution_only:
        found = attribute(loaded, *runs, values, **options, **told)
        heads = [found.trace("heads")]
    else:
        found = attribute(loaded, *runs, values, **options)
        heads = patch_runs(loaded, *runs, plan.wanted, stream=head_patch(loaded), **options, **told)
    states = {stream: found.trace(stream) for stream in found.shifts if stream != "heads"}
    if not settings.attribution_only:
        (states["residual"],) = patch_runs(loaded, *runs, first.wanted, **options)
    return heads, states, found.shifts


def attending(loaded: LoadedModel) -> Attending:
    """The model run part by part; ``InputError``, which says what is missing, without heads."""
    network = loaded.network
    if isinstance(network, Attending):
        return network
    missing = [name for name in sorted(Attending.__abstractmethods__) if not hasattr(network, name)]
    kind = loaded.model.config.model_type
    given = "a model file" if kind == OF_FILE else f"a model of type {kind}"
    lack = f"{given} has no heads that can be patched: it lacks {listed(missing)}"
    raise InputError(f"{lack} (docs/extending.md)")


def head_patch(loaded: LoadedModel) -> Patch:
    """The patch of each head of a layer, one at a time; ``InputError`` for a model without heads.

    The heads of the last layer change nothing before the last position.
    """
    network = attending(loaded)
    matrices: dict[int, Tensor] = {}

    def states(original: Run, source: Run, layer: int, position: int) -> Tensor | None:
        gathered = original["heads", layer]
        if layer == network.layers and position < gathered.shape[1] - 1:
            return None
        if layer not in matrices:
            matrices[layer] = _output_matrices(network, layer - 1, gathered)
        difference = (source["heads", layer] - gathered)[:, position]  # (n, heads, size)
        added = difference.transpose(0, 1) @ matrices[layer]  # (heads, n, width)
        middle = original["post_attention", layer][:, position] + added
        middle = middle.flatten(0, 1)[:, None]
        return (middle + network.mlp(layer - 1, middle))[:, 0]

    return Patch(states, ("heads", "post_attention"), ("heads",), network.heads, heads=True)


def _output_matrices(network: Attending, index: int, gathered: Tensor) -> Tensor:
    """What a block adds for each head's output: (heads, size, width), from unit vectors."""
    heads, size = gathered.shape[2:]
    units = torch.eye(heads * size, dtype=gathered.dtype, device=gathered.device)
    units = units.view(1, heads * size, heads, size)
    nothing = network.project(index, torch.zeros_like(units[:, :1]))
    return (network.project(index, units) - nothing).view(heads, size, -1)


@torch.no_grad()
def mean_patterns(
    loaded: LoadedModel, inputs: np.ndarray, members: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, list[dict]]:
    """Attention weights of each head, averaged over the ``members`` of each split of ``inputs``.

    Returns for each split ``{"layer", "head", "weights", "half_widths"}`` of every head:
    (queries, keys) lists, the means and half the width of their 95 % intervals, which are 1.96
    standard errors of the mean over items. Nothing for a split without items.
    """
    network, (count, tokens) = attending(loaded), inputs.shape
    held = np.zeros((len(members), count))
    for number, rows in enumerate(members.values()):
        held[number, rows] = 1
    square = network.layers, network.heads, tokens, tokens
    sums, squares = (np.zeros((len(members), *square)) for _ in range(2))
    step = max(1, min(batch_size, _ROOM // (network.width * tokens * network.layers)))
    places = [("residual", layer) for layer in range(network.layers)]
    for begin in range(0, count, step):
        rows = slice(begin, begin + step)
        states = loaded.run(inputs[rows], places)
        start = states["residual", 0]
        for index in range(network.layers):
            entered = network.enter(index, states["residual", index], start)
            weights = network.pattern(index, entered).cpu().numpy().astype(np.float64)
            sums[:, index] += np.tensordot(held[:, rows], weights, 1)
            squares[:, index] += np.tensordot(held[:, rows], weights**2, 1)
    found = {}
    for split, total, squared, n in zip(members, sums, squares, held.sum(axis=1), strict=True):
        means = total / max(n, 1)
        variances = (squared / max(n, 1) - means**2).clip(0) * n / max(n - 1, 1)
        halves = 1.96 * np.sqrt(variances / max(n, 1))
        found[split] = [
            {"layer": index + 1, "head": head, **network.place_of(index + 1)}
            | {"weights": means[index, head].tolist(), "half_widths": halves[index, head].tolist()}
            for index in range(network.layers)
            for head in range(network.heads)
            if n
        ]
    return found

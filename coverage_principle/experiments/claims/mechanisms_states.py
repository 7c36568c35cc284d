"""Of claim g: what a model holds at the first relation of (h, r1, r2), and what it makes of it.

The first hop leaves b = f1(h, r1) there, if anywhere: of later tokens that state knows nothing. In
a single fact (b, r2) it is b's own token that the fact is looked up from. Are the two alike, so
that one operator can look up both? Asked in two ways:

- Probes learn to read b off the states at r1; then they are shown states of entities' own tokens.
- The state at r1 is replaced, after each layer, by what stands for another entity b': another
  composition's state, its part in the subspace of b, the rest of it, or the input at the token b'
  of a single fact, which no layer has touched. Does the answer become that of (b', r2)?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from coverage_principle.data import Dataset
from coverage_principle.data.tables import seen_calls

if TYPE_CHECKING:
    from coverage_principle.circuits import LoadedModel

#: Parts of the single facts: what a probe or subspace is used on, it has not learned from.
FOLDS = 3
#: Compositions of a group whose states are replaced, at most.
MOST = 300
#: Facts of a kind that probes and subspaces learn from or are used on, about, at most.
_MOST_FACTS = 4000
#: What the state at r1 is replaced by.
PATCHES = ("whole", "subspace", "rest", "entity")


def bridge_states(
    loaded: LoadedModel, dataset: Dataset, groups: Mapping[str, str], seed: int
) -> dict[str, object]:
    """Both answers, for the compositions of two facts of one table; ``groups`` are test types.

    ``probe``: of each layer the share of states at r1 whose entity a probe tells, for facts that
    training compositions begin with (each by a probe that has not learned from it) and for those
    ``fact_only``; and of the ``entity`` tokens, as a single fact begins with them.
    ``patch``: of each group and layer but the last the share whose answer becomes that of (b', r2),
    for each of ``PATCHES``. (b', r2) is a fact of the same kind as (b, r2), with another answer.
    The other composition's first fact is one that training compositions begin with.
    """
    rng = np.random.default_rng(seed)
    facts = dataset.tables()[0]
    seen = seen_calls(dataset.graph, dataset.tables(), dataset.train.inputs)
    fold_of = rng.integers(FOLDS, size=facts.shape)
    probe, bases = _learn(loaded, dataset, facts, seen[0], fold_of)
    patched = {}
    for group, kind in groups.items():
        rows = np.flatnonzero(np.array(dataset.test.types) == kind)
        chosen = dataset.test.inputs[np.sort(rng.permutation(rows)[:MOST])]
        pairs = draw_pairs(facts, seen, fold_of, chosen, rng)
        patched[group] = _patched(loaded, dataset, facts, fold_of, bases, *pairs)
    return {"probe": probe, "patch": patched}


def draw_pairs(
    facts: np.ndarray,
    seen: Sequence[np.ndarray],
    fold_of: np.ndarray,
    inputs: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Originals (h, r1, r2) among ``inputs``, and a source (h', r1', r2) of each: (n, 3) both.

    ``seen`` marks the facts that training compositions use in the first hop, and in the second.
    (h', r1') is seen in the first, in the fold of (h, r1), and leads to another entity b'; (b', r2)
    is seen in the second just if (b, r2) is, and has another answer. What has no such source is
    left out.
    """
    heads, relations = np.nonzero(seen[0])
    bridges, folds = facts[heads, relations], fold_of[heads, relations]
    kept, sources = [], []
    for h, r1, r2 in inputs.tolist():
        b = facts[h, r1]
        answers = facts[bridges, r2]
        fits = (folds == fold_of[h, r1]) & (answers >= 0) & (answers != facts[b, r2])
        fits &= seen[1][bridges, r2] == seen[1][b, r2]
        if fits.any():
            one = rng.choice(np.flatnonzero(fits))
            kept.append((h, r1, r2))
            sources.append((heads[one], relations[one], r2))
    shape = len(kept), 3
    return np.reshape(kept, shape).astype(int), np.reshape(sources, shape).astype(int)


def _ids(dataset: Dataset, *columns: np.ndarray) -> np.ndarray:
    """Compositions as token ids (n, 3); a fact goes on with its own relation, which is not read."""
    given = [*columns, columns[-1]][:3]
    return dataset.ids(np.stack(given, axis=1), dataset.graph.inputs)


def _learn(loaded: LoadedModel, dataset: Dataset, facts, used, fold_of) -> tuple[dict, list]:
    """What probes tell, as ``bridge_states``, and of each layer the subspace of b by fold."""
    import torch

    from coverage_principle.circuits import Site, collect_states, fit_probes, mean_bases

    layers, entities = range(loaded.num_layers + 1), np.arange(len(facts))
    known, only = (np.argwhere(kind) for kind in (used, (facts >= 0) & ~used))
    known, only = (calls[:: 1 + len(calls) // _MOST_FACTS] for calls in (known, only))
    at_r1 = [Site(layer, 1) for layer in layers]
    states = {
        "used": collect_states(loaded, _ids(dataset, *known.T), at_r1),
        "fact_only": collect_states(loaded, _ids(dataset, *only.T), at_r1),
    }
    start = Site(0, 0)
    nothing = np.zeros_like(entities)  # relations, which states at h do not know
    own = torch.as_tensor(collect_states(loaded, _ids(dataset, entities, nothing), [start])[start])
    labels = {"used": facts[tuple(known.T)], "fact_only": facts[tuple(only.T)]}
    folds, items = fold_of[tuple(known.T)], np.arange(len(known))
    tally = torch.zeros(len(known), 1, FOLDS, len(facts))
    tally[items, 0, folds, labels["used"]] = 1
    bases, rates = [], {"used": [], "fact_only": [], "entity": []}
    for site in at_r1:
        shown = {name: torch.as_tensor(one[site]) for name, one in states.items()}
        ((probes,),) = fit_probes(shown["used"][None], tally)
        told = {name: probes.log_chances(one).argmax(-1).numpy() for name, one in shown.items()}
        rates["used"].append(np.mean(told["used"][folds, items] == labels["used"]))
        rates["fact_only"].append(np.mean(told["fact_only"] == labels["fact_only"]))
        rates["entity"].append(np.mean(probes.log_chances(own).argmax(-1).numpy() == entities))
        about = torch.as_tensor(labels["used"]).long(), len(facts), torch.as_tensor(folds)
        bases.append(mean_bases(shown["used"], *about, len(facts) - 1))
    counts = {"used": len(known), "fact_only": len(only), "entity": len(entities)}
    return {name: {"items": counts[name], "rates": _short(one)} for name, one in rates.items()}, [
        [basis.to(loaded.device) for basis in one] for one in bases
    ]


def _patched(loaded: LoadedModel, dataset: Dataset, facts, fold_of, bases, originals, sources):
    """The ``patch`` of one group."""
    import torch

    from coverage_principle.circuits import Patch, moved, patch_runs

    heads, relations, last = originals.T
    b, other = facts[heads, relations], facts[sources[:, 0], sources[:, 1]]
    answers = np.stack([facts[b, last], facts[other, last]], axis=1)
    wanted = dataset.ids(answers, [dataset.graph.answer] * 2)[:, None]
    tokens, of_source = (_ids(dataset, *rows.T) for rows in (originals, sources))
    layers = range(loaded.num_layers)
    how = {"layers": layers, "positions": [1]}
    right = np.zeros((len(PATCHES), len(layers), len(originals)), dtype=bool)

    def own_token(_original, source, _layer: int, _position: int):
        return source["residual", 0][:, 0]

    for fold in range(FOLDS):
        rows = np.flatnonzero(fold_of[heads, relations] == fold)
        if not len(rows):
            continue

        def parts(original, source, layer: int, position: int, fold: int = fold):
            mine, theirs = (run["residual", layer][:, position] for run in (original, source))
            inside = moved(mine, theirs, bases[layer][fold])
            return torch.cat([theirs, inside, theirs - (inside - mine)])

        patch = Patch(parts, original=("residual",), copies=len(PATCHES) - 1)
        given = tokens[rows], of_source[rows], wanted[rows]
        (trace,) = patch_runs(loaded, *given, stream=patch, **how)
        ranks = trace.after["rank"][:, 0, :, 1].reshape(len(layers), len(PATCHES) - 1, len(rows))
        right[:-1, :, rows] = ranks.swapaxes(0, 1) == 0
        facts_alone = _ids(dataset, other[rows], last[rows])
        given = tokens[rows], facts_alone, wanted[rows]
        (trace,) = patch_runs(loaded, *given, stream=Patch(own_token), **how)
        right[-1][:, rows] = trace.after["rank"][:, 0, :, 1] == 0
    found = {"items": len(originals)}
    shares = right.mean(axis=2).tolist() if len(originals) else []
    return found | {name: _short(one) for name, one in zip(PATCHES, shares, strict=False)}


def _short(rates: Iterable[float]) -> list[float]:
    """Rates as numbers of a result file."""
    return [round(float(rate), 4) for rate in rates]

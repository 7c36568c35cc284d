"""Interchange of a subspace: is what a probe sees in a state what the model uses?

A probe that reads b in a state shows that b is there, not that anything later reads it. Causal
tracing shows that a state is used, but not which part of it. So a part is moved: at a layer and
position the original's state h becomes h + P (h' - h), h' being the source's and P the projector on
a subspace that is thought to hold what differs (``subspace``); and then the other part, h + (I - P)
(h' - h) (``rest``). If the subspace holds all that later blocks read of it, the first moves the
answer from t to t' as the whole state does (``whole``), and the second leaves it. Beside them
stands a random subspace of the same rank (``random``): any subspace moves something.

What has to be kept in mind, besides what ``patching`` says:

- A subspace that was learned on a fragment can know it by heart. So the fragments of the family's
  value are dealt into folds; what is moved in the runs of a fold was learned in the others, and
  neither the original's nor the source's fragment was learned from. Items without such a source are
  counted.
- Where nearly all of a state is the value (the states of a small model often are), any subspace
  along which states are spread moves the answer somewhat. ``moved_share`` says which share of the
  squared difference is in the subspace; random subspaces can be drawn as the states are spread.
- A rotation is learned by its effect, so it may find directions that the model itself never uses
  but that have one (Makelov et al., "Is this the subspace you are looking for?", 2023). It is
  evidence if the rest then moves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits import bases
from coverage_principle.circuits.analysis import Progress, Subject, chosen_sites
from coverage_principle.circuits.counterfactuals import (
    Condition,
    draw_counterfactuals,
    family_of,
    plan_of,
)
from coverage_principle.circuits.folds import fragment_folds
from coverage_principle.circuits.items import grouping_of, token_ids, union_of
from coverage_principle.circuits.metrics import METRICS, SUBSETS
from coverage_principle.circuits.models import LoadedModel
from coverage_principle.circuits.patching import Patch, Trace, patch_runs
from coverage_principle.circuits.settings import SubspaceSettings
from coverage_principle.circuits.states import Site, collect_states
from coverage_principle.circuits.trace import summary_of
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError
from simpletransformers.words import counted

#: What is moved, in the order of tables and figures.
PARTS = ("subspace", "rest", "whole", "random")
#: Splits whose items subspaces are learned from.
LEARNED_FROM = ("id_train", "id_test")
#: Random subspaces of each cell, and sources of an original that a rotation is learned from.
DRAWS, _SOURCES = 5, 2

#: Subspaces by layer and position: one for each fold, or draw.
Bases = Mapping[tuple[int, int], Sequence[Tensor]]


def run_subspace(
    settings: SubspaceSettings, *, progress: Progress = lambda *_: None
) -> tuple[Path, dict]:
    """Interchange of a subspace in a run's checkpoints, written to files.

    Writes ``<save_dir>/<run>_subspace_<subspace>_<family>_<metric>.json`` (last) and ``.npz`` and
    returns the JSON file's path and its content. ``InputError`` for anything that does not exist,
    for a rotation where several tokens are emitted, and for one that nothing can be learned from.
    """
    subject = Subject.find(settings)
    family = family_of(subject.dataset.graph, settings.family)
    name = f"{subject.path.name}_subspace_{settings.subspace}_{family.name}_{settings.metric}"
    subject.place(name)
    results, arrays = subspace_subject(subject, progress=progress)
    return subject.write(name, results, arrays), results


def subspace_subject(
    subject: Subject, *, progress: Progress = lambda *_: None
) -> tuple[dict, dict[str, np.ndarray]]:
    """The same in memory: the content of both files of ``run_subspace``.

    The settings are those of ``subject``, a ``SubspaceSettings``; the same ``InputError``.
    """
    settings, study = subject.settings, Study(subject)
    plan = study.plan
    sites = study.sites(subject.load(subject.checkpoints[-1]))
    summaries, arrays = {}, plan.arrays() | {"fold": study.held}
    for checkpoint, loaded, report in subject.models(len(plan.rows), progress):
        depth = loaded.depth
        learned, drawn = study.learn(loaded, sites)
        parts = study.move(loaded, learned, drawn, report)
        lengths = study.lengths(loaded, learned, drawn)
        summaries[checkpoint] = {}
        for split, members in plan.members.items():
            more = {site: _about(learned[site], lengths[site][:, members]) for site in learned}
            found = {part: study.summary(loaded, own, members) for part, own in parts.items()}
            summaries[checkpoint][split] = _joined(found, more)
        arrays |= {f"{checkpoint}/{key}": values for key, values in study.arrays(parts).items()}
        for site, own in learned.items():
            where = f"{checkpoint}/basis/{Site(*site).key}"
            arrays |= {f"{where}/fold{fold}": one.cpu().numpy() for fold, one in enumerate(own)}
    results = subject.results(
        subspace=study.about,
        family=study.family.about,
        metric=settings.metric,
        **depth,
        emitted=list(plan.layout.emitted),
        splits=plan.report,
        checkpoints=summaries,
    )
    return results, arrays


class Study:
    """What is moved, the same for every checkpoint.

    ``value`` is what the subspaces are of. They are learned from the test items ``rows`` (m,),
    whose fragments are in ``folds`` (m,); ``held`` (n,) is for each sample of ``plan`` the fold
    that its subspace was not learned from.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.settings, self.dataset = subject, subject.settings, subject.dataset
        settings, graph = self.settings, self.dataset.graph
        self.family = family_of(graph, settings.family)
        self.value = self.family.differing
        grouping = grouping_of(graph, self.family.value)
        splits = subject.splits(grouping, out_of_domain=settings.out_of_domain)
        self.rows, _ = union_of({name: splits[name] for name in LEARNED_FROM})
        self._fold_of, self.folds = self._dealt(grouping.fragment)
        rows, places = union_of(splits)
        inputs, fragment = self.dataset.test.inputs[rows], ", ".join(grouping.fragment)

        def together(originals: np.ndarray, sources: np.ndarray) -> np.ndarray:
            """Pairs for which there is a fold with every fragment that is learned from."""
            own, other = self._fold_of(originals), self._fold_of(sources)
            return (own == other) | (own < 0) | (other < 0)

        why = f"no such {self.family.slot} leaves {fragment} in the same fold"
        drawn = self._draw(inputs, settings.seed, Condition(why, together))
        self.plan = plan_of(self.dataset, rows, places, splits, drawn)
        pair = self._fold_of(inputs[drawn.rows]), self._fold_of(drawn.inputs)
        self.held = np.maximum(*pair).clip(0)
        if settings.subspace == "rotation" and len(self.plan.layout.emitted) > 1:
            emitted = " and ".join(self.plan.layout.emitted)
            refusal = f"the models of {self.dataset.name} emit {emitted}"
            raise InputError(f"`subspace` rotation is learned from an answer alone, but {refusal}")
        self._pairs = cache(self._to_learn)

    @property
    def about(self) -> dict[str, object]:
        """What a result file says of the subspaces."""
        settings, steps = self.settings, {}
        if settings.subspace == "rotation":
            steps = {"steps": settings.steps}
        about = {"name": settings.subspace, "value": self.value, "learned_from": len(self.rows)}
        return {**about, **steps, "drawn_from": settings.drawn_from}

    def _dealt(self, fragment: Sequence[str]) -> tuple[Callable, np.ndarray]:
        """What gives inputs (n, slots) their folds, -1 if nothing is learned of their fragments."""
        columns = [self.dataset.graph.inputs.index(slot) for slot in fragment]
        sizes = self.dataset.sizes(fragment)

        def codes(inputs: np.ndarray) -> np.ndarray:
            return encode_rows(inputs[:, columns], sizes)

        own, count = codes(self.dataset.test.inputs[self.rows]), self.settings.folds
        known, first = np.unique(own, return_index=True)
        if len(known) < count:
            there = counted(len(known), "fragment")
            raise InputError(f"`folds` {count}: there are {there} ({', '.join(fragment)}) to deal")
        folds = fragment_folds(own[:, None], count, self.settings.seed)

        def fold_of(inputs: np.ndarray) -> np.ndarray:
            found = codes(inputs)
            places = np.searchsorted(known, found).clip(max=len(known) - 1)
            return np.where(known[places] == found, folds[first][places], -1)

        return fold_of, folds

    def _draw(self, inputs: np.ndarray, seed: int, condition: Condition):
        return draw_counterfactuals(
            self.dataset, self.family, inputs, seed=seed, condition=condition
        )

    def _to_learn(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs that a rotation is learned from: originals and sources as ids, sources' answers."""
        inputs = self.dataset.test.inputs[self.rows[self.folds != fold]]

        def learned_from(_: np.ndarray, sources: np.ndarray) -> np.ndarray:
            found = self._fold_of(sources)
            return (found >= 0) & (found != fold)

        first, condition = self.settings.seed + 1, Condition("none is learned from", learned_from)
        drawn = [self._draw(inputs, first + more, condition) for more in range(_SOURCES)]
        originals = np.concatenate([inputs[found.rows] for found in drawn])
        sources = np.concatenate([found.inputs for found in drawn])
        if not len(sources):
            lack = f"nothing is left of {self.dataset.name} to learn a rotation from"
            raise InputError(f"`folds` {self.settings.folds}: {lack} where one is left out")
        pair = [token_ids(self.dataset, p, self.plan.layout.prompt) for p in (originals, sources)]
        answers = np.concatenate([found.answers for found in drawn])[:, None]
        return *pair, self.dataset.ids(answers, [self.dataset.graph.answer])[:, 0]

    def sites(self, loaded: LoadedModel) -> list[tuple[int, int]]:
        """The (layer, position) pairs that are looked at.

        All by default; for a rotation those below the last layer at which the whole state moves
        the answer of this model, the last checkpoint. ``InputError`` if it does so nowhere.
        """
        pairs = self.settings.pairs
        there = range(1, loaded.num_layers + 1), self.plan.originals.shape[1]
        sites = list(itertools.product(*chosen_sites(pairs, *there)))
        if pairs is not None:
            return [site for site in sites if site in pairs]
        if self.settings.subspace != "rotation":
            return sites
        traces = patch_runs(loaded, *self._runs(), **self._options)
        members = [self.plan.members[split] for split in LEARNED_FROM]
        shown, subset = METRICS[self.settings.metric].shown, SUBSETS[0]
        found = [self.summary(loaded, traces, own)["cells"] for own in members if len(own)]
        moving = {
            (cell["layer"], cell["position"])
            for cell in itertools.chain(*found)
            if shown.value(cell, subset) is not None and not shown.is_weak(cell, subset)
        }
        below = [site for site in sites if site in moving and site[0] < loaded.num_layers]
        if not below:
            nowhere = f"no whole state below layer {loaded.num_layers} moves the answer"
            raise InputError(
                f"`subspace` rotation: {nowhere}; name layers and positions by `pairs`"
            )
        return below

    @property
    def _options(self) -> dict[str, object]:
        """What all runs that are patched are given."""
        probabilities = METRICS[self.settings.metric].probabilities
        return {"probabilities": probabilities, "batch_size": self.settings.batch_size}

    def learn(self, loaded: LoadedModel, sites: Sequence[tuple[int, int]]) -> tuple[Bases, Bases]:
        """The subspace of each fold, learned from all others, and ``DRAWS`` random ones."""
        settings, dataset = self.settings, self.dataset
        inputs, answers = dataset.test.inputs[self.rows], dataset.test.answers[self.rows]
        tokens = token_ids(dataset, inputs, self.plan.layout.prompt)
        options = {"batch_size": settings.batch_size}
        states = collect_states(loaded, tokens, [Site(*site) for site in sites], **options)
        kinds = torch.as_tensor(dataset.values(inputs, answers)[self.value]).long()
        (classes,) = dataset.sizes([self.value])
        most, learned, drawn = settings.rank or classes - 1, {}, {}
        for site in sites:
            own = torch.as_tensor(states[Site(*site)])
            if settings.subspace == "rotation":
                layer, position = site
                where = {"layer": layer, "position": position, "rank": most}
                where |= {"steps": settings.steps, "seed": settings.seed}
                pairs = map(self._pairs, range(settings.folds))
                found = [bases.learn_rotation(loaded, *pair, **where) for pair in pairs]
            else:
                way = {"means": bases.mean_bases, "probe": bases.probe_bases}[settings.subspace]
                found = way(own, kinds, classes, torch.as_tensor(self.folds), most)
            rank = max(basis.shape[1] for basis in found)
            how = {"alike": settings.drawn_from == "space", "seed": [settings.seed, *site]}
            random = bases.random_bases(own, rank, DRAWS, **how)
            learned[site], drawn[site] = (
                [basis.to(loaded.device) for basis in some] for some in (found, random)
            )
        return learned, drawn

    def _groups(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """Samples, the fold that is held out for them, and the random subspace that is theirs."""
        turns = np.arange(len(self.held)) % DRAWS
        for fold, turn in itertools.product(range(self.settings.folds), range(DRAWS)):
            own = np.flatnonzero((self.held == fold) & (turns == turn))
            if len(own):
                yield own, fold, turn

    def move(
        self, loaded: LoadedModel, learned: Bases, drawn: Bases, report: Callable[[int], object]
    ) -> dict[str, list[Trace]]:
        """For each of ``PARTS`` what moving it did, a ``Trace`` for each emitted value."""
        layers, positions = (sorted(set(axis)) for axis in zip(*learned, strict=True))
        options = {**self._options, "layers": layers, "positions": positions, "progress": report}
        order, pieces = [], []
        for own, fold, turn in self._groups():

            def states(original, source, *site, fold=fold, turn=turn) -> Tensor | None:
                if site not in learned:
                    return None
                layer, position = site
                mine, theirs = (run["residual", layer][:, position] for run in (original, source))
                inside = bases.moved(mine, theirs, learned[site][fold])
                by_chance = bases.moved(mine, theirs, drawn[site][turn])
                return torch.cat([inside, theirs - (inside - mine), theirs, by_chance])

            patch = Patch(states, original=("residual",), copies=len(PARTS))
            pieces.append(patch_runs(loaded, *self._runs(own), stream=patch, **options))
            order.append(own)
        back = np.argsort(np.concatenate(order))
        by_value = list(zip(*pieces, strict=True))
        return {
            part: [_gathered(own, number, tuple(layers), back) for own in by_value]
            for number, part in enumerate(PARTS)
        }

    def _runs(self, own: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, ...]:
        """Of some samples what ``patch_runs`` is given."""
        plan = self.plan
        return plan.originals[own], plan.sources[own], plan.wanted[own]

    def lengths(
        self, loaded: LoadedModel, learned: Bases, drawn: Bases
    ) -> dict[tuple[int, int], np.ndarray]:
        """Squared lengths of what is moved, (3, n) float32: whole, in the subspace, in the random.

        By layer and position, of each sample.
        """
        sites = [Site(*site) for site in learned]
        found = {site: np.zeros((3, len(self.held)), np.float32) for site in learned}
        for own, fold, turn in self._groups():
            original, source = (collect_states(loaded, run, sites) for run in self._runs(own)[:2])
            for site, room in found.items():
                apart = source[Site(*site)] - original[Site(*site)]
                apart = torch.as_tensor(apart, device=loaded.device)
                parts = apart, apart @ learned[site][fold], apart @ drawn[site][turn]
                for row, part in enumerate(parts):
                    room[row, own] = part.square().sum(dim=1).cpu().numpy()
        return found

    def arrays(self, parts: Mapping[str, Sequence[Trace]]) -> dict[str, np.ndarray]:
        """``VALUE/READOUT/WHAT``: before, source, and what moving each part gives."""
        found = {}
        for part, traces in parts.items():
            for value, trace in zip(self.plan.layout.emitted, traces, strict=True):
                sides = {"before": trace.before, "source": trace.source, part: trace.after}
                for what, readouts in sides.items():
                    found |= {f"{value}/{name}/{what}": own for name, own in readouts.items()}
        return found

    def summary(self, loaded: LoadedModel, traces: Sequence[Trace], members: np.ndarray) -> dict:
        """What tracing says of some samples: ``trace.summary_of``."""

        def of_cell(value: str, cell: Mapping) -> dict:
            return self.subject.of_cell(value, (self.value,), cell["layer"], cell["position"])

        about = self.settings, of_cell, loaded.network.place_of
        return summary_of(self.plan, traces, members, *about)


def _about(learned: Sequence[Tensor], lengths: np.ndarray) -> dict[str, object]:
    """What a cell says of its subspaces: their ranks by fold, and the share that they move."""
    whole, *parts = lengths.sum(axis=1).tolist()
    shares = dict(zip(("subspace", "random"), parts, strict=True))
    shares = {part: length / whole if whole else None for part, length in shares.items()}
    return {"ranks": [basis.shape[1] for basis in learned], "moved_share": shares}


def _gathered(
    pieces: Sequence[Trace], number: int, layers: tuple[int, ...], back: np.ndarray
) -> Trace:
    """The trace of one part, with the samples of all pieces in their own order."""

    def joined(side: str, rows: slice = slice(None)) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([getattr(piece, side)[name] for piece in pieces], axis=-2)[rows][
                ..., back, :
            ]
            for name in pieces[0].before
        }

    after = joined("after", slice(number, None, len(PARTS)))
    return Trace(layers, pieces[0].positions, joined("before"), joined("source"), after)


def _joined(parts: Mapping[str, dict], more: Mapping[tuple[int, int], dict]) -> dict:
    """One summary of those of ``PARTS``: cells hold the numbers of each.

    ``more`` is what is added to the cells, by layer and position; others are left out.
    """
    whole = parts["whole"]
    cells = []
    for number, cell in enumerate(whole["cells"]):
        site = cell["layer"], cell["position"]
        if site in more:
            place = {key: held for key, held in cell.items() if key not in SUBSETS}
            of_part = {
                part: {subset: found["cells"][number][subset] for subset in SUBSETS}
                for part, found in parts.items()
            }
            cells.append({**place, **more[site], "parts": of_part})
    joined = {"samples": whole["samples"], "filtered_out": whole["filtered_out"], "cells": cells}
    bridges = {
        value: _joined({part: found["bridges"][value] for part, found in parts.items()}, more)
        for value in whole.get("bridges", ())
    }
    return joined | ({"bridges": bridges} if bridges else {})

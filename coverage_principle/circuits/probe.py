"""Linear probes: where can a linear classifier tell a value from a state, in whatever directions?

A probe is trained on some calls of the value's function, such as (x1, x2) of b or (b, x3) of t, and
tested on others, and so on other fragments. A probe that has seen a call can know its value by
heart, from a state that holds no more than the arguments.

What a state lets a probe say is usable information (Xu et al., "A theory of usable information
under computational constraints", 2020); labels that are dealt out at random are a control task
(Hewitt and Liang, "Designing and interpreting probes with control tasks", 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coverage_principle.circuits.analysis import Progress, Subject, chosen_sites
from coverage_principle.circuits.folds import fragment_folds
from coverage_principle.circuits.items import grouping_of, layout_of, token_ids
from coverage_principle.circuits.linear import fit_counts, log_chances
from coverage_principle.circuits.models import LoadedModel, with_fresh_weights
from coverage_principle.circuits.settings import ProbeSettings
from coverage_principle.circuits.states import Site, collect_states
from coverage_principle.data.space import encode_rows
from coverage_principle.errors import InputError
from coverage_principle.statistics import mean_over_groups
from simpletransformers.words import counted

#: Penalties that are tried, the strongest first, in units of the states' mean variance.
PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
#: A mean variance of states that are all alike, so that there is a penalty above 0.
_ALIKE = 1e-12
#: How far a fit goes on: to choose a penalty, and then.
_ROUGHLY, _CLOSELY = 1e-2, 1e-3
#: Scores of what is fitted at once; bounds memory.
_ROOM = 1 << 24
#: The split of the items that probes are trained and, fold by fold, tested on.
TRAIN = "train"


@dataclass(frozen=True)
class Probes:
    """A linear classifier for each fold, trained on the calls of all other folds.

    ``weights`` (folds, classes, width) and ``biases`` (folds, classes) are for states as they are;
    ``penalties`` (folds,) were chosen; ``tally`` (folds, classes) counts what each was trained on.
    All are float32.
    """

    weights: Tensor
    biases: Tensor
    penalties: Tensor
    tally: Tensor

    def log_chances(self, states: Tensor) -> Tensor:
        """log p (folds, n, classes) of states (n, width)."""
        return _with_one_each(log_chances(states, self.weights, self.biases), self.tally)

    @property
    def log_shares(self) -> Tensor:
        """log p (folds, classes) of what knows no state, but how frequent each class is."""
        shares = self.tally / self.tally.sum(dim=-1, keepdim=True)
        return _with_one_each(shares.log()[:, None], self.tally)[:, 0]


def _with_one_each(chances: Tensor, tally: Tensor) -> Tensor:
    """Mixed with one more item of each class: what training lacks can still be tested.

    ``chances`` are logs (folds, n, classes).
    """
    n = tally.sum(dim=-1)[:, None, None]
    return ((n * chances.exp() + 1) / (n + tally.shape[-1])).log()


def fit_probes(states: Tensor, tally: Tensor) -> list[list[Probes]]:
    """Probes of each of several sets of states (sets, n, width), for each labeling.

    ``tally`` (n, labelings, folds, classes) counts the items that have a state, by labeling, fold
    and label; they are the same for every set. The penalty of a fold's probe is that of
    ``PENALTIES`` with which items of the next fold are predicted best by a probe that was trained
    on neither of the two; weaker ones are tried as long as they are better. ``ValueError`` for
    fewer than three folds.
    """
    n, labelings, folds, classes = tally.shape
    if folds < 3:
        raise ValueError(f"{folds} folds leave nothing to choose a penalty by")
    tally = tally.float()
    others = tally.sum(dim=2, keepdim=True) - tally  # what the probe of each fold is trained on
    inner = tally.roll(-1, dims=2)
    weight = tally[:, 0].sum(dim=(1, 2))[:, None] / tally[:, 0].sum()
    centre = (weight * states).sum(dim=1, keepdim=True)
    spread = (weight * (states - centre) ** 2).sum(dim=1).mean(dim=1)
    spread = spread.clamp_min(_ALIKE)
    flat = (n, labelings * folds, classes)
    rough, tested = (others - inner).reshape(flat), inner.reshape(flat)
    seen = rough.sum(dim=0)
    count = len(states), labelings * folds
    best, chosen = torch.full((2, *count), torch.inf, device=states.device)
    open_ = torch.ones(count, dtype=torch.bool, device=states.device)
    for relative in PENALTIES:
        sets, own = open_.any(dim=1).nonzero()[:, 0], open_.any(dim=0).nonzero()[:, 0]
        if not len(sets):
            break
        penalty = (relative * spread[sets, None]).expand(-1, len(own)).contiguous()
        fitted = _fit(states[sets], rough[:, own], penalty, _ROUGHLY)
        for place, *parts in zip(sets, *fitted, penalty, strict=True):
            chances = Probes(*parts, seen[own]).log_chances(states[place])
            loss = -(chances * tested[:, own].transpose(0, 1)).sum(dim=(1, 2))
            better = open_[place, own] & (loss < best[place, own])
            best[place, own] = torch.where(better, loss, best[place, own])
            chosen[place, own] = torch.where(better, parts[-1], chosen[place, own])
            open_[place, own] = better
    fitted = _fit(states, others.reshape(flat), chosen, _CLOSELY)
    seen = others.sum(dim=0)
    parts = [part.unflatten(1, (labelings, folds)) for part in (*fitted, chosen)]
    return [
        [Probes(*(part[place, each] for part in parts), seen[each]) for each in range(labelings)]
        for place in range(len(states))
    ]


def _fit(states: Tensor, counts: Tensor, penalty: Tensor, tolerance: float) -> list[Tensor]:
    """``fit_counts`` of the same counts (n, problems, classes) for each set of states."""
    at_once = max(1, _ROOM // counts.numel())
    found = [
        fit_counts(part, counts.expand(len(part), *counts.shape), own, tolerance=tolerance)
        for part, own in zip(states.split(at_once), penalty.split(at_once), strict=True)
    ]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


@dataclass(frozen=True)
class Target:
    """A value that is probed, of n items: training items first, then the test items of the splits.

    ``labels`` (n,); ``calls`` (n,) and ``fragments`` (n,) are codes, ``folds`` (n,) the calls';
    ``places`` of each split's items; ``dealt`` (labelings, n) are labels dealt out anew.
    """

    value: str
    split_by: tuple[str, ...]
    fragment: tuple[str, ...]
    classes: int
    labels: np.ndarray
    calls: np.ndarray
    fragments: np.ndarray
    folds: np.ndarray
    places: Mapping[str, np.ndarray]
    dealt: np.ndarray

    def about(self, splits: Mapping[str, Mapping]) -> dict[str, object]:
        """What a result file says of the value; ``splits`` is what it says of each split."""
        parts = {split: {**about, **self._counts(split)} for split, about in splits.items()}
        names = {"split_by": list(self.split_by), "fragment": list(self.fragment)}
        return {**names, "tokens": self.classes, "splits": parts}

    def _counts(self, split: str) -> dict[str, object]:
        places = self.places[split]
        labels, counts = np.unique(self.labels[places], return_counts=True)
        shares = counts / max(1, counts.sum())
        return {
            "n": len(places),
            "fragments": len(np.unique(self.fragments[places])),
            "calls": len(np.unique(self.calls[places])),
            "classes": len(labels),
            "most_frequent": float(shares.max(initial=0)),
            "fewest_items": int(counts.min()) if len(counts) else 0,
            "entropy": float((shares * -np.log2(shares)).sum()),
        }


def plan_probes(subject: Subject) -> tuple[np.ndarray, list[Target], dict[str, dict]]:
    """The inputs (n, slots) whose states are probed, the values, and what their splits are.

    ``InputError`` for a value that the task does not have, or that training gives too few calls of.
    """
    settings, dataset, graph = subject.settings, subject.dataset, subject.dataset.graph
    there = (*graph.inputs, *graph.bridges, graph.answer)
    wanted = tuple(dict.fromkeys(settings.values or (*graph.bridges, graph.answer)))
    for value in wanted:
        if value not in there:
            held = ", ".join(there)
            raise InputError(f"`values` {value} is none of task {graph.name}, which has {held}")
    splits = {value: subject.splits(grouping_of(graph, value)) for value in wanted}
    trained = np.arange(len(dataset.train.inputs))
    if settings.max_items is not None and len(trained) > settings.max_items:
        rng = np.random.default_rng(settings.seed)
        trained = np.sort(rng.choice(trained, settings.max_items, replace=False))
    rows = np.unique(np.concatenate([s.rows for each in splits.values() for s in each.values()]))
    parts = ((dataset.train, trained), (dataset.test, rows))
    inputs = np.concatenate([part.inputs[own] for part, own in parts])
    answers = np.concatenate([part.answers[own] for part, own in parts])
    known, targets = dataset.values(inputs, answers), []
    about = {}
    for value in wanted:
        if (known[value] < 0).any():
            raise InputError(f"{dataset.path}: the atomic facts do not give {value} of every item")
        del splits[value]["id_train"]  # which are training items
        places = {TRAIN: np.arange(len(trained))}
        for name, split in splits[value].items():
            places[name] = len(trained) + np.searchsorted(rows, split.rows)
        targets.append(_target(subject, value, known, places))
        first = {"types": [], "explained": ["training items"], "items": len(dataset.train.inputs)}
        about[value] = {TRAIN: first, **{n: one.about() for n, one in splits[value].items()}}
    return inputs, targets, about


def _target(subject: Subject, value: str, known: Mapping, places: Mapping) -> Target:
    graph, settings = subject.dataset.graph, subject.settings
    slot = value in graph.inputs
    split_by = [s for s in graph.inputs if s != value] if slot else graph.function_of(value).sources
    fragment = split_by if slot else graph.fragment(value)

    def codes(names: Sequence[str]) -> np.ndarray:
        columns = np.stack([known[name] for name in names], axis=1)
        return encode_rows(columns, subject.dataset.sizes(names))

    calls, trained = codes(split_by), len(places[TRAIN])
    own = calls[:trained]
    if (count := len(np.unique(own))) < settings.folds:
        held = f"training items have {counted(count, 'call')} of {','.join(split_by)}"
        raise InputError(f"`folds` {settings.folds} is too many for {value}: {held}")
    folds = np.empty(len(calls), np.int64)
    for part in (np.isin(calls, own), ~np.isin(calls, own)):  # even in training
        folds[part] = fragment_folds(calls[part][:, None], settings.folds, settings.seed)
    # Dealt out among calls, so that a call keeps one label; slots are no function of a call.
    _, first, of = np.unique(
        np.stack([calls, known[value]]), axis=1, return_index=True, return_inverse=True
    )
    rng = np.random.default_rng(settings.seed)
    dealt = [rng.permutation(known[value][first])[of] for _ in range(settings.permutations)]
    sizes = subject.dataset.sizes([value])
    return Target(
        *(value, tuple(split_by), tuple(fragment), sizes[0], known[value], calls, codes(fragment)),
        *(folds, places, np.array(dealt).reshape(-1, len(calls))),
    )


@dataclass(frozen=True)
class Said:
    """What the probes of one site say of n items, each by the probe that never had its call.

    ``accuracy`` (labelings, n) bool: the likeliest class is the label; ``bits`` (labelings, n): how
    much more likely the label is, as a logarithm to base 2, than by how frequent classes are.
    ``probes`` are those of the first labeling, which is the true one.
    """

    accuracy: np.ndarray
    bits: np.ndarray
    probes: Probes


def probe_states(
    loaded: LoadedModel,
    tokens: np.ndarray,
    targets: Sequence[Target],
    sites: Sequence[Site],
    *,
    dealt: bool = True,
    batch_size: int = 4096,
    progress: Callable[[int], object] = lambda _done: None,
) -> Iterator[tuple[Target, Site, Said]]:
    """Probe a model's states of ``tokens`` (n, T), data-set ids, for each target at each site.

    With ``dealt`` also by the labels that are dealt out anew. ``progress`` is called with n for
    each finished position.
    """
    device = loaded.device if loaded.device.type == "cuda" else torch.device("cpu")
    for position in sorted({site.position for site in sites}):
        # A state depends on the tokens up to its own, so that each such prefix is run once.
        prefixes, of = np.unique(tokens[:, : position + 1], axis=0, return_inverse=True)
        own = [site for site in sites if site.position == position]
        states = collect_states(loaded, prefixes, own, batch_size=batch_size)
        alike: dict[bytes, list[Site]] = {}
        for site in own:
            distinct, places = _distinct(states[site])
            states[site] = torch.as_tensor(distinct, device=device)
            alike.setdefault(places.tobytes(), []).append(site)
        for places, group in alike.items():
            rows = np.frombuffer(places, np.int64)[of.reshape(-1)]
            together = torch.stack([states.pop(site) for site in group])
            for target in targets:
                labels = np.concatenate([target.labels[None], target.dealt[: None if dealt else 0]])
                found = _say(together, rows, target, torch.as_tensor(labels, device=device))
                yield from ((target, site, said) for site, said in zip(group, found, strict=True))
        progress(len(tokens))


def _distinct(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row that there is once, as they come, and the place of every row among them (n,)."""
    whole = np.ascontiguousarray(states).view(np.dtype((np.void, states.strides[0])))[:, 0]
    _, first, places = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return states[first[order]], np.argsort(order)[places]


def _say(states: Tensor, rows: np.ndarray, target: Target, labels: Tensor) -> list[Said]:
    """By states (sets, m, width), the ``rows`` (n,) of items in them, and ``labels`` (l, n)."""
    trained, device = len(target.places[TRAIN]), states.device
    rows, folds = (torch.as_tensor(own, device=device) for own in (rows, target.folds))
    shape = states.shape[1], len(labels), int(folds.max()) + 1, target.classes
    tally, one = torch.zeros(shape, device=device), torch.ones(trained, device=device)
    for each, own in enumerate(labels[:, :trained]):
        tally[:, each].index_put_((rows[:trained], folds[:trained], own), one, accumulate=True)
    held = tally.sum(dim=(1, 2, 3)) > 0  # others are of test items alone
    found = []
    for part, fitted in zip(states, fit_probes(states[:, held], tally[held]), strict=True):
        right, bits = [], []
        for probes, own in zip(fitted, labels, strict=True):
            chances = probes.log_chances(part)
            right.append((chances.argmax(dim=-1)[folds, rows] == own).cpu().numpy())
            gain = chances[folds, rows, own] - probes.log_shares[folds, own]
            bits.append((gain / np.log(2)).cpu().numpy())
        found.append(Said(np.array(right), np.array(bits), fitted[0]))
    return found


def run_probe(
    settings: ProbeSettings, *, progress: Progress = lambda *_: None
) -> tuple[Path, dict]:
    """Linear probes of a run's checkpoints: every value, at every layer and position.

    Writes ``<save_dir>/<run>_probe.json`` (last) and ``.npz`` and returns the JSON file's path and
    its content; the name ends with ``_of_<values>`` where ``values`` are given.
    """
    subject = Subject.find(settings)
    name = f"{subject.path.name}_probe"
    if settings.values:
        name += f"_of_{'_'.join(settings.values)}"
    subject.place(name)
    results, arrays = probe_subject(subject, progress=progress)
    return subject.write(name, results, arrays), results


def probe_subject(
    subject: Subject, *, progress: Progress = lambda *_: None
) -> tuple[dict, dict[str, np.ndarray]]:
    """What ``run_probe`` writes as JSON and as arrays."""
    settings, dataset = subject.settings, subject.dataset
    inputs, targets, splits = plan_probes(subject)
    names, summaries, arrays = layout_of(dataset).names, {}, {}
    tokens = token_ids(dataset, inputs, len(names) - 1)
    baseline: dict[tuple[str, Site], Said] = {}
    pairs, total = settings.pairs, len(inputs) * len(names[1:])
    for checkpoint, loaded, report in subject.models(total, progress):
        last = loaded.num_layers
        layers, positions = chosen_sites(pairs, range(last + 1), len(names) - 1)
        sites = [
            Site(layer, position, normed)
            for layer in layers
            for normed in ((False, True) if layer == last else (False,))
            for position in positions
            if pairs is None or (layer, position) in pairs
        ]
        options = {"batch_size": settings.batch_size, "progress": report}
        if not baseline:  # checkpoints of a run have one configuration
            fresh = with_fresh_weights(loaded, settings.seed)
            own = {**options, "dealt": False, "progress": lambda _done: None}
            probed = probe_states(fresh, tokens, targets, sites, **own)
            baseline = {(target.value, site): said for target, site, said in probed}
        found = {
            (target.value, site): said
            for target, site, said in probe_states(loaded, tokens, targets, sites, **options)
        }
        summaries[checkpoint] = {
            split: [
                {"layer": site.layer, "after_ln_f": site.after_ln_f, "position": site.position}
                | loaded.network.place_of(site.layer)
                | {"slot": names[site.position], "value": target.value}
                | subject.of_cell(target.value, (target.value,), site.layer, site.position)
                | summarise(target, split, found[target.value, site], baseline[target.value, site])
                for target in targets
                if split in target.places
                for site in sites
            ]
            for split in dict.fromkeys(split for target in targets for split in target.places)
        }
        for (value, site), said in found.items():
            place = f"{checkpoint}/{value}/{site.key}"
            parts = vars(said.probes).items()
            arrays |= {f"{place}/{part}": own.cpu().numpy() for part, own in parts}
    about = {target.value: target.about(splits[target.value]) for target in targets}
    return subject.results(**loaded.depth, values=about, checkpoints=summaries), arrays


def summarise(target: Target, split: str, said: Said, fresh: Said) -> dict[str, object]:
    """The numbers of a cell, of the items of one split; ``fresh``: of a model of random weights."""
    places = target.places[split]
    labels, folds = target.labels[places], target.folds[places]
    guess = said.probes.tally.argmax(dim=-1).cpu().numpy()[folds]
    cell: dict[str, object] = {"n": len(places), "majority": _mean(guess == labels)}
    dealt, random = {}, {}
    for name in ("accuracy", "bits"):
        own, other = (getattr(each, name)[:, places] for each in (said, fresh))
        cell |= _with_interval(name, own[0], folds)
        random |= _with_interval(name, other[0], folds)
        dealt[name] = [_mean(one) for one in own[1:]]
    by_class = [_mean(said.accuracy[0, places[labels == own]]) for own in np.unique(labels)]
    balanced = _mean(np.array(by_class))
    return {**cell, "balanced_accuracy": balanced, "shuffled": dealt, "random_weights": random}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _with_interval(name: str, values: np.ndarray, folds: np.ndarray) -> dict[str, object]:
    """The mean and its 95 % interval over folds; an accuracy's is cut to [0, 1]."""
    if not len(values):
        return {name: None, f"{name}_interval": None}
    found = mean_over_groups(values, folds)
    ends = None if found.low is None else [found.low, found.high]
    if ends and name == "accuracy":
        ends = np.clip(ends, 0, 1).tolist()
    return {name: found.mean, f"{name}_interval": ends}

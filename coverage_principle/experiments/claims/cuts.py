"""Claim j: whether models lose an item without the training items that cover it (2-hop).

An intervention: of items that every model answers, some training items are taken away such that the
item is no longer covered at k (the cut), or as many others such that it still is (the control), and
the models are trained anew. The cuts of the items of one group are taken away together.

The items are chosen by a rule: uniform at random among the unseen ``type_0`` items that the models
of all seeds, trained on everything, answer and that have some k-cutoff at least. An item is passed
over only if it would be covered again once the cuts of its group are joined.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.coverage import (
    Coverage,
    CoverageSettings,
    Cut,
    covered_without,
    dataset_coverage,
    find_cut,
    matched_control,
    without,
)
from coverage_principle.data import Dataset, dump_json, write_text
from coverage_principle.data.tables import call_arguments, evaluate, seen_calls
from coverage_principle.experiments.claims import base
from coverage_principle.experiments.settings import RunSettings
from coverage_principle.experiments.sweep import Sweep
from coverage_principle.paths import relative_to_root
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import Mean, as_share, mean_of, mean_over_groups, wilson_interval
from simpletransformers.words import counted

TITLE = "Cuts: without the training items that cover it, is an item lost? (2-hop)"
PUBLISHED = (
    "no such intervention; that an item outside of coverage is not reliably answered is the claim "
    "behind it."
)

#: Training items; groups, and items of each; the k at which items are uncovered; the models' seeds.
SIZES = base.by_scale(150, 2500, 15000, 15000)
GROUPS = base.by_scale((1, 2), (3, 10), (3, 10), (3, 10), night=(6, 10))
KS = base.by_scale((1,), (2, 4), (2, 4), (2, 4))
SEEDS = base.by_scale((42, 43), *3 * [(42, 43, 44)], night=base.SEEDS["night"])
#: The least k-cutoff of the items that may be chosen.
LEAST_CUTOFF = base.by_scale(1, 4, 4, 4)
#: One world for all models, which differ in the seed of their training.
WORLD_SEED = 42
ARMS = {"cut": "cut removed", "control": "as many others removed"}
#: Items whose results are told apart. A cut may leave no training item that makes some call of the
#: item, or few that hold its fragment, and either may be why it is lost; the last have neither.
SUBSETS = {
    "all": "all items",
    "gone": "after the cut, training no longer makes one of its calls",
    "calls": "after the cut, training still makes each of its calls",
    "alike": "and its (x1, x2) is at least as rare after the control",
}
#: Subsets of fewer items say little of their own: they are in the table alone.
_FEW = 3
#: ``SUBSETS`` where there is little room.
_SHORT = {
    "all": "all",
    "gone": "a call\ngone",
    "calls": "calls\nstill made",
    "alike": "fragment\nas rare",
}


def collect(sweep: Sweep, scale: str) -> dict:
    """Train on everything, choose the items, train without their cuts and controls."""
    full = {str(seed): _run(scale, seed, "everything") for seed in SEEDS[scale]}
    base.finish(sweep, list(full.values()))
    tests = {seed: base.tested(sweep, run) for seed, run in full.items()}
    dataset = next(iter(tests.values()))[0]
    answered = np.all([right for *_, right in tests.values()], axis=0)
    coverages = [dataset_coverage(dataset, CoverageSettings(min_evidence=k)) for k in KS[scale]]
    firmly = dataset_coverage(dataset, CoverageSettings(min_evidence=LEAST_CUTOFF[scale]))
    eligible = eligible_items(firmly, answered)
    groups = choose(coverages, eligible, *GROUPS[scale])
    rows = [row for group in groups for row, _ in group]
    measure = _measure(sweep, dataset, rows)
    arms = {}
    for (place, coverage), (number, group) in itertools.product(
        enumerate(coverages), enumerate(groups)
    ):
        cuts = [own[place] for _, own in group]
        control = matched_control(coverage, cuts, seed=number)
        removed = {"cut": {row for cut in cuts for row in cut.rows}, "control": {*control.rows}}
        arms[place, number] = {
            "items": [rows.index(row) for row, _ in group],
            "matched": control.matched,
            "smallest": [cut.smallest for cut in cuts],
            "sizes": [len(cut.rows) for cut in cuts],
            "removed": {arm: len(own) for arm, own in removed.items()},
            "seen": {arm: still_seen(dataset, group, own) for arm, own in removed.items()},
            "fragment": {arm: holding(dataset, group, own) for arm, own in removed.items()},
            "runs": _retrained(sweep, scale, dataset, removed),
        }
    for one in arms.values():
        for runs in one["runs"].values():
            base.finish(sweep, list(runs.values()))
        one["runs"] = {
            arm: {seed: measure(run, one["items"]) for seed, run in runs.items()}
            for arm, runs in one["runs"].items()
        }
    at = {
        str(k): [arms[place, number] for number in range(len(groups))]
        for place, k in enumerate(KS[scale])
    }
    everywhere = list(range(len(rows)))
    return {
        **base.world(scale),
        "size": SIZES[scale],
        "least_cutoff": LEAST_CUTOFF[scale],
        "eligible": len(eligible),
        "items": [dataset.test.records[row]["input_text"] for row in rows],
        "k_cutoffs": [tests[next(iter(tests))][1][row].get("k_cutoff") for row in rows],
        "fragment": holding(dataset, [(row, ()) for row in rows], ()),
        "full": {seed: measure(run, everywhere) for seed, run in full.items()},
        "at": at,
    }


def _run(scale: str, seed: int, label: str, **train: object) -> RunSettings:
    data = {"seed": WORLD_SEED, "test_size_for_type": 2 * base.TEST_SIZE[scale]}
    train = {"eval_steps": 250, **train}
    return base.one_run(scale, seed, SIZES[scale], label, data=data, train=train, **base.TESTED)


def eligible_items(coverage: Coverage, answered: np.ndarray) -> np.ndarray:
    """The test items (places in ``test.json``) that may be chosen."""
    unseen = coverage.type_0 & coverage.covered(coverage.settings.min_evidence)
    rows = coverage.test_rows[unseen]
    return rows[answered[rows]]


def choose(
    coverages: Sequence[Coverage], eligible: np.ndarray, count: int, size: int
) -> list[list[tuple[int, list[Cut]]]]:
    """Groups of test items, each with its cut for each of ``coverages``."""
    order = iter(np.random.default_rng(WORLD_SEED).permutation(eligible).tolist())
    groups = []
    for _ in range(count):
        group: list[tuple[int, list[Cut]]] = []
        for row in order:
            item = coverages[0].dataset.test.inputs[row]
            grown = [*group, (row, [find_cut(coverage, item) for coverage in coverages])]
            if all(_uncovers(c, [cuts[i] for _, cuts in grown]) for i, c in enumerate(coverages)):
                group = grown
            if len(group) == size:
                break
        groups.append(group)
    return [group for group in groups if group]


def _uncovers(coverage: Coverage, cuts: Sequence[Cut]) -> bool:
    """Whether none of the cuts' items is covered once all the cuts are made."""
    removed = {row for cut in cuts for row in cut.rows}
    return not any(covered_without(coverage, removed, [cut.item for cut in cuts]))


def still_seen(dataset: Dataset, group: Iterable, removed: Iterable[int]) -> list[bool]:
    """Whether each item's calls are still made by training items."""
    graph, tables = dataset.graph, dataset.tables()
    seen = seen_calls(graph, tables, without(dataset, set(removed)).train.inputs)
    values = evaluate(graph, tables, dataset.test.inputs[[row for row, _ in group]])
    calls = [call_arguments(function, values) for function in graph.functions]
    made = [mask[tuple(call)] for mask, call in zip(seen, calls, strict=True)]
    return np.all(made, axis=0).tolist()


def holding(dataset: Dataset, group: Iterable, removed: Iterable[int]) -> list[int]:
    """How many training items hold each item's fragment of the first function."""
    graph = dataset.graph
    at = list(graph.fragment_positions(graph.functions[0].output))
    kept = without(dataset, set(removed)).train.inputs[:, at]
    own = dataset.test.inputs[[row for row, _ in group]][:, at]
    return (kept[None] == own[:, None]).all(axis=2).sum(axis=1).tolist()


def _retrained(
    sweep: Sweep, scale: str, dataset: Dataset, removed: Mapping[str, set[int]]
) -> dict[str, dict[str, RunSettings]]:
    """Start the runs without some training items: ``{arm: {seed: run}}``."""
    runs: dict[str, dict[str, RunSettings]] = {}
    for arm, rows in removed.items():
        text = dump_json(without(dataset, rows).train.all_records, one_per_line=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        file = sweep.root / "reduced" / f"{name}.json"
        write_text(file, text)
        given = relative_to_root(file)
        runs[arm] = {str(seed): _run(scale, seed, arm, custom_train=given) for seed in SEEDS[scale]}
        sweep.submit_all(list(runs[arm].values()))
    return runs


def _measure(
    sweep: Sweep, dataset: Dataset, rows: Sequence[int]
) -> Callable[[RunSettings, Sequence[int]], dict]:
    """A function of a run and some of the chosen items (places in ``rows``): what it answers.

    ``others`` are the type_0 test items that were not chosen, whatever their group.
    """
    others = np.flatnonzero(dataset.test.types == "type_0")
    others = others[~np.isin(others, rows)]

    def measure(run: RunSettings, places: Sequence[int]) -> dict:
        *_, right = base.tested(sweep, run)
        probability = base.probabilities(sweep, run, dataset)
        own = [rows[place] for place in places]
        return {
            "run": run.id,
            "right": right[own].tolist(),
            "probability": [round(float(p), 4) for p in probability[own]],
            "others": {
                "right": round(float(right[others].mean()), 4),
                "probability": round(float(probability[others].mean()), 4),
            },
        }

    return measure


def differences(numbers: Mapping, k: str, subset: str) -> list[float]:
    """For each item, in how many more models it is lost with the cut than with the control.

    As a share of the seeds: the mean of ``right`` (0 or 1) without the control, less that without
    the cut.
    """
    return [
        float(np.mean(one["control"]) - np.mean(one["cut"]))
        for _, one in _items(numbers, k, subset, "right")
    ]


def _items(
    numbers: Mapping, k: str, subset: str, what: str
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The items of a subset: the number of the group, and ``{arm: values of the seeds}``."""
    for number, place in _places(numbers, k, subset):
        runs_of = numbers["at"][k][number]["runs"]
        yield (
            number,
            {
                arm: np.array([run[what][place] for run in runs.values()], dtype=float)
                for arm, runs in runs_of.items()
            },
        )


def _places(numbers: Mapping, k: str, subset: str) -> Iterator[tuple[int, int]]:
    """The items of a subset: the number of the group, and the place in it."""
    for number, group in enumerate(numbers["at"][k]):
        for place in range(len(group["items"])):
            calls = group["seen"]["cut"][place]
            rare = group["fragment"]["control"][place] <= group["fragment"]["cut"][place]
            kinds = {"all": True, "gone": not calls, "calls": calls, "alike": calls and rare}
            if kinds[subset]:
                yield number, place


def _gap(numbers: Mapping, k: str, subset: str, what: str = "right") -> Mean | None:
    """By how much more is lost with the cut: of ``right`` answers, or ``probability``."""
    return _mean(numbers, k, subset, what, lambda arms: arms["control"] - arms["cut"])


def _lost(numbers: Mapping, k: str, subset: str, arm: str) -> Mean | None:
    """The share of models that lose an item; of all or none, with Wilson's interval over items."""
    found = _mean(numbers, k, subset, "right", lambda arms: 1 - arms[arm])
    if found and found.low is None:
        low, high = wilson_interval(found.mean * found.n, found.n)
        return Mean(found.mean, low, high, found.n)
    return found and as_share(found)


def _mean(
    numbers: Mapping, k: str, subset: str, what: str, of: Callable[[Mapping], np.ndarray]
) -> Mean | None:
    """The mean over items and seeds, each model being one of a group and a seed; None of none.

    Values that are all the same have no interval: they do not tell how far others may be off.
    """
    values, items, models = [], [], []
    for item, (group, arms) in enumerate(_items(numbers, k, subset, what)):
        own = of(arms)
        values += own.tolist()
        items += [item] * len(own)
        models += (group * len(own) + np.arange(len(own))).tolist()
    if len(set(values)) == 1:
        return Mean(values[0], None, None, len(set(items)))
    return mean_over_groups(values, items, models) if values else None


def _others(numbers: Mapping, k: str, arm: str, what: str) -> list[float]:
    """The mean over other type_0 items of each run without the cuts or the controls."""
    groups = numbers["at"][k]
    return [run["others"][what] for group in groups for run in group["runs"][arm].values()]


def find(numbers: Mapping) -> list[str]:
    if not numbers["items"]:
        return ["No item is answered by the models of all seeds, so there was nothing to cut."]
    seeds = len(numbers["full"])
    k, at = next(iter(numbers["at"].items()))
    subset = "calls" if differences(numbers, k, "calls") else "all"
    cut, control = (f"{_lost(numbers, k, subset, arm).mean:.0%}" for arm in ARMS)
    which = " and whose every call training still makes" if subset == "calls" else ""
    sentences = [
        "If the few training items that cover it are removed (on average "
        f"{np.mean(_sizes(at)):.1f} of {numbers['size']:,}), an item that all models answered"
        f"{which} is lost by {cut} of the models that are trained anew; if as many others are, by "
        f"{control} (k = {k}, {counted(len(differences(numbers, k, subset)), 'item')}, one world).",
        "A cut of an item is a set of training items without which it is no longer covered at k; a "
        "control is as many others, without which it still is. An item is lost if the model no "
        "longer answers it.",
        f"In a world of {numbers['num_tokens']} tokens, {len(numbers['items'])} of the "
        f"{numbers['eligible']:,} unseen type_0 items of k-cutoff {numbers['least_cutoff']} or "
        f"more that all {seeds} models trained on {counted(numbers['size'], 'item')} answer were "
        f"chosen at random, in {counted(len(at), 'group')}. Every model was trained anew without "
        f"the cuts of a whole group ({base.span(len(one['items']) for one in at)} items, whose "
        f"cuts at k = {k} have {base.span(one['removed']['cut'] for one in at)} training items), "
        "and without as many others, of the same fragments where there were such. "
        "Intervals (95 %) are of means over items and models, clustered by both (of all or none: "
        "Wilson's over items); sign tests take items as independent, which makes them rather too "
        "sure, as items share models.",
    ]
    for k in numbers["at"]:
        sentences += _sentences(numbers, k)
    return sentences


def _sentences(numbers: Mapping, k: str) -> list[str]:
    groups = numbers["at"][k]
    sizes = _sizes(groups)
    proven = sum(sum(group["smallest"]) for group in groups)
    removed, matched = (
        sum(of(group) for group in groups)
        for of in (lambda group: group["removed"]["control"], lambda group: group["matched"])
    )
    cut, control = (_lost(numbers, k, "all", arm).mean for arm in ARMS)
    seeds = len(groups[0]["runs"]["cut"])
    gap, apart = _gap(numbers, k, "all"), differences(numbers, k, "all")
    clear = gap.above_zero and _sign_test(apart) < 0.05
    verdict = "clearly more often" if clear else "not clearly more often"
    if gap.above_zero and not clear:
        verdict += " (the interval leaves out 0, the sign test over items does not tell)"
    found = [
        f"Uncovered at k = {k} by cuts of {min(sizes)} to {counted(max(sizes), 'item')} (mean "
        f"{np.mean(sizes):.1f}; {proven} of {len(sizes)} proven smallest), an item is lost in "
        f"{cut:.0%} of the models ({counted(seeds, 'seed')}), with the control in {control:.0%}: "
        f"{verdict}, by {gap}; {_signs(apart)}."
    ]
    moved = _gap(numbers, k, "all", "probability")
    others = [mean_of(_others(numbers, k, arm, "right")) for arm in ARMS]
    found.append(
        f"At k = {k} the true answer's probability is lower with the cut than with the control by "
        f"{moved}. Of the other type_0 items, {others[0].mean:.1%} are answered without the cuts "
        f"and {others[1].mean:.1%} without the controls ({_full_others(numbers):.1%} with "
        f"everything). {matched} of {removed} items of the controls hold the same fragment."
    )
    gone = "of which no training item is left that makes some call"
    calls = "of which training still makes each call without the cut"
    alike = "of which, besides, (x1, x2) is at least as rare without the control"
    for subset, words in (("gone", gone), ("calls", calls), ("alike", alike)):
        if len(apart := differences(numbers, k, subset)) >= _FEW:
            gap = _gap(numbers, k, subset)
            lost = " and ".join(f"{_lost(numbers, k, subset, arm).mean:.0%}" for arm in ARMS)
            found.append(
                f"Of the {counted(len(apart), 'item')} at k = {k} {words}, {lost} are lost, a "
                f"difference of {gap}; {_signs(apart)}."
            )
    if not (kept := list(_places(numbers, k, "calls"))):
        return found
    cut, control = (
        base.span(groups[g]["fragment"][arm][place] for g, place in kept) for arm in ARMS
    )
    sentence = (
        f"At k = {k}, training items with the (x1, x2) of an item whose calls are all still made: "
        f"{cut} without the cuts and {control} without the controls"
    )
    if (rare := len(differences(numbers, k, "alike"))) < _FEW:
        sentence += (
            f": for {f'only {rare}' if rare else 'none'} of these items is it as rare without the "
            "control, so what uncovering does is not told apart here from what a rare fragment does"
        )
    found.append(f"{sentence}.")
    return found


def _sizes(groups: Iterable[Mapping]) -> list[int]:
    return [size for group in groups for size in group["sizes"]]


def _signs(apart: Sequence[float]) -> str:
    """How many items are lost more often in either arm, with the sign test of that."""
    more, fewer, p = sum(d > 0 for d in apart), sum(d < 0 for d in apart), _sign_test(apart)
    return (
        f"{more} items are lost more often with the cut, {fewer} with the control (sign test p "
        f"{'< 0.001' if p < 0.001 else f'= {p:.3f}'})"
    )


def _sign_test(apart: Sequence[float]) -> float:
    """The two-sided p of as many items of one sign, if both signs are as likely."""
    from scipy.stats import binomtest

    more, fewer = sum(d > 0 for d in apart), sum(d < 0 for d in apart)
    return float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


def _full_others(numbers: Mapping) -> float:
    return float(np.mean([run["others"]["right"] for run in numbers["full"].values()]))


def tables(numbers: Mapping) -> list[base.Table]:
    if not numbers["items"]:
        return []
    rows = []
    for k, (subset, words) in itertools.product(numbers["at"], SUBSETS.items()):
        lost = [_lost(numbers, k, subset, arm) for arm in ARMS]
        own = [k, words, str(len(differences(numbers, k, subset)))]
        rows.append([*own, *(str(one or "-") for one in (*lost, _gap(numbers, k, subset)))])
    header = ["k", "items", "n", *(f"lost, {words}" for words in ARMS.values()), "difference"]
    title = (
        "Share of models that lose an item (95 % interval, clustered by items and by models; of "
    )
    title += "all or none, Wilson's over items)"
    by_item = [
        [numbers["items"][place], str(numbers["k_cutoffs"][place])]
        + [cell for k in numbers["at"] for cell in _cells(numbers, k, place)]
        for place in range(len(numbers["items"]))
    ]
    columns = [f"k = {k}, {what}" for k in numbers["at"] for what in ("size", *ARMS.values())]
    other = "Each item: size of its cut, and how many models lose it"
    return [
        base.Table(title, header, rows),
        base.Table(other, ["item", "k-cutoff", *columns], by_item),
    ]


def _cells(numbers: Mapping, k: str, place: int) -> list[str]:
    for group in numbers["at"][k]:
        if place in group["items"]:
            at = group["items"].index(place)
            lost = [[not run["right"][at] for run in group["runs"][a].values()] for a in ARMS]
            return [str(group["sizes"][at]), *(f"{sum(one)} of {len(one)}" for one in lost)]
    raise ValueError(f"item {place} is in no group")


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """How often items are lost, by k and subset, and the true answer's probability by item."""
    figure, (left, right) = style.new_figure(10, 3.8, 1, 2)
    ks = list(numbers["at"])
    groups = [
        (k, subset)
        for k in ks
        for subset in SUBSETS
        if len(differences(numbers, k, subset)) >= _FEW
    ]
    for number, (arm, words) in enumerate(ARMS.items()):
        places = [place + 0.16 * (number - 0.5) for place in range(len(groups))]
        lost = [_lost(numbers, *group, arm) for group in groups]
        plots.with_interval(left, places, lost, linestyle="", label=words, **plots.look(number))
    left.set_xticks(range(len(groups)), [f"k = {k}\n{_SHORT[s]}" for k, s in groups], fontsize=8)
    left.set(
        ylim=(-0.05, 1.05),
        ylabel="share that loses an item",
        title="items lost by models, 95 % interval",
    )
    left.legend(**plots.FURTHER_BELOW, ncols=2)
    for number, k in enumerate(ks):
        both = [one for _, one in _items(numbers, k, "all", "probability")]
        x, y = ([np.mean(one[arm]) for one in both] for arm in ("control", "cut"))
        right.plot(x, y, linestyle="", alpha=0.5, label=f"k = {k}", **plots.look(number))
    right.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    right.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), title="probability of the true answer")
    right.set(xlabel=ARMS["control"], ylabel=ARMS["cut"])
    right.legend(**plots.FURTHER_BELOW, ncols=2)
    return style.save_figure(figure, stem)


CLAIM = base.Claim("j", "cuts", TITLE, PUBLISHED, collect, find, tables, draw)

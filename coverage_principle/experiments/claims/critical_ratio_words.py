"""What claim h says of its numbers: measures, sentences, tables and the figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coverage_principle.experiments.claims.base import Table, rate_in_table
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import Mean, Rate, rate_difference, rate_over_seeds
from simpletransformers.words import counted, listed

#: Published accuracy when the training items are fitted, by phi, and whether it is an upper limit.
PUBLISHED_AT_FIT = {"7.2": (0.092, True), "18": (0.967, False)}
PUBLISHED_WORDS = {
    "3.6": "not reached in their budget",
    "7.2": "at most 0.092 when fitted (14,000 steps), about 1 after 50 times as many",
    "9": "the same for all numbers of entities",
    "18": "0.967 before training items are fitted",
}
#: "Fitted": so many of the training items are right.
_FITTED = 0.99
#: Groups of fewer items are not told of.
_FEWEST = 20
#: k whose curves are shown, beside the nearest.
_SHOWN = (3, 4, 5)
_BOTH_OUTSIDE = "type_1+f1+f2"
#: The last k in the table of distances, if none further is the nearest at some time.
_LAST = 10
#: How far series stand apart that have the same phi.
_ASIDE = 0.12
#: Range of an axis of shares; where the keys of the figure stand, which has no free corners.
_SHARES = (-0.03, 1.05)
_KEY = {**plots.BELOW, "ncols": 2}


def beyond_guess(accuracy: float, floor: float) -> float:
    """What accuracy is beyond the guess that is right for a share ``floor``: 1 if all is right."""
    return (accuracy - floor) / (1 - floor)


def gaps(
    by_phi: Mapping[str, Mapping], k: int, place: int = -1, *, seeds: Sequence[str] | None = None
) -> list[float]:
    """By how much accuracy beyond the guess exceeds the share covered at ``k``, phi by phi.

    ``by_phi`` are the runs of a world, ``place`` is one of their evaluations; means over ``seeds``,
    by default all.
    """
    found = []
    for runs in by_phi.values():
        own = [run for seed, run in runs.items() if seeds is None or seed in seeds]
        beyond = [beyond_guess(run["accuracy"]["type_0"][place], run["floor"]) for run in own]
        found.append(float(np.mean(beyond)) - _covered(own, k))
    return found


def nearest(by_phi: Mapping[str, Mapping], place: int = -1, **which: Sequence[str]) -> int:
    """The k at which the share covered is nearest to accuracy beyond the guess, over all phi."""
    return min(_ks(by_phi), key=lambda k: _size(gaps(by_phi, k, place, **which)))


def _ks(by_phi: Mapping[str, Mapping]) -> range:
    """Every k at which something is covered."""
    return range(1, 1 + max(int(k) for run in _runs(by_phi) for k in run["counted"]))


def _runs(by_phi: Mapping[str, Mapping]) -> list[Mapping]:
    return [run for runs in by_phi.values() for run in runs.values()]


def _size(values: Sequence[float]) -> float:
    """The root of their mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _covered(runs: Iterable[Mapping], k: int) -> float:
    return float(np.mean([run["counted"].get(str(k), 0.0) for run in runs]))


def _floor(runs: Iterable[Mapping]) -> float:
    return float(np.mean([run["floor"] for run in runs]))


def _accuracy(runs: Mapping[str, Mapping], place: int = -1) -> Rate:
    values = [run["accuracy"]["type_0"][place] for run in runs.values()]
    return rate_over_seeds(values, [run["final"]["type_0"]["n"] for run in runs.values()])


def _beyond(runs: Mapping[str, Mapping], place: int = -1) -> Rate:
    """``_accuracy`` beyond the guess, whose own accuracy counts as known."""
    rate, floor = _accuracy(runs, place), _floor(runs.values())
    ends = {name: beyond_guess(getattr(rate, name), floor) for name in ("mean", "low", "high")}
    return replace(rate, **ends)


def _final(runs: Mapping[str, Mapping], group: str) -> Rate | None:
    """Accuracy of a type at the end; None without items."""
    found = [run["final"][group] for run in runs.values() if group in run["final"]]
    if not found:
        return None
    return rate_over_seeds([one["accuracy"] for one in found], [one["n"] for one in found])


def by_cutoff(runs: Mapping[str, Mapping], low: int, high: int | None = None) -> Rate | None:
    """Final accuracy of the items with a k-cutoff of ``low`` to ``high``; None for too few."""
    ks = [k for run in runs.values() for k in run["by_k"]]
    chosen = {k for k in ks if low <= int(k) and (high is None or int(k) <= high)}
    rates, items = [], []
    for run in runs.values():
        groups = [run["by_k"][k] for k in chosen if k in run["by_k"]]
        items.append(sum(group["n"] for group in groups))
        right = sum(group["n"] * group["accuracy"] for group in groups)
        rates.append(right / max(1, items[-1]))
    return rate_over_seeds(rates, items) if sum(items) >= _FEWEST else None


def when_fitted(runs: Mapping[str, Mapping]) -> Rate | None:
    """Accuracy beyond the guess when training items are first answered; None if never by all."""
    places = [
        next((i for i, a in enumerate(run["accuracy"]["train_inferred"]) if a >= _FITTED), None)
        for run in runs.values()
    ]
    if None in places:
        return None
    then = {
        seed: {**run, "accuracy": {"type_0": [run["accuracy"]["type_0"][place]]}}
        for (seed, run), place in zip(runs.items(), places, strict=True)
    }
    return _beyond(then)


def _first(numbers: Mapping) -> tuple[str, Mapping]:
    return next(iter(numbers["worlds"].items()))


def _others(numbers: Mapping) -> Iterator[tuple[str, Mapping, Mapping, dict[str, int]]]:
    """Every other world, what it is compared with, and the evaluations at which it is.

    A larger world is compared with the first at equal epochs, the end of both, and at equal steps,
    where it was evaluated then; one of another width with that of its size.
    """
    _, first = _first(numbers)
    budget = _steps(first)[-1]
    for name, world in list(numbers["worlds"].items())[1:]:
        if world["dimensions"] == first["dimensions"]:
            places = {f"as many epochs ({_steps(world)[-1]:,} steps)": -1}
            if budget in _steps(world):
                places[f"as many steps ({budget:,})"] = _steps(world).index(budget)
            yield name, world, first, places
        else:
            same = (w for w in numbers["worlds"].values() if w["entities"] == world["entities"])
            yield name, world, next(same), {f"{_steps(world)[-1]:,} steps": -1}


def _compared(numbers: Mapping) -> Iterator[tuple[str, Mapping, Mapping, dict[str, int]]]:
    """``_others``, and worlds of another width and size beside the first as well."""
    _, first = _first(numbers)
    for name, world, other, places in _others(numbers):
        yield name, world, other, places
        if other is not first:
            yield name, world, first, places


def _steps(world: Mapping) -> list[int]:
    return _runs(world["phi"])[0]["steps"]


def _differences(world: Mapping, other: Mapping, place: int) -> dict[str, Mean]:
    """By how much a world's accuracy beyond the guess exceeds another's at its end, by phi."""
    return {
        phi: rate_difference(_beyond(runs, place), _beyond(other["phi"][phi]))
        for phi, runs in world["phi"].items()
        if phi in other["phi"]
    }


def find(numbers: Mapping) -> list[str]:
    name, first = _first(numbers)
    by_phi, seeds = first["phi"], list(next(iter(first["phi"].values())))
    k = nearest(by_phi, seeds=seeds[:1])
    parts = (_climb(name, first, k), *_predicted(numbers, k, seeds), _budget(name, by_phi))
    parts += (*_sizes(numbers, k), *_items(name, by_phi, k), _at_fit(name, by_phi))
    return [
        sentence
        for sentence in (*parts, _outside(name, first), _counted_alone(numbers, k))
        if sentence
    ]


def _climb(name: str, first: Mapping, k: int) -> str:
    (low, fewest), *_, (high, most) = first["phi"].items()
    ends = _accuracy(fewest), _accuracy(most)
    if rate_difference(*ends[::-1]).above_zero:
        words = "The more compositions per fact a model is trained on, the more unseen ones it "
        words += "answers, and coverage, counted before any training, climbs with them"
    else:
        words = "More training compositions did not clearly make more of the others answered"
    covered = [f"{_covered(runs.values(), k):.2f}" for runs in (fewest, most)]
    return (
        f"{words}: with {name} and {_steps(first)[-1]:,} steps, accuracy on held-out compositions "
        f"of in-domain facts goes from {ends[0]} at phi {low} to {ends[1]} at phi {high}, and the "
        f"share of them that is covered at k = {k} from {covered[0]} to {covered[1]} "
        f"({counted(ends[1].n, 'seed')}, about {ends[1].items // ends[1].n:,} items each; 95 % "
        "intervals from items and seeds)."
    )


def _predicted(numbers: Mapping, k: int, seeds: Sequence[str]) -> Iterator[str]:
    name, first = _first(numbers)
    by_phi = first["phi"]
    own = gaps(by_phi, k, seeds=seeds[:1])
    spread = np.std([_beyond({seeds[0]: runs[seeds[0]]}).mean for runs in by_phi.values()])
    verdict = "so the share covered tells something of accuracy"
    if _size(own) >= spread:
        verdict = "so no k explains how much is answered"
    yield (
        f"A guess from the last relation alone is right for {_floor(_runs(by_phi)):.2f} of these "
        "items (measured on the data). What accuracy is beyond that guess, from 0 to 1, is "
        f"compared with the share covered. On the first seed of {name}, k = {k} comes nearest: it "
        f"is off by {_size(own):.2f} (root mean square over {len(own)} phi), one and the same "
        f"number for all phi by {spread:.2f}, {verdict}."
    )
    told = []
    if rest := seeds[1:]:
        told.append((f"the other {counted(len(rest), 'seed')} of {name}", by_phi, rest))
    told += [(other, world["phi"], None) for other, world, *_ in _others(numbers)]
    words = []
    for about, own_phi, which in told:
        found = dict(zip(own_phi, gaps(own_phi, k, seeds=which), strict=True))
        phi = max(found, key=lambda one: abs(found[one]))
        size = f"{_size(list(found.values())):.2f}"
        words.append(f"{size} for {about} (largest: {found[phi]:+.2f} at phi {phi})")
    if words:
        yield (
            "With this k the share covered is off (+: more is answered than is covered) by "
            f"{'; '.join(words)}. Larger worlds have as many epochs."
        )


def _budget(name: str, by_phi: Mapping) -> str:
    steps = _runs(by_phi)[0]["steps"]
    at = {place: nearest(by_phi, place) for place in _quarters(steps)}
    told = [f"{k} after {steps[place]:,} steps" for place, k in at.items()]
    verdict = "it depends on how long models train" if len(set(at.values())) > 1 else "it stays"
    return f"With {name}, all seeds, the nearest k is {listed(told)}: {verdict}."


def _quarters(steps: Sequence[int]) -> list[int]:
    """The evaluations after each quarter of training."""
    return sorted({max(0, len(steps) * part // 4 - 1) for part in (1, 2, 3, 4)})


def _sizes(numbers: Mapping, k: int) -> Iterator[str]:
    for name, world, other, places in _compared(numbers):
        shared = [phi for phi in world["phi"] if phi in other["phi"]]
        covers = [
            abs(_covered(world["phi"][p].values(), k) - _covered(other["phi"][p].values(), k))
            for p in shared
        ]
        compared = f"{other['entities']:,} entities, {other['dimensions']} dimensions"
        n = max(len(runs) for runs in world["phi"].values())
        words = (
            f"{name} ({counted(n, 'seed')}) against {compared}, at equal phi: the share covered at "
            f"k = {k} differs by at most {max(covers):.3f}; accuracy beyond the guess"
        )
        parts = []
        for budget, place in places.items():
            found = _differences(world, other, place)
            lower = sum(gap.below_zero for gap in found.values())
            higher = sum(gap.above_zero for gap in found.values())
            largest = max(found, key=lambda phi: abs(found[phi].mean))
            parts.append(
                f"after {budget} is clearly lower at {lower} and clearly higher at {higher} of "
                f"{len(found)} phi, most apart at phi {largest} ({found[largest]})"
            )
        yield f"{words} {', '.join(parts)}."


def _items(name: str, by_phi: Mapping, k: int) -> Iterator[str]:
    both = {phi: (by_cutoff(runs, k), by_cutoff(runs, 0, k - 1)) for phi, runs in by_phi.items()}
    both = {phi: pair for phi, pair in both.items() if None not in pair}
    if both:
        told = [f"{high} and {low} at phi {phi}" for phi, (high, low) in both.items()]
        clear = sum(rate_difference(*pair).above_zero for pair in both.values())
        yield (
            f"Within the worlds of {name}, items with a k-cutoff of at least {k} and those below "
            f"are right for {', '.join(told)}: clearly more of the former at {clear} of "
            f"{len(both)} phi."
        )
    equal = {phi: by_cutoff(runs, k, k) for phi, runs in by_phi.items()}
    equal = {phi: rate for phi, rate in equal.items() if rate is not None}
    if len(equal) > 1:
        (low, least), (high, most) = (
            choose(equal.items(), key=lambda one: one[1].mean) for choose in (min, max)
        )
        words = f"Items with a k-cutoff of exactly {k} are right for {least} at phi {low} and for "
        words += f"{most} at phi {high}"
        if rate_difference(most, least).above_zero:
            words += (
                ": equal evidence is used more where the rest of the world is covered better, so "
                "the share covered tells of a world what the k-cutoff does not of a single item"
            )
        yield words + "."


def _at_fit(name: str, by_phi: Mapping) -> str:
    words = []
    for phi, (published, at_most) in PUBLISHED_AT_FIT.items():
        if phi in by_phi and (rate := when_fitted(by_phi[phi])):
            inside = "inside" if rate.low <= published <= rate.high else "outside"
            limit = "at most " if at_most else ""
            words.append(
                f"{rate} at phi {phi} (published, of 2,000 entities: {limit}{published}, {inside} "
                "the interval)"
            )
    if not words:
        return ""
    return (
        f"When {_FITTED:g} of the training items are first right, accuracy beyond the guess with "
        f"{name} is {listed(words)}."
    )


def _outside(name: str, first: Mapping) -> str:
    found = [_final(runs, _BOTH_OUTSIDE) for runs in first["phi"].values()]
    if None in found:
        return ""
    top = max(found, key=lambda rate: rate.mean)
    return (
        f"Where both facts are out of domain, accuracy with {name} is at most {top} at any phi, "
        f"chance being {1 / first['entities']:.2g} (published: 0)."
    )


def _counted_alone(numbers: Mapping, k: int) -> str:
    published = numbers["published"]
    shares = {phi: _mean_share(one, k) for phi, one in published["counted"].items()}
    told = ", ".join(f"{share:.2f} at phi {phi}" for phi, share in shares.items())
    n = len(next(iter(published["counted"].values())))
    return (
        f"At {published['entities']:,} entities, counted and not trained, the share covered at "
        f"k = {k} is {told} ({counted(n, 'seed')}); a table has the published accuracies beside it."
    )


def _mean_share(by_seed: Mapping[str, Mapping], k: int) -> float:
    return float(np.mean([one.get(str(k), 0.0) for one in by_seed.values()]))


def tables(numbers: Mapping) -> list[Table]:
    name, first = _first(numbers)
    k = nearest(first["phi"], seeds=list(next(iter(first["phi"].values())))[:1])
    shown = sorted({*_SHOWN, k})
    return [
        _accuracies(numbers, shown),
        _distances(numbers),
        _size_table(numbers),
        _cutoffs(name, first["phi"]),
        _published_table(numbers["published"], shown),
    ]


def _accuracies(numbers: Mapping, shown: Sequence[int]) -> Table:
    rows = []
    for name, world in numbers["worlds"].items():
        for phi, runs in world["phi"].items():
            groups = (_final(runs, group) for group in ("train_inferred", _BOTH_OUTSIDE))
            train, outside = ("-" if rate is None else str(rate) for rate in groups)
            row = [f"{name}, phi {phi}", f"{len(runs)}", train, str(_accuracy(runs))]
            row += [f"{_floor(runs.values()):.2f}", str(_beyond(runs))]
            rows.append([*row, *(f"{_covered(runs.values(), k):.2f}" for k in shown), outside])
    title = "Final accuracy, and the share of all held-out in-domain items that is covered. "
    title += "Intervals (95 %) here and below: beta-binomial, items within seeds"
    header = ["worlds", "seeds", "training items", "held-out", "guess", "beyond the guess"]
    header += [*(f"k = {k}" for k in shown), "both facts out of domain"]
    return Table(title, header, rows)


def _distances(numbers: Mapping) -> Table:
    name, first = _first(numbers)
    steps = _steps(first)
    columns = {f"{name}, first seed": (first, -1, list(next(iter(first["phi"].values())))[:1])}
    for part in (4, 2, 1):
        place = max(0, len(steps) // part - 1)
        columns[f"{name}, {steps[place]:,} steps"] = first, place, None
    for other, world, *_ in _others(numbers):
        columns[f"{other}, {_steps(world)[-1]:,} steps"] = world, -1, None
    rows = []
    ks = _ks(first["phi"])[: max(_LAST, *(nearest(first["phi"], at) for at in _quarters(steps)))]
    for k in ks:
        found = (_size(gaps(own["phi"], k, place, seeds=s)) for own, place, s in columns.values())
        rows.append([str(k), *(f"{value:.2f}" for value in found)])
    title = "Root mean square, over phi, of accuracy beyond the guess less the share covered at k"
    return Table(title, ["k", *columns], rows)


def _size_table(numbers: Mapping) -> Table:
    rows = [
        [f"{name}, {budget}, phi {phi}", f"{other['entities']:,}, {other['dimensions']}", str(gap)]
        for name, world, other, places in _compared(numbers)
        for budget, place in places.items()
        for phi, gap in _differences(world, other, place).items()
    ]
    title = "By how much accuracy beyond the guess exceeds that of other worlds at equal phi"
    return Table(title, ["worlds", "less those of entities, dimensions", "difference"], rows)


def _cutoffs(name: str, by_phi: Mapping) -> Table:
    ks = sorted({int(k) for run in _runs(by_phi) for k in run["by_k"]})
    rows = []
    for k in ks:
        rates = [by_cutoff(runs, k, k) for runs in by_phi.values()]
        if any(rates):
            rows.append([str(k), *map(rate_in_table, rates)])
    title = f"Final accuracy by k-cutoff, {name} (at least {_FEWEST} items)"
    return Table(title, ["k-cutoff", *(f"phi {phi}" for phi in by_phi)], rows)


def _published_table(published: Mapping, shown: Sequence[int]) -> Table:
    rows = [
        [phi, *(f"{_mean_share(one, k):.3f}" for k in shown), PUBLISHED_WORDS.get(phi, "-")]
        for phi, one in published["counted"].items()
    ]
    title = f"Share covered with {published['entities']:,} entities, counted alone, beside what "
    title += "arXiv 2405.15071 reports of accuracy"
    return Table(title, ["phi", *(f"k = {k}" for k in shown), "published"], rows)


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy and coverage by phi, accuracy over training, and the published size's coverage."""
    figure, (left, middle, right) = style.new_figure(12.6, 4.6, 1, 3)
    _draw_by_phi(left, numbers)
    _draw_training(middle, *_first(numbers))
    _draw_published(right, numbers["published"])
    return style.save_figure(figure, stem)


def _draw_by_phi(axis, numbers: Mapping) -> None:
    _, first = _first(numbers)
    phis = list(map(float, first["phi"]))
    name = f"{first['entities']:,} entities"
    for k, dashes in zip(_SHOWN, ("-", "--", ":"), strict=True):
        shares = [_covered(runs.values(), k) for runs in first["phi"].values()]
        axis.plot(phis, shares, color="grey", linestyle=dashes, label=f"{name}: covered, k = {k}")
    shown = [(0, name, first, -1)]
    shown += [
        (number, other, world, place)
        for number, (other, world, _, places) in enumerate(_others(numbers), start=1)
        for place in places.values()
    ]
    for order, (number, name, world, place) in enumerate(shown):
        where = [float(phi) + _ASIDE * (order - (len(shown) - 1) / 2) for phi in world["phi"]]
        rates = [_beyond(runs, place) for runs in world["phi"].values()]
        errors = np.array([[r.mean - r.low, r.high - r.mean] for r in rates]).T
        own = {"linestyle": "", "markersize": 5, "capsize": 2, **plots.look(number)}
        own |= {"label": f"{name}, {_steps(world)[place]:,} steps"}
        own |= {} if place == -1 else {"markerfacecolor": "white"}
        axis.errorbar(where, [r.mean for r in rates], errors, **own)
    axis.set_title("held-out accuracy and coverage")
    _phi_axis(axis, phis, "accuracy beyond a guess; share covered")


def _draw_training(axis, name: str, world: Mapping) -> None:
    floor = _floor(_runs(world["phi"]))
    colours = plots.shades(len(world["phi"]))
    for colour, (phi, runs) in zip(colours, world["phi"].items(), strict=True):
        plots.mean_curve(axis, runs, "train_inferred", color=colour, linestyle=":", linewidth=1)
        plots.mean_curve(axis, runs, "type_0", color=colour, label=f"phi {phi}")
    plots.label_only(axis, "training items", color="black", linestyle=":", linewidth=1)
    axis.axhline(floor, color="grey", linewidth=1, linestyle="--", label="guess by last relation")
    axis.set(ylim=_SHARES, xlabel="step", ylabel="accuracy, mean over seeds")
    axis.set_title(f"over training, {name}")
    axis.legend(**_KEY)


def _draw_published(axis, published: Mapping) -> None:
    phis = list(map(float, published["counted"]))
    ks = range(1, 9)
    for colour, k in zip(plots.shades(len(ks)), ks, strict=True):
        shares = [_mean_share(one, k) for one in published["counted"].values()]
        axis.plot(phis, shares, color=colour, label=f"covered at k = {k}", linewidth=1.2)
    given = {float(phi): value for phi, (value, _) in PUBLISHED_AT_FIT.items()}
    look = {"linestyle": "", "marker": "*", "markersize": 11, "color": style.PALETTE[1]}
    label = "published accuracy (7.2: at most, when fitted; 18: before)"
    axis.plot(*zip(*given.items(), strict=True), label=label, **look)
    axis.set_title(f"coverage alone, {published['entities']:,} entities")
    _phi_axis(axis, phis, "share covered of held-out items; accuracy")


def _phi_axis(axis, phis: Sequence[float], ylabel: str) -> None:
    axis.set(ylim=_SHARES, ylabel=ylabel, xlabel="phi: training compositions per in-domain fact")
    axis.set_xticks(phis, [f"{phi:g}" for phi in phis])
    axis.legend(**_KEY)

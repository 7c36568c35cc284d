"""What claim h says of its numbers: sentences, tables and the figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from coverage_principle.experiments.claims.base import Table, rate_in_table
from coverage_principle.experiments.claims.critical_ratio_measures import (
    FEWEST,
    FITTED,
    all_runs,
    by_cutoff,
    compared_worlds,
    covering_ks,
    differences,
    evaluated_steps,
    final_rate,
    first_world,
    gaps,
    last_rise,
    mean_floor,
    mean_share,
    nearest,
    other_worlds,
    quarters,
    rate_beyond,
    rate_of_type_0,
    root_mean_square,
    share_covered,
    when_fitted,
)
from coverage_principle.reporting import plots, style
from coverage_principle.statistics import rate_difference
from simpletransformers.words import counted, listed

#: Published accuracy when the training items are fitted, by phi, and whether it is an upper limit.
PUBLISHED_AT_FIT = {"7.2": (0.092, True), "18": (0.967, False)}
PUBLISHED_WORDS = {
    "3.6": "not reached in their budget",
    "7.2": "at most 0.092 when fitted (14,000 steps), about 1 after 50 times as many",
    "9": "the same for all numbers of entities",
    "18": "0.967 before training items are fitted",
}
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


def find(numbers: Mapping) -> list[str]:
    name, first = first_world(numbers)
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
    ends = rate_of_type_0(fewest), rate_of_type_0(most)
    if rate_difference(*ends[::-1]).above_zero:
        words = "The more compositions per fact a model is trained on, the more unseen ones it "
        words += "answers, and coverage, counted before any training, climbs with them"
    else:
        words = "More training compositions did not clearly make more of the others answered"
    covered = [f"{share_covered(runs.values(), k):.2f}" for runs in (fewest, most)]
    return (
        f"{words}: with {name} and {evaluated_steps(first)[-1]:,} steps, accuracy on held-out "
        f"compositions of in-domain facts goes from {ends[0]} at phi {low} to {ends[1]} at phi "
        f"{high}, and the share of them that is covered at k = {k} from {covered[0]} to "
        f"{covered[1]} ({counted(ends[1].n, 'seed')}, about {ends[1].items // ends[1].n:,} items "
        "each; 95 % intervals from items and seeds)."
    )


def _predicted(numbers: Mapping, k: int, seeds: Sequence[str]) -> Iterator[str]:
    name, first = first_world(numbers)
    by_phi = first["phi"]
    own = gaps(by_phi, k, seeds=seeds[:1])
    spread = np.std([rate_beyond({seeds[0]: runs[seeds[0]]}).mean for runs in by_phi.values()])
    verdict = "so the share covered tells something of accuracy"
    if root_mean_square(own) >= spread:
        verdict = "so no k explains how much is answered"
    yield (
        f"A guess from the last relation alone is right for {mean_floor(all_runs(by_phi)):.2f} of "
        "these items (measured on the data). What accuracy is beyond that guess, from 0 to 1, is "
        f"compared with the share covered. On the first seed of {name}, k = {k} comes nearest: it "
        f"is off by {root_mean_square(own):.2f} (root mean square over {len(own)} phi), one and "
        f"the same number for all phi by {spread:.2f}, {verdict}."
    )
    told = []
    if rest := seeds[1:]:
        told.append((f"the other {counted(len(rest), 'seed')} of {name}", by_phi, rest))
    told += [(other, world["phi"], None) for other, world, *_ in other_worlds(numbers)]
    words = []
    for about, own_phi, which in told:
        found = dict(zip(own_phi, gaps(own_phi, k, seeds=which), strict=True))
        phi = max(found, key=lambda one: abs(found[one]))
        size = f"{root_mean_square(list(found.values())):.2f}"
        words.append(f"{size} for {about} (largest: {found[phi]:+.2f} at phi {phi})")
    if words:
        yield (
            "With this k the share covered is off (+: more is answered than is covered) by "
            f"{'; '.join(words)}. Larger worlds have as many epochs."
        )


def _budget(name: str, by_phi: Mapping) -> str:
    steps = all_runs(by_phi)[0]["steps"]
    at: dict[int, int | None] = {}
    for place in quarters(steps):
        k = nearest(by_phi, place)
        constant = np.std([rate_beyond(runs, place).mean for runs in by_phi.values()])
        at[place] = k if root_mean_square(gaps(by_phi, k, place)) < constant else None
    told = [f"{k or 'none'} after {steps[place]:,} steps" for place, k in at.items()]
    verdict = "it depends on how long models train" if len(set(at.values())) > 1 else "it stays"
    return (
        f"With {name}, all seeds, the k that comes nearest, if any is nearer than one number for "
        f"all phi, is {listed(told)}: {verdict}."
    )


def _sizes(numbers: Mapping, k: int) -> Iterator[str]:
    for name, world, other, places in compared_worlds(numbers):
        shared = [phi for phi in world["phi"] if phi in other["phi"]]
        covers = [
            abs(
                share_covered(world["phi"][p].values(), k)
                - share_covered(other["phi"][p].values(), k)
            )
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
            found = differences(world, other, place)
            lower = sum(gap.below_zero for gap in found.values())
            higher = sum(gap.above_zero for gap in found.values())
            largest = max(found, key=lambda phi: abs(found[phi].mean))
            parts.append(
                f"after {budget} is clearly lower at {lower} and clearly higher at {higher} of "
                f"{len(found)} phi, most apart at phi {largest} ({found[largest]})"
            )
        rises = [last_rise(runs) for runs in world["phi"].values()]
        rose = " to ".join(dict.fromkeys(f"{end(rises):+.2f}" for end in (min, max)))
        yield f"{words} {', '.join(parts)}; the last quarter of training still added {rose}."


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
        f"When {FITTED:g} of the training items are first right, accuracy beyond the guess with "
        f"{name} is {listed(words)}."
    )


def _outside(name: str, first: Mapping) -> str:
    found = [final_rate(runs, _BOTH_OUTSIDE) for runs in first["phi"].values()]
    if None in found:
        return ""
    top = max(found, key=lambda rate: rate.mean)
    return (
        f"Where both facts are out of domain, accuracy with {name} is at most {top} at any phi, "
        f"chance being {1 / first['entities']:.2g} (published: 0)."
    )


def _counted_alone(numbers: Mapping, k: int) -> str:
    published = numbers["published"]
    shares = {phi: mean_share(one, k) for phi, one in published["counted"].items()}
    told = ", ".join(f"{share:.2f} at phi {phi}" for phi, share in shares.items())
    n = len(next(iter(published["counted"].values())))
    return (
        f"At {published['entities']:,} entities, counted and not trained, the share covered at "
        f"k = {k} is {told} ({counted(n, 'seed')}); a table has the published accuracies beside it."
    )


def tables(numbers: Mapping) -> list[Table]:
    name, first = first_world(numbers)
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
            groups = (final_rate(runs, group) for group in ("train_inferred", _BOTH_OUTSIDE))
            train, outside = ("-" if rate is None else str(rate) for rate in groups)
            row = [f"{name}, phi {phi}", f"{len(runs)}", train, str(rate_of_type_0(runs))]
            row += [f"{mean_floor(runs.values()):.2f}", str(rate_beyond(runs))]
            rows.append([*row, *(f"{share_covered(runs.values(), k):.2f}" for k in shown), outside])
    title = "Final accuracy, and the share of all held-out in-domain items that is covered. "
    title += "Intervals (95 %) here and below: beta-binomial, items within seeds"
    header = ["worlds", "seeds", "training items", "held-out", "guess", "beyond the guess"]
    header += [*(f"k = {k}" for k in shown), "both facts out of domain"]
    return Table(title, header, rows)


def _distances(numbers: Mapping) -> Table:
    name, first = first_world(numbers)
    steps = evaluated_steps(first)
    columns = {f"{name}, first seed": (first, -1, list(next(iter(first["phi"].values())))[:1])}
    for part in (4, 2, 1):
        place = max(0, len(steps) // part - 1)
        columns[f"{name}, {steps[place]:,} steps"] = first, place, None
    for other, world, *_ in other_worlds(numbers):
        columns[f"{other}, {evaluated_steps(world)[-1]:,} steps"] = world, -1, None
    rows = []
    ks = covering_ks(first["phi"])[
        : max(_LAST, *(nearest(first["phi"], at) for at in quarters(steps)))
    ]
    for k in ks:
        found = (
            root_mean_square(gaps(own["phi"], k, place, seeds=s))
            for own, place, s in columns.values()
        )
        rows.append([str(k), *(f"{value:.2f}" for value in found)])
    title = "Root mean square, over phi, of accuracy beyond the guess less the share covered at k"
    return Table(title, ["k", *columns], rows)


def _size_table(numbers: Mapping) -> Table:
    rows = [
        [f"{name}, {budget}, phi {phi}", f"{other['entities']:,}, {other['dimensions']}", str(gap)]
        for name, world, other, places in compared_worlds(numbers)
        for budget, place in places.items()
        for phi, gap in differences(world, other, place).items()
    ]
    title = "By how much accuracy beyond the guess exceeds that of other worlds at equal phi"
    return Table(title, ["worlds", "less those of entities, dimensions", "difference"], rows)


def _cutoffs(name: str, by_phi: Mapping) -> Table:
    ks = sorted({int(k) for run in all_runs(by_phi) for k in run["by_k"]})
    rows = []
    for k in ks:
        rates = [by_cutoff(runs, k, k) for runs in by_phi.values()]
        if any(rates):
            rows.append([str(k), *map(rate_in_table, rates)])
    title = f"Final accuracy by k-cutoff, {name} (at least {FEWEST} items)"
    return Table(title, ["k-cutoff", *(f"phi {phi}" for phi in by_phi)], rows)


def _published_table(published: Mapping, shown: Sequence[int]) -> Table:
    rows = [
        [phi, *(f"{mean_share(one, k):.3f}" for k in shown), PUBLISHED_WORDS.get(phi, "-")]
        for phi, one in published["counted"].items()
    ]
    title = f"Share covered with {published['entities']:,} entities, counted alone, beside what "
    title += "arXiv 2405.15071 reports of accuracy"
    return Table(title, ["phi", *(f"k = {k}" for k in shown), "published"], rows)


def draw(numbers: Mapping, stem: Path) -> list[Path]:
    """Accuracy and coverage by phi, accuracy over training, and the published size's coverage."""
    figure, (left, middle, right) = style.new_figure(12.6, 4.6, 1, 3)
    _draw_by_phi(left, numbers)
    _draw_training(middle, *first_world(numbers))
    _draw_published(right, numbers["published"])
    return style.save_figure(figure, stem)


def _draw_by_phi(axis, numbers: Mapping) -> None:
    _, first = first_world(numbers)
    phis = list(map(float, first["phi"]))
    name = f"{first['entities']:,} entities"
    for k, dashes in zip(_SHOWN, ("-", "--", ":"), strict=True):
        shares = [share_covered(runs.values(), k) for runs in first["phi"].values()]
        axis.plot(phis, shares, color="grey", linestyle=dashes, label=f"{name}: covered, k = {k}")
    shown = [(0, name, first, -1)]
    shown += [
        (number, other, world, place)
        for number, (other, world, _, places) in enumerate(other_worlds(numbers), start=1)
        for place in places.values()
    ]
    for order, (number, name, world, place) in enumerate(shown):
        where = [float(phi) + _ASIDE * (order - (len(shown) - 1) / 2) for phi in world["phi"]]
        rates = [rate_beyond(runs, place) for runs in world["phi"].values()]
        errors = np.array([[r.mean - r.low, r.high - r.mean] for r in rates]).T
        own = {"linestyle": "", "markersize": 5, "capsize": 2, **plots.look(number)}
        own |= {"label": f"{name}, {evaluated_steps(world)[place]:,} steps"}
        own |= {} if place == -1 else {"markerfacecolor": "white"}
        axis.errorbar(where, [r.mean for r in rates], errors, **own)
    axis.set_title("held-out accuracy and coverage")
    _phi_axis(axis, phis, "accuracy beyond a guess; share covered")


def _draw_training(axis, name: str, world: Mapping) -> None:
    floor = mean_floor(all_runs(world["phi"]))
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
        shares = [mean_share(one, k) for one in published["counted"].values()]
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

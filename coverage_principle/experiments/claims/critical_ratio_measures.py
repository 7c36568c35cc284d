"""What claim h measures of its runs: accuracy beyond a guess, beside shares that are covered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from coverage_principle.statistics import Mean, Rate, rate_difference, rate_over_seeds

#: "Fitted": so many of the training items are right.
FITTED = 0.99
#: Groups of fewer items are not told of.
FEWEST = 20


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
        found.append(float(np.mean(beyond)) - share_covered(own, k))
    return found


def nearest(by_phi: Mapping[str, Mapping], place: int = -1, **which: Sequence[str]) -> int:
    """The k at which the share covered is nearest to accuracy beyond the guess, over all phi."""
    return min(covering_ks(by_phi), key=lambda k: root_mean_square(gaps(by_phi, k, place, **which)))


def covering_ks(by_phi: Mapping[str, Mapping]) -> range:
    """Every k at which something is covered."""
    return range(1, 1 + max(int(k) for run in all_runs(by_phi) for k in run["counted"]))


def all_runs(by_phi: Mapping[str, Mapping]) -> list[Mapping]:
    return [run for runs in by_phi.values() for run in runs.values()]


def root_mean_square(values: Sequence[float]) -> float:
    """The root of their mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def share_covered(runs: Iterable[Mapping], k: int) -> float:
    return float(np.mean([run["counted"].get(str(k), 0.0) for run in runs]))


def mean_floor(runs: Iterable[Mapping]) -> float:
    return float(np.mean([run["floor"] for run in runs]))


def rate_of_type_0(runs: Mapping[str, Mapping], place: int = -1) -> Rate:
    values = [run["accuracy"]["type_0"][place] for run in runs.values()]
    return rate_over_seeds(values, [run["final"]["type_0"]["n"] for run in runs.values()])


def rate_beyond(runs: Mapping[str, Mapping], place: int = -1) -> Rate:
    """``rate_of_type_0`` beyond the guess, whose own accuracy counts as known."""
    rate, floor = rate_of_type_0(runs, place), mean_floor(runs.values())
    ends = {name: beyond_guess(getattr(rate, name), floor) for name in ("mean", "low", "high")}
    return replace(rate, **ends)


def final_rate(runs: Mapping[str, Mapping], group: str) -> Rate | None:
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
    return rate_over_seeds(rates, items) if sum(items) >= FEWEST else None


def when_fitted(runs: Mapping[str, Mapping]) -> Rate | None:
    """Accuracy beyond the guess when training items are first answered; None if never by all."""
    places = [
        next((i for i, a in enumerate(run["accuracy"]["train_inferred"]) if a >= FITTED), None)
        for run in runs.values()
    ]
    if None in places:
        return None
    then = {
        seed: {**run, "accuracy": {"type_0": [run["accuracy"]["type_0"][place]]}}
        for (seed, run), place in zip(runs.items(), places, strict=True)
    }
    return rate_beyond(then)


def first_world(numbers: Mapping) -> tuple[str, Mapping]:
    return next(iter(numbers["worlds"].items()))


def other_worlds(numbers: Mapping) -> Iterator[tuple[str, Mapping, Mapping, dict[str, int]]]:
    """Every other world, what it is compared with, and the evaluations at which it is.

    A larger world is compared with the first at equal epochs, the end of both, and at equal steps,
    where it was evaluated then; one of another width with that of its size.
    """
    _, first = first_world(numbers)
    budget = evaluated_steps(first)[-1]
    for name, world in list(numbers["worlds"].items())[1:]:
        if world["dimensions"] == first["dimensions"]:
            places = {f"as many epochs ({evaluated_steps(world)[-1]:,} steps)": -1}
            if budget in evaluated_steps(world):
                places[f"as many steps ({budget:,})"] = evaluated_steps(world).index(budget)
            yield name, world, first, places
        else:
            same = (w for w in numbers["worlds"].values() if w["entities"] == world["entities"])
            yield name, world, next(same), {f"{evaluated_steps(world)[-1]:,} steps": -1}


def compared_worlds(numbers: Mapping) -> Iterator[tuple[str, Mapping, Mapping, dict[str, int]]]:
    """``other_worlds``, and worlds of another width and size beside the first as well."""
    _, first = first_world(numbers)
    for name, world, other, places in other_worlds(numbers):
        yield name, world, other, places
        if other is not first:
            yield name, world, first, places


def evaluated_steps(world: Mapping) -> list[int]:
    return all_runs(world["phi"])[0]["steps"]


def differences(world: Mapping, other: Mapping, place: int) -> dict[str, Mean]:
    """By how much a world's accuracy beyond the guess exceeds another's at its end, by phi."""
    return {
        phi: rate_difference(rate_beyond(runs, place), rate_beyond(other["phi"][phi]))
        for phi, runs in world["phi"].items()
        if phi in other["phi"]
    }


def quarters(steps: Sequence[int]) -> list[int]:
    """The evaluations after each quarter of training."""
    return sorted({max(0, len(steps) * part // 4 - 1) for part in (1, 2, 3, 4)})


def last_rise(runs: Mapping[str, Mapping]) -> float:
    """What the last quarter of training added to accuracy, the mean over seeds."""
    *_, before, end = quarters(next(iter(runs.values()))["steps"])
    curves = [run["accuracy"]["type_0"] for run in runs.values()]
    return float(np.mean([curve[end] - curve[before] for curve in curves]))


def mean_share(by_seed: Mapping[str, Mapping], k: int) -> float:
    return float(np.mean([one.get(str(k), 0.0) for one in by_seed.values()]))

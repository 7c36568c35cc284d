"""How much training data covers a task, found on worlds alone, before any training.

For one world the training compositions are put into one random order, and its prefixes are the
training sets. ``counting.py`` says what is counted of each; here the smallest that is enough is
searched for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from coverage_principle.coverage.canonical import check_blocks
from coverage_principle.coverage.counting import (
    bridges_inside,
    check_held,
    fragment_of_value,
    in_domain_coverage,
    iterated_coverage,
    joint_coverage,
)
from coverage_principle.coverage.measured import Counts, Measured
from coverage_principle.coverage.settings import SearchSettings
from coverage_principle.data import CompositionSpace, WorldSettings, draw_tables
from coverage_principle.tasks import TaskGraph

#: Ranks drawn at once for the random order; fixed, so that a longer prefix begins with a shorter.
_DRAWN = 1 << 16
#: Settings of a search that its worlds have too.
_OF_WORLDS = ("default_seen_ratio", "function_family", "alphabets")
#: How N grows with |X| in trained models: "The Coverage Principle", arXiv 2505.20278.
TRAINED_EXPONENTS = {"twohop": 2.26, "parallel2hop": 2.43, "threehop": 2.58}
#: Steps below a found amount at which its sample's error is measured.
_LOWER = 16
#: The random stream of samples; ``data.worlds`` names the others.
_SAMPLE = 7


class GrowingWorld:
    """The functions of one seed, and its possible training compositions in one random order.

    The functions are those that a generator draws from the same settings.
    """

    def __init__(self, graph: TaskGraph, settings: WorldSettings) -> None:
        settings.check_task(graph)
        self.graph, self.num_tokens, self.seed = graph, settings.num_tokens, settings.seed
        drawn = draw_tables(graph, settings)
        self.tables = [table.values for table in drawn]
        self._space = CompositionSpace(graph, self.tables, [t.expected_seen for t in drawn])
        self.trainable = self._space.size
        self._rng = np.random.default_rng([settings.seed, 4])  # worlds.py has the streams 0 to 3
        self._order = np.empty(0, dtype=np.int64)
        self._rows = self._space.unrank(self._order)

    def train(self, count: int) -> np.ndarray:
        """The first ``count`` items of the order: ``(count, slots)`` int32."""
        if not 0 <= count <= self.trainable:
            raise ValueError(f"{count} items asked for, but there are {self.trainable}")
        while len(self._order) < count:
            times = 1 + (count - len(self._order)) // _DRAWN
            fresh = [self._rng.integers(0, self.trainable, size=_DRAWN) for _ in range(times)]
            drawn = np.concatenate([self._order, *fresh])
            _, first = np.unique(drawn, return_index=True)
            self._order = drawn[np.sort(first)]
        if count > len(self._rows):
            fresh = self._space.unrank(self._order[len(self._rows) : count])
            self._rows = np.concatenate([self._rows, fresh])
        return self._rows[:count]


def smallest_amount(
    reached: Callable[[int], bool],
    start: int,
    most: int,
    *,
    tolerance: float,
    factor: float = 2,
    geometric: bool = False,
    known: Collection[int] = (),
) -> int | None:
    """The smallest N with ``reached(N)``, to a relative tolerance; None if not even ``most`` is.

    N grows from ``start`` by ``factor`` until it is enough. The largest amount below that is known
    not to be is the other end, and the two are bisected; the end that is enough is returned. That
    more never hurts is taken for granted.

    By default the lower end is 0 where ``start`` is enough, and the bisection halves differences.
    Where trials that are too large cost much, ``geometric`` looks below ``start`` by the same
    ``factor``, and then halves ratios; it asks for no N below 2. ``known`` are amounts for which
    ``reached`` costs nothing, read when N is enough for the first time.
    """
    low, high, amount = int(geometric), None, min(start, most)
    while high is None or (geometric and low == 1 and high > 2):
        if reached(amount):
            high, amount = amount, max(2, round(amount / factor))
        elif amount == most:
            return None
        else:
            low, amount = amount, min(most, math.ceil(amount * factor))
    low = max((n for n in known if n < high and not reached(n)), default=low)

    def apart() -> bool:
        return high > low * (1 + tolerance) if geometric else high - low > tolerance * high

    while high - low > 1 and apart():
        middle = round(math.sqrt(low * high)) if geometric else (low + high) // 2
        middle = min(high - 1, max(low + 1, middle))
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def required_amounts(
    count: Callable[[int], Counts],
    trainable: int,
    ks: Sequence[int],
    *,
    share: float = 0.99,
    tolerance: float = 0.005,
    start: int = 1000,
) -> dict[int, int | None]:
    """The smallest N at which a share of the unseen in-domain items is covered, for every k.

    ``count(N)`` measures one amount, for all k at once, and is called once for each. None where
    even all ``trainable`` items (less one, so that something is unseen) do not reach the share.
    That the covered share grows with N holds but for small noise once the domain itself is nearly
    complete.
    """
    known: dict[int, Counts] = {}

    def reached(amount: int, k: int) -> bool:
        if amount not in known:
            known[amount] = count(amount)
        return known[amount].share(k) >= share

    if trainable < 2:  # nothing to train on, or nothing left to ask for
        return dict.fromkeys(sorted(ks))
    options = {"tolerance": tolerance, "known": known}
    return {
        k: smallest_amount(partial(reached, k=k), start, trainable - 1, **options)
        for k in sorted(ks)
    }


class RequiredData:
    """Required amounts of a task at any |X| and seed; ``file`` keeps every measurement.

    A file of earlier measurements is read and gone on with. ``InputError`` if it is of another task
    or other worlds, or if the settings do not fit the task.
    """

    def __init__(self, graph: TaskGraph, settings: SearchSettings, file: Path) -> None:
        self.graph, self.settings = graph, settings
        self.values = searched_values(graph, settings)
        self._check_largest()
        #: ``{|X|: {seed: {k: N or None}}}``
        self.amounts: dict[int, dict[int, dict[int, int | None]]] = {}
        #: The standard error of each N that is due to the sample, in items; None: not known.
        self.errors: dict[int, dict[int, dict[int, float | None]]] = {}
        about = {"task": graph.to_dict(), "value": "+".join(self.values)}
        about |= {name: getattr(settings, name) for name in _OF_WORLDS if name != "alphabets"}
        if settings.alphabets:
            about["alphabets"] = list(settings.alphabets)
        about |= {"iterate": True} if settings.iterate else {}
        about |= {} if self.exact else {"sample": settings.sample}
        self._measured = Measured(file, about)

    def _check_largest(self) -> None:
        """Refuse what the largest worlds cannot be asked for, before anything is measured."""
        size = max(self.settings.num_tokens)
        world = self._world(size, 0)
        world.check_task(self.graph)
        if not self._by_class:
            alphabets = world.sizes(self.graph)
            sizes = [alphabets[name] for name in self.graph.alphabets_of(self.graph.inputs)]
            check_blocks([self.graph.fragment_positions(value) for value in self.values], sizes)
        if self.settings.iterate:
            for seed in self.settings.seeds:
                check_held(GrowingWorld(self.graph, self._world(size, seed)).trainable)

    @property
    def exact(self) -> bool:
        """Whether all unseen in-domain items are counted, however many there are."""
        return self.settings.iterate or self._by_class

    @property
    def _by_class(self) -> bool:
        """Whether items are counted without being held (``in_domain_coverage``)."""
        return len(self.values) == 1 and not self.settings.iterate

    def _world(self, num_tokens: int, seed: int) -> WorldSettings:
        """The world of one |X| and seed; N is not settled there but searched for."""
        own = {name: getattr(self.settings, name) for name in _OF_WORLDS}
        return WorldSettings(num_tokens, 1, seed=seed, **own)

    def find(
        self, num_tokens: int, seed: int, told: Callable[[int], None] = lambda _: None
    ) -> dict[int, int | None]:
        """The amounts of one world, ``{k: N}``; ``told`` is called with each N to be measured."""
        settings, counted = self.settings, {}
        world = GrowingWorld(self.graph, self._world(num_tokens, seed))

        def count(amount: int, ks: Sequence[int]) -> Counts:
            def measure(missing: Sequence[int]) -> Counts:
                told(amount)
                return self._count(world, amount, missing)

            place = f"{num_tokens}/{seed}", str(amount)
            counted[amount] = self._measured.counts(*place, ks, measure)
            return counted[amount]

        if self._by_class:
            options = {"share": settings.share, "tolerance": settings.tolerance}
            everything = partial(count, ks=settings.k)
            start = num_tokens**2
            found = required_amounts(
                everything, world.trainable, settings.k, start=start, **options
            )
        else:
            found = {}
            for k in sorted(settings.k):
                guess = self._guess(num_tokens, k, found)
                found[k] = self._on_grid(count, counted, world.trainable, k, *guess)
        self.amounts.setdefault(num_tokens, {})[seed] = found
        self.errors.setdefault(num_tokens, {})[seed] = {
            k: amount and sampling_error(counted, amount, k) for k, amount in found.items()
        }
        return found

    def _count(self, world: GrowingWorld, amount: int, ks: Sequence[int]) -> Counts:
        settings, train = self.settings, world.train(amount)
        about = self.graph, world.tables, train, ks
        if settings.iterate:
            return iterated_coverage(*about, values=self.values)
        if self._by_class:
            return in_domain_coverage(*about, value=self.values[0])
        rng = np.random.default_rng([world.seed, _SAMPLE, amount])
        return joint_coverage(*about, values=self.values, sample=settings.sample, rng=rng)

    def _on_grid(
        self,
        count: Callable[[int, Sequence[int]], Counts],
        counted: Mapping[int, Counts],
        trainable: int,
        k: int,
        guess: float,
        stride: int,
    ) -> int | None:
        """The smallest N that is enough, of those that grow by ``tolerance`` from 1 on.

        On this grid the result does not depend on the guess, and measurements of other k and other
        searches are met again. Where the sample's error cannot be told from what was counted,
        smaller amounts are counted too.
        """
        base, most = math.log1p(self.settings.tolerance), trainable - 1
        if most < 1:
            return None

        def amount(step: int) -> int:
            return min(most, math.ceil(math.exp(step * base) - 1e-9))

        def reached(step: int) -> bool:
            return count(amount(step), (k,)).share(k) >= self.settings.share

        last = math.ceil(math.log(most) / base)
        start = min(last, round(math.log(max(1, guess)) / base))
        found = smallest_step(reached, start, last, stride)
        if found is None:
            return None
        lower = found - _LOWER
        while lower >= 0 and sampling_error(counted, amount(found), k) is None:
            count(amount(lower), (k,))
            lower -= _LOWER
        return amount(found)

    def _guess(self, num_tokens: int, k: int, found: Mapping[int, int | None]) -> tuple[float, int]:
        """Where a search begins, and its first stride on the grid: from what was found so far."""
        means = {}
        for size, by_seed in self.amounts.items():
            known = [by_k[k] for by_k in by_seed.values() if by_k.get(k)]
            if known:
                means[size] = sum(known) / len(known)
        if not means:
            smaller = [amount for amount in found.values() if amount]
            return (max(smaller) if smaller else num_tokens**2), 32
        near, *others = sorted(means, key=lambda size: abs(math.log(size / num_tokens)))
        exponent = 2.5
        if others:
            exponent = math.log(means[near] / means[others[0]]) / math.log(near / others[0])
        return means[near] * (num_tokens / near) ** exponent, 2 if near == num_tokens else 4


def smallest_step(
    reached: Callable[[int], bool], start: int, last: int, stride: int = 1
) -> int | None:
    """The smallest step of 0 to ``last`` that is enough; None if not even the last one is.

    From ``start`` on it goes up or down, by ``stride`` and then by twice as much each time, until
    two steps enclose it, and bisects. That more never hurts is taken for granted.
    """
    low, high, step = -1, None, start
    while high is None or (low < 0 and high > 0):
        if reached(step):
            high, step = step, max(0, step - stride)
        elif step == last:
            return None
        else:
            low, step = step, min(last, step + stride)
        if high is not None and low >= 0:
            break
        stride *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def sampling_error(counted: Mapping[int, Counts], amount: int, k: int) -> float | None:
    """The standard error of a found N that is due to the sample, in items.

    The share's, over its slope against log N from the nearest smaller amount that the sample tells
    apart (by five standard errors). 0 where all items were looked at, None without such an amount.
    """
    error, share = counted[amount].standard_error(k), counted[amount].share(k)
    if error == 0 and counted[amount].sample is None:
        return 0.0
    lower = {n: share - c.share(k) for n, c in counted.items() if n < amount and k in c.covered}
    apart = [n for n, d in lower.items() if d > 5 * (error + counted[n].standard_error(k))]
    if not apart:
        return None
    nearest = max(apart)
    return amount * error * math.log(amount / nearest) / lower[nearest]


def searched_values(graph: TaskGraph, settings: SearchSettings) -> tuple[str, ...]:
    """The values whose fragments a search substitutes; ``InputError`` if the task has none such."""
    if settings.value is None:
        return bridges_inside(graph)
    return (fragment_of_value(graph, settings.value)[1],)


def search_name(graph: TaskGraph, settings: SearchSettings) -> str:
    """What tells files of searches apart: task, values, seen ratio, and what is not as usual.

    ``InputError`` if the task has no such value.
    """
    values = "+".join(searched_values(graph, settings))
    parts = [graph.name, values, f"seen-{settings.default_seen_ratio:g}"]
    if settings.function_family != "random":
        parts.append(settings.function_family)
    parts += [part.replace("=", "-") for part in settings.alphabets]
    return "_".join([*parts, *(["iterated"] if settings.iterate else [])])


def asymptotic_exponent(k: int) -> float:
    """2.5 - 0.5 / k: how N grows with |X| for k-coverage of the 2-hop task, in the limit.

    "The Coverage Principle", arXiv 2505.20278, theorem 6.1.
    """
    return 2.5 - 0.5 / k

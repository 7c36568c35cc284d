"""What analyses measure and how it is shown: one entry for each metric and readout.

An entry brings its help text, its numbers, their unit and format in print, and all that a heat map
or a curve needs to know; commands, summaries and figures read these tables, so a new entry (here,
or put into ``METRICS`` or ``LENS_READOUTS`` from outside) is there for all of them. The entries use
the arrays that they are given and import nothing, so that ``--help`` may list them at once.

An example, how far t' comes up in the ranking:

    METRICS["climb"] = Metric(
        help="how many ranks t' comes up",
        measure=lambda cells: {"climb": cells.means(cells.before["rank"][:, 1] - cells.ranks[1])},
        shown=Shown("climb", "mean", "ranks that t' comes up", "ranks up of {}'", limits=(0, 10)),
    )
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: "Among the first" of the published rank metric: a 0-based rank of at most 5.
TOP_RANK = 5
#: Which samples a number of tracing is of (``trace`` says what they are).
SUBSETS = ("published", "unfiltered", "both_correct")
#: Below this change of probability between original and source run, their ratio is not defined.
SMALLEST_CHANGE = 1e-6
#: Intervals of fewer samples say too little: a bootstrap of three values is far too narrow.
FEWEST = 10

Array = Any  # numpy's, which is not imported here

#: How intervals are made of rates, and of means unless an entry says otherwise.
WILSON, BOOTSTRAP = "Wilson's", "percentile bootstrap over samples"


# ------------------------------------ what is read off where a state knows nothing of the value


def _chance(of_tokens: Callable[[int], float]) -> Callable[[Mapping], float | None]:
    """What a cell would hold if its value stood anywhere among the tokens that it can be.

    ``of_tokens`` gives it for that many tokens; None for a cell of an earlier version, which does
    not say how many.
    """
    return lambda cell: of_tokens(cell["tokens"]) if cell.get("tokens") else None


def _middle_rank(tokens: int) -> float:
    return (tokens - 1) / 2


def _reciprocal(tokens: int) -> float:
    return sum(1 / (rank + 1) for rank in range(tokens)) / tokens


def _one_of(tokens: int) -> float:
    return 1 / tokens


def _top_and_above(tokens: int) -> float:
    """What a patch gives that only breaks the run: the V tokens in a random order.

    t' has each rank alike, and t is behind rank r in V-1-r of V-1 orders. (A patch that changes
    nothing gives 0.)
    """
    ranks = range(min(TOP_RANK + 1, tokens))
    return sum(tokens - 1 - rank for rank in ranks) / max(1, tokens * (tokens - 1))


def _zero(_cell: Mapping) -> float:
    return 0.0


@dataclass(frozen=True)
class Shown:
    """A number of a result's cell, and how it is printed and drawn.

    ``key`` and ``field`` find it: ``cell[key][field]``, or ``cell[key]`` without ``field``; it is
    multiplied by ``scale``. ``label`` names it on a colour bar or axis, ``unit`` in the title of a
    printed table ({} is the value that is looked at, {1} its name in words). ``printed`` and
    ``drawn`` are formats. The colours span ``limits``, and as much more as the values need, up to
    ``widest``.

    ``ends`` is the key of a cell's interval where there is no ``field`` (``<key>_interval`` if not
    given), ``method`` how it is made. ``nothing`` gives the number, unscaled, of a cell whose state
    knows nothing, and ``nothing_is`` names it; ``better`` is -1 where less is more. ``dealt`` is
    the key of what random labelings give. ``counts_as`` says exactly what ``unit`` says in short.
    """

    key: str
    field: str | None
    label: str
    unit: str
    scale: float = 1
    printed: str = ".3f"
    drawn: str = ".2f"
    limits: tuple[float, float] = (0.0, 1.0)
    widest: tuple[float, float] | None = None
    ends: str | None = None
    method: str | None = None
    nothing: Callable[[Mapping], float | None] = lambda _cell: None
    nothing_is: str = "0"
    better: int = 1
    dealt: str | None = None
    counts_as: str | None = None

    def part(self, cell: Mapping, subset: str | None = None) -> object:
        """What the cell holds under ``key``; cells of tracing hold it for each subset."""
        return (cell if subset is None else cell[subset])[self.key]

    def value(self, cell: Mapping, subset: str | None = None) -> float | None:
        """The scaled number of a cell, None where nothing could be measured."""
        found = self.part(cell, subset)
        found = found if self.field is None or found is None else found[self.field]
        return None if found is None else self.scale * found

    def count(self, cell: Mapping, subset: str | None = None) -> int:
        """How many samples, items or vectors the number is of."""
        found = cell if subset is None else cell[subset]
        return found.get("n", found.get("n_vectors", 0))

    @property
    def interval_is(self) -> str:
        """How the intervals are made, in words."""
        return self.method or (WILSON if self.field == "rate" else BOOTSTRAP)

    def interval(self, cell: Mapping, subset: str | None = None) -> tuple[float, float] | None:
        """Both ends, scaled, of the number's 95 % interval; None where there is none.

        Of a rate it is Wilson's: a bootstrap of 14 samples that are all alike has no width.
        """
        found = self.part(cell, subset)
        if self.field is None:
            ends = cell.get(self.ends or f"{self.key}_interval")
        elif found is None or found[self.field] is None:
            ends = None
        elif self.field == "rate" and "count" in found:
            from coverage_principle.statistics import wilson_interval

            ends = wilson_interval(found["count"], self.count(cell, subset))
        else:
            ends = found.get("interval")
        return None if ends is None else (self.scale * ends[0], self.scale * ends[1])

    def nothing_at(self, cell: Mapping) -> float | None:
        """The scaled number of a cell whose state knows nothing; None where that is not known."""
        found = self.nothing(cell)
        return None if found is None else self.scale * found

    def is_weak(self, cell: Mapping, subset: str | None = None) -> bool:
        """Whether the cell may well hold nothing, so that it must not look like a finding.

        That is if its interval reaches what a state gives that knows nothing (or lies on the far
        side of it), if it has no interval, if random labelings give as much in more than 2.5 %, or
        if there are fewer than ``FEWEST`` samples. False for what cannot be told.
        """
        value, nothing = self.value(cell, subset), self.nothing_at(cell)
        if value is None or nothing is None:
            return False
        ends = self.interval(cell, subset)
        if ends is None or self.count(cell, subset) < FEWEST:
            return True
        dealt = cell.get(self.dealt) if self.dealt else None
        if dealt is not None and value <= self.scale * dealt["interval"][1]:
            return True
        return min(self.better * (end - nothing) for end in ends) <= 0

    def span(self, values: Iterable[float]) -> tuple[float, float]:
        """The limits of the colour scale for these values."""
        low, high = self.widest or self.limits
        values = list(values)
        return max(low, min([self.limits[0], *values])), min(high, max([self.limits[1], *values]))


@dataclass(frozen=True)
class Metric:
    """A metric of causal tracing.

    ``measure(cells)`` gives its numbers: a name, and for each layer what ``cells.counts``,
    ``cells.means`` or ``cells.ratios`` gives (``trace.Cells``: some samples at one position).
    ``usable(samples)`` (n,) bool are the samples whose effect is defined; ``dropped(samples)`` are
    those that the published filter drops, by reason, each (n,) or (n, positions) bool and disjoint
    (``trace.Samples``: all samples and positions). ``probabilities`` says whether it needs them.
    """

    help: str
    measure: Callable[[Any], dict[str, list[dict]]]
    shown: Shown
    probabilities: bool = False
    usable: Callable[[Any], Array] | None = None
    dropped: Callable[[Any], dict[str, Array]] = lambda samples: {
        "original run ranks t' above t": samples.before["rank"][:, 0] > samples.before["rank"][:, 1]
    }


def _rank(cells) -> dict[str, list[dict]]:
    t, changed = cells.ranks
    top, above = changed <= TOP_RANK, t > changed
    return {
        "changed_in_top6": cells.counts(top),
        "changed_above_original": cells.counts(above),
        "both": cells.counts(top & above),
        "changed_first": cells.counts(changed == 0),
    }


def _prob(cells) -> dict[str, list[dict]]:
    """(p'_after - p'_before) / (p'_source - p'_before): its mean, and the ratio of the sums."""
    runs = (cells.before, cells.source, cells.after)
    before, source, after = (run["prob"][..., 1].astype("float64") for run in runs)
    change, gain = after - before, source - before
    relative, of_means = cells.means(change / gain), cells.ratios(change, gain)
    return {"relative_change": relative, "relative_change_of_means": of_means}


def _gain(samples) -> Array:
    return samples.source["prob"][:, 1] - samples.before["prob"][:, 1]


def _prob_dropped(samples) -> dict[str, Array]:
    gain = _gain(samples)
    small = abs(gain) < SMALLEST_CHANGE
    loss = (gain < 0) & ~small
    # At layer L the last position gives the source run itself, so rounding would decide there.
    below = [i for i, layer in enumerate(samples.layers) if layer < max(samples.layers)]
    over = small[:, None] & False  # where nothing is patched
    if samples.after:
        over = (samples.after["prob"][below, ..., 1] > samples.source["prob"][:, 1]).any(axis=0).T
    return {
        "source run changes the probability of t' by less than 1e-6": small,
        "source run gives t' less than the original run": loss,
        "a patch gives t' more than the source run": over & ~(small | loss)[:, None],
    }


def _logit(cells) -> dict[str, list[dict]]:
    """The shift of logit(t') - logit(t), and its share of the source run's."""
    runs = [run["logit"] for run in (cells.before, cells.source, cells.after)]
    before, source, after = (run[..., 1].astype("float64") - run[..., 0] for run in runs)
    shift, gain = after - before, source - before
    return {"logit_shift": cells.means(shift), "logit_shift_share": cells.ratios(shift, gain)}


#: A ratio can be far off 0..1 for a few samples; it must not eat up the colour scale.
_RATIO = {"widest": (-1.0, 2.0), "nothing": _zero}
_PERCENT = {"scale": 100, "printed": ".1f", "drawn": ".0f", "limits": (0, 100)}
_MOVED = "relative change of p(t')", "relative change of p({}')"
_SHARE = (
    "shift of logit(t') - logit(t)\n(share of source run's)",
    "share of the source run's logit shift to {}'",
)
_RANDOM_ORDER = {**_PERCENT, "nothing": _chance(_top_and_above), "nothing_is": "chance"}
_AT_TOP = Shown(
    "both",
    "rate",
    "runs that rank the source run's\nanswer above their own (%)",
    "% of runs that rank the source run's {1} above their own",
    **_RANDOM_ORDER,
    counts_as=f"above their own and among the first {TOP_RANK + 1}, as published",
)
_CHANGE = Shown("relative_change", "mean", *_MOVED, **_RATIO)
_SHIFT = Shown("logit_shift_share", "mean", *_SHARE, **_RATIO)

METRICS: dict[str, Metric] = {
    "rank": Metric("how often t' comes above t", _rank, _AT_TOP),
    "prob": Metric(
        "how far p(t') moves",
        _prob,
        _CHANGE,
        probabilities=True,
        usable=lambda samples: abs(_gain(samples)) >= SMALLEST_CHANGE,
        dropped=_prob_dropped,
    ),
    # Measured with every metric.
    "logit": Metric("how far logit(t') - logit(t) moves", _logit, _SHIFT),
}


@dataclass(frozen=True)
class LensReadout:
    """A number that the lens gives of each layer, position and value.

    ``of_items(ranks, probs)`` is its value for each item, of arrays of any shape; the number is the
    mean over items, or the median. ``interval`` is the key of its 95 % interval, if it has one: a
    percentile bootstrap of means, Wilson's of shares (``of_items`` gives bool), order statistics of
    the median.
    """

    help: str
    of_items: Callable[[Array, Array], Array]
    shown: Shown
    median: bool = False
    interval: str | None = None


_OVER_ITEMS = "percentile bootstrap over items"


def _shown(key: str, label: str, chance: Callable[[int], float], **options) -> Shown:
    options = {"nothing": _chance(chance), "nothing_is": "chance", "method": _OVER_ITEMS, **options}
    unit = options.pop("unit", f"{label} of {{}}")
    return Shown(key, None, label, unit, **options)


_UP = {"widest": (0.0, float("inf")), "better": -1}
_MEAN_RANK = _shown("mean_rank", "mean rank", _middle_rank, **_UP)
_MEDIAN_RANK = _shown("median_rank", "median rank", _middle_rank, method="order statistics", **_UP)
_FIRST = {"unit": "share that rank {} first", "method": WILSON}
_FIRST = _shown("first", "ranked first (share of items)", _one_of, **_FIRST)
_RECIPROCAL = _shown("reciprocal_rank", "mean reciprocal rank", _reciprocal, ends="interval")
_PROB = _shown("prob", "mean probability", _one_of)

LENS_READOUTS: dict[str, LensReadout] = {
    "mean_rank": LensReadout(
        "as published, 0 is best",
        lambda ranks, _: ranks,
        _MEAN_RANK,
        interval="mean_rank_interval",
    ),
    "median_rank": LensReadout(
        "0 is best",
        lambda ranks, _: ranks,
        _MEDIAN_RANK,
        median=True,
        interval="median_rank_interval",
    ),
    "first": LensReadout(
        "share of items that rank the value first",
        lambda ranks, _: ranks == 0,
        _FIRST,
        interval="first_interval",
    ),
    "reciprocal_rank": LensReadout(
        "mean of 1 / (rank + 1)",
        lambda ranks, _: 1 / (ranks + 1.0),
        _RECIPROCAL,
        interval="interval",
    ),
    "prob": LensReadout(
        "mean probability", lambda _, probs: probs, _PROB, interval="prob_interval"
    ),
}

#: The lenses, and what files of arrays call the divergence of each.
LENSES = {"logit lens": "divergence", "tuned lens": "tuned/divergence"}
#: How far what a lens reads is from the model's own output, at the same position.
DIVERGENCE = Shown(
    "divergence",
    "mean",
    "KL divergence from the model's\nown output (nats)",
    "KL from the model's output (nats), {}",
    **{"widest": (0.0, float("inf")), "better": -1, "method": _OVER_ITEMS},
)


@dataclass(frozen=True)
class ProbeReadout:
    """A number of linear probes."""

    help: str
    shown: Shown


def _baselines(key: str, *of: Callable[[Mapping], float | None]) -> Callable[[Mapping], float]:
    """The most that a cell's baselines reach: ``of``, shuffled labels and random weights."""

    def most(cell: Mapping) -> float | None:
        found = [part(cell) for part in of]
        found += [*cell["shuffled"][key], cell["random_weights"][key]]
        return None if None in found else max(found)

    return most


def _probed(key: str, label: str, *of: Callable[[Mapping], float | None], **options) -> Shown:
    about = {"nothing": _baselines(key, *of), "nothing_is": "what the baselines reach there"}
    about["method"] = "Student's t over folds"
    return Shown(key, None, label, f"{label} of {{}}", **about, **options)


_ACCURACY = ("accuracy", "accuracy of a linear probe", _chance(_one_of), lambda c: c["majority"])
_BITS = ("bits", "bits that a linear probe reads", _zero)
_ENDLESS = (float("-inf"), float("inf"))

PROBE_READOUTS: dict[str, ProbeReadout] = {
    "accuracy": ProbeReadout(
        "share of held-out items whose value is the likeliest", _probed(*_ACCURACY)
    ),
    "bits": ProbeReadout(
        "how much better than by the values' frequencies held-out items are predicted",
        _probed(*_BITS, limits=(0.0, 1.0), widest=_ENDLESS),
    ),
}


#: Noise around zero must not fill the whole colour scale, hence the floor of 0.2.
_GAP = {"limits": (0.0, 0.2), "widest": (float("-inf"), float("inf")), "nothing": _zero}
_GAP |= {"dealt": "iicg_permuted", "nothing_is": "0 and what random groups give"}
_GAP |= {"method": "percentile bootstrap over groups"}
IICG = Shown("iicg", None, "IICG (difference of cosines)", "IICG", **_GAP)
_OTHER_RANK = "another rank of t (%)", "% with another rank of t"
_BY_CHANCE = {**_PERCENT, "nothing_is": "chance"}
_MOVES = {"nothing": _chance(lambda tokens: 1 - 1 / tokens), "better": -1}
RANK_CHANGED = Shown("rank_changed", "rate", *_OTHER_RANK, **_BY_CHANCE, **_MOVES)

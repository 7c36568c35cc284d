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
#: Below this change of probability between original and source run, their ratio is not defined.
SMALLEST_CHANGE = 1e-6

Array = Any  # numpy's, which is not imported here


@dataclass(frozen=True)
class Shown:
    """A number of a result's cell, and how it is printed and drawn.

    ``key`` and ``field`` find it: ``cell[key][field]``, or ``cell[key]`` without ``field``; it is
    multiplied by ``scale``. ``label`` names it on a colour bar or axis, ``unit`` in the title of a
    printed table ({} is the value that is looked at, {1} its name in words). ``printed`` and
    ``drawn`` are formats. The colours span ``limits``, and as much more as the values need, up to
    ``widest``.
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

    def part(self, cell: Mapping, subset: str | None = None) -> object:
        """What the cell holds under ``key``; cells of tracing hold it for each subset."""
        return (cell if subset is None else cell[subset])[self.key]

    def value(self, cell: Mapping, subset: str | None = None) -> float | None:
        """The scaled number of a cell, None where nothing could be measured."""
        found = self.part(cell, subset)
        found = found if self.field is None or found is None else found[self.field]
        return None if found is None else self.scale * found

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
_RATIO = {"widest": (-1.0, 2.0)}
_PERCENT = {"scale": 100, "printed": ".1f", "drawn": ".0f", "limits": (0, 100)}
_MOVED = "relative change of p(t')", "relative change of p({}')"
_SHARE = (
    "shift of logit(t') - logit(t)\n(share of source run's)",
    "share of the source run's logit shift to {}'",
)
_AT_TOP = Shown(
    "both",
    "rate",
    "runs whose answer became\nthe source run's (%)",
    "% of runs whose {1} became the source run's",
    **_PERCENT,
)
_CHANGE = Shown("relative_change", "mean", *_MOVED, **_RATIO)
_SHIFT = Shown("logit_shift_share", "mean", *_SHARE, **_RATIO)

METRICS: dict[str, Metric] = {
    "rank": Metric("how often t' comes to the top", _rank, _AT_TOP),
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
    mean over items, or the median. ``interval`` is the key of the mean's bootstrap interval, if it
    has one.
    """

    help: str
    of_items: Callable[[Array, Array], Array]
    shown: Shown
    median: bool = False
    interval: str | None = None


def _shown(key: str, label: str, **options) -> Shown:
    return Shown(key, None, label, f"{label} of {{}}", **options)


_UP = {"widest": (0.0, float("inf"))}
_MEAN_RANK = _shown("mean_rank", "mean rank", **_UP)
_MEDIAN_RANK = _shown("median_rank", "median rank", **_UP)
_FIRST = Shown("first", None, "ranked first (share of items)", "share that rank {} first")
_RECIPROCAL = _shown("reciprocal_rank", "mean reciprocal rank")
_PROB = _shown("prob", "mean probability")

LENS_READOUTS: dict[str, LensReadout] = {
    "mean_rank": LensReadout("as published, 0 is best", lambda ranks, _: ranks, _MEAN_RANK),
    "median_rank": LensReadout("0 is best", lambda ranks, _: ranks, _MEDIAN_RANK, median=True),
    "first": LensReadout(
        "share of items that rank the value first", lambda ranks, _: ranks == 0, _FIRST
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


#: Noise around zero must not fill the whole colour scale, hence the floor of 0.2.
_GAP = {"limits": (0.0, 0.2), "widest": (float("-inf"), float("inf"))}
IICG = Shown("iicg", None, "IICG (difference of cosines)", "IICG", **_GAP)
_OTHER_RANK = "another rank of t (%)", "% with another rank of t"
RANK_CHANGED = Shown("rank_changed", "rate", *_OTHER_RANK, **_PERCENT)
ANSWER_KEPT = Shown("answer_kept", "rate", "answer kept (%)", "% of answers kept", **_PERCENT)

"""Sentences about a run, computed from its numbers.

Each function states what the numbers show, or that they do not: an effect is only claimed where
the intervals or the test behind it allow it. Accuracies have 95 % Wilson intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coverage_principle.circuits import LENS_READOUTS, METRICS, PROBE_READOUTS, Shown
from coverage_principle.reporting.grids import layer_name
from coverage_principle.statistics import trend_z, wilson_interval
from simpletransformers.words import counted

#: A trend is claimed beyond this |z|: p < 0.001 two-sided, since several runs are looked at.
_CLEAR_Z = 3.3
#: Cosine gaps below this are called absent: within noise of a few hundred vectors.
_FLAT_IICG = 0.05
_SITE = ("layer", "position", "after_ln_f")


def generalisation(size: int, groups: Mapping[str, Mapping], *, chance: float) -> str:
    """In-domain against out-of-domain accuracy of one run.

    ``groups`` maps ``type_0``, ``type_1``, ... to ``{"n", "answer_accuracy"}``.
    """
    inside = groups["type_0"]
    others = (n for n in groups if n.startswith("type_") and n != "type_0" and "/" not in n)
    outside = [groups[name] for name in others if groups[name]["n"]]
    text = (
        f"With {size:,} training items, {_rate(inside)} of the unseen compositions of seen facts "
        f"(type_0) are answered correctly"
    )
    if not outside:
        return text + "."
    low, high = (f(group["answer_accuracy"] for group in outside) for f in (min, max))
    text += f"; of the types with an unseen fact, {low:.2f} to {high:.2f} (chance is {chance:.2f})."
    if _interval(inside)[0] > max(_interval(group)[1] for group in outside):
        return text + " type_0 is clearly above every type with an unseen fact."
    return text + " This run does not separate type_0 from the other types."


def accuracy_against_k(size: int, table: Mapping[int, tuple[float, int]]) -> str:
    """Whether accuracy climbs with the k-cutoff. ``table``: k -> (accuracy, number of items)."""
    filled = {k: entry for k, entry in table.items() if entry[1]}
    if len(filled) < 2:
        return f"With {size:,} training items there are too few k-cutoff groups to compare."
    groups = [(k, accuracy * n, n) for k, (accuracy, n) in filled.items()]
    z = trend_z(*zip(*groups, strict=True))
    (low, least), (high, most) = _pooled(groups), _pooled(groups[::-1])
    words = "no clear trend over the k-cutoff:"
    if abs(z) > _CLEAR_Z:
        words = f"accuracy {'climbs' if z > 0 else 'FALLS'} with the k-cutoff,"
    return (
        f"With {size:,} training items, {words} from {least:.2f} over items of k-cutoff {low} to "
        f"{most:.2f} over items of k-cutoff {high} (Cochran-Armitage z = {z:.1f})."
    )


def k_sweep(size: int, sweep: Mapping[str, Sequence[float]]) -> str:
    """How firmly the unseen compositions are covered. ``sweep``: k -> [covered, percent]."""
    at = {int(k): percent for k, (_, percent) in sweep.items()}
    half = max((k for k, percent in at.items() if percent >= 50), default=0)
    text = f"With {size:,} training items, {at[1]:.0f} % of type_0 items are covered at k = 1"
    return text + (f", and at least half of them up to k = {half}." if half > 1 else ".")


def clustering(size: int, cells: Sequence[Mapping], *, value: str) -> str:
    """Where the states cluster by an intermediate value, in and out of the domain.

    ``cells`` are those of a clustering result; the state after the final layer norm is left aside.
    Claims rest on the 95 % bootstrap intervals over groups of the two splits at one cell.
    """
    inside = peak(cells, "id_test")
    if inside is None:
        return f"With {size:,} training items, IICG could not be measured."
    low, high = inside["iicg_interval"]
    text = (
        f"With {size:,} training items, the states of unseen type_0 items cluster by {value} most "
        f"at layer {layer_name(inside)}, position {inside['slot']}: IICG "
        f"{_plain(inside['iicg'])} (95 % interval {_plain(low)} to {_plain(high)})"
    )
    if low <= _FLAT_IICG:
        text += f", which is no clear clustering (at most {_FLAT_IICG})"
    here = [c for c in cells if all(c[key] == inside[key] for key in _SITE)]
    outside = peak(here, "ood")
    if outside is None:
        return text + "."
    text += f"; for items whose {value} needs an unseen fact it is {_plain(outside['iicg'])} there"
    if low > max(outside["iicg_interval"][1], _FLAT_IICG):
        return text + ", clearly less."
    return text + ", and this run does not tell the two apart."


def peak(cells: Sequence[Mapping], split: str) -> Mapping | None:
    """The cell of a split with the largest IICG, of those at which the value can be known.

    Those after the final layer norm are left aside.
    """
    here = [c for c in cells if c["split"] == split and not c["after_ln_f"]]
    here = [c for c in here if c.get("can_be_known", True)]
    found = [c for c in here if c["iicg"] is not None]
    return max(found, key=lambda c: c["iicg"], default=None)


def _plain(number: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(number, 2) + 0.0:.2f}"


def tracing(size: int, summary: Mapping, *, value: str, last_layer: int) -> str:
    """At which position of each layer a patch changes the answer most (rank metric).

    ``summary`` is one checkpoint and split of a tracing result. The last layer is left aside: a
    patch of its last position hands over the source run's answer by construction.
    """
    layers: dict[int, list[Mapping]] = {}
    for cell in summary["cells"]:
        if cell["layer"] < last_layer and cell["published"]["n"]:
            layers.setdefault(cell["layer"], []).append(cell)
    if not layers:
        return f"With {size:,} training items, no sample was left to trace {value} with."
    text = f"With {size:,} training items, patching in the state of a run with another {value}"
    text += " ranks that run's answer above the run's own:"
    parts, best, clear = [], [], True
    for _, cells in sorted(layers.items()):
        layer = layer_name(cells[0])
        shares = ", ".join(f"{100 * moved(c):.0f} % at {c['slot']}" for c in cells)
        parts.append(f"at layer {layer}, for {shares}")
        first = max(cells, key=moved)
        best.append(f"{first['slot']} at layer {layer}")
        clear = clear and _leads(first, cells)
    n = max(c["published"]["n"] for c in next(iter(layers.values())))
    text += " " + "; ".join(parts) + f" of {counted(n, 'sample')}."
    chance = METRICS["rank"].shown.nothing_at(summary["cells"][0])
    text += f" Chance is {chance:.0f} %." if chance is not None else ""
    if clear:
        return text + f" The answer hangs clearly on {', '.join(best)}."
    return text + " The intervals of the leading positions overlap, so no position is singled out."


def strongest(cells: Sequence[Mapping], shown: Shown) -> Mapping | None:
    """The cell with the best number, of those at which the value can be known.

    Those after the final layer norm are left aside.
    """
    here = [c for c in cells if c["can_be_known"] and not c.get("after_ln_f")]
    found = [c for c in here if shown.value(c) is not None]
    return max(found, key=lambda c: shown.better * shown.value(c), default=None)


def lens(size: int, cells: Sequence[Mapping], *, value: str) -> str:
    """Where the logit lens reads an intermediate value, of the cells of one split and the value."""
    shown, text = LENS_READOUTS["reciprocal_rank"].shown, f"With {size:,} training items, "
    best = strongest(cells, shown)
    if best is None:
        return f"{text}there were no items to read {value} of by the lens."
    (low, high), number = shown.interval(best), f"{shown.value(best):.2f}"
    place = f"at layer {layer_name(best)}, position {best['slot']}"
    about = f"(95 % interval {low:.2f} to {high:.2f}; chance is {shown.nothing_at(best):.2f})."
    if all(shown.is_weak(cell) for cell in cells if cell["can_be_known"]):
        text += (
            f"the logit lens reads {value} nowhere: its mean reciprocal rank is at most {number}"
        )
        return f"{text}, {place} {about}"
    return f"{text}the logit lens reads {value} best {place}: mean reciprocal rank {number} {about}"


def probe(size: int, cells: Sequence[Mapping], *, value: str) -> str:
    """Where a linear probe reads a value, beside its baselines, of the cells of one split."""
    shown, text = PROBE_READOUTS["accuracy"].shown, f"With {size:,} training items, "
    best = strongest(cells, shown)
    if best is None:
        return f"{text}there were no items to probe for {value}."
    dealt, random, ends = best["shuffled"], best["random_weights"], shown.interval(best)
    between = f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
    text += (
        f"a linear probe reads {value} best at layer {layer_name(best)}, position {best['slot']}: "
        f"it is right for {shown.value(best):.2f} of the fragments that it was not trained on"
        f"{between}, {_plain(best['bits'])} bits. With shuffled labels it is right for "
        f"{max(dealt['accuracy']):.2f} ({_plain(max(dealt['bits']))} bits), on random weights for "
        f"{random['accuracy']:.2f} ({_plain(random['bits'])} bits)"
    )
    return text + (": no clear difference." if shown.is_weak(best) else ": clearly less.")


def subspace(
    size: int,
    cells: Sequence[Mapping],
    probed: Sequence[Mapping],
    *,
    value: str,
    last_layer: int,
) -> str:
    """What moves the answer at the cell at which a probe reads the value best (``probed``).

    The last layer is left aside. ``cells`` are of one split; claims rest on Wilson intervals.
    """
    text, cell = f"With {size:,} training items, ", probed_cell(cells, probed, last_layer)
    if cell is None:
        return f"{text}no sample was left to move {value} in."
    parts = {part: {**cell, **found} for part, found in cell["parts"].items()}
    n = parts["whole"]["published"]["n"]
    shares = {part: f"{100 * moved(found):.0f} %" for part, found in parts.items()}
    text += (
        f"the probe of {value} at layer {layer_name(cell)}, position {cell['slot']}, looks at "
        f"{counted(max(cell['ranks']), 'direction')} of the state. Taking only these from a run "
        f"with another {value} ranks that run's answer above the run's own for "
        f"{shares['subspace']} of {counted(n, 'sample')}, taking all but these for "
        f"{shares['rest']}, the whole state for {shares['whole']}, as many random directions for "
        f"{shares['random']}."
    )
    own, weak = parts["subspace"], METRICS["rank"].shown.is_weak
    if _leads(own, [parts["rest"], parts["random"]]) and not weak(own, "published"):
        return f"{text} The answer hangs clearly on these directions."
    return f"{text} This run does not single these directions out."


def probed_cell(
    cells: Sequence[Mapping], probed: Sequence[Mapping], last_layer: int
) -> Mapping | None:
    """The cell of an interchange of a subspace at which a probe reads the value best."""
    shown = PROBE_READOUTS["accuracy"].shown
    best = strongest([c for c in probed if c["layer"] < last_layer], shown)
    place = best and (best["layer"], best["position"])
    here = [c for c in cells if (c["layer"], c["position"]) == place]
    return next((c for c in here if c["parts"]["whole"]["published"]["n"]), None)


def moved(cell: Mapping) -> float:
    """Share of a cell's samples that rank the source run's answer above their own (``rank``)."""
    return cell["published"]["both"]["rate"]


def _leads(best: Mapping, cells: Sequence[Mapping]) -> bool:
    """Whether a cell's Wilson interval lies above those of the others in its layer.

    The bootstrap intervals of the result will not do: that of 0 of 14 samples is 0 to 0.
    """
    counts = ((c, c["published"]["n"]) for c in (best, *(c for c in cells if c is not best)))
    (low, _), *others = (wilson_interval(moved(cell) * n, n) for cell, n in counts)
    return all(low > high for _, high in others)


def _rate(group: Mapping) -> str:
    low, high = _interval(group)
    return f"{group['answer_accuracy']:.2f} (n = {group['n']:,}, {low:.2f}-{high:.2f})"


def _interval(group: Mapping) -> tuple[float, float]:
    return wilson_interval(group["answer_accuracy"] * group["n"], group["n"])


def _pooled(groups: Sequence[tuple[int, float, int]]) -> tuple[str, float]:
    """The first of the groups (k, right answers, items): their k as text, their pooled accuracy.

    So many that they hold a sixth of the items, lest the end that is quoted rests on a handful.
    """
    ks, successes, totals = zip(*groups, strict=True)
    count = next(i for i in range(1, len(ks) + 1) if sum(totals[:i]) * 6 >= sum(totals))
    low, high = sorted((ks[0], ks[count - 1]))
    share = sum(successes[:count]) / sum(totals[:count])
    return (str(low) if low == high else f"{low}-{high}"), share

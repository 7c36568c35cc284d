"""What patching found, in a notebook: ``run.trace(...)``, ``run.heads(...)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coverage_principle.circuits import METRICS, SUBSETS
from coverage_principle.errors import InputError
from coverage_principle.frames import frame_of
from coverage_principle.statistics import wilson_interval

if TYPE_CHECKING:
    import pandas

    from coverage_principle.reporting.style import Figure

_PLACE = ("split", "value", "layer", "position", "slot", "can_be_known")
#: What cells of looped models have beside the layer, and what is moved by a ``Moving``.
_MORE = ("loop", "block", "part")
#: What cells of heads have beside it.
_OF_HEADS = ("head",)


@dataclass(frozen=True, repr=False)
class Tracing:
    """Causal tracing of one checkpoint of ``run``; ``results`` is what ``trace.py`` writes as JSON.

    ``docs/circuit_analysis.md`` says what is in it.
    """

    run: str
    results: dict

    def __repr__(self) -> str:
        found, ((name, splits),) = self.results, self.results["checkpoints"].items()
        traced = ", ".join(f"{split} {s['samples']['n']:,}" for split, s in splits.items())
        sites = {(cell["layer"], cell["position"]) for cell in self._cells()}
        about = f"{found['family']['name']} in {self.run}, {name}"
        measured = f"{found['metric']} at {len(sites)} states ({found['stream']})"
        return f"<Tracing of {about}: {measured}; samples: {traced}>"

    def to_records(self, *, subset: str = "published", effect: str | None = None) -> list[dict]:
        """A dict for each split, emitted value, layer and position.

        ``split``, ``value`` (the answer, or a bridge that the model writes), ``layer``,
        ``position``, ``slot``, ``can_be_known`` (whether the tokens that what changes depends on
        have been read there), ``effect``, ``n`` (samples), ``mean``, and ``low`` and ``high``, the
        ends of its 95 % interval over samples: Wilson's of a share, which has a width at 0 and 1
        too, else a percentile bootstrap. None where there are no samples. Of a looped model also
        ``loop`` and ``block``.

        ``subset`` is published, unfiltered or both_correct. ``effect`` is a number of the metric:
        the one that figures show if not given; a wrong name lists them.
        """
        _check_subset(subset)
        effect = METRICS[self.results["metric"]].shown.key if effect is None else effect
        return [_record(cell, subset, effect) for cell in self._cells()]

    def to_frame(self, *, subset: str = "published", effect: str | None = None) -> pandas.DataFrame:
        """``to_records`` as a table. ``InputError`` if pandas is not installed."""
        return frame_of(self.to_records(subset=subset, effect=effect))

    def plot(self, *, subset: str = "published") -> Figure:
        """A heat map over layers and positions for each split, of the metric's own number."""
        from coverage_principle.reporting.circuit_figures import tracing_figure

        _check_subset(subset)
        return tracing_figure(self.results, subset=subset)

    def _cells(self) -> Iterator[Mapping]:
        """Every cell, with its split and value."""
        from coverage_principle.reporting.circuit_figures import emitted_parts

        (splits,) = self.results["checkpoints"].values()
        for split, summary in splits.items():
            for value, part in emitted_parts(self.results, summary).items():
                for cell in part["cells"]:
                    yield {"split": split, "value": value, **cell}


@dataclass(frozen=True, repr=False)
class Heads(Tracing):
    """Heads of one checkpoint of ``run``; ``results`` is what ``heads.py`` writes as JSON.

    Records are those of ``Tracing``, with ``head``; ``effect="attribution_share"`` gives the
    estimates from gradients.
    """

    def __repr__(self) -> str:
        found, ((name, splits),) = self.results, self.results["checkpoints"].items()
        traced = ", ".join(f"{split} {s['samples']['n']:,}" for split, s in splits.items())
        count = f"{found['num_layers']} layers of {found['heads']} heads"
        about = f"{found['family']['name']} in {self.run}, {name}"
        return f"<Heads of {about}: {found['metric']} of {count}; samples: {traced}>"

    def plot(self, *, subset: str = "published") -> Figure:
        """A heat map over heads and positions; with ``logit`` the estimates stand beside it."""
        from coverage_principle.reporting.head_figures import heads_figure

        _check_subset(subset)
        return heads_figure(self.results, subset=subset)

    def plot_patterns(self, split: str = "id_test") -> Figure:
        """The mean attention weights of each head over the items of a split."""
        from coverage_principle.reporting.head_figures import pattern_figure

        ((_, splits),) = self.results["checkpoints"].items()
        if split not in splits:
            raise InputError(f"`split` {split} is not one of {', '.join(splits)}")
        return pattern_figure(self.results, split)


@dataclass(frozen=True, repr=False)
class Moving(Tracing):
    """Interchange of a subspace in one checkpoint; ``results`` is what ``subspace.py`` writes.

    Records also have ``part``: which part of a state is the other run's. ``subspace``, ``rest``,
    ``whole`` or ``random``.
    """

    def __repr__(self) -> str:
        ((name, splits),) = self.results["checkpoints"].items()
        moved = ", ".join(f"{split} {s['samples']['n']:,}" for split, s in splits.items())
        sites = {(cell["layer"], cell["position"]) for cell in self._cells()}
        found, about = self.results["subspace"], f"{self.results['family']['name']} in {self.run}"
        measured = f"{self.results['metric']} at {len(sites)} states"
        return (
            f"<Moving of {found['name']} of {found['value']}, {about}, {name}: {measured}; "
            f"samples: {moved}>"
        )

    def plot(self, *, subset: str = "published") -> Figure:
        """A row of heat maps for each split: the subspace, the rest, the whole, at random."""
        from coverage_principle.reporting.circuit_figures import subspace_figure

        _check_subset(subset)
        return subspace_figure(self.results, subset=subset)

    def _cells(self) -> Iterator[Mapping]:
        for cell in super()._cells():
            for part, numbers in cell["parts"].items():
                yield {**cell, "part": part, **numbers}


def _check_subset(subset: str) -> None:
    if subset not in SUBSETS:
        raise InputError(f"`subset` {subset} is not one of {', '.join(SUBSETS)}")


def _record(cell: Mapping, subset: str, effect: str) -> dict:
    numbers = cell[subset]
    if effect not in numbers or effect == "n":
        there = ", ".join(name for name in numbers if name != "n")
        raise InputError(f"`effect` {effect} is not one of {there}")
    found = numbers[effect]
    place = {key: cell[key] for key in _PLACE}
    place |= {key: cell[key] for key in (*_OF_HEADS, *_MORE) if key in cell}
    count, mean, ends = numbers["n"], found.get("rate", found.get("mean")), found["interval"]
    if count and "count" in found:
        ends = wilson_interval(found["count"], count)
    low, high = ends or (None, None)
    return {**place, "effect": effect, "n": count, "mean": mean, "low": low, "high": high}

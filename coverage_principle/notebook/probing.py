"""What linear probes found, in a notebook: ``run.probe()``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coverage_principle.circuits import PROBE_READOUTS
from coverage_principle.errors import InputError
from coverage_principle.frames import frame_of

if TYPE_CHECKING:
    import pandas

    from coverage_principle.reporting.style import Figure

_PLACE = ("value", "layer", "after_ln_f", "position", "slot", "can_be_known", "n")


@dataclass(frozen=True, repr=False)
class Probing:
    """Linear probes of one checkpoint of ``run``; ``results`` is what ``probe.py`` writes as JSON.

    ``docs/circuit_analysis.md`` says what is in it.
    """

    run: str
    results: dict

    def __repr__(self) -> str:
        ((name, splits),) = self.results["checkpoints"].items()
        values, folds = ", ".join(self.results["values"]), self.results["settings"]["folds"]
        sites = {(c["layer"], c["after_ln_f"], c["position"]) for c in splits["train"]}
        about = f"of {values} in {self.run}, {name}"
        return f"<Probing {about}: {len(sites)} states, {folds} folds; splits: {', '.join(splits)}>"

    def to_records(self, *, readout: str = "accuracy") -> list[dict]:
        """A dict for each split, value, layer and position.

        ``split``, ``value``, ``layer``, ``after_ln_f``, ``position``, ``slot``, ``can_be_known``,
        ``n`` (items), ``readout`` (accuracy or bits), its ``mean``, ``low`` and ``high``, the ends
        of its 95 % interval over folds, and ``baseline``, the most that a probe reaches there by
        frequencies, of shuffled labels or of a model of random weights. None without items.
        """
        shown = _shown(readout)
        ((_, splits),) = self.results["checkpoints"].items()
        return [
            {"split": split, **_record(cell, readout, shown)}
            for split, cells in splits.items()
            for cell in cells
        ]

    def to_frame(self, *, readout: str = "accuracy") -> pandas.DataFrame:
        """``to_records`` as a table. ``InputError`` if pandas is not installed."""
        return frame_of(self.to_records(readout=readout))

    def plot(self, *, readout: str = "accuracy") -> Figure:
        """A heat map over layers and positions for each split and value."""
        from coverage_principle.reporting.circuit_figures import probe_figure

        _shown(readout)
        return probe_figure(self.results, readout=readout)


def _shown(readout: str):
    if readout not in PROBE_READOUTS:
        raise InputError(f"`readout` {readout} is not one of {', '.join(PROBE_READOUTS)}")
    return PROBE_READOUTS[readout].shown


def _record(cell: Mapping, readout: str, shown) -> dict:
    low, high = shown.interval(cell) or (None, None)
    numbers = {"mean": shown.value(cell), "low": low, "high": high}
    place = {key: cell[key] for key in _PLACE}
    return {**place, "readout": readout, **numbers, "baseline": shown.nothing_at(cell)}

"""One look for all figures: a colour-blind safe palette, named axes, PNG and PDF side by side."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Okabe and Ito's palette (safe for the common colour-vision deficiencies), black last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")

#: Markers of series, in the order of their colours.
MARKERS = "osD^vP*X"

#: Colour map for quantities from zero up.
SEQUENTIAL = "viridis"

_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,  # embed TrueType, so that text in PDFs stays text
}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid):
    """``(figure, axes)`` like ``pyplot.subplots`` (inches), without pyplot's global state."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, **grid)
    return figure, axes


def save_figure(figure: Figure, path: str | Path, *, formats: tuple[str, ...] = ("png", "pdf")):
    """Write ``path`` (its suffix is replaced) in each format; returns the paths written."""
    written = [Path(path).with_suffix(f".{kind}") for kind in formats]
    written[0].parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(_STYLE):
        for target in written:
            # Without a creation date, the same numbers give the same file.
            metadata = {"CreationDate": None} if target.suffix == ".pdf" else None
            figure.savefig(target, dpi=160, metadata=metadata)
    return written


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()

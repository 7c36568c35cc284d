"""One look for all figures: a colour-blind safe palette, named axes, PNG and PDF side by side."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from coverage_principle.data import replacing

#: Okabe and Ito's palette (safe for the common colour-vision deficiencies), black last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")

#: Markers of series, in the order of their colours.
MARKERS = "osD^vP*X"

#: Colour map for quantities from zero up.
SEQUENTIAL = "viridis"

#: The power of a fitted law in a legend (``plots.power_law``).
_LAW = re.compile(r"\$[^$]*\|X\|\^\{-?[\d.]+\}\$$")

#: Pixels of a saved figure for each inch.
_DPI = 160

_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,  # ``new_figure`` asks for it
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,  # embed TrueType, so that text in PDFs stays text
}


class Drawing(Figure):
    """A figure that a notebook shows where it is the last line of a cell."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid):
    """``(figure, axes)`` like ``pyplot.subplots`` (inches), without pyplot's global state."""
    with matplotlib.rc_context(_STYLE):
        figure = Drawing(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, **grid)
    return figure, axes


def _names_are_text(figure: Figure) -> None:
    """Names with ``$`` or ``_`` stand as they are; only the exponents of fitted laws are set."""
    for text in figure.findobj(Text):
        if "$" in text.get_text() and not _LAW.search(text.get_text()):
            text.set_parse_math(False)
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), FixedFormatter):  # names, written when drawn
            for tick in axis.get_major_ticks():
                tick.label1.set_parse_math(False)


def save_figure(figure: Figure, path: str | Path, *, formats: tuple[str, ...] = ("png", "pdf")):
    """Write ``path`` (its suffix is replaced) in each format; returns the paths written."""
    written = [Path(path).with_suffix(f".{kind}") for kind in formats]
    _names_are_text(figure)
    engine, dpi = figure.get_layout_engine(), figure.dpi
    with matplotlib.rc_context(_STYLE):
        # Laid out once: left to savefig, each format would lay out and measure anew.
        figure.set_dpi(_DPI)
        figure.draw_without_rendering()
        box = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        figure.set_layout_engine(None)
        for target in written:
            # Without a creation date, the same numbers give the same file.
            kind = target.suffix[1:]
            metadata = {"CreationDate": None} if kind == "pdf" else None
            options = {"dpi": _DPI, "bbox_inches": box, "metadata": metadata}
            with replacing(target) as temporary:
                figure.savefig(temporary, format=kind, **options)
    figure.set_dpi(dpi)
    figure.set_layout_engine(engine)
    return written


def figure_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    _names_are_text(figure)
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()

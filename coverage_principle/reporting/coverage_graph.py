"""The substitution graph as a picture: an interactive page without network, and a PNG.

Drawn are the components, not every edge: a spanning forest keeps what hangs together visible at
tens of thousands of items. A component is a disc around its best-connected item, the largest come
first; items that nothing joins lie in grids below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as plotly
import scipy.sparse as sparse
from matplotlib.collections import LineCollection
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

from coverage_principle.coverage import EVERY_K, Coverage
from coverage_principle.coverage.linking import components
from coverage_principle.data import write_text
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure
from simpletransformers.words import counted

#: name, colour, plotly symbol, matplotlib marker; as in the published pictures, in safe colours.
_KINDS = (
    ("training item", PALETTE[0], "diamond", "D"),
    ("covered test item", PALETTE[2], "circle", "o"),
    ("uncovered test item", PALETTE[1], "x", "X"),
)
_TRAIN, _COVERED, _UNCOVERED = range(3)
#: Radius of a disc of n items over sqrt(n): neighbours are then about one unit apart.
_STEP = 0.9
#: Width of the whole drawing over its height.
_ASPECT = 1.5
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True)
class _Layout:
    """``positions`` ``(n, 2)``; ``edges`` ``(m, 2)`` node numbers; ``labels``: (x, y, text)."""

    positions: np.ndarray
    edges: np.ndarray
    labels: list[tuple[float, float, str]]


def draw_coverage_graph(
    coverage: Coverage, k: int, path: str | Path, *, most: int = 20_000
) -> list[Path]:
    """Write ``path`` as ``.html`` and ``.png``: the substitution graph at ``k``.

    Beyond ``most`` items, whole components are left out, those without test items first; the title
    says how many of the items are shown.
    """
    hover, cutoffs = _hover_texts(coverage), coverage.node_cutoffs
    kinds, edges = _kinds_and_forest(coverage, k)
    component = components(len(kinds), *edges.T)
    keep = _within(component, kinds, most)
    number = np.cumsum(keep, dtype=np.int32) - 1
    edges = number[edges[keep[edges[:, 0]]]]
    layout = _lay_out(np.unique(component[keep], return_inverse=True)[1], edges, kinds[keep])
    title = f"{coverage.dataset.name}: substitution graph at k = {k}"
    if not keep.all():
        title += f" ({keep.sum():,} of {counted(len(keep), 'item')})"
    page, picture = Path(f"{path}.html"), Path(f"{path}.png")
    write_text(page, _page(layout, kinds[keep], cutoffs[keep], hover[keep], title))
    return [page, *_picture(layout, kinds[keep], title, picture)]


def _kinds_and_forest(coverage: Coverage, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each node of the scope, and a spanning forest ``(m, 2)`` of the graph at ``k``."""
    scope = coverage.scope
    kinds = np.where(coverage.covered_nodes(k), _COVERED, _UNCOVERED)
    kinds[scope.trained] = _TRAIN
    ends = [scope.stars(slot_set.equivalence, k) for slot_set in coverage.slot_sets]
    both = np.concatenate([np.empty((0, 2), np.int64), *(np.column_stack(e) for e in ends)])
    pairs = np.unique(np.sort(both, axis=1), axis=0)
    pairs = pairs.astype(np.int32)  # all that the graph routines of older scipy take
    graph = sparse.coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(scope.count,) * 2)
    forest = minimum_spanning_tree(graph.tocsr()).tocoo()
    return kinds, np.column_stack([forest.row, forest.col])


def _hover_texts(coverage: Coverage) -> np.ndarray:
    """What a pointer sees of each node: input, answer and k-cutoff, as an object array."""
    dataset, (inputs, answers) = coverage.dataset, coverage.scope.items()
    slots, answer = dataset.graph.inputs, [dataset.graph.answer]
    inputs, answers = dataset.ids(inputs, slots), dataset.ids(answers[:, None], answer)[:, 0]
    cutoffs = coverage.node_cutoffs.tolist()
    names = np.array([t.strip("<>") for t in dataset.codec.vocabulary], dtype=object)
    notes = {EVERY_K: "in the training set"}
    notes[0] = f"not covered at k &#8805; {coverage.settings.lowest_k}"
    rows = zip(names[inputs].tolist(), names[answers].tolist(), cutoffs, strict=True)
    texts = [
        f"{' '.join(tokens)} &#8594; {answer}<br>{notes.get(cutoff, f'k-cutoff {cutoff}')}"
        for tokens, answer, cutoff in rows
    ]
    return np.array(texts, dtype=object)


def _within(component: np.ndarray, kinds: np.ndarray, most: int) -> np.ndarray:
    """Which nodes to draw: whole components, with test items before without, large before small."""
    sizes = np.bincount(component)
    with_test = np.bincount(component, weights=kinds != _TRAIN) > 0
    order = np.lexsort((-sizes, ~with_test))
    chosen = np.zeros(len(sizes), dtype=bool)
    # The first component always: otherwise one that is larger than ``most`` leaves nothing.
    chosen[order[np.cumsum(sizes[order]) <= max(most, sizes[order[0]])]] = True
    return chosen[component]


def _lay_out(component: np.ndarray, edges: np.ndarray, kinds: np.ndarray) -> _Layout:
    sizes = np.bincount(component)
    trained = np.bincount(component, weights=kinds == _TRAIN) > 0
    joined = sizes > 1
    radii = _STEP * np.sqrt(sizes - 1) + np.where(joined, 0.8, 0.5)
    width = np.sqrt(_ASPECT * np.square(2 * radii).sum())
    centres, labels, y = np.zeros((len(sizes), 2)), [], 0.0
    sections = {
        "components with training items, all their test items covered: {:,}": joined & trained,
        "components of test items only, not covered: {:,}": joined & ~trained,
        "training items joined to nothing: {:,}": ~joined & trained,
        "test items joined to nothing, not covered: {:,}": ~joined & ~trained,
    }
    for text, section in sections.items():
        if section.any():
            y -= 0.05 * width
            labels.append((0.0, y + 0.008 * width, text.format(int(section.sum()))))
            y = _fill_shelves(centres, np.flatnonzero(section), radii, width, y)
    return _Layout(centres[component] + _discs(component, edges), edges, labels)


def _discs(component: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Place of each node in its component's disc: breadth-first from its best-connected node.

    The spiral of a sunflower fills a disc evenly with any number of points (H. Vogel, "A better
    way to construct the sunflower head", 1979).
    """
    count = len(component)
    degree = np.bincount(edges.ravel(), minlength=count)
    order = np.lexsort((-degree, component))
    first = np.ones(count, dtype=bool)
    first[1:] = component[order[1:]] != component[order[:-1]]
    graph = sparse.coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    depth = dijkstra(graph.tocsr(), directed=False, indices=order[first], min_only=True)
    order = np.lexsort((depth, component))
    starts = np.flatnonzero(first)  # components begin at the same places in either order
    rank = np.empty(count)
    rank[order] = np.arange(count) - np.repeat(starts, np.diff([*starts, count]))
    radius, angle = _STEP * np.sqrt(rank), rank * _GOLDEN_ANGLE
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _fill_shelves(
    centres: np.ndarray, chosen: np.ndarray, radii: np.ndarray, width: float, top: float
) -> float:
    """Set ``centres`` of the chosen discs on shelves below ``top``, large first; the new bottom."""
    x = height = 0.0
    for i in chosen[np.argsort(-radii[chosen], kind="stable")]:
        if x > 0 and x + 2 * radii[i] > width:
            x, top, height = 0.0, top - height, 0.0
        height = max(height, 2 * radii[i])
        centres[i] = x + radii[i], top - radii[i]
        x += 2 * radii[i]
    return top - height


def _page(
    layout: _Layout, kinds: np.ndarray, cutoffs: np.ndarray, hover: np.ndarray, title: str
) -> str:
    """The interactive page: zoom with the wheel, drag to move, point at an item, filter by k."""
    ends = layout.positions[layout.edges]
    gaps = np.full((len(ends), 1), np.nan)
    x, y = (np.hstack([ends[:, :, axis], gaps]).ravel().round(2) for axis in (0, 1))
    style = {"line": {"color": "#bbbbbb", "width": 1}, "hoverinfo": "skip"}
    traces = [plotly.Scattergl(x=x, y=y, mode="lines", name="substitution", **style)]
    # In pixels: items keep apart when the whole drawing fills a window, and stay visible.
    size = float(np.clip(800 / (np.ptp(layout.positions[:, 0]) + 2), 4.5, 9))
    for kind, (name, colour, symbol, _) in enumerate(_KINDS):
        # A trace for each k-cutoff, so that the slider can show and hide them. The legend entry is
        # that of the largest, which the slider hides last.
        style = {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": size}}
        style |= {"name": f"{name} ({(kinds == kind).sum():,})", "legendgroup": name}
        style |= {"hovertemplate": "%{text}<extra></extra>"}
        present = np.unique(cutoffs[kinds == kind])
        for cutoff in present:
            of_cutoff = np.flatnonzero((kinds == kind) & (cutoffs == cutoff))
            x, y = layout.positions[of_cutoff].round(2).T
            own = {"meta": int(cutoff), "showlegend": bool(cutoff == present[-1])}
            traces.append(plotly.Scattergl(x=x, y=y, text=hover[of_cutoff], **own, **style))
    at = {"showarrow": False, "xanchor": "left", "yanchor": "bottom"}
    look = {"title": {"text": title}, "template": "plotly_white", "dragmode": "pan"}
    legend = {"itemsizing": "constant", "orientation": "h", "yanchor": "bottom"}
    look |= {"legend": {**legend, "x": 1, "xanchor": "right", "y": 1}}
    look |= {"margin": {"l": 20, "r": 20, "t": 70, "b": 20}, "sliders": [_slider(traces)]}
    look |= {"xaxis": {"visible": False}, "yaxis": {"visible": False, "scaleanchor": "x"}}
    look["annotations"] = [{"x": x, "y": y, "text": text, **at} for x, y, text in layout.labels]
    figure = plotly.Figure(traces, look)
    config = {"scrollZoom": True, "displaylogo": False, "responsive": True}
    how = {"include_plotlyjs": True, "default_height": "100vh", "div_id": "graph"}  # no random id
    page = figure.to_html(config=config, **how)
    return page.replace("<body>", '<body style="margin: 0">')


def _slider(traces: list) -> dict:
    """A slider that hides the test items of a k-cutoff below the chosen one."""
    last = max((t.meta for t in traces if t.meta not in (None, EVERY_K)), default=0)
    steps = []
    for least in range(last + 1):
        visible = [t.meta is None or t.meta >= least for t in traces]
        label = f"k-cutoff \u2265 {least}" if least else "all"
        steps.append({"label": label, "method": "restyle", "args": [{"visible": visible}]})
    place = {"len": 0.5, "x": 0.25, "pad": {"t": 10}}
    return {"steps": steps, "currentvalue": {"prefix": "test items shown: "}, **place}


def _picture(layout: _Layout, kinds: np.ndarray, title: str, path: Path) -> list[Path]:
    places, inches = layout.positions, 13.0
    width, height = np.ptp(places, axis=0) + 2
    figure, axis = new_figure(inches, min(14.0, max(4.0, inches * height / width + 1.2)))
    axis.add_collection(LineCollection(places[layout.edges], colors="#999999", linewidths=0.5))
    # A marker's diameter, in points, is a little less than the unit that neighbours are apart.
    diameter = min(7.0, 0.55 * 72 * inches / width)
    for kind, (name, colour, _, marker) in enumerate(_KINDS):
        of_kind = kinds == kind
        if of_kind.any():
            style = {"s": diameter**2, "c": colour, "marker": marker, "linewidths": 0, "zorder": 2}
            axis.scatter(*places[of_kind].T, label=f"{name} ({of_kind.sum():,})", **style)
    for x, y, text in layout.labels:
        axis.text(x, y, text, fontsize=9, va="bottom")
    axis.set_title(title)
    axis.set_aspect("equal")
    axis.axis("off")
    where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": len(_KINDS)}
    legend = axis.legend(frameon=False, **where)
    for handle in legend.legend_handles:
        handle.set_sizes([36])
    return save_figure(figure, path, formats=("png",))

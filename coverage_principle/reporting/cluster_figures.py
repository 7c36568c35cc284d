"""Figures of grouped vectors: histograms of cosines, and principal components in 2-D and 3-D."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as plotly

from coverage_principle.circuits import (
    IICG,
    ComponentSettings,
    Measured,
    MeasureSettings,
    Vectors,
    check_groups,
    principal_components,
    read_vectors,
    shared_groups,
)
from coverage_principle.data import write_json, write_text
from coverage_principle.errors import InputError
from coverage_principle.reporting.plots import look, note_below
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure

_OTHERS = "#bbbbbb"
_SPLITS = {"id_train": "ID train", "id_test": "ID test", "ood": "OOD"}


def measured_figures(measured: Measured, settings: MeasureSettings) -> list[Path]:
    """The figures of three measured files that are asked for, under their published names."""
    written = _histogram_figures(measured) if settings.save_plots else []
    if settings.pca_vis or settings.draw_only:
        layer, position = measured.site
        name = f"{settings.reduce_method}_layer{layer}_pos{position}"
        parts = {_SPLITS[split]: part for split, part in measured.parts.items()}
        written += component_figures(parts, measured.folder / "pca" / name, settings)
    return written


def _histogram_figures(measured: Measured) -> list[Path]:
    report, bins = measured.report, np.array(measured.report["bins"])
    figures: dict[str, tuple[str, dict[str, Sequence[int]]]] = {}
    for split, title in _SPLITS.items():
        counts = report[split]["histograms"]
        if counts:
            within, between = (np.array(counts[key]) for key in ("within", "between_all"))
            own, centres = {"within groups": within}, counts["between_centroid"]
            figures |= {
                f"{split}_similarities": (title, {**own, "between group means": centres}),
                f"{split}_within_vs_betweenall": (title, {**own, "between groups": between}),
                f"{split}_all_similarities": (title, {"all pairs": within + between}),
            }
    for split in ("id_train", "id_test"):
        cosines = report["cross_category"][f"{split}_ood_sims"]
        counts = {"cosine with the OOD mean": np.histogram(cosines, bins)[0]}
        title = f"{_SPLITS[split]} group means and the OOD mean"
        figures[f"{split}_ood_mean_similarities"] = (title, counts)
        both = {_SPLITS[s]: report[s]["histograms"].get("within", []) for s in (split, "ood")}
        figures[f"{split}_vs_ood_within_group"] = ("within groups", both)
    written = []
    for name, (title, counts) in figures.items():
        if filled := {label: np.array(c) for label, c in counts.items() if np.sum(c)}:
            file = measured.folder / f"{name}_layer{measured.site[0]}.png"
            written += _overlay(filled, bins, file, title)
    return written


def _overlay(counts: Mapping[str, np.ndarray], bins, path: Path, title: str) -> list[Path]:
    """Histograms over each other, each as a share of its own pairs."""
    figure, axis = new_figure(4.6, 3.0)
    for (label, values), colour in zip(counts.items(), PALETTE, strict=False):
        share = 100 * values / values.sum()
        middle = float((values * (bins[:-1] + bins[1:]) / 2).sum() / values.sum())
        text = f"{label} (n = {int(values.sum()):,}, mean {middle:.2f})"
        axis.stairs(share, bins, fill=True, alpha=0.35, color=colour)
        axis.stairs(share, bins, color=colour, label=text)
    used = np.flatnonzero(sum(counts.values()))
    low, high = bins[used[0]], bins[used[-1] + 1]
    axis.set_xlim(max(-1, low - 0.05), min(1, high + 0.05))
    axis.set(xlabel="cosine similarity", ylabel="pairs (%)", title=title)
    figure.legend(loc="outside lower center", fontsize=8)
    return save_figure(figure, path)


def draw_components(folder: Path, metrics: Mapping, *, every_site: bool) -> list[Path]:
    """Components of a clustering result's vectors: of every site, or of id_test's IICG peak.

    The peak is taken among the cells that are findings, if any is.
    ``InputError`` if the vectors were not written as ``.npz``.
    """
    file = Path(folder) / "vectors.npz"
    if not file.exists():
        raise InputError(f"`pca` needs the vectors in {file}; leave `vectors` at npz")
    cells = [c for c in metrics["cells"] if c["split"] == "id_test" and c["iicg"] is not None]
    sites = {(c["layer"], c["position"]): c["slot"] for c in cells}
    if not every_site and cells:
        known = [c for c in cells if c.get("can_be_known", True)] or cells
        found = [c for c in known if not IICG.is_weak(c)] or known
        peak = max(found, key=lambda c: c["iicg"])
        sites = {(peak["layer"], peak["position"]): peak["slot"]}
    written = []
    for (layer, position), slot in sites.items():
        splits = [split for split, about in metrics["splits"].items() if about["vectors"]]
        where = str(layer), str(position)
        parts = {split: read_vectors(file, split, where, "vectors") for split in splits}
        # Small splits have small groups, and OOD items may have no group with others in common:
        # ask for as much as all, or else the larger splits, can give.
        asked = [
            ({name: parts[name] for name in names if name in parts}, members)
            for names in (tuple(parts), ("id_train", "id_test"), ("id_test",))
            for members in (3, 2, 1)
        ]
        shared, members = next((a for a in asked if shared_groups(*a)), asked[-1])
        options = {"value": metrics["grouped_by"]["value"], "shared_by": tuple(shared)}
        settings = ComponentSettings(pca_m=8, pca_n=members)
        path = file.with_name(f"pca_layer{layer}_{slot}")
        written += component_figures(parts, path, settings, **options)
    return written


def component_figures(
    parts: Mapping[str, Vectors],
    path: str | Path,
    settings: ComponentSettings,
    *,
    value: str = "group",
    shared_by: Sequence[str] = (),
) -> list[Path]:
    """Scatter plots of the first principal components: 2-D ``.png``/``.pdf``, 3-D ``.html``.

    One projection for all ``parts`` (a panel each), so that they can be compared. Up to ``pca_m``
    random groups with at least ``pca_n`` vectors in every part that has vectors (of those in
    ``shared_by``, if given) are coloured, the rest is grey; with the scope ``local`` only ``pca_n``
    vectors of each of those groups are used at all, and none is grey. Coordinates are written
    beside the figures as ``.json``. ``InputError`` if there are no such groups.
    """
    path, members = Path(path), settings.pca_n
    empty = [title for title, part in parts.items() if not len(part.vectors)]
    parts = {title: part for title, part in parts.items() if len(part.vectors)}
    rng = np.random.default_rng(settings.seed)
    wanted = {title: part for title, part in parts.items() if title in (shared_by or parts)}
    check_groups(wanted, members)
    names = shared_groups(wanted, members)
    chosen = [names[i] for i in sorted(rng.permutation(len(names))[: settings.pca_m])]
    total = len(np.unique(np.concatenate([part.groups for part in parts.values()])))
    notes = [
        f"coloured: {len(chosen)} of {total} groups, at random from the {len(names)} with at least "
        f"{members} vector{'s' if members > 1 else ''} in each of {', '.join(wanted)}"
    ]
    if empty:
        notes.append(f"without vectors, not drawn: {', '.join(empty)}")
    if settings.pca_scope == "local":
        notes.append(f"drawn and projected: at most {members} vectors of each of these groups")
        parts = {title: _few(part, chosen, members, rng) for title, part in parts.items()}
    everything = np.concatenate([part.vectors for part in parts.values()])
    coordinates, axes = _project(everything, settings)
    cuts = np.cumsum([len(part.vectors) for part in parts.values()])[:-1]
    places = dict(zip(parts, np.split(coordinates, cuts), strict=True))
    points = {}
    for title, part in parts.items():
        where = places[title].round(5).tolist()
        rows = zip(part.groups.tolist(), part.texts, where, strict=True)
        names = ("group", "input_text", "coordinates")
        points[title] = [dict(zip(names, row, strict=True)) for row in rows]
    written = [path.with_suffix(".json")]
    write_json(written[0], {"coloured_groups": chosen, "axes": axes, "points": points})
    drawing = (parts, places, chosen, axes, value, path, notes)
    if settings.reduce_dim in (2, None):
        written += _flat(*drawing)
    if settings.reduce_dim in (3, None):
        written.append(_solid(*drawing))
    return written


def _project(vectors: np.ndarray, settings: ComponentSettings) -> tuple[np.ndarray, list[str]]:
    """Coordinates (n, 3) and the names of their axes."""
    if settings.reduce_method == "pca":
        coordinates, shares = principal_components(vectors)
        words = "component {} ({:.0f} % of variance)"
        return coordinates, [words.format(i, 100 * s) for i, s in enumerate(shares, start=1)]
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        lack = "`reduce_method` tsne needs scikit-learn, which is not installed here"
        raise InputError(lack) from error
    nearby = min(30, (len(vectors) - 1) / 3)
    found = TSNE(3, perplexity=nearby, random_state=settings.seed).fit_transform(vectors)
    return found.astype(np.float64), [f"t-SNE dimension {i + 1}" for i in range(3)]


def _few(part: Vectors, chosen: Sequence[str], members: int, rng) -> Vectors:
    rows = [rng.permutation(np.flatnonzero(part.groups == group))[:members] for group in chosen]
    rows = np.sort(np.concatenate(rows))
    return Vectors(part.vectors[rows], part.groups[rows], [part.texts[i] for i in rows])


def _flat(parts, places, chosen, axes, value: str, path: Path, notes) -> list[Path]:
    size, grid = (3.2 * len(parts) + 1.0, 3.7), {"sharex": True, "sharey": True, "squeeze": False}
    figure, panels = new_figure(*size, 1, len(parts), **grid)
    for axis, (title, part) in zip(panels[0], parts.items(), strict=True):
        where = places[title]
        grey = ~np.isin(part.groups, chosen)
        axis.scatter(*where[grey, :2].T, s=6, color=_OTHERS, linewidths=0, label="others")
        for number, group in enumerate(chosen):  # shape as well as colour tells groups apart
            own = part.groups == group
            style = {"linewidths": 0, "alpha": 0.9, **look(number)}
            axis.scatter(*where[own, :2].T, s=16, label=group, **style)
        axis.set_title(f"{title}\n{len(part.groups):,} vectors", fontsize=10)
        axis.set_xlabel(axes[0], fontsize=9)
    panels[0][0].set_ylabel(axes[1], fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title=value, loc="outside right center", fontsize=8)
    note_below(figure, [textwrap.fill(note, int(15 * size[0])) for note in notes])
    return save_figure(figure, path)


def _solid(parts, places, chosen, axes, value: str, path: Path, notes) -> Path:
    """One interactive page; a click on a legend entry hides a split or a group."""
    symbols = ("circle", "diamond", "square", "cross", "x")
    traces = []
    for split, (title, part) in enumerate(parts.items()):
        for number, group in enumerate([None, *chosen]):
            name, own = "others", ~np.isin(part.groups, chosen)
            marker = {"size": 2, "symbol": symbols[split % 5], "color": _OTHERS}
            if group is not None:
                name, own = f"{value} = {group}", part.groups == group
                marker |= {"size": 4, "color": look(number - 1)["color"]}
            if own.any():
                point = dict(zip("xyz", places[title][own].T, strict=True))
                point |= {"mode": "markers", "marker": marker, "hoverinfo": "text", "name": name}
                point["hovertext"] = [part.texts[i] for i in np.flatnonzero(own)]
                point |= {"legendgroup": title, "legendgrouptitle": {"text": title}}
                traces.append(plotly.Scatter3d(point))
    named = zip("xyz", axes, strict=True)
    scene = {f"{axis}axis": {"title": {"text": text}} for axis, text in named}
    scene["camera"] = {"eye": {"x": 1.7, "y": 1.7, "z": 1.2}}  # so far off that names fit in
    title = f"Principal components by {value}<br><sub>{'; '.join(notes)}</sub>"
    layout = {"title": {"text": title}, "scene": scene}
    layout |= {"template": "plotly_white", "margin": {"l": 0, "r": 0, "t": 60, "b": 0}}
    # The library is put into the page: it opens offline, on any machine.
    page = plotly.Figure(traces, layout).to_html(
        include_plotlyjs=True, default_height="96vh", div_id="components"
    )
    write_text(path.with_suffix(".html"), page)
    return path.with_suffix(".html")

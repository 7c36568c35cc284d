"""Figures of grouped vectors: histograms of cosines, and principal components in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as plotly

from coverage_principle.circuits import Vectors, principal_components, read_vectors
from coverage_principle.data import write_json, write_text
from coverage_principle.errors import InputError
from coverage_principle.reporting.style import PALETTE, new_figure, save_figure

_OTHERS = "#bbbbbb"
_SPLITS = {"id_train": "ID train", "id_test": "ID test", "ood": "OOD"}


# ------------------------------------------------------------------------------------ histograms


def similarity_figures(report: Mapping, folder: str | Path, layer: str) -> list[Path]:
    """The published histograms of a ``cosine_report``, under their published names."""
    folder, bins, written = Path(folder), np.array(report["bins"]), []

    def draw(name: str, title: str, counts: Mapping[str, Sequence[int]]) -> None:
        filled = {label: np.array(c) for label, c in counts.items() if np.sum(c)}
        if filled:
            written.extend(_overlay(filled, bins, folder / f"{name}_layer{layer}.png", title))

    for split, title in _SPLITS.items():
        counts = report[split]["histograms"]
        if not counts:
            continue
        within, between = counts["within"], counts["between_all"]
        draw(
            f"{split}_similarities",
            title,
            {"within groups": within, "between group means": counts["between_centroid"]},
        )
        draw(
            f"{split}_within_vs_betweenall",
            title,
            {"within groups": within, "between groups": between},
        )
        draw(
            f"{split}_all_similarities",
            title,
            {"all pairs": (np.array(within) + np.array(between)).tolist()},
        )
    for split in ("id_train", "id_test"):
        sims = report["cross_category"][f"{split}_ood_sims"]
        draw(
            f"{split}_ood_mean_similarities",
            f"{_SPLITS[split]} group means and the OOD mean",
            {"cosine with the OOD mean": np.histogram(sims, bins)[0].tolist()},
        )
        draw(
            f"{split}_vs_ood_within_group",
            "within groups",
            {
                _SPLITS[name]: report[name]["histograms"].get("within", [])
                for name in (split, "ood")
            },
        )
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
    axis.set_xlabel("cosine similarity")
    axis.set_ylabel("pairs (%)")
    axis.set_title(title)
    figure.legend(loc="outside lower center", fontsize=8)
    return save_figure(figure, path)


# ---------------------------------------------------------------------------- principal components


def draw_components(folder: Path, metrics: Mapping, *, every_site: bool) -> list[Path]:
    """Components of a clustering result's vectors: of every site, or of id_test's IICG peak.

    ``InputError`` if the vectors were not written as ``.npz``.
    """
    file = Path(folder) / "vectors.npz"
    if not file.exists():
        raise InputError(f"--pca needs the vectors in {file}; leave --vectors at npz")
    cells = [c for c in metrics["cells"] if c["split"] == "id_test" and c["iicg"] is not None]
    sites = {(c["layer"], c["position"]): c["slot"] for c in cells}
    if not every_site and cells:
        peak = max(cells, key=lambda c: c["iicg"])
        sites = {(peak["layer"], peak["position"]): peak["slot"]}
    written = []
    for (layer, position), slot in sites.items():
        parts = {}
        for split, about in metrics["splits"].items():
            if about["vectors"]:
                parts[split] = read_vectors(file, split, (str(layer), str(position)), "--vectors")
        # Small splits have small groups, and OOD items may have no group with others in common:
        # ask for as much as all, or else the larger splits, can give.
        asked = [
            (names, members)
            for names in (tuple(parts), ("id_train", "id_test"), ("id_test",))
            for members in (3, 2, 1)
        ]
        names, members = next(
            (a for a in asked if _shared_groups({n: parts[n] for n in a[0] if n in parts}, a[1])),
            asked[-1],
        )
        written += component_figures(
            parts,
            Path(folder) / f"pca_layer{layer}_{slot}",
            value=metrics["grouped_by"]["value"],
            members=members,
            shared_by=names,
        )
    return written


def component_figures(
    parts: Mapping[str, Vectors],
    path: str | Path,
    *,
    value: str = "group",
    dimensions: Sequence[int] = (2, 3),
    method: str = "pca",
    groups: int = 8,
    members: int = 3,
    shared_by: Sequence[str] | None = None,
    local: bool = False,
    seed: int = 0,
) -> list[Path]:
    """Scatter plots of the first principal components: 2-D ``.png``/``.pdf``, 3-D ``.html``.

    One projection for all ``parts`` (a panel each), so that they can be compared. Up to ``groups``
    random groups with at least ``members`` vectors in every part that has vectors (of those in
    ``shared_by``, if given) are coloured, the rest is grey; with ``local`` only ``members`` vectors
    of each of those groups are used at all, and none is grey. Coordinates are written beside the
    figures as ``.json``. ``InputError`` if there are no such groups.
    """
    path = Path(path)
    parts = {title: part for title, part in parts.items() if len(part.vectors)}
    rng = np.random.default_rng(seed)
    wanted = {title: part for title, part in parts.items() if title in (shared_by or parts)}
    chosen = _choose_groups(wanted, groups, members, rng)
    if not chosen:
        raise InputError(
            f"{path.name}: no group has at least {members} vectors in each of {', '.join(wanted)}"
        )
    if local:
        parts = {title: _few(part, chosen, members, rng) for title, part in parts.items()}
    everything = np.concatenate([part.vectors for part in parts.values()])
    coordinates, axes = _project(everything, method, seed)
    cuts = np.cumsum([len(part.vectors) for part in parts.values()])[:-1]
    places = dict(zip(parts, np.split(coordinates, cuts), strict=True))
    data = {
        "coloured_groups": chosen,
        "axes": axes,
        "points": {
            title: [
                {"group": group, "input_text": text, "coordinates": where.tolist()}
                for group, text, where in zip(
                    part.groups.tolist(), part.texts, places[title].round(5), strict=True
                )
            ]
            for title, part in parts.items()
        },
    }
    write_json(path.with_suffix(".json"), data)
    written = [path.with_suffix(".json")]
    if 2 in dimensions:
        written += _flat(parts, places, chosen, axes, value, path)
    if 3 in dimensions:
        written.append(_solid(parts, places, chosen, axes, value, path))
    return written


def _project(vectors: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, list[str]]:
    """Coordinates (n, 3) and the names of their axes."""
    if method == "pca":
        coordinates, shares = principal_components(vectors)
        return coordinates, [
            f"component {i + 1} ({100 * share:.0f} % of variance)" for i, share in enumerate(shares)
        ]
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise InputError(
            "--reduce_method tsne needs scikit-learn, which is not installed here"
        ) from error
    nearby = min(30, (len(vectors) - 1) / 3)
    found = TSNE(n_components=3, perplexity=nearby, random_state=seed).fit_transform(vectors)
    return found.astype(np.float64), [f"t-SNE dimension {i + 1}" for i in range(3)]


def _shared_groups(parts: Mapping[str, Vectors], members: int) -> list[str]:
    """The groups that have at least ``members`` vectors in every part."""
    shared: set[str] | None = None
    for part in parts.values():
        labels, sizes = np.unique(part.groups, return_counts=True)
        enough = set(labels[sizes >= members].tolist())
        shared = enough if shared is None else shared & enough
    return sorted(shared or (), key=lambda name: (len(name), name))


def _choose_groups(parts, count: int, members: int, rng) -> list[str]:
    names = _shared_groups(parts, members)
    return [names[i] for i in sorted(rng.permutation(len(names))[:count])]


def _few(part: Vectors, chosen: Sequence[str], members: int, rng) -> Vectors:
    rows = [rng.permutation(np.flatnonzero(part.groups == group))[:members] for group in chosen]
    rows = np.sort(np.concatenate(rows))
    return Vectors(part.vectors[rows], part.groups[rows], [part.texts[i] for i in rows])


def _flat(parts, places, chosen, axes, value: str, path: Path) -> list[Path]:
    figure, panels = new_figure(
        3.2 * len(parts) + 1.0, 3.4, 1, len(parts), squeeze=False, sharex=True, sharey=True
    )
    for axis, (title, part) in zip(panels[0], parts.items(), strict=True):
        where = places[title]
        grey = ~np.isin(part.groups, chosen)
        axis.scatter(*where[grey, :2].T, s=6, color=_OTHERS, linewidths=0, label="others")
        for number, group in enumerate(chosen):
            own = part.groups == group
            axis.scatter(
                *where[own, :2].T,
                s=16,
                color=_colour(number),
                marker=_MARKERS[number % 8],
                linewidths=0,
                label=group,
                alpha=0.9,
            )
        axis.set_title(f"{title}\n{len(part.groups):,} vectors", fontsize=10)
        axis.set_xlabel(axes[0], fontsize=9)
    panels[0][0].set_ylabel(axes[1], fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title=value, loc="outside right center", fontsize=8)
    return save_figure(figure, path)


#: Shape as well as colour tells groups apart.
_MARKERS = "osD^vP*X"


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _solid(parts, places, chosen, axes, value: str, path: Path) -> Path:
    """One interactive page; a click on a legend entry hides a split or a group."""
    symbols = ("circle", "diamond", "square", "cross", "x")
    traces = []
    for split, (title, part) in enumerate(parts.items()):
        for number, group in enumerate([None, *chosen]):
            own = ~np.isin(part.groups, chosen) if group is None else part.groups == group
            if not own.any():
                continue
            texts = [part.texts[i] for i in np.flatnonzero(own)]
            traces.append(
                plotly.Scatter3d(
                    x=places[title][own, 0],
                    y=places[title][own, 1],
                    z=places[title][own, 2],
                    mode="markers",
                    hovertext=texts,
                    hoverinfo="text",
                    legendgroup=title,
                    legendgrouptitle={"text": title},
                    name="others" if group is None else f"{value} = {group}",
                    marker={
                        "size": 2 if group is None else 4,
                        "symbol": symbols[split % 5],
                        "color": _OTHERS if group is None else _colour(number - 1),
                    },
                )
            )
    names = dict(zip(("xaxis", "yaxis", "zaxis"), axes, strict=True))
    figure = plotly.Figure(
        traces,
        {
            "title": {"text": f"Principal components by {value}"},
            "template": "plotly_white",
            "scene": {
                **{name: {"title": {"text": text}} for name, text in names.items()},
                "camera": {"eye": {"x": 1.7, "y": 1.7, "z": 1.2}},  # so far off that names fit in
            },
            "margin": {"l": 0, "r": 0, "t": 60, "b": 0},
        },
    )
    page = path.with_suffix(".html")
    # The library is put into the page: it opens offline, on any machine.
    write_text(page, figure.to_html(include_plotlyjs=True, default_height="96vh"))
    return page

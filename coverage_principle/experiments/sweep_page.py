"""What the page of a sweep says of all runs together: figures, means over seeds, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from coverage_principle.experiments.points import summarised, sweep_points
from coverage_principle.experiments.results import SEEDS, Results
from coverage_principle.experiments.settings import PlotSettings
from coverage_principle.experiments.stages import STAGES
from coverage_principle.reporting import html
from coverage_principle.reporting.sweep_text import (
    PLACES,
    as_key,
    short_names,
    with_interval,
    x_text,
)

#: More lines than these make no figure.
_MOST_LINES = 12
_Y = "answer_accuracy"


def comparison(results: Results, folder: Path) -> list[str]:
    """Blocks of a page: accuracy by what varies and by k-cutoff, and means over seeds.

    Figures are written into ``folder``. Nothing if no run was scored.
    """
    done = Results(results.done, results.file)
    if _Y not in done.scores:
        return []
    types, differ = _types(done), set(done.varying()) - {*SEEDS}
    asked = PlotSettings() if differ and "type_0" in types else PlotSettings(group=types)
    if not differ:
        asked = PlotSettings(x="group", group=types)
    blocks = [html.heading(f"Accuracy by {'what varies' if differ else 'type'}")]
    blocks += _figure(sweep_points(results, asked), folder / "accuracy")
    blocks += [
        html.text("Answer accuracy: mean over seeds, with its 95 % interval."),
        html.table(*seed_means(done), sortable=True),
    ]
    if any(group.startswith("type_0/k_cutoff=") for group in done.groups):
        points = sweep_points(results, PlotSettings(x="k_cutoff"))
        blocks.append(html.heading("Accuracy by k-cutoff"))
        blocks += _figure(points, folder / "accuracy_by_k_cutoff")
        blocks += [
            html.text("type_0: mean over seeds, its 95 % interval, n items of all runs together."),
            html.table(*by_x(points), sortable=True),
        ]
    return blocks


def _types(done: Results) -> tuple[str, ...]:
    """The groups that are whole types, of the test set."""
    return tuple(sorted(group for group in done.groups if "/" not in group and ":" not in group))


def _figure(points: Mapping, stem: Path) -> list[str]:
    """The figure of points with what is said of it, or words if it would be too full."""
    from coverage_principle.reporting.sweep_figures import draw_points

    lines = {tuple(point["series"].values()) for point in points["points"]}
    if len(lines) > _MOST_LINES:
        advice = "script/plot_sweep.py draws some of them, by --vary, --panels and --where"
        return [
            html.text(f"{len(lines)} combinations of settings are too many for a figure: {advice}.")
        ]
    png = draw_points(points, stem)[0]
    return [html.figure(png, [note.replace("`", "") for note in points["notes"]])]


def seed_means(done: Results) -> tuple[list[str], list[list[str]]]:
    """Accuracy by type for each combination of settings: the header and the rows."""
    names = [name for name in done.varying() if name not in SEEDS]
    types = _types(done)
    combined: dict[tuple, list[dict]] = {}
    for record in done:
        combined.setdefault(tuple(as_key(record.get(name)) for name in names), []).append(record)
    rows = []
    for values, records in combined.items():
        row = [*map(x_text, values), str(len(records))]
        for group in types:
            scored = [r for r in records if f"{group}.{_Y}" in r]
            items = sum(record[f"{group}.n"] for record in scored)
            found = [record[f"{group}.{_Y}"] for record in scored]
            row.append(with_interval(summarised(found, items, _Y), _Y) if found else "-")
        rows.append(row)
    return [*short_names(names).values(), "runs", *types], rows


def by_x(points: Mapping) -> tuple[list[str], list[list[str]]]:
    """Points by a number, with a row for each place on x and a column for each line."""
    names = short_names(list(points["points"][0]["series"]))
    found: dict[object, dict[str, str]] = {}
    lines: dict[str, None] = {}
    for point in points["points"]:
        line = ", ".join(
            f"{name} {x_text(value)}"
            for name, value in zip(names.values(), point["series"].values(), strict=True)
        )
        lines[line or points["y"]] = None
        cell = f"{with_interval(point, points['y'])}, n = {point['items']:,}"
        found.setdefault(point["x"], {})[line or points["y"]] = cell
    rows = [[x_text(x), *(found[x].get(line, "-") for line in lines)] for x in sorted(found)]
    return [PLACES.get(points["x"], points["x"]), *lines], rows


def own_seconds(record: Mapping) -> float:
    """What a run took, without the data set and coverage that it shares with others."""
    return sum(taken for name, taken in record["seconds"].items() if not _is_shared(name))


def time_taken(records: Sequence[Mapping]) -> str:
    """What the runs took, in words: computing, and from the first start to the last end."""
    shared = {(r["world"], n): s for r in records for n, s in r["seconds"].items() if _is_shared(n)}
    total = sum(shared.values()) + sum(map(own_seconds, records))
    words = f"{in_words(total)} of computing"
    if (span := _span(records)) is not None:
        words += f", {in_words(span)} from the first start to the last end"
    return words


def _is_shared(stage: str) -> bool:
    return stage in STAGES and STAGES[stage].shared


def _span(records: Iterable[Mapping]) -> float | None:
    """Seconds from the first start, as far as it can be told, to the last end of the runs."""
    try:
        ends = [datetime.fromisoformat(record["ended"]).timestamp() for record in records]
    except (KeyError, TypeError, ValueError):
        return None
    starts = (end - sum(r["seconds"].values()) for end, r in zip(ends, records, strict=True))
    return max(ends) - min(starts)


def in_words(seconds: float) -> str:
    """``42 seconds``, ``2.5 minutes``, ``3.1 hours``."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.0f} seconds"

"""A sweep's answer to a question: a score against what varies, means over seeds with intervals.

A point is the mean of the runs at one place of a figure, which differ in their seeds only (or it is
said in what else). Its interval (95 %) is Student's t over the runs; where there is one run, or all
agree, it is Wilson's over the items, if the score is a share of these.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage_principle.data import check_place, write_json
from coverage_principle.errors import InputError
from coverage_principle.experiments.naming import Names, k_cutoff_of, runs_where
from coverage_principle.experiments.results import SEEDS, Results, is_setting
from coverage_principle.experiments.settings import PlotSettings
from coverage_principle.paths import repository_root
from coverage_principle.reporting.sweep_text import PLACES, as_key, as_text, is_number, is_share
from coverage_principle.statistics import mean_of, rate_of, wilson_interval
from simpletransformers.seq2seq.run_folder import HISTORY, RunFolder
from simpletransformers.words import counted

#: The files of a figure: the last one holds its points.
ENDINGS = (".png", ".pdf", ".points.json")
#: Numbers of runs that seeds do not change, so that a line may go through their means.
_STEADY = ("parameters", "steps", "epochs")
#: How many runs a sentence names.
_NAMED = 10


@dataclass(frozen=True)
class _Place:
    """Where values belong: a panel, a line (a value for each name) and a place on x."""

    panel: object
    line: tuple
    x: object


@dataclass(frozen=True)
class _Seen:
    """A value of a run, where it is on x, and of how many items (None: it is no score)."""

    record: Mapping
    x: object
    value: float
    items: int | None


#: A function from a run to its values: group, x, value, items.
Reader = Callable[[Mapping], Iterator[tuple[str, object, float, int | None]]]


def sweep_points(results: Results, settings: PlotSettings) -> dict[str, object]:
    """The points of a figure, and everything that is said beside it, JSON-ready.

    ``points``: each with ``panel``, ``series`` (name to value), ``x``, ``mean``, ``low``, ``high``,
    ``interval`` (``t``, ``Wilson`` or None), the ``values`` of its ``runs``, and ``items``, of all
    runs together (None if ``y`` is no score); ``drawn``. ``notes``: sentences about intervals
    and about everything that is left out. ``InputError`` for what this sweep has not.
    """
    names = Names(results)
    chosen = runs_where(results, names, settings.where)
    done = [record for record in chosen if record["status"] == "done"]
    if not done:
        raise InputError(f"{counted(len(chosen), 'run')}, none of them done{_failures(chosen)}")
    wanted = settings.group
    if settings.x == "group" and wanted == PlotSettings.group:  # side by side: all types
        wanted = [group for group in results.groups if "/" not in group] or wanted
    y, groups = names.score(settings.y, wanted, settings.x)
    panels = names.setting(settings.panels, "panels") if settings.panels else None
    vary = [names.setting(one, "vary") for one in settings.vary if one != "none"]
    differing = [name for name in Results(done, results.file).varying() if name != panels]
    x = names.x(settings.x, [name for name in differing if name not in vary], done, groups)
    if x in (*vary, panels) or panels in vary:
        raise InputError(f"`x` {x}, `vary` {','.join(vary)} and `panels` {panels} name one twice")
    others = [name for name in differing if name not in SEEDS and name != x]
    if not settings.vary:
        given = [name for name in (panels, x) if name and name not in PLACES]
        vary = _needed(done, given, others)
    lines = [*vary, "group"] if len(groups) > 1 and x != "group" else vary
    apart = others if x in names.measured else []
    read = _reader(results, x, y, groups)
    found, lacking = _gathered(done, read, groups, panels, lines, apart)
    if not found:
        raise InputError(_no_values(x, y, groups, names, results))
    points = [_point(place, seen, lines, y) for place, seen in found.items()]
    points.sort(key=lambda p: [*map(_order, (p["panel"], *p["series"].values(), p["x"]))])
    least = settings.min_items
    many = [point["items"] is None or point["items"] >= least for point in points]
    for point, drawn in zip(points, many, strict=True):
        point["drawn"] = drawn or not any(many)
    drawn = {run for point in points for run in point["runs"]}
    own = {record.get("chance", 0.0) for record in done if record["run"] in drawn}
    # What is one of so many is the answer; a whole target may hold bridges too.
    chances = sorted(own) if y.rpartition(".")[2] == "answer_accuracy" else [0.0]
    notes = _intervals(points) + _chance(chances)
    notes += _left_out(results, chosen, lacking, _what(y, groups, x))
    notes += _averaged(found.values(), [n for n in others if n not in (*vary, panels, *apart)])
    failed = [record["label"] or record["run"] for record in chosen if record["status"] != "done"]
    waiting = list(results.unfinished.values())
    return {
        **{"sweep": results.name, "x": x, "y": y, "groups": groups},
        **{"vary": vary, "panels": panels, "where": list(settings.where)},
        "runs": {"done": len(done), "failed": failed, "unfinished": waiting},
        "chance": chances[0] if len(chances) == 1 else 0.0,
        "scattered": x in names.measured and x not in _STEADY,
        "notes": [*notes, *_few_items(points, least)],
        "points": points,
    }


def _gathered(
    done: Iterable[Mapping],
    read: Reader,
    groups: Sequence[str],
    panels: str | None,
    lines: Sequence[str],
    apart: Sequence[str],
) -> tuple[dict[_Place, list[_Seen]], list[str]]:
    """The values of runs by their places, and the labels of runs that have none of a group.

    With settings to hold ``apart``, where x is measured, runs that differ in these are not at one
    place, however near.
    """
    found: dict[_Place, list[_Seen]] = {}
    lacking = []
    for record in done:
        values = list(read(record))
        label, there = record["label"] or record["run"], {group for group, *_ in values}
        for group in groups or [""]:
            if group not in there:
                lacking.append(f"{label} ({group})" if groups[1:] else label)
        for group, x, value, items in values:
            line = tuple(group if n == "group" else as_key(record.get(n)) for n in lines)
            at = tuple(as_text(record.get(name)) for name in apart) if apart else as_key(x)
            panel = as_key(record.get(panels)) if panels else None
            found.setdefault(_Place(panel, line, at), []).append(_Seen(record, x, value, items))
    return found, lacking


def _reader(results: Results, x: str, y: str, groups: Sequence[str]) -> Reader:
    """What reads the values of a score, or of a number of runs, at their places on x."""

    def of_run(record: Mapping) -> Iterator:
        if not groups:
            if y in record and (x in record or is_setting(x)):
                yield "", record.get(x), record[y], None
            return
        for group in groups:
            for name, at in _parts(record, group, x):
                if f"{name}.{y}" in record and (at is not None or is_setting(x)):
                    yield group, at, record[f"{name}.{y}"], record[f"{name}.n"]

    def over_training(record: Mapping) -> Iterator:
        run = RunFolder(results.file.parent / "runs" / record["run"] / "model")
        for event in run.events():
            for group in groups:
                kind = "valid" if group.startswith("valid:") else "eval"
                scores = event.get(kind, {}).get(group.removeprefix("valid:"), {})
                if y in scores:
                    yield group, event["step"], scores[y], scores["n"]

    return over_training if x == "step" else of_run


def _parts(record: Mapping, group: str, x: str) -> Iterable[tuple[str, object]]:
    """The groups of a run that belong to ``group``, and where each is on x."""
    if x == "k_cutoff":
        names = (name.removesuffix(".n") for name in record if name.endswith(".n"))
        return [(name, k) for name in names if (k := k_cutoff_of(name, group)) is not None]
    return [(group, group if x == "group" else record.get(x))]


def _needed(done: Sequence[Mapping], given: Sequence[str], others: Iterable[str]) -> list[str]:
    """Those settings that tell runs apart which the ones before them do not."""
    kept = list(given)
    for name in others:
        values: dict[tuple, set] = {}
        for record in done:
            key = tuple(as_text(record.get(one)) for one in kept)
            values.setdefault(key, set()).add(as_text(record.get(name)))
        if any(len(found) > 1 for found in values.values()):
            kept.append(name)
    return kept[len(given) :]


def summarised(values: Sequence[float], items: int | None, y: str) -> dict[str, object]:
    """Mean and 95 % interval of the values of runs, and by which method.

    Student's t over runs. Of one run, or of several that agree wholly, which t would call certain:
    Wilson's over the items of one run (``items`` are those of all), if ``y`` is a share of these,
    else none. Runs may share their test items, so that these count once.
    """
    mean = (rate_of if is_share(y) else mean_of)(values)
    found = {"mean": mean.mean, "low": mean.low, "high": mean.high, "interval": "t"}
    if len(set(values)) > 1:
        return found
    if not (is_share(y) and items):
        return found | {"low": None, "high": None, "interval": None}
    own = items / len(values)
    low, high = wilson_interval(mean.mean * own, own)
    return found | {"low": low, "high": high, "interval": "Wilson"}


def _point(place: _Place, seen: Sequence[_Seen], lines: Sequence[str], y: str) -> dict[str, object]:
    values, items = [one.value for one in seen], [one.items for one in seen]
    total = None if items[0] is None else sum(items)
    x = [one.x for one in seen]
    at = sum(x) / len(x) if len({as_key(one) for one in x}) > 1 else as_key(x[0])
    point = {"panel": place.panel, "series": dict(zip(lines, place.line, strict=True)), "x": at}
    point |= summarised(values, total, y)
    return point | {"runs": [one.record["run"] for one in seen], "values": values, "items": total}


def _order(value: object) -> tuple:
    """Numbers before words, each in their order."""
    return (0, value, "") if is_number(value) else (1, 0, str(value))


# ---------------------------------------------------------------------------------- what is said


def _intervals(points: Sequence[Mapping]) -> list[str]:
    """How sure the means are, and of how many runs."""
    methods = {point["interval"] for point in points}
    counts = sorted({len(point["runs"]) for point in points})
    runs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    mean = f"Each point is {f'the mean of {runs} runs' if counts[-1] > 1 else 'one run'}"
    if "t" in methods and "Wilson" in methods:
        said = "Student's t over runs, or Wilson over a run's items where there is one or all agree"
    elif "t" in methods:
        said = "Student's t over runs"
    elif "Wilson" in methods:
        said = "Wilson over the items of a run" + (", as all agree" if counts[0] > 1 else "")
    else:
        return [f"{mean}; no intervals, for which runs must differ"]
    without = "" if None not in methods else "; none where there is one run or all agree"
    return [f"{mean}; 95 % intervals: {said}{without}"]


def _left_out(
    results: Results, chosen: Sequence[Mapping], lacking: Sequence[str], what: str
) -> list[str]:
    """Runs that are not in the figure."""
    notes, waiting = [], results.unfinished
    if waiting:
        total = counted(len(results) + len(waiting), "run")
        notes.append(
            f"{len(waiting)} of {total} not finished, left out: {_listed(waiting.values())}"
        )
    ended = counted(len(chosen), "ended run")
    if failed := [record for record in chosen if record["status"] != "done"]:
        names = _listed(f"{r['label'] or r['run']} (at {r['stage']})" for r in failed)
        notes.append(f"{len(failed)} of {ended} failed, left out: {names}")
    if lacking:
        notes.append(f"{len(lacking)} of {ended} without {what}, left out: {_listed(lacking)}")
    return notes


def _chance(chances: Sequence[float]) -> list[str]:
    """The accuracy of a guess; 0 where it is not known."""
    if len(chances) > 1:
        words = ", ".join(f"{chance:.3g}" if chance else "unknown" for chance in chances)
        return [f"Chance differs between runs ({words}) and is not drawn"]
    return [f"Chance is {chances[0]:.3g}"] if chances[0] else []


def _averaged(places: Iterable[Sequence[_Seen]], others: Sequence[str]) -> list[str]:
    """Settings that differ within a point, seeds aside."""
    found: dict[str, set[str]] = {}
    for seen, name in itertools.product(places, others):
        values = {as_text(one.record.get(name)) for one in seen}
        if len(values) > 1:
            found.setdefault(name, set()).update(values)
    return [
        f"Points average over {name} ({', '.join(sorted(values))}) as over seeds; `vary`, `panels` "
        "or `where` tell these runs apart"
        for name, values in found.items()
    ]


def _few_items(points: Sequence[Mapping], least: int) -> list[str]:
    """What became of points of few items."""
    items = [point["items"] for point in points]
    if None not in items and max(items) < least:
        return [f"No point has {least} items: all are drawn"]
    hidden = [point for point in points if not point["drawn"]]
    places = ", ".join(map(as_text, sorted({point["x"] for point in hidden}, key=_order)))
    words = (
        f"{counted(len(hidden), 'point')} of fewer than {least} items not drawn: at x = {places}"
    )
    return [words] if hidden else []


def _failures(chosen: Sequence[Mapping]) -> str:
    errors = {f"{record['stage']}: {record['error']}" for record in chosen}
    return f" ({'; '.join(sorted(errors)[:3])})"


def _no_values(x: str, y: str, groups: Sequence[str], names: Names, results: Results) -> str:
    if x == "step":
        place = results.file.parent / "runs"
        return f"`x` step needs the evaluations of runs, {place}/*/model/{HISTORY}; there are none"
    if x == "k_cutoff":
        advice = 'a sweep records it with "coverage": {"k_sweep": true}'
        return f"no run has {_what(y, groups, x)}; {advice}; {names.there()}"
    return f"no run has {_what(y, groups, x)}; {names.there()}"


def _what(y: str, groups: Sequence[str], x: str) -> str:
    of_groups = f" of {' or '.join(groups)}" if groups else ""
    place = " by k-cutoff" if x == "k_cutoff" else ""
    if x not in PLACES and not is_setting(x):
        place = f" and {x}"
    return f"{y}{of_groups}{place}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def place_of(content: Mapping, results: Results, given: Path, output: str | None) -> Path:
    """Where the files of a figure go, without their endings.

    ``output`` if there is one; else beside the results, where ``given`` is the sweep's folder, or
    in ``results/sweeps/`` of the repository where it is a file, which may be anybody's.
    """
    more = [content["panels"], *content["where"]]
    if content["x"] != "group" and content["groups"] != list(PlotSettings.group):
        more += content["groups"]
    name = "_".join([f"{content['y']}_by_{content['x']}", *filter(None, more)])
    name = re.sub(r"[^\w.+-]", "_", name)
    if output is None:
        own = repository_root() / "results" / "sweeps" / results.name
        stem = (own if given.is_file() else results.file.parent) / name
    elif Path(output).is_dir():
        stem = Path(output) / name
    else:
        stem = Path(output)
        stem = stem.with_suffix("") if stem.suffix in (".png", ".pdf", ".json") else stem
    for ending in ENDINGS:
        check_place(stem.with_name(stem.name + ending), file=True)
    return stem


def write_points(content: Mapping, settings: PlotSettings, stem: Path) -> list[Path]:
    """Draw the points and write them, to ``STEM`` with each of ``ENDINGS``; the paths."""
    from coverage_principle.reporting.sweep_figures import draw_points

    written = draw_points(
        content, stem, kind=settings.kind, log_x=settings.log_x, notes=content["notes"]
    )
    numbers = stem.with_name(stem.name + ENDINGS[-1])
    write_json(numbers, content)
    return [*written, numbers]

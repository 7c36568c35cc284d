"""Statistics against scipy and closed forms; findings never claim what numbers do not show."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from coverage_principle.coverage import sweep_lines
from coverage_principle.experiments import results
from coverage_principle.reporting import findings, html, plots, scores, training_figures
from coverage_principle.reporting.style import new_figure, save_figure
from coverage_principle.statistics import power_law_of_sizes, trend_z, wilson_interval


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written, as they are written."""
    figures = []

    def keep(figure, path, **options):
        figures.append(figure)
        return save_figure(figure, path, **options)

    monkeypatch.setattr(training_figures, "save_figure", keep)
    return figures


@pytest.mark.parametrize(("good", "n"), [(0, 5), (3, 10), (87, 90), (500, 1000)])
def test_wilson_interval_agrees_with_scipy(good, n):
    expected = stats.binomtest(good, n).proportion_ci(method="wilson")
    assert wilson_interval(good, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_trend_statistic_is_the_correlation_form():
    """z equals sqrt(N) times the correlation of level and correctness over the single items."""
    rng = np.random.default_rng(0)
    levels, totals = [1, 2, 4, 7], [30, 50, 20, 40]
    successes = [int(rng.integers(0, n + 1)) for n in totals]
    level = np.repeat(levels, totals)
    correct = np.concatenate(
        [np.arange(n) < good for n, good in zip(totals, successes, strict=True)]
    )
    expected = np.corrcoef(level, correct)[0, 1] * math.sqrt(sum(totals))
    assert trend_z(levels, successes, totals) == pytest.approx(expected)


def test_trend_of_equal_groups_is_none():
    assert trend_z([1, 2], [5, 5], [10, 10]) == pytest.approx(0)
    assert trend_z([1, 2], [10, 10], [10, 10]) == 0
    assert trend_z([3], [2], [10]) == 0


def group(accuracy, n=500):
    return {"n": n, "answer_accuracy": accuracy}


def test_generalisation_is_only_claimed_where_intervals_are_apart():
    others = {f"type_{i}": group(0.05) for i in (1, 2, 3)}
    shown = findings.generalisation(100, {"type_0": group(0.9), **others}, chance=0.05)
    assert "clearly above every" in shown
    for accuracy, n in ((0.06, 500), (1 / 3, 3)):
        text = findings.generalisation(100, {"type_0": group(accuracy, n), **others}, chance=0.05)
        assert "does not separate" in text
        assert "clearly above every" not in text


def test_k_trend_is_only_claimed_where_it_is_clear():
    climbing = {k: (0.1 * k, 200) for k in range(1, 8)}
    assert "climbs" in findings.accuracy_against_k(100, climbing)
    falling = {k: (0.8 - 0.1 * k, 200) for k in range(1, 8)}
    assert "FALLS" in findings.accuracy_against_k(100, falling)
    for flat in ({k: (0.5, 200) for k in range(5)}, {1: (0.0, 3), 2: (1.0, 2)}):
        assert "no clear trend" in findings.accuracy_against_k(100, flat)
    assert "too few" in findings.accuracy_against_k(100, {3: (0.5, 10), 4: (0.0, 0)})


def test_quoted_ends_hold_a_sixth_of_the_items():
    table = {1: (1.0, 1), 2: (0.0, 99), 3: (0.5, 400), 4: (0.6, 99), 5: (0.0, 1)}
    text = findings.accuracy_against_k(100, table)
    ends = re.search(r"from (\S+) over items of k-cutoff (\S+) to (\S+) over .* (\S+) \(", text)
    assert ends.groups() == ("0.01", "1-2", "0.59", "4-5")


def test_k_sweep_sentence():
    sweep = {"1": [10, 100.0], "2": [6, 60.0], "3": [1, 10.0]}
    assert "up to k = 2" in findings.k_sweep(10, sweep)
    assert "at least half" not in findings.k_sweep(10, {"1": [2, 20.0], "2": [0, 0.0]})


def test_pages_are_self_contained_and_escaped(tmp_path):
    drawing, axis = new_figure(2, 2)
    axis.plot([0, 1])
    png, pdf = save_figure(drawing, tmp_path / "f.png")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in pdf.read_bytes()  # a TrueType font: its text can be looked for
    content = html.page(
        "a < b", "lead", [html.figure(png, ["<t_1> & more."]), html.table(["k"], [["<t_2>"]])]
    )
    assert "<t_1>" not in content
    assert "<t_2>" not in content
    assert "&lt;t_1&gt; &amp; more." in content
    assert not re.search(r'(src|href)="(?!data:)', content)


def test_every_type_has_a_curve_that_can_be_told_from_the_others(drawn, tmp_path):
    types = [f"type_{number}" for number in range(33)]  # as many as a 5-hop task has
    history = [{"step": s, "eval": {name: group(s / 20) for name in types}} for s in (10, 20)]
    training_figures.type_curves({"run": history}, tmp_path / "f", chance=0.1, types=types)
    curves = {c.get_label(): c for c in drawn[0].axes[0].get_lines()}
    assert set(types) <= set(curves)
    # A dash pattern and a colour: as drawn, for those that have no name of their own.
    looks = {(c.get_color(), str(c._unscaled_dash_pattern)) for c in map(curves.get, types)}
    assert len(looks) == 33


@pytest.mark.parametrize("name", ["a$b$c", "a_b", "$\\frac$", "100%"])
def test_a_name_is_written_in_a_figure_as_it_is(drawn, tmp_path, name):
    history = [{"step": s, "eval": {name: group(0.5)}} for s in (10, 20)]
    files = training_figures.type_curves({name: history}, tmp_path / "f", chance=0.1, types=[name])
    assert all(file.stat().st_size > 1000 for file in files)
    axis = drawn[0].axes[0]
    for text in (axis.title, axis.get_legend().get_texts()[0]):
        assert text.get_text() == name and not ("$" in name and text.get_parse_math())


@pytest.mark.parametrize(
    ("about", "chance"),
    [
        ({"name": "comparison.60.8.10.phi-12.inf", "answers": 3}, 1 / 3),
        ({"name": "rows", "answers": 7}, 1 / 7),
        ({"name": "twohop.20.1500.diff-f12.inf"}, 1 / 20),  # of an earlier version
        ({"name": "rows"}, 0),
        ({}, 0),
    ],
)
def test_chance_is_that_of_the_answers(about, chance):
    assert results.chance_of(about) == chance


@pytest.mark.parametrize(("steps", "marker"), [((10,), "o"), ((10, 20), "")])
def test_a_single_evaluation_is_seen(drawn, tmp_path, steps, marker):
    """A line through one point has no length: the curve of a run evaluated once is a mark."""
    scores = {"type_0": {"answer_accuracy": 0.5, "n": 30}}
    scores["type_0/k_cutoff=2"] = scores["type_0"]
    history = {"run": [{"step": step, "eval": scores} for step in steps]}
    training_figures.type_curves(history, tmp_path / "a.png", chance=0.1, types=["type_0"])
    training_figures.k_cutoff_curves(history, tmp_path / "b.png", chance=0.1)
    for figure in drawn:
        curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(steps)]
        assert marker in [curve.get_marker() for curve in curves if curve.get_linestyle() == "-"]


# ---------------------------------------------------- chance, n, and nothing left out in silence


def words_below(figure) -> str:
    """The notes below a figure."""
    return figure.legends[-1].get_title().get_text().replace("\n", " ")


def test_k_cutoffs_without_a_curve_are_named(drawn, tmp_path):
    """Also: an evaluation that lacks a k-cutoff has no point, and not an accuracy of 0."""
    sizes = {2: 40, 3: 25, 11: 11, 12: 3}
    whole = {f"type_0/k_cutoff={k}": {"answer_accuracy": 0.5, "n": n} for k, n in sizes.items()}
    first = {name: found for name, found in whole.items() if not name.endswith("=3")}
    history = [{"step": 1, "eval": first}, {"step": 2, "eval": whole}]
    training_figures.k_cutoff_curves({"run": history}, tmp_path / "a", chance=0.125)
    said = words_below(drawn[0])
    assert "items: k = 2: 40, k = 3: 25" in said
    assert "no curve, fewer than 20 items: k = 11: 11, k = 12: 3" in said
    assert drawn[0].axes[-1].get_legend().get_texts()[-1].get_text() == "chance 0.125"
    curves = [c.get_ydata() for c in drawn[0].axes[0].get_lines() if len(c.get_xdata()) == 2]
    assert [0.5, 0.5] in [list(y) for y in curves]
    assert any(math.isnan(y[0]) and y[1] == 0.5 for y in curves)


def test_curves_of_types_say_how_many_items_they_are_of(drawn, tmp_path):
    """A curve of 11 items has a wide band; a type of the first panel alone is in the legend."""
    few = {
        "type_0": {"answer_accuracy": 0.5, "n": 900},
        "type_3": {"answer_accuracy": 0.5, "n": 11},
    }
    runs = {
        "N = 1": [{"step": step, "eval": few} for step in (1, 2)],
        "N = 2": [{"step": step, "eval": {"type_0": few["type_0"]}} for step in (1, 2)],
    }
    options = {"chance": 0.1, "types": ["type_0", "type_3"]}
    training_figures.type_curves(runs, tmp_path / "a", **options)
    said = words_below(drawn[0])
    assert "items, N = 1: type_0 900, type_3 11 items, N = 2: type_0 900" in said
    legend = drawn[0].axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [*("type_0", "type_3", "chance 0.1")]
    bands = [band.get_datalim(drawn[0].axes[0].transData) for band in drawn[0].axes[0].collections]
    low, high = stats.binomtest(6, 11).proportion_ci(method="wilson")
    assert bands[1].height == pytest.approx(high - low, abs=0.02) and bands[0].height < 0.07


def test_scores_have_intervals_and_the_level_of_guessing():
    groups = {"type_0": {"n": 100, "loss": 1.5, "answer_accuracy": 0.5, "exact_match": 0.25}}
    groups["type_1"] = {"n": 0, "loss": 0.0, "answer_accuracy": 0.0, "exact_match": 0.0}
    header, rows = scores.score_rows(groups)
    assert header == ["group", "n", "loss", "answer_accuracy", "95 % interval", "exact_match"]
    assert rows[0] == ["type_0", "100", "1.5000", "0.5000", "0.40..0.60", "0.2500"]
    assert rows[1][4] == "-"
    assert scores.score_note(8).startswith("chance: 0.1250, one of 8 answers; ")
    assert "chance" not in scores.score_note(None)


def test_rows_that_a_sweep_table_leaves_out_are_named():
    counts = [9, 9, 9, 4, 4, 0, 0, 0]
    sweep = {str(k): [count, 100 * count / 9] for k, count in enumerate(counts, start=1)}
    graph = SimpleNamespace(fragment=lambda _: ("x1",), functions=[SimpleNamespace(output="t")])
    coverage = SimpleNamespace(dataset=SimpleNamespace(graph=graph), sweep=lambda: sweep)
    lines = sweep_lines(coverage, {"slot_sets": [], "by_chance": None})
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "9"], ["4", "4"], ["6", "0"]]
    assert lines[4:] == [
        "k = 2 and 3: as k = 1",
        "k = 5: as k = 4",
        "k = 7 and 8: nothing is covered",
    ]


def test_amounts_that_are_not_reached_are_named():
    found = {"k = 1": {20: {"1": 5, "2": 6}}, "k = 2": {20: {"1": 9, "2": None}, 30: {"1": None}}}
    assert plots.not_reached(found) == ["k = 2 not reached: 1 of 2 at |X| = 20, 1 of 1 at |X| = 30"]


def test_the_line_of_a_power_law_ends_with_the_sizes_that_were_fitted():
    amounts = {10: [100, 100], 20: [400, 400], 30: [900, 900], 40: [1500, None]}
    by_size = {x: dict(zip("12", own, strict=True)) for x, own in amounts.items()}
    _, axis = new_figure(4, 3)
    plots.power_law(axis, 0, "k = 1", by_size, power_law_of_sizes(amounts))
    line, points = axis.lines
    assert line.get_xdata().tolist() == [10, 30]
    assert line.get_ydata().tolist() == pytest.approx([100, 900])
    assert (40, 1500) in zip(*points.get_data(), strict=True)  # a point all the same
    plots.power_law(axis, 1, "k = 2", {10: {"1": None}}, None)
    assert len(axis.lines) == 2


@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("count", [5, 9])
def test_a_long_legend_leaves_panels_their_width(drawn, tmp_path, count, panels):
    """And chance stands in it, not on the curves."""
    types = [f"type_{i}" for i in range(count)]
    scores = dict.fromkeys(types, {"n": 100, "answer_accuracy": 0.5})
    runs = {f"run {i}": [{"step": s, "eval": scores} for s in (0, 9)] for i in range(panels)}
    names = {name: f"{name} (zone and classe unseen)" for name in types}
    options = {"chance": 0.02, "types": types, "names": names}
    training_figures.type_curves(runs, tmp_path / "a", **options)
    (figure,) = drawn
    figure.canvas.draw()
    width = figure.get_size_inches()[0]
    assert min(axis.get_position().width * width for axis in figure.axes) > 2.2
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert legend == [*names.values(), "chance 0.02"]
    assert not any(axis.texts for axis in figure.axes)

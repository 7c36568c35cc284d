"""What tables and heat maps of the circuit analyses mark, by cells that were worked out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from coverage_principle import circuits
from coverage_principle.circuits.similarity import permuted
from coverage_principle.reporting import circuit_figures, grids
from coverage_principle.reporting.circuit_figures import heat_maps, iicg_heatmap
from coverage_principle.reporting.grids import Grid, grid_lines, key_lines, table_lines
from coverage_principle.reporting.style import save_figure
from coverage_principle.statistics import median_interval
from coverage_principle.tasks import TASKS

LENS = circuits.LENS_READOUTS["reciprocal_rank"].shown
MOVED = circuits.METRICS["rank"].shown


# ------------------------------------------------------------------------------ what is nothing


def test_chance_of_each_readout_is_that_of_a_random_order():
    """Counted over all orders of five tokens, the value (and t') being fixed ones of them."""
    orders = list(permutations(range(5)))
    ranks = np.array([order.index(0) for order in orders])
    others = np.array([order.index(1) for order in orders])
    cell = {"tokens": 5}
    shown = {name: entry.shown for name, entry in circuits.LENS_READOUTS.items()}
    assert shown["mean_rank"].nothing_at(cell) == pytest.approx(ranks.mean())
    assert shown["median_rank"].nothing_at(cell) == np.median(ranks)
    assert shown["first"].nothing_at(cell) == pytest.approx((ranks == 0).mean())
    assert shown["reciprocal_rank"].nothing_at(cell) == pytest.approx((1 / (1 + ranks)).mean())
    assert shown["prob"].nothing_at(cell) == pytest.approx(1 / 5)
    above = (others <= 5) & (others < ranks)
    assert MOVED.nothing_at(cell) == pytest.approx(100 * above.mean())
    assert circuits.RANK_CHANGED.nothing_at(cell) == pytest.approx(100 * (ranks != 2).mean())
    # 8 tokens: t' must be among the first six, and 6 + 5 + ... of 7 others can be behind it.
    assert MOVED.nothing_at({"tokens": 8}) == pytest.approx(100 * (7 + 6 + 5 + 4 + 3 + 2) / 56)
    assert MOVED.nothing_at({}) is None  # of an earlier version: not known


def gap(value, low, high, *, n=25, dealt=None, **more):
    """A cell of a clustering result."""
    cell = {"layer": 1, "position": 0, "slot": "x1", "n_vectors": n, "iicg": value, **more}
    cell["iicg_interval"] = None if low is None else [low, high]
    return cell | ({"iicg_permuted": {"interval": dealt}} if dealt else {})


@pytest.mark.parametrize(
    ("cell", "weak"),
    [
        (gap(0.3, -0.1, 0.6), True),  # the interval holds 0
        (gap(0.3, 0.1, 0.6), False),
        (gap(0.3, 0.0, 0.6), True),
        (gap(-0.3, -0.6, -0.1), True),  # the other side is no clustering either
        (gap(0.3, 0.1, 0.6, dealt=[-0.2, 0.25]), False),
        (gap(0.3, 0.1, 0.6, dealt=[-0.4, 0.35]), True),  # random groups give as much
        (gap(0.3, None, None), True),  # nothing tells how sure it is
        (gap(0.3, 0.1, 0.6, n=9), True),  # of too few
        (gap(None, None, None), False),  # there is nothing
    ],
)
def test_a_gap_is_a_finding_if_its_interval_is_above_0(cell, weak):
    assert circuits.IICG.is_weak(cell) is weak


def test_rates_have_wilsons_interval_and_ranks_are_better_below_chance():
    cell = {"tokens": 8, "all": {"n": 14, "both": {"count": 14, "rate": 1.0, "interval": [1, 1]}}}
    expected = stats.binomtest(14, 14).proportion_ci(method="wilson")
    assert MOVED.interval(cell, "all") == pytest.approx(
        (100 * expected.low, 100 * expected.high), abs=0.01
    )
    assert not MOVED.is_weak(cell, "all")  # 78 % against a chance of 48 %
    cell["all"] = {"n": 3, "both": {"count": 3, "rate": 1.0, "interval": [1, 1]}}
    assert MOVED.is_weak(cell, "all")
    rank = circuits.LENS_READOUTS["mean_rank"].shown
    cell = {"tokens": 9, "n": 30, "mean_rank": 3.0}  # chance is 4
    assert not rank.is_weak(cell | {"mean_rank_interval": [2.5, 3.5]})
    assert rank.is_weak(cell | {"mean_rank_interval": [2.5, 4.1]})
    assert rank.is_weak(cell | {"mean_rank": 6.0, "mean_rank_interval": [5.5, 6.5]})


def test_the_interval_of_a_median_is_two_order_statistics():
    # Of six values none is below the median with 1/64, and all are: 1 - 2/64 = 97 %.
    assert median_interval([6, 1, 5, 2, 4, 3]) == (1, 6)
    assert median_interval([1, 2, 3, 4, 5]) is None and median_interval([]) is None
    low, high = median_interval(range(1, 101))
    assert stats.binom.cdf(low - 1, 100, 0.5) < 0.025 <= stats.binom.cdf(low, 100, 0.5)
    assert high == 101 - low


def test_random_labelings_give_what_measuring_them_gives():
    """The short way against the whole measurement of the same labels dealt out anew."""
    rng = np.random.default_rng(3)
    vectors, groups = rng.standard_normal((40, 6)), rng.integers(0, 7, 40)
    vectors[5] = 0  # its cosine with everything is 0
    found = permuted(vectors, groups, np.random.default_rng(1), 4)
    again = np.random.default_rng(1)
    for draw in range(4):
        order = again.permutation(40)
        whole = circuits.measure_similarity(vectors[order], np.sort(groups))
        for name in ("iicg", "iicg_balanced"):
            assert found[name][draw] == pytest.approx(whole[name], abs=1e-6)
    alone = permuted(vectors, np.arange(40), again, 2)
    assert np.isnan(alone["iicg"]).all() and np.isnan(alone["iicg_balanced"]).all()


# ------------------------------------------------------------------------ what cannot be known yet


@pytest.mark.parametrize(
    ("task", "names", "keys", "early"),
    [
        ("twohop", "x1 x2 x3", "b", "x1"),
        ("twohop", "x1 x2 x3", "t", "x1 x2"),
        ("twohop", "x1 x2 x3", "b x2", "x1"),
        ("twohop", "x1 x2 x3 b t", "t", "x1 x2"),  # the target holds b, then t
        ("threehop", "x1 x2 x3 x4", "b1", "x1"),
        ("threehop", "x1 x2 x3 x4", "b2", "x1 x2"),
        ("threehop", "x1 x2 x3 x4", "x3 b2", "x1 x2"),
        ("threehop", "x1 x2 x3 x4 b1 b2 t", "t", "x1 x2 x3"),
        ("parallel2hop", "x1 x2 x3 x4", "b2", "x1 x2 x3"),
        ("nontree", "x1 x2 x3", "x2", "x1"),
    ],
)
def test_a_value_is_known_once_the_tokens_it_depends_on_are_read(task, names, keys, early):
    names = names.split()
    places = [TASKS[task], names, keys.split()]
    unknown = [n for i, n in enumerate(names) if not circuits.can_be_known(*places, 1, i)]
    assert unknown == early.split()


def test_an_embedding_knows_its_own_token_only():
    names = ("x1", "x2", "x3", "b", "t")
    known = [circuits.can_be_known(TASKS["twohop"], names, ["b"], 0, p) for p in range(5)]
    assert known == [False, False, False, True, False]


# ------------------------------------------------------------------------------ tables and figures


def lens(position, value, low, high, *, known=True, layer=1, n=40):
    cell = {"layer": layer, "position": position, "slot": f"x{position + 1}", "n": n}
    more = {"reciprocal_rank": value, "interval": [low, high], "can_be_known": known}
    return cell | {"tokens": 20} | more


def test_a_table_says_n_chance_intervals_and_what_is_no_finding():
    cells = [
        lens(0, 0.19, 0.15, 0.23, known=False),
        lens(1, 0.8, 0.7, 0.9),
        lens(1, 0.17, 0.14, 0.21, layer=2),
    ]
    grid = Grid.of(cells, LENS)
    assert grid_lines("id_test: mean reciprocal rank of b", grid) == [
        "id_test: mean reciprocal rank of b, n = 40, chance 0.180",
        "  layer               x1             x2",
        "  2                    -         (0.170)",
        "                           0.140..0.210",
        "  1               (0.190)~        0.800",
        "            0.150..0.230   0.700..0.900",
    ]
    assert key_lines([grid]) == [
        "low..high: 95 % interval, percentile bootstrap over items",
        "chance: 0.180 among 20 tokens, if nothing tells which of them the value is",
        "(  ): no finding: not clearly above chance (0.180)",
        "~: the value cannot be known here yet: it depends on tokens that come later",
    ]


def test_a_table_names_how_many_samples_each_position_has():
    """A filter leaves three samples at x2: their number must not pass for a finding."""
    share = circuits.METRICS["prob"].shown
    cells = [
        {"layer": 1, "position": place, "slot": slot, "published": {"n": n, share.key: found}}
        for place, (slot, n, found) in enumerate(
            [
                ("x1", 30, {"mean": 0.5, "interval": [0.4, 0.6]}),
                ("x2", 3, {"mean": -0.882, "interval": [-0.9, -0.8]}),
                ("x3", 0, {"mean": None, "interval": None}),
            ]
        )
    ]
    lines = grid_lines("p(t')", grid := Grid.of(cells, share, "published"))
    assert lines[0] == "p(t'), n by position"
    assert [line.split() for line in lines[1:]] == [
        ["layer", "x1", "x2", "x3"],
        ["1", "0.500", "(-0.882)", "-"],
        ["0.400..0.600", "-0.900..-0.800"],
        ["n", "30", "3", "0"],
    ]
    key = key_lines([grid])
    assert "(  ): no finding: not clearly above 0, or of fewer than 10 samples" in key
    assert key[-1] == "-: there is nothing to measure it by"


@pytest.mark.parametrize(("positions", "lines"), [(6, 18), (11, 10), (14, 22)])
def test_a_table_of_8_layers_fits_a_screen(positions, lines):
    """With shorter numbers, then without intervals, and only then in two parts."""
    cells = [
        lens(place, 0.5, 0.4, 0.6, layer=layer, known=False)
        for place in range(positions)
        for layer in range(1, 9)
    ]
    table = grid_lines("t", grid := Grid.of(cells, LENS))
    assert max(map(len, table)) <= 100 and len(table) <= max(lines, 19)
    written = " ".join(table)
    assert all(f"x{place + 1} " in written + " " for place in range(positions))
    said = " ".join(key_lines([grid]))
    assert ("0.40..0.60" in written) is (positions == 6)
    assert ("do not fit; the file has them" in said) is (positions > 6)


def test_tables_that_are_not_printed_are_named():
    tables = {f"split {i}": Grid.of([lens(0, 0.5, 0.4, 0.6)], LENS) for i in range(14)}
    said = table_lines(tables, ["ood"])
    assert "without items, not shown: ood" in said
    assert said[-1] == "not shown, in the file: 2 more tables, from 'split 12' on"
    assert not [line for line in said if line.startswith("split 12")]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written."""
    figures = []

    def keep(figure, path):
        figures.append(figure)
        return save_figure(figure, path, formats=("png",))

    monkeypatch.setattr(circuit_figures, "save_figure", keep)
    return figures


def words_of(figure) -> str:
    """The text of a figure's key."""
    (key,) = figure.legends
    texts = [key.get_title().get_text(), *(text.get_text() for text in key.get_texts())]
    return " ".join(" ".join(texts).split())


def test_a_heat_map_colours_findings_only(drawn, tmp_path):
    """Today's brightest cells: x1, n = 25, an interval across 0. They are grey and hatched."""
    cells = [
        gap(0.9, -0.2, 1.0, can_be_known=False),
        gap(0.4, 0.3, 0.5) | {"position": 1, "slot": "x2"},
        gap(0.1, -0.1, 0.2) | {"position": 2, "slot": "x3"},
    ]
    about = {"id_test": {"vectors": 25, "groups": 5}, "ood": {"vectors": 0, "groups": 0}}
    metrics = {"grouped_by": {"value": "b"}, "splits": about}
    metrics["cells"] = [cell | {"split": "id_test"} for cell in cells]
    iicg_heatmap(metrics, tmp_path / "iicg")
    axis, bar = drawn[0].axes[0], drawn[0].axes[1]
    colours = {p.get_facecolor()[:3] for p in axis.patches if p.get_facecolor()[3]}
    grey = next(p for p in axis.patches if p.get_x() == -0.5).get_facecolor()
    assert grey[0] == grey[1] == grey[2] and len(colours) == 2
    assert [patch.get_x() for patch in axis.patches if patch.get_hatch()] == [-0.5]
    assert bar.get_ylim() == pytest.approx((0, 0.4))  # 0.9 does not stretch the scale
    said = words_of(drawn[0])
    assert "without items, not drawn: ood" in said
    assert "not clearly above 0 and what random groups give (95 % interval, perc" in said
    assert "cannot be known here yet" in said


def test_a_heat_map_without_marks_has_no_key(drawn, tmp_path):
    old = {"layer": 1, "position": 0, "slot": "x1", "n_vectors": 50, "iicg": 0.5}
    heat_maps({"new": [old | {"iicg_interval": [0.4, 0.6]}]}, tmp_path / "a", circuits.IICG)
    assert not drawn[0].legends


def test_what_the_published_filter_leaves_out_is_named():
    above, moved = {"x1": 58, "x2": 58}, {"x1": 1, "x2": 3}
    filtered = {"above": above, "moved": moved, "none": {"x1": 0, "x2": 0}}
    splits = {"id_test": {"filtered_out": filtered, "samples": {"n": 104}}, "ood": {}}
    assert grids.left_out_lines(splits) == [
        "id_test: 58 of 104 samples left out: above",
        "id_test: 1 to 3, by position, of 104 samples left out: moved",
    ]


def test_what_no_patch_can_change_is_no_finding():
    """An interchange at layer 2 of 2 reaches the answer through the last position alone."""
    rate = {"rate": 0.0, "interval": [0.0, 0.02]}
    cells = [
        {"layer": layer, "position": place, "slot": f"x{place + 1}", "tokens": 20}
        | {"unfiltered": {"n": 190, "rank_changed": rate}}
        for layer in (1, 2)
        for place in (0, 1)
    ]
    marked = grids.Grid.of(grids.with_fixed(cells, 2), circuits.RANK_CHANGED, "unfiltered")
    weak = {place for place in marked.cells if marked.is_weak(*place)}
    assert weak == {((2, False), (0, "x1"))}


def test_pairs_of_splits_say_what_both_hold():
    own, others = "type_0 (every call seen)", ["type_1 (both unseen)", "type_2 (f1 unseen)"]
    pair = {"explained": [own], "sources_explained": others}
    splits = {"id_test": {"explained": [own]}, "id_test-ood": pair, "none": {"explained": []}}
    assert grids.split_lines(splits) == [
        f"id_test: {own}",
        f"id_test: {own}; takes from ood: {', '.join(others)}",
        "none: no items",
    ]

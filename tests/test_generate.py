"""Generated worlds against a brute-force evaluator written apart from the engine."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from coverage_principle.data import (
    FUNCTION_FAMILIES,
    Codec,
    FormatSettings,
    WorldSettings,
    dataset_files,
    evaluate,
    generate_world,
)
from coverage_principle.data.tables import draw_values, fold
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS, TRAIN_INFERRED, Function, TaskGraph
from tests.oracles.task_bruteforce import all_items, answer_of, calls_of, type_of, used_calls

TINY = WorldSettings(
    num_tokens=4, max_train_data_num=9, default_seen_ratio=0.7, test_size_for_type=5, seed=3
)


def text(content) -> str:
    return content if isinstance(content, str) else b"".join(content).decode()


def random_settings(graph, rng):
    """Settings of a small world, at most 2^10 compositions; with all of its domain now and then."""
    most = int(1024 ** (1 / len(graph.inputs)))
    settings = WorldSettings(
        num_tokens=int(rng.integers(2, min(most, 6) + 1)),
        max_train_data_num=1,
        default_seen_ratio=float(rng.choice([1.0, rng.uniform(0.4, 1.0)])),
        test_size_for_type=int(rng.integers(1, 40)),
        validation_size=4,
        seed=int(rng.integers(10**9)),
        function_family=str(rng.choice(list(FUNCTION_FAMILIES))),
        same_function=bool(rng.integers(2)),
    )
    try:
        trainable = generate_world(graph, settings).trainable
    except InputError:  # these tables allow no composition at all
        return random_settings(graph, rng)
    wanted = int(rng.choice([trainable, rng.integers(1, trainable + 1)]))
    return replace(settings, max_train_data_num=wanted)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("task", TASKS)
def test_worlds_agree_with_the_brute_force_evaluator(task, seed):
    graph = TASKS[task]
    settings = random_settings(graph, np.random.default_rng(seed))
    size, wanted = settings.num_tokens, settings.max_train_data_num
    world = generate_world(graph, settings)
    tables = {f.name: t.values for f, t in zip(graph.functions, world.tables, strict=True)}
    expected_seen = {
        f.name: set(zip(*map(list, np.nonzero(t.expected_seen)), strict=True))
        for f, t in zip(graph.functions, world.tables, strict=True)
    }
    train = [tuple(row) for row in world.train.tolist()]
    assert len(set(train)) == len(train) == wanted
    for item in train:
        for name, (arguments, _) in calls_of(graph, tables, item).items():
            assert arguments in expected_seen[name]

    used = used_calls(graph, tables, train)
    by_type = {label: set() for label in graph.type_labels}
    for item in set(all_items(graph, size)) - set(train):
        by_type[type_of(graph, tables, used, item)].add(item)
    assert world.available == {label: len(items) for label, items in by_type.items()}
    for label, rows in world.test.items():
        items = {tuple(row) for row in rows.tolist()}
        pool = set(train) if label == TRAIN_INFERRED else by_type[label]
        assert len(items) == len(rows) == min(settings.test_size_for_type, len(pool))
        assert items <= pool
        left = pool if label == TRAIN_INFERRED else pool - items
        held_out = {tuple(row) for row in world.validation[label].tolist()}
        assert len(held_out) == len(world.validation[label]) == min(4, len(left))
        assert held_out <= left
    values = evaluate(graph, [t.values for t in world.tables], world.train)
    assert values[graph.answer].tolist() == [answer_of(graph, tables, item) for item in train]


def test_formats_of_one_seed_hold_the_same_world():
    graph = TASKS["twohop"]
    world = generate_world(graph, TINY)
    forms = [FormatSettings(), FormatSettings(cot=True), FormatSettings(fake_bridge=True)]
    assert FormatSettings(cot=True, fake_bridge=True).target_format == "fakebridge"
    sets = {
        form.target_format: {n: text(c) for n, c in dataset_files(world, form)[0].items()}
        for form in forms
    }
    tables = [t.values for t in world.tables]
    for name in ("train.json", "test.json"):
        inf, cot, fake = (json.loads(sets[f][name]) for f in ("inf", "cot", "fakebridge"))
        for a, b, c in zip(inf, cot, fake, strict=True):
            assert a["input_text"] == b["input_text"] == c["input_text"]
            item = np.array([[int(n[2:]) for n in a["input_text"][1:-1].split("><")]])
            bridge = int(evaluate(graph, tables, item)["b"][0])
            answer = a["target_text"][len(a["input_text"]) :]
            assert b["target_text"] == f"{a['input_text']}<t_{bridge}>{answer}"
            assert c["target_text"] == f"{a['input_text']}</b>{answer}"
    assert sets["inf"]["atomic_facts_f1.json"] == sets["cot"]["atomic_facts_f1.json"]
    assert json.loads(sets["fakebridge"]["vocab.json"])[-2:] == ["</b>", "</a>"]


def test_larger_test_and_validation_sets_leave_the_rest_alone():
    a = generate_world(TASKS["twohop"], TINY)
    b = generate_world(TASKS["twohop"], replace(TINY, test_size_for_type=20, validation_size=3))
    assert np.array_equal(a.train, b.train)
    for x, y in zip(a.tables, b.tables, strict=True):
        assert np.array_equal(x.values, y.values)
    c = generate_world(TASKS["twohop"], replace(TINY, validation_size=3))
    for label, rows in a.test.items():
        assert np.array_equal(rows, c.test[label])


def test_same_function_means_one_table_and_one_seen_split():
    world = generate_world(TASKS["twohop"], replace(TINY, same_function=True))
    assert np.array_equal(world.tables[0].values, world.tables[1].values)
    assert np.array_equal(world.tables[0].expected_seen, world.tables[1].expected_seen)


def test_the_same_function_of_more_arguments_folds_it():
    """nontree --same_f12: t = f1(f1(b, x2), x3), which depends on x3."""
    settings = replace(TINY, same_function=True, max_train_data_num=6)
    world = generate_world(TASKS["nontree"], settings)
    f1, f2 = (table.values for table in world.tables)
    for b, x2, x3 in np.ndindex(4, 4, 4):
        assert f2[b, x2, x3] == f1[f1[b, x2], x3]
    assert any(len(set(f2[b, x2].tolist())) > 1 for b, x2 in np.ndindex(4, 4))
    ternary = TaskGraph(
        "t",
        ("x1", "x2", "x3", "x4"),
        (Function("f1", "b", ("x1", "x2", "x3")), Function("f2", "t", ("b", "x1", "x2", "x4"))),
    )
    with pytest.raises(InputError, match="narrowest has two arguments"):
        generate_world(ternary, settings)


def test_families_are_what_they_are_called():
    rng = np.random.default_rng(0)
    for family in FUNCTION_FAMILIES:
        assert draw_values((5, 5), 5, family, rng).dtype == np.int32
    for arity in (2, 3):
        commutative = draw_values((5,) * arity, 5, "commutative", rng)
        for call in np.ndindex(commutative.shape):
            assert commutative[call] == commutative[tuple(sorted(call))]
        modular = draw_values((5,) * arity, 5, "modular", rng)
        constant = modular[(0,) * arity]
        for call in np.ndindex(modular.shape):
            assert modular[call] == (sum(call) + constant) % 5
        counts = np.bincount(draw_values((7,) * arity, 7, "balanced", rng).reshape(-1))
        assert counts.max() - counts.min() == 0
    assert not np.array_equal(commutative, draw_values((5, 5, 5), 5, "random", rng))
    with pytest.raises(InputError, match="`function_family` odd"):
        draw_values((5, 5), 5, "odd", rng)
    table = draw_values((4, 4), 4, "random", rng)
    assert fold(table, 4)[1, 2, 3, 0] == table[table[table[1, 2], 3], 0]


@pytest.mark.parametrize("task", ["twohop", "nontree"])
def test_training_and_test_items_are_uniform_over_what_they_are_drawn_from(task):
    """Chi-square against full enumeration, over the seeds of the draw with the tables held."""
    from coverage_principle.data import worlds

    graph = TASKS[task]
    settings = WorldSettings(
        num_tokens=3,
        max_train_data_num=4,
        default_seen_ratio=0.8,
        test_size_for_type=1,
        validation_size=1,
    )
    tables = worlds.draw_tables(graph, settings)
    trained, tested = {}, {}
    values = [table.values for table in tables]
    space = worlds.CompositionSpace(graph, values, [table.expected_seen for table in tables])
    for seed in range(3000):
        rows = space.sample(4, np.random.default_rng([seed, 1]))
        for row in map(tuple, rows.tolist()):
            trained[row] = trained.get(row, 0) + 1
    assert len(trained) == space.size
    assert stats.chisquare(list(trained.values())).pvalue > 1e-4
    train = space.sample(4, np.random.default_rng(0))
    seen = worlds.seen_calls(graph, values, train)
    known = [np.zeros_like(mask) for mask in seen]
    pools = {}
    for seed in range(3000):
        other = replace(settings, seed=seed)
        drawn = worlds._draw_held_out(graph, other, values, seen, known, train)
        for groups in drawn[:2]:
            for label, rows in groups.items():
                for row in map(tuple, rows.tolist()):
                    counts = tested.setdefault((label, groups is drawn[0]), {})
                    counts[row] = counts.get(row, 0) + 1
        pools = drawn[2]
    for (label, _), counts in tested.items():
        assert len(counts) == (len(train) if label == TRAIN_INFERRED else pools[label])
        if len(counts) > 1:
            assert stats.chisquare(list(counts.values())).pvalue > 1e-4, label


@pytest.mark.parametrize("seed", range(5))
def test_included_facts_are_those_that_every_function_uses(seed):
    graph = TASKS["parallel2hop"]
    settings = WorldSettings(
        num_tokens=4, max_train_data_num=20, same_function=True, seed=seed, test_size_for_type=9
    )
    world = generate_world(graph, settings)
    files, metadata = dataset_files(world, FormatSettings(include_atomic=True))
    records = json.loads(text(files["train.json"]))
    tables = {f.name: t.values for f, t in zip(graph.functions, world.tables, strict=True)}
    used = used_calls(graph, tables, map(tuple, world.train.tolist()))
    shared = set.intersection(*used.values())
    expected = [
        {
            "input_text": f"<t_{a}><t_{b}>",
            "target_text": f"<t_{a}><t_{b}><t_{tables['f1'][a, b]}></a>",
        }
        for a, b in sorted(shared)
    ]
    assert records[20:] == expected
    assert metadata["counts"]["atomic_facts_in_train"] == len(expected)


@pytest.mark.parametrize(
    ("task", "same", "words"),
    [
        ("parallel2hop", False, "needs one function for all hops"),
        ("nontree", True, "needs one function"),
    ],
)
def test_facts_that_could_contradict_are_not_included(task, same, words):
    settings = replace(TINY, same_function=same, max_train_data_num=5)
    world = generate_world(TASKS[task], settings)
    with pytest.raises(InputError, match=words):
        dataset_files(world, FormatSettings(include_atomic=True))


def test_facts_as_long_as_compositions_are_not_included():
    graph = TaskGraph(
        "g", ("x1", "x2"), (Function("f1", "b", ("x1", "x2")), Function("f2", "t", ("b", "x1")))
    )
    world = generate_world(graph, replace(TINY, same_function=True, max_train_data_num=3))
    with pytest.raises(InputError, match="as long as its compositions"):
        dataset_files(world, FormatSettings(include_atomic=True))


def test_facts_can_be_all_seen_ones_or_none_as_json_or_as_an_array():
    world = generate_world(TASKS["twohop"], TINY)
    full = json.loads(text(dataset_files(world, FormatSettings())[0]["atomic_facts_f1.json"]))
    assert len(full) == 16
    seen, _ = dataset_files(world, FormatSettings(atomic_facts="seen"))
    listed = json.loads(text(seen["atomic_facts_f1.json"]))
    assert len(listed) == int(world.seen[0].sum()) < 16
    assert all(fact in full for fact in listed)
    none, _ = dataset_files(world, FormatSettings(atomic_facts="none"))
    assert sorted(none) == ["test.json", "train.json", "vocab.json"]
    arrays, _ = dataset_files(world, FormatSettings(atomic_facts="seen", atomic_format="npz"))
    values = np.load(io.BytesIO(arrays["atomic_facts_f1.npz"]))["values"]
    assert np.array_equal(values >= 0, world.seen[0])
    assert np.array_equal(values[world.seen[0]], world.tables[0].values[world.seen[0]])
    for name, choice in (("atomic_facts", "all"), ("atomic_format", "csv")):
        with pytest.raises(InputError, match=f"`{name}` {choice} is not one of"):
            FormatSettings(**{name: choice})


def test_the_whole_trainable_set_can_be_asked_for():
    whole = replace(TINY, default_seen_ratio=1.0, max_train_data_num=64, validation_size=2)
    world = generate_world(TASKS["twohop"], whole)
    assert len(world.test["type_0"]) == len(world.validation["type_0"]) == 0
    notes = world.shortfalls()
    # One sentence for each split, whatever the number of types.
    assert [line.split(" items exist than the ")[0] for line in notes] == [
        "fewer test",
        "fewer validation",
    ]
    assert "5 of each type asked for: " in notes[0] and "0 of type_0" in notes[0]
    assert "2 of each type asked for: " in notes[1] and "0 of type_3" in notes[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_tokens": 1}, "`num_tokens` 1"),
        ({"max_train_data_num": 0}, "`max_train_data_num` 0"),
        ({"max_train_data_num": 65}, "`max_train_data_num` 65"),
        ({"default_seen_ratio": 1.5}, "`default_seen_ratio` 1.5"),
        ({"default_seen_ratio": 0.0}, "give at most 0"),
        ({"test_size_for_type": 0}, "`test_size_for_type` 0"),
        ({"validation_size": -1}, "`validation_size` -1"),
        ({"seed": -1}, "`seed` -1"),
        ({"function_family": "x"}, "`function_family` x"),
        ({"num_tokens": 16_385}, "`num_tokens` 16385 .* give at most 16384"),
    ],
)
def test_arguments_out_of_range_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        generate_world(TASKS["twohop"], replace(TINY, **change))


def test_two_tokens_are_enough():
    """|X| = 2 at several ratios: something is generated, or the refusal says what is possible."""
    for task in TASKS.values():
        for ratio in (0.5, 1.0):
            settings = WorldSettings(num_tokens=2, max_train_data_num=1, default_seen_ratio=ratio)
            try:
                assert len(generate_world(task, settings).train) == 1
            except InputError as error:
                assert "give at most 0" in str(error)


def test_codec_round_trip():
    codec = Codec(["<t_0>", "<t_1>", "</a>"])
    assert codec.decode(codec.encode("<t_1><t_0></a>")) == "<t_1><t_0></a>"
    for bad in ("<t_2>", "t_1", "", "<t_1", "<t_1> <t_0>"):
        with pytest.raises(InputError):
            codec.encode(bad)

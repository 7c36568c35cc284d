"""Alphabets, partial and shared functions, facts and noise: 200 random worlds by their definition.

The oracle (``oracles/worlds_bruteforce.py``) looks at every input of a world, in plain Python.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from coverage_principle.data.space import CompositionSpace
from coverage_principle.data.worlds import calls_of_type, trainable_space
from coverage_principle.errors import InputError
from tests.open_worlds import WORLDS, arrays, both, marked, rows, sample
from tests.oracles.worlds_bruteforce import draw_world


def test_the_worlds_are_of_every_kind():
    """What the other tests go through: no kind is missing because of how worlds are drawn."""
    plain = [draw_world(seed) for seed in WORLDS]
    assert {world.facts for world in plain} == {"none", "seen", "in_domain", "all"}
    assert {len(world.alphabets) for world in plain} == {1, 2, 3}
    assert {world.size(node) for world in plain for node in world.graph.nodes} == {1, 2, 3, 4, 5}
    partial = [world for world in plain if len(world.compositions) < len(world.inputs())]
    assert 50 < len(partial) < 150
    shared = [world for world in plain if len(world.tables) < len(world.graph.functions)]
    assert len(shared) > 30 and any(world.facts != "none" for world in shared)
    assert any(world.untold and world.facts != "none" for world in plain)
    assert sum(bool(world.graph.ambiguous_slots) for world in plain) > 50
    assert sum(not world.graph.bridges for world in plain) > 20
    labels = {label for seed in WORLDS for label in both(seed)[1].test}
    assert {"type_0", "type_1", "type_2+f1", "type_1+f1+f2", "type_3+f2"} <= labels


@pytest.mark.parametrize("seed", WORLDS)
def test_a_sample_is_what_the_definition_says(seed):
    plain, world = both(seed)
    train = rows(world.train)
    assert len(train) == len({*train}) == plain.amount
    assert {*train} <= plain.trainable and world.trainable == len(plain.trainable)

    functions = plain.graph.functions
    seen, known = plain.seen(train), plain.known(train)
    for function, mask, facts in zip(functions, world.seen, world.known, strict=True):
        assert marked(mask) == seen[function.name]
        assert marked(facts) == known[function.name]

    types = plain.types({*train})
    labels = set(types) if plain.facts != "none" else {*plain.graph.type_labels}
    assert labels <= {*world.available} <= labels | {"type_0"}
    assert world.available == {label: len(types.get(label, ())) for label in world.available}
    held_out = [world.test, world.validation] if plain.validation_size else [world.test]
    sizes = (plain.test_size, plain.validation_size)
    for groups, size in zip(held_out, sizes, strict=False):
        assert [*groups] == ["train_inferred", *world.available]
        for label, items in groups.items():
            found, there = rows(items), types.get(label, set())
            if label == "train_inferred":
                there = {*train}
            elif groups is world.validation:
                there = there - {*rows(world.test[label])}
            assert len(found) == len({*found}) == min(size, len(there)), label
            assert {*found} <= there, label
    assert world.validation or not plain.validation_size


@pytest.mark.parametrize("seed", WORLDS)
def test_every_type_is_counted_and_unranked_exactly(seed):
    """Ranks and compositions are the same, one to one, for the trainable ones and each type."""
    plain, world = both(seed)
    values = [table.values for table in world.tables]
    types = plain.types({*rows(world.train)})
    types["type_0"] = types.get("type_0", set()) | {*rows(world.train)}
    spaces = {"trainable": trainable_space(plain.graph, world.tables)}
    for label in plain.graph.fact_type_labels:
        masks = calls_of_type(plain.graph, label, world.seen, world.known)
        spaces[label] = CompositionSpace(plain.graph, values, masks)
    for label, space in spaces.items():
        found = [item for batch in space.batches(size=7) for item in rows(batch)]
        assert space.size == len(found) == len({*found})
        assert {*found} == (plain.trainable if label == "trainable" else types.get(label, set()))


@pytest.mark.parametrize("seed", WORLDS)
def test_facts_are_listed_once_and_tested_by_what_compositions_use(seed):
    plain, world = both(seed)
    train = rows(world.train)
    facts, seen = plain.training_facts(train), plain.seen(train)
    functions = plain.graph.functions
    of = [plain.signature(functions[one.function]) for one in world.facts]
    assert len(of) == len({*of}) and {*of} == {*facts}
    for signature, one in zip(of, world.facts, strict=True):
        assert len(one) == len(facts[signature]) and {*rows(one.calls)} == facts[signature]
    used = {
        signature: set().union(
            *(seen[f.name] for f in functions if plain.signature(f) == signature)
        )
        for signature in facts
    }
    assert {part.label for part in world.test_facts} <= {"fact_seen", "fact_only"}
    for label in ("fact_seen", "fact_only"):
        there = {
            signature: calls & used[signature] if label == "fact_seen" else calls - used[signature]
            for signature, calls in facts.items()
        }
        parts = [part for part in world.test_facts if part.label == label]
        found = {plain.signature(functions[one.function]): rows(one.calls) for one in parts}
        assert len(found) == len(parts)
        assert {*found} == {signature for signature, calls in there.items() if calls}
        for signature, calls in found.items():
            assert len(calls) == len({*calls}) == min(plain.test_size, len(there[signature]))
            assert {*calls} <= there[signature]


@pytest.mark.parametrize("seed", WORLDS)
def test_noise_makes_so_many_training_answers_wrong(seed):
    plain, world = both(seed)
    assert len(world.noisy) == round(plain.noise * plain.amount)
    answers = range(plain.size(plain.graph.answer))
    for row, answer in world.noisy.items():
        assert answer in answers and answer != plain.answer(tuple(world.train[row].tolist()))
    clean = sample(plain, seed, label_noise=0.0)
    assert clean.noisy == {} and np.array_equal(clean.train, world.train)
    assert all(np.array_equal(items, world.test[label]) for label, items in clean.test.items())


def test_noise_needs_two_answers():
    plain = next(world for world in map(draw_world, WORLDS) if world.size(world.graph.answer) == 1)
    with pytest.raises(InputError, match="`label_noise` needs at least two answers"):
        sample(plain, 0, label_noise=0.5)


def test_wrong_answers_are_uniform_among_the_others():
    """Over many seeds: every row is wrong equally often, and every wrong answer is."""
    plain = next(
        world
        for world in map(draw_world, WORLDS)
        if world.size(world.graph.answer) == 4 and 8 <= world.amount <= 12
    )
    shifts, wrong = Counter(), Counter()
    for seed in range(400):
        world = sample(plain, seed, label_noise=0.5)
        wrong.update(list(world.noisy))
        for row, answer in world.noisy.items():
            shifts[(answer - plain.answer(tuple(world.train[row].tolist()))) % 4] += 1
    assert {*shifts} == {1, 2, 3} and len(wrong) == plain.amount
    assert stats.chisquare([*shifts.values()]).pvalue > 1e-3
    # Half of the rows, without replacement: their counts vary half as much as independent ones.
    statistic = stats.chisquare([*wrong.values()]).statistic * 2
    assert 1e-3 < stats.chi2.sf(statistic, plain.amount - 1) < 1 - 1e-3


def test_samples_of_a_partial_table_read_twice_are_uniform():
    """Chi-square over single draws, of all and of what is left beside some that are taken."""
    plain = next(
        world
        for world in map(draw_world, WORLDS)
        if {*world.tables} >= {"attribute"}
        and 20 < len(world.trainable) < 60
        and len(world.compositions) < len(world.inputs())
    )
    space, rng = trainable_space(plain.graph, arrays(plain)), np.random.default_rng(3)
    taken = space.unrank(np.arange(0, space.size, 4))
    for draw, there in (
        (lambda: space.sample(1, rng), plain.trainable),
        (lambda: space.sample_outside(1, taken, rng), plain.trainable - {*rows(taken)}),
    ):
        counts = Counter(rows(draw())[0] for _ in range(3000))
        assert {*counts} == there
        assert 1e-3 < stats.chisquare([*counts.values()]).pvalue < 1 - 1e-3

"""Claim g: groups and patches against plain loops and hooks, words against made-up numbers."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from coverage_principle import circuits
from coverage_principle.data import load_dataset
from coverage_principle.experiments.claims import CLAIMS, base
from coverage_principle.experiments.claims import mechanisms_shared as shared
from coverage_principle.experiments.claims import mechanisms_states as states
from coverage_principle.experiments.claims.mechanisms import item_groups
from coverage_principle.statistics import rate_over_seeds

# ----------------------------------------------------------------------------------------- groups


def generated(run_command, place, script, **flags):
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    finished = run_command(f"dataset_generation/{script}.py", *words, "--output_dir", place)
    assert finished.returncode == 0, finished.stderr
    (folder,) = place.iterdir()
    return load_dataset(folder)


@pytest.fixture(scope="module")
def world(run_command, tmp_path_factory):
    """A world of entities with facts that no composition uses."""
    flags = {"num_entities": 8, "num_relations": 5, "out_degree": 5, "ood_ratio": 0.2, "phi": 3}
    place = tmp_path_factory.mktemp("world")
    return generated(run_command, place, "grokked", facts="all", test_size_for_type=60, **flags)


def test_property_groups_hold_the_items_that_their_names_say(run_command, tmp_path):
    sizes = {"num_tokens": 7, "max_train_data_num": 90, "test_size_for_type": 150}
    dataset = generated(run_command, tmp_path, "twohop", **sizes)
    f1, f2 = dataset.tables()
    first, second = set(), set()
    for x1, x2, x3 in dataset.train.inputs.tolist():
        first.add((x1, x2))
        second.add((int(f1[x1, x2]), x3))
    expected = {}
    for row, (x1, x2, x3) in enumerate(dataset.test.inputs.tolist()):
        one, two = (x1, x2), (int(f1[x1, x2]), x3)
        names = ["inside"] if dataset.test.types[row] == "type_0" else []
        for name, call, own, other in (
            ("f1", one, first, two in second),
            ("f2", two, second, one in first),
        ):
            if call not in own and other and call[0] != call[1]:
                names.append(f"{name}_mirror" if call[::-1] in own else f"{name}_no_mirror")
        for name in names:
            expected.setdefault(name, set()).add(row)
    found = item_groups(dataset)
    assert {name: set(np.flatnonzero(rows)) for name, rows in found.items()} == expected
    assert len(expected) == 5


def test_groups_of_facts_alone_hold_the_items_that_their_names_say(world):
    """From the texts of the files: which facts training compositions use in each hop."""
    train, test = (
        json.loads((world.path / f"{name}.json").read_text()) for name in ("train", "test")
    )

    def tokens(record):
        return tuple(f"<{one}" for one in record["target_text"].removesuffix("</a>").split("<")[1:])

    facts = {t[:2]: t[2] for t in map(tokens, train) if len(t) == 3}
    assert len(facts) == 40  # every one
    first, second = set(), set()
    for h, r1, r2, _ in (t for t in map(tokens, train) if len(t) == 4):
        first.add((h, r1))
        second.add((facts[h, r1], r2))
    names = {(0, 0): "neither", (1, 0): "first", (0, 1): "second", (1, 1): "both"}
    found = {}
    for record in test:
        h, r1, *rest = tokens(record)[:-1]
        if rest:
            name = names[(h, r1) not in first, (facts[h, r1], rest[0]) not in second]
        else:
            name = "fact"
            if (h, r1) in first | second:
                continue
        if record["type"] != "train_inferred":
            found.setdefault(shared.KINDS[name], set()).add(record["input_text"])
    by_type = {}
    for record in test:
        if record["type"] not in ("train_inferred", "fact_seen"):
            by_type.setdefault(record["type"], set()).add(record["input_text"])
    assert found == by_type and set(found) == set(shared.KINDS.values())


# ----------------------------------------------------------------------------------------- states


def drawn(world):
    facts = world.tables()[0]
    seen = np.zeros((2, *facts.shape), dtype=bool)
    for h, r1, r2 in world.train.inputs:
        seen[0, h, r1] = seen[1, facts[h, r1], r2] = True
    return facts, seen, np.random.default_rng(3).integers(states.FOLDS, size=facts.shape)


def test_a_source_is_like_its_original_but_for_b_and_the_answer(world):
    facts, seen, folds = drawn(world)
    inputs = world.test.inputs
    originals, sources = states.draw_pairs(facts, seen, folds, inputs, np.random.default_rng(1))
    kept = set()
    for (h, r1, r2), source in zip(originals.tolist(), sources.tolist(), strict=True):
        kept.add((h, r1, r2))
        b, other = facts[h, r1], facts[source[0], source[1]]
        assert source[2] == r2 and seen[0, source[0], source[1]] and facts[other, r2] >= 0
        assert folds[source[0], source[1]] == folds[h, r1] and seen[1, other, r2] == seen[1, b, r2]
        assert other != b and facts[other, r2] != facts[b, r2]
    for h, r1, r2 in inputs.tolist():
        b = facts[h, r1]
        there = any(
            seen[0, e, r]
            and folds[e, r] == folds[h, r1]
            and facts[facts[e, r], r2] not in (-1, facts[b, r2])
            and seen[1, facts[e, r], r2] == seen[1, b, r2]
            for e, r in np.ndindex(facts.shape)
        )
        assert there == ((h, r1, r2) in kept)


@torch.no_grad()
def test_patches_are_those_of_a_run_whose_state_a_hook_replaces(world):
    torch.manual_seed(0)
    size = len(world.codec.vocabulary)
    sizes = {"vocab_size": size, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 4}
    config = GPT2Config(
        **sizes,
        initializer_range=1.0,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    model.lm_head.weight[8:] = 0  # answers are entities
    loaded = circuits.LoadedModel(model, torch.arange(size))
    facts, seen, folds = drawn(world)
    rng = np.random.default_rng(2)
    pairs = states.draw_pairs(facts, seen, folds, world.test.inputs[::3], rng)
    bases = [
        [
            torch.tensor(np.linalg.qr(rng.normal(size=(16, 9)))[0]).float()
            for _ in range(states.FOLDS)
        ]
        for _ in range(3)
    ]
    found = states._patched(loaded, world, facts, folds, bases, *pairs)

    def ids(*values):
        return torch.tensor(world.ids(np.array([values]), world.graph.inputs))

    def layer(tokens, number):
        return model(tokens, output_hidden_states=True).hidden_states[number]

    right = {patch: np.zeros((2, len(pairs[0]))) for patch in states.PATCHES}
    for n, (original, source) in enumerate(zip(*(p.tolist() for p in pairs), strict=True)):
        other = facts[source[0], source[1]]
        answer = world.ids(np.array([facts[other, source[2]]]), ["t"])[0]
        for number in range(2):
            mine, theirs = (layer(ids(*one), number)[0, 1] for one in (original, source))
            basis = bases[number][folds[original[0], original[1]]]
            inside = (theirs - mine) @ basis @ basis.T
            token = model.transformer.wte(ids(other, 0, 0)[0, 0]) + model.transformer.wpe.weight[0]
            puts = {"whole": theirs, "subspace": mine + inside, "entity": token}
            puts["rest"] = theirs - inside
            for patch, put in puts.items():

                def replace(_module, arguments, put=put):
                    state = arguments[0].clone()
                    state[0, 1] = put
                    return (state, *arguments[1:])

                handle = model.transformer.h[number].register_forward_pre_hook(replace)
                logits = model(ids(*original)).logits[0, -1]
                handle.remove()
                right[patch][number, n] = int(logits.argmax()) == answer
    assert found["items"] == len(pairs[0]) > 30
    for patch in states.PATCHES:
        assert found[patch] == pytest.approx(right[patch].mean(axis=1), abs=1e-4), patch
    assert len({tuple(found[patch]) for patch in states.PATCHES}) == 4


def test_probes_tell_what_the_states_hold(world, monkeypatch):
    """States that name the entity, for facts alone the next one, and at layer 0 none."""
    facts, seen, folds = drawn(world)
    slots, used, calls_of = world.graph.inputs, seen[0], {}
    for h, r in np.ndindex(facts.shape):
        calls_of[tuple(world.ids(np.array([h, r, r]), slots))] = h, r

    def states_of(_loaded, tokens, sites):
        calls = [calls_of[tuple(row)] for row in tokens.tolist()]
        told = {}
        for site in sites:
            at_r1 = [(facts[h, r] + (not used[h, r])) % 8 for h, r in calls]
            state = np.eye(8, dtype=np.float32)[at_r1 if site.position else [h for h, _ in calls]]
            told[site] = 0 * state if (site.layer, site.position) == (0, 1) else state
        return told

    monkeypatch.setattr(circuits, "collect_states", states_of)
    loaded = SimpleNamespace(num_layers=1, device="cpu")
    probe, bases = states._learn(loaded, world, facts, used, folds)
    # An entity that no fact of the other folds leads to cannot be told.
    learned = [set(facts[used & (folds != fold)]) for fold in range(states.FOLDS)]
    told = [facts[h, r] in learned[folds[h, r]] for h, r in np.argwhere(used)]
    assert probe["used"]["rates"][1] == pytest.approx(np.mean(told), abs=0.05)
    told = [entity in own for own in learned for entity in range(8)]
    assert probe["entity"]["rates"][1] == pytest.approx(np.mean(told), abs=0.05)
    assert probe["fact_only"]["rates"][1] < 0.1
    assert all(probe[name]["rates"][0] < 0.5 for name in probe)
    assert (probe["used"]["items"], probe["fact_only"]["items"]) == (used.sum(), 40 - used.sum())
    assert [basis.shape[1] for basis in bases[0]] == [0] * states.FOLDS
    assert all(4 <= basis.shape[1] <= 7 for basis in bases[1])


# ------------------------------------------------------------------------------------------ words


def model_of(blocks, loops, second, entity):
    """Two seeds of made-up numbers."""

    def share(rate, items=400):
        return {"items": items, "accuracy": rate, "curve": [0.0, rate / 4, rate / 2, rate]}

    groups = {"neither": share(1.0), "first": share(0.6), "second": share(second)}
    groups |= {"both": share(second / 2, 150), "fact": share(1.0, 80)}
    patches = {"whole": [0.1, 1.0], "subspace": [0.1, 0.9], "rest": [0.3, 0.0]}
    one = {"items": 300, **patches, "entity": [entity, 0.0]}
    later = {**one, "entity": [0.5 * entity, 1.0]}
    patch = {"neither": one, "first": one, "second": later, "both": one}
    told = {"used": [0.2, 0.9, 1.0], "fact_only": [0.0, 0.5, 0.7], "entity": [0.4, 0.8, 0.1]}
    probe = {of: {"items": 100, "rates": rates} for of, rates in told.items()}
    run = {"run": "r", "steps": [1, 2, 3, 4], "groups": groups}
    run["state"] = {"probe": probe, "patch": patch}
    return {"blocks": blocks, "loops": loops, "seeds": {"1": run, "2": run}}


def panel_of(*models):
    named = {shared.name_of(*one[:2]): model_of(*one) for one in models}
    world = {"ood_ratio": 0.1, "num_entities": 40, "num_relations": 20, "phi": 14.4}
    return {"world": world, "chance": 0.025, "models": named}


def test_words_of_a_shared_operator_claim_only_what_the_numbers_show(tmp_path):
    panel = panel_of((8, 1, 0.02, 0.1), (4, 1, 0.05, 0.3), (2, 2, 0.6, 0.9), (1, 4, 0.4, 0.9))
    names = shared.compared(panel["models"])
    assert names == ("2 blocks, 2 times", "4 blocks, unshared")  # as deep, not the deepest
    shown = " ".join(shared.find(panel))
    rates = [rate_over_seeds([value] * 2, [400] * 2) for value in (0.6, 0.05)]
    for part in (
        "can use as the second step of a composition if the same blocks take both",
        f"answered rightly in {rates[0]} by 2 blocks, 2 times, and in {rates[1]} by as deep a",
        "that shares nothing (4 blocks, unshared): a difference of 0.55 ",
        "(2 seeds with 800 items each; chance 0.025; of 2 looped models the one that answers most",
        "Both known as facts only, models of more than two layers: looped 0.20 to 0.30 (",
        "; unshared 0.01 to 0.03 (",
        "Of the intervals of both with 4 loops or more, 0 of 1 reach that range.",
        "second known as a fact only 3; both known as facts only 3;",
        "goes from 0.30 to 0.60 (second known as a fact only) and from 0.15 to 0.30 (both",
        "put at r1 after layer 1 of 4, moves 1.00",
        "does so to 0.90",  # the token's best layer is another one than the state's
        "(after layer 0). Where (b', r2) is known as a fact only, the token moves 0.45",
        "of the others after layer 1, where patches act most, and for 1.00",
        "Probes of b at r1, after that layer 0, tell 0.40",
        "stood there clearly more often than 4 blocks, unshared: by 0.60",
    ):
        assert part in shown, part
    flat = " ".join(shared.find(panel_of((4, 1, 0.05, 0.3), (2, 2, 0.06, 0.9))))
    assert "gives no clear advantage" in flat and "can use as" not in flat
    alike = " ".join(shared.find(panel_of((4, 1, 0.05, 0.9), (2, 2, 0.06, 0.9))))
    assert "stood there not clearly more often" in alike
    assert shared.find(panel_of((4, 1, 0.05, 0.3))) == []
    accuracy, state = shared.tables(panel)
    assert accuracy.rows[2][4] == f"{rates[0]}, n = 800" and state.rows[0][1] == "1, 0"
    assert all(len(row) == len(table.header) for table in (accuracy, state) for row in table.rows)
    none = {"items": 0, "accuracy": None}
    numbers = {"shared": panel, "chance": 0.1, "property": {"random": {}, "modular": {}}}
    for seeds in numbers["property"].values():
        seeds["1"] = {"groups": {"f1_mirror": {"items": 9, "accuracy": 0.5}, "f1_no_mirror": none}}
    assert CLAIMS["mechanisms"].findings(numbers) == shared.find(panel)
    assert CLAIMS["mechanisms"].tables(numbers)[2].rows[0][2].endswith("n = 9")
    assert CLAIMS["mechanisms"].draw(numbers, tmp_path / "figure")[0].stat().st_size > 0
    model = panel["models"]["2 blocks, 2 times"]
    model["seeds"]["3"] = copy.deepcopy(model["seeds"]["1"])
    model["seeds"]["3"]["state"]["patch"] = dict.fromkeys(shared.GROUPS, {"items": 0})
    assert shared.moved_by(model, "entity") == rate_over_seeds([0.9] * 2, [300] * 2)


@pytest.mark.parametrize("scale", ["cpu", "night", "gpu", "paper"])
def test_looped_models_have_an_unshared_one_that_is_as_deep(scale):
    depths = {True: set(), False: set()}
    for blocks, loops in shared.MODELS[scale]:
        depths[loops > 1].add(blocks * loops)
    assert depths[True] <= depths[False]
    assert {name for name, _ in shared.runs(scale)} == {
        shared.name_of(*model) for model in shared.MODELS[scale]
    }
    assert set(shared.SEEDS[scale]) <= set(base.SEEDS[scale])


def test_a_run_of_facts_and_compositions_is_measured(run_command, world, tmp_path):
    """A run as its claim makes it: what training wrote of each group, and the final model."""
    run = next(iter(shared.runs("tiny").values()))
    flags = {**run.train, "max_steps": 4, "eval_steps": 2, "do_train": True}
    words = [w for k, v in flags.items() for w in ([f"--{k}"] if v is True else [f"--{k}", v])]
    model = tmp_path / "model"
    finished = run_command("main.py", "--data_dir", world.path, "--output_dir", model, *words)
    assert finished.returncode == 0, finished.stderr
    events = map(json.loads, (model / "metrics.jsonl").read_text().splitlines())
    past = [event for event in events if "eval" in event]
    sweep = SimpleNamespace(
        dataset=lambda _: world.path, folder=lambda _: tmp_path, history=lambda _: past
    )
    found = shared.measure(sweep, run)
    assert found["steps"] == [2, 4] and set(found["groups"]) == set(shared.KINDS)
    for group, kind in shared.KINDS.items():
        curve = [event["eval"][kind]["answer_accuracy"] for event in past]
        assert found["groups"][group]["curve"] == pytest.approx(curve, abs=1e-4)
        assert found["groups"][group]["items"] == past[0]["eval"][kind]["n"]
    assert set(found["state"]["patch"]) == set(shared.GROUPS)
    assert all(len(one["whole"]) == 2 for one in found["state"]["patch"].values())

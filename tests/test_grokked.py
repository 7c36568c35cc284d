"""Worlds of entities: the generator against its definition, both layouts, coverage against phi."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from coverage_principle.coverage import CoverageByPhi, PhiSettings, median_cutoff
from coverage_principle.data import (
    EntityWorldSettings,
    draw_entities,
    generate_entity_world,
    load_dataset,
    validate,
)
from coverage_principle.errors import InputError

SMALL = {"num_entities": 9, "num_relations": 5, "out_degree": 3, "phi": 1.5, "ood_ratio": 0.2}
SMALL |= {"test_size_for_type": 10_000}
COMPARISON = {"task": "comparison", "num_entities": 8, "num_attributes": 3, "num_values": 4}
COMPARISON |= {"phi": 3, "ood_ratio": 0.25, "test_size_for_type": 10_000}


def draw(**settings):
    return generate_entity_world(EntityWorldSettings(**settings))


def facts_of(world):
    """``{(entity, relation or attribute): result}``, and those in domain."""
    table = world.tables[0]
    facts = {
        (e, r): int(table.values[e, r])
        for e, r in itertools.product(*map(range, table.values.shape))
        if table.values[e, r] >= 0
    }
    return facts, {call for call in facts if table.expected_seen[call]}


def compositions(facts, hops):
    """Every composition as ``{item: its calls}``, one relation after the other."""
    found = {(entity,): () for entity, _ in facts}
    for _ in range(hops):
        longer = {}
        for item, calls in found.items():
            tail = facts[calls[-1]] if calls else item[0]
            for entity, relation in facts:
                if entity == tail:
                    longer[*item, relation] = (*calls, (entity, relation))
        found = longer
    return found


def comparisons(facts):
    """Every comparison ``(a, e1, e2)`` with the calls of its three functions."""
    entities, attributes = ({call[i] for call in facts} for i in (0, 1))
    return {
        (a, x, y): ((x, a), (y, a), (facts[x, a], facts[y, a]))
        for a, x, y in itertools.product(attributes, entities, entities)
    }


def label_of(calls, seen, known):
    """A type by its definition: bits of what is seen, and unseen calls that are known as facts."""
    bits = "".join("1" if call in seen[j] else "0" for j, call in enumerate(calls))
    if "0" not in bits:
        return "type_0"
    facts = [f"f{j + 1}" for j, call in enumerate(calls) if bits[j] == "0" and call in known[j]]
    return "+".join([f"type_{int(bits, 2) + 1}", *facts])


def check_types(world, items, known):
    """That test items are all compositions of their type, by plain Python; returns what is seen."""
    train = set(map(tuple, world.train.tolist()))
    assert len(train) == len(world.train) and train <= set(items)
    count = len(world.graph.functions)
    seen = [{items[item][j] for item in train} for j in range(count)]
    expected = defaultdict(set)
    for item, calls in items.items():
        if item not in train:
            expected[label_of(calls, seen, known)].add(item)
    found = {label: set(map(tuple, rows.tolist())) for label, rows in world.test.items()}
    assert found.pop("train_inferred") == train
    assert {label: rows for label, rows in found.items() if rows} == dict(expected)
    return set().union(*seen)


@pytest.mark.parametrize("hops", [2, 3])
@pytest.mark.parametrize("trained", ["all", "in_domain", "seen", "none"])
def test_a_world_is_what_it_is_said_to_be(hops, trained):
    for seed in range(3):
        world = draw(**SMALL, hops=hops, facts=trained, seed=seed)
        facts, inside = facts_of(world)
        assert Counter(entity for entity, _ in facts) == dict.fromkeys(range(9), 3)
        assert set(facts.values()) <= set(range(9))
        assert len(facts) - len(inside) == round(0.2 * 27)
        items = compositions(facts, hops)
        trainable = {item for item, calls in items.items() if inside.issuperset(calls)}
        assert world.trainable == len(trainable) and len(world.train) == round(1.5 * len(inside))
        assert trainable.issuperset(map(tuple, world.train.tolist()))
        given = {(*map(int, call),) for one in world.facts for call in one.calls}
        used = check_types(world, items, [given] * hops)
        wanted = {"all": set(facts), "in_domain": inside, "seen": used, "none": set()}
        assert given == wanted[trained]
        tested = {
            part.label: {tuple(call) for call in part.calls.tolist()} for part in world.test_facts
        }
        both = {"fact_seen": given & used, "fact_only": given - used}
        assert tested == {label: calls for label, calls in both.items() if calls}
        answers = {item: facts[calls[-1]] for item, calls in items.items()}
        for item in world.train.tolist():
            value = item[0]
            for relation in item[1:]:
                value = world.tables[0].values[value, relation]
            assert value == answers[tuple(item)]


@pytest.mark.parametrize("trained", ["all", "none"])
def test_a_world_of_comparisons(trained):
    for seed in range(3):
        world = draw(**COMPARISON, facts=trained, seed=seed)
        facts, inside = facts_of(world)
        assert len(facts) == 24 and set(facts.values()) <= set(range(4))
        # A quarter of the entities is out of domain, for each attribute.
        assert Counter(a for _, a in set(facts) - inside) == dict.fromkeys(range(3), 2)
        items = comparisons(facts)
        trainable = {item for item, calls in items.items() if inside.issuperset(calls[:2])}
        assert world.trainable == len(trainable) and len(world.train) == 3 * len(inside)
        given = {(*map(int, call),) for one in world.facts for call in one.calls}
        assert given == (set(facts) if trained == "all" else set())
        check_types(world, items, [given, given, set()])
        for first, second in itertools.product(range(4), repeat=2):
            order = "<less>" if first < second else "<equal>" if first == second else "<greater>"
            answer = world.tables[2].values[first, second]
            assert world.alphabets["answer"][answer] == order


def test_facts_are_drawn_at_random():
    """Relations, tails and facts out of domain are spread as independent draws spread them."""
    size = {"num_entities": 4000, "num_relations": 20, "out_degree": 10}
    table = draw_entities(EntityWorldSettings(**size)).tables[0]
    defined = table.values >= 0
    assert (defined.sum(axis=1) == 10).all()
    assert (abs(defined.sum(axis=0) - 2000) < 4 * 1000**0.5).all()
    both = int((defined[:, 0] & defined[:, 1]).sum())
    assert abs(both - 4000 * 10 / 20 * 9 / 19) < 4 * 723**0.5
    tails = np.bincount(table.values[defined], minlength=4000)
    assert abs(tails.var() - 10) < 1  # as of a Poisson distribution
    outside = (defined & ~table.expected_seen).sum(axis=1)
    assert outside.sum() == 2000 and abs(outside.var() - 10 * 0.05 * 0.95) < 0.06
    other = draw_entities(EntityWorldSettings(**size, seed=7)).tables[0]
    assert (other.values != table.values).any()


def test_a_world_depends_on_its_settings_alone():
    world, again = draw(**SMALL), draw(**SMALL)
    assert (world.train == again.train).all()
    other = SMALL | {"test_size_for_type": 2}
    for change in ({"facts": "none"}, {"validation_size": 3}, {"label_noise": 0.2}):
        changed = draw(**other, **change)
        assert (changed.train == world.train).all()
        assert (changed.tables[0].values == world.tables[0].values).all()
    settings = EntityWorldSettings(**SMALL)
    assert (draw_entities(settings).train(settings.seed) == world.train).all()


def test_refusals():
    for wrong, words in (
        ({"out_degree": 6, "num_relations": 5}, "`out_degree` 6 is more than the 5 relations"),
        ({"hops": 1}, "`hops` 1 is too small"),
        ({"hops": 6}, "`hops` 6 is too large"),
        ({"task": "comparison", "hops": 3}, "`task` comparison has no `hops`"),
        ({"num_values": 5}, "`task` composition has no `num_values`; that is comparison's"),
        ({"num_entities": 10**9}, "`num_entities`, `num_relations`, `hops`: they make tables of"),
        ({"task": "comparison", "num_values": 10**5}, "`num_values`: they make tables of"),
    ):
        with pytest.raises(InputError, match=words):
            EntityWorldSettings(**wrong)
    for wrong, words in (
        ({"phi": 1e308}, "give at most"),
        ({"phi": 0.001}, "no training composition"),
        ({"ood_ratio": 1.0}, "0 in-domain facts is no training composition"),
    ):
        with pytest.raises(InputError, match=words):
            draw(**SMALL | wrong)
    # The largest phi that a sentence names is one that works.
    with pytest.raises(InputError) as refused:
        draw(**SMALL | {"phi": 100})
    most = float(str(refused.value).rsplit(" ", 1)[1])
    assert draw(**SMALL | {"phi": most}).trainable >= 1
    with pytest.raises(InputError, match="give at most"):
        draw(**SMALL | {"phi": most + 0.03})


# -------------------------------------------------------------------------------------- the command

FLAGS = ("--num_entities", 30, "--num_relations", 8, "--out_degree", 4, "--phi", 2)
FLAGS += ("--test_size_for_type", 40, "--ood_ratio", 0.1)
COMPARE = ("--task", "comparison", "--num_entities", 20, "--num_attributes", 5, "--num_values", 6)
COMPARE += ("--phi", 3, "--test_size_for_type", 40, "--ood_ratio", 0.2)


def generate(run_command, folder, *flags):
    made = run_command("dataset_generation/grokked.py", *flags, "--output_dir", folder)
    assert made.returncode == 0, made.stderr
    return folder / made.stdout.split(": written")[0].rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (FLAGS, "composition.30.8.4.phi-2.inf"),
        ((*FLAGS, "--cot", "--validation_size", 5), "composition.30.8.4.phi-2.cot"),
        ((*FLAGS, "--hops", 3, "--facts", "none"), "composition-3.30.8.4.phi-2.inf.facts-none"),
        ((*FLAGS, "--label_noise", 0.25), "composition.30.8.4.phi-2.inf.noise-0.25"),
        (COMPARE, "comparison.20.5.6.phi-3.inf"),
    ],
)
def test_files_and_names(run_command, tmp_path, flags, name):
    folder = generate(run_command, tmp_path, *flags)
    assert [path.name for path in tmp_path.iterdir()] == [name] == [folder.name]
    dataset, problems = validate(folder)
    assert problems == []
    assert dataset.metadata["counts"]["train"] == len(dataset.train)
    facts = dataset.metadata["counts"].get("atomic_facts_in_train", 0)
    assert len(dataset.train.facts) == facts == (0 if "none" in flags else facts)
    assert "phi" in dataset.metadata["arguments"]
    assert ("hops" in dataset.metadata["arguments"]) == (flags is not COMPARE)
    assert f"--phi {flags[flags.index('--phi') + 1]}" in (folder / "README.md").read_text()
    if "--label_noise" in flags:
        assert len(dataset.noisy) == round(0.25 * len(dataset.train))
    if "--validation_size" in flags:
        assert set(dataset.valid.types) <= set(dataset.test.types)


def records_of(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def tokens(text):
    return re.findall("<[^>]*>", text)


@pytest.mark.parametrize("flags", [FLAGS, COMPARE], ids=["composition", "comparison"])
def test_both_layouts_hold_the_same(run_command, tmp_path, flags):
    """The foreign layout by its own rules, and what comes back from it by the importer."""
    own = generate(run_command, tmp_path, *flags)
    foreign = generate(run_command, tmp_path, *flags, "--layout", "grokked")
    assert foreign.name == own.name.removesuffix("inf") + "grokked"
    train, test = records_of(foreign, "train.json"), records_of(foreign, "test.json")
    vocabulary = records_of(foreign, "vocab.json")
    assert {"<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>", "<e_0>"} <= set(vocabulary)
    lengths = [len(tokens(record["input_text"])) for record in train]
    assert lengths == sorted(lengths)  # facts come first
    for record in (*train, *test):
        assert record["target_text"].startswith(record["input_text"])
        assert set(tokens(record["target_text"])) <= set(vocabulary)
    # Types by the rules of that layout: facts that training compositions use are in domain, and
    # compositions that are no training items hold such facts alone, or none.
    facts = {
        tuple(tokens(r["input_text"])): tokens(r["target_text"])[2]
        for r in train
        if len(tokens(r["input_text"])) == 2
    }

    def calls(record):
        given = tokens(record["input_text"])
        if len(given) == 2:
            return {tuple(given)}
        if len(given) == 3:
            return {(given[0], given[1]), (facts[given[0], given[1]], given[2])}
        attribute, ask, first, mask, second = given
        assert (ask, mask) == ("<q>", "<mask>")
        pair = [int(facts[entity, attribute][1:-1]) for entity in (first, second)]
        sign = 0 if pair[0] < pair[1] else 1 if pair[0] == pair[1] else 2
        assert tokens(record["target_text"])[5] == f"{attribute[:-1]}_{sign}>"
        return {(first, attribute), (second, attribute)}

    compositions = [r for r in train if len(tokens(r["input_text"])) > 2]
    inputs = {record["input_text"] for record in compositions}
    inside = set().union(*map(calls, compositions))
    for record in test:
        unseen, kind = record["input_text"] not in inputs, record["type"]
        if kind in ("train_inferred", "id_atomic"):
            assert not unseen or kind == "id_atomic"
        elif kind == "test_inferred_iid":
            assert unseen and calls(record) <= inside
        else:
            assert kind in ("ood_atomic", "test_inferred_ood")
            assert calls(record).isdisjoint(inside)
    counts = Counter(record["type"] for record in test)
    assert set(counts) == {
        *("id_atomic", "ood_atomic"),
        *("train_inferred", "test_inferred_iid", "test_inferred_ood"),
    }
    last = [record for record in test if record["type"] == "test_inferred_ood"]
    assert records_of(foreign, "valid.json") == last
    # The importer gives back the compositions and facts of our own layout, under our types.
    into = ("--name", "back", "--output_dir", tmp_path)
    done = run_command("script/import_dataset.py", "grokked", foreign, *into)
    assert done.returncode == 0, done.stderr
    ours, back = load_dataset(own), load_dataset(tmp_path / "back")

    def texts(dataset, split, *types):
        numbers = range(len(split)) if not types else np.flatnonzero(np.isin(split.types, types))
        return Counter(dataset.text(split.inputs[i]) for i in numbers)

    assert texts(ours, ours.train) == texts(back, back.train)
    known = ({r["target_text"] for r in d.train.facts.records} for d in (ours, back))
    assert next(known) == next(known)
    for kind in ("train_inferred", "type_0"):
        assert texts(ours, ours.test, kind) == texts(back, back.test, kind)
    outside = {r["type"] for r in back.test.records if r["source_type"] == "test_inferred_ood"}
    assert outside and all({"f1", "f2"} <= set(label.split("+")) for label in outside)


def test_refusals_of_the_command(run_command, refused, tmp_path):
    def command(*flags):
        return run_command("dataset_generation/grokked.py", *flags, "--output_dir", tmp_path / "no")

    refused(command("--phi", 25), "--phi 25 of 38,000 in-domain facts", "give at most 19")
    refused(command("--out_degree", 300), "--out_degree 300", "--num_relations")
    refused(command("--hops", 6), "--hops", "at most 5", status=2)
    refused(command("--layout", "grokked", "--cot"), "--layout grokked", "omit --cot")
    refused(command(*FLAGS, "--layout", "grokked", "--label_noise", 0.1), "omit --label_noise")
    assert not (tmp_path / "no").exists()


# ------------------------------------------------------------------------------- coverage by phi


def unseen_and_covered(facts, train, items, k):
    """How many unseen items make seen calls only, and how many of them chains link to train."""
    contexts, bridge = defaultdict(set), {}
    for head, r1, r2 in train:
        contexts[head, r1].add(r2)
        bridge[head, r1] = facts[head, r1]
    classes = {fragment: {fragment} for fragment in contexts}
    for a, b in itertools.combinations(contexts, 2):
        if bridge[a] == bridge[b] and len(contexts[a] & contexts[b]) >= k:
            joined = classes[a] | classes[b]
            for one in joined:
                classes[one] = joined
    second = {(bridge[h, r1], r2) for h, r1, r2 in train}
    unseen = [
        (h, r1, r2)
        for h, r1, r2 in set(items) - set(train)
        if (h, r1) in contexts and (bridge[h, r1], r2) in second
    ]
    covered = [any(r2 in contexts[other] for other in classes[h, r1]) for h, r1, r2 in unseen]
    return len(unseen), sum(covered)


def test_counts_are_those_of_the_definition(tmp_path):
    settings = PhiSettings((14,), (1.5, 3.0), num_relations=6, out_degree=5, seeds=(0, 1))
    found = CoverageByPhi(settings, tmp_path / "measured.json")
    for seed in settings.seeds:
        found.find(14, seed)
        for phi in settings.phi:
            world = generate_entity_world(settings.world(14, phi, seed))
            facts, _ = facts_of(world)
            train = list(map(tuple, world.train.tolist()))
            counts = found.counts[14, phi][seed]
            for k in (1, 2, 3, 5):
                expected = unseen_and_covered(facts, train, compositions(facts, 2), k)
                assert (counts.unseen, counts.covered[k]) == expected
    again, told = CoverageByPhi(settings, tmp_path / "measured.json"), []
    again.find(14, 0, told.append)
    assert not told and again.counts[14, 3.0][0] == found.counts[14, 3.0][0]
    with pytest.raises(InputError, match="of another task or other worlds"):
        CoverageByPhi(PhiSettings(out_degree=4), tmp_path / "measured.json")


def test_known_shares_at_500_entities(tmp_path):
    """Shares at k = 3 that were measured apart from this code, and median k-cutoffs."""
    found = CoverageByPhi(PhiSettings((500,)), tmp_path / "measured.json")
    found.find(500, 42)
    for phi, (share, median) in {
        **{3.6: (0.15, 2), 5.4: (0.74, 3)},
        **{7.2: (0.97, 5), 9.0: (0.995, 7)},
    }.items():
        counts = found.counts[500, phi][42]
        assert abs(counts.share(3) - share) < 0.02 and median_cutoff(counts) == median


def test_the_command_keeps_and_shows_them(run_command, refused, tmp_path):
    small = ("--num_relations", 10, "--out_degree", 6, "--output_dir", tmp_path / "out")
    several = ("--num_entities", "40,20", "--phi", "2,3.5", "--k", "1,2", "--seeds", "1,2")
    done = run_command("script/coverage_by_phi.py", *small, *several)
    assert done.returncode == 0, done.stderr
    stem = "coverage_by_phi_r-10_d-6_ood-0.05"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{stem}.json", f"{stem}_measured.json"),
        *(f"{stem}.png", f"{stem}.pdf"),
    }
    summary = records_of(tmp_path / "out", f"{stem}.json")
    assert list(summary["coverage"]) == ["20", "40"]
    for k in ("1", "2"):
        one = summary["coverage"]["40"]["3.5"]
        assert one["mean"][k] == pytest.approx(sum(one["share"][k].values()) / 2)
        assert f"{one['mean'][k]:.3f}" in done.stdout
    assert "mean over 2 seeds" in done.stdout and "median k-cutoff" in done.stdout
    elsewhere = (*small[:-1], tmp_path / "no")
    refused(run_command("script/coverage_by_phi.py", *elsewhere, "--phi", 99), "give at most")
    bad = run_command("script/coverage_by_phi.py", *elsewhere, "--phi", "2;3")
    refused(bad, "2;3 is not a list of numbers", status=2)
    bad = run_command("script/coverage_by_phi.py", *elsewhere, "--out_degree", 11)
    refused(bad, "--out_degree 11")
    assert not (tmp_path / "no").exists()

"""The domain scope, restricted fragments and explanations, against brute force."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from coverage_principle.coverage import (
    EVERY_K,
    CoverageSettings,
    dataset_coverage,
    diagnose,
    explain,
    explanation_lines,
    parse_slot_sets,
    result_name,
    slot_sets,
    warnings,
)
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS
from tests.conftest import ROOT
from tests.oracles import coverage_bruteforce as oracle
from tests.oracles.task_bruteforce import all_items
from tests.test_coverage import make_dataset, random_world, true_fragment_values

DOMAIN = CoverageSettings(scope="domain")


def small_world(seed, wrong=0.0):
    """A random world of at most 256 inputs, with every other input as a test item."""
    graph, tables, train, _, dataset = random_world(seed, share=0.4, wrong=wrong)
    return graph, tables, train, dataset


def as_cutoffs(array):
    return [None if cutoff == EVERY_K else int(cutoff) for cutoff in array]


@pytest.mark.parametrize("seed", range(60))
def test_every_input_agrees_with_brute_force_in_the_domain(seed):
    """One pair at a time, as the formal definition has it, against classes in the engine."""
    graph, _, train, dataset = small_world(seed)
    positions = oracle.all_slot_sets(len(graph.inputs))
    expected = oracle.domain_cutoffs(train, dataset.slot_sizes[0], positions)
    coverage = dataset_coverage(dataset, DOMAIN)
    assert as_cutoffs(coverage.node_cutoffs) == [
        expected[item] for item in all_items(graph, dataset.slot_sizes[0])
    ]
    test = [tuple(row) for row in dataset.test.inputs.tolist()]
    assert as_cutoffs(coverage.cutoffs) == [expected[item] for item in test]
    whole = diagnose(coverage)["whole_domain"]
    for k, covered in whole["covered"].items():
        assert covered == sum(c is None or c >= int(k) for c in expected.values())


def test_without_type_0_items_it_is_said_what_to_look_at_instead(small_dataset):
    whole = load_dataset(small_dataset)
    other = whole.test.types == "type_3"
    rows = np.flatnonzero(other)
    test = replace(
        whole.test,
        records=[whole.test.records[row] for row in rows],
        **{name: getattr(whole.test, name)[other] for name in ("inputs", "targets", "answers")},
        **{name: getattr(whole.test, name)[other] for name in ("types", "numbers")},
    )
    for settings, words in (
        (DOMAIN, "look at the other types under 'covered at k', at the k_cutoff of"),
        (CoverageSettings(), "nothing to cover; the domain scope takes items of all types"),
    ):
        coverage = dataset_coverage(replace(whole, test=test), settings)
        (told,) = (w for w in warnings(coverage, diagnose(coverage)) if "no type_0" in w)
        assert words in told


@pytest.mark.parametrize("seed", range(20))
def test_ground_truth_in_the_domain_agrees_with_brute_force(seed):
    graph, tables, train, dataset = small_world(seed)
    first, true = true_fragment_values(graph, tables, train)
    if len(first) == len(graph.inputs):
        return
    expected = oracle.domain_cutoffs(train, dataset.slot_sizes[0], [first], true)
    coverage = dataset_coverage(dataset, replace(DOMAIN, ground_truth=True))
    assert as_cutoffs(coverage.node_cutoffs) == list(expected.values())


@pytest.mark.parametrize("seed", range(40))
def test_restricted_fragments_agree_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    graph, _, train, dataset = small_world(seed)
    possible = oracle.all_slot_sets(len(graph.inputs))
    if not possible:
        return
    count = int(rng.integers(1, len(possible) + 1))
    chosen = [possible[i] for i in rng.choice(len(possible), count, replace=False)]
    named = ";".join(",".join(str(slot + 1) for slot in positions) for positions in chosen)
    test = {
        tuple(row): int(answer)
        for row, answer in zip(dataset.test.inputs.tolist(), dataset.test.answers, strict=True)
    }
    expected = oracle.cutoffs(train, test, chosen)
    coverage = dataset_coverage(dataset, CoverageSettings(fragments=named))
    assert as_cutoffs(coverage.cutoffs) == list(expected.values())
    everywhere = oracle.domain_cutoffs(train, dataset.slot_sizes[0], chosen)
    coverage = dataset_coverage(dataset, replace(DOMAIN, fragments=named))
    assert as_cutoffs(coverage.node_cutoffs) == list(everywhere.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_domain_covers_at_least_what_the_data_set_does(seed):
    """Its graph has more nodes, and its edges do not ask for equal answers."""
    *_, dataset = small_world(seed)
    narrow, wide = dataset_coverage(dataset), dataset_coverage(dataset, DOMAIN)
    assert (wide.cutoffs[wide.type_0] >= narrow.cutoffs).all()


@pytest.mark.parametrize(
    ("seed", "rate"), [*((s, 0) for s in range(30)), *((s, 0.2) for s in range(0, 30, 3))]
)
def test_what_is_owed_to_chance_is_what_true_values_take_away(seed, rate):
    graph, tables, train, dataset = small_world(seed, wrong=rate)
    noise = (rate, dataset.sizes([graph.answer])[0]) if rate else None
    coverage = dataset_coverage(dataset, CoverageSettings(noise=rate))
    if coverage.true_cutoffs is None:
        return
    test = {
        tuple(row): int(answer)
        for row, answer in zip(dataset.test.inputs.tolist(), dataset.test.answers, strict=True)
    }
    merged = {item: 0 for item in test}
    # Fragments of intermediate values only, a pair counting if ALL values that they give agree.
    determined = [s for s in coverage.slot_sets if s.true_values is not None]
    for k in range(1, len(train) + 1):
        graph_k = oracle.nx.Graph()
        graph_k.add_nodes_from({**train, **test})
        for slot_set in determined:
            positions = slot_set.equivalence.positions
            true = {
                tuple(fragment): int(value)
                for fragment, value in zip(
                    slot_set.equivalence.fragments().tolist(), slot_set.true_values, strict=True
                )
            }
            classes = oracle.class_partition(train, positions, k, true, noise)
            of = {fragment: c for c in classes for fragment in c}
            everything = {**train, **test}
            for x in everything:
                for y in everything:
                    same = oracle.rest(x, positions) == oracle.rest(y, positions)
                    a, b = of.get(oracle.part(x, positions)), of.get(oracle.part(y, positions))
                    if same and everything[x] == everything[y] and a is not None and a == b:
                        graph_k.add_edge(x, y)
        for component in oracle.nx.connected_components(graph_k):
            if component & set(train):
                for item in component & set(test):
                    merged[item] = k
    chance = diagnose(coverage)["by_chance"]
    for k, count in chance.items():
        own = coverage.cutoffs >= int(k)
        true = np.array([merged[item] >= int(k) for item in test])
        assert count == int((own & ~true).sum())


# ------------------------------------------------------------------------------------ --fragments


def test_slot_sets_by_number_by_name_and_contiguous():
    inputs = ("x1", "x2", "x3", "x4")
    assert parse_slot_sets("1,2", inputs) == [(0, 1)]
    assert parse_slot_sets("x3, x2;1;2,3", inputs) == [(1, 2), (0,)]
    assert parse_slot_sets("all", inputs) == slot_sets(4)
    contiguous = parse_slot_sets("contiguous", inputs)
    assert len(contiguous) == 9
    assert (0, 2) not in contiguous
    for bad, words in (
        ("1,5", "neither all nor"),
        ("", "neither"),
        ("1,1", "each once"),
        ("1,2,3,4", "but not all"),
        ("a", "neither"),
    ):
        with pytest.raises(InputError, match=words):
            parse_slot_sets(bad, inputs)


# ---------------------------------------------------------------------------------- explanations


@pytest.mark.parametrize("scope", ["dataset", "domain"])
@pytest.mark.parametrize("seed", range(25))
def test_every_explanation_is_a_valid_chain(seed, scope):
    """Checked from the definitions: each step, each pair, the training item at its end."""
    graph, _, train, dataset = small_world(seed)
    coverage = dataset_coverage(dataset, CoverageSettings(scope=scope))
    answers = {
        **train,
        **{
            tuple(row): int(answer)
            for row, answer in zip(dataset.test.inputs.tolist(), dataset.test.answers, strict=True)
        },
    }
    for row, cutoff in zip(coverage.test_rows.tolist(), coverage.cutoffs.tolist(), strict=True):
        item = tuple(dataset.test.inputs[row].tolist())
        found = explain(coverage, item)
        assert found.cutoff == cutoff
        here = item
        for step in found.steps:
            positions = step.slot_set.equivalence.positions
            assert step.before == here
            assert oracle.rest(here, positions) == oracle.rest(step.after, positions)
            evidence = oracle.pair_evidence(train, positions)
            fragments = [oracle.part(here, positions)] + [pair.second for pair in step.pairs]
            assert fragments[-1] == oracle.part(step.after, positions)
            for first, pair in zip(fragments, step.pairs, strict=False):
                assert pair.first == first
                assert pair.disagreeing == 0
                assert evidence[tuple(sorted((pair.first, pair.second)))] == pair.agreeing >= cutoff
            if scope == "dataset":
                assert answers[here] == answers[step.after]
            here = step.after
        if cutoff:
            assert here in train
        for near in found.lacking:
            positions = near.slot_set.equivalence.positions
            assert near.trained in train
            assert oracle.rest(item, positions) == oracle.rest(near.trained, positions)
            assert near.pair.disagreeing or near.pair.agreeing <= cutoff
        assert explanation_lines(coverage, found)


def test_an_explanation_by_hand():
    """(1, 1) acts like (0, 0) in contexts 0 and 1, which covers (0, 0, 2) by (1, 1, 2) at k = 2."""
    train = {(0, 0, 0): 1, (0, 0, 1): 2, (1, 1, 0): 1, (1, 1, 1): 2, (1, 1, 2): 3}
    dataset = make_dataset(TASKS["twohop"], 5, train, {(0, 0, 2): 3, (0, 0, 3): 4})
    coverage = dataset_coverage(dataset)
    text = "\n".join(explanation_lines(coverage, explain(coverage, (0, 0, 2))))
    assert "<t_0><t_0><t_2> -> <t_3> is covered up to k = 2." in text
    assert "1. At (x1, x2), (0, 0) is interchangeable with (1, 1):" in text
    assert "equal answers in all 2 contexts that they share (x3=0 -> 1, x3=1 -> 2)" in text
    assert "What is missing at k = 3:" in text
    assert "agree in 2 shared contexts, 1 more needed" in text
    assert "covered at k if swaps of interchangeable fragments turn it into a training item" in text
    text = "\n".join(explanation_lines(coverage, explain(coverage, (0, 0, 3))))
    assert "is not covered at any k" in text
    assert "no swap of one fragment would give a training item" in text
    assert (
        "a training item: covered at every k"
        in explanation_lines(coverage, explain(coverage, (1, 1, 2)))[0]
    )
    for bad, words in (
        ((0, 0), "needs a value for each slot"),
        ((0, 0, 9), "x3 < 5; found"),
        ((4, 4, 4), "use `scope` domain"),
    ):
        with pytest.raises(InputError, match=words):
            explain(coverage, bad)


# ------------------------------------------------------------------------------------ the command


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


def test_the_command_in_the_domain_annotates_every_type(folder, tmp_path, run_command):
    finished = run_command(
        "determine_coverage.py",
        "--data_dir",
        folder,
        "--scope",
        "domain",
        "--k_sweep",
        "--output_dir",
        tmp_path / "out",
    )
    assert finished.returncode == 0, finished.stderr
    records = json.loads((folder / "test_annotated_domain.json").read_text())
    for record in records:
        assert (record["k_cutoff"] is None) == (record["type"] == "train_inferred")
    counts = {
        label: sum(r["coverage"] for r in records if r["type"] == label)
        for label in ("type_0", "type_1", "type_2", "type_3")
    }
    for label, count in counts.items():
        assert re.search(rf"{label} \(.*\) +{count} of", finished.stdout)
    assert not (folder / "test_annotated.json").exists()
    assert (tmp_path / "out" / f"{folder.name}_domain.json").exists()


def test_the_command_explains(folder, run_command):
    record = next(
        r for r in json.loads((folder / "test.json").read_text()) if r["type"] == "type_0"
    )
    before = sorted(p.name for p in folder.iterdir())
    finished = run_command(
        "determine_coverage.py", "--data_dir", folder, "--explain", record["input_text"]
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(record["input_text"])
    assert "What is missing at k =" in finished.stdout
    assert sorted(p.name for p in folder.iterdir()) == before


def test_restricted_fragments_have_files_of_their_own(folder, tmp_path, run_command):
    finished = run_command(
        "determine_coverage.py",
        "--data_dir",
        folder,
        "--fragments",
        "1,2;x2,x3",
        "--k_sweep",
        "--output_dir",
        tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / f"{folder.name}_x1x2+x2x3.json").exists()
    assert (folder / "test_annotated_x1x2+x2x3.json").exists()


def test_names_of_restricted_results(folder):
    two, five = load_dataset(folder), make_dataset(TASKS["fivehop"], 2, {(0,) * 6: 0}, {})

    def name(given, dataset):
        coverage = dataset_coverage(dataset, CoverageSettings(fragments=given))
        return result_name(coverage).removeprefix(dataset.name)

    assert name("all", two) == ""  # nothing is restricted
    assert name("contiguous", two) == "_x1+x2+x3+x1x2+x2x3"
    assert name("contiguous", five).startswith("_20-slot-sets-")
    assert name("1,2;1,2,3;3,4,5,6", five) == "_x1x2+x1x2x3+x3x4x5x6"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--fragments", "1,9"), "--fragments '1,9'"),
        (("--fragments", "1,2", "--ground_truth"), "omit --fragments"),
        (("--visualise", "--scope", "domain"), "omit --scope"),
        (("--explain", "<t_0><t_1><t_2>", "--k_sweep"), "omit --k_sweep"),
        (
            ("--suggest", "3", "--scope", "domain", "--explain", "x"),
            "omit --scope, --explain",
        ),
        (("--suggest", "3", "--noise", "0.1"), "omit --noise"),
        (("--max_k", "3"), "give --k_sweep"),
        (("--export_graph", "g.gexf"), "--export_graph g.gexf must end in .graphml"),
        (("--export_graph", "g.graphml", "--scope", "domain"), "omit --scope"),
        (("--explain", "<t_0><t_1><t_2>", "--export_graph", "g.graphml"), "omit --export_graph"),
        (("--explain", ","), "',' is not a sequence"),
        (("--fragments", ","), "--fragments ','"),
        (("--explain", "<t_0><t_99><t_1>"), "token <t_99>"),
        (("--explain", "<t_0><t_1>"), "has 2 tokens, but task twohop has 3 input slots"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(folder, run_command, refused, flags, words):
    refused(run_command("determine_coverage.py", "--data_dir", folder, *flags), words)


def test_the_example_by_hand_of_the_page_on_coverage_is_right():
    page = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    section = page.split("## An example by hand")[1].split("\n## ")[0]
    table, words = section.split("\nThe fragments", 1)
    pattern = r"(\d) (\d) (\d) -> (\d)"

    def items(text):
        return {(int(a), int(b), int(c)): int(t) for a, b, c, t in re.findall(pattern, text)}

    train, more = items(table), items(words)
    assert (len(train), len(more)) == (5, 2)
    for given, cutoff in ((train, 2), (train | more, 0)):
        dataset = make_dataset(TASKS["twohop"], 10, given, {(1, 2, 9): 2})
        assert dataset_coverage(dataset).cutoffs.tolist() == [cutoff]

"""The exported substitution graph against brute force, and the worked examples of the wing."""

from __future__ import annotations

import doctest
import json
import shutil
from dataclasses import replace

import networkx as nx
import pytest

from coverage_principle.coverage import (
    SCOPES,
    CoverageSettings,
    dataset_coverage,
    noise,
    pairing,
    scopes,
    selection,
    weighing,
)
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from simpletransformers.settings import fields_of
from tests.oracles import coverage_bruteforce as oracle
from tests.test_coverage import make_dataset, random_world


@pytest.mark.parametrize("module", [noise, pairing, selection, weighing])
def test_worked_examples(module):
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_every_scope_is_a_choice_of_the_setting():
    _, spec = fields_of(CoverageSettings)["scope"]
    assert spec.choices == tuple(SCOPES)


@pytest.mark.parametrize("seed", range(24))
def test_the_graph_agrees_with_brute_force(seed):
    graph, _, train, test, _ = random_world(seed)
    test |= dict(list(train.items())[:2])  # two test items are training items
    dataset = make_dataset(graph, 9, train, test)
    coverage = dataset_coverage(dataset)
    decode, slot_sets = dataset.codec.decode, oracle.all_slot_sets(len(graph.inputs))
    cutoffs = oracle.cutoffs(train, {i: a for i, a in test.items() if i not in train}, slot_sets)
    apart = {
        positions: [
            oracle.substitution_graph(train, test, [positions], k)
            for k in range(1, coverage.largest_k + 3)
        ]
        for positions in slot_sets
    }
    for k in range(1, coverage.largest_k + 2):
        found = coverage.graph(k)
        expected = oracle.substitution_graph(train, test, slot_sets, k)
        items = {decode(item): item for item in expected}
        assert set(found) == set(items)
        edges = {frozenset((items[a], items[b])) for a, b in found.edges}
        assert edges == set(map(frozenset, expected.edges))
        of_component = {}
        for text, node in found.nodes(data=True):
            item = items[text]
            of_component.setdefault(node.pop("component"), set()).add(item)
            assert node == {
                "answer": decode([{**train, **test}[item]]),
                "split": "train" if item in train else "type_0",
                "covered": item in train or cutoffs[item] >= k,
                "k_cutoff": coverage.last_row if item in train else cutoffs[item],
            }
        partition = sorted(map(sorted, of_component.values()))
        assert partition == sorted(map(sorted, nx.connected_components(expected)))
        for a, b, edge in found.edges(data=True):
            # How far up each slot set joins the two; the firmest is named, the first of equals.
            reach = {
                positions: sum(g.has_edge(items[a], items[b]) for g in graphs)
                for positions, graphs in apart.items()
            }
            firmest = max(reach, key=reach.get)
            names = ",".join(graph.inputs[i] for i in firmest)
            assert edge == {"slots": names, "evidence": reach[firmest]}


def test_the_written_graph_reads_back(small_dataset, tmp_path, run_command):
    folder = tmp_path / small_dataset.name
    shutil.copytree(small_dataset, folder)
    file = tmp_path / "out" / "graph.graphml"
    finished = run_command(
        *("determine_coverage.py", "--data_dir", folder, "--min_evidence", 2),
        *("--output_dir", tmp_path, "--export_graph", file),
    )
    assert finished.returncode == 0, finished.stderr
    assert str(file) in finished.stdout
    expected = dataset_coverage(load_dataset(folder)).graph(2)
    found = nx.read_graphml(file)
    assert dict(found.nodes(data=True)) == dict(expected.nodes(data=True))
    assert {a: dict(b) for a, b in found.adj.items()} == {
        a: dict(b) for a, b in expected.adj.items()
    }
    assert found.number_of_edges() > 100
    annotated = json.loads((folder / "test_annotated.json").read_text())
    covered = {r["input_text"]: r["coverage"] for r in annotated if r["type"] == "type_0"}
    assert {text: found.nodes[text]["covered"] for text in covered} == covered


def test_a_graph_that_cannot_be_written_is_refused(monkeypatch):
    dataset = random_world(7)[-1]
    whole = dataset_coverage(dataset, CoverageSettings(scope="domain"))
    with pytest.raises(InputError, match="use `scope` dataset"):
        whole.graph(1)
    coverage = dataset_coverage(dataset)
    assert coverage.graph(1).number_of_edges() > 1
    with pytest.raises(InputError, match="at least 2, from which on"):
        replace(coverage, settings=CoverageSettings(min_evidence=2)).graph(1)
    monkeypatch.setattr(scopes, "MOST_PAIRS", 1)
    with pytest.raises(InputError, match="more than 1 edges of one slot set.*raise `min_evidence`"):
        coverage.graph(1)


def test_settings_of_which_one_would_be_ignored_are_refused():
    with pytest.raises(InputError, match="`suggest` .*; omit `scope`, `explain`"):
        CoverageSettings(suggest=3, scope="domain", explain="x")
    with pytest.raises(InputError, match="`min_evidence` 0 is too small"):
        CoverageSettings(min_evidence=0)
    assert CoverageSettings(min_evidence=3).lowest_k == 3
    assert CoverageSettings(min_evidence=3, export_graph="a.graphml").lowest_k == 1

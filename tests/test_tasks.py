"""Task graphs: what is derived from them, and which graphs are refused."""

import doctest
import re
from itertools import product

import pytest

from coverage_principle import tasks
from coverage_principle.data import find_task
from coverage_principle.errors import InputError
from coverage_principle.experiments import RunSettings
from coverage_principle.tasks import TASKS, Function, TaskGraph, generator_name, task_name
from tests.conftest import ROOT


def test_published_type_numbers_of_two_functions():
    graph = TASKS["twohop"]
    numbering = {(1, 1): "type_0", (0, 0): "type_1", (0, 1): "type_2", (1, 0): "type_3"}
    for bits, label in numbering.items():
        assert graph.type_label(bits) == label
        assert graph.type_seen(label) == tuple(map(bool, bits))


def test_published_type_numbers_of_three_functions():
    graph = TASKS["parallel2hop"]
    order = ["111", "000", "001", "010", "011", "100", "101", "110"]
    assert [graph.type_label([c == "1" for c in bits]) for bits in order] == list(graph.type_labels)


@pytest.mark.parametrize(
    ("task", "value", "slots"),
    [
        ("twohop", "b", ("x1", "x2")),
        ("threehop", "b2", ("x1", "x2", "x3")),
        ("parallel2hop", "b2", ("x3", "x4")),
        ("nontree", "t", ("x1", "x2", "x3")),
        ("fivehop", "b4", ("x1", "x2", "x3", "x4", "x5")),
    ],
)
def test_fragments(task, value, slots):
    assert TASKS[task].fragment(value) == slots
    assert TASKS[task].fragment_positions(value) == tuple(int(s[1:]) - 1 for s in slots)


def test_bridges_are_in_evaluation_order():
    assert TASKS["fivehop"].bridges == ("b1", "b2", "b3", "b4")
    assert TASKS["parallel2hop"].bridges == ("b1", "b2")


def test_only_the_nontree_task_is_path_ambiguous():
    ambiguous = {name: graph.ambiguous_slots for name, graph in TASKS.items()}
    assert ambiguous.pop("nontree") == ("x2",)
    assert set(ambiguous.values()) == {()}


def test_a_shared_bridge_makes_its_slots_ambiguous():
    graph = TaskGraph(
        "diamond",
        ("x1", "x2"),
        (
            Function("f1", "b", ("x1",)),
            Function("f2", "c", ("b", "x2")),
            Function("f3", "t", ("b", "c")),
        ),
    )
    assert graph.ambiguous_slots == ("x1",)


@pytest.mark.parametrize("task", TASKS)
def test_description_round_trip(task):
    assert TaskGraph.from_dict(TASKS[task].to_dict()) == TASKS[task]


F = Function


@pytest.mark.parametrize(
    ("inputs", "functions", "named"),
    [
        (("x1", "x2"), (F("f1", "t", ("x1",)),), "x2"),
        (("x1",), (F("f1", "b", ("x1",)), F("f2", "t", ("x1",))), "'b'"),
        (("x1",), (F("f1", "t", ("x1", "y")),), "'y'"),
        (("x1",), (F("f1", "a", ("x1", "b")), F("f2", "b", ("a",))), "cycle"),
        (("x1",), (F("f1", "x1", ("x1",)),), "already exists"),
        (("x1",), (F("f1", "b", ("x1",)), F("f1", "t", ("b",))), "defined twice"),
        (("x1", "x1"), (F("f1", "t", ("x1",)),), "named twice"),
        (("x1",), (), "no functions"),
        ((), (F("f1", "t", ("x1",)),), "no input slots"),
    ],
)
def test_invalid_graphs_are_refused_with_the_culprit_named(inputs, functions, named):
    with pytest.raises(InputError, match=named):
        TaskGraph("broken", inputs, functions)


def test_a_malformed_description_is_refused():
    with pytest.raises(InputError, match="sources"):
        TaskGraph.from_dict(
            {"name": "x", "inputs": ["x1"], "functions": [{"name": "f", "output": "t"}]}
        )


def test_the_examples_are_right():
    assert doctest.testmod(tasks) == (0, 4)


def test_a_task_goes_by_its_own_name_and_by_its_generators():
    for name in ("parallel2hop", "parallel-twohop"):
        assert task_name(name) == "parallel2hop"
        assert generator_name(name) == "parallel-twohop"
        assert find_task(name) is TASKS["parallel2hop"]
        described = {**TASKS["parallel2hop"].to_dict(), "name": name}
        assert TaskGraph.from_dict(described) == TASKS["parallel2hop"]
        settings = {"task": name, "data": {"num_tokens": 4}}
        assert RunSettings.resolve(settings).task == "parallel-twohop"
    for name in TASKS:
        assert task_name(name) == name
        assert task_name(generator_name(name)) == name
        assert (ROOT / "dataset_generation" / f"{generator_name(name)}.py").is_file()
    with pytest.raises(InputError, match="`task` sixhop is neither a file nor one of twohop"):
        find_task("sixhop")


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        ("twohop", "type_0", "type_0 (every call seen)"),
        ("twohop", "type_1", "type_1 (both unseen)"),
        ("twohop", "type_2", "type_2 (f1 unseen)"),
        ("twohop", "type_3", "type_3 (f2 unseen)"),
        ("twohop", "type_1+f1", "type_1+f1 (f2 unseen; f1 known as a fact only)"),
        ("twohop", "type_1+f1+f2", "type_1+f1+f2 (f1 and f2 known as facts only)"),
        ("twohop", "type_3+f2", "type_3+f2 (f2 known as a fact only)"),
        ("threehop", "type_1", "type_1 (all unseen)"),
        ("threehop", "type_3", "type_3 (f1 and f3 unseen)"),
        ("fivehop", "type_2", "type_2 (f1, f2, f3 and f4 unseen)"),
        ("nontree", "train_inferred", "train_inferred (training items)"),
        ("twohop", "fact_only", "fact_only (single facts, used by no training composition)"),
        # What is no type is left alone: a group of one, types of other tasks, those of others.
        ("twohop", "type_0/k_cutoff=3", "type_0/k_cutoff=3"),
        ("twohop", "type_4", "type_4"),
        ("twohop", "all", "all"),
    ],
)
def test_types_in_words(task, label, words):
    assert TASKS[task].explained(label) == words


@pytest.mark.parametrize("task", TASKS)
def test_the_words_of_a_type_name_the_functions_whose_calls_are_unseen(task):
    """Read back against ``type_label``, whatever the number of functions."""
    graph = TASKS[task]
    for bits in product((True, False), repeat=len(graph.functions)):
        unseen = [f.name for f, seen in zip(graph.functions, bits, strict=True) if not seen]
        found = graph.words(graph.type_label(bits))
        if 0 < len(unseen) < len(bits):
            assert re.findall(r"f\d", found) == unseen and found.endswith("unseen")
        else:
            assert found in ({"both unseen", "all unseen"} if unseen else {"every call seen"})


def test_the_type_of_a_task_of_one_function_says_that_an_item_is_new():
    graph = TaskGraph("recall", ("x1", "x2"), (Function("f1", "t", ("x1", "x2")),))
    assert graph.explained("type_0") == "type_0 (not in training)"

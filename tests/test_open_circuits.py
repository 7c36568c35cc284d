"""Circuit analysis where slots have alphabets of their own: models are given ids, not values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from coverage_principle.circuits import items
from coverage_principle.circuits.counterfactuals import family_of
from coverage_principle.circuits.interchange import draw_interchange
from coverage_principle.circuits.trace import plan_trace
from coverage_principle.data import (
    EntityWorldSettings,
    FormatSettings,
    dataset_files,
    generate_entity_world,
    load_dataset,
    write_dataset,
)

SETTINGS = EntityWorldSettings(
    num_entities=20, num_relations=8, out_degree=5, phi=2.5, ood_ratio=0.1, test_size_for_type=40
)


@pytest.fixture(scope="module", params=[False, True], ids=["answer", "cot"])
def dataset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open") / "data"
    files, metadata = dataset_files(
        generate_entity_world(SETTINGS), FormatSettings(cot=request.param)
    )
    write_dataset(folder, files, metadata, overwrite=False)
    return load_dataset(folder)


@pytest.fixture(scope="module")
def facts(dataset):
    """``{(entity, relation): entity}`` as text, from the file of facts."""
    table = {}
    for record in load_dataset(dataset.path).train.facts.records:
        call = re.findall("<[^<>]+>", record["input_text"])
        table[tuple(call)] = record["target_text"][len(record["input_text"]) : -len("</a>")]
    return table


def words(dataset, ids):
    return [dataset.codec.vocabulary[i] for i in ids]


def chain(facts, prompt):
    head, first, second = prompt
    bridge = facts[head, first]
    return bridge, facts[bridge, second]


def test_traced_prompts_and_answers_are_tokens_of_the_facts(dataset, facts):
    family = family_of(dataset.graph, "diff_f1")
    splits = items.item_splits(dataset, items.grouping_of(dataset.graph, "b"), out_of_domain=True)
    assert {"ood", "ood_fact"} <= {*splits}
    assert all(name.endswith(("+f1", "+f1+f2")) for name in splits["ood_fact"].types)
    plan = plan_trace(dataset, family, splits, seed=0)
    emitted = len(plan.layout.emitted)
    assert len(plan.rows) > 30
    for row, original, source, wanted in zip(
        plan.rows, plan.originals, plan.sources, plan.wanted, strict=True
    ):
        own, other = words(dataset, original), words(dataset, source)
        assert "".join(own) == dataset.test.records[row]["input_text"]
        assert own[0] == other[0] and own[1] != other[1] and own[2] == other[2]
        for side, prompt in enumerate((own, other)):
            expected = chain(facts, prompt)[-emitted:]
            assert tuple(words(dataset, wanted[:, side])) == expected


def test_sequences_are_the_records_own_tokens(dataset):
    rows = np.arange(len(dataset.test))
    for row, ids in zip(rows, items.sequences(dataset, rows), strict=True):
        assert "".join(words(dataset, ids)) + "</a>" == dataset.test.records[row]["target_text"]


def test_groups_are_of_equal_bridges(dataset, facts):
    grouping = items.grouping_of(dataset.graph, "b")
    codes = grouping.codes(dataset, dataset.test.inputs, dataset.test.answers)
    names = [
        chain(facts, re.findall("<[^<>]+>", record["input_text"]))[0]
        for record in dataset.test.records
    ]
    assert (
        len({*zip(codes.tolist(), names, strict=True)}) == len({*names}) == len({*codes.tolist()})
    )


def test_interchanged_fragments_keep_the_bridge(dataset, facts):
    test = dataset.test.inputs
    drawn = draw_interchange(dataset, "b", test, test, seed=0)
    assert len(drawn.rows) > 30
    for row, changed, answer in zip(drawn.rows, drawn.inputs, drawn.answers, strict=True):
        before, after = (
            re.findall("<[^<>]+>", dataset.text(values)) for values in (test[row], changed)
        )
        assert before[:2] != after[:2] and before[2] == after[2]
        assert chain(facts, before) == chain(facts, after)
        assert dataset.text([answer], ["t"]) == chain(facts, after)[1]

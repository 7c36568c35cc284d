"""The circuit library against slow references on tiny random models."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import GPT2Config, GPT2LMHeadModel

from coverage_principle import circuits
from coverage_principle.circuits import items
from coverage_principle.circuits.states import Site
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from coverage_principle.tasks import TASKS
from tests.oracles import circuits_bruteforce as slow

LAYERS, ATTENTION = (1, 2, 8), ("sdpa", "eager")


def random_model(num_layers, attention="sdpa", tokens=11, outputs=24):
    """A tiny model with weights large enough that rounding decides nothing.

    Its ids are a shuffled part of its outputs, so nothing works by equal ids.
    """
    torch.manual_seed(num_layers)
    config = GPT2Config(
        vocab_size=outputs,
        n_layer=num_layers,
        n_head=2,
        n_embd=16,
        n_positions=8,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation=attention,
    )
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    ids = torch.randperm(outputs, generator=torch.Generator().manual_seed(7))[:tokens]
    return circuits.LoadedModel(model, ids)


@pytest.fixture(scope="module", params=itertools.product(LAYERS, ATTENTION), ids=str)
def loaded(request):
    return random_model(*request.param)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).integers(0, 10, size=(9, 3))


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


# --------------------------------------------------------------------------------------- states


def test_residual_states_are_those_that_transformers_reports(loaded, rows):
    last = loaded.num_layers
    sites = circuits.sites_of("residual", last, 3, None)
    sites += [Site(0, position) for position in range(3)]
    found = circuits.collect_states(loaded, rows, sites, batch_size=4)
    reported = loaded.model(loaded.encode(rows), output_hidden_states=True).hidden_states
    for site in sites:
        if site.layer < last or site.after_ln_f:
            expected = reported[site.layer][:, site.position].numpy()
            np.testing.assert_allclose(found[site], expected, atol=1e-5)
        else:  # hidden_states[L] is after ln_f, so the raw state must become it
            normed = loaded.model.transformer.ln_f(torch.from_numpy(found[site])).numpy()
            np.testing.assert_allclose(normed, reported[last][:, site.position], atol=1e-5)
            assert not np.allclose(found[site], normed)


def test_streams_add_up_to_the_residual_stream(loaded, rows):
    for layer in range(1, loaded.num_layers + 1):
        site = [Site(layer, 2)]
        middle, mlp, after = (
            circuits.collect_states(loaded, rows, site, stream=stream)[site[0]]
            for stream in ("post_attention", "post_mlp", "residual")
        )
        np.testing.assert_allclose(middle + mlp, after, atol=1e-5)


def test_embedding_logit_and_probability_streams(loaded, rows):
    model, ids = loaded.model, loaded.token_ids
    embedding = circuits.collect_states(loaded, rows, [Site(0, 1)], stream="embedding")
    np.testing.assert_array_equal(
        embedding[Site(0, 1)], model.transformer.wte(loaded.encode(rows[:, 1]))
    )
    top = Site(loaded.num_layers, 2)
    logits = model(loaded.encode(rows)).logits[:, 2]
    found = circuits.collect_states(loaded, rows, [top], stream="logit")[top]
    np.testing.assert_allclose(found, logits[:, ids], atol=1e-5)
    found = circuits.collect_states(loaded, rows, [top], stream="prob")[top]
    np.testing.assert_allclose(found, logits.softmax(-1)[:, ids], atol=1e-6)


def test_sites_name_layer_L_before_and_after_the_final_norm():
    assert circuits.sites_of("residual", 2, 3, [(2, 1)]) == [
        Site(2, 1),
        Site(2, 1, after_ln_f=True),
    ]
    assert len(circuits.sites_of("residual", 2, 3, None)) == 9
    assert circuits.sites_of("logit", 2, 3, None) == [Site(2, p) for p in range(3)]
    for stream, pair in (("residual", (3, 0)), ("residual", (1, 3)), ("post_mlp", (0, 0))):
        with pytest.raises(InputError, match="`pairs`"):
            circuits.sites_of(stream, 2, 3, [pair])
    with pytest.raises(InputError, match="`stream` attention"):
        circuits.sites_of("attention", 2, 3, None)


def test_a_state_that_does_not_exist_is_an_error_and_only_what_is_asked_for_is_kept(rows):
    loaded = random_model(2)
    for place in (("residual", 3), ("post_mlp", 0), ("embedding", 1), ("attention", 1)):
        with pytest.raises(ValueError, match=f"no state at .*{place[0]}"):
            loaded.run(rows, [place, ("residual", 0)])
    kept = [("residual", 1), ("embedding", 0)]
    assert set(loaded.run(rows, kept)) == set(kept)


# ------------------------------------------------------------------------------------- patching


@pytest.fixture(scope="module")
def pairs(rows):
    """Originals, sources that differ in the second token, and answers t, t' (n, 1, 2)."""
    sources = rows.copy()
    sources[:, 1] = (rows[:, 1] + 3) % 10
    answers = np.stack([rows[:, 0], (rows[:, 0] + 1) % 10], axis=1)
    return rows, sources, answers[:, None]


def test_own_states_change_nothing_and_all_of_the_sources_states_give_its_output(loaded, pairs):
    originals, sources, _ = pairs
    layers = range(loaded.num_layers + 1)
    keep = [("residual", layer) for layer in layers]
    mine, theirs = loaded.run(originals, keep), loaded.run(sources, keep)

    def scores_from(state, layer):
        return loaded.logits(loaded.network.finish(state, layer))

    output = {
        name: loaded.model(loaded.encode(inputs)).logits[:, -1, loaded.token_ids]
        for name, inputs in (("mine", originals), ("theirs", sources))
    }
    for layer in layers:
        torch.testing.assert_close(scores_from(mine["residual", layer], layer), output["mine"])
        everything = mine["residual", layer].clone()
        everything[:] = theirs["residual", layer]
        torch.testing.assert_close(scores_from(everything, layer), output["theirs"])


@pytest.mark.parametrize("stream", circuits.PATCHED)
def test_patching_a_run_with_its_own_states_changes_nothing(loaded, pairs, stream):
    """Sources that differ in the first token only where nothing is read: at an item put last."""
    originals, sources, answers = pairs
    # The last item's source differs, so no position is skipped as the same in both runs.
    mixed = originals.copy()
    mixed[-1] = (originals[-1] + 1) % 10
    (found,) = circuits.patch_runs(loaded, originals, mixed, answers, stream=stream)
    for readout in ("rank", "logit"):
        after, before = found.after[readout][:, :, :-1], found.before[readout][:-1]
        np.testing.assert_allclose(after, np.broadcast_to(before, after.shape), atol=1e-5)


def test_trace_equals_one_forward_a_cell(loaded, pairs):
    originals, sources, answers = pairs
    (found,) = circuits.patch_runs(
        loaded, originals, sources, answers, probabilities=True, batch_size=4
    )
    model, ids, answers = loaded.model, loaded.token_ids.tolist(), answers[:, 0]

    def compare(scores, place, logits, sample):
        """Every readout of one forward against the ``place`` in the arrays of scores."""
        wanted = [ids[a] for a in answers[sample]]
        read = {
            "rank": [slow.rank_of(logits, token, ids) for token in wanted],
            "logit": logits[wanted].tolist(),
            "prob": logits.softmax(-1)[wanted].tolist(),
        }
        for readout, values in read.items():
            np.testing.assert_allclose(scores[readout][place], values, atol=1e-5)

    for sample in range(len(originals)):
        mine, theirs = ([ids[i] for i in r[sample]] for r in (originals, sources))
        before, source = (model(torch.tensor([r])).logits[0, -1] for r in (mine, theirs))
        compare(found.before, sample, before, sample)
        compare(found.source, sample, source, sample)
        first = [
            slow.rank_of(before, ids[answers[sample, 0]], ids) == 0,
            slow.rank_of(source, ids[answers[sample, 1]], ids) == 0,
        ]
        assert [found.answers_original[sample], found.answers_source[sample]] == first
        for i, layer in enumerate(found.layers):
            for position in found.positions:
                logits = slow.patched_logits(model, mine, theirs, layer, position)
                compare(found.after, (i, position, sample), logits, sample)


def test_trace_of_the_slot_before_the_changed_one_does_nothing(loaded, pairs):
    (found,) = circuits.patch_runs(loaded, *pairs)
    assert found.layers == tuple(range(1, loaded.num_layers + 1))
    before, source, after = (side["logit"] for side in (found.before, found.source, found.after))
    np.testing.assert_array_equal(after[:, 0], np.broadcast_to(before, after[:, 0].shape))
    # Layer L, the yardstick: the last position gives the source run, the others nothing.
    np.testing.assert_array_equal(after[-1, 2], source)
    np.testing.assert_array_equal(after[-1, 1], before)


def test_a_model_whose_blocks_cannot_be_run_by_hand_is_an_error():
    loaded = random_model(2)
    loaded.model.transformer.ln_f.register_forward_hook(
        lambda _module, _arguments, output: output if output.ndim == 3 else output + 1
    )
    with pytest.raises(RuntimeError, match="does not reproduce"):
        loaded.network  # noqa: B018


# -------------------------------------------------------------------------------------- metrics


def made_up_trace(readout, rng, n=60, layers=3):
    if readout == "rank":
        draw = lambda *shape: rng.integers(0, 9, size=shape).astype(np.int32)  # noqa: E731
    else:
        draw = lambda *shape: rng.random(shape).astype(np.float32)  # noqa: E731
    before, source = draw(n, 2), draw(n, 2)
    if readout == "prob":
        source = np.sqrt(np.sqrt(source))  # mostly above the patches
    after = draw(layers, 3, n, 2)
    after[-1, 2] = source + np.float32(1e-7) if readout == "prob" else source
    sides = [{readout: values} for values in (before, source, after)]
    for side in sides:
        shape = side[readout].shape
        side.setdefault("rank", rng.integers(0, 3, size=shape).astype(np.int32))
        side.setdefault("logit", rng.normal(size=shape).astype(np.float32))
    return circuits.Trace(tuple(range(1, layers + 1)), (0, 1, 2), *sides)


def test_rank_summary_counts_as_published():
    trace = made_up_trace("rank", np.random.default_rng(1))
    members = np.arange(0, 60, 2)
    summary = circuits.summarise_trace(trace, members, ("x1", "x2", "x3"), seed=0)
    assert len(summary["cells"]) == 9
    for cell in summary["cells"]:
        after = trace.after["rank"][cell["layer"] - 1, cell["position"]]
        samples = [(*trace.before["rank"][i], *after[i]) for i in members]
        expected = slow.published_rank_counts(samples)
        found = cell["published"]
        counts = {k: found[k]["count"] for k in expected if k != "n"}
        assert {"n": found["n"], **counts} == expected
        chosen = [i for i in members if trace.before["rank"][i, 0] <= trace.before["rank"][i, 1]]
        assert found["changed_first"]["count"] == (after[chosen, 1] == 0).sum()
        shift = [
            np.diff(trace.after["logit"][cell["layer"] - 1, cell["position"], i])
            - np.diff(trace.before["logit"][i])
            for i in chosen
        ]
        assert found["logit_shift"]["mean"] == pytest.approx(np.mean(shift), abs=1e-6)
        for name in ("changed_in_top6", "changed_above_original", "both", "changed_first"):
            low, high = found[name]["interval"]
            assert found[name]["rate"] == found[name]["count"] / found["n"]
            assert low <= found[name]["rate"] <= high
        assert cell["unfiltered"]["n"] == 30
        right = trace.answers_original[members] & trace.answers_source[members]
        assert cell["both_correct"]["n"] == right.sum() == summary["samples"]["both_correct"]
    (dropped,) = summary["filtered_out"].values()
    assert dropped["x2"] == 30 - summary["cells"][0]["published"]["n"]


def test_prob_summary_is_the_published_mean_of_ratios():
    trace = made_up_trace("prob", np.random.default_rng(2))
    summary = circuits.summarise_trace(
        trace, np.arange(60), ("x1", "x2", "x3"), metric="prob", seed=0
    )
    cells = {(c["layer"], c["position"]): c for c in summary["cells"]}
    for position in range(3):
        # The published script looks at layers below L only.
        kept, means = slow.published_relative_changes(
            trace.before["prob"][:, 1].tolist(),
            trace.source["prob"][:, 1].tolist(),
            trace.after["prob"][:-1, position, :, 1].tolist(),
        )
        assert 0 < kept < 60
        dropped = sum(counts[f"x{position + 1}"] for counts in summary["filtered_out"].values())
        assert dropped == 60 - kept
        for layer, mean in enumerate(means, start=1):
            found = cells[layer, position]["published"]
            assert found["n"] == kept
            assert found["relative_change"]["mean"] == pytest.approx(mean, rel=1e-5)
    before, source, after = (s["prob"] for s in (trace.before, trace.source, trace.after))
    gain = (source[:, 1] - before[:, 1]).astype(float)
    change = (after[0, 1, :, 1] - before[:, 1]).astype(float)
    of_means = cells[1, 1]["unfiltered"]["relative_change_of_means"]
    assert of_means["mean"] == pytest.approx(change.mean() / gain.mean(), rel=1e-5)
    assert of_means["interval"][0] <= of_means["mean"] <= of_means["interval"][1]


def test_a_subset_without_samples_has_no_rate():
    trace = made_up_trace("rank", np.random.default_rng(3))
    trace.source["rank"][:, 1] = 4
    summary = circuits.summarise_trace(trace, np.arange(60), ("x1", "x2", "x3"), seed=0)
    empty = summary["cells"][0]["both_correct"]
    assert empty["n"] == 0
    assert empty["both"] == {"count": 0, "rate": None, "interval": None}
    json.dumps(summary, allow_nan=False)


def test_bootstrap_interval_of_a_mean_is_about_two_standard_errors():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, size=(400, 2))
    intervals = np.array(circuits.Bootstrap(400, rng).intervals(values.T))
    half = (intervals[:, 1] - intervals[:, 0]) / 2
    np.testing.assert_allclose(half, 1.96 * values.std(axis=0) / 20, rtol=0.15)


# ----------------------------------------------------------------------------------- similarity


def agrees(found, expected):
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-6)), name


@given(
    vectors=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 14), st.integers(1, 5)),
        elements=st.floats(-9, 9, width=16),
    ).filter(lambda v: (np.abs(v).max(axis=1) > 0.1).all()),
    data=st.data(),
)
def test_similarity_equals_all_pairs(vectors, data):
    groups = data.draw(
        st.lists(st.integers(0, 4), min_size=len(vectors), max_size=len(vectors)).map(np.array)
    )
    expected = slow.cosine_statistics(vectors, groups.tolist())
    if expected["between_centroid"] is not None and np.isnan(expected["between_centroid"]):
        del expected["between_centroid"]  # a mean of exactly zero has no direction
    agrees(circuits.measure_similarity(vectors, groups), expected)


def test_similarity_of_a_hand_worked_case():
    vectors = np.array([[2.0, 0], [0, 3], [1, 0], [0, 0.5], [0, 7]])
    groups = np.array([0, 0, 1, 2, 2])
    agrees(
        circuits.measure_similarity(vectors, groups),
        {
            "within": 0.5,
            "within_balanced": 0.5,  # 0 in group 0, 1 in group 2
            "between_all": 3 / 8,  # 01: 1 0, 02: 0 0 1 1, 12: 0 0
            "between_balanced": (1 / 2 + 1 / 2 + 0) / 3,
            "iicg": 1 / 8,
            "iicg_balanced": 1 / 2 - 1 / 3,
        },
    )


def test_similarity_without_pairs_and_without_vectors():
    alone = circuits.measure_similarity(np.ones((1, 3)), np.zeros(1), rng=np.random.default_rng(0))
    assert alone["within"] is alone["between_all"] is alone["iicg"] is None
    assert alone["iicg_interval"] is None
    assert circuits.measure_similarity(np.ones((0, 3)), np.zeros(0))["iicg"] is None


def test_similarity_interval_covers_no_gap_where_there_is_none_and_a_gap_where_there_is():
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 20, size=600)
    noise = rng.normal(size=(600, 32))
    shared = rng.normal(size=(20, 32))[groups]
    flat = circuits.measure_similarity(noise, groups, rng=np.random.default_rng(0))
    assert flat["iicg_interval"][0] < 0.005 and flat["iicg_interval"][1] > -0.005
    clustered = circuits.measure_similarity(noise + shared, groups, rng=np.random.default_rng(0))
    low, high = clustered["iicg_interval"]
    assert 0.3 < low < clustered["iicg"] < high < 0.7
    again = circuits.measure_similarity(noise + shared, groups, rng=np.random.default_rng(0))
    assert again == clustered


# ------------------------------------------------------------------------------ counterfactuals


def as_dict(table):
    return {tuple(map(int, index)): int(table[tuple(index)]) for index in np.argwhere(table >= 0)}


def test_counterfactuals_are_exactly_those_of_the_definition(dataset):
    f1, f2 = (as_dict(table) for table in dataset.tables())
    train = dataset.train.inputs.tolist()
    originals = dataset.test.inputs[dataset.test.types == "type_0"]
    family = circuits.diff_family(dataset.graph, 0)
    assert (family.name, family.slot) == ("diff_f1", "x2")
    allowed = [slow.diff_f1_candidates(train, f1, f2, tuple(item)) for item in originals.tolist()]
    drawn = [circuits.draw_counterfactuals(dataset, family, originals, seed=s) for s in range(40)]
    for found in drawn:
        np.testing.assert_array_equal(found.candidates, [len(options) for options in allowed])
        np.testing.assert_array_equal(found.rows, np.flatnonzero(found.candidates))
        for row, (x1, x2, x3), answer in zip(
            found.rows, found.inputs.tolist(), found.answers, strict=True
        ):
            assert (x1, x3) == (originals[row][0], originals[row][2])
            assert x2 in allowed[row]
            assert answer == f2[f1[x1, x2], x3]
    # Every candidate is drawn: with 40 seeds an item of few candidates sees them all.
    row = min(drawn[0].rows, key=lambda r: len(allowed[r]))
    place = list(drawn[0].rows).index(row)
    assert {int(found.inputs[place, 1]) for found in drawn} == set(allowed[row])


def test_a_counterfactual_depends_on_its_item_and_the_seed_alone(dataset):
    family = circuits.diff_family(dataset.graph, 0)
    originals = dataset.test.inputs[dataset.test.types == "type_0"]
    whole = circuits.draw_counterfactuals(dataset, family, originals, seed=5)
    order = np.random.default_rng(0).permutation(len(originals))[:20]
    part = circuits.draw_counterfactuals(dataset, family, originals[order], seed=5)
    of = {tuple(originals[r]): i.tolist() for r, i in zip(whole.rows, whole.inputs, strict=True)}
    for row, counterfactual in zip(part.rows, part.inputs.tolist(), strict=True):
        assert of[tuple(originals[order[row]])] == counterfactual
    other = circuits.draw_counterfactuals(dataset, family, originals, seed=6)
    assert not np.array_equal(whole.inputs, other.inputs)


def test_items_without_a_counterfactual_say_why(dataset):
    family = circuits.diff_family(dataset.graph, 0)
    # f1 calls with an x1 that training never uses have no seen alternative.
    used = set(dataset.train.inputs[:, 0].tolist())
    kept = dataset.train.inputs[:, 0] != 0
    train = dataset.train.inputs[kept]
    assert 0 in used
    rows = {name: getattr(dataset.train, name)[kept] for name in ("targets", "answers")}
    split = replace(dataset.train, inputs=train, **rows)
    smaller = replace(dataset, train=split)
    originals = np.array([[0, 1, 2], train[0]], dtype=np.int32)
    found = circuits.draw_counterfactuals(smaller, family, originals, seed=0)
    assert found.reasons[0] == "no other x2 makes a seen call of f1"
    everything = np.concatenate([dataset.test.inputs, dataset.train.inputs])
    found = circuits.draw_counterfactuals(dataset, family, everything, seed=0)
    np.testing.assert_array_equal(found.reasons == "", found.candidates > 0)


@pytest.mark.parametrize(
    ("task", "index", "slot"),
    [
        ("twohop", 0, "x2"),
        ("threehop", 1, "x3"),
        ("parallel2hop", 1, "x4"),
        ("nontree", 0, "x1"),
        ("fivehop", 3, "x5"),
    ],
)
def test_families_of_other_tasks_follow_from_the_graph(task, index, slot):
    assert circuits.diff_family(TASKS[task], index).slot == slot


@pytest.mark.parametrize(("task", "index"), [("twohop", 1), ("parallel2hop", 2)])
def test_the_answers_function_has_no_family(task, index):
    with pytest.raises(InputError, match="no counterfactual"):
        circuits.diff_family(TASKS[task], index)


# ---------------------------------------------------------------------------------------- items


@pytest.mark.parametrize(
    ("index", "unseen"), [(0, {"type_1", "type_2"}), (1, {"type_1", "type_3"})]
)
def test_splits_keep_the_first_item_of_each_fragment(dataset, index, unseen):
    width = 2 if index == 0 else 3
    types = {"id_train": {"train_inferred"}, "id_test": {"type_0"}, "ood": unseen}
    grouping = circuits.grouping_of(dataset.graph, index + 1)
    splits = items.item_splits(dataset, grouping, out_of_domain=True)
    assert set(splits) == set(types)
    for name, split in splits.items():
        assert set(split.types) == types[name]
        first = {}
        for row, (inputs, kind) in enumerate(
            zip(dataset.test.inputs.tolist(), dataset.test.types, strict=True)
        ):
            if kind in types[name]:
                first.setdefault(tuple(inputs[:width]), row)
        assert split.rows.tolist() == list(first.values())
        assert split.available == np.isin(dataset.test.types, list(types[name])).sum()


def test_k_groups_are_parsed_as_written():
    groups = items.parse_k_groups("1-2, 3,4+")
    assert [(g.name, g.low, g.high) for g in groups] == [
        ("1-2", 1, 2),
        ("3", 3, 3),
        ("4+", 4, None),
    ]
    assert groups[2].holds(np.array([3, 4, 9])).tolist() == [False, True, True]
    for wrong in ("", "2-1", "a", "1-", "-1", "1-2-3", "1;2"):
        with pytest.raises(InputError, match="1-2,3,4\\+"):
            items.parse_k_groups(wrong)


@pytest.mark.parametrize("task", TASKS)
def test_interchange_keeps_the_first_value_whatever_it_is_called(task):
    (default,) = (f.default for f in fields(circuits.InterchangeSettings) if f.name == "group_by")
    assert items.grouping_of(TASKS[task], default).name == TASKS[task].bridges[0]

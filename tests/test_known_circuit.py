"""The tools against Transformers whose circuit is known, because their weights were written so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coverage_principle import circuits
from coverage_principle.circuits.states import Site
from coverage_principle.data import load_dataset
from coverage_principle.reporting import findings
from tests import handmade_transformer as handmade

#: Where b can be read: from block 2 on at x2, and from block 3 on at x3, which has fetched it.
CARRIES = {(2, 1), (3, 1), (4, 1), (3, 2), (4, 2)}


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


@pytest.fixture(scope="module", params=["plain", "looped", "hidden"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(dataset, kind):
    options = {} if kind == "plain" else {kind: True}
    return handmade.build(dataset.tables(), **options)


@pytest.fixture(scope="module")
def plan(dataset):
    splits = circuits.item_splits(
        dataset, circuits.grouping_of(dataset.graph, "b"), out_of_domain=False
    )
    return circuits.plan_trace(dataset, circuits.diff_family(dataset.graph, 0), splits, seed=0)


def rates(loaded, plan, stream):
    """Share of samples moved to t', by (layer, position); both runs are always answered right."""
    (trace,) = circuits.patch_runs(
        loaded, plan.originals, plan.sources, plan.wanted, stream=stream, batch_size=50
    )
    summary = circuits.summarise_trace(trace, np.arange(len(plan.rows)), plan.slots, seed=0)
    assert summary["samples"]["both_correct"] == len(plan.rows) > 20
    return {
        (cell["layer"], cell["position"]): cell["published"]["changed_first"]["rate"]
        for cell in summary["cells"]
    }


def test_it_answers_every_item(loaded, dataset):
    with torch.no_grad():
        logits = loaded.model(loaded.encode(dataset.test.inputs)).logits[:, -1]
    np.testing.assert_array_equal(logits.argmax(-1), dataset.test.answers)


def test_tracing_the_mlps_finds_where_the_values_are_computed_and_nothing_else(loaded, plan):
    found = rates(loaded, plan, "post_mlp")
    assert {cell for cell, rate in found.items() if rate == 1} == set(handmade.COMPUTED.values())
    assert {cell for cell, rate in found.items() if rate == 0} == set(found) - set(
        handmade.COMPUTED.values()
    )


def test_tracing_the_residual_stream_follows_the_bridge(loaded, plan):
    found = rates(loaded, plan, "residual")
    # x2 carries x2' (layer 1) and b' (layer 2) until block 3 has fetched it; then x3 has it.
    carries = {(1, 1), (2, 1), (3, 2), (4, 2)}
    assert {cell for cell, rate in found.items() if rate == 1} == carries
    assert {cell for cell, rate in found.items() if rate == 0} == set(found) - carries
    assert rates(loaded, plan, "post_attention") == found
    assert rates(loaded, plan, "embedding") == {(0, 0): 0, (0, 1): 1, (0, 2): 0}


def test_clustering_finds_where_the_bridge_appears(loaded, dataset):
    splits = circuits.item_splits(
        dataset, circuits.grouping_of(dataset.graph, "b"), out_of_domain=True
    )
    cells, _ = circuits.cluster_states(
        loaded,
        dataset,
        [Site(layer, p) for layer in range(1, 5) for p in range(3)],
        splits,
        grouping=circuits.grouping_of(dataset.graph, "b"),
        permutations=19,
    )
    for split in ("id_test", "ood"):
        gaps = {(c["layer"], c["position"]): c["iicg"] for c in cells if c["split"] == split}
        clustered = {site for site, gap in gaps.items() if gap > 0.2}
        assert clustered == CARRIES
        assert min(clustered) == handmade.COMPUTED["b"]
        assert all(abs(gap) < 0.06 for site, gap in gaps.items() if site not in clustered)
    computed = next(c for c in cells if (c["layer"], c["position"]) == (2, 1))
    assert computed["iicg_permuted"]["p"] == pytest.approx(1 / 20)
    assert computed["iicg_permuted"]["interval"][1] < computed["iicg"]


def test_the_lens_finds_where_bridge_and_answer_appear(loaded, dataset, plan, kind):
    rows = plan.rows
    f1, f2 = dataset.tables()
    x1, x2, x3 = dataset.test.inputs[rows].T
    b = f1[x1, x2]
    wanted = np.stack([b, f2[b, x3]], axis=1)
    layers, positions = range(5), range(3)
    read = circuits.read_lens(
        loaded, circuits.sequences(dataset, rows), wanted, layers=layers, positions=positions
    )
    found = circuits.summarise_lens(read, np.arange(len(rows)), seed=0)
    bridge = {(layer, p) for layer in layers for p in positions if found[layer, p, 0]["prob"] > 0.9}
    answer = {(layer, p) for layer in layers for p in positions if found[layer, p, 1]["prob"] > 0.9}
    assert answer == {handmade.COMPUTED["t"]}
    assert found[4, 2, 1]["mean_rank"] == 0
    if kind == "hidden":
        # The lens sees b nowhere; the reciprocal rank of one of ten tokens is 0.29 by chance.
        assert not bridge and all(cell["reciprocal_rank"] < 0.45 for cell in found[:, :, 0].flat)
        return
    assert bridge == {(layer, 1) for layer in range(2, 5)}
    assert found[2, 1, 0]["first"] == found[2, 1, 0]["reciprocal_rank"] == 1
    assert found[1, 1, 0]["first"] < 0.3


def test_a_state_with_the_same_bridge_is_as_good(loaded, dataset):
    splits = circuits.item_splits(
        dataset, circuits.grouping_of(dataset.graph, "b"), out_of_domain=True
    )
    originals = dataset.test.inputs[splits["id_test"].rows]
    drawn = circuits.draw_interchange(
        dataset, "b", originals, dataset.test.inputs[splits["ood"].rows], seed=0
    )
    assert len(drawn.rows) > 10
    f1, _ = dataset.tables()
    mine = originals[drawn.rows]
    np.testing.assert_array_equal(f1[tuple(mine[:, :2].T)], f1[tuple(drawn.inputs[:, :2].T)])
    assert (mine[:, :2] != drawn.inputs[:, :2]).any(axis=1).all()
    np.testing.assert_array_equal(
        drawn.answers, dataset.test.answers[splits["id_test"].rows[drawn.rows]]
    )
    wanted = np.stack([drawn.answers, drawn.answers], axis=1)[:, None]
    (trace,) = circuits.patch_runs(loaded, mine, drawn.inputs, wanted)
    summary = circuits.summarise_interchange(trace, ("x1", "x2", "x3"), seed=0)
    kept = {
        (c["layer"], c["position"]): c["unfiltered"]["answer_kept"]["rate"]
        for c in summary["cells"]
    }
    # The copy of x1 is read only at x2, by block 2: before it, half a fragment breaks the bridge.
    assert all(kept[layer, p] == 1 for layer in range(2, 5) for p in range(3))


# ------------------------------------------------------ the commands' files, of a saved checkpoint


@pytest.fixture(scope="module")
def results(loaded, dataset, kind, tmp_path_factory):
    """What each instrument writes about unseen items of the model, saved as training saves one."""
    run = tmp_path_factory.mktemp("known") / kind
    handmade.save(loaded, dataset.codec.vocabulary, run / "final_checkpoint")
    where = {"model_dir": run, "data_dir": dataset.path, "device": "cpu", "save_dir": run / "found"}
    instruments = {
        "lens": circuits.run_lens(circuits.LensSettings(**where, tuned=True)),
        "probe": circuits.run_probe(circuits.ProbeSettings(**where, values=("b",))),
        "subspace": circuits.run_subspace(circuits.SubspaceSettings(**where, subspace="probe")),
        "heads": circuits.run_heads(circuits.HeadSettings(**where)),
    }
    file, lens = instruments["lens"]
    instruments["tuned lens"] = file, lens["tuned"]
    return {
        name: (file, found["checkpoints"]["final_checkpoint"]["id_test"])
        for name, (file, found) in instruments.items()
    }


def findings_in(cells, shown, subset=None):
    """The layers and positions that a figure of the cells shows as findings."""
    return {
        (cell["layer"], cell["position"])
        for cell in cells
        if not cell.get("after_ln_f") and not shown.is_weak(cell, subset)
    }


def test_a_probe_reads_the_bridge_where_it_is_and_in_whatever_directions(results, kind):
    _, cells = results["probe"]
    assert findings_in(cells, circuits.PROBE_READOUTS["accuracy"].shown) == CARRIES
    assert findings_in(cells, circuits.PROBE_READOUTS["bits"].shown) == CARRIES
    for cell in cells:
        if (cell["layer"], cell["position"]) in CARRIES:
            assert cell["accuracy"] == 1 and cell["bits"] > 3
            assert max(cell["shuffled"]["accuracy"]) < 0.3
            assert cell["random_weights"]["accuracy"] < 0.35
    if kind == "looped":
        found = {(cell["loop"], cell["block"]) for cell in cells if cell["layer"] == 2}
        assert found == {(1, 2)}


def test_a_tuned_lens_reads_no_more_than_the_model_says_in_the_end(results, kind):
    """Its maps are learned towards the model's own output, which never says a hidden b."""
    read = {
        value: {
            (cell["layer"], cell["position"])
            for cell in results["tuned lens"][1]
            if cell["value"] == value and cell["reciprocal_rank"] > 0.9
        }
        for value in ("b", "t")
    }
    assert read["b"] == (set() if kind == "hidden" else {(layer, 1) for layer in (2, 3, 4)})
    assert read["t"] == {handmade.COMPUTED["t"]}


def test_only_the_parts_of_states_that_are_written_for_the_bridge_move_the_answer(results, dataset):
    file, summary = results["subspace"]
    shown, moved = circuits.METRICS["rank"].shown, {}
    for part in circuits.PARTS:
        cells = [{**cell, **cell["parts"][part]} for cell in summary["cells"]]
        moved[part] = findings_in(cells, shown, "published")
    assert moved["whole"] == {(1, 1), (2, 1), (3, 2), (4, 2)}
    # At (1, x2) another x2 is carried, not yet another b; at (4, x3) the answer stands beside b.
    assert moved["subspace"] & {(2, 1), (3, 2), (4, 2)} == {(2, 1), (3, 2)}
    assert moved["rest"] & {(2, 1), (3, 2), (4, 2)} == {(4, 2)}
    assert moved["random"] == set()
    n = len(dataset.tables()[0])
    with np.load(file.with_suffix(".npz")) as arrays:
        for site, part in (("layer2_pos1", "bridge"), ("layer3_pos2", "fetched")):
            for fold in range(3):
                basis = arrays[f"final_checkpoint/basis/{site}/fold{fold}"]
                halves = basis.reshape(2, len(basis) // 2, -1)[:, handmade.part_of(part, n)]
                assert (halves**2).sum(axis=(0, 1)).min() > 0.85  # of random ones it is 0.19


def test_the_head_that_fetches_the_bridge_is_named_and_no_other(results):
    _, summary = results["heads"]
    shown = circuits.METRICS["logit"].shown
    named = [cell for cell in summary["cells"] if not shown.is_weak(cell, "unfiltered")]
    layer, head, reader, read = handmade.COPIED["fetched"]
    assert [(c["layer"], c["head"], c["position"]) for c in named] == [(layer, head, reader)]
    # The head that copies x1 looks at it all the same, and in a second loop again.
    looks = {
        (one["layer"], one["head"])
        for one in summary["patterns"]
        if any(max(row) > 0.99 for row in one["weights"][1:])
    }
    assert looks >= {handmade.COPIED[name][:2] for name in handmade.COPIED}
    assert {head for _, head in looks} == {1, 2}


def test_a_report_says_what_is_known(results, kind):
    """The sentences of the quickstart's report, where the lens is blind and where it is not."""
    (_, lens), (_, probe), (_, swap) = (results[name] for name in ("lens", "probe", "subspace"))
    text = findings.lens(200, [cell for cell in lens if cell["value"] == "b"], value="b")
    assert ("reads b nowhere" in text) == (kind == "hidden")
    place = "layer 2 (1.2), position x2" if kind == "looped" else "layer 2, position x2"
    text = findings.probe(200, probe, value="b")
    assert f"best at {place}: it is right for 1.00" in text and text.endswith("clearly less.")
    text = findings.subspace(200, swap["cells"], probe, value="b", last_layer=4)
    assert f"at {place}, looks at 9 directions of the state" in text
    assert "for 100 % of" in text and text.endswith("The answer hangs clearly on these directions.")

"""Interchange of a subspace: against hooks, against models whose subspace is known, as a user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from coverage_principle import circuits
from coverage_principle.circuits.analysis import Subject
from coverage_principle.circuits.probe import fit_probes
from coverage_principle.data import load_dataset, read_json, write_json
from coverage_principle.notebook.run import load_run
from tests import handmade_transformer as handmade
from tests.oracles import circuits_bruteforce as slow
from tests.test_circuit_commands import save_checkpoint

COMMAND = "circuit_analysis/subspace.py"
SITES = [(layer, position) for layer in (1, 2) for position in range(3)]


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


@pytest.fixture(scope="module")
def loaded():
    """A random model, whose ids are the data set's."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 4}
    config = GPT2Config(**sizes, initializer_range=0.4, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return circuits.LoadedModel(model, torch.arange(11))


def study_of(dataset, **settings) -> circuits.Study:
    settings = circuits.SubspaceSettings(model_dir="run", save_dir="out", **settings)
    return circuits.Study(Subject(settings, Path("run"), [], dataset, torch.device("cpu")))


def random_basis(seed: int, width: int, rank: int) -> torch.Tensor:
    drawn = np.random.default_rng(seed).normal(size=(width, rank))
    return torch.tensor(np.linalg.qr(drawn)[0], dtype=torch.float32)


def everywhere(make, count: int) -> dict:
    return {site: [make(site, number) for number in range(count)] for site in SITES}


# ------------------------------------------------------------------------------------- patching


@torch.no_grad()
def hooked(model, original, source, layer, position, projector):
    """Logits of a whole run of the original with P (h' - h) added after a block."""
    block = model.transformer.h[layer - 1]
    apart = slow.output_of(model, block, source) - slow.output_of(model, block, original)

    def add(_module, _arguments, output):
        state = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        state[0, position] += apart[position] @ projector
        return state if isinstance(output, torch.Tensor) else (state, *output[1:])

    handle = block.register_forward_hook(add)
    try:
        return model(torch.tensor([original])).logits[0, -1]
    finally:
        handle.remove()


def test_each_part_is_what_hooks_give(loaded, dataset):
    """Every cell of some samples, each by a run of its own with its fold's or draw's projector."""
    study = study_of(dataset, max_items=9)
    learned = everywhere(lambda site, fold: random_basis(fold + 10 * site[0], 16, 5), 3)
    drawn = everywhere(lambda site, turn: random_basis(99 + turn + site[1], 16, 5), 5)
    parts = study.move(loaded, learned, drawn, lambda _: None)
    lengths = study.lengths(loaded, learned, drawn)
    assert tuple(parts) == circuits.PARTS
    assert set(study.held) == {0, 1, 2}
    plan, identity = study.plan, torch.eye(16)
    for sample in range(0, len(plan.rows), 3):
        runs = plan.originals[sample].tolist(), plan.sources[sample].tolist()
        values = plan.wanted[sample, -1].tolist()
        for layer, position in SITES:
            own = learned[layer, position][study.held[sample]]
            by_chance = drawn[layer, position][sample % 5]
            projectors = own @ own.T, identity - own @ own.T, identity, by_chance @ by_chance.T
            for part, projector in zip(circuits.PARTS, projectors, strict=True):
                expected = hooked(loaded.model, *runs, layer, position, projector)[values]
                found = parts[part][-1].after["logit"][layer - 1, position, sample]
                np.testing.assert_allclose(found, expected, atol=1e-4)
            block = loaded.model.transformer.h[layer - 1]
            states = [slow.output_of(loaded.model, block, run)[position] for run in runs]
            apart = states[1] - states[0]
            moved = apart, apart @ own, apart @ by_chance
            squares = [float(part.square().sum()) for part in moved]
            np.testing.assert_allclose(lengths[layer, position][:, sample], squares, rtol=1e-3)


def llama():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=11, **sizes, **heads, initializer_range=0.4))


def mamba():
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
    return MambaForCausalLM(MambaConfig(vocab_size=11, **sizes, initializer_range=0.4))


@pytest.mark.parametrize("build", [None, llama, mamba])
def test_everything_is_the_whole_and_nothing_the_original(loaded, dataset, build):
    if build is not None:
        torch.manual_seed(0)
        model = build().eval().requires_grad_(False)
        loaded = circuits.LoadedModel(model, torch.arange(11))
    study = study_of(dataset)
    full = everywhere(lambda *_: torch.eye(16), 5)
    none = everywhere(lambda *_: torch.zeros(16, 0), 5)
    parts = study.move(loaded, full, none, lambda _: None)
    after = {part: trace.after["logit"] for part, (trace,) in parts.items()}
    before = parts["whole"][0].before["logit"]
    np.testing.assert_allclose(after["subspace"], after["whole"], atol=1e-4)
    for part in ("rest", "random"):
        np.testing.assert_allclose(
            after[part], np.broadcast_to(before, after[part].shape), atol=1e-4
        )
    assert abs(after["whole"] - before).max() > 0.1
    # The whole is what tracing gives.
    plan = study.plan
    (traced,) = circuits.patch_runs(loaded, plan.originals, plan.sources, plan.wanted)
    np.testing.assert_allclose(after["whole"], traced.after["logit"], atol=1e-5)


def test_subspace_and_rest_add_up_where_the_state_is_read_linearly(dataset, loaded):
    """Without a final norm, logits are linear in the last layer's states."""
    model = GPT2LMHeadModel(loaded.model.config).eval().requires_grad_(False)
    model.load_state_dict(loaded.model.state_dict())
    model.transformer.ln_f = nn.Identity()
    study = study_of(dataset, pairs=((2, 2),))
    linear = circuits.LoadedModel(model, loaded.token_ids)
    learned, drawn = study.learn(linear, study.sites(linear))
    assert list(learned) == [(2, 2)]
    parts = study.move(linear, learned, drawn, lambda _: None)
    before = parts["whole"][0].before["logit"]
    moved = {part: trace.after["logit"][0, 0] - before for part, (trace,) in parts.items()}
    np.testing.assert_allclose(moved["subspace"] + moved["rest"], moved["whole"], atol=1e-3)
    assert min(abs(moved[part]).max() for part in ("subspace", "rest")) > 0.1


# ---------------------------------------------------------------------------------------- folds


def test_nothing_that_is_tested_was_learned_from(dataset):
    study = study_of(dataset, out_of_domain=True, folds=3)
    inputs, plan = dataset.test.inputs, study.plan
    fragments = [tuple(row) for row in inputs[study.rows][:, :2].tolist()]
    folds = dict(zip(fragments, study.folds.tolist(), strict=False))
    assert all(folds[own] == fold for own, fold in zip(fragments, study.folds, strict=True))
    assert set(folds.values()) == {0, 1, 2}
    for own, other, held in zip(plan.originals, plan.sources, study.held, strict=True):
        for fragment in (tuple(own[:2].tolist()), tuple(other[:2].tolist())):
            assert folds.get(fragment, held) == held
    # What is lost to the folds is what has a source without them, and none in its own fold.
    tables = [dict(np.ndenumerate(table)) for table in dataset.tables()]
    rows = [tuple(row) for row in dataset.train.inputs.tolist()]
    splits = study.subject.splits(circuits.grouping_of(dataset.graph, "b"))
    for name, split in splits.items():
        lost = 0
        for item in inputs[split.rows].tolist():
            there = slow.diff_f1_candidates(rows, *tables, item)
            own = folds.get(tuple(item[:2]))
            both = [{own, folds.get((item[0], x2))} - {None} for x2 in there]
            lost += bool(there) and min(map(len, both)) == 2
        reason = "no such x2 leaves x1, x2 in the same fold"
        assert study.plan.report[name]["no_counterfactual"].get(reason, 0) == lost


def test_a_condition_leaves_other_draws_alone(dataset):
    family, inputs = circuits.diff_family(dataset.graph, 0), dataset.test.inputs
    free = circuits.draw_counterfactuals(dataset, family, inputs, seed=3)
    same = circuits.Condition("never", lambda own, _: np.ones(len(own), bool))
    again = circuits.draw_counterfactuals(dataset, family, inputs, seed=3, condition=same)
    np.testing.assert_array_equal(free.inputs, again.inputs)
    odd = circuits.Condition("none is odd", lambda _, other: other[:, 1] % 2 == 1)
    drawn = circuits.draw_counterfactuals(dataset, family, inputs, seed=3, condition=odd)
    assert (drawn.inputs[:, 1] % 2 == 1).all()
    assert set(drawn.rows) < set(free.rows)
    lost = np.setdiff1d(free.rows, drawn.rows)
    assert set(drawn.reasons[lost]) == {"none is odd"}


def test_rotations_are_learned_from_pairs_of_other_folds(dataset):
    study = study_of(dataset, subspace="rotation", pairs=((1, 1),))
    f1, f2 = dataset.tables()
    learned_from = dataset.test.inputs[study.rows]
    for fold in range(3):
        held = {tuple(row) for row in learned_from[study.folds == fold, :2].tolist()}
        others = {tuple(row) for row in learned_from[study.folds != fold, :2].tolist()}
        originals, sources, answers = study._pairs(fold)
        assert len(originals) > 20
        for run in (originals, sources):
            fragments = {tuple(row) for row in run[:, :2].tolist()}
            assert fragments <= others
            assert not fragments & held
        np.testing.assert_array_equal(answers, f2[f1[tuple(sources[:, :2].T)], sources[:, 2]])
        assert (f1[tuple(originals[:, :2].T)] != f1[tuple(sources[:, :2].T)]).all()


# ------------------------------------------------------------------------------------ subspaces


def projector(basis) -> np.ndarray:
    basis = np.asarray(basis, dtype=np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    return basis @ basis.T


@pytest.fixture(scope="module")
def labelled():
    """States (90, 12) of four classes, and their folds."""
    rng = np.random.default_rng(5)
    labels = rng.integers(4, size=90)
    mixed = rng.normal(size=(12, 12)) / 3
    states = (rng.normal(size=(4, 12))[labels] + rng.normal(size=(90, 12)) @ mixed).astype(
        "float32"
    )
    return states, labels, np.arange(90) % 3


def test_means_are_the_directions_between_class_means(labelled):
    states, labels, folds = labelled
    given = torch.tensor(states), torch.tensor(labels), 4, torch.tensor(folds)
    for fold, basis in enumerate(circuits.mean_bases(*given, 3)):
        own, kinds = states[folds != fold].astype(float), labels[folds != fold]
        means = np.stack([own[kinds == kind].mean(axis=0) for kind in range(4)])
        inside = projector(basis)
        np.testing.assert_allclose((means[1:] - means[0]) @ inside, means[1:] - means[0], atol=1e-5)
        rest = own - own @ inside
        left = np.stack([rest[kinds == kind].mean(axis=0) for kind in range(4)])
        np.testing.assert_allclose(left, np.broadcast_to(left[0], left.shape), atol=1e-5)
        # The largest direction of fewer: that of the means' spread, each class by its items.
        spread = sum(
            (kinds == kind).mean() * np.outer(m, m)
            for kind, m in enumerate(means - own.mean(axis=0))
        )
        single = circuits.mean_bases(*given, 1)[fold]
        assert single.shape == (12, 1)
        np.testing.assert_allclose(
            projector(single), np.outer(*[np.linalg.eigh(spread)[1][:, -1]] * 2), atol=1e-4
        )


def test_a_probes_directions_are_the_rows_of_its_weights(labelled):
    states, labels, folds = labelled
    given = torch.tensor(states), torch.tensor(labels), 4, torch.tensor(folds)
    tally = np.eye(3)[folds][:, None, :, None] * np.eye(4)[labels][:, None, None]
    ((probes,),) = fit_probes(given[0][None], torch.tensor(tally))
    for basis, weights in zip(circuits.probe_bases(*given, 3), probes.weights, strict=True):
        contrasts = (weights[1:] - weights[0]).numpy()
        np.testing.assert_allclose(contrasts @ projector(basis), contrasts, atol=1e-4)


def test_a_folds_own_items_teach_its_subspace_nothing(labelled):
    states, labels, folds = labelled
    others = np.where(folds == 1, 3 - labels, labels)
    first, second = (
        circuits.mean_bases(torch.tensor(states), torch.tensor(own), 4, torch.tensor(folds), 3)
        for own in (labels, others)
    )
    np.testing.assert_allclose(projector(first[1]), projector(second[1]), atol=1e-6)
    assert abs(projector(first[0]) - projector(second[0])).max() > 0.05


def test_states_that_are_all_alike_have_no_directions():
    alike, labels, folds = torch.ones(12, 4), torch.arange(12) // 3 % 2, torch.arange(12) % 3
    for learn in (circuits.mean_bases, circuits.probe_bases):
        assert [basis.shape for basis in learn(alike, labels, 2, folds, 1)] == 3 * [(4, 0)]
    for spread in (True, False):
        (basis,) = circuits.random_bases(alike, 0, 1, alike=spread, seed=0)
        assert basis.shape == (4, 0)


def test_random_subspaces_are_of_all_directions_or_of_the_states_own():
    rng = np.random.default_rng(0)
    states = torch.zeros(50, 20)
    states[:, :4] = torch.tensor(rng.normal(size=(50, 4)))
    anywhere = circuits.random_bases(states, 3, 200, alike=True, seed=1)
    shares = [projector(basis)[:4, :4].trace() / 3 for basis in anywhere]
    assert np.mean(shares) == pytest.approx(4 / 20, abs=0.02)
    for basis in circuits.random_bases(states, 3, 5, alike=False, seed=1):
        assert projector(basis)[:4, :4].trace() == pytest.approx(3, abs=1e-4)


# ----------------------------------------------------------------------- models that are known


@pytest.fixture(scope="module", params=[{}, {"looped": True}, {"hidden": True}], ids=str)
def known(request, dataset):
    return handmade.build(dataset.tables(), **request.param)


def rates(study, loaded, sites) -> dict:
    """By part, layer and position: the share of all samples that are moved to t'."""
    learned, drawn = study.learn(loaded, sites)
    parts = study.move(loaded, learned, drawn, lambda _: None)
    cells = study.summary(loaded, parts["whole"], np.arange(len(study.plan.rows)))["cells"]
    places = [(cell["layer"], cell["position"]) for cell in cells]
    return {
        part: {
            place: float((trace.after["rank"][..., 1] == 0).mean(axis=-1).ravel()[number])
            for number, place in enumerate(places)
        }
        for part, (trace,) in parts.items()
    }, learned


def planted_in(loaded) -> np.ndarray:
    """The projector on the directions in which a hand-made model's values of b differ."""
    bridges = loaded.model.transformer.h[1].mlp.c_proj.weight.numpy()  # a row for each (x1, x2)
    written = np.unique(
        bridges[np.abs(bridges[:, handmade.part_of("bridge", 10)]).sum(1) > 0], axis=0
    )
    assert len(written) == 10
    rows = np.linalg.svd(written - written.mean(axis=0))[2][:9]
    return rows.T @ rows


@pytest.mark.parametrize("way", ["means", "probe"])
def test_what_the_states_show_carries_the_bridge_and_nothing_else_does(known, dataset, way):
    every = [(layer, position) for layer in range(1, 5) for position in range(3)]
    found, learned = rates(study_of(dataset, subspace=way), known, every)
    for site in ((2, 1), (3, 2)):
        assert found["subspace"][site] > 0.9
        assert found["rest"][site] == 0
        assert found["whole"][site] == 1
        assert found["random"][site] < 0.1
    # At (1, 1) it is x2' that differs: the directions of b are only a part of it.
    assert found["whole"][1, 1] == 1
    assert found["subspace"][1, 1] < 0.6
    for site in {*every} - {(1, 1), (2, 1), (3, 2), (4, 2)}:
        assert {found[part][site] for part in circuits.PARTS} == {0}
    assert_planted(learned[2, 1], known, 0.9)


def test_a_rotation_carries_the_bridge(known, dataset):
    study = study_of(dataset, subspace="rotation", steps=10)
    assert study.sites(known) == [(1, 1), (2, 1), (3, 2)]
    found, learned = rates(study, known, [(2, 1)])
    assert found["subspace"][2, 1] > 0.95
    assert found["rest"][2, 1] == 0
    assert_planted(learned[2, 1], known, 0.8)


def assert_planted(learned, loaded, least):
    """Each basis holds at least this share of the directions that b is written in."""
    planted = planted_in(loaded)
    for basis in learned:
        assert np.trace(projector(basis) @ planted) / 9 > least


class OneRead:
    """A network of one layer, whose logits read three directions of a state and no others."""

    def __init__(self, width: int) -> None:
        self.width, self.read = width, random_basis(7, width, 3)

    def finish(self, state, _layer, _start):
        return state[:, -1]

    def logits(self, state):
        return 10 * state @ self.read


def test_a_rotation_is_learned_where_what_is_read_is_a_small_part_of_the_states():
    network, rng = OneRead(20), np.random.default_rng(0)
    codes = torch.tensor(rng.integers(3, size=400))
    noise = torch.tensor(rng.normal(size=(400, 20)), dtype=torch.float32)
    noise -= noise @ network.read @ network.read.T
    codes_in = torch.eye(3) @ network.read.T
    states = noise + codes_in[codes]

    class Loaded:
        device = torch.device("cpu")

        def run(self, rows, places):
            return {place: states[torch.as_tensor(rows)] for place in places}

    loaded = Loaded()
    loaded.network, loaded.logits = network, network.logits
    rows = np.arange(400)[:, None]
    pairs = loaded, rows, np.roll(rows, 1), np.roll(codes.numpy(), 1)
    where = {"layer": 1, "position": 0, "rank": 2, "seed": 0}
    planted = projector(np.linalg.svd(codes_in - codes_in.mean(dim=0))[2][:2].T)
    first, last = (
        np.trace(projector(circuits.learn_rotation(*pairs, steps=steps, **where)) @ planted) / 2
        for steps in (1, 100)
    )
    assert first < 0.5
    assert last > 0.95


# -------------------------------------------------------------------------------------- as a user


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, small_dataset):
    folder = tmp_path_factory.mktemp("runs") / f"{small_dataset.name}_seed-42"
    for seed, name in enumerate(("checkpoint-20", "final_checkpoint")):
        save_checkpoint(folder / name, read_json(small_dataset / "vocab.json"), seed)
    write_json(folder / "run_config.json", {"dataset": {"path": str(small_dataset)}})
    return folder


def test_the_command_writes_and_prints_every_part(run_command, run_dir, tmp_path, dataset):
    words = "--model_dir", run_dir, "--save_dir", tmp_path, "--rank", 3, "--ood"
    finished = run_command(COMMAND, *words)
    assert finished.returncode == 0, finished.stderr
    stem = f"{run_dir.name}_subspace_means_diff_f1_rank"
    files = {f"{stem}{end}" for end in (".json", ".npz", ".png", ".pdf")}
    assert {path.name for path in tmp_path.iterdir()} == files
    found = read_json(tmp_path / f"{stem}.json")
    assert found["subspace"] == {
        "name": "means",
        "value": "b",
        "learned_from": len(study_of(dataset).rows),
        "drawn_from": "space",
    }
    assert (found["settings"]["rank"], found["settings"]["folds"]) == (3, 3)
    arrays = np.load(tmp_path / f"{stem}.npz")
    plan = study_of(dataset, out_of_domain=True).plan
    for checkpoint, splits in found["checkpoints"].items():
        assert set(splits) == {"id_train", "id_test", "ood"}
        for split, summary in splits.items():
            members = plan.members[split]
            assert summary["samples"]["n"] == len(members) == found["splits"][split]["traced"]
            assert [(c["layer"], c["position"]) for c in summary["cells"]] == SITES
            for cell in summary["cells"]:
                assert cell["ranks"] == [3, 3, 3]
                shares = cell["moved_share"].values()
                assert all(s is None if cell["slot"] == "x1" else 0 < s < 1 for s in shares)
                assert tuple(cell["parts"]) == circuits.PARTS
                for part, subsets in cell["parts"].items():
                    own = arrays[f"{checkpoint}/t/rank/{part}"][cell["layer"] - 1, cell["position"]]
                    first = int((own[members, 1] == 0).sum())
                    assert subsets["unfiltered"]["changed_first"]["count"] == first
        basis = arrays[f"{checkpoint}/basis/layer2_pos1/fold2"]
        assert basis.shape == (16, 3)
        projector(basis)
    for part in ("the subspace", "the rest", "the whole state", "a random subspace"):
        assert f"final_checkpoint, id_test, {part} moved: % of runs that rank" in finished.stdout
    assert "layer 1, x2: the subspace, of rank 3, has " in finished.stdout


def test_a_rotation_at_one_place_and_the_same_bytes_again(run_command, run_dir, tmp_path):
    words = "--ckpt", run_dir / "final_checkpoint", "--subspace", "rotation", "--rank", 2
    words = *words, "--layer_pos_pairs", "(1,1)", "--metric_type", "prob", "--steps", 3
    for name in ("one", "two"):
        finished = run_command(COMMAND, *words, "--save_dir", tmp_path / name)
        assert finished.returncode == 0, finished.stderr
    stem = f"{run_dir.name}_subspace_rotation_diff_f1_prob.json"
    assert (tmp_path / "one" / stem).read_bytes() == (tmp_path / "two" / stem).read_bytes()
    found = read_json(tmp_path / "one" / stem)
    assert found["subspace"]["steps"] == 3
    (cell,) = found["checkpoints"]["final_checkpoint"]["id_test"]["cells"]
    assert (cell["layer"], cell["slot"], cell["ranks"]) == (1, "x2", [2, 2, 2])
    assert cell["parts"]["rest"]["unfiltered"]["relative_change"]["mean"] is not None


def test_in_a_notebook(run_dir):
    run = load_run(run_dir)
    moved = run.subspace("diff_f1", rank=2, pairs=[(1, "x2"), (2, 2)], progress=False)
    assert f"{moved!r}".startswith("<Moving of means of b, diff_f1 in twohop.10.200")
    records = moved.to_records(subset="unfiltered", effect="changed_first")
    assert len(records) == 2 * 4 * 2  # splits, parts, places
    cells = moved.results["checkpoints"]["final_checkpoint"]["id_test"]["cells"]
    places = [(record["layer"], record["slot"], record["part"]) for record in records]
    (rest,) = (records[number] for number in [places.index((1, "x2", "rest"), 8)])
    assert rest["split"] == "id_test"
    assert rest["mean"] == cells[0]["parts"]["rest"]["unfiltered"]["changed_first"]["rate"]
    assert len(moved.plot().axes) == 2 * 4 + 1


def test_models_that_write_bridges_first(run_command, refused, tmp_path):
    """The bridge is a value of its own; a rotation would not know which one to learn from."""
    words = [
        "--num_tokens",
        "8",
        "--max_train_data_num",
        "100",
        "--test_size_for_type",
        "40",
        "--cot",
    ]
    made = run_command("dataset_generation/twohop.py", *words, "--output_dir", tmp_path)
    assert made.returncode == 0, made.stderr
    data = tmp_path / "twohop.8.100.diff-f12.cot"
    save_checkpoint(tmp_path / "run/final_checkpoint", read_json(data / "vocab.json"), 0)
    words = COMMAND, "--ckpt", tmp_path / "run/final_checkpoint", "--data_dir", data
    words = *words, "--save_dir", tmp_path / "out"
    refused(run_command(*words, "--subspace", "rotation"), "but the models of ", "emit b and t")
    assert not (tmp_path / "out").exists()
    finished = run_command(*words)
    assert finished.returncode == 0, finished.stderr
    assert "the rest moved: % of runs that rank the source run's b above" in finished.stdout
    found = read_json(tmp_path / "out/run_subspace_means_diff_f1_rank.json")
    splits = found["checkpoints"]["final_checkpoint"].values()
    for cells in [summary["bridges"]["b"]["cells"] for summary in splits]:
        assert len(cells) == 6
        assert all(tuple(cell["parts"]) == circuits.PARTS for cell in cells)


def test_what_cannot_be_done_is_refused(run_command, refused, run_dir, tmp_path):
    words = COMMAND, "--ckpt", run_dir / "final_checkpoint", "--save_dir", tmp_path
    finished = run_command(*words, "--folds", 60)
    refused(finished, "--folds 60: there are ", " fragments (x1, x2) to deal")
    finished = run_command(*words, "--subspace", "rotation", "--max_items", 9)
    refused(finished, "--subspace rotation: no whole state below layer 2 moves the answer")
    refused(
        run_command(*words, "--rank", 0),
        "argument --rank: 0 is not an integer of at least 1",
        status=2,
    )
    refused(run_command(*words, "--layer_pos_pairs", "(3,1)"), "(3,1) does not exist")
    assert not list(tmp_path.iterdir())

"""The tuned lens: against transformers' own states and logits, and on maps that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuit_analysis import lens as lens_command
from coverage_principle import circuits
from coverage_principle.circuits import tuned
from coverage_principle.data import load_dataset, read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.reporting import circuit_figures
from tests.test_circuits import random_model


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


@pytest.fixture(scope="module")
def loaded():
    return random_model(2)


def grouping(dataset, keys="b"):
    return circuits.grouping_of(dataset.graph, keys)


def states_of(loaded, rows):
    """(layers + 1, n, tokens, width): the stream before ``ln_f``, from transformers' hooks."""
    seen, blocks = [], loaded.model.transformer.h
    hooks = [blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))]
    for block in blocks:
        hooks.append(
            block.register_forward_hook(
                lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out)
            )
        )
    with torch.no_grad():
        loaded.model(loaded.encode(rows), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


def log_probabilities(loaded, state):
    """Of the data set's tokens among themselves, in float64, by the model's own last layers."""
    body, head = loaded.model.transformer, loaded.model.lm_head
    return head(body.ln_f(state))[..., loaded.token_ids].double().log_softmax(-1)


def test_with_maps_that_are_zero_it_is_the_logit_lens(loaded):
    rows = np.random.default_rng(0).integers(0, 10, size=(20, 3))
    zero = circuits.TunedLens(torch.zeros(2, 16, 16), torch.zeros(2, 16))
    sites = {"layers": range(3), "positions": range(3)}
    read = circuits.read_lens(loaded, rows, rows[:, :2], **sites, batch_size=7, tuned=zero)
    plain = circuits.read_lens(loaded, rows, rows[:, :2], **sites)
    for name, numbers in plain.items():
        np.testing.assert_array_equal(read[name], numbers)
    np.testing.assert_array_equal(read["tuned/rank"], read["rank"])
    np.testing.assert_array_equal(read["tuned/divergence"], read["divergence"])


def test_what_it_reads_is_what_the_models_own_layers_make_of_the_moved_states(loaded):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 10, size=(12, 3))
    weights, biases = (torch.tensor(rng.normal(size=s), dtype=torch.float32) for s in _SHAPES)
    lens = circuits.TunedLens(weights, biases)
    read = circuits.read_lens(
        loaded, rows, rows[:, 1:2], layers=range(3), positions=range(3), tuned=lens
    )
    states = states_of(loaded, rows)
    for layer in range(3):
        state = states[layer]
        moved = state if layer == 2 else state + state @ weights[layer] + biases[layer]
        target = log_probabilities(loaded, states[2])
        for name, one in (("divergence", state), ("tuned/divergence", moved)):
            own = log_probabilities(loaded, one)
            expected = (target.exp() * (target - own)).sum(-1).T
            np.testing.assert_allclose(read[name][layer], expected, atol=2e-4)
        prob = own.exp().gather(-1, torch.tensor(rows)[:, 1:2, None].expand(-1, 3, 1))[..., 0].T
        np.testing.assert_allclose(read["tuned/prob"][layer, ..., 0], prob, atol=1e-5)
        rank = (own > own.gather(-1, torch.tensor(rows)[:, 1:2, None].expand(-1, 3, 1))).sum(-1).T
        np.testing.assert_array_equal(read["tuned/rank"][layer, ..., 0], rank)
    assert (read["divergence"][2] == 0).all() and (read["tuned/divergence"][2] == 0).all()


_SHAPES = ((2, 16, 16), (2, 16))


def test_its_loss_has_the_derivatives_of_the_divergence(loaded):
    """Against finite differences, in float64."""
    double = circuits.LoadedModel(random_model(2).model.double(), loaded.token_ids)
    states = states_of(double, np.random.default_rng(2).integers(0, 10, size=(3, 3)))
    weight = 0.1 * torch.randn(16, 16, dtype=torch.float64)

    def loss(weight):
        return circuits.divergence(double, states[2], states[1] + states[1] @ weight).mean()

    assert torch.autograd.gradcheck(loss, weight.requires_grad_(), fast_mode=True)


def test_a_layer_that_is_an_affine_image_of_the_last_one_is_undone(loaded):
    rng = np.random.default_rng(3)
    final = states_of(loaded, rng.integers(0, 10, size=(300, 3)))[-1]
    forth = torch.tensor(np.linalg.qr(rng.normal(size=(16, 16)))[0], dtype=torch.float32)
    image = 0.7 * final @ forth + torch.linspace(-1, 1, 16)
    lens = circuits.fit_lens(loaded, torch.stack([image, final, final]), 60, seed=0)
    assert (lens.about["items"], lens.about["held_out"]) == (240, 60)
    assert lens.about["before"][0] > 1 and lens.about["after"][0] < 0.01
    back = log_probabilities(loaded, lens.translate(0, image))
    agree = back.argmax(-1) == log_probabilities(loaded, final).argmax(-1)
    assert agree[:60].float().mean() > 0.9
    # Nothing is better than what is right already.
    assert lens.about["steps"][1] == lens.about["after"][1] == 0
    assert not lens.weights[1].any() and not lens.biases[1].any()


def test_it_is_trained_on_training_items_and_stopped_by_other_fragments(
    loaded, dataset, monkeypatch
):
    given = {}
    monkeypatch.setattr(tuned, "fit_lens", lambda _, states, held, seed: given.update(locals()))
    circuits.tune_lens(loaded, replace(dataset, test=None), grouping(dataset), seed=5)
    body, states = loaded.model.transformer, given["states"]
    assert given["seed"] == 5 and states.shape == (3, len(dataset.train), 3, 16)
    embedded = body.wte(loaded.token_ids)[:, None] + body.wpe.weight[:3]
    far = (states[0][:, :, None] - embedded.transpose(0, 1)[None]).abs().amax(-1)
    tokens = far.argmin(-1)  # layer 0 says which tokens a row is of
    assert far.amin(-1).max() < 1e-6
    assert sorted(tokens.tolist()) == sorted(dataset.train.inputs.tolist())
    held, others = (
        {tuple(row[:2]) for row in part.tolist()}
        for part in tokens.split([given["held"], len(tokens) - given["held"]])
    )
    assert held and not held & others
    assert len(held) == -(-len(held | others) // tuned.FOLDS)


def test_a_few_items_of_many_are_drawn_by_the_seed(loaded, dataset, monkeypatch):
    monkeypatch.setattr(tuned, "_ITEMS", 40)
    monkeypatch.setattr(tuned, "fit_lens", lambda *given, **_: given[1])
    first, again, other = (
        circuits.tune_lens(loaded, dataset, grouping(dataset), seed=seed) for seed in (0, 0, 1)
    )
    assert first.shape[1] == 40 and torch.equal(first, again) and not torch.equal(first, other)


def test_training_items_of_one_fragment_are_refused(loaded, dataset):
    train = dataset.train
    one = replace(train, inputs=np.zeros_like(train.inputs))
    with pytest.raises(InputError, match=r"`tuned` needs several training items that differ in x1"):
        circuits.tune_lens(loaded, replace(dataset, train=one), grouping(dataset), seed=0)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, small_dataset):
    """A run of a random model, under its data set's tokens."""
    from tests.test_circuit_commands import save_checkpoint

    folder = tmp_path_factory.mktemp("tuned") / small_dataset.name
    vocabulary = read_json(small_dataset / "vocab.json")
    save_checkpoint(folder / "final_checkpoint", vocabulary, 0)
    write_json(folder / "run_config.json", {"dataset": {"path": str(small_dataset)}})
    return folder


def test_a_result_file_has_it_beside_what_it_has_without(run_dir, tmp_path, monkeypatch, capsys):
    drawn = set()
    monkeypatch.setattr(tuned, "STEPS", 60)
    monkeypatch.setattr(circuit_figures, "save_figure", lambda _, path: drawn.add(path.name))
    flags = ["--model_dir", str(run_dir), "--device", "cpu", "--save_dir", str(tmp_path)]
    flags += ["--layer_pos_pairs", "[(0,2),(1,1),(2,2)]"]
    parser = lens_command.build_parser()
    lens_command.main(parser.parse_args([*flags, "--tuned"]))
    name, printed = run_dir.name, capsys.readouterr().out
    assert "id_test: mean reciprocal rank of b, tuned lens, n = " in printed
    assert "id_test: KL from the model's output (nats), tuned lens, n = " in printed
    kinds = ("id_test", "id_test_tuned", "id_test_divergence")
    assert {f"{name}_{kind}.png" for kind in kinds} <= drawn
    results, raw = read_json(tmp_path / f"{name}.json"), np.load(tmp_path / f"{name}.npz")
    own = results.pop("tuned")
    settings = circuits.LensSettings(
        model_dir=run_dir,
        save_dir=tmp_path / "plain",
        device="cpu",
        pairs=((0, 2), (1, 1), (2, 2)),
    )
    file, plain = circuits.run_lens(settings)
    assert results == plain == read_json(file)
    again = replace(settings, tuned=True, save_dir=tmp_path / "again")
    for suffix in (".json", ".npz"):
        first = (tmp_path / f"{name}{suffix}").read_bytes()
        assert circuits.run_lens(again)[0].with_suffix(suffix).read_bytes() == first
    cells = own["checkpoints"]["final_checkpoint"]["id_test"]
    assert [{*cell} for cell in cells] == [
        {*cell} for cell in plain["checkpoints"]["final_checkpoint"]["id_test"]
    ]
    members = raw["member/id_test"]
    ranks = raw["final_checkpoint/tuned/rank"][1, 0, members, 1]
    cell = next(c for c in cells if (c["layer"], c["position"], c["value"]) == (1, 1, "t"))
    assert cell["mean_rank"] == pytest.approx(ranks.mean()) and cell["n"] == len(members)
    far = own["divergence"]["final_checkpoint"]["id_test"]
    means = {(c["lens"], c["layer"]): c["divergence"]["mean"] for c in far}
    assert means["tuned lens", 1] < means["logit lens", 1]
    assert means["tuned lens", 0] < means["logit lens", 0]
    assert means["tuned lens", 2] == means["logit lens", 2] == 0
    about = own["training"]["final_checkpoint"]
    assert about["items"] + about["held_out"] == 200
    assert all(
        after < before for after, before in zip(about["after"], about["before"], strict=True)
    )

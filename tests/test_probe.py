"""Linear probes: what they find where it is known, and that they cannot know it by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from coverage_principle import circuits
from coverage_principle.circuits import PROBE_READOUTS, ProbeSettings
from coverage_principle.data import load_dataset, read_arrays, read_json
from coverage_principle.errors import InputError
from coverage_principle.notebook import load_run
from coverage_principle.statistics import mean_of, mean_over_groups
from simpletransformers.seq2seq import Seq2SeqModel
from simpletransformers.seq2seq.architecture import load_model
from tests import handmade_transformer as handmade

PROBE = "circuit_analysis/probe.py"
FOLDS, CLASSES = 5, 4


@pytest.fixture(scope="module")
def dataset(small_dataset):
    return load_dataset(small_dataset)


def subject(dataset, **settings):
    """A subject without a run, for what needs the items alone."""
    settings = ProbeSettings(save_dir="unused", k_groups="none", **settings)
    parts = settings, "unused", [], dataset, torch.device("cpu")
    return circuits.Subject(*parts)


# ---------------------------------------------------------------------------- fitting, by itself


def fitted_accuracy(states, labels, folds):
    """The share of items that the probe of their own fold, which never saw it, gets right."""
    tally = torch.zeros(len(states), 1, FOLDS, CLASSES)
    tally[torch.arange(len(states)), 0, folds, labels] = 1
    ((probes,),) = circuits.fit_probes(states[None], tally)
    chances = probes.log_chances(states)
    np.testing.assert_allclose(chances.exp().sum(dim=-1), 1, atol=1e-5)
    return (chances.argmax(dim=-1)[folds, torch.arange(len(states))] == labels).float().mean()


def test_labels_that_are_random_by_fragment_are_at_chance_on_held_out_fragments():
    """A probe knows them by heart on shared fragments: each has a direction of its own."""
    own = torch.Generator().manual_seed(0)
    fragments = torch.arange(300) % 60
    labels = torch.randint(CLASSES, (60,), generator=own)[fragments]
    states = torch.randn(60, 80, generator=own)[fragments]
    states = states + 0.1 * torch.randn(300, 80, generator=own)
    by_item = torch.randint(FOLDS, (300,), generator=own)
    by_fragment = torch.as_tensor(circuits.fragment_folds(fragments[:, None].numpy(), FOLDS, 0))
    assert fitted_accuracy(states, labels, by_item) > 0.95
    assert fitted_accuracy(states, labels, by_fragment) < 0.4  # chance is 0.25


def test_penalties_are_chosen_without_the_test_fold():
    """What stands in a fold changes nothing of its own probe."""
    own = torch.Generator().manual_seed(1)
    states, labels = torch.randn(200, 6, generator=own), torch.randint(CLASSES, (200,))
    folds = torch.arange(200) % FOLDS
    tally = torch.zeros(2, 200, 1, FOLDS, CLASSES)
    tally[0, torch.arange(200), 0, folds, labels] = 1
    tally[1, torch.arange(200), 0, folds, torch.where(folds == 2, 0, labels)] = 1
    (first,), (second,) = (circuits.fit_probes(states[None], each)[0] for each in tally)
    for name in ("weights", "biases", "penalties"):
        torch.testing.assert_close(getattr(first, name)[2], getattr(second, name)[2])
    assert not torch.equal(first.weights[0], second.weights[0])


def test_a_probe_is_a_minimum_on_the_other_folds():
    own = torch.Generator().manual_seed(2)
    labels = torch.randint(CLASSES, (150,), generator=own)
    states = functional.one_hot(labels, 7).float() + torch.randn(150, 7, generator=own) + 2
    folds = torch.arange(150) % FOLDS
    tally = torch.zeros(150, 1, FOLDS, CLASSES)
    tally[torch.arange(150), 0, folds, labels] = 1
    ((probes,),) = circuits.fit_probes(states[None], tally)
    for fold in range(FOLDS):
        rest = folds != fold
        weights = probes.weights[fold].clone().requires_grad_(True)
        loss = functional.cross_entropy(
            states[rest] @ weights.T + probes.biases[fold], labels[rest]
        )
        loss = loss + probes.penalties[fold] / 2 * (weights**2).sum()
        (slope,) = torch.autograd.grad(loss, weights)
        assert slope.norm() < 0.01


def test_intervals_over_groups_are_students_where_groups_are_even():
    values = np.random.default_rng(0).random(30)
    groups = np.arange(30) % 5
    found = mean_over_groups(values, groups)
    assert vars(found) == pytest.approx(
        vars(mean_of([values[groups == g].mean() for g in range(5)]))
    )
    lone = mean_over_groups([1.0, 0.0], [3, 3])
    assert (lone.mean, lone.low, lone.n) == (0.5, None, 1)


# ------------------------------------------------------------------------------- known circuits


def accuracies(loaded, dataset, **settings):
    """By value, layer and position, of the training items."""
    inputs, targets, _ = circuits.plan_probes(subject(dataset, **settings))
    sites = [circuits.Site(layer, p) for layer in range(5) for p in range(3)]
    tokens = circuits.token_ids(dataset, inputs, 3)
    found: dict[str, dict] = {target.value: {} for target in targets}
    for target, site, said in circuits.probe_states(loaded, tokens, targets, sites, dealt=False):
        found[target.value][site.layer, site.position] = said.accuracy[
            0, target.places["train"]
        ].mean()
    return found


@pytest.mark.parametrize("variant", [{}, {"hidden": True}, {"looped": True}])
def test_it_finds_where_the_values_are_written_and_nothing_else(dataset, variant):
    found = accuracies(handmade.build(dataset.tables(), **variant), dataset)
    places = {"b": {(2, 1), (3, 1), (4, 1), (3, 2), (4, 2)}, "t": {(4, 2)}}
    for value, rates in found.items():
        assert {site for site, rate in rates.items() if rate > 0.9} == places[value]
        assert all(rate < 0.4 for site, rate in rates.items() if site not in places[value]), rates


def test_an_input_slot_is_known_where_it_stands_and_where_it_is_copied(dataset):
    (rates,) = accuracies(handmade.build(dataset.tables()), dataset, values=("x1",)).values()
    assert {site for site, rate in rates.items() if rate == 1} >= {(0, 0), (4, 0), (1, 1), (2, 1)}
    assert rates[0, 1] < 0.3


# ---------------------------------------------------------------------------------- the items


def test_no_call_and_no_fragment_is_trained_and_tested_on(dataset):
    inputs, targets, _ = circuits.plan_probes(subject(dataset))
    known = dataset.values(inputs, None)
    by = {"b": ("x1", "x2"), "t": ("b", "x3")}
    assert [target.value for target in targets] == ["b", "t"]
    for target in targets:
        assert target.split_by == by[target.value]
        slots = {"b": inputs[:, :2], "t": inputs}[target.value]
        calls = np.stack([known[name] for name in by[target.value]], axis=1)
        for groups in (slots, calls):
            for group in np.unique(groups, axis=0):
                assert len(set(target.folds[(groups == group).all(axis=1)])) == 1
        sizes = np.unique(np.column_stack([calls, target.folds])[target.places["train"]], axis=0)[
            :, 2
        ]
        assert np.ptp(np.bincount(sizes)) <= 1
        (dealt, _) = target.dealt  # one label for each call, and the same ones
        assert len(np.unique(np.column_stack([calls, dealt]), axis=0)) == len(
            np.unique(calls, axis=0)
        )
        assert (dealt != target.labels).mean() > 0.5


# -------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset):
    """A small model, hardly trained."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    args = {"n_layer": 1, "n_head": 2, "n_embd": 16, "max_steps": 2, "train_batch_size": 8}
    vocabulary = dataset.codec.vocabulary
    model = Seq2SeqModel("gpt2", "gpt2", args, vocabulary, init_weights=True, device="cpu")
    model.train_model(dataset.train.records, None, folder)
    return folder


@pytest.fixture(scope="module")
def probed(tmp_path_factory, run_command, run, small_dataset):
    save = tmp_path_factory.mktemp("probes")
    flags = ("--model_dir", run, "--data_dir", small_dataset, "--device", "cpu")
    finished = run_command(PROBE, *flags, "--save_dir", save, "--folds", 4, "--seed", 3)
    assert finished.returncode == 0, finished.stderr
    return save, finished


def test_the_command_writes_what_its_probes_say(probed, run, dataset):
    """Every number of a cell anew, from the weights in the file and the model's own states."""
    save, finished = probed
    results, arrays = read_json(save / "small_probe.json"), read_arrays(save / "small_probe.npz")
    assert {path.name for path in save.iterdir()} == {
        f"small_probe.{k}" for k in ("json", "npz", "png", "pdf")
    }
    assert (results["settings"]["seed"], results["settings"]["folds"]) == (3, 4)
    about = results["values"]["t"]["splits"]["train"]
    assert (about["n"], about["fragments"]) == (200, 200)
    assert results["values"]["t"]["split_by"] == ["b", "x3"]
    assert "final_checkpoint, train: accuracy of a linear probe of t, n = 200" in finished.stdout
    splits = results["checkpoints"]["final_checkpoint"]
    assert list(splits) == ["train", "id_test", "ood"]
    assert len(splits["train"]) == 2 * 3 * 3  # values, layers 0, 1 and 1 after the norm, positions
    cell = next(
        c
        for c in splits["id_test"]
        if (c["value"], c["layer"], c["after_ln_f"], c["position"]) == ("t", 1, True, 2)
    )
    settings = {"folds": 4, "seed": 3}
    inputs, (_, target), _ = circuits.plan_probes(subject(dataset, **settings))
    loaded = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec, "cpu")
    places = target.places["id_test"]
    ids = loaded.encode(inputs[places])
    with torch.no_grad():
        body = handmade_states(run)(ids)
    right, bits = [], []
    weights, biases, tally = (
        arrays[f"final_checkpoint/t/layer1_ln_f_pos2/{part}"]
        for part in ("weights", "biases", "tally")
    )
    for state, label, fold in zip(body, target.labels[places], target.folds[places], strict=True):
        scores = weights[fold].astype(float) @ state.double().numpy() + biases[fold]
        p, n, classes = np.exp(scores) / np.exp(scores).sum(), tally[fold].sum(), len(scores)
        right.append(p.argmax() == label)
        without = (tally[fold, label] + 1) / (n + classes)
        bits.append(np.log2((n * p[label] + 1) / (n + classes) / without))
    assert cell["accuracy"] == pytest.approx(np.mean(right))
    assert cell["bits"] == pytest.approx(np.mean(bits), abs=1e-4)
    ends = mean_over_groups(bits, target.folds[places])
    assert cell["bits_interval"] == pytest.approx([ends.low, ends.high], abs=1e-4)
    guess = tally.argmax(axis=1)[target.folds[places]]
    assert cell["majority"] == pytest.approx(np.mean(guess == target.labels[places]))
    by_class = [
        np.mean(np.array(right)[target.labels[places] == c]) for c in set(target.labels[places])
    ]
    assert cell["balanced_accuracy"] == pytest.approx(np.mean(by_class))
    assert len(cell["shuffled"]["bits"]) == 2 and cell["random_weights"]["accuracy"] <= 1


def handmade_states(run):
    """transformers' own last hidden state at x3."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run / "final_checkpoint").eval()
    return lambda ids: model.transformer(ids).last_hidden_state[:, 2]


def test_a_notebook_gives_what_the_command_writes(probed, run, small_dataset):
    results = read_json(probed[0] / "small_probe.json")
    loaded = load_run(run, data_dir=small_dataset, device="cpu")
    found = loaded.probe(folds=4, seed=3, progress=False)
    assert found.results == results
    assert repr(found) == (
        "<Probing of b, t in small, final_checkpoint: 9 states, 4 folds; "
        "splits: train, id_test, ood>"
    )
    record, cell = found.to_records(readout="bits")[0], results["checkpoints"]["final_checkpoint"]
    cell = cell["train"][0]
    assert (record["mean"], record["low"]) == (cell["bits"], cell["bits_interval"][0])
    others = [*cell["shuffled"]["bits"], cell["random_weights"]["bits"], 0.0]
    assert record["baseline"] == max(others)
    figure = found.plot()
    numbers = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert len(numbers) == len(found.to_frame()) == 3 * 2 * 9
    with pytest.raises(InputError, match="`readout` rank is not one of accuracy, bits"):
        found.plot(readout="rank")
    with pytest.raises(InputError, match="`values` z is none of task twohop"):
        loaded.probe("z")


def test_random_weights_are_fresh_and_of_the_seed(run, dataset):
    loaded = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec, "cpu")
    before = torch.get_rng_state()
    first, same, other = (circuits.with_fresh_weights(loaded, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    inputs = dataset.test.inputs[:4]
    found = [
        each.run(inputs, [("residual", 1)])["residual", 1] for each in (first, same, other, loaded)
    ]
    assert found[0].shape == found[3].shape and torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2]) and not torch.allclose(found[0], found[3])


def test_random_weights_are_drawn_as_transformers_draws_them(run, dataset):
    """Without importing it: both ways give every parameter the same mean and spread."""
    light = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec, "cpu")
    plain = replace(light, model=load_model(run / "final_checkpoint"))
    ours, theirs = (circuits.with_fresh_weights(each, 0).model for each in (light, plain))
    assert type(ours) is not type(theirs)
    theirs = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = theirs[name]
        assert parameter.mean().item() == pytest.approx(other.mean().item(), abs=0.003), name
        if parameter.ndim > 1:
            assert parameter.std().item() == pytest.approx(other.std().item(), rel=0.2), name


def test_a_cell_that_its_baselines_reach_is_no_finding():
    accuracy, bits = PROBE_READOUTS["accuracy"].shown, PROBE_READOUTS["bits"].shown
    cell = {
        "n": 100,
        "tokens": 10,
        "majority": 0.2,
        "accuracy": 0.5,
        "accuracy_interval": [0.4, 0.6],
    }
    cell |= {"bits": 0.5, "bits_interval": [0.3, 0.7]}
    cell |= {"shuffled": {"accuracy": [0.1], "bits": [-0.1]}}
    cell |= {"random_weights": {"accuracy": 0.1, "bits": -0.2}}
    assert not accuracy.is_weak(cell) and not bits.is_weak(cell)
    for change in ({"majority": 0.45}, {"tokens": 2}, {"accuracy_interval": None}, {"n": 5}):
        assert accuracy.is_weak({**cell, **change}), change
    for name, other in (("shuffled", {"accuracy": [0.1, 0.4], "bits": [0.0, 0.35]}),):
        assert accuracy.is_weak({**cell, name: other}) and bits.is_weak({**cell, name: other})
    assert accuracy.is_weak({**cell, "random_weights": {"accuracy": 0.41, "bits": 0}})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--values", "b,z"), ("--values z is none of task twohop", "x1, x2, x3, b, t")),
        (("--folds", 90), ("--folds 90 is too many for b: training items have",)),
    ],
)
def test_what_cannot_be_probed_is_refused(
    run_command, run, small_dataset, tmp_path, refused, flags, words
):
    where = ("--model_dir", run, "--data_dir", small_dataset, "--save_dir", tmp_path / "none")
    refused(run_command(PROBE, *where, *flags), *words)
    assert not (tmp_path / "none").exists()

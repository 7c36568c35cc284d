"""Patching of heads, attention patterns and attribution patching, against one forward a cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import coverage_principle as cp
from coverage_principle import circuits
from coverage_principle.circuits import patching
from coverage_principle.data import load_dataset, read_json, write_json
from coverage_principle.errors import InputError
from coverage_principle.reporting import head_figures
from coverage_principle.statistics import rank_correlation
from simpletransformers.seq2seq.architectures.gpt2 import GPT2
from tests import handmade_transformer as handmade
from tests.test_circuit_commands import save_checkpoint

COMMAND = "circuit_analysis/heads.py"
HEADS, SIZE, TOKENS = 2, 8, 4


def random_model(kind="gpt2", layers=3, switches=()):
    """Weights large enough that rounding decides nothing; ids are a shuffled part of outputs."""
    torch.manual_seed(layers)
    sizes = {"vocab_size": 24, "num_hidden_layers": layers, "hidden_size": HEADS * SIZE}
    if kind != "mamba":
        sizes |= {"num_attention_heads": HEADS, "max_position_embeddings": 8}
    if kind == "llama":
        sizes |= {"intermediate_size": 24, "num_key_value_heads": 1}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = AutoConfig.for_model(kind, initializer_range=0.4, **sizes, **special)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if switches:
        GPT2.switch(model, set(switches))
    ids = torch.randperm(24, generator=torch.Generator().manual_seed(7))[:11]
    return circuits.LoadedModel(model.eval().requires_grad_(False), ids)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def loaded(request):
    return random_model(request.param)


@pytest.fixture(scope="module")
def runs():
    """Originals, sources that differ from the second token on, values (w, w') (n, 2, 2)."""
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 10, (7, TOKENS))
    sources = originals.copy()
    sources[:, 1] = (originals[:, 1] + 3) % 10
    sources[:3, 2] = (originals[:3, 2] + 1) % 10
    return (
        originals,
        sources,
        rng.permuted(np.tile(np.arange(10), (7, 1)), axis=1)[:, :4].reshape(7, 2, 2),
    )


def output_matrices(model) -> list[torch.nn.Module]:
    """The module of each block that makes of all heads' outputs what is added to the stream."""
    if model.config.model_type == "gpt2":
        return [block.attn.c_proj for block in model.transformer.h]
    return [block.self_attn.o_proj for block in model.model.layers]


def gathered_by(model, ids) -> list[torch.Tensor]:
    """What the output matrix of each block is given, (n, T, width), in transformers' own run."""
    found = []
    hooks = [
        matrix.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        for matrix in output_matrices(model)
    ]
    model(ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return found


def with_head(model, ids, donor, layer, head, position) -> torch.Tensor:
    """Logits (n, T, outputs) of transformers' own run with one head's output replaced."""

    def put(_module, given):
        state, own = given[0].clone(), slice(head * SIZE, (head + 1) * SIZE)
        state[:, position, own] = donor[layer - 1][:, position, own]
        return (state,)

    hook = output_matrices(model)[layer - 1].register_forward_pre_hook(put)
    logits = model(ids, use_cache=False).logits
    hook.remove()
    return logits


def test_patching_a_head_equals_one_hooked_forward_a_cell(loaded, runs, monkeypatch):
    originals, sources, wanted = runs
    monkeypatch.setattr(patching, "_ROOM", 2 * 16 * 6 * 6)  # two items at a time
    done = []
    options = {"stream": circuits.head_patch(loaded), "progress": done.append}
    first, second = circuits.patch_runs(loaded, originals, sources, wanted, **options)
    assert done == [2, 2, 2, 1]
    assert (first.layers, first.heads) == ((1, 1, 2, 2, 3, 3), (0, 1) * 3)
    model, known = loaded.model, loaded.token_ids
    mine, donor = loaded.encode(originals), gathered_by(model, loaded.encode(sources))
    before = model(mine).logits[:, -1, known]
    for row, (layer, head) in enumerate(zip(first.layers, first.heads, strict=True)):
        for position in range(TOKENS):
            logits = with_head(model, mine, donor, layer, head, position)[:, -1, known]
            values = torch.from_numpy(wanted[:, 0])
            np.testing.assert_allclose(
                first.after["logit"][row, position], logits.gather(1, values), atol=2e-5
            )
            ranks = (logits[:, None] > logits.gather(1, values)[..., None]).sum(-1)
            np.testing.assert_array_equal(first.after["rank"][row, position], ranks)
            unchanged = position == 0 or (layer == 3 and position < TOKENS - 1)
            assert unchanged == bool((logits - before).abs().max() < 1e-5)
            # The run goes on with the token that it emits itself, still patched.
            longer = torch.cat([mine, known[logits.argmax(-1)][:, None]], dim=1)
            logits = with_head(model, longer, donor, layer, head, position)[:, -1, known]
            values = torch.from_numpy(wanted[:, 1])
            np.testing.assert_allclose(
                second.after["logit"][row, position], logits.gather(1, values), atol=2e-5
            )


def test_own_outputs_change_nothing(loaded, runs):
    """Identity: no position is skipped, as the last item's source differs from the first token."""
    originals, _, wanted = runs
    sources = originals.copy()
    sources[-1] = (sources[-1] + 1) % 10
    patch = circuits.head_patch(loaded)
    (found,) = circuits.patch_runs(loaded, originals, sources, wanted[:, :1], stream=patch)
    after, before = found.after["logit"][:, :, :-1], found.before["logit"][:-1]
    np.testing.assert_allclose(after, np.broadcast_to(before, after.shape), atol=1e-5)


def test_patterns_are_those_that_transformers_gives_averaged(loaded, runs):
    originals = runs[0]
    members = {"some": np.array([0, 2, 5]), "none": np.array([], int), "all": np.arange(7)}
    found = circuits.mean_patterns(loaded, originals, members, batch_size=3)
    assert found["none"] == []
    weights = loaded.model(loaded.encode(originals), output_attentions=True).attentions
    for split in ("some", "all"):
        assert [(one["layer"], one["head"]) for one in found[split]] == [
            (layer, head) for layer in (1, 2, 3) for head in range(HEADS)
        ]
        for one in found[split]:
            own = weights[one["layer"] - 1][members[split], one["head"]].double()
            np.testing.assert_allclose(one["weights"], own.mean(0), atol=1e-6)
            half = 1.96 * own.std(0) / len(own) ** 0.5
            np.testing.assert_allclose(one["half_widths"], half, atol=1e-5)


@pytest.mark.parametrize("looped", [False, True])
def test_the_heads_of_a_known_circuit_are_found_and_no_others(small_dataset, looped):
    dataset = load_dataset(small_dataset)
    tables, loaded = dataset.tables(), handmade.build(dataset.tables(), looped=looped)
    originals = dataset.test.inputs[dataset.test.types == "type_0"]
    sources = originals.copy()
    sources[:, 0] = (originals[:, 0] + 1) % len(tables[0])
    runs = originals, sources
    answers = [tables[1][tables[0][tuple(rows[:, :2].T)], rows[:, 2]] for rows in runs]
    differ = answers[0] != answers[1]
    wanted = np.stack(answers, axis=1)[:, None]
    changed = (array[differ] for array in (*runs, wanted))
    (trace,) = circuits.patch_runs(loaded, *changed, stream=circuits.head_patch(loaded))
    assert differ.sum() > 20
    first = (trace.after["rank"][..., 1] == 0).mean(axis=-1)
    copied = {(layer, head, reader) for layer, head, reader, _ in handmade.COPIED.values()}
    for row, about in enumerate(trace.rows):
        for position in range(3):
            moves = (about["layer"], about["head"], position) in copied
            assert first[row, position] == moves
    members = {"id_test": np.arange(len(originals))}
    patterns = circuits.mean_patterns(loaded, originals, members, 64)["id_test"]
    weights = {(one["layer"], one["head"]): one["weights"] for one in patterns}
    for layer, head, reader, read in handmade.COPIED.values():
        assert weights[layer, head][reader][read] > 0.99
    if looped:
        assert {"loop": 2, "block": 1}.items() <= patterns[2 * handmade.HEADS].items()


def real_shifts(trace) -> np.ndarray:
    logits, before = trace.after["logit"], trace.before["logit"]
    return logits[..., 1] - logits[..., 0] - (before[:, 1] - before[:, 0])


def test_attribution_is_exact_where_the_model_is_linear(runs):
    """No norms, no MLPs, and attention that weighs all earlier positions alike."""
    originals, sources, wanted = runs
    loaded = random_model(layers=2, switches=("no_ln", "no_mlp"))
    for block in loaded.model.transformer.h:
        block.attn.c_attn.weight[:, : 2 * HEADS * SIZE] = 0
        block.attn.c_attn.bias[: 2 * HEADS * SIZE] = 0
    found = circuits.attribute(loaded, originals, sources, wanted[:, 0], batch_size=3)
    patch = circuits.head_patch(loaded)
    for stream, given in (("heads", patch), ("residual", "residual"), ("post_mlp", "post_mlp")):
        (trace,) = circuits.patch_runs(loaded, originals, sources, wanted[:, :1], stream=given)
        np.testing.assert_allclose(found.shifts[stream], real_shifts(trace), atol=1e-4)
        for side in ("before", "source"):
            for readout, values in getattr(found, side).items():
                np.testing.assert_allclose(values, getattr(trace, side)[readout], atol=1e-4)
        if stream != "post_mlp":
            assert np.abs(found.shifts[stream]).max() > 0.1
            said = circuits.agreement(trace, found.shifts[stream], np.arange(7), seed=0)
            assert said["over_cells"] == pytest.approx(1)
            assert said["over_samples"] == pytest.approx(1)
            assert said["cells"] == int((np.abs(found.shifts[stream]) > 0).any(-1).sum())


def test_attribution_is_the_derivative_of_a_patch(runs):
    """Against finite differences of transformers' own run, in double precision."""
    originals, sources, wanted = runs
    loaded = random_model(layers=2)
    loaded.model.double()
    found = circuits.attribute(loaded, originals, sources, wanted[:, 0], layers=[1], positions=[1])
    mine, model = loaded.encode(originals), loaded.model
    own, donor = (gathered_by(model, loaded.encode(r)) for r in (originals, sources))
    values = loaded.encode(wanted[:, 0])
    step = 1e-5
    for head in range(HEADS):
        ends = []
        for sign in (1, -1):
            near = [a + sign * step * (b - a) for a, b in zip(own, donor, strict=True)]
            logits = with_head(model, mine, near, 1, head, 1)[:, -1].gather(1, values)
            ends.append(logits[:, 1] - logits[:, 0])
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(found.shifts["heads"][head, 0], slope, rtol=1e-4)
    states = {
        stream: [loaded.run(rows, [(stream, 1)])[stream, 1] for rows in (originals, sources)]
        for stream in ("residual", "post_attention", "post_mlp")
    }
    middle = states["post_attention"][0]
    for stream, (before, after) in states.items():
        ends = []
        for sign in (1, -1):
            moved = torch.zeros_like(before)
            moved[:, 1] = sign * step * (after - before)[:, 1]
            if stream == "post_attention":
                state = middle + moved + loaded.network.mlp(0, middle + moved)
            else:
                state = states["residual"][0] + moved
            logits = loaded.network.logits(loaded.network.finish(state, 1)).gather(1, values)
            ends.append(logits[:, 1] - logits[:, 0])
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(found.shifts[stream][0, 0], slope, rtol=1e-4)


def test_rank_correlation_is_that_of_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (2, 3, 20))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected)
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4)))


# --------------------------------------------------------------------------------- as a user does


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, small_dataset):
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_checkpoint(folder / "final_checkpoint", read_json(small_dataset / "vocab.json"), 0)
    about = {"name": small_dataset.name, "path": str(small_dataset)}
    write_json(folder / "run_config.json", {"dataset": about})
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory, run_command, run_dir):
    save = tmp_path_factory.mktemp("heads")
    finished = run_command(COMMAND, "--model_dir", run_dir, "--save_dir", save)
    assert finished.returncode == 0, finished.stderr
    return save / "run_heads_diff_f1_logit.json", finished.stdout


def test_the_command_writes_what_its_arrays_hold(found, run_dir, small_dataset):
    file, _ = found
    results, arrays = read_json(file), np.load(file.with_suffix(".npz"))
    assert (results["stream"], results["metric"], results["heads"]) == ("heads", "logit", 2)
    runs = [arrays[name] for name in ("originals", "sources", "wanted")]
    dataset = load_dataset(small_dataset)
    loaded = circuits.open_checkpoint(run_dir / "final_checkpoint", dataset.codec)
    (trace,) = circuits.patch_runs(loaded, *runs, stream=circuits.head_patch(loaded))
    kept = "final_checkpoint/t/logit/after"
    np.testing.assert_array_equal(arrays[kept], trace.after["logit"])
    states = circuits.patch_runs(loaded, *runs)
    estimates = circuits.attribute(loaded, *runs[:2], runs[2][:, 0]).shifts
    splits = results["checkpoints"]["final_checkpoint"]
    for split, summary in splits.items():
        rows = arrays[f"member/{split}"]
        shifts = {
            stream: real_shifts(one)[..., rows]
            for stream, one in (("heads", trace), ("residual", *states))
        }
        assert [(c["layer"], c["head"]) for c in summary["cells"][::3]] == [
            (1, 0),
            (1, 1),
            (2, 0),
            (2, 1),
        ]
        for number, cell in enumerate(summary["cells"]):
            at = number // 3, cell["position"]
            assert cell["unfiltered"]["n"] == len(rows)
            both = {"logit_shift": shifts["heads"][at]}
            both["attribution"] = estimates["heads"][at][rows]
            for name, values in both.items():
                assert cell["unfiltered"][name]["mean"] == pytest.approx(values.mean(), abs=1e-5)
        for stream, cells in summary["states"].items():
            for cell in cells:
                values = estimates[stream][cell["layer"] - 1, cell["position"], rows]
                mean = cell["unfiltered"]["attribution"]["mean"]
                assert mean == pytest.approx(values.mean(), abs=1e-5)
                assert ("logit_shift" in cell["unfiltered"]) == (stream == "residual")
        for stream, said in summary["rank_correlation"].items():
            pair = shifts[stream], estimates[stream][..., rows]
            means = [part.mean(-1).ravel() for part in pair]
            there = [bool(a or b) for a, b in zip(*means, strict=True)]
            means = [part[there] for part in means]
            assert said["cells"] == sum(there)
            assert said["over_cells"] == pytest.approx(float(rank_correlation(*means)))
            assert said["interval"][0] <= said["over_cells"] <= said["interval"][1]
        assert len(summary["patterns"]) == 4


def test_the_command_names_the_strongest_heads(found):
    file, printed = found
    results = read_json(file)
    assert {path.suffix for path in file.parent.iterdir()} == {".json", ".npz", ".png", ".pdf"}
    for more in ("states", "patterns_id_train", "patterns_id_test"):
        assert file.with_name(f"run_heads_diff_f1_logit_{more}.png").exists()
    cells = results["checkpoints"]["final_checkpoint"]["id_test"]["cells"]
    best = max(cells, key=lambda cell: cell["published"]["logit_shift_share"]["mean"])
    words = f"L{best['layer']}H{best['head']} at {best['slot']}"
    (line,) = [one for one in printed.splitlines() if one.startswith("id_test: ") and words in one]
    assert f"{best['published']['logit_shift_share']['mean']:.3f}" in line
    assert "id_test: estimates of heads and patching, rank correlation over" in printed
    assert "final_checkpoint, id_test, x3: share of the source run's logit shift to t'" in printed
    assert "no table of x1" in printed
    figure = head_figures.heads_figure(results)
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split(":")[0] for title in titles[:2]] == ["patched", "estimated"]
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["L1H0", "L1H1", "L2H0", "L2H1"]
    clear = {"mean": 0.2, "interval": [0.1, 0.3]}
    splits = results["checkpoints"]["final_checkpoint"].values()
    for cell in (cell for split in splits for cell in split["cells"]):
        cell["published"] |= {"logit_shift_share": clear, "attribution_share": clear}
    (bar,) = (
        axis
        for axis in head_figures.heads_figure(results).axes
        if axis.get_ylabel().startswith("shift of")
    )
    assert bar.get_ylim()[1] == pytest.approx(0.2)  # colours end at the largest effect


def test_with_probabilities_estimates_stand_beside_them(found, run_dir, tmp_path):
    file, _ = found
    given = {"model_dir": run_dir, "save_dir": tmp_path, "device": "cpu", "metric": "prob"}
    written, results = circuits.run_heads(circuits.HeadSettings(**given))
    arrays, other = np.load(written.with_suffix(".npz")), np.load(file.with_suffix(".npz"))
    before, source, after = (
        arrays[f"final_checkpoint/t/prob/{side}"][..., 1] for side in ("before", "source", "after")
    )
    name = "final_checkpoint/attribution/heads"
    np.testing.assert_array_equal(arrays[name], other[name])
    (checkpoint,) = results["checkpoints"].values()
    for split, summary in checkpoint.items():
        rows = arrays[f"member/{split}"]
        rows = rows[abs(source - before)[rows] >= 1e-6]
        share = ((after - before) / (source - before))[..., rows].mean(-1)
        for number, cell in enumerate(summary["cells"]):
            mean = cell["unfiltered"]["relative_change"]["mean"]
            assert mean == pytest.approx(share[number // 3, cell["position"]], rel=1e-3, abs=1e-4)
        assert set(summary["states"]) == {"residual", "post_attention", "post_mlp"}
        for cells in summary["states"].values():
            assert {cell["unfiltered"]["n"] for cell in cells} == {len(rows)}


def test_estimates_alone_are_the_same_and_nothing_is_patched(found, run_command, run_dir, refused):
    file, _ = found
    save = file.parent / "alone"
    given = COMMAND, "--model_dir", run_dir, "--save_dir", save, "--attribution_only"
    refused(run_command(*given, "--metric_type", "rank"), "--attribution_only")
    assert not save.exists()
    finished = run_command(*given)
    assert finished.returncode == 0, finished.stderr
    assert "id_test, estimated: " in finished.stdout
    both = [read_json(file), read_json(save / "run_heads_diff_f1_attribution.json")]
    parts = [one["checkpoints"]["final_checkpoint"]["id_test"] for one in both]
    assert parts[0]["patterns"] == parts[1]["patterns"]
    for full, alone in zip(*(part["cells"] for part in parts), strict=True):
        assert set(alone["published"]) == {"n", "attribution", "attribution_share"}
        for key in ("attribution", "attribution_share"):
            means = [cell["published"][key]["mean"] for cell in (full, alone)]
            assert means[0] == pytest.approx(means[1], rel=1e-4, abs=1e-5)


def test_bridges_that_the_model_writes_are_patched_and_the_first_is_estimated(
    run_command, tmp_path
):
    written = ("--num_tokens", 8, "--max_train_data_num", 100, "--test_size_for_type", 20)
    made = run_command("dataset_generation/twohop.py", *written, "--cot", "--output_dir", tmp_path)
    assert made.returncode == 0, made.stderr
    (dataset,) = tmp_path.iterdir()
    run = tmp_path / "run"
    save_checkpoint(run / "final_checkpoint", read_json(dataset / "vocab.json"), 0)
    given = {"ckpt": run / "final_checkpoint", "data_dir": dataset, "save_dir": tmp_path}
    for more in ({}, {"attribution_only": True}):
        _, results = circuits.run_heads(circuits.HeadSettings(**given, **more))
        summary = results["checkpoints"]["final_checkpoint"]["id_test"]
        first = summary if more else summary["bridges"]["b"]
        assert results["emitted"] == (["b"] if more else ["b", "t"])
        assert all("attribution" in cell["unfiltered"] for cell in first["cells"])
        if not more:
            assert not any("attribution" in cell["unfiltered"] for cell in summary["cells"])
        assert head_figures.heads_figure(results).axes


def test_a_model_without_heads_is_refused_by_what_it_lacks():
    loaded = random_model("mamba")
    with pytest.raises(InputError, match="type mamba .* lacks attend, mlp, pattern and project"):
        circuits.attending(loaded)
    # Its residual stream can be estimated all the same.
    originals = np.arange(6).reshape(2, 3)
    found = circuits.attribute(loaded, originals, originals[::-1] + 1, np.array([[1, 2], [3, 4]]))
    assert set(found.shifts) == {"residual"}
    assert np.abs(found.shifts["residual"]).max() > 0


def test_a_notebook_has_the_same_numbers(found, run_dir):
    file, _ = found
    heads = cp.load_run(run_dir).heads("diff_f1", progress=False)
    assert heads.results == read_json(file)
    assert "logit of 2 layers of 2 heads" in repr(heads)
    (record, *_) = heads.to_records(subset="unfiltered", effect="attribution_share")
    (splits,) = heads.results["checkpoints"].values()
    shown = splits["id_train"]["cells"][0]["unfiltered"]["attribution_share"]
    assert (record["head"], record["layer"], record["mean"]) == (0, 1, shown["mean"])
    with pytest.raises(InputError, match="`split` all is not one of id_train, id_test"):
        heads.plot_patterns("all")
    drawn = heads.plot_patterns("id_test").axes[0].images[0].get_array()
    (last,) = [
        one for one in splits["id_test"]["patterns"] if (one["layer"], one["head"]) == (2, 0)
    ]
    np.testing.assert_allclose(drawn[-4:-1, 4:7][2], last["weights"][2])

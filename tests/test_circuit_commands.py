"""The circuit commands as a user runs them, on a tiny run of an untrained model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuit_analysis import lens as lens_command
from circuit_analysis import trace as trace_command
from circuit_analysis.published import PUBLISHED
from coverage_principle import circuits
from coverage_principle.circuits.analysis import Subject
from coverage_principle.data import load_dataset, read_json, sha256, write_json
from coverage_principle.errors import InputError
from coverage_principle.reporting import circuit_figures
from coverage_principle.reporting.grids import Grid
from tests.conftest import ROOT
from tests.oracles import circuits_bruteforce as slow

TWOHOP = "circuit_analysis/hierarchical/2-hop"
COLLAPSE = f"{TWOHOP}/collapse_analysis_2-hop.py"
TRACE = f"{TWOHOP}/causal_tracing_2-hop.py"
LAYERS = 2


def save_checkpoint(folder, vocabulary, seed, positions=8):
    """A random model and a tokenizer whose ids are not the data set's; vocabulary padded to 8."""
    order = np.random.default_rng(3).permutation(len(vocabulary))
    ids = {vocabulary[token]: i for i, token in enumerate(order)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="</a>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("<[^>]*>"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</a>").save_pretrained(folder)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=-(-len(ids) // 8) * 8,
        n_layer=LAYERS,
        n_head=2,
        n_embd=16,
        n_positions=positions,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory, small_dataset):
    """A copy of the small data set with k-cutoffs 0..4 in turn."""
    folder = tmp_path_factory.mktemp("annotated") / small_dataset.name
    shutil.copytree(small_dataset, folder)
    records = read_json(folder / "test.json")
    for i, record in enumerate(records):
        record["coverage"] = True
        record["k_cutoff"] = i % 5 if record["type"] == "type_0" else None
    write_json(folder / "test_annotated.json", records, one_per_line=True)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, dataset_dir):
    folder = tmp_path_factory.mktemp("runs") / f"{dataset_dir.name}_wd-0.1_layer-2_seed-42"
    vocabulary = read_json(dataset_dir / "vocab.json")
    for seed, name in enumerate(("checkpoint-20", "checkpoint-100", "final_checkpoint")):
        save_checkpoint(folder / name, vocabulary, seed)
    digests = {name: sha256(dataset_dir / name) for name in ("train.json", "test.json")}
    about = {"name": dataset_dir.name, "path": str(dataset_dir), "sha256": digests}
    write_json(folder / "run_config.json", {"dataset": about})
    return folder


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory, run_command, run_dir):
    save = tmp_path_factory.mktemp("cosine")
    finished = run_command(COLLAPSE, "--ckpt", run_dir / "final_checkpoint", "--save_dir", save)
    assert finished.returncode == 0, finished.stderr
    return save, finished


@pytest.fixture(scope="module")
def traced(tmp_path_factory, run_command, run_dir):
    save = tmp_path_factory.mktemp("tracing")
    finished = run_command(TRACE, "--model_dir", run_dir, "--save_dir", save)
    assert finished.returncode == 0, finished.stderr
    return save / f"{run_dir.name}_residual_diff_f1_rank.json", finished


# ------------------------------------------------------------------------------------- collapse


def test_collapse_measures_every_cell_of_every_split(collapsed, dataset_dir, run_dir):
    save, finished = collapsed
    folder = save / "residual" / dataset_dir.name / "f1" / "final_checkpoint"
    assert {p.name for p in folder.iterdir()} == {
        "metrics.json",
        "vectors.npz",
        "iicg.png",
        "iicg.pdf",
    }
    metrics = read_json(folder / "metrics.json")
    assert set(metrics["splits"]) == {
        "id_train",
        "id_test",
        "ood",
        "id_test/k_cutoff=0-2",
        "id_test/k_cutoff=3+",
    }
    assert metrics["grouped_by"] == {"function": "f1", "value": "b", "fragment": ["x1", "x2"]}
    assert metrics["run"] == run_dir.name
    assert len(metrics["cells"]) == 5 * 3 * (LAYERS + 1)
    assert "IICG, id_test" in finished.stdout
    assert "Loading" not in finished.stderr

    vectors = np.load(folder / "vectors.npz")
    cell = next(
        c
        for c in metrics["cells"]
        if (c["layer"], c["after_ln_f"], c["position"], c["split"]) == (2, True, 1, "ood")
    )
    member = vectors["member/ood"]
    expected = slow.cosine_statistics(
        vectors["state/layer2_ln_f_pos1"][member], vectors["groups"][member].tolist()
    )
    for name, value in expected.items():
        assert cell[name] == pytest.approx(value, abs=1e-5), name
    low, high = cell["iicg_interval"]
    assert low < high

    dataset = load_dataset(dataset_dir)
    f1 = dataset.tables()[0]
    x1, x2, _ = dataset.test.inputs[vectors["test_rows"]].T
    np.testing.assert_array_equal(vectors["groups"], f1[x1, x2])
    assert set(dataset.test.types[vectors["test_rows"][member]]) <= {"type_1", "type_2"}


def test_collapse_reads_the_checkpoints_own_ids(collapsed, dataset_dir, run_dir):
    save, _ = collapsed
    folder = save / "residual" / dataset_dir.name / "f1" / "final_checkpoint"
    vectors = np.load(folder / "vectors.npz")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run_dir / "final_checkpoint")
    model = GPT2LMHeadModel.from_pretrained(run_dir / "final_checkpoint").eval()
    records = read_json(dataset_dir / "test.json")
    for i in (0, 7):
        text = records[vectors["test_rows"][i]]["input_text"]
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        assert ids.shape == (1, 3)
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        np.testing.assert_allclose(vectors["state/layer1_pos2"][i], states[1][0, 2], atol=1e-5)
        np.testing.assert_allclose(vectors["state/layer2_ln_f_pos1"][i], states[2][0, 1], atol=1e-5)


def test_the_published_collapse_command_from_its_own_folder(run_command, run_dir, tmp_path):
    """As in the published README: from the command's folder, results under ./results."""
    finished = run_command(
        COLLAPSE,
        "--ckpt",
        f"{run_dir}/final_checkpoint/",
        "--layer_pos_pairs",
        "[(1,1)]",
        "--save_dir",
        "./results/cosine_analysis",
        "--atomic_idx",
        2,
        "--mode",
        "post_mlp",
        "--k_groups",
        "none",
        "--device",
        "cpu",
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    (file,) = (tmp_path / "results" / "cosine_analysis" / "post_mlp").rglob("metrics.json")
    metrics = read_json(file)
    assert metrics["grouped_by"]["fragment"] == ["x1", "x2", "x3"]
    assert [(c["layer"], c["position"], c["split"]) for c in metrics["cells"]] == [
        (1, 1, "id_train"),
        (1, 1, "id_test"),
        (1, 1, "ood"),
    ]
    assert metrics["splits"]["ood"]["types"] == ["type_1", "type_3"]


def test_clustering_does_not_replace_results_unasked(run_dir, tmp_path):
    """Called as the command calls it."""

    def cluster(save_dir=tmp_path, **settings):
        given = {"ckpt": run_dir / "final_checkpoint", "save_dir": save_dir, "device": "cpu"}
        return circuits.run_cluster(circuits.ClusterSettings(**given, **settings))

    first, _ = cluster(pairs=[(1, 1)])
    before = (first / "metrics.json").read_text()
    with pytest.raises(InputError, match="metrics.json exists already; give `overwrite`"):
        cluster()
    assert (first / "metrics.json").read_text() == before
    cluster(pairs=[(1, 1)], overwrite=True)
    assert (first / "metrics.json").read_text() == before  # the same seed, the same bytes
    cluster(tmp_path / "bare", pairs=[(1, 1)], vectors="none")
    assert [path.name for path in (tmp_path / "bare").rglob("*.*") if path.is_file()] == [
        "metrics.json"
    ]


@pytest.mark.parametrize(
    "pairs",
    [
        "__import__('os').system('touch hacked')",
        "[(1,1)",
        "[]",
        "[1,1]",
        "3,1",
        "[(1,-1)]",
        "[(1,1);(2,2)]",
        "{(1,1)}",
        "[('exit',1)]",
        "[(1,1)]+[(2,2)]",
        "lambda: 0",
    ],
)
def test_layer_pos_pairs_are_data(run_command, refused, pairs, tmp_path):
    finished = run_command(COLLAPSE, "--ckpt", "x", "--layer_pos_pairs", pairs, cwd=tmp_path)
    refused(finished, "--layer_pos_pairs", "(layer,position)", status=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": [(3, 1)]}, r"\(3,1\) .* layers 0 to 2 and positions 0 to 3"),
        ({"pairs": [(1, 4)]}, r"\(1,4\) .* positions 0 to 3"),
        ({"group_by": "b,q"}, "`group_by` b,q: .* x1, x2, x3, b, t"),
        ({"pairs": [(1, 1), ("logit", 1)]}, "cannot be mixed"),
        ({"vectors": "csv"}, "`vectors` csv .* npz, safetensors, none"),
        ({"k_groups": "7,9+"}, r"no type_0 item has a k-cutoff in 7 or 9\+ \(there are: 0, 1"),
        ({"stream": "attention"}, "`stream` attention .* residual, .* post_mlp"),
        ({"group_by": "3"}, "`group_by` 3 .* f1, f2"),
        ({"device": "tpu9"}, "`device` tpu9"),
        ({"device": "cuda:99"}, "`device` cuda:99"),
        ({"k_groups": "3-1"}, "'3-1' .* 1-2,3,4"),
        ({"data_dir": "/"}, "`data_dir` / is no data set"),
    ],
)
def test_clustering_refusals(run_dir, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        circuits.run_cluster(
            circuits.ClusterSettings(
                ckpt=run_dir / "final_checkpoint", save_dir=tmp_path, **options
            )
        )
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_there_is_listed_not_downloaded(run_command, refused, run_dir):
    refused(
        run_command(COLLAPSE, "--ckpt", run_dir / "checkpoint-7"),
        "--ckpt",
        "does not exist",
        "checkpoint-20/",
        "final_checkpoint/",
    )
    with pytest.raises(InputError, match="`ckpt` gpt2 does not exist"):
        circuits.find_checkpoint("gpt2")
    with pytest.raises(InputError, match="`model_dir` .* is no checkpoint .* holds no "):
        circuits.find_run(run_dir.parent)


# ------------------------------------------------------------- which model, and one or many values

STEPS = ["checkpoint-20", "checkpoint-100", "final_checkpoint"]


@pytest.mark.parametrize(
    ("given", "steps", "meant"),
    [
        ({"model_dir": ""}, None, STEPS),
        ({"model_dir": ""}, ["all"], STEPS),
        ({"model_dir": ""}, ["final_checkpoint", "20"], [STEPS[0], STEPS[2]]),
        ({"model_dir": "checkpoint-100"}, None, STEPS[1:2]),
        ({"model_dir": "checkpoint-100"}, ["100"], STEPS[1:2]),
        ({"ckpt": "checkpoint-100"}, None, STEPS[1:2]),
        ({"ckpt": "checkpoint-100"}, ["all"], STEPS[1:2]),
        ({"ckpt": ""}, None, STEPS[2:]),
        ({"ckpt": ""}, ["100", "20"], STEPS[:2]),
        ({"ckpt": ""}, ["all"], STEPS),
    ],
)
def test_a_run_and_a_checkpoint_each_stand_for_the_other(run_dir, given, steps, meant):
    places = {name: run_dir / below for name, below in given.items()}
    run, found = circuits.find_checkpoints(**places, steps=steps)
    assert run == run_dir and [path.name for path in found] == meant


def test_which_model_is_meant_is_refused_where_nobody_can_know(run_dir):
    final = run_dir / "final_checkpoint"
    for given in ({}, {"model_dir": run_dir, "ckpt": final}):
        with pytest.raises(InputError, match="`model_dir`, or .* `ckpt`, and not both"):
            circuits.find_checkpoints(**given)
    for name in ("model_dir", "ckpt"):
        with pytest.raises(InputError, match=f"`{name}` .* is one checkpoint; `step_list` chooses"):
            circuits.find_checkpoints(**{name: final}, steps=["20"])


def test_a_folder_that_is_both_is_what_its_flag_is_for(run_dir, tmp_path):
    """The published trainer leaves its last model in the run's folder itself."""
    both = shutil.copytree(run_dir, tmp_path / "both")
    for file in (both / "final_checkpoint").iterdir():
        shutil.copy(file, both / file.name)
    assert circuits.find_checkpoints(ckpt=both) == (tmp_path, [both])
    assert [p.name for p in circuits.find_checkpoints(both)[1]] == STEPS
    assert [p.name for p in circuits.find_checkpoints(ckpt=both, steps=["20"])[1]] == STEPS[:1]


@pytest.mark.parametrize("script", ["trace", "lens", "interchange", "cluster"])
def test_all_commands_take_a_run_or_a_checkpoint(run_command, refused, run_dir, tmp_path, script):
    command, few = f"circuit_analysis/{script}.py", ("--max_items", 5, "--save_dir", tmp_path)
    usage = run_command(command, "--save_dir", tmp_path)
    refused(usage, "one of the arguments --model_dir --ckpt is required", status=2)
    usage = run_command(command, "--model_dir", run_dir, "--ckpt", run_dir, *few)
    refused(usage, "argument --ckpt: not allowed with argument --model_dir", status=2)
    assert not list(tmp_path.iterdir())
    finished = run_command(command, "--ckpt", run_dir, *few)
    assert finished.returncode == 0, finished.stderr
    assert f"--ckpt {run_dir} is a run; taking its final_checkpoint" in finished.stderr
    (file,) = tmp_path.rglob("*.json")
    results = read_json(file)
    assert results["run"] == run_dir.name and list(results["weights"]) == ["final_checkpoint"]


def test_clustering_of_several_checkpoints_does_each_or_none(
    run_command, refused, run_dir, dataset_dir, tmp_path
):
    steps = ("--model_dir", run_dir, "--step_list", "20,100")
    finished = run_command(
        *("circuit_analysis/cluster.py", *steps, "--max_items", 5, "--save_dir", tmp_path),
        *("--layer_pos_pairs", "(1,1)", "[(2,1),(2,2)]", "(1,1)", "--no_vectors"),
    )
    assert finished.returncode == 0, finished.stderr
    assert "checkpoint-20, IICG, id_test" in finished.stdout
    parent = tmp_path / "residual" / dataset_dir.name / "f1"
    assert {path.name for path in parent.iterdir()} == {"checkpoint-20", "checkpoint-100"}
    metrics = read_json(parent / "checkpoint-100" / "metrics.json")
    assert metrics["checkpoint"].endswith("checkpoint-100")
    sites = {(c["layer"], c["position"]) for c in metrics["cells"]}
    assert sites == {(1, 1), (2, 1), (2, 2)}
    # The published command takes a run as well; what one of the checkpoints has stops all.
    again = (COLLAPSE, "--ckpt", run_dir, "--step_list", "all", "--save_dir", tmp_path)
    refused(run_command(*again), "checkpoint-20/metrics.json exists already", "--overwrite")
    assert not (parent / "final_checkpoint").exists()
    with pytest.raises(InputError, match="one is clustered at a time"):
        circuits.run_cluster(circuits.ClusterSettings(model_dir=run_dir, save_dir=tmp_path))


# -------------------------------------------------------------------------------------- tracing


def test_tracing_of_all_checkpoints(traced, dataset_dir):
    file, finished = traced
    assert {p.suffix for p in file.parent.iterdir()} == {".json", ".npz", ".png", ".pdf"}
    stems = {p.name.rsplit(".", 1)[0] for p in file.parent.iterdir()}
    assert stems == {file.stem, f"{file.stem}_over_training"}
    results = json.loads(file.read_text(), parse_constant=pytest.fail)  # no NaN
    assert list(results["checkpoints"]) == ["checkpoint-20", "checkpoint-100", "final_checkpoint"]
    assert results["family"] == {
        "name": "diff_f1",
        "title": "b'",
        "changes": "b",
        "slot": "x2",
        "held": [],
    }
    title = circuits.METRICS["rank"].shown.unit.format("t", "answer")
    assert f"final_checkpoint, id_test: {title}, n = " in finished.stdout
    assert "the last of 3 checkpoints is shown; the file has all" in finished.stdout
    assert "~: the value cannot be known here yet" in finished.stdout
    assert f"layer {LAYERS} is a reference" in finished.stdout
    dataset = load_dataset(dataset_dir)
    for name, about in results["splits"].items():
        lost = sum(about["no_counterfactual"].values())
        assert about["traced"] == about["distinct_fragments"] - lost > 0
        for splits in results["checkpoints"].values():
            assert splits[name]["samples"]["n"] == about["traced"]
            assert len(splits[name]["cells"]) == 3 * LAYERS
            for cell in splits[name]["cells"]:
                assert cell["can_be_known"] is (cell["position"] > 0)  # b = f1(x1, x2)
                assert cell["tokens"] == dataset.sizes(["t"])[0]
                if cell["position"] == 0:  # x1 is the same in both runs
                    assert cell["published"]["both"]["count"] == 0

    raw = np.load(file.with_suffix(".npz"))
    np.testing.assert_array_equal(raw["originals"], dataset.test.inputs[raw["test_rows"]])
    assert (raw["originals"] != raw["sources"]).sum(axis=0).tolist() == [0, len(raw["sources"]), 0]
    members = raw["member/id_test"]
    assert set(dataset.test.types[raw["test_rows"][members]]) == {"type_0"}
    low = raw["member/id_test/k_cutoff=0-2"]
    for row in raw["test_rows"][low]:
        assert row % 5 <= 2  # the k-cutoffs of the fixture
    cell = results["checkpoints"]["checkpoint-20"]["id_test"]["cells"][1]
    after = raw["checkpoint-20/t/rank/after"][0, 1]
    samples = [(*raw["checkpoint-20/t/rank/before"][i], *after[i]) for i in members]
    counts = slow.published_rank_counts(samples)
    assert cell["published"]["n"] == counts["n"]
    assert cell["published"]["both"]["count"] == counts["both"]


def test_counterfactuals_are_the_same_for_one_checkpoint_and_fewer_items(
    run_command, traced, run_dir, tmp_path
):
    finished = run_command(
        TRACE,
        "--model_dir",
        f"{run_dir}/",
        "--step_list",
        "100",
        "--save_dir",
        tmp_path,
        "--max_items",
        9,
        "--batch_size",
        4,
        "--data_dir",
        "./data_fixed",
    )
    assert finished.returncode == 0, finished.stderr
    assert "--data_dir ./data_fixed does not exist" in finished.stderr
    part = np.load(tmp_path / f"{run_dir.name}_residual_diff_f1_rank.npz")
    whole = np.load(traced[0].with_suffix(".npz"))
    of = {int(row): i for i, row in enumerate(whole["test_rows"])}
    places = [of[int(row)] for row in part["test_rows"] if int(row) in of]
    assert len(places) == len(part["test_rows"]) > 0
    np.testing.assert_array_equal(part["sources"], whole["sources"][places])
    np.testing.assert_array_equal(
        part["checkpoint-100/t/rank/after"], whole["checkpoint-100/t/rank/after"][:, :, places]
    )


def test_tracing_by_probability_and_with_groups_of_k(run_dir, dataset_dir, tmp_path):
    file, results = circuits.run_trace(
        circuits.TraceSettings(
            model_dir=run_dir,
            save_dir=tmp_path,
            step_list=["final_checkpoint"],
            metric="prob",
            k_groups="1,2-3",
            data_dir=dataset_dir.parent,
            device="cpu",
        )
    )
    assert read_json(tmp_path / f"{run_dir.name}_residual_diff_f1_prob.json") == results
    assert circuit_figures.tracing_heatmap(results, file) == [
        tmp_path / f"{run_dir.name}_residual_diff_f1_prob.{kind}" for kind in ("png", "pdf")
    ]
    splits = results["checkpoints"]["final_checkpoint"]
    assert list(splits) == ["id_train", "id_test", "id_test/k_cutoff=1", "id_test/k_cutoff=2-3"]
    last = splits["id_test"]["cells"][-1]  # layer L, x3: the source run itself
    assert last["unfiltered"]["relative_change"]["mean"] == pytest.approx(1, abs=1e-3)
    assert sum(d["x2"] for d in splits["id_test"]["filtered_out"].values()) == (
        splits["id_test"]["samples"]["n"] - splits["id_test"]["cells"][1]["published"]["n"]
    )


def test_tracing_refusals(run_command, refused, run_dir, tmp_path):
    for flags in (("--metric_type", "cosine"), ("--batch_size", "0"), ("--max_items", "x")):
        refused(run_command(TRACE, "--model_dir", run_dir, *flags), flags[0], status=2)

    def trace(model_dir, **settings):
        circuits.run_trace(
            circuits.TraceSettings(model_dir=model_dir, save_dir=tmp_path, **settings)
        )

    with pytest.raises(InputError, match="has no checkpoint-7, final; it has checkpoint-20, "):
        trace(run_dir, step_list=["7", "final"])
    with pytest.raises(InputError, match="holds no checkpoint-STEP"):
        trace(tmp_path)
    with pytest.raises(InputError, match="`metric` cosine is not one of rank, prob, logit"):
        trace(run_dir, metric="cosine")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- finding and loading


def test_the_data_set_of_a_run(run_dir, dataset_dir, tmp_path, caplog):
    assert circuits.find_dataset(run_dir) == dataset_dir
    shutil.copytree(dataset_dir, tmp_path / "there" / "data" / dataset_dir.name)
    moved = tmp_path / "there" / "data" / dataset_dir.name
    for given in (moved, moved.parent, moved.parent.parent):
        assert circuits.find_dataset(run_dir, given) == moved
    assert not caplog.records
    (moved / "test.json").write_text("[]\n")
    circuits.find_dataset(run_dir, moved)
    assert f"test.json of {moved} changed since {run_dir.name} was trained" in caplog.text
    unnamed = tmp_path / f"{dataset_dir.name}_wd-0.1"
    unnamed.mkdir()
    assert circuits.find_dataset(unnamed, moved.parent) == moved
    with pytest.raises(InputError, match="from the run's name.*`data_dir`"):
        circuits.find_dataset(unnamed)


def test_a_data_set_is_read_again_only_after_a_change(run_dir, dataset_dir, tmp_path):
    """Whatever else lies in its folder, such as a link to what is gone."""
    folder = shutil.copytree(dataset_dir, tmp_path / dataset_dir.name)
    (folder / "notes").symlink_to(tmp_path / "gone")
    settings = circuits.TraceSettings(
        save_dir=tmp_path,
        model_dir=run_dir,
        data_dir=folder,
        device="cpu",
        step_list=("final_checkpoint",),
    )
    first = Subject.find(settings).dataset
    assert Subject.find(settings).dataset is first
    os.utime(folder / "test.json", ns=(1, 1))
    assert Subject.find(settings).dataset is not first


def test_checkpoints_are_in_order_of_their_steps(run_dir):
    names = [path.name for path in circuits.list_checkpoints(run_dir)]
    assert names == ["checkpoint-20", "checkpoint-100", "final_checkpoint"]
    steps = ["final_checkpoint", "checkpoint-20", "20"]
    names = [path.name for path in circuits.list_checkpoints(run_dir, steps)]
    assert names == ["checkpoint-20", "final_checkpoint"]


def test_a_checkpoint_of_other_data_is_refused(run_dir, dataset_dir, tmp_path):
    codec = load_dataset(dataset_dir).codec
    save_checkpoint(tmp_path / "few", ["<t_0>", "<t_1>", "</a>"], 0)
    with pytest.raises(InputError, match="tokenizer of .* lacks 8 of the data set's 11 tokens"):
        circuits.open_checkpoint(tmp_path / "few", codec)
    for name in ("pickled", "bare", "bert"):
        shutil.copytree(run_dir / "final_checkpoint", tmp_path / name)
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InputError, match="no model.safetensors"):
        circuits.open_checkpoint(tmp_path / "pickled", codec)
    for file in tmp_path.joinpath("bare").glob("token*"):
        file.unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        circuits.open_checkpoint(tmp_path / "bare", codec)
    write_json(tmp_path / "bert" / "config.json", {"model_type": "bert"})
    with pytest.raises(InputError, match="bert model; analysed are gpt2, llama and mamba"):
        circuits.open_checkpoint(tmp_path / "bert", codec)


def test_a_published_checkpoint_has_gpt2s_tokenizer_with_added_tokens(dataset_dir, tmp_path):
    """Files as transformers 4.37 wrote them: GPT-2's byte pairs, then the data set's tokens."""
    codec = load_dataset(dataset_dir).codec
    letters = {letter: i for i, letter in enumerate("abc<>_t/0123456789")}
    known = {**letters, "<|endoftext|>": len(letters)}
    added = {token: len(known) + i for i, token in enumerate(codec.vocabulary)}
    save_checkpoint(tmp_path, [str(i) for i in range(len(known) + len(added))], 0)
    (tmp_path / "tokenizer.json").unlink()
    write_json(tmp_path / "vocab.json", known)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    write_json(tmp_path / "added_tokens.json", added)
    end = "<|endoftext|>"
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    write_json(
        tmp_path / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": end,
            "eos_token": end,
            "unk_token": end,
            "added_tokens_decoder": {
                str(i): {"content": token, "special": False, **flags} for token, i in added.items()
            },
        },
    )
    loaded = circuits.open_checkpoint(tmp_path, codec)
    assert loaded.token_ids.tolist() == list(added.values())
    assert loaded.encode([[0, 2]]).tolist() == [[added["<t_0>"], added["<t_2>"]]]


def test_annotations_of_another_test_set_are_refused(dataset_dir, tmp_path):
    shutil.copytree(dataset_dir, tmp_path / dataset_dir.name)
    records = read_json(dataset_dir / "test_annotated.json")
    write_json(tmp_path / dataset_dir.name / "test_annotated.json", records[200:])
    with pytest.raises(InputError, match="does not belong to test.json"):
        circuits.k_groups_of(load_dataset(tmp_path / dataset_dir.name), None)
    for record in records:
        del record["k_cutoff"]  # as a run without --k_sweep writes it
    write_json(tmp_path / dataset_dir.name / "test_annotated.json", records)
    dataset = load_dataset(tmp_path / dataset_dir.name)
    assert circuits.k_groups_of(dataset, None) == ([], None)
    with pytest.raises(InputError, match="--k_sweep first"):
        circuits.k_groups_of(dataset, "1-2")


# -------------------------------------------------------------------------------------- figures


def test_figures_place_layers_upwards_and_name_the_final_norm(collapsed, dataset_dir):
    save, _ = collapsed
    metrics = read_json(
        Path(save) / "residual" / dataset_dir.name / "f1" / "final_checkpoint" / "metrics.json"
    )
    cells = circuit_figures.split_cells(metrics, "id_test")
    grid = Grid.of(cells, circuits.IICG)
    assert circuit_figures._row_names(grid) == ["1", "2", "2\nafter ln_f"]
    assert [slot for _, slot in grid.columns] == ["x1", "x2", "x3"]
    first = next(c for c in metrics["cells"] if c["split"] == "id_test" and c["slot"] == "x2")
    assert grid.value(grid.rows[0], grid.columns[1]) == first["iicg"]


def test_figures_of_several_runs_and_of_cells_without_a_value(traced, tmp_path):
    results = read_json(traced[0])
    cells = results["checkpoints"]["checkpoint-20"]["id_test"]["cells"]
    empty = {"layer": 1, "position": 0, "slot": "x1", "both_correct": {"both": {"rate": None}}}
    shown = circuits.METRICS["rank"].shown
    written = circuit_figures.heat_maps(
        {"N = 200": cells, "none": [empty]}, tmp_path / "a.b.png", shown, subset="both_correct"
    )
    assert [path.name for path in written] == ["a.b.png", "a.b.pdf"]
    with pytest.raises(InputError, match="nothing to draw"):
        circuit_figures.heat_maps({}, tmp_path / "c", circuits.IICG)


# ------------------------------------------------------------------- metrics and published paths


def test_a_metric_is_one_entry_that_commands_files_and_figures_read(
    run_dir, tmp_path, monkeypatch, capsys
):
    """The example of circuits/metrics.py, put in from outside, through the command."""
    entry = circuits.Metric(
        help="how many ranks t' comes up",
        measure=lambda cells: {"climb": cells.means(cells.before["rank"][:, 1] - cells.ranks[1])},
        shown=circuits.Shown(
            "climb", "mean", "ranks that t' comes up", "ranks up of {}'", limits=(0, 10)
        ),
    )
    monkeypatch.setitem(circuits.METRICS, "climb", entry)
    parser = trace_command.build_parser()
    assert "climb: how many ranks t' comes up" in " ".join(parser.format_help().split())
    flags = ["--model_dir", str(run_dir), "--save_dir", str(tmp_path), "--metric_type", "climb"]
    trace_command.main(parser.parse_args(flags))
    assert "final_checkpoint, id_test: ranks up of t'" in capsys.readouterr().out
    name = f"{run_dir.name}_residual_diff_f1_climb"
    assert {f"{name}.png", f"{name}_over_training.pdf"} <= {p.name for p in tmp_path.iterdir()}
    results, raw = read_json(tmp_path / f"{name}.json"), np.load(tmp_path / f"{name}.npz")
    cell = results["checkpoints"]["checkpoint-20"]["id_test"]["cells"][-1]
    member = raw["member/id_test"]
    climb = raw["checkpoint-20/t/rank/before"] - raw["checkpoint-20/t/rank/after"][-1, -1]
    assert cell["unfiltered"]["climb"]["mean"] == pytest.approx(climb[member, 1].mean())
    low, high = cell["unfiltered"]["climb"]["interval"]
    assert low <= cell["unfiltered"]["climb"]["mean"] <= high


def test_a_lens_readout_is_one_entry(run_dir, tmp_path, monkeypatch, capsys):
    entry = circuits.LensReadout(
        "share of items among the first two",
        lambda ranks, _probs: ranks < 2,
        circuits.Shown("second", None, "among the first two", "share of {} among the first two"),
        interval="second_interval",
    )
    monkeypatch.setitem(circuits.LENS_READOUTS, "second", entry)
    flags = ["--model_dir", str(run_dir), "--save_dir", str(tmp_path), "--readout", "second"]
    lens_command.main(lens_command.build_parser().parse_args(flags))
    assert "id_test: share of b among the first two, n = " in capsys.readouterr().out
    cell = read_json(tmp_path / f"{run_dir.name}.json")["checkpoints"]["checkpoint-20"]["id_test"]
    raw = np.load(tmp_path / f"{run_dir.name}.npz")
    ranks = raw["checkpoint-20/rank"][0, 0, raw["member/id_test"], 0]
    assert cell[0]["second"] == pytest.approx((ranks < 2).mean())
    assert cell[0]["second_interval"][0] <= cell[0]["second"] <= cell[0]["second_interval"][1]


def test_every_published_path_is_a_stub_over_the_table():
    folder = ROOT / "circuit_analysis"
    stubs = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "circuit_analysis.published" in path.read_text(encoding="utf-8")
    }
    assert stubs == set(PUBLISHED)
    general = {"trace.py", "cluster.py", "lens.py", "interchange.py", "measure.py"}
    general |= {"heads.py", "probe.py", "subspace.py"}
    modules = {path.name for path in folder.glob("*.py")} - stubs
    assert modules == {*general, "common.py", "published.py"}


def test_every_published_flag_is_there(run_command):
    for command, flags in {
        COLLAPSE: [
            "--ckpt",
            "--layer_pos_pairs",
            "--save_dir",
            "--atomic_idx",
            "--mode",
            "--device",
            "--batch_size",
            "--debug",
            "--overwrite",
        ],
        TRACE: [
            "--model_dir",
            "--step_list",
            "--data_dir",
            "--device",
            "--batch_size",
            "--debug",
            "--metric_type",
        ],
    }.items():
        shown = run_command(command, "--help", cwd=ROOT.parent).stdout
        assert [flag for flag in flags if flag not in shown] == []

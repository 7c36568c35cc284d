"""Every published circuit command, every task, data with bridges, and published checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from coverage_principle import circuits
from coverage_principle.circuits.measure import as_bytes
from coverage_principle.data import evaluate, load_dataset, read_json, write_json
from coverage_principle.data.tables import seen_calls
from coverage_principle.errors import InputError
from coverage_principle.reporting.cluster_figures import draw_components
from coverage_principle.tasks import TASKS, TaskGraph
from tests.oracles import circuits_bruteforce as slow
from tests.test_circuit_commands import save_checkpoint

TWO, THREE = "circuit_analysis/hierarchical/2-hop", "circuit_analysis/hierarchical/3-hop"
NONTREE, PARALLEL = "circuit_analysis/nontree", "circuit_analysis/parallel"
GENERATORS = {
    "twohop": ("twohop.py", 150, ()),
    "twohop_cot": ("twohop.py", 150, ("--cot",)),
    "twohop_fake": ("twohop.py", 150, ("--fake_bridge",)),
    "threehop": ("threehop.py", 300, ()),
    "threehop_cot": ("threehop.py", 300, ("--cot",)),
    "nontree": ("nontree.py", 200, ()),
    "parallel": ("parallel-twohop.py", 300, ()),
    "fivehop": ("fivehop.py", 300, ()),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, run_command):
    """``worlds(name)``: a data set of 8 tokens with k-cutoffs, and a run of two random models."""
    base, made = tmp_path_factory.mktemp("worlds"), {}

    def make(name):
        if name not in made:
            script, size, flags = GENERATORS[name]
            out = base / name / "data"
            finished = run_command(
                f"dataset_generation/{script}",
                "--num_tokens",
                8,
                "--max_train_data_num",
                size,
                "--test_size_for_type",
                40,
                "--output_dir",
                out,
                *flags,
            )
            assert finished.returncode == 0, finished.stderr
            (data,) = out.iterdir()
            records = read_json(data / "test.json")
            for i, record in enumerate(records):
                record["k_cutoff"] = i % 6 if record["type"] == "type_0" else None
            write_json(data / "test_annotated.json", records, one_per_line=True)
            run = base / name / f"{data.name}_wd-0.1"
            for seed, step in enumerate(("checkpoint-10", "final_checkpoint")):
                save_checkpoint(run / step, read_json(data / "vocab.json"), seed, positions=16)
            write_json(run / "run_config.json", {"dataset": {"path": str(data)}})
            made[name] = run, data
        return made[name]

    return make


# ------------------------------------------------------------------------------------ commands

TRACING = [
    (f"{TWO}/causal_tracing_2-hop.py", "twohop", ("--metric_type", "logit"), "diff_f1_logit"),
    (
        f"{TWO}/causal_tracing_2-hop_coverage.py",
        "twohop",
        ("--detailed_grouping", 2, "--metric_type", "prob"),
        "diff_f1_prob",
    ),
    (f"{TWO}/causal_tracing_2-hop_cot.py", "twohop_cot", (), "diff_f1_rank"),
    (f"{THREE}/causal_tracing_3-hop.py", "threehop", ("--atomic_idx", 2), "diff_f2_rank"),
    (
        f"{THREE}/causal_tracing_diff_b_composition_3-hop_cot.py",
        "threehop_cot",
        ("--atomic_idx", 1),
        "diff_f1_rank",
    ),
    (f"{NONTREE}/causal_tracing_nontree.py", "nontree", ("--atomic_idx", 1), "diff_f1_rank"),
    (f"{NONTREE}/causal_tracing_nontree.py", "nontree", ("--atomic_idx", 4), "diff_f4_rank"),
    (f"{NONTREE}/causal_tracing_nontree.py", "nontree", ("--atomic_idx", 5), "diff_f5_rank"),
    (
        f"{PARALLEL}/causal_tracing_parallel_2-hop.py",
        "parallel",
        ("--atomic_idx", 2, "--metric_type", "prob"),
        "diff_f2_prob",
    ),
    (
        "circuit_analysis/trace.py",
        "fivehop",
        ("--family", "diff_f3", "--mode", "post_mlp", "--ood", "--no_dedup"),
        "diff_f3_rank",
    ),
    ("circuit_analysis/trace.py", "twohop_fake", (), "diff_f1_rank"),
]


@pytest.mark.parametrize(
    ("script", "world", "flags", "ending"), TRACING, ids=lambda v: str(v)[-40:]
)
def test_tracing_commands(run_command, worlds, tmp_path, script, world, flags, ending):
    run, data = worlds(world)
    finished = run_command(
        script,
        "--model_dir",
        run,
        "--step_list",
        "10",
        "final_checkpoint",
        "--save_dir",
        tmp_path,
        "--device",
        "cpu",
        "--batch_size",
        64,
        "--data_dir",
        data,
        *flags,
    )
    assert finished.returncode == 0, finished.stderr
    stream = "post_mlp" if "post_mlp" in flags else "residual"
    file = tmp_path / f"{run.name}_{stream}_{ending}.json"
    names = {p.name for p in tmp_path.iterdir()}
    assert {f"{file.stem}.png", f"{file.stem}.npz", f"{file.stem}_over_training.pdf"} <= names
    results = json.loads(file.read_text(), parse_constant=pytest.fail)
    raw, dataset = np.load(file.with_suffix(".npz")), load_dataset(data)
    graph = dataset.graph
    slots = len(graph.inputs)
    family = results["family"]
    mine, theirs = (raw[key][:, :slots] for key in ("originals", "sources"))
    changed = (mine != theirs).sum(axis=0)
    assert changed.tolist() == [len(mine) if s == family["slot"] else 0 for s in graph.inputs]
    values = [evaluate(graph, dataset.tables(), rows) for rows in (mine, theirs)]
    for value in family["held"]:
        np.testing.assert_array_equal(values[0][value], values[1][value])
    if family["changes"] not in family["held"]:
        assert (values[0][family["changes"]] != values[1][family["changes"]]).all()
    assert (values[0][graph.answer] != values[1][graph.answer]).all()
    seen = seen_calls(graph, dataset.tables(), dataset.train.inputs)
    for function, mask in zip(graph.functions, seen, strict=True):
        assert mask[tuple(values[1][source] for source in function.sources)].all()
    for number, value in enumerate(results["emitted"]):
        for side in (0, 1):
            np.testing.assert_array_equal(raw["wanted"][:, number, side], values[side][value])
    bridges = results["checkpoints"]["final_checkpoint"]["id_test"].get("bridges", {})
    assert list(bridges) == (list(graph.bridges) if len(results["emitted"]) > 1 else [])
    assert (len(results["emitted"]) > 1) == (world == "fivehop" or world.endswith("_cot"))
    if "--detailed_grouping" in flags:
        assert [s for s in results["splits"] if "=" in s] == [
            f"id_test/k_cutoff={g}" for g in ("0-2", "3", "4+")
        ]


CLUSTERING = [
    (f"{TWO}/collapse_analysis_2-hop.py", "twohop", 4, "b,x2", "twohop"),
    (f"{THREE}/collapse_analysis_3-hop.py", "threehop", 2, "b2", "threehop"),
    (f"{THREE}/collapse_analysis_3-hop.py", "threehop_cot", 5, "b1,b2", "threehop"),
    (f"{NONTREE}/collapse_analysis_nontree.py", "nontree", 3, "x2", "nontree"),
    (f"{NONTREE}/collapse_analysis_nontree.py", "nontree", 5, "b,x1", "nontree"),
    (f"{PARALLEL}/collapse_analysis_parallel_2-hop.py", "parallel", 2, "b2", "parallel2hop"),
]
#: The published types of the OOD split.
OOD = {
    ("twohop", 4): {1, 2},
    ("threehop", 2): {1, 2, 5, 6},
    ("threehop", 5): {1, 2},
    ("nontree", 3): {1, 2, 3},
    ("nontree", 5): {1, 2},
    ("parallel2hop", 2): {1, 2, 5, 6},
}


@pytest.mark.parametrize(("script", "world", "number", "keys", "task"), CLUSTERING)
def test_clustering_commands(run_command, worlds, tmp_path, script, world, number, keys, task):
    run, data = worlds(world)
    last = len(TASKS[task].inputs)  # with bridges in the target, the first of them
    pairs = f"[(1,1),(2,{last})]"
    finished = run_command(
        script,
        "--ckpt",
        run / "final_checkpoint",
        "--layer_pos_pairs",
        pairs,
        "--save_dir",
        tmp_path,
        "--atomic_idx",
        number,
        "--mode",
        "residual",
        "--device",
        "cpu",
    )
    assert finished.returncode == 0, finished.stderr
    (file,) = tmp_path.rglob("metrics.json")
    assert file.parent == tmp_path / "residual" / data.name / f"f{number}" / "final_checkpoint"
    metrics = read_json(file)
    assert metrics["grouped_by"]["value"] == keys
    assert metrics["splits"]["ood"]["types"] == [f"type_{i}" for i in sorted(OOD[task, number])]
    vectors, dataset = np.load(file.with_name("vectors.npz")), load_dataset(data)
    values = evaluate(dataset.graph, dataset.tables(), vectors["inputs"])
    expected = [tuple(values[key][i] for key in keys.split(",")) for i in range(len(values["t"]))]
    for i, j in np.random.default_rng(0).integers(0, len(expected), size=(200, 2)):
        same = vectors["groups"][i] == vectors["groups"][j]
        assert same == (expected[i] == expected[j])
    slot = {c["slot"] for c in metrics["cells"] if c["position"] == last}
    assert slot == {dataset.graph.bridges[0] if world.endswith("_cot") else "t"}


def test_the_coverage_command_and_the_commands_that_read_its_files(run_command, worlds, tmp_path):
    run, data = worlds("twohop")
    finished = run_command(
        f"{TWO}/collapse_analysis_2-hop_coverage.py",
        "--ckpt",
        run / "checkpoint-10",
        "--layer_pos_pairs",
        "[(2,1)]",
        "--save_dir",
        tmp_path,
        "--detailed_grouping",
        1,
        "--published_files",
        "--pca",
        "--vectors",
        "npz",
        "--device",
        "cpu",
    )
    assert finished.returncode == 0, finished.stderr
    base = tmp_path / "residual" / data.name / "f1"
    assert (base / "checkpoint-10" / "pca_layer2_x2.html").exists()
    files = base / "(2,1)" / "10"
    assert {p.name for p in files.iterdir()} == {
        f"{name}_dedup.json"
        for name in (
            "id_train",
            "id_test",
            "ood",
            "id_test_covered_low_cutoff",
            "id_test_covered_high_cutoff",
        )
    }
    metrics = read_json(base / "checkpoint-10" / "metrics.json")
    ours = {c["split"]: c for c in metrics["cells"] if c["after_ln_f"]}

    def three(id_test):
        return (
            "--id_train_file",
            files / "id_train_dedup.json",
            "--id_test_file",
            files / f"{id_test}_dedup.json",
            "--ood_file",
            files / "ood_dedup.json",
        )

    out = tmp_path / "metrics" / "(2,1)" / "10"
    finished = run_command(
        "circuit_analysis/measure_cossim.py", *three("id_test"), "--output_dir", out
    )
    assert finished.returncode == 0, finished.stderr
    assert "ID Train" in finished.stdout and "Cross-Category" in finished.stdout
    report = read_json(out / "metrics_results.json")
    for split in ("id_train", "id_test", "ood"):
        for mine, theirs in (
            ("within", "within_sim"),
            ("between_all", "between_allvec_sim"),
            ("between_centroid", "between_sim"),
            ("iicg", "iicg"),
        ):
            assert report[split][theirs] == pytest.approx(ours[split][mine], abs=1e-6)
        counts = report[split]["histograms"]
        assert sum(counts["within"]) + sum(counts["between_all"]) == (
            ours[split]["n_vectors"] * (ours[split]["n_vectors"] - 1) // 2
        )
    again = run_command(
        "circuit_analysis/measure_cossim.py", *three("id_test"), "--output_dir", out
    )
    assert again.returncode == 1 and "give --overwrite" in again.stderr
    finished = run_command(
        "circuit_analysis/measure_cossim_coverage.py",
        *three("id_test_covered_low_cutoff"),
        "--output_dir",
        out,
    )
    assert finished.returncode == 0, finished.stderr
    low = read_json(out / "low_cutoff" / "metrics_results.json")
    assert low["id_test"]["within"] == pytest.approx(
        ours["id_test/k_cutoff=0-2"]["within"], abs=1e-6
    )
    finished = run_command(
        "circuit_analysis/plotting_collapse.py",
        *three("id_test"),
        "--output_dir",
        out,
        "--save_plots",
        "--pca_n",
        2,
        "--reduce_dim",
        2,
    )
    assert finished.returncode == 0, finished.stderr
    assert (out / "id_train_within_vs_betweenall_layer2.png").exists()
    assert (out / "pca" / "pca_layer2_pos1.png").exists()
    for script in (
        f"{THREE}/measure_metrics_3-hop.py",
        f"{NONTREE}/measure_metrics.py",
        f"{PARALLEL}/measure_metrics.py",
    ):
        finished = run_command(script, *three("id_test"), "--output_dir", out, "--overwrite")
        assert finished.returncode == 0, finished.stderr
        assert read_json(out / "range_samples_layer2.json")["bridgings"]["id_train"]
    # The general command does what each of them does.
    finished = run_command(
        "circuit_analysis/measure.py",
        *three("id_test_covered_low_cutoff"),
        "--output_dir",
        tmp_path / "general" / "(2,1)",
        "--by_cutoff",
        "--range_samples",
    )
    assert finished.returncode == 0, finished.stderr
    general = tmp_path / "general" / "(2,1)" / "low_cutoff"
    assert read_json(general / "metrics_results.json") == low
    assert (general / "range_samples_layer2.json").exists()
    # Our own vectors file in place of the three.
    own = base / "checkpoint-10" / "vectors.npz"
    out = tmp_path / "own" / "(2,1)"
    finished = run_command(
        "circuit_analysis/measure_cossim.py",
        "--id_train_file",
        own,
        "--id_test_file",
        own,
        "--ood_file",
        own,
        "--output_dir",
        out,
    )
    assert finished.returncode == 0, finished.stderr
    assert read_json(out / "metrics_results.json")["ood"]["iicg"] == report["ood"]["iicg"]


def test_interchange_and_lens_commands(run_command, worlds, tmp_path):
    run, data = worlds("twohop")
    finished = run_command(
        f"{TWO}/causal_tracing_same_b_composition_2-hop_residual.py",
        "--model_dir",
        run,
        "--step_list",
        "final_checkpoint",
        "--save_dir",
        tmp_path,
        "--device",
        "cpu",
    )
    assert finished.returncode == 0, finished.stderr
    same = read_json(tmp_path / f"{run.name}_residual_same_b.json")
    assert list(same["checkpoints"]["final_checkpoint"])[0] == "id_train-id_test"
    finished = run_command(
        f"{TWO}/logit-lens_2-hop.py",
        "--model_dir",
        run,
        "--save_dir",
        tmp_path,
        "--k_groups",
        "1-2,3,60+",
        "--device",
        "cpu",
    )
    assert finished.returncode == 0, finished.stderr
    lens = read_json(tmp_path / f"{run.name}.json")
    raw, dataset = np.load(tmp_path / f"{run.name}.npz"), load_dataset(data)
    model = GPT2LMHeadModel.from_pretrained(run / "checkpoint-10").eval().requires_grad_(False)
    loaded = circuits.open_checkpoint(run / "checkpoint-10", dataset.codec)
    ids = loaded.token_ids.tolist()
    inputs = dataset.test.inputs[raw["test_rows"]]
    with torch.no_grad():
        states = model(loaded.encode(inputs), output_hidden_states=True).hidden_states
    for i, layer, position in ((0, 0, 2), (3, 1, 1), (5, 2, 0), (7, 2, 2)):
        state = states[layer][i, position]
        logits = model.lm_head(state if layer == 2 else model.transformer.ln_f(state))
        for k in range(2):  # b, t
            token = ids[raw["wanted"][i, k]]
            place = (layer, position, i, k)
            assert raw["checkpoint-10/rank"][place] == slow.rank_of(logits, token, ids)
            assert raw["checkpoint-10/prob"][place] == pytest.approx(
                float(logits.softmax(-1)[token]), abs=1e-5
            )
    empty = lens["checkpoints"]["checkpoint-10"]["id_test/k_cutoff=60+"][0]
    assert (empty["n"], empty["reciprocal_rank"], empty["interval"]) == (0, None, None)
    cell = lens["checkpoints"]["checkpoint-10"]["id_test/k_cutoff=1-2"][0]
    assert cell["value"] == "b" and cell["layer"] == 0 and cell["n"] > 0
    assert cell["reciprocal_rank"] == pytest.approx(
        (1 / (raw["checkpoint-10/rank"][0, 0, raw["member/id_test/k_cutoff=1-2"], 0] + 1)).mean()
    )


def test_general_commands_take_a_task_of_ones_own(run_command, worlds, tmp_path):
    run, data = worlds("fivehop")
    shown = run_command("circuit_analysis/trace.py", "--model_dir", run, "--family", "list")
    assert [line.split(":")[0] for line in shown.stdout.splitlines()] == [
        f"diff_f{i}" for i in range(1, 5)
    ]
    whole, pairs = ("--k_groups", "none"), ("--layer_pos_pairs", "[(1,3)]")
    for script, flags in (
        (
            "cluster.py",
            ("--ckpt", run / "final_checkpoint", "--group_by", "b2", "b2,x4", *whole, *pairs),
        ),
        (
            "trace.py",
            ("--model_dir", run, "--step_list", "10", "--family", "diff_f1,diff_f3", *whole),
        ),
        ("lens.py", ("--ckpt", run, *pairs, "--group_by", "b2", *whole)),
        ("interchange.py", ("--model_dir", run, "--group_by", "1", "b2", "--step_list", "10")),
    ):
        few = ("--max_items", 5, "--save_dir", tmp_path)
        finished = run_command(f"circuit_analysis/{script}", *flags, *few)
        assert finished.returncode == 0, finished.stderr
    assert list(tmp_path.rglob("*_by_b2_against_b2,x4.pdf"))
    name = run.name
    assert {path.stem for path in tmp_path.glob("*.json")} == {
        *(f"{name}_by_b2", f"{name}_residual_same_b1", f"{name}_residual_same_b2"),
        *(f"{name}_residual_diff_f1_rank", f"{name}_residual_diff_f3_rank"),
    }
    same = read_json(tmp_path / f"{name}_residual_same_b2.json")
    assert same["family"]["holds"] == "b2" and list(same["checkpoints"]) == ["checkpoint-10"]


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [
        ("trace.py", ("--family", "diff_f1", "diff_f9"), "--family diff_f9"),
        ("lens.py", ("--group_by", "b", "q"), "--group_by q"),
        ("interchange.py", ("--group_by", "b", "t"), "--group_by t is no intermediate value"),
        ("cluster.py", ("--group_by", "b", "q"), "--group_by q"),
    ],
)
def test_of_several_values_none_is_begun_where_one_is_refused(
    run_command, refused, worlds, tmp_path, script, flags, words
):
    run, _ = worlds("twohop")
    places = ("--ckpt", run, "--save_dir", tmp_path)
    refused(run_command(f"circuit_analysis/{script}", *places, *flags), words)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ bridges written


def test_a_model_that_writes_bridges_is_read_where_it_emits_them(worlds):
    """Against one plain run for each sample and cell, going on with what that run emits."""
    run, data = worlds("threehop_cot")
    dataset = load_dataset(data)
    loaded = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec)
    family = circuits.family_of(dataset.graph, "diff_f2")
    splits = circuits.item_splits(
        dataset, circuits.grouping_of(dataset.graph, "b2"), out_of_domain=False, max_items=4
    )
    plan = circuits.plan_trace(dataset, family, splits, seed=0)
    traces = circuits.patch_runs(loaded, plan.originals, plan.sources, plan.wanted, batch_size=3)
    ids = loaded.token_ids.tolist()
    for sample in range(len(plan.rows)):
        mine, theirs = ([ids[v] for v in rows[sample]] for rows in (plan.originals, plan.sources))
        for layer in (1, 2):
            for position in range(4):
                written = []
                for number in range(3):
                    logits = slow.patched_logits(
                        loaded.model, mine + written, theirs + written, layer, position
                    )
                    ranks = traces[number].after["rank"][layer - 1, position, sample]
                    wanted = [ids[v] for v in plan.wanted[sample, number]]
                    assert ranks.tolist() == [slow.rank_of(logits, w, ids) for w in wanted]
                    written.append(ids[int(logits[ids].argmax())])


# ------------------------------------------------------------------------------------- families


def test_families_of_path_ambiguity_come_from_the_graph():
    assert list(circuits.families(TASKS["nontree"])) == [
        "diff_f1",
        "keep_b_change_x2",
        "change_b_and_x2",
    ]
    assert list(circuits.families(TASKS["fivehop"])) == [f"diff_f{i}" for i in range(1, 5)]
    diamond = TaskGraph.from_dict(
        {
            "name": "diamond",
            "inputs": ["x1", "x2", "x3"],
            "functions": [
                {"name": "f1", "output": "b1", "sources": ["x1", "x2"]},
                {"name": "f2", "output": "b2", "sources": ["x2", "x3"]},
                {"name": "f3", "output": "b3", "sources": ["b1", "b2"]},
                {"name": "f4", "output": "t", "sources": ["b3", "x3"]},
            ],
        }
    )
    found = circuits.families(diamond)
    assert (found["diff_f1"].slot, found["diff_f1"].held) == ("x1", ())
    assert found["diff_f2"].slot == "x3" or found["diff_f2"].held == ("b1",)
    assert "keep_b1_change_x2" in found and "change_b2_and_x3" in found
    with pytest.raises(InputError, match="`family` f9 does not exist: .* diff_f1, diff_f2"):
        circuits.family_of(diamond, "f9")


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (f"{THREE}/causal_tracing_3-hop.py", ("--atomic_idx", 1)),
        (f"{NONTREE}/collapse_analysis_nontree.py", ("--atomic_idx", 1)),
        (f"{PARALLEL}/causal_tracing_parallel_2-hop.py", ("--atomic_idx", 1)),
    ],
)
def test_a_published_command_refuses_another_task(
    run_command, worlds, refused, tmp_path, script, flags
):
    """As the published ones did not, a 2-hop run is not taken for one of another task."""
    run, _ = worlds("twohop")
    chosen = ("--ckpt", run / "final_checkpoint") if "collapse" in script else ("--model_dir", run)
    finished = run_command(script, *chosen, "--save_dir", tmp_path, "--device", "cpu", *flags)
    refused(finished, "this command is for the task", "holds twohop", "take any task")
    assert not list(tmp_path.iterdir())


def test_components_are_drawn_where_no_group_is_in_every_split(tmp_path):
    """OOD items may share no group with the others: colours are then those of the other splits."""
    rng = np.random.default_rng(0)
    cells = [{"split": "id_test", "layer": 1, "position": 1, "slot": "x2", "iicg": 0.5}]
    labels = {"id_train": "01", "id_test": "01", "ood": "78"}
    groups = np.array([label for pair in labels.values() for label in pair * 3])
    members = {f"member/{split}": np.repeat([s == split for s in labels], 6) for split in labels}
    states = {"state/layer1_pos1": rng.normal(size=(18, 4)).astype(np.float32)}
    texts = as_bytes([f"<t_{i}>" for i in range(18)])
    np.savez(tmp_path / "vectors.npz", groups=groups, texts=texts, **states, **members)
    metrics = {
        "cells": cells,
        "grouped_by": {"value": "b"},
        "splits": {split: {"vectors": 6} for split in labels},
    }
    draw_components(tmp_path, metrics, every_site=False)
    drawn = json.loads((tmp_path / "pca_layer1_x2.json").read_text())
    assert drawn["coloured_groups"] == ["0", "1"]
    assert set(drawn["points"]) == set(labels)


def test_components_without_vectors_are_refused_before_the_work(
    run_command, worlds, refused, tmp_path
):
    run, _ = worlds("twohop")
    finished = run_command(
        "circuit_analysis/cluster.py",
        "--ckpt",
        run / "final_checkpoint",
        "--save_dir",
        tmp_path,
        "--device",
        "cpu",
        "--pca",
        "--no_vectors",
    )
    refused(finished, "--pca needs the vectors", "--vectors")
    assert not list(tmp_path.iterdir())


def test_the_right_answer_of_an_empty_family_is_a_sentence(worlds, tmp_path):
    run, _ = worlds("twohop")
    given = {"model_dir": run, "save_dir": tmp_path, "device": "cpu"}
    with pytest.raises(InputError, match="`stream` logit cannot be patched"):
        circuits.run_trace(circuits.TraceSettings(**given, stream="logit"))
    with pytest.raises(InputError, match=r"\(9,1\) does not exist: there are layers 1 to 2"):
        circuits.run_trace(circuits.TraceSettings(**given, pairs=[(9, 1)]))
    with pytest.raises(InputError, match=r"\(3,0\) does not exist: there are layers 0 to 2"):
        circuits.run_lens(circuits.LensSettings(**given, pairs=[(3, 0)]))
    with pytest.raises(InputError, match="is no intermediate value of task twohop"):
        circuits.run_interchange(circuits.InterchangeSettings(**given, group_by="t"))
    with pytest.raises(InputError, match="must name the site once"):
        circuits.site_in("results/here")


# -------------------------------------------------------------------------- published checkpoints


def test_a_published_checkpoint_goes_through_the_same_commands(run_command, worlds, tmp_path):
    """50,257 byte pairs as GPT-2 has them, then the added tokens; written as transformers 4.37."""
    _, data = worlds("twohop")
    tokens = read_json(data / "vocab.json")
    run = tmp_path / f"{data.name}_published"
    folder = run / "checkpoint-5000"
    known = {f"pair{i}": i for i in range(50256)} | {"<|endoftext|>": 50256}
    known = {(chr(33 + i) if i < 90 else text): i for text, i in known.items()}
    added = {token: 50257 + i for i, token in enumerate(tokens)}
    end = "<|endoftext|>"
    plain = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50257 + len(tokens),
        n_layer=2,
        n_head=2,
        n_embd=16,
        n_positions=8,
        initializer_range=0.4,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    write_json(folder / "vocab.json", known)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    write_json(folder / "added_tokens.json", added)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": end,
            "eos_token": end,
            "unk_token": end,
            "added_tokens_decoder": {
                str(i): {"content": token, "special": False, **plain} for token, i in added.items()
            },
        },
    )
    about = read_json(folder / "config.json")
    write_json(folder / "config.json", {**about, "transformers_version": "4.37.0"})
    for script, flags in (
        (f"{TWO}/causal_tracing_2-hop.py", ("--model_dir", run, "--metric_type", "prob")),
        (f"{TWO}/collapse_analysis_2-hop.py", ("--ckpt", folder, "--mode", "logit")),
        (f"{TWO}/logit-lens_2-hop.py", ("--model_dir", f"{run}/")),
    ):
        finished = run_command(
            script, *flags, "--data_dir", data, "--save_dir", tmp_path / "out", "--device", "cpu"
        )
        assert finished.returncode == 0, finished.stderr
    lens = np.load(tmp_path / "out" / f"{run.name}.npz")
    # Probabilities are over all 50,000 outputs, ranks among the data set's tokens only.
    assert lens["checkpoint-5000/prob"].mean() < 0.01
    assert lens["checkpoint-5000/rank"].max() < len(tokens)

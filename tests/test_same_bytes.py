"""Same command, same bytes: every output twice, with other orders of sets and dictionaries."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from coverage_principle.cli import settings_from
from coverage_principle.data import (
    FormatSettings,
    WorldSettings,
    dataset_files,
    generate_world,
    write_dataset,
)
from coverage_principle.experiments.settings import command_parser
from coverage_principle.tasks import TASKS, task_name
from tests.conftest import ROOT

#: Commands one after the other in a fresh folder; what they print is an output too.
LINES = """
dataset_generation/twohop.py --num_tokens 6 --max_train_data_num 60 --test_size_for_type 20
  --validation_size 5 --output_dir sets
determine_coverage.py --data_dir sets/twohop.6.60.diff-f12.inf --k_sweep --visualise
  --output_dir cover --export_graph cover/graph.graphml
determine_coverage.py --data_dir sets/twohop.6.60.diff-f12.inf --scope domain --output_dir cover
determine_coverage.py --data_dir sets/twohop.6.60.diff-f12.inf --suggest 5 --output_dir cover
determine_coverage.py --data_dir sets/twohop.6.60.diff-f12.inf --explain <t_0><t_1><t_2>
determine_coverage.py --data_dir sets/twohop.6.60.diff-f12.inf --graded --noise auto
  --output_dir cover
script/pattern_matcher.py --data_dir sets/twohop.6.60.diff-f12.inf --learner
  --output matcher/all_items.json
script/validate_dataset.py sets/twohop.6.60.diff-f12.inf
script/export_prompts.py sets/twohop.6.60.diff-f12.inf --template {x1}{x2}{x3}={t} --shots 5
  --inside 1
script/required_data.py --num_tokens 4,6 --k 1,2 --seeds 0,1 --output_dir required
script/required_data.py --task threehop --num_tokens 4,5 --k 1,2 --seeds 0 --sample 20
  --output_dir required
script/predicted_data.py --num_tokens 4,5 --seeds 0 --accuracy 0.6 --needed 20 30
  --output_dir predicted
dataset_generation/grokked.py --num_entities 9 --num_relations 5 --out_degree 3 --phi 2
  --output_dir sets
script/coverage_by_phi.py --num_entities 9 --num_relations 5 --out_degree 3 --phi 1,2
  --output_dir phi
main.py --data_dir sets/twohop.6.60.diff-f12.inf --init_weights --n_layer 1 --n_head 1 --n_embd 16
  --device cpu --max_steps 20 --warmup_steps 0 --learning_rate 0.01 --do_train --output_dir run
  --evaluate_during_training --eval_steps 10 --save_step 10 --do_predict
script/evaluate_predictions.py --data_dir sets/twohop.6.60.diff-f12.inf
  --predictions run/all_items.json --output_dir evaluated
circuit_analysis/trace.py --model_dir run --save_dir trace --device cpu
circuit_analysis/lens.py --model_dir run --save_dir lens --device cpu --tuned
circuit_analysis/heads.py --model_dir run --save_dir heads --device cpu
circuit_analysis/interchange.py --model_dir run --save_dir interchange --device cpu
circuit_analysis/probe.py --model_dir run --save_dir probe --device cpu --layer_pos_pairs (1,1)
circuit_analysis/cluster.py --ckpt run/final_checkpoint --save_dir cluster --device cpu
  --pca --group_by b
circuit_analysis/measure.py --id_train_file VECTORS --id_test_file VECTORS --ood_file VECTORS
  --output_dir measure/(1,1)/20 --pca_vis --pca_n 1 --range_samples
script/make_report.py run
script/run_sweep.py spec.json --output_dir sweep --jobs 1
script/plot_sweep.py sweep --x group --group type_0 type_3 --min_items 1
script/make_report.py sweep
"""
VECTORS = "cluster/residual/twohop.6.60.diff-f12.inf/b/final_checkpoint/vectors.npz"
SPEC = {
    "base": {
        "task": "twohop",
        "data": {"num_tokens": 5, "max_train_data_num": 30, "test_size_for_type": 5},
        "train": {"n_layer": 1, "n_head": 1, "n_embd": 8, "max_steps": 4, "device": "cpu"},
    }
}
#: Runs each line of a file as a command, in one interpreter: the hash seed is its own.
PROBE = """
import json, multiprocessing, runpy, sys
from pathlib import Path
from coverage_principle.experiments import commands
fork = multiprocessing.get_context("fork")  # stages need not import everything anew
fork.set_forkserver_preload = lambda names: None
commands.multiprocessing.get_context = lambda kind: fork
root, lines = sys.argv[1], json.loads(sys.argv[2])
for number, words in enumerate(lines):
    sys.argv = [f"{root}/{words[0]}", *words[1:]]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    with open(f"printed_{number}.txt", "w", encoding="utf-8") as sys.stdout:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            assert not stop.code, (words, stop.code)
"""
#: What is not equal, since it says when and how fast: these numbers, also as a column of a
#: sweep's tables, and with them what a continuation needs, and logs with their progress bars.
TIMES = re.compile(
    rb'"(elapsed_s|items_per_s|generate|coverage|train|ended|seconds)": ([\d.e-]+|"20[^"]*")'
)
UNLIKE = {"state.pt", "generate.log", "train.log"}


def test_every_output_of_the_same_command_is_the_same(tmp_path):
    lines = [line.split() for line in LINES.replace("\n  ", " ").strip().splitlines()]
    lines = [[VECTORS if word == "VECTORS" else word for word in words] for words in lines]
    running = []
    for folder, hash_seed in (("a", "1"), ("b", "2")):
        (tmp_path / folder / "w").mkdir(parents=True)
        (tmp_path / folder / "w" / "spec.json").write_text(json.dumps(SPEC))
        command = [sys.executable, "-c", PROBE, str(ROOT), json.dumps(lines)]
        own = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        running.append(
            subprocess.Popen(
                command,
                cwd=tmp_path / folder / "w",
                env={**os.environ, **own},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in running:
        said = process.communicate(timeout=250)[1]
        assert process.returncode == 0, said
    first, second = (contents(tmp_path / folder, tmp_path) for folder in "ab")
    assert first.keys() == second.keys() and len(first) > 100
    assert [name for name in first if first[name] != second[name]] == []


def contents(folder, root) -> dict[str, bytes]:
    """The files of a folder, as if it were at another place and without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in UNLIKE:
            content = path.read_bytes().replace(str(folder).encode(), str(root / "x").encode())
            if path.name == "results.csv":
                content = re.sub(rb",[\d.]+(?=\r?\n)", b"", content)
            if path.name == "report.html":  # the time in all; the column after status and steps
                content = re.sub(rb"failed; .* to the last end", b"", content)
                content = re.sub(rb"(>done</td><td>4</td>)<td>[\d.]+</td>", rb"\1", content)
            found[str(path.relative_to(folder))] = TIMES.sub(b"", content)
    return found


#: What the generators wrote before tasks had alphabets, from their commands (with ``--num_tokens 6
#: --max_train_data_num 60 --test_size_for_type 20``): the beginning of the SHA-256 of all JSON
#: files, names included and versions left out.
PUBLISHED = {
    "twohop": "58c34121f51c6274",
    "twohop --cot --validation_size 5": "7fb7c800b169dcb4",
    "twohop --cot --fake_bridge --same_f12": "a2ab257797f21183",
    "twohop --same_f12 --separate_seen --cot": "5271011f6a84ce2c",
    "twohop --function_family commutative --atomic_facts seen": "4b3019bac9e87561",
    "nontree --function_family modular --atomic_facts none": "20f71ee61e93b904",
    "parallel-twohop --default_seen_ratio 0.6": "11562f5cbfdd493b",
    "threehop": "5edb2fab2fb0e855",
    "threehop --same_f123 --separate_seen": "37be5edb5ba1d36d",
    "threehop --cot --same_f123 --seed 7": "1a4c9bc4325cf1d2",
    "threehop --fake_bridge --function_family balanced": "184b3272a6a54bbe",
    "fivehop": "35c9d815f0c72aec",
    "fivehop --no-cot --validation_size 5": "c94bd1275163b323",
    "nontree": "8ac5a4d802d7af96",
    "nontree --same_f12 --cot": "1361e7cef2ed9ca5",
    "parallel-twohop": "6a5d90a3648f871f",
    "parallel-twohop --cot --seed 0": "c3a7402cf2b5f80d",
    "parallel-twohop --same_f123 --include_atomic": "8b62ff55e7a7247d",
    "parallel-twohop --same_f123 --include_atomic --cot --separate_seen": "c9d4725c0d48817d",
}


@pytest.mark.parametrize("line", PUBLISHED)
def test_data_sets_of_the_five_tasks_are_what_they_always_were(tmp_path, line):
    name, *flags = line.split()
    sizes = ["--num_tokens", "6", "--max_train_data_num", "60", "--test_size_for_type", "20"]
    arguments = command_parser(f"dataset_generation/{name}.py").parse_args([*sizes, *flags])
    settings = settings_from(WorldSettings, arguments)
    world = generate_world(TASKS[task_name(name)], settings)
    files, metadata = dataset_files(world, settings_from(FormatSettings, arguments))
    del metadata["versions"]
    write_dataset(tmp_path / "data", files, metadata, overwrite=False)
    digest = hashlib.sha256()
    for path in sorted((tmp_path / "data").iterdir()):
        content = path.read_bytes()
        if path.name == "metadata.json":
            content = json.dumps(json.loads(content)).encode()
        digest.update(path.name.encode() + b"\n" + content)
    assert digest.hexdigest()[:16] == PUBLISHED[line]

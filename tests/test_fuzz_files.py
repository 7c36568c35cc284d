"""Bad files at random: no command that reads one ends in a traceback, hangs, or tells untruth.

A world holds a data set, a run, circuit results, a sweep and so on. A case spoils one file of it
and runs a command that reads that file. Then the command has refused in one sentence and changed
nothing, or its output is what it is with the file as it was, or it has given a warning, or the file
is another good input, for which ``OTHER_INPUT`` says of which files that can be so.

The long search: pytest -n 0 -s -m fuzz_long tests/test_fuzz_files.py, with FUZZ_SEED and FUZZ_COUNT
set to a seed and a number of cases.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import random
import re
import shutil
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from coverage_principle.errors import InputError
from simpletransformers import files
from tests.conftest import ROOT
from tests.fuzzing import (
    MUTATIONS,
    SAME,
    copy_world,
    differing,
    same_json,
    snapshot,
)

DATA = "data/twohop.8.150.diff-f12.inf"
FINAL = "run/final_checkpoint"
WORLD = "--num_tokens 8 --max_train_data_num 150 --test_size_for_type 30 --validation_size 20"
SIZE = "--n_layer 1 --n_head 2 --n_embd 16 --device cpu --train_batch_size 32 --warmup_steps 0"
EVERY = "--logging_steps 5 --eval_steps 10 --scheduler constant_schedule"
TRAINED = f"--do_train --evaluate_during_training {EVERY} {SIZE}"
ANALYSED = f"--data_dir {DATA} --device cpu"
REQUIRED = "--task task.json --num_tokens 4 --seeds 1 --k 1 --share 0.5 --output_dir required"
SITE = "clusters/(1,1)/final_checkpoint"
SWEEP = {
    "base": {
        "data": {"num_tokens": 6, "max_train_data_num": 60, "test_size_for_type": 20},
        "coverage": {"k_sweep": True},
    },
    "grid": {"seed": [1]},
}
TASK = {
    "name": "mine",
    "inputs": ["x1", "x2", "x3"],
    "functions": [
        {"name": "f1", "output": "b", "sources": ["x1", "x2"]},
        {"name": "f2", "output": "t", "sources": ["b", "x3"]},
    ],
}
_LENS = "lens/lens_b.json"
CLAIM = "docs/results/accuracy_by_data"


@dataclass(frozen=True)
class Reader:
    """A command, and patterns of the files that it reads; files of ``lacks`` are removed first."""

    script: str
    words: str
    reads: str
    lacks: str = ""

    def files(self, world: Path) -> list[Path]:
        found = {path for one in self.reads.split() for path in world.glob(one) if path.is_file()}
        return sorted(path.relative_to(world) for path in found)


ITEMS = f"{DATA}/vocab.json {DATA}/t*.json {DATA}/valid.json {DATA}/metadata.json"
NOTED = f"{DATA}/test_annotated.json*"
TABLES = f"{DATA}/atomic_facts_*"
MODEL = f"{FINAL}/config.json {FINAL}/model* {FINAL}/*.safetensors {FINAL}/token*"
READERS = {
    "coverage": Reader(
        "determine_coverage.py", f"--data_dir {DATA} --k_sweep --output_dir k_sweep", ITEMS
    ),
    "coverage again": Reader(
        "determine_coverage.py",
        f"--data_dir {DATA} --output_dir k_sweep --min_evidence 2",
        f"{NOTED} k_sweep/*.json",
    ),
    "ground truth": Reader(
        "determine_coverage.py",
        f"--data_dir {DATA} --k_sweep --ground_truth --output_dir k_sweep",
        TABLES,
    ),
    "suggest": Reader(
        "determine_coverage.py", f"--data_dir {DATA} --suggest 5 --output_dir k_sweep", TABLES
    ),
    "prompts": Reader(
        "script/export_prompts.py",
        f"{DATA} --template {{x1}}{{x2}}{{x3}}={{b}},{{t}} --cot --shots 3 --output p.jsonl",
        f"{ITEMS} {NOTED} {TABLES}",
    ),
    "prompts with names": Reader(
        "script/export_prompts.py",
        f"{DATA} --template {{x1}}{{x2}}{{x3}}={{t}} --names names.json --output p.jsonl",
        "names.json",
    ),
    "validate": Reader("script/validate_dataset.py", DATA, f"{ITEMS} {TABLES}"),
    "predict": Reader(
        "main.py",
        f"--data_dir {DATA} --model_name_or_path {FINAL} --do_eval --do_predict "
        "--prediction_dir predicted --device cpu",
        f"{ITEMS} {NOTED} {MODEL}",
    ),
    "predict others": Reader(
        "main.py",
        f"--data_dir {DATA} --model_name_or_path {FINAL} --do_predict --custom_test "
        "predictions/all_items.json --prediction_dir predicted --device cpu",
        "predictions/all_items.json",
    ),
    "evaluate predictions": Reader(
        "script/evaluate_predictions.py",
        f"--data_dir {DATA} --predictions predictions/all_items.json --output_dir evaluated",
        f"{ITEMS} {NOTED} predictions/all_items.json",
    ),
    "resume": Reader(
        "main.py",
        f"--data_dir {DATA} --model_name_or_path gpt2 --init_weights --output_dir run --resume "
        f"--max_steps 30 {TRAINED}",
        "run/*.json run/*.jsonl run/*.csv run/resume_state/*",
    ),
    "trace": Reader(
        "circuit_analysis/trace.py",
        f"--model_dir run --save_dir out --step_list final_checkpoint {ANALYSED}",
        f"{ITEMS} {NOTED} {TABLES} {MODEL} run/run_config.json",
    ),
    "lens": Reader(
        "circuit_analysis/lens.py",
        f"--model_dir run --save_dir out --step_list final_checkpoint {ANALYSED}",
        f"{NOTED} {MODEL}",
    ),
    "cluster": Reader(
        "circuit_analysis/cluster.py",
        f"--ckpt {FINAL} --save_dir out --permutations 2 {ANALYSED}",
        f"{NOTED} {MODEL}",
    ),
    "measure": Reader(
        "circuit_analysis/measure.py",
        "--permutations 2 --id_train_file vectors.npz --id_test_file vectors.npz "
        "--ood_file ood_dedup.json --output_dir out/(1,1)/final",
        "vectors.npz ood_dedup.json",
    ),
    "draw measured": Reader(
        "circuit_analysis/measure.py",
        "--draw_only --reduce_dim 2 --pca_n 1 --id_train_file vectors.npz "
        "--id_test_file vectors.npz --ood_file ood_dedup.json --output_dir measured/(1,1)/final",
        "measured/*/final/metrics_results.json",
    ),
    "sweep": Reader(
        "script/run_sweep.py",
        "spec.json --output_dir sweep --jobs 1",
        "spec.json sweep/results.jsonl sweep/runs/*/*.json sweep/worlds/*/*.json",
    ),
    "sweep gone on with": Reader(
        "script/run_sweep.py",
        "spec.json --output_dir sweep --jobs 1 --launcher local",
        "sweep/runs/*/s*.json sweep/worlds/*/*.json sweep/worlds/*/data/*/metadata.json "
        "sweep/worlds/*/k_sweep_results/*.inf.json",
        lacks="sweep/results.* sweep/runs/*/result.json",
    ),
    "report of a run": Reader("script/make_report.py", "run", "run/*.json run/*.jsonl"),
    "report of a sweep": Reader(
        "script/make_report.py", "sweep", "sweep/results.jsonl sweep/*/numbers.json"
    ),
    "figure of a sweep": Reader(
        "script/plot_sweep.py",
        "sweep --x seed --y covered.1 --output drawn",
        "sweep/results.jsonl sweep/runs/*/settings.json",
        lacks="sweep/runs/*/result.json",
    ),
    "task": Reader("script/required_data.py", REQUIRED, "task.json required/*_measured.json"),
    "world": Reader(
        "dataset_generation/custom.py", f"--task task.json {WORLD} --output_dir mine", "task.json"
    ),
}
#: Files that nothing vouches for, by pattern: what is in them is what the user wants, so anything
#: else that is good at all is another input. What a data set, an annotated test set or a checkpoint
#: holds has digests, and a change must be noticed.
OTHER_INPUT = (
    *(
        "spec.json",
        "names.json",
        "task.json",
        "predictions/all_items.json",
        "vectors.npz",
        "ood_dedup.json",
    ),
    *("measured/*/final/metrics_results.json", "required/*_measured.json", f"{DATA}/metadata.json"),
    *("sweep/*/numbers.json", "sweep/results.jsonl", "sweep/runs/*/result.json"),
    *("sweep/worlds/*/k_sweep_results/*.json", "sweep/worlds/*/data/*/metadata.json"),
    *("sweep/worlds/*/stages.json", "sweep/runs/*/stages.json"),
    *("run/metrics.jsonl", "run/run_config.json", f"{FINAL}/model_args.json"),
)
#: Files that need not be there, and mutations after which they are not.
OPTIONAL = (f"{DATA}/test_annotated.json", f"{DATA}/valid.json", "k_sweep/*", "*.csv")
GONE = ("missing", "a link to nothing", "a link in a circle")


@pytest.fixture(scope="module")
def world(tmp_path_factory, run_command):
    """Three folders: the world, the same of another seed, and the place where cases have a copy.

    Both worlds were made in that place, so that paths in their files are right there.
    """
    folder = tmp_path_factory.mktemp("fuzz")
    place = folder / "place"
    for name, seed in (("world", 42), ("twin", 7)):
        make_world(run_command, place, seed, whole=name == "world")
        shutil.move(place, folder / name)
    return folder / "world", folder / "twin", place


def make_world(run_command, place: Path, seed: int, *, whole: bool) -> None:
    """Make a world in ``place``; one that is not ``whole`` lacks what takes longest.

    It is small, but has everything that a user of these commands has after some days.
    """

    def run(script, words):
        finished = run_command(script, *words.split(), cwd=place)
        assert finished.returncode == 0, f"{script} {words}: {finished.stdout}{finished.stderr}"

    place.mkdir()
    (place / "spec.json").write_text(json.dumps(SWEEP))
    (place / "task.json").write_text(json.dumps(TASK))
    (place / "names.json").write_text(json.dumps([f"name {i}" for i in range(9)]))
    new = f"--data_dir {DATA} --model_name_or_path gpt2 --init_weights --manual_seed {seed}"
    run("dataset_generation/twohop.py", f"{WORLD} --seed {seed} --output_dir data")
    run("determine_coverage.py", f"--data_dir {DATA} --k_sweep --output_dir k_sweep")
    run("main.py", f"{new} --output_dir run --max_steps 20 {TRAINED}")
    trained = f"--data_dir {DATA} --model_name_or_path {FINAL}"
    run("main.py", f"{trained} --do_predict --prediction_dir predictions --device cpu")
    few = f"--permutations 2 --published_files {ANALYSED}"
    run("circuit_analysis/cluster.py", f"--ckpt {FINAL} --save_dir clusters {few}")
    shutil.copy(next(place.glob("clusters/**/vectors.npz")), place)
    shutil.copy(next(place.glob("clusters/**/(1,1)/**/ood_dedup.json")), place)
    shutil.rmtree(place / "clusters")
    if not whole:
        return
    run("circuit_analysis/measure.py", READERS["measure"].words.replace("out/", "measured/"))
    run("script/run_sweep.py", "spec.json --output_dir sweep --jobs 2")
    run("script/required_data.py", REQUIRED)
    shutil.copytree(ROOT / CLAIM, place / "sweep" / Path(CLAIM).name)


@dataclass
class Outcome:
    kind: str
    words: str


def judge(run, world, reader: Reader, file: Path, mutation: str, seed: str, known: dict) -> Outcome:
    """Spoil ``file``, run the command, and say what came of it; ``kind`` is ``fault`` if bad."""
    master, twin, place = world
    words = reader.words.split()
    copy_world(master, place, reader.lacks)
    spoilt = place / file
    if mutation == "another's":
        spoilt.unlink()
        shutil.copy(twin / file, spoilt)
    else:
        MUTATIONS[mutation](spoilt, random.Random(seed))
    before = snapshot(place)
    try:
        finished = run(reader.script, *words, cwd=place, seconds=60)
    except Exception as error:  # subprocess.TimeoutExpired
        return Outcome("fault", f"hangs: {error}")
    after, said = snapshot(place), finished.stdout + finished.stderr
    if "Traceback" in said or finished.returncode not in (0, 1, 2):
        return Outcome("fault", said[-1500:])
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or [""])[-1]
        sentence = ": error: " in last and len(last) < 1500
        validated = re.search(r"^\d+ problems?, \d+ notes?$", said, flags=re.MULTILINE)
        if not sentence and "not done: " not in last and not validated:
            return Outcome("fault", f"no sentence: {said[-800:]}")
        if sentence and (changed := differing(before, after)):
            return Outcome("fault", f"refused, but changed {changed[:4]}: {last}")
        return Outcome("refused", last)
    key = reader.script, reader.words
    if key not in known:
        copy_world(master, place, reader.lacks)
        right = run(reader.script, *words, cwd=place)
        assert right.returncode == 0, f"{reader}: {right.stdout}{right.stderr}"
        known[key] = snapshot(place), right.stdout, right.stderr
    reference, out, err = known[key]
    ours = {str(file), str(file).partition("/")[2]}
    ours.add(str(file.with_name("nothing")))  # to which the link led that was written through
    wrong = [name for name in differing(reference, after) if name not in ours]
    if not wrong and finished.stdout == out:
        return Outcome("same", "")
    news = [line for line in said.splitlines() if line not in (out + err).splitlines()]
    if any("warning" in line.lower() for line in news):
        return Outcome("warned", "; ".join(line for line in news if "warning" in line.lower()))
    good = mutation in SAME or same_json((master / file).read_bytes(), before.get(str(file), b""))
    if not good and any(fnmatch(str(file), one) for one in OTHER_INPUT):
        return Outcome("other input", "")
    if mutation in GONE and any(fnmatch(str(file), one) for one in OPTIONAL):
        return Outcome("other input", "")
    return Outcome("fault", f"silently other: {wrong[:4]} {news[:4]}")


def search(run, world, seed: int, count: int) -> collections.Counter:
    """``count`` cases; their kinds. Fails with all that are faults."""
    master, twin, _ = world
    counts, faults, known = collections.Counter(), [], {}
    rng = random.Random(seed)
    names = [name for name, _ in zip(itertools.cycle(READERS), range(count), strict=False)]
    mutations = [*MUTATIONS, *["another's"] * 3]
    for number, name in enumerate(names):
        reader = READERS[name]
        file, mutation = rng.choice(reader.files(master)), rng.choice(mutations)
        if mutation == "another's" and not (twin / file).is_file():
            mutation = "cut"
        outcome = judge(run, world, reader, file, mutation, f"{seed}/{number}", known)
        counts[outcome.kind] += 1
        line = f"{number} {name}: {file}: {mutation}: {outcome.kind}: {outcome.words}"
        if log := os.environ.get("FUZZ_LOG"):
            with open(log, "a", encoding="utf-8") as all_cases:
                all_cases.write(line + "\n")
        if outcome.kind == "fault":
            faults.append(line)
    sys.stdout.write(f"\n{count} cases: {dict(counts)}\n")
    assert not faults, "\n\n".join(faults)
    return counts


def test_a_few_bad_files(run_command, world):
    search(run_command, world, 1, len(READERS))


@pytest.mark.fuzz_long
def test_many_bad_files(run_command, world):
    seed, count = (int(os.environ.get(f"FUZZ_{n}", v)) for n, v in (("SEED", 2), ("COUNT", 500)))
    search(run_command, world, seed, count)


# ----------------------------------------------------------- a test for each kind that it has found


def test_what_json_cannot_say_again_is_refused(tmp_path):
    file = tmp_path / "a.json"
    for text, words in (
        ("[1e999]", "Out of range"),
        ("[" + "9" * 5000 + "]", "thousands of digits"),
        ('["\\ud800"]', "surrogate"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=words):
            files.read_json(file)


def test_a_folder_where_a_file_is_to_be_written_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        files.write_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError):  # and not tried for ever
        files.write_text("/proc/self/fdinfo/nothing", "x")


def test_a_changed_file_of_a_data_set_or_checkpoint_is_noticed(run_command, world):
    master, _, place = world
    for file, old, new, command in (
        (f"{DATA}/test.json", '"type_1"', '"type_2"', "coverage"),
        (
            f"{FINAL}/config.json",
            '"layer_norm_epsilon": 1e-05',
            '"layer_norm_epsilon": 0.5',
            "lens",
        ),
    ):
        copy_world(master, place)
        text = (place / file).read_text()
        assert old in text
        (place / file).write_text(text.replace(old, new, 1))
        reader = READERS[command]
        finished = run_command(reader.script, *reader.words.split(), cwd=place)
        assert "warning: " in finished.stderr and "changed" in finished.stderr, finished.stderr


def test_a_kept_state_with_a_flipped_bit_is_refused(run_command, world):
    master, _, place = world
    copy_world(master, place)
    file = place / "run/resume_state/state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = snapshot(place)
    reader = READERS["resume"]
    finished = run_command(reader.script, *reader.words.split(), cwd=place)
    assert finished.returncode == 1 and "not a whole state" in finished.stderr
    assert not differing(before, snapshot(place))


def test_lost_k_cutoffs_are_told(run_command, world):
    master, _, place = world
    copy_world(master, place)
    (place / DATA / "test_annotated.json").write_text("[")
    reader = READERS["coverage again"]
    finished = run_command(reader.script, *reader.words.split(), cwd=place)
    assert "what was found before is not kept" in finished.stderr

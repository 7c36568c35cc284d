"""Flags at random: whatever a command is given, it works, or refuses in a sentence and leaves all.

    FUZZ_SEED=7 FUZZ_COUNT=1000 pytest -n 0 -s -m fuzz_long tests/test_fuzz_flags.py

The flags are those of the commands' own parsers; good, bad and extreme values are laid over a
command line that works, in a small prepared world of which each case has a copy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
from collections import Counter
from pathlib import Path

import pytest

from coverage_principle.cli import add_settings
from coverage_principle.data import sha256
from coverage_principle.experiments.commands import has_ended, start_command
from coverage_principle.experiments.settings import ClaimSettings, LauncherSettings, command_parser
from tests.conftest import ROOT

SEED = int(os.environ.get("FUZZ_SEED", 0))
#: Seconds that a case may take; bytes of address space that it may have.
PATIENCE, MOST_BYTES = 60, 14 * 2**30

_GENERATE = "--num_tokens 5 --max_train_data_num 30 --test_size_for_type 5 --output_dir out"
_ENTITIES = "--num_entities 9 --num_relations 5 --out_degree 3 --phi 2 --output_dir out"
_CPU = "--model_dir run --save_dir out --device cpu"
_TRAIN = (
    "--data_dir set --init_weights --n_layer 1 --n_head 1 --n_embd 8 --max_steps 2 --device cpu "
    "--output_dir out --do_train"
)
_LOAD = "--data_dir set --model_name_or_path run/final_checkpoint --device cpu --output_dir out"
_VECTORS = "--id_train_file v.npz --id_test_file v.npz --ood_file v.npz --output_dir out/(1,1)/2"
#: Command lines that work, by command; of the last ones, that are refused after parsing.
WORKING = {
    "main.py": [_TRAIN, f"{_LOAD} --do_predict", f"{_LOAD} --do_eval", f"{_LOAD} --do_train"],
    "determine_coverage.py": [
        *("--data_dir set --output_dir out --k_sweep", "--data_dir set --output_dir out"),
        *(
            "--data_dir set --suggest 2 --output_dir out",
            "--data_dir set --visualise --output_dir out",
        ),
        "--data_dir set --explain <t_0><t_1><t_2>",
    ],
    **{
        f"dataset_generation/{name}.py": [_GENERATE]
        for name in ("twohop", "threehop", "nontree", "parallel-twohop")
    },
    "dataset_generation/fivehop.py": [_GENERATE.replace("5", "3", 1)],
    "dataset_generation/grokked.py": [
        *(_ENTITIES, f"{_ENTITIES} --layout grokked"),
        "--task comparison --num_entities 6 --phi 2 --output_dir out",
    ],
    "dataset_generation/custom.py": [f"{_GENERATE} --task task.json"],
    "circuit_analysis/cluster.py": [
        "--ckpt run/final_checkpoint --save_dir out --device cpu --permutations 1"
    ],
    "circuit_analysis/trace.py": [_CPU, f"{_CPU} --family list"],
    "circuit_analysis/lens.py": [_CPU],
    "circuit_analysis/interchange.py": [_CPU],
    "circuit_analysis/probe.py": [f"{_CPU} --folds 3"],
    "circuit_analysis/measure.py": [_VECTORS],
    "circuit_analysis/measure_cossim_coverage.py": [_VECTORS],
    "circuit_analysis/hierarchical/2-hop/causal_tracing_2-hop_coverage.py": [
        f"{_CPU} --detailed_grouping 1"
    ],
    "circuit_analysis/hierarchical/2-hop/collapse_analysis_2-hop.py": [
        "--ckpt run/final_checkpoint --save_dir out --device cpu"
    ],
    "circuit_analysis/hierarchical/2-hop/logit-lens_2-hop.py": [_CPU],
    "circuit_analysis/nontree/causal_tracing_nontree.py": [f"{_CPU} --atomic_idx 1"],
    "script/export_prompts.py": [
        "set --template {x1}{x2}{x3}={b},{t} --cot --output out/p.jsonl",
        "set --template {x1}{x2}{x3}={t} --output out/p.jsonl --shots 5 --inside 1",
    ],
    "script/evaluate_predictions.py": ["--data_dir set --predictions p.jsonl --output_dir out"],
    "script/pattern_matcher.py": [
        "--data_dir set --output out/a.json",
        "--data_dir set --learner --noise auto --output out/a.json",
    ],
    "script/make_report.py": ["run"],
    "script/plot_sweep.py": [
        "results.jsonl --output out/f",
        "results.jsonl --x k_cutoff --vary n_embd --output out/f",
    ],
    "script/validate_dataset.py": ["set"],
    "script/coverage_by_phi.py": [_ENTITIES],
    "script/required_data.py": ["--num_tokens 4 --k 1 --seeds 0 --output_dir out"],
    "script/predicted_data.py": ["--num_tokens 4 --seeds 0 --accuracy 0.6 --output_dir out"],
    "script/run_sweep.py": ["spec.json --launcher print --output_dir out"],
    "script/quickstart.py": ["--preset tiny --output_dir file/x"],
    **{
        f"script/reproduce/{name}.py": ["--scale tiny --output_dir file/x"]
        for name in ("data_scaling", "chain_of_thought", "mechanisms")
    },
}
#: Flags whose large values ask for long work, which is given.
LONG = {"max_steps", "num_train_epochs", "permutations", "num_random_groups", "range_samples"}
_FOLDERS = ("output_dir", "save_dir", "prediction_dir")
NUMBERS = ["-1", "0", "1", "2", "3", "0.5", "-0.0", "1e-320", "nan", "-inf", "1_0", " 1", "٣", "²"]
HUGE = ["1000000000", str(2**31), str(2**63), str(2**64), "9" * 30, "9" * 5000, "1e308", "inf"]
TEXTS = ["", "x" * 300, "x" * 5000, "a$b_\\c/%d", "é±\n<b>|", "\udcff", "..", "-", ",", "1,2", "9"]
TEXTS += ["[(1,1)]", "[(99999999999999999999,0)]", "all", "none", "each", "0-2,3+", "b", "b,x2"]
TEXTS += ["type_0>=0.9", "type_0>=0.9.9", "a=1", "1,2;2,3", "cuda:99", "cpu", "gpt2", "__class__"]
PATHS = ["no/such", "file", "file/x", "folder", "loop", "loop/x", "/dev/null", "set", "run"]
PATHS += ["task.json", "spec.json", "v.npz", "set/train.json", "run/final_checkpoint"]
#: Places that a command would write to if it took no notice of its flag for them, and what it
#: would call its results there; other tests may write there meanwhile.
DEFAULTS = (
    "data",
    "results",
    "results/predictions",
    "k_sweep_results",
    "circuit_analysis",
    "CKPT_DIR",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory, run_command):
    """A data set with annotations, a run with a card, vectors, a spec, a task, odd files."""
    folder = tmp_path_factory.mktemp("world")

    def make(script, line):
        finished = run_command(script, *line.split(), cwd=folder)
        assert finished.returncode == 0, finished.stderr
        return finished

    make("dataset_generation/twohop.py", f"{_GENERATE[:-3]}sets --validation_size 3")
    next((folder / "sets").iterdir()).rename(folder / "set")
    (folder / "sets").rmdir()
    make("determine_coverage.py", "--data_dir set --k_sweep --output_dir results")
    make("main.py", f"{_TRAIN} --evaluate_during_training --eval_steps 1 --output_dir run")
    make("circuit_analysis/cluster.py", WORKING["circuit_analysis/cluster.py"][0])
    (vectors,) = (folder / "out").rglob("vectors.npz")
    vectors.rename(folder / "v.npz")
    shutil.rmtree(folder / "out")
    shutil.copy(ROOT / "docs/tasks/recall.json", folder / "task.json")
    data = {"num_tokens": 5, "max_train_data_num": 30, "test_size_for_type": 5}
    train = {"max_steps": 2, "n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu"}
    spec = {"base": {"task": "twohop", "data": data, "train": train}}
    (folder / "spec.json").write_text(json.dumps(spec))
    shutil.copy(ROOT / "docs/tutorial/results.jsonl", folder)
    (folder / "p.jsonl").write_text(json.dumps({"id": 1, "model_output": "<t_3>"}))
    (folder / "file").touch()
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    return folder


def content(folder: Path) -> dict[str, str]:
    """Every path below a folder, with what it is."""
    found = {}
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in folders + files):
            link = path.is_symlink()
            what = os.readlink(path) if link else "" if path.is_dir() else sha256(path)
            found[str(path.relative_to(folder))] = what
    return found


def defaults() -> set[str]:
    return {
        str(path)
        for place in DEFAULTS
        for path in (ROOT / place).glob("*")
        if re.match(r"(set|run)(_|$)|\w+\.[35]\.30\.|(required|predicted)_\w+", path.name)
    }


def flags_of(script: str) -> list:
    if script.startswith("script/reproduce/"):  # made by what they share
        parser = argparse.ArgumentParser()
        add_settings(parser, ClaimSettings)
        add_settings(parser, LauncherSettings)
    else:
        parser = command_parser(script)
    fixed = {"help", "debug"} | ({"output_dir"} if "file/x" in WORKING[script][0] else set())
    return [action for action in parser._actions if action.dest not in fixed]


def cases(count: int, seed: int):
    """``count`` times a script and arguments, all scripts equally often."""
    rng, scripts = random.Random(seed), list(WORKING)
    for number in range(count):
        if number % len(scripts) == 0:
            rng.shuffle(scripts)
        script = scripts[number % len(scripts)]
        words = rng.choice(WORKING[script]).split()
        actions = flags_of(script)
        for action in rng.sample(actions, min(len(actions), rng.choice([1, 1, 2, 3]))):
            own = mutated(action, rng)
            if action.option_strings:
                words += own
            else:  # a place of its own, before the flags
                words[0] = own[-1]
        yield script, words


def mutated(action, rng: random.Random) -> list[str]:
    """A flag (or a position) with values at random, for the most part of a sensible kind."""
    flag = [rng.choice(action.option_strings)] if action.option_strings else []
    if action.nargs == 0:
        return flag
    numbers = [NUMBERS, NUMBERS, NUMBERS if action.dest in LONG else HUGE]
    if action.choices:
        kinds = [list(map(str, action.choices))] * 6 + [TEXTS, NUMBERS]
    elif action.dest in _FOLDERS:
        kinds = [[f"out/{name}" for name in TEXTS if name], PATHS, PATHS, TEXTS]
    elif action.type is str or action.type is None:
        kinds = [TEXTS, TEXTS, PATHS, PATHS, NUMBERS]
    else:
        kinds = [*numbers, *numbers, TEXTS]
    many = rng.choice([1, 1, 2]) if action.nargs in ("+", "*") else 1
    return flag + [rng.choice(rng.choice(kinds)) for _ in range(many)]


def fault_of(case, world: Path, folder: Path) -> tuple[str, str]:
    """How a case ended, and what is wrong with that."""
    script, words = case
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder / "w", symlinks=True)
    out, err = folder / "out.txt", folder / "err.txt"
    before, outside = content(folder / "w"), defaults()
    process = start_command(script, words, out=out, err=err, cwd=folder / "w")
    resource.prlimit(process.pid, resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    if not has_ended(process, PATIENCE):
        process.kill()
        return "hangs", f"no end after {PATIENCE} s"
    told = err.read_text(encoding="utf-8", errors="replace")
    status = process.exitcode
    if status not in (0, 1, 2) or "Traceback" in told:
        return "breaks", f"status {status}: {told[-1500:]}"
    if "Warning:" in told:
        return "breaks", f"a library's warning: {told[-1500:]}"
    if defaults() != outside:
        return "breaks", f"wrote {sorted(defaults() - outside)}"
    if status == 0:
        return "works", ""
    if script != "script/validate_dataset.py" or status == 2:
        sentence = told.strip().splitlines()[-1]
        if not re.match(r"\S+: error: .*\S", sentence):
            return "breaks", f"no sentence: {told[-1500:]}"
    if (after := content(folder / "w")) != before:
        other = {name for name in before | after if before.get(name) != after.get(name)}
        return "breaks", f"refused, but changed {sorted(other)}: {told[-300:]}"
    return "refuses", ""


def fuzz(count: int, seed: int, world: Path, folder: Path) -> None:
    counts, faults = Counter(), []
    for case in cases(count, seed):
        ended, fault = fault_of(case, world, folder / "case")
        counts[ended] += 1
        if fault:
            faults.append(f"{case[0]} {ascii(case[1])[:600]}\n  {fault}")
            print(f"{faults[-1]}\n", flush=True)
    print(f"{count} combinations of flags, seed {seed}: {dict(counts)}")
    if faults:
        pytest.fail("\n\n".join(faults), pytrace=False)
    assert counts["works"] and counts["refuses"]


def test_flags_at_random_work_or_are_refused_in_a_sentence(world, tmp_path):
    fuzz(30, SEED, world, tmp_path)


@pytest.mark.fuzz_long
def test_many_flags_at_random_work_or_are_refused_in_a_sentence(world, tmp_path):
    fuzz(int(os.environ.get("FUZZ_COUNT", 500)), SEED + 1, world, tmp_path)

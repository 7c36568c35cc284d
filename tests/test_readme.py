"""The commands of README and docs, run in a copy of the repository, in their order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: What replaces a command that needs a GPU or too long a time: the same command, made smaller.
SMALLER = {
    " 8 12 0 42": " 8 12 cpu 42 --n_embd 48 --max_steps 2",
    "quickstart.sh": "quickstart.sh --no-install --preset tiny",
}
#: What the suite cannot run inside itself.
SKIPPED = ("script/test.sh",)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files that git would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    copy = tmp_path_factory.mktemp("checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


def run_block(block: str, checkout) -> str:
    for long, short in SMALLER.items():
        block = block.replace(long, short)
    # As after activating the environment that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = f"{checkout}{os.pathsep}{checkout / 'simpletransformers'}"  # not what is installed
    finished = subprocess.run(
        ["bash", "-euc", block],
        cwd=checkout,
        env={**os.environ, "PATH": path, "PYTHONPATH": own, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, f"{block}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout + finished.stderr


def test_the_commands_of_the_readme_work_in_its_order(checkout):
    outputs = {}
    for block in blocks("README.md", "bash"):
        if not any(name in block for name in SKIPPED):
            outputs[block] = run_block(block, checkout)
    text = "\n".join(outputs.values())
    # What the README shows of them is what they print.
    for line in ("10,000 of 61,426 trainable compositions", "2      ", "moved to t'"):
        assert line in text
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in re.findall(r"^    ( +\d+ +[\d,]+ +[\d.]+ +.*)$", shown, flags=re.MULTILINE):
        assert line.split() in [printed.split() for printed in text.splitlines()], line
    assert "does not exist; using" in text  # --data_dir ./data_fixed
    name = "twohop.50.10000.diff-f12.inf"
    run = checkout / "CKPT_DIR/trained_checkpoints" / f"{name}_wd-0.1_layer-8_head-12_seed-42"
    config = json.loads((run / "final_checkpoint" / "config.json").read_text())
    assert (config["n_layer"], config["n_head"]) == (8, 12)
    here = checkout / "circuit_analysis/hierarchical/2-hop/results/cosine_analysis"
    assert list(here.rglob("metrics.json"))
    assert list((checkout / "circuit_analysis/tracing_results/2-hop").glob("*_rank.json"))
    assert (checkout / "results/quickstart/report.html").exists()


def test_the_python_of_the_readme_works(checkout):
    (block,) = blocks("README.md", "python")
    output = run_block(f"python - <<'END'\n{block}\nEND", checkout)
    assert output.startswith("[1284, 64.2]\n")


def test_the_commands_for_tasks_of_ones_own_work(checkout):
    output = "".join(run_block(b, checkout) for b in blocks("docs/custom_tasks.md", "bash"))
    assert "data/recall.8.120.diff.cot: written" in output
    assert "IICG, id_test" in output
    assert "% moved to t'" in output
    shown = re.search(
        r"    \{\n.*?\n    \}\n", (ROOT / "docs/custom_tasks.md").read_text(), re.DOTALL
    )
    assert json.loads(shown[0]) == json.loads((ROOT / "docs/tasks/diamond.json").read_text())


def test_the_tutorial_works(checkout):
    """Its sweep made short; what the page shows of the long one is what its results say."""
    spec = checkout / "docs/tutorial/weight_decay.json"
    shown = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    assert json.loads(blocks("docs/tutorial.md", "json")[0]) == json.loads(spec.read_text())
    spec.write_text(spec.read_text().replace('"max_steps": 2000', '"max_steps": 10'))
    outputs = [run_block(block, checkout) for block in blocks("docs/tutorial.md", "bash")]
    assert outputs[0].count("python main.py --data_dir") == 6
    assert outputs[1].count("done ") >= 6 and "weight_decay=1.0 seed=43" in outputs[1]
    assert (checkout / "results/sweeps/weight_decay/figure.png").exists()
    assert (checkout / "results/sweeps/weight_decay/report.html").exists()
    records = list(map(json.loads, (ROOT / "docs/tutorial/results.jsonl").read_text().splitlines()))
    for record in records:
        accuracies = [
            f"{record['scores'][t]['answer_accuracy']:.3f}"
            for t in ("train_inferred", "type_0", "type_1", "type_2", "type_3")
        ]
        line = rf"{record['run']}  {record['label']} +done +2,000 +{' +'.join(accuracies)}"
        assert re.search(line, shown), record["label"]
    figure = run_block(
        "python docs/tutorial/figure.py docs/tutorial/results.jsonl drawn.png", checkout
    )
    for line in re.findall(r"^    (weight decay .*)$", shown, flags=re.MULTILINE):
        assert line in figure.splitlines()


def test_the_python_of_the_page_on_sweeps_works(checkout):
    (block,) = blocks("docs/sweeps.md", "python")
    spec = checkout / "docs/tutorial/weight_decay.json"
    spec.write_text(spec.read_text().replace('"max_steps": 2000', '"max_steps": 10'))
    (checkout / "mine.py").write_text(block, encoding="utf-8")
    output = run_block("python mine.py", checkout)
    assert output.count("answer_accuracy") == 6

"""The commands of README and docs, run in a copy of the repository, in their order."""

from __future__ import annotations

import json
import re

from tests.conftest import ROOT, blocks, run_shell

#: What the suite cannot run inside itself, and what test_quickstart.py runs.
SKIPPED = ("script/test.sh", "script/quickstart.sh")


def test_the_commands_of_the_readme_work_in_its_order(checkout):
    parts = blocks("README.md", "bash")
    own = [part for part in parts if not any(name in part for name in SKIPPED)]
    assert len(own) == len(parts) - len(SKIPPED)
    text = "\n".join(run_shell(own, checkout))
    assert "already there, unchanged" in text  # the published form of the first command
    # What the README shows of them is what they print.
    for line in (
        "10,000 of 61,426 possible training compositions",
        "2      ",
        "rank the source run's answer",
    ):
        assert line in text
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in re.findall(r"^    ( +\d+ +[\d,]+ +[\d.]+ +.*)$", shown, flags=re.MULTILINE):
        assert line.split() in [printed.split() for printed in text.splitlines()], line
    assert "does not exist; using" in text  # --data_dir ./data_fixed
    name = "twohop.50.10000.diff-f12.inf"
    run = checkout / "CKPT_DIR/trained_checkpoints" / f"{name}_wd-0.1_layer-8_head-12_seed-42"
    config = json.loads((run / "final_checkpoint" / "config.json").read_text())
    assert (config["n_layer"], config["n_head"]) == (8, 12)
    published = checkout / "circuit_analysis/hierarchical/2-hop/results/cosine_analysis"
    for here in (checkout / "results/cosine_analysis", published):
        assert list(here.rglob("metrics.json"))
    assert list((checkout / "circuit_analysis/tracing_results/2-hop").glob("*_rank.json"))


def test_the_python_of_the_readme_works(checkout):
    (block,) = blocks("README.md", "python")
    (output,) = run_shell([f"python - <<'END'\n{block}\nEND"], checkout)
    assert output.startswith("[1284, 64.2]\n{'input': '<t_")
    assert "is covered up to k = " in output


def test_the_commands_for_tasks_of_ones_own_work(checkout):
    output = "".join(run_shell(blocks("docs/custom_tasks.md", "bash"), checkout))
    assert "data/recall.8.120.diff.cot: written" in output
    assert "IICG, id_test" in output
    assert "% of runs that rank the source run's answer above their own" in output
    shown = re.search(
        r"    \{\n.*?\n    \}\n", (ROOT / "docs/custom_tasks.md").read_text(), re.DOTALL
    )
    assert json.loads(shown[0]) == json.loads((ROOT / "docs/tasks/diamond.json").read_text())


def made_short(spec, *more):
    """Write fewer steps and test items into the tutorial's sweep."""
    text = spec.read_text()
    for long, short in (
        ('"max_steps": 2000', '"max_steps": 10'),
        ('"test_size_for_type": 1000', '"test_size_for_type": 100'),
        *more,
    ):
        text = text.replace(long, short)
    spec.write_text(text)


def test_the_tutorial_works(checkout):
    """Its sweep made short; what the page shows of the long one is what its results say."""
    spec = checkout / "docs/tutorial/weight_decay.json"
    shown = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    assert json.loads(blocks("docs/tutorial.md", "json")[0]) == json.loads(spec.read_text())
    made_short(spec)
    outputs = run_shell(blocks("docs/tutorial.md", "bash"), checkout)
    assert outputs[0].count("python main.py --data_dir") == 6
    assert outputs[1].count("done ") >= 6 and "weight_decay=1.0 seed=43" in outputs[1]
    made = {path.name for path in (checkout / "results/sweeps/weight_decay").iterdir()}
    assert {"answer_accuracy_by_train.weight_decay.png", "report.html"} <= made
    assert {f"answer_accuracy_by_k_cutoff.{end}" for end in ("png", "pdf", "points.json")} <= made
    records = list(map(json.loads, (ROOT / "docs/tutorial/results.jsonl").read_text().splitlines()))
    for record in records:
        accuracies = [
            f"{record['scores'][t]['answer_accuracy']:.3f}"
            for t in ("train_inferred", "type_0", "type_1", "type_2", "type_3")
        ]
        line = rf"{record['run']}  {record['label']} +done +2,000 +{' +'.join(accuracies)}"
        assert re.search(line, shown), record["label"]
    # The page's figures and tables are those of the results beside it.
    lines = set()
    for block in blocks("docs/tutorial.md", "bash"):
        if "plot_sweep.py" in block:
            command = block.replace("results/sweeps/weight_decay", "docs/tutorial/results.jsonl")
            (drawn,) = run_shell([command], checkout)
            lines |= {*drawn.splitlines()}
    (section,) = re.findall(r"^## 4\. Draw\n(.*?)^## 5", shown, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^    (\S.*)$", section, flags=re.MULTILINE)
    assert len(rows) > 12 and [row for row in rows if row not in lines] == []


def test_the_python_of_the_page_on_sweeps_works(checkout):
    block, reading = blocks("docs/sweeps.md", "python")
    spec = checkout / "docs/tutorial/weight_decay.json"
    made_short(spec, ('"seed": [42, 43]', '"seed": [42]'))
    (checkout / "mine.py").write_text(block, encoding="utf-8")
    (output,) = run_shell(["python mine.py"], checkout)
    assert output.count("answer_accuracy") == 3
    (checkout / "mine.py").write_text(reading, encoding="utf-8")
    (output,) = run_shell(["python mine.py"], checkout)
    lines = output.splitlines()
    assert lines[0].startswith("<Results of tutorial: 6 runs done")
    assert lines[1] == "0.01 0.441" and len(lines) == 5

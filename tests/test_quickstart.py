"""The quickstart as a user runs it, in its tiny preset; and the sentences of its report."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from coverage_principle.reporting import findings
from tests.conftest import ROOT, blocks, run_shell


@pytest.fixture
def quickstart(run_command):
    """What ``script/quickstart.sh`` starts, on a folder in which its command has run already."""
    return lambda *more: run_command("script/quickstart.py", "--preset", "tiny", *more)


@pytest.fixture(scope="module")
def results(checkout):
    """The folder and the output of the README's command."""
    (block,) = (block for block in blocks("README.md", "bash") if "quickstart.sh" in block)
    (output,) = run_shell([block], checkout)
    return checkout / "results" / "quickstart", output


def test_it_ends_with_a_table_a_summary_and_a_report(results):
    folder, output = results
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["sizes"]) == ["100", "160"] and (folder / "report.html").exists()
    for size, run in summary["sizes"].items():
        assert run["data"]["counts"]["train"] == int(size)
        for kind in ("train_inferred", "type_0", "type_1", "type_2", "type_3"):
            shown = f"{run['accuracy'][kind]['answer_accuracy']:.2f}"
            assert re.search(rf"accuracy, {kind} .*{shown} \(n=", output)
        groups = [g for g in run["accuracy"] if g.startswith("type_0/k_cutoff=")]
        assert sum(run["accuracy"][g]["n"] for g in groups) == run["accuracy"]["type_0"]["n"]
        covered = {int(k): count for k, (count, _) in run["k_sweep"].items()}
        below = sum(run["accuracy"][g]["n"] for g in groups if int(g.split("=")[1]) < 3)
        assert covered[3] + below == run["accuracy"]["type_0"]["n"]
        assert {c["split"] for c in run["clustering"]["cells"]} == {"id_test", "ood"}
        assert run["tracing"]["checkpoints"]["final_checkpoint"]["id_test"]["cells"]
        for name in ("lens", "probe"):
            assert {c["value"] for c in run[name]["cells"]} == {"b"}
        for cell in run["subspace"]["cells"]:
            assert list(cell["parts"]) == ["subspace", "rest", "whole", "random"]
    for sentence in summary["findings"]:
        assert sentence in output
    assert "IICG peak" in output
    assert "tracing peak" in output
    assert "lens peak" in output and "probe peak" in output
    assert "only its directions moved, type_0" in output


def test_the_report_needs_no_network_and_holds_every_figure_and_finding(results):
    folder, _ = results
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count('src="data:image/png;base64,') == 9
    import html

    for sentence in json.loads((folder / "summary.json").read_text())["findings"]:
        assert html.escape(sentence) in page


def test_a_second_time_does_nothing_and_a_lost_result_is_made_again(results, quickstart):
    folder, _ = results
    again = quickstart("--output_dir", folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("(done before)") == 16
    (lost,) = folder.glob("worlds/*/k_sweep_results/twohop.8.100.diff-f12.inf.json")
    wanted = lost.read_text()
    lost.unlink()
    data = lost.parent.parent / "data" / "twohop.8.100.diff-f12.inf"
    (data / "test_annotated.json").unlink()
    again = quickstart("--output_dir", folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("(done before)") == 15
    assert lost.read_text() == wanted


def test_without_installation_an_environment_is_needed(tmp_path):
    (tmp_path / "script").mkdir()
    for name in ("quickstart.sh", "setup_env.sh"):
        shutil.copy(ROOT / "script" / name, tmp_path / "script")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")  # a Python that has none of our packages
    python.chmod(0o755)
    finished = subprocess.run(
        ["bash", str(tmp_path / "script" / "quickstart.sh"), "--no-install"],
        env={"PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: this repository is not installed")
    assert len(finished.stderr.splitlines()) == 1


def test_a_stage_that_fails_is_named_and_changed_settings_are_noticed(results, quickstart):
    folder, _ = results
    before = set(folder.glob("worlds/*/data"))
    again = quickstart("--output_dir", folder, "--seed", 43)
    assert again.returncode == 0 and "(done before)" not in again.stdout
    assert json.loads((folder / "summary.json").read_text())["settings"]["seed"] == 43
    (data,) = (p for p in set(folder.glob("worlds/*/data")) - before if any(p.glob("*.160.*")))
    shutil.rmtree(data)
    data.write_text("a file where a folder has to be")
    finished = quickstart("--output_dir", folder, "--seed", 43)
    assert finished.returncode == 1
    failed = next(line for line in finished.stderr.splitlines() if line.startswith("failed: "))
    assert "max_train_data_num=160, at generate: twohop.py: error: " in failed
    assert finished.stderr.splitlines()[-1] == "not done: 1 of 2 runs; run the command again"


# ------------------------------------------------------------------------------------- sentences


def cell(layer, position, split, iicg, low, high, *, after_ln_f=False):
    return {
        "layer": layer,
        "position": position,
        "slot": f"x{position + 1}",
        "split": split,
        "iicg": iicg,
        "iicg_interval": [low, high],
        "after_ln_f": after_ln_f,
    }


def test_clustering_is_claimed_only_where_the_intervals_allow_it():
    clear = [
        cell(1, 1, "id_test", 0.5, 0.4, 0.6),
        cell(1, 2, "id_test", 0.2, 0.1, 0.3),
        cell(2, 2, "id_test", 0.9, 0.8, 1.0, after_ln_f=True),
        cell(1, 1, "ood", 0.02, 0.0, 0.04),
    ]
    text = findings.clustering(2500, clear, value="b")
    assert "layer 1, position x2: IICG 0.50" in text
    assert text.endswith("clearly less.")
    close = [clear[0], cell(1, 1, "ood", 0.42, 0.3, 0.5)]
    assert findings.clustering(2500, close, value="b").endswith("does not tell the two apart.")
    flat = [cell(1, 1, "id_test", 0.06, -0.02, 0.14), clear[3]]
    text = findings.clustering(2500, flat, value="b")
    assert "no clear clustering" in text
    assert "clearly less" not in text
    assert "could not be measured" in findings.clustering(10, [], value="b")


def traced(layer, position, rate, n=100):
    return {
        "layer": layer,
        "position": position,
        "slot": f"x{position + 1}",
        "published": {"n": n, "both": {"rate": rate}},
    }


def test_a_position_is_singled_out_only_where_the_intervals_allow_it():
    cells = [
        traced(1, 1, 0.9),
        traced(1, 2, 0.1),
        traced(2, 2, 1.0),
        traced(2, 1, 0.0),
    ]
    text = findings.tracing(2500, {"cells": cells}, value="b", last_layer=2)
    assert "above the run's own: at layer 1, for 90 % at x2, 10 % at x3 of 100 samples" in text
    assert text.endswith("hangs clearly on x2 at layer 1.")
    cells[0] = traced(1, 1, 0.12)
    text = findings.tracing(2500, {"cells": cells}, value="b", last_layer=2)
    assert text.endswith("no position is singled out.")
    # 5 of 14 against none of 14: too few to tell, though a bootstrap of none is 0 to 0.
    few = {"cells": [traced(1, 2, 5 / 14, n=14), traced(1, 1, 0.0, n=14)]}
    text = findings.tracing(160, few, value="b", last_layer=2)
    assert text.endswith("no position is singled out.")
    empty = {"cells": [traced(1, 1, None, n=0)]}
    assert "no sample was left" in findings.tracing(10, empty, value="b", last_layer=2)


def read_at(position, number, low, high, **more):
    """A cell of the lens and of a probe alike, of 20 values."""
    cell = {"layer": 1, "position": position, "slot": f"x{position + 1}", "n": 100, "tokens": 20}
    cell |= {"can_be_known": position > 0, "reciprocal_rank": number, "interval": [low, high]}
    cell |= {"accuracy": number, "accuracy_interval": [low, high], "bits": 4 * number}
    cell |= {"majority": 0.06, "shuffled": {"accuracy": [0.05, 0.07], "bits": [-0.1, 0.0]}}
    return cell | {"random_weights": {"accuracy": 0.04, "bits": -0.2}, **more}


def test_the_lens_reads_nowhere_what_is_at_chance_everywhere():
    blind = [read_at(0, 0.9, 0.8, 1), read_at(1, 0.17, 0.14, 0.2), read_at(2, 0.19, 0.16, 0.22)]
    text = findings.lens(2500, blind, value="b")
    assert (
        "reads b nowhere: its mean reciprocal rank is at most 0.19, at layer 1, position x3" in text
    )
    assert text.endswith("(95 % interval 0.16 to 0.22; chance is 0.18).")
    text = findings.lens(2500, [*blind, read_at(1, 0.5, 0.4, 0.6)], value="b")
    assert "reads b best at layer 1, position x2: mean reciprocal rank 0.50 (" in text
    assert "no items" in findings.lens(10, [], value="b")


def test_a_probe_is_beside_its_baselines():
    cells = [read_at(1, 0.9, 0.8, 1.0), read_at(2, 0.95, 0.9, 1.0, after_ln_f=True)]
    text = findings.probe(2500, cells, value="b")
    assert "best at layer 1, position x2: it is right for 0.90 of the fragments" in text
    assert (
        "(95 % interval 0.80 to 1.00), 3.60 bits. With shuffled labels it is right for 0.07" in text
    )
    assert text.endswith("on random weights for 0.04 (-0.20 bits): clearly less.")
    known = {"random_weights": {"accuracy": 0.85, "bits": 3.0}}
    text = findings.probe(2500, [read_at(1, 0.9, 0.8, 1.0, **known)], value="b")
    assert text.endswith("on random weights for 0.85 (3.00 bits): no clear difference.")


def test_the_answer_hangs_on_directions_only_where_all_others_move_it_less():
    def swap(subspace, rest, random, n=100):
        shares = {"subspace": subspace, "rest": rest, "whole": 1.0, "random": random}
        found = {
            name: {"published": {"n": n, "both": {"rate": rate, "count": round(n * rate)}}}
            for name, rate in shares.items()
        }
        return [{**read_at(1, 0, 0, 0), "ranks": [19, 18], "parts": found}]

    options = {"value": "b", "last_layer": 2}
    probed = [read_at(1, 0.9, 0.8, 1.0), read_at(2, 1.0, 1.0, 1.0) | {"layer": 2}]
    text = findings.subspace(2500, swap(0.9, 0.1, 0.05), probed, **options)
    assert "the probe of b at layer 1, position x2, looks at 19 directions of the state" in text
    assert "for 90 % of 100 samples, taking all but these for 10 %, the" in text
    assert text.endswith("The answer hangs clearly on these directions.")
    for shares in ((0.9, 0.85, 0.05), (0.9, 0.1, 0.85), (0.2, 0.0, 0.0)):  # chance is 0.26
        text = findings.subspace(2500, swap(*shares), probed, **options)
        assert text.endswith("This run does not single these directions out.")
    assert "no sample was left" in findings.subspace(10, swap(0, 0, 0, n=0), probed, **options)

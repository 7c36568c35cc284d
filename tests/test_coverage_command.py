"""determine_coverage.py as a user runs it: paths, files, figures, refusals."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from coverage_principle.coverage import CoverageSettings, dataset_coverage
from coverage_principle.data import load_dataset
from coverage_principle.reporting.coverage_figures import k_cutoff_histogram, k_sweep_curve
from coverage_principle.reporting.coverage_graph import draw_coverage_graph

COMMAND = "determine_coverage.py"


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / "data" / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


@pytest.fixture(scope="module")
def swept(small_dataset, tmp_path_factory, run_command):
    """A sweep with figures and graph: (finished process, data folder, output folder)."""
    base = tmp_path_factory.mktemp("swept")
    copy = base / small_dataset.name
    shutil.copytree(small_dataset, copy)
    finished = run_command(
        COMMAND,
        "--data_dir",
        f"{copy}/",
        "--k_sweep",
        "--visualise",
        "--min_evidence",
        2,
        "--output_dir",
        base / "out",
    )
    assert finished.returncode == 0, finished.stderr
    return finished, copy, base / "out"


def test_a_sweep_writes_what_the_library_computes(swept):
    finished, folder, out = swept
    coverage = dataset_coverage(
        load_dataset(folder), CoverageSettings(min_evidence=2, k_sweep=True)
    )
    name = folder.name
    sweep = json.loads((out / f"{name}.json").read_text())
    assert sweep == coverage.sweep()
    assert list(sweep) == [str(k) for k in range(1, max(20, coverage.largest_k) + 1)]
    annotated = json.loads((folder / "test_annotated.json").read_text())
    assert annotated == coverage.annotated()
    original = json.loads((folder / "test.json").read_text())
    assert [{k: r[k] for k in ("input_text", "target_text", "type")} for r in annotated] == original
    diagnostics = json.loads((out / f"{name}_diagnostics.json").read_text())
    assert len(diagnostics["slot_sets"]) == 6
    assert finished.stderr == ""
    row = [sweep["2"][0], f"{sweep['2'][1]:.2f}"]
    assert re.search(rf"^ +2 +{row[0]} +{row[1]} ", finished.stdout, re.MULTILINE)
    assert re.search(rf"type_0 \(every call seen\) +{row[0]} of 60", finished.stdout)


def test_every_file_that_is_announced_is_there(swept):
    finished, folder, out = swept
    for name in (
        f"{folder.name}{end}"
        for end in (
            ".json",
            "_diagnostics.json",
            "_k-sweep.png",
            "_k-sweep.pdf",
            "_k-cutoffs.png",
            "_k-cutoffs.pdf",
            "_graph_k-2.html",
            "_graph_k-2.png",
        )
    ):
        assert str(out / name) in finished.stdout
        assert (out / name).stat().st_size > 200
    assert str(folder / "test_annotated.json") in finished.stdout
    assert len(list(out.iterdir())) == 8


def test_the_graph_page_needs_no_network(swept):
    _, folder, out = swept
    page = (out / f"{folder.name}_graph_k-2.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]*\b(src|href)\s*=\s*[\"']?https?:", page)
    item = json.loads((folder / "test.json").read_text())[-1]
    assert "substitution graph at k = 2" in page
    assert item["input_text"] not in page  # no raw <t_1> that a browser would read as a tag


def test_the_legend_outlives_what_the_slider_hides(swept):
    """The entry of a kind is that of its largest k-cutoff, which the slider hides last."""
    _, folder, out = swept
    page = (out / f"{folder.name}_graph_k-2.html").read_text()
    found = re.findall(
        r'"meta":(\d+),"mode":"markers","name":"covered test item[^"]*","showlegend":(\w+)', page
    )
    assert len(found) > 1
    assert [int(meta) for meta, shown in found if shown == "true"] == [
        max(int(meta) for meta, _ in found)
    ]


def test_a_single_k_leaves_the_sweep_alone(folder, tmp_path, run_command):
    out = tmp_path / "out"
    finished = run_command(
        COMMAND, "--data_dir", folder.name, "--min_evidence", 3, "--output_dir", out, cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    annotated = json.loads((folder / "test_annotated.json").read_text())
    assert "k_cutoff" not in annotated[0]
    covered = dataset_coverage(load_dataset(folder)).covered(3).tolist()
    assert [r["coverage"] for r in annotated if r["type"] == "type_0"] == covered
    assert not out.exists()


def test_a_single_k_keeps_the_k_cutoffs_of_a_sweep(folder, tmp_path, run_command):
    out = ("--data_dir", folder, "--output_dir", tmp_path / "out")
    assert run_command(COMMAND, *out, "--k_sweep").returncode == 0
    file = folder / "test_annotated.json"
    swept = json.loads(file.read_text())
    assert run_command(COMMAND, *out, "--min_evidence", 3).returncode == 0
    single = json.loads(file.read_text())
    assert [r["k_cutoff"] for r in single] == [r["k_cutoff"] for r in swept]
    for record in single:
        if record["type"] == "type_0":
            assert record["coverage"] == (record["k_cutoff"] >= 3)


def test_default_output_is_in_the_repository_from_any_folder(folder, tmp_path, run_command):
    from coverage_principle.paths import repository_root

    written = repository_root() / "k_sweep_results"
    renamed = folder.rename(folder.with_name("twohop.test-of-default-output"))
    finished = run_command(
        COMMAND, "--data_dir", f"data/{renamed.name}/", "--k_sweep", "--max_k", 3, cwd=tmp_path
    )
    made = list(written.glob(f"{renamed.name}*"))
    try:
        assert finished.returncode == 0, finished.stderr
        assert len(made) == 6
        assert len(json.loads((written / f"{renamed.name}.json").read_text())) == 3
        annotated = json.loads((renamed / "test_annotated.json").read_text())
        assert max(r["k_cutoff"] or 0 for r in annotated) == 3
    finally:
        for file in made:
            file.unlink()
        if written.exists() and not any(written.iterdir()):
            written.rmdir()


def test_ground_truth_has_files_of_its_own(folder, tmp_path, run_command):
    arguments = ("--data_dir", folder, "--ground_truth", "--k_sweep", "--output_dir", tmp_path)
    finished = run_command(COMMAND, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert (folder / "test_annotated_ground-truth.json").exists()
    assert not (folder / "test_annotated.json").exists()
    diagnostics = json.loads(
        (tmp_path / f"{folder.name}_ground-truth_diagnostics.json").read_text()
    )
    assert [s["slots"] for s in diagnostics["slot_sets"]] == [["x1", "x2"]]
    assert diagnostics["ground_truth"] is True


def test_the_same_input_gives_the_same_files(swept, tmp_path, run_command):
    """Also where labels are said, needlessly, to be never wrong."""
    _, folder, out = swept
    place = ("--data_dir", folder, "--output_dir", tmp_path)
    annotated = (folder / "test_annotated.json").read_bytes()
    finished = run_command(COMMAND, *place, "--k_sweep", "--min_evidence", 2, "--noise", 0)
    assert finished.returncode == 0, finished.stderr
    assert len(list(tmp_path.iterdir())) == 6
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (out / file.name).read_bytes(), file.name
    assert (folder / "test_annotated.json").read_bytes() == annotated


def test_wrong_labels_have_files_of_their_own(folder, tmp_path, run_command):
    """The rate is in their names, in the diagnostics and in what is printed."""
    arguments = ("--data_dir", folder, "--noise", 0.1, "--k_sweep", "--output_dir", tmp_path)
    finished = run_command(COMMAND, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert ", noise 0.1\n" in finished.stdout
    coverage = dataset_coverage(load_dataset(folder), CoverageSettings(noise=0.1, k_sweep=True))
    annotated = json.loads((folder / "test_annotated_noise-0.1.json").read_text())
    assert annotated == coverage.annotated()
    assert not (folder / "test_annotated.json").exists()
    name = f"{folder.name}_noise-0.1"
    assert json.loads((tmp_path / f"{name}.json").read_text()) == coverage.sweep()
    assert json.loads((tmp_path / f"{name}_diagnostics.json").read_text())["noise"] == 0.1


# ------------------------------------------------------------------------------------ refusals


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_missing_folder_is_refused(run_command, refused, tmp_path):
    refused(run_command(COMMAND, "--data_dir", tmp_path / "no"), "--data_dir", "does not exist")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r[4].update(input_text="<t_99><t_0><t_0>"), ["record 5", "<t_99>"]),
        (
            lambda r: r.append(
                {
                    **r[0],
                    "target_text": r[0]["input_text"]
                    + ("<t_1></a>" if "<t_1></a>" not in r[0]["target_text"] else "<t_2></a>"),
                }
            ),
            ["records 1 and 201", "two different targets"],
        ),
        (lambda r: r.clear(), ["no records"]),
    ],
)
def test_a_malformed_training_set_is_refused(folder, run_command, refused, change, words):
    edit(folder / "train.json", change)
    refused(run_command(COMMAND, "--data_dir", folder), "train.json", *words)


def test_a_file_that_is_not_json_is_refused(folder, run_command, refused):
    (folder / "train.json").write_text("[{")
    refused(run_command(COMMAND, "--data_dir", folder), "train.json", "not valid JSON")


def test_ground_truth_without_tables_is_refused(folder, run_command, refused):
    (folder / "atomic_facts_f1.json").unlink()
    refused(run_command(COMMAND, "--data_dir", folder, "--ground_truth"), "atomic_facts_f1.json")
    assert run_command(COMMAND, "--data_dir", folder).returncode == 0


@pytest.mark.parametrize("flag", ["--min_evidence", "--max_k"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_numbers_below_one_are_a_usage_error(run_command, refused, flag, value):
    finished = run_command(COMMAND, "--data_dir", "x", f"{flag}={value}")
    refused(finished, flag, value, "integer of at least 1", status=2)


@pytest.mark.parametrize("value", ["0.5", "-0.1", "nan", "some"])
def test_a_share_of_wrong_labels_that_is_none_is_a_usage_error(run_command, refused, value):
    finished = run_command(COMMAND, "--data_dir", "x", f"--noise={value}")
    words = f"{value} is neither auto nor a number from 0 to less than 0.5"
    refused(finished, "--noise", words, status=2)


# ------------------------------------------------------------------------------------- figures


def test_figures_are_written_and_repeat_themselves(tmp_path):
    sweeps = {
        "N = 1,600": {"1": [9, 90.0], "2": [3, 30.0], "3": [0, 0.0]},
        "N = 2,500": {"1": [10, 100.0], "2": [8, 80.0], "3": [1, 10.0]},
    }
    first = k_sweep_curve(sweeps, tmp_path / "a.png")
    again = k_sweep_curve(sweeps, tmp_path / "b.png")
    assert [p.suffix for p in first] == [".png", ".pdf"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for cutoffs in ([0, 0, 1, 3, 3], [], [0], np.arange(60)):
        assert all(p.exists() for p in k_cutoff_histogram(cutoffs, tmp_path / "h.png"))
    k_sweep_curve({"nothing covered": {"1": [0, 0.0], "2": [0, 0.0]}}, tmp_path / "c.png")


def test_a_large_graph_is_cut_at_whole_components(small_dataset, tmp_path):
    coverage = dataset_coverage(load_dataset(small_dataset))
    page, picture = draw_coverage_graph(coverage, 4, tmp_path / "g.k", most=100)
    assert (page.name, picture.name) == ("g.k.html", "g.k.png")
    shown = re.search(r"\(([\d,]+) of 260 items\)", page.read_text())
    assert 50 <= int(shown[1]) <= 100


def test_target_indices_are_a_spelling_of_fragments(folder, run_command, tmp_path):
    written = []
    for flag in (("--fragments", "x1,x2"), ("--target_indices", 0, 1)):
        finished = run_command(COMMAND, "--data_dir", folder, *flag, "--output_dir", tmp_path)
        assert finished.returncode == 0, finished.stderr
        written.append((finished.stdout, sorted(path.name for path in folder.iterdir())))
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((0, 3), ["--target_indices 0 3", "the 3 slots (x1, x2, x3) are 0 to 2"]),
        ((-1,), ["--target_indices -1", "are 0 to 2"]),
        ((1, 1), ["--target_indices 1 1", "each once"]),
        ((0, 1, 2), ["--target_indices 0 1 2", "but not all"]),
        ((0, 1, "--fragments", "1,2"), ["--target_indices", "--fragments", "give one of them"]),
    ],
)
def test_target_indices_that_name_no_slot_set_are_refused(
    flags, words, small_dataset, run_command, refused
):
    refused(run_command(COMMAND, "--data_dir", small_dataset, "--target_indices", *flags), *words)

"""The library as a notebook uses it, and the notebook on the pages."""

from __future__ import annotations

import ast
import copy
import csv
import doctest
import importlib
import inspect
import json
import os
import pydoc
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

import coverage_principle as cp
from coverage_principle import reprs
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from tests.conftest import ROOT

SHIPPED = "twohop.20.1500.diff-f12.inf"
DELIVERIES = "zone = f1(city, carrier), price = f2(zone, weight)"


@pytest.fixture(scope="module")
def coverage():
    return cp.coverage(f"data/{SHIPPED}")


@pytest.fixture(scope="module")
def rows():
    with open(ROOT / "docs/tasks/deliveries.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ----------------------------------------------------------------------------------- the door


def test_the_door_shows_functions_and_loads_nothing_before_they_are_used():
    probe = (
        "import sys, coverage_principle as cp\n"
        "assert not {'numpy', 'torch', 'networkx', 'scipy'} & {*sys.modules}\n"
        "import coverage_principle.data, coverage_principle.coverage\n"
        "print(*dir(cp))\n"
        "from coverage_principle.coverage import dataset_coverage\n"
        "assert 'torch' not in sys.modules and callable(cp.coverage)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    names = finished.stdout.split()
    assert names == sorted(["__version__", *cp.__all__])
    for name in cp.__all__:
        assert callable(getattr(cp, name)) and inspect.getdoc(getattr(cp, name)), name


def test_the_examples_are_right():
    assert doctest.testmod(reprs) == (0, 2)


def test_signatures_show_the_real_defaults():
    found = inspect.signature(cp.coverage).parameters
    assert found["scope"].default == "dataset" and found["noise"].default == 0.0
    assert "settings" not in found


def test_the_help_of_the_function_is_not_that_of_the_package():
    shown = pydoc.render_doc(cp.coverage, renderer=pydoc.plaintext)
    assert len(shown.splitlines()) < 60
    assert "scope: 'str' = 'dataset'" in shown and "``ground_truth``: only fragments" in shown
    with pytest.raises(TypeError, match=r"^coverage\(\) got an unexpected keyword argument 'scop'"):
        cp.coverage(SHIPPED, scop="domain")


def test_every_object_with_arrays_describes_itself_in_one_line():
    """No dataclass with an array has the representation that dumps it."""
    found = 0
    for path in sorted((ROOT / "coverage_principle").rglob("*.py")):
        module = None
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if not any("dataclass" in ast.unparse(one) for one in node.decorator_list):
                continue
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
            if not any("ndarray" in ast.unparse(field.annotation) for field in fields):
                continue
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = module or importlib.import_module(name.removesuffix(".__init__"))
            own = getattr(module, node.name).__repr__
            assert own.__name__ == "one_line" or own.__module__ == module.__name__, node.name
            assert "__create_fn__" not in own.__qualname__, f"{name}.{node.name}"
            found += 1
    assert found > 20


def test_representations_are_short(coverage):
    dataset = coverage.dataset
    assert repr(dataset) == (
        f"<Dataset {SHIPPED}: b = f1(x1, x2), t = f2(b, x3); "
        "1,500 train, 1,500 test, 250 valid items>"
    )
    counts = [int((coverage.cutoffs[coverage.type_0] >= k).sum()) for k in (1, 2, 3)]
    assert repr(coverage) == (
        f"<Coverage of {SHIPPED}, dataset scope: 300 type_0 items, {counts[0]} covered at k = 1, "
        f"{counts[1]} covered at k = 2, {counts[2]} covered at k = 3>"
    )
    for thing in (dataset.train, coverage.slot_sets[0], coverage.slot_sets[0].observations):
        assert "\n" not in repr(thing) and len(repr(thing)) < 400


def test_the_notebook_runs_and_shows_what_it_says(checkout, monkeypatch):
    """Its training is made short; what does not follow from that is what the page shows."""
    execute = runpy.run_path(str(ROOT / "docs" / "record_notebook.py"))["execute"]
    places = (checkout, checkout / "simpletransformers")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
    path = (str(Path(sys.executable).parent), os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    notebook = nbformat.read(checkout / "docs" / "notebook.ipynb", as_version=4)
    shown = copy.deepcopy(notebook.cells)
    assert len(shown) <= 20
    for cell in notebook.cells:
        cell.source = cell.source.replace("--preset cpu", "--preset tiny")
    execute(notebook, checkout)
    compared = 0
    for now, then in zip(notebook.cells, shown, strict=True):
        if now.cell_type == "code" and not re.search(r"main\.py|run|right", then.source):
            texts = [
                [one.get("data", {}).get("text/plain") for one in c.outputs] for c in (now, then)
            ]
            assert texts[0] == texts[1], then.source
            compared += 1
    assert compared >= 7


# ----------------------------------------------------------------------------------- coverage


def test_records_are_what_the_commands_annotate(run_command, coverage, tmp_path):
    """Inputs, answers, types, k-cutoffs and support of the command's files; b of its tables."""
    dataset = load_dataset(SHIPPED)
    copy = tmp_path / SHIPPED
    copy.mkdir()
    for name in ("train.json", "test.json", "vocab.json", "metadata.json"):
        (copy / name).write_bytes((dataset.path / name).read_bytes())
    for file in dataset.path.glob("atomic_facts_*"):
        (copy / file.name).write_bytes(file.read_bytes())
    finished = run_command(
        *("determine_coverage.py", "--data_dir", copy, "--k_sweep", "--graded"),
        *("--output_dir", tmp_path / "sweep"),
    )
    assert finished.returncode == 0, finished.stderr
    annotated = json.loads((copy / "test_annotated.json").read_text())
    facts = json.loads((copy / "atomic_facts_f1.json").read_text())
    b_of = {fact["input_text"]: fact["target_text"] for fact in facts}
    records = coverage.to_records()
    assert len(records) == len(annotated)
    for record, told in zip(records, annotated, strict=True):
        assert record["input"] == told["input_text"]
        assert told["target_text"] == f"{record['input']}{record['answer']}</a>"
        assert (record["type"], record["k_cutoff"]) == (told["type"], told["k_cutoff"])
        assert record["support"] == pytest.approx(told["support"])
        call = "<" + "><".join(record["input"][1:-1].split("><")[:2]) + ">"
        assert b_of[call] == f"{call}{record['b']}</a>"
    assert coverage.to_records(support=False) == [
        {name: value for name, value in record.items() if name != "support"} for record in records
    ]
    frame = coverage.to_frame()
    assert list(frame.columns) == ["input", "answer", "type", "b", "k_cutoff", "support"]
    assert frame["input"].tolist() == [record["input"] for record in records]


def test_a_frame_without_pandas_is_refused(coverage, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas, or take to_records"):
        coverage.to_frame()


def test_values_that_are_not_known_are_none(small_dataset, tmp_path):
    for name in ("train.json", "test.json", "vocab.json", "metadata.json"):
        (tmp_path / name).write_bytes((small_dataset / name).read_bytes())
    records = cp.coverage(tmp_path).to_records(support=False)
    assert {record["b"] for record in records} == {None}
    assert all(record["k_cutoff"] is None for record in records if record["type"] != "type_0")
    domain = cp.coverage(tmp_path, scope="domain").to_records(support=False)
    assert all(
        (record["k_cutoff"] is None) == (record["type"] == "train_inferred") for record in domain
    )


def test_an_explanation_is_shown_whole_and_named_in_a_line(coverage):
    item = next(r["input"] for r in coverage.to_records() if r["k_cutoff"] == 2)
    explained = coverage.explain(item)
    assert explained.explanation.cutoff == 2
    first, *_ = str(explained).splitlines()
    assert repr(explained) == f"<Explained: {first}>" and "up to k = 2" in first

    class Printer:
        text = staticmethod(lambda text: shown.append(text))

    shown: list[str] = []
    explained._repr_pretty_(Printer, False)
    assert shown == [str(explained)]


def test_the_plot_is_a_figure_that_a_notebook_shows(coverage):
    figure = coverage.plot()
    (line,) = figure.axes[0].lines
    percents = [percent for _, percent in coverage.sweep().values()]
    assert line.get_ydata() == pytest.approx(percents[: len(line.get_ydata())])
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_fragments_are_pairs():
    one = cp.coverage(SHIPPED, fragments=[("x1", "x2")])
    assert [s.slots for s in one.slot_sets] == [("x1", "x2")]
    assert np.array_equal(one.cutoffs, cp.coverage(SHIPPED, fragments="1,2").cutoffs)
    both = cp.coverage(SHIPPED, fragments=["x3", ("x1", "x2")], progress=False)
    assert [s.slots for s in both.slot_sets] == [("x3",), ("x1", "x2")]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: cp.coverage("nowhere"), "`path` nowhere does not exist"),
        (lambda _: cp.coverage(3), "`dataset` must be a Dataset or the folder of one"),
        (lambda c: cp.coverage(c.dataset, scope="all"), "`scope` all is not one of dataset, dom"),
        (lambda c: cp.coverage(c.dataset, noise=0.7), "`noise` 0.7 is neither auto nor a number"),
        (lambda c: cp.coverage(c.dataset, fragments=[("x1", "x9")]), "the slots are 1 to 3"),
        (lambda c: c.explain("<t_1>"), "task twohop has 3 input slots"),
        (lambda c: c.explain("<t_1><t_2><t_77>"), "token <t_77> .* is not in the vocabulary"),
        (lambda c: c.explain(7), "an input must be text, such as <t_0><t_0><t_0>, not 7"),
        (lambda c: c.covered(0), "`k` 0 must be a whole number of at least 1"),
        (lambda c: c.graph("2"), "`k` '2' must be a whole number"),
    ],
)
def test_wrong_arguments_get_a_sentence(coverage, call, words):
    with pytest.raises(cp.InputError, match=words) as raised:
        call(coverage)
    assert raised.type is InputError  # none of a module of its own


# ----------------------------------------------------------------------------------- records


def test_records_become_the_data_set_that_the_importer_makes(run_command, rows, tmp_path):
    finished = run_command(
        *("script/import_dataset.py", "table", "docs/tasks/deliveries.csv"),
        *("--inputs", "city,carrier,weight", "--answer", "price"),
        *("--bridges", "zone(city,carrier)", "--output_dir", tmp_path),
    )
    assert finished.returncode == 0, finished.stderr
    imported = load_dataset(tmp_path / "deliveries")
    made = cp.Dataset.from_records(rows, DELIVERIES, tmp_path / "made")
    for name in ("train.json", "test.json", "vocab.json", "atomic_facts_f1.json"):
        assert (made.path / name).read_bytes() == (imported.path / name).read_bytes(), name
    frame = pytest.importorskip("pandas").DataFrame(rows)
    again = cp.Dataset.from_records(frame, DELIVERIES)
    assert again.digests == made.digests and again.path != made.path


def test_records_of_a_named_task_and_of_a_split(coverage):
    """A data set taken apart and put together has the same items, types and k-cutoffs."""
    dataset, rows = coverage.dataset, []
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        values = dataset.values(split.inputs, split.answers)
        for row in range(len(split)):
            own = {node: f"<t_{values[node][row]}>" for node in dataset.graph.nodes}
            rows.append({**own, "split": name})
    again = cp.coverage(cp.Dataset.from_records(rows, "twohop"))
    assert again.dataset.graph == dataset.graph
    shown = ("input", "answer", "type", "b", "k_cutoff", "support")
    ours, theirs = (
        sorted(tuple(str(r[key]) for key in shown) for r in c.to_records())
        for c in (coverage, again)
    )
    assert ours == theirs


def test_columns_with_spaces_go_by_their_plain_names(rows):
    spaced = [{**row, "Zone du colis": row["zone"]} for row in rows]
    for row in spaced:
        del row["zone"]
    made = cp.Dataset.from_records(spaced, DELIVERIES.replace("zone", "Zone_du_colis"))
    assert made.graph.bridges == ("Zone_du_colis",)
    assert len(made.train) == len(cp.Dataset.from_records(rows, DELIVERIES).train)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda _: [], {}, "`rows` is empty"),
        (lambda _: [3], {}, "rows row 1 is a int; it must be a dict"),
        (lambda _: [{"city": "x"}], {}, "rows has no column 'carrier'; it has 'city'"),
        (lambda rows: [*rows[:5], {**rows[5], "zone": None}], {}, "row 6: column zone has no val"),
        (lambda rows: [rows[0], {**rows[0], "zone": "Z"}], {}, "row 2: it gives zone for the sam"),
        (lambda rows: [{**r, "split": "dev"} for r in rows], {}, "must say train, test, valid; "),
        (lambda rows: rows, {"test_ratio": 1}, "`test_ratio` must be below 1"),
        (lambda rows: rows, {"contradictions": "x"}, "`contradictions` x is not one of refuse"),
        (lambda rows: rows, {"seed": -1}, "`seed` -1"),
    ],
)
def test_wrong_records_get_a_sentence(rows, change, options, words):
    with pytest.raises(InputError, match=words):
        cp.Dataset.from_records(change(rows), DELIVERIES, **options)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("towhop", "`task` towhop is neither a file nor one of twohop"),
        ("zone = f1(city", "must be equations, such as"),
        ({"name": "x"}, "a task graph needs 'name', 'inputs' and 'functions'"),
        ("b = f(x), b = g(x)", "value 'b' of function 'g' already exists"),
    ],
)
def test_a_wrong_task_gets_a_sentence(rows, task, words):
    with pytest.raises(InputError, match=words):
        cp.Dataset.from_records(rows, task)

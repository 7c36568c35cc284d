"""What the pages tell users to type: every command is there and knows every flag that is shown."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from coverage_principle.cli import flags_of
from coverage_principle.errors import InputError
from coverage_principle.experiments.settings import command_parser
from tests import typed
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "data" / "README.md"])
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def after_readme():
    """What lies in the repository once the README's commands have been typed."""
    repository = typed.Repository()
    for step in typed.steps(README):
        if step.script and step.script.is_file():
            repository.add(step)
    return repository


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_work_one_after_the_other_in_one_shell(page, after_readme):
    """After those of the README: the script is there, takes its arguments, finds what it reads."""
    repository = typed.Repository({} if page == README else after_readme.made)
    for step in typed.steps(page):
        if step.script is None:
            continue
        assert step.script.is_file(), step
        if step.usage:
            wanted = {w.split("=")[0].strip("[]") for w in step.words if re.match(r"\[?--\w", w)}
            if typed.has_parser(step.target[0]):
                parser = command_parser(step.target[0])
                known = {option for a in flags_of(parser) for option in a.option_strings}
                assert wanted <= known, step
            continue
        try:
            lacking = repository.lacks(step)
            repository.add(step)
        except (InputError, SystemExit) as refusal:
            pytest.fail(f"{step}: {refusal}")
        assert not lacking, f"{step}: what makes {lacking}?"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_row_of_a_table_has_as_many_cells(page):
    """GitHub shows a table as plain text if its header has other cells than the line below it."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [re.findall(r"(?<!\\)\|", row) for row in table.splitlines()]
        assert len({len(bars) for bars in rows}) == 1, table


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_command_needs_of_the_readers_own_is_explained(page):
    words = {w for step in typed.steps(page) for word in step.words for w in Path(word).parts}
    text = page.read_text(encoding="utf-8")
    for word in words & typed.OWN:
        assert f"`{word}`" in text, f"{page.name} does not say what {word} is"


def test_what_the_commands_of_the_pages_write_is_no_business_of_git(after_readme):
    repository = typed.Repository(after_readme.made)
    for page in PAGES:
        for step in typed.steps(page):
            if step.script and not step.usage:
                repository.add(step)
    names = [name.replace("*", "x") for name in repository.made]
    ours = [name for name in names if not name.startswith("/") and name not in typed.kept()]
    asked = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=ROOT,
        input="\n".join(name if typed.is_file(name) else f"{name}/file" for name in ours),
        capture_output=True,
        text=True,
        check=False,
    )
    ignored = {line.removesuffix("/file") for line in asked.stdout.splitlines()}
    assert set(ours) == ignored


#: Flags of others that our pages mention: torch's launcher, pip, SLURM's tools.
_FOREIGN = {"--index-url", "--nodes", "--gpus-per-node", "--dist"}


@pytest.fixture(scope="module")
def every_flag():
    """The flags of all our commands together."""
    known = {"--debug", "--help", "--no-install"}
    for folder in ("", "dataset_generation", "circuit_analysis", "script"):
        for path in (ROOT / folder).glob("*.py") if not folder else (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if "__main__" in text and "build_parser" in text:
                parser = command_parser(path.relative_to(ROOT).as_posix())
                known.update(o for action in flags_of(parser) for o in action.option_strings)
    # Commands without such a function: those of the claims, which share one, and the benchmarks.
    for path in (ROOT / "script" / "sweeping.py", *(ROOT / "benchmarks").glob("*.py")):
        known.update(re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    return known | {"--scale"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_flags_that_a_page_mentions_exist(page, every_flag):
    mentioned = set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", page.read_text(encoding="utf-8")))
    unknown = {flag for flag in mentioned - every_flag - _FOREIGN if not flag.endswith("_")}
    assert not unknown, f"{page.name} mentions {', '.join(sorted(unknown))}"


def test_commands_are_found_on_the_pages():
    found = [step.words[1] for page in PAGES for step in typed.steps(page) if step.script]
    assert len(found) > 80
    assert {"determine_coverage.py", "script/run_sweep.py", "twohop.py"} <= set(found)


BENCHMARKS = runpy.run_path(str(ROOT / "docs" / "show_benchmarks.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_shows_the_figures_of_the_benchmarks(page):
    text = page.read_text(encoding="utf-8")
    assert text == BENCHMARKS["filled"](text), "python docs/show_benchmarks.py writes them"
    marks = re.findall(r"^<!-- (\w+_cpu.*|end) -->$", text, flags=re.MULTILINE)
    assert all(mark != "end" for mark in marks[::2]) and set(marks[1::2]) <= {"end"}, marks


def test_one_page_shows_every_benchmark():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    names = {file.stem for file in (ROOT / "docs" / "results").glob("*_cpu.json")}
    assert names - {"all_cpu"} <= set(re.findall(r"^<!-- (\w+) -->$", text, flags=re.MULTILINE))


# -------------------------------------------------------------------------- outputs that are shown

OUTPUTS = json.loads((ROOT / "docs" / "outputs.json").read_text(encoding="utf-8"))
#: The end of a line of a printed table: a number in a column of its own.
_TABLE_ROW = re.compile(r"\S {2,}[\d,.]+( ± [\d,]+)?$", re.MULTILINE)


def indented_blocks(page):
    """The blocks of a page that are indented by four spaces, each a list of lines."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"(?:^    .*\n(?:\n+(?=    ))?)+", text, flags=re.MULTILINE)
    return [[line[4:] for line in block.rstrip().split("\n")] for block in found]


def shows(block, output):
    """Whether a block, but for a first line with the command, is a run of lines of an output."""
    lines = [line.split() for line in block if not line.startswith("$ ")]
    while lines and not lines[0]:
        lines = lines[1:]
    printed = [line.split() for line in output]
    starts = range(len(printed) - len(lines) + 1)
    return bool(lines) and any(printed[i : i + len(lines)] == lines for i in starts)


@pytest.mark.parametrize("example", OUTPUTS, ids=lambda example: example["command"][:50])
def test_an_output_that_was_recorded_is_shown(example):
    blocks = indented_blocks(ROOT / example["page"])
    shown = [block for block in blocks if shows(block, example["output"])]
    assert shown, example["page"]
    for block in shown:
        if block[0].startswith("$ "):
            assert block[0] == f"$ {example['command']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_an_output_that_is_shown_was_recorded(page):
    if page.name == "tutorial.md":
        return  # compared with its own results in test_readme.py
    for block in indented_blocks(page):
        if block[0].startswith("$ ") or _TABLE_ROW.search("\n".join(block)):
            assert any(shows(block, example["output"]) for example in OUTPUTS), block[:2]


def test_required_data_agrees_with_an_independent_measurement():
    """The amounts that docs/required_data.md names, at 50 tokens over 100 seeds, 100 over ten."""
    hundred, ten = (
        next(
            e["output"]
            for e in OUTPUTS
            if f"required_data.py --num_tokens {sizes} " in e["command"]
        )
        for sizes in ("50", "50,70,100,150,200")
    )
    for output, size, known, tolerance in (
        (hundred, 50, (5777, 12200, 16916, 20153), 0.03),
        (ten, 100, (23560, 54910, 76496, 94868), 0.02),
    ):
        (row,) = [line for line in output if line.startswith(f"{size} ")]
        means = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) ±", row)]
        assert means == pytest.approx(known, rel=tolerance)
    (row,) = [line for line in ten if line.startswith("exponent")]
    assert list(map(float, row.split()[1:])) == pytest.approx((2.02, 2.17, 2.22, 2.26), abs=0.021)


def test_required_data_of_every_task_is_what_was_measured():
    """The page's row of each task and k: means over seeds, exponent and interval."""
    page = (ROOT / "docs" / "required_data.md").read_text(encoding="utf-8")
    titles = {"twohop": "2-hop", "parallel2hop": "parallel 2-hop", "threehop": "3-hop"}
    files = list((ROOT / "docs" / "results" / "required_data").glob("*.json"))
    assert len(files) == len(titles)
    for found in (json.loads(file.read_text(encoding="utf-8")) for file in files):
        for k, fit in found["fits"].items():
            means = [f"{one[k]['mean']:,.0f}" for one in found["required"].values()]
            exponent = "{exponent:.2f} ({low:.2f} to {high:.2f})".format(**fit)
            row = [titles[found["task"]], k, *means, exponent, str(found["trained_exponent"])]
            assert f"| {' | '.join(row)} |" in page

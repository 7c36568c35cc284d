"""Rules of the house, checked on the source: layers, light commands, clean lint, honest links."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys

import networkx as nx
import pytest

from tests.conftest import ROOT

#: Wings from the ground up; a module may import its own wing and those before it.
WINGS = [
    "errors",
    "frames",
    "reprs",
    "tasks",
    "paths",
    "presets",
    "helptext",
    "cli",
    "statistics",
    "data",
    "coverage",
    "circuits",
    "predictions",
    "reporting",
    "experiments",
    "notebook",
]
#: Modules of simpletransformers that need the standard library only.
LIGHT = {"errors", "files", "lazy", "memory", "settings", "words"}
#: Those that need numpy as well.
ARRAYS = {"token_rows"}
HEAVY = {"torch", "transformers", "scipy", "matplotlib", "plotly", "networkx", "numpy"}

LIBRARY = sorted((ROOT / "coverage_principle").rglob("*.py"))
COMMANDS = sorted(
    path
    for path in [
        ROOT / "main.py",
        ROOT / "determine_coverage.py",
        *(ROOT / "dataset_generation").glob("*.py"),
        *(ROOT / "circuit_analysis").rglob("*.py"),
        *(ROOT / "script").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
    ]
    if re.search("argparse|__main__", path.read_text(encoding="utf-8"))
)


def imported(tree: ast.AST, *, top_level_only: bool = False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_library_modules_respect_the_layers(path):
    wing = path.relative_to(ROOT / "coverage_principle").parts[0].removesuffix(".py")
    names = list(imported(ast.parse(path.read_text(encoding="utf-8"))))
    for name in names:
        parts = name.split(".")
        if parts[0] == "coverage_principle" and len(parts) > 1 and wing != "__init__":
            assert WINGS.index(parts[1]) <= WINGS.index(wing), f"{path.name} imports {name}"
        if wing in WINGS[: WINGS.index("circuits")]:
            assert parts[0] not in {"torch", "transformers"}, f"{path.name} imports {name}"
        if wing != "reporting":
            assert parts[0] not in {"matplotlib", "plotly"}, f"{path.name} draws"
        # The trainer's package is the ground: below the circuits only what loads nothing heavy.
        if parts[0] == "simpletransformers" and wing in WINGS[: WINGS.index("circuits")]:
            assert len(parts) == 2 and parts[1] in LIGHT | ARRAYS, f"{path.name} imports {name}"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count as well."""
    graph = nx.DiGraph()
    for path in [*LIBRARY, *(ROOT / "simpletransformers" / "simpletransformers").rglob("*.py")]:
        own = path.relative_to(ROOT).with_suffix("").parts
        own = own[1:] if own[0] == "simpletransformers" else own
        name = ".".join(own).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                graph.add_edges_from((name, other) for other in names if other != name)
    assert graph.number_of_nodes() > 100
    assert not [circle for circle in nx.strongly_connected_components(graph) if len(circle) > 1]


def test_what_the_ground_gives_to_all_needs_the_standard_library_only():
    for name in LIGHT | ARRAYS:
        path = ROOT / "simpletransformers" / "simpletransformers" / f"{name}.py"
        for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.split(".")
            known = {*sys.stdlib_module_names, *(["numpy"] if name in ARRAYS else [])}
            ground = {("simpletransformers", "errors"), ("simpletransformers", "words")}
            assert top[0] in known or tuple(top) in ground


def test_the_trainer_knows_nothing_of_coverage():
    for path in (ROOT / "simpletransformers").rglob("*.py"):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            assert not name.startswith("coverage_principle"), path


@pytest.mark.parametrize("path", COMMANDS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_parse_before_they_import_anything_heavy(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imported(tree, top_level_only=True):
        assert name.split(".")[0] not in HEAVY, f"{path} imports {name} before parsing"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_help_of_a_command_loads_nothing_heavy(path):
    if "__main__" not in path.read_text(encoding="utf-8"):
        pytest.skip("not a command by itself")
    probe = (
        "import runpy, sys\n"
        f"sys.argv = [{str(path)!r}, '--help']\n"
        f"sys.path.insert(0, {str(path.parent)!r})\n"
        "try:\n"
        f"    runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"loaded = sorted({HEAVY!r} & set(sys.modules))\n"
        "assert not loaded, loaded\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "usage:" in finished.stdout


def test_no_line_is_exempt_from_the_formatter():
    skip = re.compile(r"#\s*fmt:\s*(skip|off)")
    for path in [*LIBRARY, *COMMANDS, *(ROOT / "simpletransformers").rglob("*.py")]:
        assert not skip.search(path.read_text(encoding="utf-8")), path


def test_ruff_finds_nothing():
    ruff = shutil.which("ruff", path=str(sys.executable).rsplit("/", 1)[0]) or shutil.which("ruff")
    assert ruff, "ruff is in the test extra of pyproject.toml"
    for arguments in (["check", "."], ["format", "--check", "."]):
        finished = subprocess.run(
            [ruff, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "results", "CKPT_DIR", ".pytest_cache"} & set(path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
